//! `localcluster`: serves the embedded Kubernetes API, and is its own supervisor of containers (`localcluster shim`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use localcluster::clock::SystemClock;
use localcluster::runner::Runner;
use localcluster::runner::process::{ProcessRunner, probe};
use localcluster::runner::simulated::SimulatedRunner;
use localcluster::server::{Server, Waker};
use localcluster::{Cluster, ClusterConfig, shim};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest wait for pods to end at shutdown: their grace of 2 seconds, and as much again for reporting.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(4);

/// An embedded Kubernetes API for Jobs, Pods and logs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Where objects, pods and logs are kept over restarts; a temporary folder when not given.
    #[arg(long)]
    state_dir: Option<PathBuf>,
    /// What pods are.
    #[arg(long, value_enum, default_value = "process")]
    runner: RunnerKind,
    /// What simulated pods without the annotation do, JSON as in the annotation.
    #[arg(long)]
    simulate: Option<String>,
    /// How pods see the filesystem; by default the best that works here.
    #[arg(long, value_enum, default_value = "auto")]
    isolation: IsolationKind,
    /// Logs are rotated whenever they have so many bytes more, as kubelets do at 10 MiB; never when not given.
    #[arg(long)]
    log_file_bytes: Option<u64>,
    /// The bearer token callers must show; everybody may call when not given.
    #[arg(long, env = "LOCALCLUSTER_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RunnerKind {
    /// Local processes.
    Process,
    /// Nothing but their status; the annotation `localcluster/simulate` decides.
    Simulated,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IsolationKind {
    /// Try them in this order.
    Auto,
    /// Mount and PID namespaces, as root.
    Namespaces,
    /// The same in a user namespace.
    UserNamespace,
    /// None: mount paths in commands are rewritten.
    Rewrite,
}

#[derive(Subcommand)]
enum Command {
    /// Supervises one container; started by the server only.
    #[command(hide = true)]
    Shim {
        /// Try an isolation and exit.
        #[arg(long)]
        probe: Option<String>,
        /// The container's folder.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Shim { probe, folder }) = arguments.command {
        // One thread only from here on: the supervisor forks.
        let code = match probe {
            Some(isolation) => shim::try_isolation(&isolation, &folder),
            None => shim::run(&folder),
        };
        return ExitCode::from(code.clamp(0, 255) as u8);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    match runtime.block_on(serve(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    eprintln!("localcluster: {error}");
    ExitCode::FAILURE
}

async fn serve(arguments: &Arguments) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let temporary = match &arguments.state_dir {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("localcluster-")
                .tempdir()
                .map_err(text)?,
        ),
    };
    let folder = match (&arguments.state_dir, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err("no state folder".to_owned()),
    };
    std::fs::create_dir_all(&folder).map_err(text)?;
    let folder = folder.canonicalize().map_err(text)?;
    let listener = TcpListener::bind(&arguments.listen)
        .await
        .map_err(|error| format!("{}: {error}", arguments.listen))?;
    let waker = Waker::default();
    let runner = build_runner(arguments, &folder, waker.clone())?;
    let config = ClusterConfig {
        state_file: Some(folder.join("state.sqlite")),
        seed: seed(),
    };
    let cluster = Cluster::open(&config, Box::new(SystemClock), runner)?;
    let server = Server::new(cluster, arguments.token.clone(), waker);
    server.tick();
    let mut terminate = signal(SignalKind::terminate()).map_err(text)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(server.clone().run_controllers());
    tokio::spawn(server.clone().serve(listener));
    println!("Serving Kubernetes API http://{address}");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shut_down(&server).await;
    Ok(())
}

fn build_runner(
    arguments: &Arguments,
    folder: &Path,
    waker: Waker,
) -> Result<Box<dyn Runner>, String> {
    if arguments.runner == RunnerKind::Simulated {
        let runner = match &arguments.simulate {
            Some(script) => SimulatedRunner::of(script)?,
            None => SimulatedRunner::default(),
        };
        return Ok(Box::new(runner));
    }
    // The running program itself, even when its file was replaced meanwhile.
    let program = Path::new("/proc/self/exe");
    let isolation = match arguments.isolation {
        IsolationKind::Auto => probe(program, folder),
        IsolationKind::Namespaces => shim::Isolation::Namespaces,
        IsolationKind::UserNamespace => shim::Isolation::UserNamespace,
        IsolationKind::Rewrite => shim::Isolation::Rewrite,
    };
    if isolation == shim::Isolation::Rewrite {
        eprintln!(
            "localcluster: no namespaces here: mount paths in commands are rewritten to the pod's folder"
        );
    }
    let runner = ProcessRunner::new(
        folder,
        program,
        isolation,
        Arc::new(move |what| waker.wake(what)),
    );
    let runner = runner.map_err(|error| error.to_string())?;
    if let Some(bytes) = arguments.log_file_bytes {
        runner.rotate_logs(bytes);
    }
    Ok(Box::new(runner))
}

/// A seed that differs between runs: names must not repeat those of an earlier run.
fn seed() -> u64 {
    let time = jiff::Timestamp::now().as_nanosecond() as u64;
    time ^ (u64::from(std::process::id()) << 32)
}

async fn shut_down(server: &Arc<Server>) {
    server.cluster().shut_down();
    let limit = Instant::now() + SHUTDOWN_LIMIT;
    let mut changed = server.changes();
    loop {
        server.tick();
        if server.cluster().idle() {
            return;
        }
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() || tokio::time::timeout(left, changed.changed()).await.is_err() {
            eprintln!("localcluster: some pods did not end in time");
            return;
        }
    }
}
