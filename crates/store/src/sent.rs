//! How statements are sent to a host's PostgreSQL: in a form that always answers with a row.
//!
//! Spin from 4.0.0 to 4.0.2, and builds of 4.1, never return from a query that answers with no rows, and keep its locks meanwhile
//! (spinframework/spin#3671). So no statement is sent as it is, but [`Sent::of`] it, and what was added is taken off the answer
//! ([`Answer::of`]). Both is done in one place (`wire.rs`), and whoever writes statements need not know.
//!
//! The row that is always there says one thing more: whether a transaction is open, as [`Dialect::begin`](crate::Dialect::begin)
//! begins them. Hosts hand out connections with whatever transaction was left open on them, and so it shows with the first
//! statement instead of costing one.

use std::borrow::Cow;

use crate::sql::{Rows, SqlError, Value};

/// Whether a transaction of ours is open. All are begun as DEFERRABLE, which means nothing to those that are not also SERIALIZABLE and
/// READ ONLY. Where a server makes that the default, it cannot be told.
const BEGUN: &str = "(current_setting('transaction_deferrable') = 'on' \
     AND current_setting('default_transaction_deferrable') = 'off')::INT";

/// So many columns come before a statement's own: `begun`, 0 or 1, and `found`, which is NULL where there is no row.
const ADDED: usize = 2;

/// What begins a statement that has these columns itself, and one row always: a call of a function of ours, whose answer is a single one by its
/// nature. It is sent as it is, since whatever were put around it would be planned each time.
const SAYS_IT_ITSELF: &str = "SELECT begun, written, ";

/// What statements with rows begin with, and may have after a WITH.
const VERBS: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "VALUES"];

/// A statement as it goes to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent<'a> {
    /// It answers nothing, and goes by the host's `execute`: what changes the schema.
    Command(&'a str),
    /// It answers with a row at least, and goes by the host's `query`.
    Question(Cow<'a, str>),
}

/// What a statement gave back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// The rows of the statement as the store has written it.
    pub(crate) rows: Rows,
    /// Whether it was run in a transaction that was begun by a statement of its own.
    pub(crate) in_transaction: bool,
}

impl<'a> Sent<'a> {
    /// The form in which that statement of the store is sent. Its placeholders stay what they are.
    pub(crate) fn of(sql: &'a str) -> Self {
        if sql.starts_with(SAYS_IT_ITSELF) {
            return Self::Question(Cow::Borrowed(sql));
        }
        let Some((place, verb)) = verb(sql) else {
            return Self::Command(sql);
        };
        let (before, asked) = sql.split_at(place);
        let before = before.trim_end();
        let with = if before.is_empty() { "WITH" } else { "," };
        let answers = ["SELECT", "VALUES"].contains(&verb)
            || words(asked).any(|(_, word)| word.eq_ignore_ascii_case("RETURNING"));
        // What writes must stand right behind the WITH; what only reads is planned as if it stood where its name does.
        let answer = if answers {
            "SELECT always.begun, answer.* FROM (SELECT begun_now AS begun) AS always \
             LEFT JOIN (SELECT 1 AS found, asked.* FROM asked) AS answer ON true"
        } else {
            "SELECT begun_now AS begun, NULL::INT AS found"
        };
        let answer = answer.replace("begun_now", BEGUN);
        Self::Question(format!("{before}{with} asked AS ({asked}) {answer}").into())
    }
}

impl Answer {
    /// What the statement itself gave back, of what a [`Sent::Question`] was answered with.
    ///
    /// # Errors
    /// When there is not even the row that is always there.
    pub(crate) fn of(given: Rows) -> Result<Self, SqlError> {
        let begun = given.rows.first().and_then(|row| row.first());
        let in_transaction = match begun {
            Some(Value::Integer(number)) => *number != 0,
            _ => {
                let text = "an answer lacks the row that it always has";
                return Err(SqlError::Other(text.to_owned()));
            }
        };
        let own = |row: Vec<Value>| {
            let found = row.get(1).is_some_and(|found| *found != Value::Null);
            found.then(|| row.into_iter().skip(ADDED).collect())
        };
        let rows = Rows {
            columns: given.columns.into_iter().skip(ADDED).collect(),
            rows: given.rows.into_iter().filter_map(own).collect(),
        };
        Ok(Self {
            rows,
            in_transaction,
        })
    }
}

/// The place of what a statement does, behind the parts of its WITH, and the word for that. None where it is something that
/// answers nothing.
fn verb(sql: &str) -> Option<(usize, &'static str)> {
    let known = |word: &str| VERBS.into_iter().find(|v| word.eq_ignore_ascii_case(v));
    let mut words = words(sql);
    let (place, first) = words.next()?;
    match known(first) {
        Some(verb) => Some((place, verb)),
        None if first.eq_ignore_ascii_case("WITH") => {
            words.find_map(|(place, word)| Some((place, known(word)?)))
        }
        None => None,
    }
}

