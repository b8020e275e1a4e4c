//! Starting: from the host's start to its first answers, its memory then, and the sizes of what is loaded.

use std::time::{Duration, Instant};

use e2e::{Options, Stack, TICK_TOKEN, poll, top};

use crate::process;
use crate::report::{Figure, Group, median};
use crate::say;
use crate::size::Size;

/// A start of a host whose components are compiled.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A tick that only marks that somebody ticks; without it, readiness waits for the cron's next match.
const TICK: &str = "/internal/tick?budgetSeconds=0";

/// Runs it.
pub fn measure(size: Size) -> Group {
    let rounds = size.pick(9, 3, 1);
    let mut stack = Stack::start(Options::default());
    let (mut alive, mut ready, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        say(&format!("start: round {}", round + 1));
        stack.kill_host(0);
        let begun = Instant::now();
        stack.restart_host(0);
        let client = stack.client();
        client.get("/healthz").expect(200);
        alive.push(begun.elapsed().as_secs_f64() * 1_000.0);
        let token = format!("Bearer {TICK_TOKEN}");
        let ticked = client.send("POST", TICK, &[("authorization", &token)], None);
        ticked.unwrap_or_else(|e| panic!("{e}")).expect(200);
        let answers = poll(READY_WITHIN, || {
            (client.get("/readyz").status == 200).then_some(())
        });
        assert!(answers.is_some(), "not ready after {READY_WITHIN:?}");
        ready.push(begun.elapsed().as_secs_f64() * 1_000.0);
        memory.push(process::memory_mebibytes(stack.host_pid(0)));
    }
    let about = format!(
        "{rounds} starts with components that are compiled already. Ready is with one tick asked for at once; else the cron's comes \
         within ten seconds."
    );
    let mut group = Group::new("start", &about);
    group.add(Figure::new(
        "from the start to 200 of /healthz",
        median(&alive),
        "ms",
    ));
    group.add(Figure::new(
        "from the start to 200 of /readyz",
        median(&ready),
        "ms",
    ));
    let what = "memory of the host when ready";
    group.add(Figure::new(what, median(&memory), "MiB"));
    for component in ["api", "reconciler"] {
        let path = top().join(format!("target/wasm32-wasip2/release/{component}.wasm"));
        let bytes = path.metadata().map_or(0, |file| file.len());
        // Some megabytes.
        let size = bytes as f64 / 1024.0 / 1024.0;
        group.add(Figure::new(
            &format!("size of {component}.wasm"),
            size,
            "MiB",
        ));
    }
    group
}
