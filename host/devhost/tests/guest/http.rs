//! The HTTP trigger: streaming, life after the answer, traps, limits.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Setup, read_until, send_chunk, wait_for};

const CHUNKED_HEAD: &str =
    "POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn bodies_stream_both_ways() {
    let host = Setup::new().start();
    let mut stream = host.connect();
    write!(stream, "{CHUNKED_HEAD}").unwrap();
    // Each piece comes back before the next one is sent, and the connection serves two requests.
    for _ in 0..2 {
        for piece in ["first", "second", "third"] {
            send_chunk(&mut stream, piece);
            read_until(&mut stream, piece);
        }
        write!(stream, "0\r\n\r\n{CHUNKED_HEAD}").unwrap();
        read_until(&mut stream, "0\r\n\r\n");
    }
}

#[test]
fn large_bodies_come_back_whole() {
    let host = Setup::new().start();
    let body: String = (0..1_000_000).map(|number| format!("{number} ")).collect();
    let (status, echoed) = host.post("/echo", &body);
    assert_eq!(status, 200);
    assert!(
        echoed == body,
        "{} bytes became {}",
        body.len(),
        echoed.len()
    );
}

#[test]
fn the_guest_goes_on_after_its_answer() {
    let host = Setup::new().start();
    let start = Instant::now();
    assert_eq!(host.get_ok("/after?pause_ms=1500"), "answered");
    assert!(start.elapsed() < Duration::from_millis(1500));
    wait_for("the note", || {
        host.notes()
            .contains(&"after the answer".to_owned())
            .then_some(())
    });
}

#[test]
fn the_guest_learns_that_its_client_is_gone_when_it_writes() {
    let host = Setup::new().start();
    let mut stream = host.connect();
    write!(stream, "GET /endless HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    read_until(&mut stream, "more\n");
    drop(stream);
    wait_for("the note", || {
        host.notes()
            .contains(&"the client is gone".to_owned())
            .then_some(())
    });
}

#[test]
fn a_client_that_leaves_early_does_not_stop_the_guest() {
    let host = Setup::new().start();
    let mut stream = host.connect();
    write!(
        stream,
        "GET /note-and-pause?ms=500 HTTP/1.1\r\nhost: test\r\n\r\n"
    )
    .unwrap();
    wait_for("the start", || {
        host.notes().contains(&"pausing".to_owned()).then_some(())
    });
    drop(stream);
    wait_for("the end", || {
        host.notes()
            .contains(&"the pause is over".to_owned())
            .then_some(())
    });
}

#[test]
fn traps_answer_500_and_are_logged() {
    let host = Setup::new().start();
    assert_eq!(host.get("/trap").0, 500);
    host.wait_for_stderr("GET /trap failed");
    host.wait_for_stderr("asked to trap");
    assert_eq!(host.get("/silent").0, 500);
    host.wait_for_stderr("GET /silent failed: the guest returned without an answer");
    assert_eq!(host.get("/trap-after"), (200, "answered".to_owned()));
    host.wait_for_stderr("guest failed after its answer started");
    assert_eq!(host.get("/next").0, 200);
}

#[test]
fn routes_health_and_headers_are_as_in_spin() {
    let host = Setup::new()
        .trigger("[[trigger.http]]\nroute = \"/headers/...\"\ncomponent = \"guest\"")
        .start();
    assert_eq!(host.get("/.well-known/spin/health"), (200, "OK".to_owned()));
    assert_eq!(host.get("/a/b?c=d"), (200, "at /a/b".to_owned()));
    let headers = host.get_ok("/headers");
    assert!(headers.contains("spin-path-info: \n"), "{headers}");
    assert!(
        headers.contains(&format!(
            "spin-full-url: http://{}/headers\n",
            host.address()
        )),
        "{headers}"
    );
    assert!(
        headers.contains("spin-raw-component-route: /headers/...\n"),
        "{headers}"
    );
    assert!(
        headers.contains("spin-component-route: /headers\n"),
        "{headers}"
    );
    assert!(
        headers.contains("spin-client-addr: 127.0.0.1:"),
        "{headers}"
    );
}

#[test]
fn a_path_without_a_route_is_404() {
    let host = Setup::new().only_route("/only").start();
    assert_eq!(host.get("/only").0, 200);
    assert_eq!(host.get("/other"), (404, String::new()));
}

#[test]
fn output_is_printed_with_the_component() {
    let host = Setup::new().start();
    host.get_ok("/print");
    host.wait_for_stderr("[guest] to stdout\n");
    host.wait_for_stderr("[guest] to stderr\n");
    let quiet = Setup::new().arguments(&["--quiet"]).start();
    quiet.get_ok("/print");
    assert!(!quiet.stderr().contains("to stdout"));
}

#[test]
fn guests_that_compute_do_not_starve_others() {
    let host = Setup::new().start();
    std::thread::scope(|scope| {
        let busy: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| host.get_ok("/compute?ms=3000")))
            .collect();
        // Whether they run already does not matter: with them or before them, this one is quick.
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        host.get_ok("/");
        assert!(
            start.elapsed() < Duration::from_millis(2000),
            "{:?}",
            start.elapsed()
        );
        for thread in busy {
            assert_eq!(thread.join().unwrap(), "computed");
        }
    });
}

#[test]
fn too_many_instances_answer_500() {
    let host = Setup::new()
        .environment("SPIN_MAX_INSTANCE_COUNT", "2")
        .start();
    let mut first = host.connect();
    let mut second = host.connect();
    for stream in [&mut first, &mut second] {
        write!(stream, "GET /endless HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        read_until(stream, "more\n");
    }
    assert_eq!(host.get("/").0, 500);
    host.wait_for_stderr("too many instances");
    drop(first);
    wait_for("a free place", || (host.get("/").0 == 200).then_some(()));
}
