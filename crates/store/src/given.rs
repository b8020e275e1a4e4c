//! Rows that a statement brings along, as a table of it.

use domain::Execution;

use crate::rows::{changing_columns, sql_type};
use crate::sql::{Builder, Dialect, Value};

impl Builder {
    /// The rows, each of as many values, as the table of that name, whose columns are column1, column2, …
    ///
    /// To PostgreSQL each column goes as one text that it reads as an array, where it holds whole numbers or texts alone: to read and
    /// plan a statement with sixty rows of thirty placeholders took it as long as to carry it out. A column of NULLs alone is one of texts.
    pub(crate) fn rows(self, name: &str, rows: Vec<Vec<Value>>) -> Self {
        let columns = match self.dialect() {
            Dialect::Sqlite => None,
            Dialect::Postgres => columns(&rows),
        };
        let Some(columns) = columns else {
            let row = |b: Self, values: Vec<Value>| {
                b.text("(")
                    .commas(values, |b, value| b.bind(value))
                    .text(")")
            };
            let table = self.text("(VALUES ").commas(rows, row);
            return table.text(") AS ").text(name);
        };
        let names: Vec<String> = (1..=columns.len()).map(|n| format!("column{n}")).collect();
        self.text("unnest(")
            .commas(columns, |b, column| {
                let (array, kind) = (column.array, column.kind);
                b.text("CAST(")
                    .bind(array)
                    .text(" AS ")
                    .text(kind)
                    .text(")")
            })
            .text(") AS ")
            .text(name)
            .text(" (")
            .commas(&names, |b, name| b.text(name))
            .text(")")
    }

    /// What an UPDATE sets: the [changing columns](changing_columns) of executions such as that one, from the table of that name, where
    /// they are the columns from that number on.
    pub(crate) fn changing_from(self, table: &str, first: usize, like: &Execution) -> Self {
        let columns = (first..).zip(changing_columns(like));
        self.commas(columns, |b, (number, (name, _))| {
            // A column of NULLs alone has no type in PostgreSQL.
            let kind = sql_type(name);
            b.text(&format!("{name} = CAST({table}.column{number} AS {kind})"))
        })
    }
}

/// A column of several rows.
struct Column {
    /// Its values as PostgreSQL writes an array.
    array: String,
    kind: &'static str,
}

/// The columns of the rows; none where one holds what is no element of an array here, or different things.
fn columns(rows: &[Vec<Value>]) -> Option<Vec<Column>> {
    let number = rows.first().map_or(0, Vec::len);
    (0..number)
        .map(|index| column(rows.iter().map(|row| &row[index])))
        .collect()
}

fn column<'v>(values: impl Iterator<Item = &'v Value>) -> Option<Column> {
    let mut kinds = [false; 2];
    let mut array = String::from("{");
    for value in values {
        if array.len() > 1 {
            array.push(',');
        }
        match value {
            Value::Null => array.push_str("NULL"),
            Value::Integer(number) => {
                kinds[0] = true;
                array.push_str(&number.to_string());
            }
            Value::Text(text) => {
                kinds[1] = true;
                push_quoted(&mut array, text);
            }
            Value::Real(_) | Value::Blob(_) => return None,
        }
    }
    array.push('}');
    let kind = match kinds {
        [true, true] => return None,
        [true, false] => "BIGINT[]",
        [false, _] => "TEXT[]",
    };
    Some(Column { array, kind })
}

/// In quotation marks an element is taken as it is, but for these and for what takes away their meaning.
///
/// <https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>
fn push_quoted(array: &mut String, text: &str) {
    array.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            array.push('\\');
        }
        array.push(character);
    }
    array.push('"');
}

#[cfg(test)]
mod tests {
    //! How rows are written down.
    use super::*;

    fn written(dialect: Dialect, rows: Vec<Vec<Value>>) -> (String, Vec<Value>) {
        let statement = Builder::new(dialect).rows("given", rows).statement();
        (statement.sql.into_owned(), statement.params)
    }

    #[test]
    fn postgresql_is_given_columns() {
        let row = |number: i64, text: Option<&str>| vec![number.into(), Value::Null, text.into()];
        let awkward = "a \"b\" \\ {c,NULL}\nd";
        let rows = vec![
            row(-1, Some(awkward)),
            row(2, None),
            row(3, Some("")),
            row(4, Some("NULL")),
        ];
        let (sql, params) = written(Dialect::Postgres, rows);
        assert_eq!(
            sql,
            "unnest(CAST($1::TEXT AS BIGINT[]), CAST($2::TEXT AS TEXT[]), CAST($3::TEXT AS TEXT[])) \
             AS given (column1, column2, column3)"
        );
        let texts = r#"{"a \"b\" \\ {c,NULL}"#.to_owned() + "\n" + r#"d",NULL,"","NULL"}"#;
        let expected = ["{-1,2,3,4}", "{NULL,NULL,NULL,NULL}", &texts];
        assert_eq!(params, expected.map(Value::from));
    }

    #[test]
    fn what_is_no_element_of_an_array_goes_as_values() {
        for odd in [Value::Blob(vec![0]), Value::Real(0.5)] {
            let rows = vec![vec![1_i64.into(), odd.clone()], vec![2_i64.into(), odd]];
            let (sql, params) = written(Dialect::Postgres, rows);
            assert!(sql.starts_with("(VALUES ($1::BIGINT, $2::"), "{sql}");
            assert!(sql.ends_with(") AS given"), "{sql}");
            assert_eq!(params.len(), 4);
        }
        let mixed = vec![vec!["1".into()], vec![1_i64.into()]];
        assert!(written(Dialect::Postgres, mixed).0.starts_with("(VALUES"));
    }

    #[test]
    fn sqlite_is_given_values() {
        let rows = vec![
            vec![1_i64.into(), "a".into()],
            vec![2_i64.into(), Value::Null],
        ];
        let (sql, params) = written(Dialect::Sqlite, rows);
        assert_eq!(sql, "(VALUES (?1, ?2), (?3, ?4)) AS given");
        assert_eq!(
            params,
            [1_i64.into(), "a".into(), 2_i64.into(), Value::Null]
        );
    }
}
