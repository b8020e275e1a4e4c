//! libSQL as Spin offers it, on the server that EXECUTOR_TEST_LIBSQL names (see tests/libsql). Where none is named there is next to
//! nothing to test. All tests share its one database, so each has tables of its own.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::relay::Relay;
use crate::support::{Host, Setup};

/// The server's URL, from `tests/libsql/with-libsql.sh`.
const SERVER: &str = "EXECUTOR_TEST_LIBSQL";

/// That the server is away must be told within this: enough for a busy machine, and no wait for anything.
const PROMPTLY: Duration = Duration::from_secs(10);

/// The server's host name and port, if there is a server.
fn server() -> Option<String> {
    match std::env::var(SERVER) {
        Ok(url) => {
            let place = url.strip_prefix("http://").expect("a URL of HTTP");
            Some(place.to_owned())
        }
        Err(std::env::VarError::NotPresent) => None,
        Err(error) => panic!("{SERVER} is no URL: {error}"),
    }
}

fn setup(url: &str) -> Setup {
    Setup::new().runtime_config(&format!(
        "[sqlite_database.default]\ntype = \"libsql\"\nurl = \"{url}\"\ntoken = \"any\""
    ))
}

/// A host on the server, without these tables.
fn host(server: &str, tables: &[&str]) -> Host {
    let host = setup(&format!("http://{server}")).start();
    for table in tables {
        host.sql(&format!("DROP TABLE IF EXISTS {table}"));
    }
    host
}

#[test]
fn every_type_goes_out_and_in() {
    let Some(server) = server() else { return };
    let host = host(&server, &["types"]);
    let expected = "1 1\na,b,c,d,e\n-9223372036854775808,0.5,tëxt,[0, 255],null";
    assert_eq!(host.get_ok("/types"), expected);
}

#[test]
fn what_is_not_committed_is_rolled_back() {
    let Some(server) = server() else { return };
    let host = host(&server, &["notes"]);
    // Without its being told, the server would keep the lock for seconds after each.
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
fn errors_have_sqlites_words() {
    let Some(server) = server() else { return };
    let host = host(&server, &["once"]);
    let error = |statement: &str| {
        let (status, text) = host.post("/sql?database=default", statement);
        assert_eq!(status, 400, "{statement}: {text}");
        assert!(text.starts_with("Error::Io(\"Hrana: `"), "{text}");
        text
    };
    assert!(error("SELECT n FROM once").contains("no such table: once"));
    host.sql("CREATE TABLE once (n INTEGER UNIQUE) STRICT");
    host.sql("INSERT INTO once VALUES (1)");
    let text = error("INSERT INTO once VALUES (1)");
    assert!(text.contains("UNIQUE constraint failed: once.n"), "{text}");
    assert_eq!(host.sql("SELECT n FROM once"), ["1"]);
}

#[test]
fn writers_wait_for_each_other() {
    let Some(server) = server() else { return };
    let host = host(&server, &["counter"]);
    host.sql("CREATE TABLE counter (n)");
    host.sql("INSERT INTO counter VALUES (0)");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..10).for_each(|_| drop(host.sql("UPDATE counter SET n = n + 1"))));
        }
    });
    assert_eq!(host.sql("SELECT n FROM counter"), ["80"]);
}

#[test]
fn a_server_that_was_gone_is_found_again() {
    let Some(server) = server() else { return };
    let mut addresses = server.to_socket_addrs().expect("it has an address");
    let address = addresses.find(SocketAddr::is_ipv4).expect("one by IPv4");
    let relay = Relay::to(address);
    let host = host(&format!("localhost:{}", relay.address.port()), &[]);
    assert_eq!(host.sql("SELECT 1"), ["1"]);
    assert!(relay.cut() >= 1, "there was something to cut");
    let start = Instant::now();
    let (status, text) = host.post("/sql?database=default", "SELECT 1");
    assert_eq!(status, 400);
    assert!(
        text.starts_with("Error::Io(\"Hrana: `http error: `"),
        "{text}"
    );
    assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    assert!(relay.mend() >= 1, "the guest asked while it was cut");
    assert_eq!(host.sql("SELECT 1"), ["1"]);
}

#[test]
fn servers_that_cannot_be_are_refused() {
    let text = setup("libsql://localhost:1").refused();
    assert!(text.contains("[sqlite_database.default]"), "{text}");
    assert!(text.contains("does not start with"), "{text}");
}
