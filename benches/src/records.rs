//! Reading among a million records: one by its id, the first page and a page far down, beside the same among a hundred.

use std::time::Duration;

use e2e::{Client, Options, Stack};

use crate::accept::submission;
use crate::database::{Connection, Kind};
use crate::load::{self, Load};
use crate::process;
use crate::report::{Figure, Group, percentile, ratio};
use crate::size::Size;
use crate::stage::base;
use crate::wire::Server;
use crate::{say, stage};

/// A script of 1 KB that writes 2 KB.
const SCRIPT_BYTES: usize = 1_000;
const LOG_BYTES: usize = 2_000;

/// Records made in one transaction, so that its journal stays small.
const CHUNK: u32 = 50_000;

/// The page that is far down.
const DEEP_PAGE: u32 = 10_000;

/// The largest page, with which the way down is walked.
const STEP: u32 = 200;

/// Records in the small database, to compare with.
const FEW: u32 = 100;

/// The first end.
const END_WITHIN: Duration = Duration::from_secs(60);

/// The figures may differ by this much.
const TARGET: f64 = 1.5;

/// One way of reading: what, and its path.
type Way = (String, String);

struct Records {
    stack: Stack,
    server: Server,
    ways: Vec<Way>,
    times: Vec<Vec<Duration>>,
    medians: Vec<Vec<f64>>,
}

/// Runs it on that database.
pub fn measure(size: Size, kind: Kind) -> Group {
    let count: u32 = size.pick(1_000_000, 50_000, 1_000);
    let deep_page = size.pick(DEEP_PAGE, DEEP_PAGE, 100);
    // Three quarters of the records are in the list, and the page must be among them.
    let limit = (count / 4 * 3 / (deep_page + 1)).clamp(1, 50);
    let mut few = start(kind, FEW, limit, None);
    let mut many = start(kind, count, limit, Some(deep_page));
    let memory_before = process::memory_mebibytes(many.stack.host_pid(0));
    for round in 0..size.rounds() {
        say(&format!("records: round {}", round + 1));
        many.read(size);
        few.read(size);
    }
    let memory_after = process::memory_mebibytes(many.stack.host_pid(0));
    let about = format!(
        "{count} records of {SCRIPT_BYTES} bytes of script and {LOG_BYTES} of log, on {}, read through HTTP by one caller, beside \
         {FEW} records. Pages are of the list filtered by `outcome=SUCCEEDED`, {limit} items each.",
        kind.title(),
    );
    let mut group = Group::new(&format!("records-{}", kind.name()), &about);
    let name = |records: u32, way: &Way| format!("{}, of {records}, p50", way.0);
    let first_page = name(count, &many.ways[1]);
    for (index, way) in many.ways.iter().enumerate() {
        let figure = Figure::time(&name(count, way), percentile(&many.times[index], 0.5));
        group.add(if index < few.ways.len() {
            let by = ratio(&many.medians[index], &few.medians[index]);
            figure.by(by, &name(FEW, &few.ways[index])).at_most(TARGET)
        } else {
            let by = ratio(&many.medians[index], &many.medians[1]);
            figure.by(by, &first_page).at_most(TARGET)
        });
    }
    for (index, way) in few.ways.iter().enumerate() {
        group.add(Figure::time(
            &name(FEW, way),
            percentile(&few.times[index], 0.5),
        ));
    }
    let before = "the host's memory before";
    group.add(
        Figure::new("the host's memory after", memory_after, "MiB")
            .by(memory_after / memory_before, before),
    );
    group.add(Figure::new(before, memory_before, "MiB"));
    group
}

fn start(kind: Kind, count: u32, limit: u32, deep_page: Option<u32>) -> Records {
    say(&format!("records: making {count}"));
    let (mut stack, database) = stage::start_on(kind, Options::default());
    let client = stack.client();
    let line = "0123456789012345678901234567890123456789012345678\n";
    let mut script = format!(
        "for i in $(seq {}); do printf '{line}'; done\n",
        LOG_BYTES / line.len()
    );
    script += &"#".repeat(SCRIPT_BYTES - script.len());
    let id = client.submit(&submission(&script, 600));
    let model = client.finished(&id, END_WITHIN);
    assert_eq!(model["log"]["bytes"], LOG_BYTES, "{model}");
    // Nobody else writes meanwhile.
    stack.kill_host(0);
    let mut connection = database.connect();
    // What is lost at a power cut is made again.
    connection.execute(match &connection {
        Connection::Sqlite(_) => "PRAGMA synchronous = OFF",
        Connection::Postgres(_) => "SET synchronous_commit = off",
    });
    let mut made = 1;
    while made < count {
        let now = (count - made).min(CHUNK);
        let quarter = |failed: &str, succeeded: &str| {
            format!("CASE WHEN n % 4 = 0 THEN {failed} ELSE {succeeded} END")
        };
        let outcome = quarter("'FAILED'", "'SUCCEEDED'");
        let reason = quarter("'NonZeroExit'", "'Completed'");
        let code = quarter("1", "0");
        let others = [
            ("outcome", &*outcome),
            ("reason", &*reason),
            ("exit_code", &*code),
        ];
        connection.copy(&id, made, now, &others);
        made += now;
    }
    // As a database that grew by and by would have done it itself.
    connection.execute("ANALYZE");
    drop(connection);
    stage::restart(&mut stack);
    let client = stack.client();
    let list = format!("/executions?outcome=SUCCEEDED&limit={limit}");
    let mut ways = vec![
        ("GET by id".to_owned(), format!("/executions/{id}")),
        ("first page".to_owned(), list.clone()),
    ];
    if let Some(page) = deep_page {
        let cursor = walk(&client, (page - 1) * limit);
        ways.push((format!("page {page}"), format!("{list}&cursor={cursor}")));
    }
    Records {
        server: Server::new(&base(&stack), "", None),
        times: vec![Vec::new(); ways.len()],
        medians: vec![Vec::new(); ways.len()],
        ways,
        stack,
    }
}

/// The cursor behind so many items of the list.
fn walk(client: &Client, items: u32) -> String {
    let (mut left, mut cursor) = (items, None::<String>);
    loop {
        let limit = left.min(STEP);
        let mut path = format!("/executions?outcome=SUCCEEDED&limit={limit}");
        if let Some(cursor) = &cursor {
            path += &format!("&cursor={cursor}");
        }
        let page = client.get(&path).expect(200).json();
        let next = page["next"].as_str().expect("the list is long enough");
        left -= limit;
        if left == 0 {
            return next.to_owned();
        }
        cursor = Some(next.to_owned());
    }
}

impl Records {
    fn read(&mut self, size: Size) {
        let most = size.pick(2_000, 300, 5);
        for (index, (_, path)) in self.ways.iter().enumerate() {
            let request = self.server.request("GET", path, None);
            let load = Load {
                callers: 1,
                time: size.turn(),
            };
            let measured = load::send(load, &self.server, &vec![request; most], 200);
            self.medians[index].push(percentile(&measured.latencies, 0.5).as_secs_f64());
            self.times[index].extend(measured.latencies);
        }
    }
}
