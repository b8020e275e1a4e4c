//! The cron trigger.

use crate::support::{Setup, wait_for};

const EVERY_SECOND: &str =
    "[[trigger.cron]]\ncomponent = \"guest\"\ncron_expression = \"* * * * * *\"";

fn timestamps(notes: &[String], what: &str) -> Vec<u64> {
    let prefix = format!("cron {what} ");
    notes
        .iter()
        .filter_map(|note| note.strip_prefix(&prefix)?.parse().ok())
        .collect()
}

#[test]
fn it_fires_at_each_match_and_calls_overlap() {
    let host = Setup::new()
        .trigger(EVERY_SECOND)
        .component("[component.guest.variables]\ncron_pause_ms = \"5000\"")
        .start();
    let notes = wait_for("two ends", || {
        let notes = host.notes();
        (timestamps(&notes, "end").len() >= 2).then_some(notes)
    });
    let (starts, ends) = (timestamps(&notes, "start"), timestamps(&notes, "end"));
    // The second call started while the first one still ran.
    assert!(starts[1].abs_diff(starts[0]) < 5, "{starts:?}");
    // Which of the overlapping calls ends first is up to the machine.
    assert!(starts.contains(&ends[0]), "{starts:?} {ends:?}");
    let first_end = notes
        .iter()
        .position(|note| note.starts_with("cron end"))
        .unwrap();
    assert!(
        timestamps(&notes[..first_end], "start").len() >= 2,
        "{notes:?}"
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(now - starts[0] < 60, "{starts:?} at {now}");
}

#[test]
fn failures_are_logged_and_the_next_call_comes() {
    for (mode, said) in [("trap", "wasm trap"), ("error", "asked to fail in cron")] {
        let host = Setup::new()
            .trigger(EVERY_SECOND)
            .component(&format!(
                "[component.guest.variables]\ncron_mode = \"{mode}\""
            ))
            .start();
        wait_for("two starts", || {
            (timestamps(&host.notes(), "start").len() >= 2).then_some(())
        });
        host.wait_for_stderr("guest failed on its cron event");
        host.wait_for_stderr(said);
    }
}

#[test]
fn a_running_call_is_drained() {
    let setup = Setup::new()
        .trigger(EVERY_SECOND)
        .component("[component.guest.variables]\ncron_pause_ms = \"2000\"");
    let mut host = setup.start();
    wait_for("a start", || {
        (!timestamps(&host.notes(), "start").is_empty()).then_some(())
    });
    host.signal("TERM");
    assert_eq!(host.wait().code(), Some(0));
    let notes = Setup::notes_in(setup.dir());
    assert_eq!(timestamps(&notes, "start"), timestamps(&notes, "end"));
}
