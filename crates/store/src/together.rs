//! Writes to several tables, all or nothing: one transaction on SQLite, one statement on PostgreSQL.
//!
//! A host sends each statement to PostgreSQL by itself, and a transaction holds its locks for all these round trips. So what
//! depends on one write is put into one statement with it, as parts of a WITH. Its parts see the rows as they were when it
//! began, none sees another's: a part goes by what the first one returns, and never reads what others may have written
//! while the first one waited for them.

use crate::rows::Column;
use crate::sql::{Builder, Dialect, Rows, Sql, Statement, Value};
use crate::{ExecutionStore, StoreError};

/// At most this many values are written by one statement of several rows, below the 32,766 that SQLite takes.
const MAX_VALUES: usize = 30_000;

impl<S: Sql> ExecutionStore<S> {
    /// The statements of a write and of what belongs to it. Where `first`, which gives its rows back as `changed`, gives none,
    /// nothing is written: each of the others has the condition [`if_changed`](Builder::if_changed).
    pub(crate) fn together(&self, first: Builder, others: Vec<Builder>) -> Vec<Statement> {
        match self.sql.dialect() {
            Dialect::Postgres if !others.is_empty() => {
                let mut whole = self.build("WITH changed AS (").part(first).text(")");
                for (number, other) in (1..).zip(others) {
                    whole = whole
                        .text(&format!(", part_{number} AS ("))
                        .part(other)
                        .text(")");
                }
                vec![whole.text(" SELECT * FROM changed").must_change()]
            }
            _ => {
                let mut statements = vec![first.must_change()];
                statements.extend(others.into_iter().map(Builder::statement));
                statements
            }
        }
    }

    /// Runs them, and gives the rows of the first; none when nothing was written.
    pub(crate) async fn run(&self, statements: &[Statement]) -> Result<Option<Rows>, StoreError> {
        let answers = self.run_all(statements).await?;
        Ok(answers.and_then(|answers| answers.into_iter().next()))
    }

    /// Runs them, one by itself and several as a transaction, and gives the rows of each; none when nothing was written.
    pub(crate) async fn run_all(
        &self,
        statements: &[Statement],
    ) -> Result<Option<Vec<Rows>>, StoreError> {
        match statements {
            [only] => {
                let answer = self.query(only.clone()).await?;
                let written = !only.must_change || !answer.rows.is_empty();
                Ok(written.then(|| vec![answer]))
            }
            several => self.transaction(several).await,
        }
    }

    /// Inserts rows that have the same columns, with as many statements as their values need; none for no rows.
    pub(crate) fn insert_all(&self, table: &str, mut rows: Vec<Vec<Column>>) -> Vec<Builder> {
        let mut statements = Vec::new();
        while let Some(columns) = rows.first().map(Vec::len) {
            let most = (MAX_VALUES / columns.max(1)).max(1);
            let rest = rows.split_off(rows.len().min(most));
            statements.push(self.insert_rows(table, rows).if_changed());
            rows = rest;
        }
        statements
    }

    /// An INSERT of rows that have the same columns, up to the condition on which it is done. What is the same in all rows is
    /// bound once, and what is NULL in all is left out: so a batch has few values.
    pub(crate) fn insert_rows(&self, table: &str, rows: Vec<Vec<Column>>) -> Builder {
        let (mut names, mut values): (Vec<&str>, Vec<Place>) = (Vec::new(), Vec::new());
        let mut differing = Vec::new();
        for (index, (name, value)) in rows.first().into_iter().flatten().enumerate() {
            let same = rows.iter().all(|row| row[index].1 == *value);
            if same && *value == Value::Null {
                continue;
            }
            names.push(name);
            values.push(if same {
                Place::Once(index)
            } else {
                differing.push(index);
                Place::Column(differing.len())
            });
        }
        let mut rows: Vec<Vec<Value>> = rows
            .into_iter()
            .map(|row| row.into_iter().map(|(_, value)| value).collect())
            .collect();
        let mut builder = self
            .build("INSERT INTO ")
            .text(table)
            .text(" (")
            .commas(names, |b, name| b.text(name))
            .text(") SELECT ")
            .commas(values, |b, place| match place {
                Place::Once(index) => b.bind(rows[0][index].take()),
                Place::Column(number) => b.text(&format!("given.column{number}")),
            });
        if !differing.is_empty() {
            let rows = rows.iter_mut().map(|row| {
                let values = differing.iter().map(|index| row[*index].take());
                values.collect()
            });
            builder = builder.text(" FROM ").rows("given", rows.collect());
        }
        builder.text(" WHERE ")
    }
}

/// Where a column of new rows takes its value from.
enum Place {
    /// The value with that index of the first row, which all have.
    Once(usize),
    /// The column with that number of the list of rows.
    Column(usize),
}

impl Builder {
    /// The condition that the write that this one belongs to has come about. On SQLite the transaction has ended otherwise; there
    /// it keeps an ON that follows from being read as one of a join.
    pub(crate) fn if_changed(self) -> Self {
        match self.dialect() {
            Dialect::Sqlite => self.text("true"),
            Dialect::Postgres => self.text("EXISTS (SELECT 1 FROM changed)"),
        }
    }
}
