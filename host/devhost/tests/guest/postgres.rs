//! PostgreSQL as Spin offers it, on the server that EXECUTOR_TEST_POSTGRES names (see tests/postgres). Where none is named there is
//! nothing to test.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::relay::Relay;
use crate::support::{Host, Setup, wait_for};

/// The server's URL, from `tests/postgres/with-postgres.sh`.
const SERVER: &str = "EXECUTOR_TEST_POSTGRES";

/// How many connections a component has at most to one address.
const POOL: i64 = 64;

/// What nobody waits for must be told within this: far less than the limits of the pool, and enough for a busy machine.
const PROMPTLY: Duration = Duration::from_secs(10);

/// The server, for one test.
struct Server {
    url: String,
    address: SocketAddr,
}

impl Server {
    fn get() -> Option<Server> {
        let url = match std::env::var(SERVER) {
            Ok(url) => url,
            Err(std::env::VarError::NotPresent) => return None,
            Err(error) => panic!("{SERVER} is no URL: {error}"),
        };
        let rest = url.split_once('@').expect("a URL with a user").1;
        let address = rest.split('/').next().expect("there is a first part");
        let address = address.parse().expect("a number and a port");
        Some(Server { url, address })
    }

    /// A view of the server that does not pass devhost.
    fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).expect("the server answers")
    }

    /// The URL with another place in it.
    fn url_by(&self, address: SocketAddr) -> String {
        self.url
            .replace(&self.address.to_string(), &address.to_string())
    }

    fn host(&self) -> Host {
        host_for(self.address)
    }

    /// An empty table for one test, of one number that is unique.
    fn table(&self, name: &str) {
        let sql = format!("DROP TABLE IF EXISTS {name}; CREATE TABLE {name} (n bigint UNIQUE)");
        self.client().batch_execute(&sql).expect("it is made");
    }
}

/// A host whose guest may call this server.
fn host_for(server: SocketAddr) -> Host {
    setup_for(server).start()
}

fn setup_for(server: SocketAddr) -> Setup {
    Setup::new().component(&format!(
        "allowed_outbound_hosts = [\"postgres://{server}\"]"
    ))
}

fn encode(address: &str) -> String {
    address.replace(' ', "%20").replace('&', "%26")
}

/// Runs statements, one a line, on one connection of the guest: what the last one answers, or the error.
fn run(host: &Host, address: &str, statements: &str) -> Result<String, String> {
    let (status, text) = host.post(&format!("/pg?address={}", encode(address)), statements);
    if status == 200 { Ok(text) } else { Err(text) }
}

/// A count that a client of the test's own sees.
fn count(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).expect("it counts").get(0)
}

#[test]
fn every_type_goes_out_and_in() {
    let Some(server) = Server::get() else { return };
    let host = server.host();
    let address = format!("/pg-types?address={}", server.url);
    let lines = host.get_ok(&address);
    let lines: Vec<&str> = lines.lines().collect();
    let types = "a:DbDataType::Boolean,b:DbDataType::Int16,c:DbDataType::Int32,d:DbDataType::Int64,\
        e:DbDataType::Floating32,f:DbDataType::Floating64,g:DbDataType::Str,h:DbDataType::Str,i:DbDataType::Binary,\
        j:DbDataType::Date,k:DbDataType::Time,l:DbDataType::Datetime,m:DbDataType::Uuid,n:DbDataType::Jsonb,\
        o:DbDataType::ArrayInt32,p:DbDataType::ArrayInt64,q:DbDataType::ArrayStr,r:DbDataType::Interval";
    let values = "Boolean(true),Int16(-32768),Int32(2147483647),Int64(-9223372036854775808),Floating32(0.5),\
        Floating64(-1e300),Str(\"tëxt\"),Str(\"short\"),Binary([0, 255]),Date((2024, 2, 29)),Time((23, 59, 58, 7000)),\
        Datetime((1969, 12, 31, 1, 2, 3, 4000)),Uuid(\"00112233-4455-6677-8899-aabbccddeeff\"),Jsonb({\"a\":[1,null]}),\
        ArrayInt32([Some(-1), None]),ArrayInt64([Some(9223372036854775807)]),ArrayStr([None, Some(\"x\")]),\
        Interval(Interval { micros: -1, days: 2, months: 3 })";
    assert_eq!(lines, ["1", types, values]);
}

