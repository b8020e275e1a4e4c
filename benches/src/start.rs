//! Starting: from the host's start to its first answers, its memory then, each beside the host alone, and the sizes of what is loaded.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::{Client, HostKind, Options, Process, Stack, TICK_TOKEN, poll, top};

use crate::process;
use crate::report::{Figure, Group, median, ratio};
use crate::say;
use crate::size::Size;

/// A start of a host whose components are compiled.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A tick that only marks that somebody ticks; without it, readiness waits for the cron's next match.
const TICK: &str = "/internal/tick?budgetSeconds=0";

/// Where the component for the host alone is, if not where `scripts/bench` builds it.
const GUEST_VARIABLE: &str = "EXECUTOR_BENCH_GUEST";

/// The component that devhost's tests run, as it is built for release. To `GET /` it answers a few bytes.
const GUEST: &str = "target/wasm32-wasip2/release/devhost_test_guest.wasm";

/// What starts of one host showed, in rounds; times in milliseconds, memory in MiB.
#[derive(Default)]
struct Starts {
    alive: Vec<f64>,
    ready: Vec<f64>,
    memory: Vec<f64>,
}

/// Runs it.
pub fn measure(size: Size) -> Group {
    let rounds = size.pick(9, 3, 1);
    let mut stack = Stack::start(Options::default());
    let alone = Alone::beside(&stack);
    let (mut service, mut host) = (Starts::default(), Starts::default());
    if let Some(alone) = &alone {
        say("start: the host alone, which compiles its component");
        host.of_alone(alone);
        host = Starts::default();
    }
    for round in 0..rounds {
        say(&format!("start: round {}", round + 1));
        stack.kill_host(0);
        if let Some(alone) = &alone {
            host.of_alone(alone);
        }
        service.of_service(&mut stack);
    }
    let about = format!(
        "{rounds} starts with components that are compiled already. Ready is with one tick asked for at once; else the cron's comes \
         within ten seconds. The host alone has one HTTP component that only answers, and no cron; the two are started in turns."
    );
    let mut group = Group::new("start", &about);
    tell(&mut group, &service, &host);
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

fn tell(group: &mut Group, service: &Starts, host: &Starts) {
    let mut beside = |what: &str, ours: &[f64], alone: &str, theirs: &[f64], unit: &'static str| {
        let figure = Figure::new(what, median(ours), unit);
        if theirs.is_empty() {
            group.add(figure);
        } else {
            group.add(figure.by(ratio(ours, theirs), alone));
            group.add(Figure::new(alone, median(theirs), unit));
        }
    };
    beside(
        "from the start to 200 of /healthz",
        &service.alive,
        "from the start to 200 of the host alone",
        &host.alive,
        "ms",
    );
    beside(
        "memory of the host when ready",
        &service.memory,
        "memory of the host alone",
        &host.memory,
        "MiB",
    );
    let what = "from the start to 200 of /readyz";
    group.add(Figure::new(what, median(&service.ready), "ms"));
}

impl Starts {
    /// Starts the service, whose host was killed, and leaves it running.
    fn of_service(&mut self, stack: &mut Stack) {
        let begun = Instant::now();
        stack.restart_host(0);
        let client = stack.client();
        client.get("/healthz").expect(200);
        self.alive.push(milliseconds(begun));
        let token = format!("Bearer {TICK_TOKEN}");
        let ticked = client.send("POST", TICK, &[("authorization", &token)], None);
        ticked.unwrap_or_else(|e| panic!("{e}")).expect(200);
        let answers = poll(READY_WITHIN, || {
            (client.get("/readyz").status == 200).then_some(())
        });
        assert!(answers.is_some(), "not ready after {READY_WITHIN:?}");
        self.ready.push(milliseconds(begun));
        let memory = process::memory_mebibytes(stack.host_pid(0));
        self.memory.push(memory);
    }

    /// Starts the host alone, which is gone afterwards.
    fn of_alone(&mut self, alone: &Alone) {
        let begun = Instant::now();
        let mut host = alone.start();
        Client::new(&host.url).get("/").expect(200);
        self.alive.push(milliseconds(begun));
        self.memory.push(process::memory_mebibytes(host.pid()));
        host.kill();
    }
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1_000.0
}

/// The host without the service.
struct Alone {
    folder: PathBuf,
}

impl Alone {
    /// One in that stack's folder; none where its component was not built, which is told.
    fn beside(stack: &Stack) -> Option<Self> {
        let guest =
            std::env::var_os(GUEST_VARIABLE).map_or_else(|| top().join(GUEST), PathBuf::from);
        if !guest.is_file() {
            say(&format!(
                "start: there is no {}, so the host alone is left out: scripts/bench builds it",
                guest.display()
            ));
            return None;
        }
        let folder = stack.shared_file("alone");
        let manifest = format!(
            "spin_manifest_version = 2\n[application]\nname = \"alone\"\n\
             [[trigger.http]]\nroute = \"/...\"\ncomponent = \"alone\"\n\
             [component.alone]\nsource = {:?}\n",
            guest.display().to_string()
        );
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(folder.join("spin.toml"), manifest));
        written.unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        Some(Self { folder })
    }

    fn start(&self) -> Process {
        let mut command = Command::new(HostKind::from_env().binary());
        command.current_dir(&self.folder);
        // As the service's: what was compiled once is not compiled again.
        command.env(
            "DEVHOST_COMPILED_DIR",
            top().join("target/devhost-compiled"),
        );
        command.args(["up", "--from", "spin.toml", "--listen", "127.0.0.1:0"]);
        command.args(["--state-dir", "state"]);
        Process::start("alone", &mut command, &self.folder, "Serving ")
    }
}
