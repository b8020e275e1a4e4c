//! Measures how soon an end shows: on the embedded cluster beside a thousand others, on a real one beside a raw Job.
//!
//! `scripts/bench` runs it. What it measures is printed as JSON, and as a table for docs/PERFORMANCE.md.

mod ends;
mod raw_jobs;
mod report;

use std::path::PathBuf;

use e2e::ClusterKind;
use serde_json::json;

use report::Machine;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().map(PathBuf::from);
    let machine = Machine::here();
    let report = match ClusterKind::from_env() {
        ClusterKind::Embedded => ends::measure(),
        ClusterKind::Real(real) => raw_jobs::measure(&real),
    };
    println!("{}", report.table(&machine));
    let json = json!({ "machine": machine.json(), "measured": report.json() });
    match file {
        Some(file) => std::fs::write(&file, format!("{json:#}\n"))
            .unwrap_or_else(|e| panic!("{}: {e}", file.display())),
        None => println!("{json:#}"),
    }
    if !report.holds() {
        eprintln!("a target is missed");
        std::process::exit(1);
    }
}

/// Progress goes to standard error, which is not part of the result.
fn say(text: &str) {
    eprintln!("bench: {text}");
}