#[test]
fn every_type_has_its_null() {
    let Some(server) = Server::get() else { return };
    let text = server
        .host()
        .get_ok(&format!("/pg-nulls?address={}", server.url));
    let values = text.lines().last().expect("there is a row");
    assert_eq!(values, ["DbNull"; 18].join(","));
}

#[test]
fn what_is_not_carried_is_named() {
    let Some(server) = Server::get() else { return };
    let host = server.host();
    let text = run(
        &host,
        &server.url,
        "SELECT 1.5 AS d, '[1,2)'::int4range AS r",
    )
    .unwrap();
    assert!(text.contains("d:DbDataType::Other(\"numeric\")"), "{text}");
    assert!(text.contains("r:DbDataType::Other(\"int4range\")"));
    assert_eq!(text.matches("Unsupported([").count(), 2, "{text}");
    let text = host.get_ok(&format!("/pg-bad-parameters?address={}", server.url));
    let errors: Vec<&str> = text.lines().collect();
    let expected = [
        ("BadParameter", "year 2023"),
        ("BadParameter", "no UUID"),
        ("BadParameter", "no JSON"),
        ("BadParameter", "decimals"),
        ("BadParameter", "ranges"),
        // Nothing is cast: an i32 is no bigint.
        ("QueryFailed", "error serializing parameter 0"),
    ];
    assert_eq!(errors.len(), expected.len(), "{text}");
    for (error, (kind, words)) in errors.iter().zip(expected) {
        assert!(error.contains(kind) && error.contains(words), "{error}");
    }
}

#[test]
fn a_transaction_spans_calls() {
    let Some(server) = Server::get() else { return };
    server.table("spans");
    let host = server.host();
    let insert = "INSERT INTO spans VALUES";
    let kept = format!("BEGIN\n{insert} (1)\n{insert} (2)\nCOMMIT");
    run(&host, &server.url, &kept).unwrap();
    let undone = format!("BEGIN\n{insert} (3)\nROLLBACK");
    run(&host, &server.url, &undone).unwrap();
    let rows = run(&host, &server.url, "SELECT n FROM spans ORDER BY n").unwrap();
    assert_eq!(rows, "n:DbDataType::Int64\nInt64(1)\nInt64(2)");
    let update = "UPDATE spans SET n = n + 10 WHERE length($1) = 1".replace(' ', "%20");
    let path = format!(
        "/pg-execute?address={}&parameter=x&statement={update}",
        server.url
    );
    assert_eq!(host.get_ok(&path), "2", "execute tells what it changed");
}

#[test]
fn a_trap_leaves_its_transaction_to_the_next() {
    let Some(server) = Server::get() else { return };
    server.table("trapped");
    let host = server.host();
    let url = format!("{}?application_name=trapped", server.url);
    let path = format!("/pg-trap?address={url}");
    let begun = "BEGIN\nINSERT INTO trapped VALUES (1)";
    assert_eq!(host.post(&path, begun).0, 500);
    let mut client = server.client();
    let mut left_open = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'trapped' AND state = 'idle in transaction'";
        count(&mut client, sql)
    };
    assert_eq!(left_open(), 1);
    // As in Spin: what makes the connection ready for the next one does not end a transaction.
    wait_for("the connection", || {
        let seen = run(&host, &url, "SELECT n FROM trapped").unwrap();
        seen.ends_with("Int64(1)").then_some(())
    });
    wait_for("the connection again", || {
        run(&host, &url, "ROLLBACK").unwrap();
        (left_open() == 0).then_some(())
    });
    let sql = "SELECT count(*) FROM trapped";
    assert_eq!(count(&mut server.client(), sql), 0);
}

#[test]
fn answers_without_rows_are_refused_where_that_is_asked_for() {
    let Some(server) = Server::get() else { return };
    server.table("empty");
    let host = setup_for(server.address)
        .environment("DEVHOST_REFUSE_EMPTY_ANSWERS", "true")
        .start();
    let insert = "INSERT INTO empty VALUES (1)";
    let text = run(&host, &server.url, insert).unwrap_err();
    assert!(text.contains("QueryFailed(QueryError::Text"), "{text}");
    assert!(text.contains("no rows"), "{text}");
    let rows = run(&host, &server.url, "SELECT n FROM empty").unwrap();
    assert!(rows.ends_with("Int64(1)"), "it was done: {rows}");
    let delete = "DELETE FROM empty WHERE $1 = 'x'".replace(' ', "%20");
    let path = format!(
        "/pg-execute?address={}&parameter=x&statement={delete}",
        server.url
    );
    assert_eq!(host.get_ok(&path), "1", "execute has no rows to give");
    run(&host, &server.url, "SELECT n FROM empty").unwrap_err();
}