/// The words that stand outside of parentheses and quotation marks, with their places.
fn words(sql: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = sql.as_bytes();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let (mut place, mut depth) = (0_usize, 0_usize);
    std::iter::from_fn(move || {
        while let Some(&byte) = bytes.get(place) {
            let begin = place;
            place += 1;
            match byte {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                // A quotation mark within is written twice, which reads as an end and a beginning.
                b'\'' | b'"' => {
                    let rest = &bytes[place..];
                    let end = rest.iter().position(|other| *other == byte);
                    place += end.map_or(rest.len(), |end| end + 1);
                }
                _ if is_part(byte) => {
                    let rest = &bytes[begin..];
                    let length = rest.iter().position(|other| !is_part(*other));
                    place = begin + length.unwrap_or(rest.len());
                    if depth == 0 {
                        return Some((begin, &sql[begin..place]));
                    }
                }
                _ => {}
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    //! Forms and answers; that they mean what they are to mean, the contract holds on a real server.
    use super::*;

    /// The form without its end, which is one of two.
    #[track_caller]
    fn asked(sql: &str) -> (String, bool) {
        let Sent::Question(text) = Sent::of(sql) else {
            panic!("it answers nothing: {sql}");
        };
        let (asked, rows) = match text.split_once(") SELECT always.begun, answer.* ") {
            Some((asked, _)) => (asked, true),
            None => (
                text.split_once(") SELECT (current_").expect("an end").0,
                false,
            ),
        };
        (format!("{asked})"), rows)
    }

    #[test]
    fn what_may_answer_is_put_behind_a_with() {
        for (sql, form, rows) in [
            ("SELECT 1", "WITH asked AS (SELECT 1)", true),
            ("VALUES (1)", "WITH asked AS (VALUES (1))", true),
            (
                "INSERT INTO a SELECT 1 RETURNING b",
                "WITH asked AS (INSERT INTO a SELECT 1 RETURNING b)",
                true,
            ),
            (
                "UPDATE a SET b = (SELECT 1) WHERE c = 'RETURNING'",
                "WITH asked AS (UPDATE a SET b = (SELECT 1) WHERE c = 'RETURNING')",
                false,
            ),
            (
                "DELETE FROM returning_of WHERE a IN (DELETE FROM b RETURNING c)",
                "WITH asked AS (DELETE FROM returning_of WHERE a IN (DELETE FROM b RETURNING c))",
                false,
            ),
            (
                "WITH x (y) AS (SELECT 'it''s (' FOR UPDATE), \"SELECT\" AS (SELECT 2) UPDATE a SET b = 1 RETURNING b",
                "WITH x (y) AS (SELECT 'it''s (' FOR UPDATE), \"SELECT\" AS (SELECT 2), \
                 asked AS (UPDATE a SET b = 1 RETURNING b)",
                true,
            ),
            (
                "WITH changed AS (UPDATE a SET b = 1 RETURNING b) SELECT * FROM changed",
                "WITH changed AS (UPDATE a SET b = 1 RETURNING b), asked AS (SELECT * FROM changed)",
                true,
            ),
        ] {
            assert_eq!(asked(sql), (form.to_owned(), rows), "{sql}");
        }
    }

    #[test]
    fn what_says_it_itself_is_sent_as_it_is_and_is_one_row() {
        let call = "SELECT begun, written, earlier FROM accept_executions($1)";
        assert_eq!(Sent::of(call), Sent::Question(call.into()));
        // A function with results of its own, and not of a set of rows, answers with one row whatever it does.
        let made = include_str!("../migrations/postgres/0015_accepting.sql");
        let made = made.split_once("CREATE FUNCTION").expect("it is made").1;
        let (head, body) = made.split_once("AS $$").expect("a body");
        let head: Vec<&str> = head.split_whitespace().collect();
        let head = head.join(" ");
        assert!(
            head.contains("OUT begun INTEGER, OUT written INTEGER"),
            "{head}"
        );
        assert!(!head.contains("RETURNS"), "{head}");
        assert!(body.contains("begun := (current_setting('transaction_deferrable')"));
    }

    #[test]
    fn what_answers_nothing_is_sent_as_it_is() {
        for sql in [
            "CREATE TABLE a (b TEXT)",
            "CREATE FUNCTION f() RETURNS TRIGGER AS $$ BEGIN INSERT INTO a SELECT 1; END $$",
            "ALTER TABLE a ADD COLUMN b TEXT",
            "",
        ] {
            assert_eq!(Sent::of(sql), Sent::Command(sql));
        }
    }

    #[test]
    fn what_was_added_is_taken_off() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let given = |begun: i64, found: &[Value]| Rows {
            columns: names(&["begun", "found", "a"]),
            rows: found
                .iter()
                .map(|found| vec![begun.into(), found.clone(), Value::Null])
                .collect(),
        };
        let answer = Answer::of(given(0, &[1_i64.into(), 1_i64.into()])).expect("an answer");
        assert_eq!(answer.rows.columns, ["a"]);
        assert_eq!(answer.rows.rows, [[Value::Null], [Value::Null]]);
        assert!(!answer.in_transaction);
        let answer = Answer::of(given(1, &[Value::Null])).expect("an answer");
        assert_eq!(answer.rows.rows, Vec::<Vec<Value>>::new());
        assert!(answer.in_transaction);
        Answer::of(given(0, &[])).expect_err("the row that is always there");
    }
}
