//! A few histories on every test run. Many more are played by `scripts/test`, with the optimized program of this room.

use sim::{Mutant, Report, run};

/// So many histories are played, and as many are replayed. Unoptimized, each takes a good part of a second.
const SEEDS: usize = 20;

/// A mistake that any history with a Job shows is noticed within so many.
const SEEDS_FOR_A_PLAIN_MISTAKE: u64 = 5;

/// The first seed: `SIM_SEED`, to replay one.
fn first() -> u64 {
    std::env::var("SIM_SEED").map_or(0, |seed| seed.parse().expect("SIM_SEED is a number"))
}

#[test]
fn what_must_hold_holds_and_each_seed_replays_bit_for_bit() {
    let replays_one = std::env::var("SIM_SEED").is_ok();
    let count = if replays_one { 1 } else { SEEDS };
    let reports: Vec<Report> = (first()..)
        .map(|seed| run(seed, None))
        .take(count)
        .collect();
    // The other way round: what was played before must not matter.
    for report in reports.iter().rev() {
        let seed = report.seed;
        assert!(report.violations.is_empty(), "{report}");
        let again = run(seed, None);
        let differs = report.lines.iter().zip(&again.lines).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed} went another way");
        assert_eq!(report.hash, again.hash, "seed {seed} went another way");
    }
}

#[test]
fn histories_differ_by_their_seed() {
    assert_ne!(run(0, None).hash, run(1, None).hash);
}

#[test]
fn a_plain_mistake_is_noticed() {
    let noticed = (0..SEEDS_FOR_A_PLAIN_MISTAKE)
        .map(|seed| run(seed, Some(Mutant::OrphanedPods)))
        .find(|report| !report.violations.is_empty());
    let report = noticed.expect("pods without their Job are noticed");
    assert!(
        report.violations.iter().all(|what| what.starts_with("I7")),
        "{report}"
    );
}
