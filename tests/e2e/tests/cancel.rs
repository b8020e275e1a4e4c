//! `POST /executions/{id}/cancel` and `DELETE`: ended with proof, or honestly finished.

use std::time::Duration;

use e2e::{Client, Seed, Stack, wait_for};
use serde_json::{Value, json};

/// A start, a grace of ten seconds and the deletion of a pod, on two busy cores with a real kubelet.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

fn cancel(client: &Client, id: &str) -> e2e::Answer {
    client.post_with(&format!("/executions/{id}/cancel"), &[], &json!({}))
}

fn delete(client: &Client, id: &str) -> u16 {
    match client.send("DELETE", &format!("/executions/{id}"), &[], None) {
        Ok(answer) => answer.status,
        Err(e) => panic!("{e}"),
    }
}

fn small(script: &str) -> Value {
    json!({
        "script": script,
        "resources": { "cpu": "10m", "memory": "16Mi" },
        "timeouts": { "graceSeconds": 2 },
    })
}

#[test]
fn a_running_script_is_canceled_and_its_log_kept() {
    let stack = Stack::shared();
    let client = stack.client();
    let id = client.submit(&small(
        "trap 'echo bye; exit 0' TERM; echo one; sleep 1000 & wait",
    ));
    wait_for("its first line", ENDS_WITHIN, || {
        (client.log(&id) == b"one\n").then_some(())
    });
    assert_eq!(delete(&client, &id), 409, "it is not finished");
    let asked = cancel(&client, &id).expect(202).json();
    assert!(asked["cancelRequestedAt"].is_string(), "{asked}");
    let end = client.finished(&id, ENDS_WITHIN);
    assert_eq!(stack.kube().pods_of(&id), Vec::<String>::new(), "{end}");
    assert_eq!(
        (&end["outcome"], &end["reason"]),
        (&json!("CANCELED"), &json!("CanceledByCaller"))
    );
    let log = String::from_utf8_lossy(&client.log(&id)).into_owned();
    assert!(
        log == "one\nbye\n" || (log == "one\n" && end["log"]["complete"] == false),
        "{log:?} of {end}"
    );
    let again = cancel(&client, &id).expect(409).json();
    assert_eq!(again["outcome"], "CANCELED");
    assert_eq!(delete(&client, &id), 204);
    client.get(&format!("/executions/{id}")).expect(404);
    assert_eq!(delete(&client, &id), 404);
}

/// One execution whose script ends by itself after a while, and is canceled at some moment.
fn canceled_at_some_moment(stack: &Stack, lives_millis: u64, cancel_after: Duration) -> Value {
    let client = stack.client();
    let lives = format!("{}.{:03}", lives_millis / 1000, lives_millis % 1000);
    let id = client.submit(&small(&format!("echo begun; sleep {lives}; exit 3")));
    // Not a wait for a condition: the moment itself is what is tried.
    std::thread::sleep(cancel_after);
    let answer = cancel(&client, &id);
    assert!(matches!(answer.status, 202 | 409), "{}", answer.text());
    let end = client.finished(&id, ENDS_WITHIN);
    if end["outcome"] == "CANCELED" {
        assert_eq!(stack.kube().pods_of(&id), Vec::<String>::new(), "{end}");
        assert_eq!(answer.status, 202, "{end}");
    } else {
        assert_eq!(
            (&end["outcome"], &end["exitCode"]),
            (&json!("FAILED"), &json!(3)),
            "{end}"
        );
        assert_eq!(client.log(&id), b"begun\n");
    }
    end
}

#[test]
fn at_fifty_moments_it_is_canceled_or_honestly_finished() {
    const MOMENTS: usize = 50;
    const CALLERS: usize = 5;
    let stack = Stack::shared();
    let mut seed = Seed::new("cancel");
    // Before the start, during it, while it runs, and after its end, here and on a real cluster.
    let moments: Vec<(u64, Duration)> = (0..MOMENTS)
        .map(|_| (seed.below(3000), Duration::from_millis(seed.below(5000))))
        .collect();
    let stack = &*stack;
    let ends: Vec<Value> = std::thread::scope(|scope| {
        let callers: Vec<_> = moments
            .chunks(MOMENTS / CALLERS)
            .map(|some| {
                scope.spawn(|| {
                    some.iter()
                        .map(|(lives, after)| canceled_at_some_moment(stack, *lives, *after))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        callers
            .into_iter()
            .flat_map(|caller| caller.join().expect("a caller"))
            .collect()
    });
    let canceled = ends.iter().filter(|e| e["outcome"] == "CANCELED").count();
    println!("{canceled} of {MOMENTS} were canceled");
    assert!((1..MOMENTS).contains(&canceled), "all ended alike");
    assert_eq!(
        stack.kube().jobs_left_after(ENDS_WITHIN),
        Vec::<String>::new()
    );
}
