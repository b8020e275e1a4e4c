//! Signals: what runs may finish, within a limit.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Host, LIMIT, Setup, read_until, wait_for};

/// Starts a request that lasts, on a connection that has served one before.
fn lasting_request(host: &Host, path: &str) -> TcpStream {
    let mut stream = host.connect();
    write!(stream, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    read_until(&mut stream, "0\r\n\r\n");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    stream
}

#[test]
fn the_first_signal_lets_requests_finish() {
    for signal in ["TERM", "INT"] {
        let mut host = Setup::new().start();
        let mut idle = host.connect();
        write!(idle, "GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        read_until(&mut idle, "0\r\n\r\n");
        let unused = host.connect();
        let mut running = lasting_request(&host, "/note-and-pause?ms=1500");
        wait_for("the request", || {
            host.notes().contains(&"pausing".to_owned()).then_some(())
        });
        host.signal(signal);
        assert_eq!(
            idle.read(&mut [0; 16]).unwrap(),
            0,
            "an idle connection is closed"
        );
        wait_for("no more connections", || {
            TcpStream::connect(host.address()).is_err().then_some(())
        });
        read_until(&mut running, "paused");
        assert_eq!(host.wait().code(), Some(0));
        drop(unused);
    }
}

#[test]
fn work_after_the_answer_is_finished() {
    let setup = Setup::new();
    let mut host = setup.start();
    host.get_ok("/after?pause_ms=1500");
    host.signal("TERM");
    assert_eq!(host.wait().code(), Some(0));
    assert!(Setup::notes_in(setup.dir()).contains(&"after the answer".to_owned()));
}

#[test]
fn the_limit_cuts_off() {
    let mut host = Setup::new().arguments(&["--drain-seconds", "1"]).start();
    let _running = lasting_request(&host, "/note-and-pause?ms=600000");
    wait_for("the request", || {
        host.notes().contains(&"pausing".to_owned()).then_some(())
    });
    let start = Instant::now();
    host.signal("TERM");
    assert_eq!(host.wait().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(900) && start.elapsed() < LIMIT / 4);
    host.wait_for_stderr("cut off");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut host = Setup::new().arguments(&["--drain-seconds", "600"]).start();
    let _running = lasting_request(&host, "/note-and-pause?ms=600000");
    wait_for("the request", || {
        host.notes().contains(&"pausing".to_owned()).then_some(())
    });
    host.signal("TERM");
    host.wait_for_stderr("finishing what runs");
    host.signal("TERM");
    assert_eq!(host.wait().code(), Some(128 + 15));
}

#[test]
fn a_kill_in_a_transaction_leaves_nothing_behind() {
    let setup = Setup::new();
    let mut host = setup.start();
    host.sql("PRAGMA journal_mode = WAL");
    let _running = lasting_request(&host, "/transaction?end=pause");
    host.wait_for_stderr("holding the transaction");
    host.signal("KILL");
    host.wait();
    let host = setup.start();
    assert_eq!(
        host.sql("SELECT count(*) FROM notes WHERE text <> ''"),
        ["0"]
    );
    host.get_ok("/transaction?end=commit");
}
