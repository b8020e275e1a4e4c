//! SQLite as Spin offers it.

use crate::support::Setup;

#[test]
fn every_type_goes_out_and_in() {
    let host = Setup::new().start();
    let expected = "1 1\na,b,c,d,e\n-9223372036854775808,0.5,tëxt,[0, 255],null";
    assert_eq!(host.get_ok("/types"), expected);
}

#[test]
fn what_is_not_committed_is_rolled_back() {
    let host = Setup::new().start();
    assert_eq!(host.get("/transaction?end=trap").0, 500);
    host.get_ok("/transaction?end=drop");
    host.get_ok("/transaction?end=commit");
    let kept: Vec<_> = host
        .notes()
        .into_iter()
        .filter(|note| !note.is_empty())
        .collect();
    assert_eq!(kept, ["in transaction, commit"]);
}

#[test]
fn errors_are_spins() {
    let host = Setup::new()
        .component("sqlite_databases = [\"default\"]")
        .start();
    let (status, text) = host.post("/sql?database=other", "SELECT 1");
    assert_eq!((status, text.as_str()), (400, "Error::AccessDenied"));
    let (_, text) = host.post("/sql?database=default", "SELECT absent");
    assert!(
        text.starts_with("Error::Io(\"no such column: absent"),
        "{text}"
    );
    let (_, text) = host.post("/sql?database=default", "ATTACH 'other.db' AS other");
    assert!(text.contains("not authorized"), "{text}");
    assert_eq!(
        host.get_ok("/open-many"),
        "256 Error::Io(\"too many connections opened\")"
    );
}

#[test]
fn only_the_first_statement_is_run() {
    let host = Setup::new().start();
    assert_eq!(host.sql("SELECT 1; SELECT 2; CREATE TABLE t (a)"), ["1"]);
    assert_eq!(host.sql("SELECT count(*) FROM sqlite_schema"), ["0"]);
}

#[test]
fn databases_outlive_the_host_and_may_have_other_places() {
    let setup = Setup::new()
        .component("sqlite_databases = [\"default\", \"second\"]")
        .runtime_config("[sqlite_database.second]\ntype = \"spin\"\npath = \"deep/second.db\"");
    let host = setup.start();
    host.sql("PRAGMA journal_mode = WAL");
    host.sql("CREATE TABLE kept (a)");
    host.post("/sql?database=second", "CREATE TABLE kept_too (a)");
    drop(host);
    assert!(setup.dir().join(".spin/sqlite_db.db").exists());
    assert!(setup.dir().join("deep/second.db").exists());
    let host = setup.start();
    assert_eq!(host.sql("SELECT name FROM sqlite_schema"), ["kept"]);
    assert_eq!(host.sql("PRAGMA journal_mode"), ["wal"]);
    let (_, text) = host.post("/sql?database=second", "SELECT name FROM sqlite_schema");
    assert_eq!(text, "name\nkept_too");
}

#[test]
fn writers_wait_for_each_other() {
    let host = Setup::new().start();
    host.sql("CREATE TABLE counter (n)");
    host.sql("INSERT INTO counter VALUES (0)");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..10).for_each(|_| drop(host.sql("UPDATE counter SET n = n + 1"))));
        }
    });
    assert_eq!(host.sql("SELECT n FROM counter"), ["80"]);
}
