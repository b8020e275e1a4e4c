//! Figures of Executor, each beside a reference of the same run: how fast it accepts, drains, idles, reads, tells ends and starts.
//!
//! `scripts/bench` builds and runs it. It prints tables, and writes JSON ([`report`]) and the tables and charts of
//! docs/PERFORMANCE.md where it is told to. Services are started by the library of `tests/e2e`, whose environment
//! variables choose host and cluster.

mod accept;
mod anatomy;
mod chart;
mod database;
mod drain;
mod flood;
mod floor;
mod idle;
mod jobs;
mod latency;
mod load;
mod machine;
mod page;
mod process;
mod real;
mod records;
mod report;
mod size;
mod stage;
mod start;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use e2e::ClusterKind;

use database::Kind;
use jobs::Raw;
use report::Group;
use size::Size;
use wire::Server;

/// Measures Executor beside references of the same run.
#[derive(Parser)]
struct Arguments {
    /// What to measure [default: all that the cluster at hand can show].
    names: Vec<Name>,
    /// How much.
    #[arg(long, value_enum, default_value = "full")]
    size: Size,
    /// On which database [default: SQLite, and PostgreSQL where there is a server].
    #[arg(long, value_enum)]
    database: Option<Kind>,
    /// Where the JSON goes.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The folder of PERFORMANCE.md, whose tables and charts are replaced.
    #[arg(long)]
    write: Option<PathBuf>,
    /// End with 1 when a target is missed.
    #[arg(long)]
    strict: bool,
    /// Measure `accept` at this Executor, which runs already, and start none.
    #[arg(long)]
    url: Option<String>,
    /// The API server for raw Jobs beside --url.
    #[arg(long, requires = "url")]
    kube_url: Option<String>,
    /// A file with its bearer token.
    #[arg(long, requires = "kube_url")]
    kube_token_file: Option<PathBuf>,
    /// The file of its CA.
    #[arg(long, requires = "kube_url")]
    kube_ca: Option<PathBuf>,
    /// The namespace of raw Jobs.
    #[arg(long, default_value = "default")]
    namespace: String,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// POST /executions beside raw Jobs and the database alone.
    Accept,
    /// What an acceptance is made of.
    Anatomy,
    /// A long queue through a limit.
    Drain,
    /// One tenant's answers while another floods.
    Flood,
    /// Ticks in which nothing changes.
    Idle,
    /// Reading among many records.
    Records,
    /// From a script's end to FINISHED.
    Latency,
    /// Start and memory beside the host alone, sizes.
    Start,
    /// POST to FINISHED beside a raw Job, and POST beside `kubectl create job`; on a real cluster only.
    Real,
}

impl Name {
    /// What each kind of cluster can show.
    fn usual(cluster: &ClusterKind) -> Vec<Self> {
        if cluster.is_real() {
            return vec![Self::Accept, Self::Real];
        }
        vec![
            Self::Start,
            Self::Accept,
            Self::Anatomy,
            Self::Drain,
            Self::Flood,
            Self::Idle,
            Self::Records,
            Self::Latency,
        ]
    }

    fn measure(self, size: Size, kinds: &[Kind]) -> Vec<Group> {
        let on_all = |measure: fn(Size, Kind) -> Group| {
            let kinds = kinds.iter();
            kinds.map(|kind| measure(size, *kind)).collect()
        };
        match self {
            Self::Accept => kinds
                .iter()
                .flat_map(|kind| accept::measure(size, *kind))
                .collect(),
            Self::Anatomy => on_all(anatomy::measure),
            Self::Drain => on_all(drain::measure),
            Self::Flood => on_all(flood::measure),
            Self::Idle => on_all(idle::measure),
            Self::Records => on_all(records::measure),
            Self::Latency => on_all(latency::measure),
            Self::Start => vec![start::measure(size)],
            Self::Real => vec![real::measure(size)],
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let machine = machine::here();
    let cluster = ClusterKind::from_env();
    let groups: Vec<Group> = if let Some(url) = &arguments.url {
        if arguments.names.iter().any(|name| *name != Name::Accept) {
            eprintln!("bench: at --url only accept can be measured");
            return ExitCode::from(2);
        }
        vec![accept::measure_at(arguments.size, url, raw(&arguments))]
    } else {
        let names = if arguments.names.is_empty() {
            Name::usual(&cluster)
        } else {
            arguments.names.clone()
        };
        let known = Name::usual(&cluster);
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            eprintln!("bench: {name:?} cannot be measured on this kind of cluster");
            return ExitCode::from(2);
        }
        let Some(kinds) = kinds(arguments.database) else {
            eprintln!("bench: there is no PostgreSQL: run it by tests/postgres/with-postgres.sh");
            return ExitCode::from(2);
        };
        if !cluster.is_real() {
            say(
                "`kubectl create job` is measured on a real cluster only: scripts/cluster exec scripts/bench real",
            );
        }
        let measure = |name: &Name| name.measure(arguments.size, &kinds);
        let measured = names.iter().map(measure);
        measured.flatten().collect()
    };
    println!("{}\n", machine::line(&machine));
    for group in &groups {
        println!(
            "## {}\n\n{}\n\n{}",
            group.name(),
            group.about(),
            group.table()
        );
    }
    if let Some(file) = &arguments.json {
        let json = report::json(&machine, arguments.size.name(), &groups);
        let written = std::fs::write(file, format!("{json:#}\n"));
        written.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
    if let Some(folder) = &arguments.write {
        page::write(folder, &machine, &groups);
    }
    let missed: Vec<String> = groups.iter().flat_map(Group::missed).collect();
    for what in &missed {
        eprintln!("bench: the target is missed: {what}");
    }
    ExitCode::from(u8::from(arguments.strict && !missed.is_empty()))
}

/// The databases to measure on, or that one if it is here.
fn kinds(asked: Option<Kind>) -> Option<Vec<Kind>> {
    let all = Kind::all();
    match asked {
        Some(kind) => all.contains(&kind).then(|| vec![kind]),
        None => Some(all),
    }
}

/// The API server of --kube-url, and the image of its Jobs.
fn raw(arguments: &Arguments) -> Option<(Raw, String)> {
    let url = arguments.kube_url.as_ref()?;
    let token = arguments.kube_token_file.as_ref().map(|file| {
        let text = std::fs::read_to_string(file);
        text.unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    });
    let token = token.unwrap_or_default();
    let server = Server::new(url, token.trim(), arguments.kube_ca.as_deref());
    Some((Raw::new(server, &arguments.namespace), jobs::image()))
}

/// Progress goes to standard error, which is not part of the result.
fn say(text: &str) {
    eprintln!("bench: {text}");
}
