//! Full lists that are longer than a tick: they go on where they were, and keep nobody waiting.

use domain::{ExecutionId, Reason, Status};
use serde_json::json;

use crate::support::{Bench, Effect, refusal, submission};

/// How many executions there are in a long list.
const MANY: usize = 10;

/// How many objects a page has then.
const PAGE: u32 = 2;

/// More ticks than a long list takes.
const MOST_TICKS: usize = 40;

/// So many that run, and are known to.
fn running(bench: &Bench, count: usize) -> Vec<ExecutionId> {
    bench.script(600_000, 0, "");
    let ids = (0..count).map(|_| bench.submit_and_dispatch(&submission()));
    let ids = ids.collect();
    bench.tick(3);
    ids
}

/// From now on each page has few objects and takes a second; and a list is due.
fn make_lists_long(bench: &Bench) {
    bench.world.page.set(Some(PAGE));
    for what in ["LIST pods", "LIST jobs"] {
        bench.world.fault(what, u32::MAX, Effect::Slow(1));
    }
    bench.sql("UPDATE state SET value = '' WHERE name = 'listedAt'");
}

/// A tick has died.
fn forget_version(bench: &Bench) {
    bench.sql("UPDATE state SET value = '' WHERE name = 'podsResourceVersion'");
}

fn take_away(bench: &Bench, id: ExecutionId) {
    let name = bench.get(id).job_name();
    let target = format!("/apis/batch/v1/namespaces/runs/jobs/{name}");
    let policy = json!({"propagationPolicy": "Background"});
    let (code, _) = bench.world.ask("DELETE", &target, &policy);
    assert_eq!(code, 200);
    bench.world.pass(2);
}

/// Ticks until no list is under way or wanted any more; answers how many there were.
fn tick_until_listed(bench: &Bench, seconds: u64) -> usize {
    for ticks in 1..MOST_TICKS {
        let report = bench.tick(seconds);
        assert!(report.listed, "{report:?} {}", bench.state("listing"));
        if bench.state("listing").is_empty() {
            return ticks;
        }
    }
    panic!("it does not come to its end: {}", bench.state("listing"));
}

#[test]
fn a_list_goes_on_from_tick_to_tick_until_all_is_compared() {
    let bench = Bench::new();
    let ids = running(&bench, MANY);
    make_lists_long(&bench);
    // Of the first page, of one in the middle and of the last one; and whoever saw it died.
    forget_version(&bench);
    let gone = [ids[0], ids[4], ids[9]];
    for id in gone {
        take_away(&bench, id);
    }
    bench.world.requests.take();
    let ticks = tick_until_listed(&bench, 3);
    assert!(ticks > 2, "it took {ticks} ticks");
    for id in &ids {
        if gone.contains(id) {
            assert_eq!(bench.finished(*id).1, Reason::JobDeleted);
        } else {
            assert_eq!(bench.get(*id).status, Status::Running);
        }
    }
    // Seven are left, in four pages; a page is asked for again where a tick's end came between.
    let (pods, jobs) = (
        bench.world.count("LIST pods"),
        bench.world.count("LIST jobs"),
    );
    assert!(
        (4..=4 + 1 + ticks).contains(&pods),
        "{pods} in {ticks} ticks"
    );
    assert!((4..=4 + ticks).contains(&jobs), "{jobs} in {ticks} ticks");
    assert_eq!(bench.world.count("GET jobs"), gone.len());
    assert!(!bench.tick(3).listed, "it is complete");
}

#[test]
fn news_and_dispatches_do_not_wait_for_a_long_list() {
    let bench = Bench::new();
    running(&bench, MANY);
    make_lists_long(&bench);
    bench.script(500, 0, "hello\n");
    let queued = bench.submit(&submission()).id;
    bench.sql("UPDATE executions SET claim_until = 0 WHERE job_uid IS NULL");
    bench.tick(4);
    assert!(!bench.state("listing").is_empty(), "it is under way");
    assert_eq!(bench.finished(queued).1, Reason::Completed);
    // Nor in the next tick, which goes on with it.
    let another = bench.submit_and_dispatch(&submission());
    bench.tick(2);
    assert!(!bench.state("listing").is_empty(), "it is under way");
    assert_eq!(bench.finished(another).1, Reason::Completed);
}

#[test]
fn a_place_that_the_api_server_has_forgotten_is_left() {
    let strange = refusal(400, "BadRequest", "continue key is not valid");
    let expired = refusal(410, "Expired", "the provided continue parameter is too old");
    for effect in [None, Some(strange), Some(expired)] {
        for kind in ["pods", "jobs"] {
            let bench = Bench::new();
            let ids = running(&bench, MANY);
            make_lists_long(&bench);
            forget_version(&bench);
            take_away(&bench, ids[9]);
            let place = format!("\"kind\":\"{kind}\",\"continue\":\"");
            for _ in 0..MOST_TICKS {
                if bench.state("listing").contains(&place) {
                    break;
                }
                bench.tick(3);
            }
            assert!(bench.state("listing").contains(&place), "it is under way");
            bench.world.heal();
            match &effect {
                // It goes on at the same place, in the cluster as it is now.
                None => bench.world.compact(),
                Some(effect) => bench
                    .world
                    .fault(&format!("LIST {kind}"), 1, effect.clone()),
            }
            bench.tick(9);
            assert!(bench.world.all_faults_fired());
            assert_eq!(bench.state("listing"), "");
            assert_eq!(bench.finished(ids[9]).1, Reason::JobDeleted);
            assert_eq!(bench.get(ids[0]).status, Status::Running);
        }
    }
}

#[test]
fn what_is_missed_during_a_list_is_found_by_the_next_one() {
    let bench = Bench::new();
    let ids = running(&bench, MANY);
    make_lists_long(&bench);
    bench.tick(4);
    let under_way = bench.state("listing");
    assert!(under_way.contains("\"again\":false"), "{under_way}");
    // The list has passed by this one; whoever sees its pod go dies.
    take_away(&bench, ids[0]);
    forget_version(&bench);
    bench.tick(2);
    let under_way = bench.state("listing");
    assert!(under_way.contains("\"again\":true"), "{under_way}");
    tick_until_listed(&bench, 3);
    assert_eq!(bench.finished(ids[0]).1, Reason::JobDeleted);
    assert_eq!(bench.get(ids[1]).status, Status::Running);
}

#[test]
fn what_is_listed_and_known_costs_a_few_statements_a_page() {
    let bench = Bench::new();
    running(&bench, 60);
    bench.world.statements();
    assert!(!bench.tick(1).listed);
    let idle = bench.world.statements();
    bench.sql("UPDATE state SET value = '' WHERE name = 'listedAt'");
    bench.world.statements();
    assert!(bench.tick(1).listed);
    let listing = bench.world.statements();
    // The records of the pods and of the Jobs, those without a Job in two, the count and the time.
    assert!(listing <= idle + 7, "{listing} statements, {idle} else");
}