#[test]
fn errors_have_postgresqls_codes() {
    let Some(server) = Server::get() else { return };
    server.table("codes");
    let host = server.host();
    let error = |statements: &str| run(&host, &server.url, statements).unwrap_err();
    let twice = error("INSERT INTO codes VALUES (1)\nINSERT INTO codes VALUES (1)");
    assert!(twice.starts_with("ERROR 23505: "), "{twice}");
    assert!(twice.ends_with("(constraint: codes_n_key)"), "{twice}");
    assert!(error("SELECT absent").starts_with("ERROR 42703: "));
    assert!(error("SET lock_timeout = 50\nBEGIN\nSELECT 1/0").starts_with("ERROR 22012: "));
    // The connection with the failed transaction was not given to anybody as it was.
    let text = run(&host, &server.url, "SHOW lock_timeout").unwrap();
    assert!(text.ends_with("Str(\"0\")"), "{text}");
}

#[test]
fn only_allowed_addresses_are_called() {
    let Some(server) = Server::get() else { return };
    let host = server.host();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let elsewhere = other.local_addr().unwrap();
    let refused = |address: &str| run(&host, address, "SELECT 1").unwrap_err();
    for address in [
        server.url_by(elsewhere),
        format!("host=127.0.0.1 port={} user=executor", elsewhere.port()),
        format!(
            "host=127.0.0.1,localhost port={0},{0} user=executor",
            server.address.port()
        ),
        format!(
            "host=127.0.0.1 hostaddr=127.0.0.2 port={} user=executor",
            server.address.port()
        ),
    ] {
        let text = refused(&address);
        assert!(text.contains("ConnectionFailed"), "{address}: {text}");
        assert!(text.contains("is not permitted"), "{address}: {text}");
    }
    host.wait_for_stderr("guest asked for PostgreSQL: address postgres://127.0.0.2:");
    assert!(refused("host=/run user=executor").contains("Unix"));
    assert!(refused("nonsense").contains("ConnectionFailed"));
    let with_tls = format!("{}?sslmode=require", server.url);
    assert!(refused(&with_tls).contains("without TLS"));
    let accepted = other.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(accepted, Err(std::io::ErrorKind::WouldBlock));
    let pairs = format!(
        "host=127.0.0.1 port={} user=executor dbname=postgres",
        server.address.port()
    );
    run(&host, &pairs, "SELECT 1").unwrap();
}

#[test]
fn of_several_hosts_the_first_that_will_do_is_taken() {
    let Some(server) = Server::get() else { return };
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let host = Setup::new()
        .component("allowed_outbound_hosts = [\"postgres://127.0.0.1:*\"]")
        .start();
    let address = |ports: [u16; 2], more: &str| {
        let [first, second] = ports;
        format!(
            "host=127.0.0.1,127.0.0.1 port={first},{second} user=executor dbname=postgres \
             application_name=several target_session_attrs=read-write {more}"
        )
    };
    let (there, gone) = (server.address.port(), closed.port());
    for ports in [[gone, there], [there, gone]] {
        let text = run(&host, &address(ports, ""), "SELECT 7").unwrap();
        assert!(text.ends_with("Int32(7)"), "{text}");
    }
    // A server that only reads will not do, as a standby.
    let only_reads = "options='-c default_transaction_read_only=on'";
    let text = run(&host, &address([gone, there], only_reads), "SELECT 7").unwrap_err();
    assert!(text.contains("ConnectionFailed"), "{text}");
    assert!(text.contains("does not allow writes"), "{text}");
    let text = run(&host, &address([gone, gone], ""), "SELECT 7").unwrap_err();
    assert!(text.contains("refused"), "{text}");
}

