//! Plays the histories of many seeds on every core, or replays one.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use sim::{Mutant, Report, run};

/// Plays histories of use cases and store under faults; each comes from its seed alone.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds, from that one on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Makes this mistake on purpose; then it is an error if no seed notices.
    #[arg(long)]
    mutant: Option<Mutant>,
    /// Makes each of the mistakes in turn, each with up to so many seeds.
    #[arg(long, conflicts_with = "mutant")]
    mutants: bool,
    /// Prints the whole history, also of a seed where everything held.
    #[arg(long)]
    history: bool,
    /// How many threads play; by default as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let good = if arguments.mutants {
        // Each, also after one that was missed.
        let missed = Mutant::ALL
            .into_iter()
            .filter(|mutant| !is_caught(&arguments, *mutant));
        missed.count() == 0
    } else if let Some(mutant) = arguments.mutant {
        is_caught(&arguments, mutant)
    } else {
        all_hold(&arguments)
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays seeds until one fails; answers its report, and how many were played.
fn search(arguments: &Arguments, mutant: Option<Mutant>) -> (Option<Report>, u64) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or(cores);
    let (next, played) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = AtomicU64::new(arguments.seeds);
    // Histories share nothing, so each thread plays its own, and the lowest seed that fails is the answer.
    let play = || {
        let mut first: Option<Report> = None;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end.load(Ordering::Relaxed) {
                return first;
            }
            let report = run(arguments.seed + number, mutant);
            played.fetch_add(1, Ordering::Relaxed);
            if arguments.history && arguments.seeds == 1 {
                report.lines.iter().for_each(|line| println!("{line}"));
            }
            if !report.violations.is_empty() {
                end.fetch_min(number, Ordering::Relaxed);
                first = first.filter(|f| f.seed < report.seed).or(Some(report));
            }
        }
    };
    let reports = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        let joined = workers.into_iter().map(|w| w.join().expect("a history"));
        joined.flatten().collect::<Vec<Report>>()
    });
    let first = reports.into_iter().min_by_key(|report| report.seed);
    (first, played.into_inner())
}

fn all_hold(arguments: &Arguments) -> bool {
    let begun = Instant::now();
    let (failed, played) = search(arguments, None);
    println!(
        "{played} seeds from {} in {:.1} s",
        arguments.seed,
        begun.elapsed().as_secs_f64()
    );
    if let Some(report) = &failed {
        println!("{report}");
    }
    failed.is_none()
}

fn is_caught(arguments: &Arguments, mutant: Mutant) -> bool {
    let begun = Instant::now();
    let (caught, played) = search(arguments, Some(mutant));
    let seconds = begun.elapsed().as_secs_f64();
    match &caught {
        Some(report) => println!(
            "{mutant} is caught by seed {} ({played} seeds, {seconds:.1} s): {}",
            report.seed, report.violations[0]
        ),
        None => println!("{mutant} is not caught by {played} seeds ({seconds:.1} s)"),
    }
    if arguments.history
        && let Some(report) = &caught
    {
        println!("{report}");
    }
    caught.is_some()
}
