//! What goes over a connection to PostgreSQL, also where somebody died on it in a transaction: hosts hand it on as it is.

use std::cell::RefCell;

use domain::transition::Observation;
use domain::{Entry, transition};
use store::testing::Postgres;
use store::testing::ready;
use store::wire::{self, Wire};
use store::{Dialect, ExecutionStore, Rows, Sql, SqlError, Statement, Step, Value, Written};

use crate::support::*;

/// How the transaction was left: just begun, with something read, with something written, and failed.
const LEFT: [(&str, bool); 4] = [
    ("", true),
    ("; SELECT 1", true),
    ("; UPDATE state SET value = 'lost'", true),
    ("; UPDATE state SET value = 'lost'; SELECT 1 / 0", false),
];

/// Leaves a transaction of the store's open on its connection.
fn leave_open(store: &Store, left: &str, works: bool) {
    let Database::Postgres(postgres) = store.sql() else {
        panic!("it is PostgreSQL");
    };
    let begin = Dialect::Postgres.begin();
    let result = postgres.execute_batch(&format!("{begin}{left}"));
    assert_eq!(result.is_ok(), works, "{left}: {result:?}");
}

#[test]
fn what_is_written_after_a_transaction_that_was_left_open_is_kept() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let (store, other) = (file(&place), file(&place));
    for (number, (left, works)) in (0..).zip(LEFT) {
        let state = |key: &str| ready(other.get_state(key)).expect("it reads");
        ready(store.set_state("before", "kept")).expect("it writes");

        // One statement.
        leave_open(&store, left, works);
        ready(store.set_state("after", left)).expect("it writes");
        assert_eq!(state("after").as_deref(), Some(left));
        assert_eq!(state("before").as_deref(), Some("kept"), "{left}");

        // One that reads.
        leave_open(&store, left, works);
        let read = ready(store.get_state("before")).expect("it reads");
        assert_eq!(read.as_deref(), Some("kept"), "{left}");

        // An accept, which says itself what it was done in.
        leave_open(&store, left, works);
        let accepted = insert(&store, &queued(100 + number), 0);
        assert_eq!(get(&other, &accepted), accepted, "{left}");

        // A transaction.
        let execution = insert(&other, &queued(number), PLENTY);
        leave_open(&store, left, works);
        ready(store.add_events(execution.id, &[Entry::once(at(1), "Told", "pod", "one")]))
            .expect("it writes");
        let events = ready(other.events(execution.id, 1, 9)).expect("it reads");
        let told = events.iter().filter(|event| event.entry.message == "one");
        assert_eq!(told.count(), 1, "{left}");
        assert_eq!(state("before").as_deref(), Some("kept"), "{left}");

        // A compare-and-set that finds another generation leaves none open.
        leave_open(&store, left, works);
        let observation = Observation::JobExists { uid: "u".into() };
        let next = transition(&execution, &observation, at(1)).expect("it changes");
        let lines = [Entry::once(at(2), "Told", "pod", "two")];
        for expected in [Written::Updated, Written::Stale] {
            let written = ready(store.update(Step::new(&next, &lines)));
            assert_eq!(written.expect("it answers"), expected, "{left}");
        }
        assert_eq!(get(&other, &execution), next);
    }
}

#[test]
fn where_it_cannot_be_told_nothing_is_done_twice() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let (store, other) = (file(&place), file(&place));
    store
        .sql()
        .execute("SET default_transaction_deferrable = on");
    let execution = insert(&store, &queued(0), PLENTY);
    assert_eq!(get(&other, &execution), execution);
    for message in ["one", "two"] {
        let told = [Entry::once(at(1), "Told", "pod", message)];
        ready(store.add_events(execution.id, &told)).expect("it writes");
    }
    let events = ready(other.events(execution.id, 0, 99)).expect("it reads");
    let counts: Vec<u32> = events.iter().map(|event| event.entry.count).collect();
    assert!(counts.iter().all(|count| *count == 1), "{events:?}");
}

/// Keeps what goes over the wire: each is a request to the server.
struct Counted {
    inner: Postgres,
    sent: RefCell<Vec<String>>,
}

impl Wire for Counted {
    type Param = Value;

    fn param(value: Value) -> Value {
        value
    }

    fn execute(&self, sql: &str) -> Result<(), SqlError> {
        self.sent.borrow_mut().push(sql.to_owned());
        self.inner.execute(sql)
    }

    fn query(&self, sql: &str, params: &[Value]) -> Result<Rows, SqlError> {
        self.sent.borrow_mut().push(sql.to_owned());
        Wire::query(&self.inner, sql, params)
    }
}

impl Sql for Counted {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        wire::query(self, statement)
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        wire::transaction(self, statements)
    }
}

#[test]
fn an_accept_is_one_request_to_the_server() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let Database::Postgres(inner) = file(&place).sql().clone() else {
        panic!("it is PostgreSQL");
    };
    let sent = RefCell::default();
    let store = ExecutionStore::new(Counted { inner, sent }).with_max_queued(9);
    let execution = queued(0);
    let asked = with_webhook(&execution);
    let inserted = ready(store.insert(&execution, &asked, Some("k"), 0, at(9)));
    inserted.expect("it inserts");
    let sent = store.sql().sent.take();
    assert_eq!(sent.len(), 1, "{sent:#?}");
    // What follows the answer, and only where there is room.
    let claim = |room| {
        let accepted = [execution.clone()];
        ready(store.claim_accepted(&accepted, at(1), at(9), room, 1)).expect("it claims");
        store.sql().sent.take().len()
    };
    assert_eq!(claim(0), 0);
    assert_eq!(claim(1), 5, "a look, BEGIN, the turn, the write, COMMIT");
    ready(store.get(execution.id)).expect("it reads");
    assert_eq!(store.sql().sent.take().len(), 1);
}