#[test]
fn a_password_has_to_be_right() {
    let Some(server) = Server::get() else { return };
    // `with-postgres.sh` has this one user show a password.
    let sql = "DROP ROLE IF EXISTS sealed; CREATE ROLE sealed LOGIN PASSWORD 'right'";
    server.client().batch_execute(sql).unwrap();
    let host = server.host();
    let with = |password: &str| {
        let user = format!("sealed:{password}@");
        run(
            &host,
            &server.url.replace("executor@", &user),
            "SELECT current_user::text",
        )
    };
    assert!(with("right").unwrap().ends_with("Str(\"sealed\")"));
    let text = with("wrong").unwrap_err();
    assert!(text.contains("ConnectionFailed"), "{text}");
    assert!(text.contains("password authentication failed"), "{text}");
    assert!(!host.stderr().contains("wrong"), "{}", host.stderr());
}

#[test]
fn a_server_that_was_gone_is_found_again() {
    let Some(server) = Server::get() else { return };
    let relay = Relay::to(server.address);
    let host = host_for(relay.address);
    let url = server.url_by(relay.address);
    let poll = format!("/pg-poll?address={url}");
    std::thread::scope(|scope| {
        // Three connections: two in the middle of something, one in the pool.
        let polls = [(); 2].map(|()| scope.spawn(|| host.get(&poll)));
        wait_for("both guests", || {
            (host.stderr().matches("polling").count() == 2).then_some(())
        });
        run(&host, &url, "SELECT 1").unwrap();
        assert_eq!(relay.cut(), 3, "there was something to cut");
        let start = Instant::now();
        for poll in polls {
            let (status, text) = poll.join().unwrap();
            assert_eq!(status, 400);
            assert!(text.contains("QueryFailed(QueryError::Text"), "{text}");
        }
        let text = run(&host, &url, "SELECT 1").unwrap_err();
        assert!(text.contains("ConnectionFailed"), "{text}");
        assert!(start.elapsed() < PROMPTLY, "{:?}", start.elapsed());
    });
    assert!(relay.mend() >= 1, "the guest asked while it was cut");
    // Nothing has to be told that it is back.
    let text = run(&host, &url, "SELECT 7").unwrap();
    assert!(text.ends_with("Int32(7)"), "{text}");
    drop(relay);
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = run(&host_for(closed), &server.url_by(closed), "SELECT 1").unwrap_err();
    assert!(text.contains("ConnectionFailed"), "{text}");
    assert!(text.contains("refused"), "{text}");
}

#[test]
fn a_connection_that_the_server_ends_is_replaced() {
    let Some(server) = Server::get() else { return };
    let host = server.host();
    let url = format!("{}?application_name=ended", server.url);
    let mut client = server.client();
    let sleepers = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ended' AND state = 'active'";
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'ended'";
    let text = std::thread::scope(|scope| {
        let asleep = scope.spawn(|| run(&host, &url, "SELECT 1\nSELECT pg_sleep(600)"));
        wait_for("the sleeper", || {
            (count(&mut client, sleepers) == 1).then_some(())
        });
        assert_eq!(count(&mut client, end), 1);
        asleep.join().unwrap().unwrap_err()
    });
    assert!(text.starts_with("FATAL 57P01: "), "{text}");
    run(&host, &url, "SELECT 1").unwrap();
    assert_eq!(count(&mut client, end), 1, "one was in the pool");
    run(&host, &url, "SELECT 1").unwrap();
}

#[test]
fn a_hundred_guests_share_the_pool() {
    let Some(server) = Server::get() else { return };
    let host = server.host();
    let url = format!("{}?application_name=hundred", server.url);
    // Whoever comes to this lock stays there with its connection, until the test lets go.
    let mut holder = server.client();
    holder.batch_execute("SELECT pg_advisory_lock(64)").unwrap();
    let mut watcher = server.client();
    let connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hundred' AND wait_event = 'advisory'";
    let statements = "BEGIN\nSELECT pg_advisory_xact_lock_shared(64)\nCOMMIT\nSELECT 1";
    std::thread::scope(|scope| {
        let guests: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| run(&host, &url, statements)))
            .collect();
        wait_for("a full pool", || {
            (count(&mut watcher, connected) == POOL).then_some(())
        });
        holder
            .batch_execute("SELECT pg_advisory_unlock(64)")
            .unwrap();
        for guest in guests {
            let text = guest.join().unwrap().unwrap();
            assert!(text.ends_with("Int32(1)"), "{text}");
        }
    });
    let all = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hundred'";
    assert_eq!(count(&mut watcher, all), POOL, "never more");
}
