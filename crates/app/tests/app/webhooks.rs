//! Webhooks: told once the outcome is stored, signed, until the receiver takes it or a day has passed.

use std::time::Duration;

use app::{Attempt, Delivery, DeliveryState, Redelivered, Runtime};
use app::{Caller, wire::ExecutionJson};
use domain::{ExecutionId, Status};

use crate::support::{Bench, Receipt, hooked_submission, submission};

const SECOND: Duration = Duration::from_secs(1);

/// How much later than planned an attempt may begin: a tick looks at the outbox five times a second.
const LATE_MILLIS: i128 = 250;

/// More steps than one life of an execution takes.
const MOST_STEPS: u32 = 600;

fn deliveries(bench: &Bench, id: ExecutionId) -> Vec<Delivery> {
    let deliveries = bench
        .world
        .run(bench.app().deliveries(&Caller::local(), id));
    deliveries.expect("the store answers").expect("it is there")
}

/// The only delivery.
fn delivery(bench: &Bench, id: ExecutionId) -> Delivery {
    let mut deliveries = deliveries(bench, id);
    assert_eq!(deliveries.len(), 1, "{deliveries:#?}");
    deliveries.remove(0)
}

/// An execution that ended, before anything is told of it.
fn ended(bench: &Bench) -> ExecutionId {
    bench.script(10, 0, "hello\n");
    let id = bench.submit_and_dispatch(&hooked_submission());
    bench.world.pass(5);
    id
}

fn plan(bench: &Bench, receipts: impl IntoIterator<Item = Receipt>) {
    bench.world.receipts.borrow_mut().extend(receipts);
}

/// Ticks whenever an attempt is due, until nothing is pending.
fn tick_until_settled(bench: &Bench, id: ExecutionId) -> Delivery {
    const MOST_ATTEMPTS: u32 = 20;
    for _ in 0..MOST_ATTEMPTS {
        bench.tick(1);
        let delivery = delivery(bench, id);
        let Some(next) = delivery.next_at else {
            return delivery;
        };
        bench
            .world
            .pass(next.duration_since(bench.world.now()).as_secs().max(0));
    }
    panic!("it is tried for ever: {:#?}", delivery(bench, id));
}

/// Status and error of each attempt.
fn told(delivery: &Delivery) -> Vec<(Option<u16>, &str)> {
    let of = |attempt| {
        let Attempt {
            status_code, error, ..
        }: &Attempt = attempt;
        (*status_code, error.as_deref().unwrap_or(""))
    };
    delivery.attempts.iter().map(of).collect()
}

#[test]
fn the_end_is_told_within_a_fraction_of_a_second_and_signed() {
    let bench = Bench::new();
    bench.script(2_000, 3, "hello\n");
    let id = bench.submit_and_dispatch(&hooked_submission());
    let (ticking, waiting) = (bench.app(), bench.app());
    let seen = bench.world.run(async {
        let seen = async {
            let view = waiting
                .wait_until_finished(&Caller::local(), id, 9 * SECOND)
                .await;
            let view = view.expect("the store answers").expect("it is there");
            assert_eq!(view.execution.status, Status::Finished);
            bench.world.now()
        };
        futures::join!(ticking.tick(9 * SECOND), seen).1
    });
    let received = bench.world.received.borrow();
    let [message] = received.as_slice() else {
        panic!("{received:#?}");
    };
    let late = message.at.duration_since(seen).as_millis();
    assert!(late <= LATE_MILLIS, "{late} ms after the end was seen");
    message.verify();
    assert_eq!(message.request.method(), "POST");
    assert_eq!(message.request.uri(), "https://example.org/hook?key=hidden");
    assert_eq!(message.header("content-type"), "application/json");
    assert_eq!(message.header("webhook-id"), id.to_string());
    assert!(
        !format!("{message:?}").contains("a-token"),
        "the API server's token went elsewhere: {message:?}"
    );
    let view = bench
        .world
        .run(bench.app().get(&Caller::local(), id))
        .expect("the store answers");
    let shown = serde_json::to_value(ExecutionJson::of(&view.expect("it is there")));
    assert_eq!(
        message.json(),
        shown.expect("JSON"),
        "the body is that of GET"
    );
    assert_eq!(message.json()["exitCode"], 3);
    let delivery = delivery(&bench, id);
    assert_eq!(
        (delivery.state, delivery.next_at),
        (DeliveryState::Delivered, None)
    );
    assert_eq!(told(&delivery), [(Some(204), "")]);
    let lines = bench.world.lines.borrow().join("\n");
    assert!(
        !lines.contains("hidden") && !lines.contains("whsec"),
        "{lines}"
    );
}

#[test]
fn who_has_no_webhook_is_not_spoken_of() {
    let bench = Bench::new();
    bench.script(10, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(5);
    bench.finished(id);
    assert!(bench.world.received.borrow().is_empty());
    assert_eq!(deliveries(&bench, id), []);
}

#[test]
fn a_receiver_that_fails_five_times_is_told_at_the_sixth() {
    let bench = Bench::new();
    let id = ended(&bench);
    plan(
        &bench,
        [
            Receipt::Status(500),
            Receipt::Refused,
            Receipt::Status(404),
            Receipt::Status(503),
            Receipt::Status(502),
        ],
    );
    let delivery = tick_until_settled(&bench, id);
    assert_eq!(delivery.state, DeliveryState::Delivered);
    assert_eq!(
        told(&delivery),
        [
            (Some(500), "the receiver answered 500"),
            (None, "the request was not sent: ConnectionRefused"),
            (Some(404), "the receiver answered 404"),
            (Some(503), "the receiver answered 503"),
            (Some(502), "the receiver answered 502"),
            (Some(204), ""),
        ]
    );
    let received = bench.world.received.borrow();
    assert_eq!(received.len(), 5, "all but the one that was refused");
    for message in received.iter() {
        message.verify();
        assert_eq!(message.header("webhook-id"), id.to_string());
        assert_eq!(message.request.body(), received[0].request.body());
    }
    let starts: Vec<_> = delivery.attempts.iter().map(|a| a.started_at).collect();
    for (pair, seconds) in starts.windows(2).zip([5_i128, 25, 90, 480, 1_200]) {
        let pause = pair[1].duration_since(pair[0]).as_millis();
        // The test's own steps are whole seconds.
        let most = seconds * 1_100 + 1_000 + LATE_MILLIS;
        assert!(
            (seconds * 1_000..=most).contains(&pause),
            "{pause} ms, not {seconds} s"
        );
    }
}

#[test]
fn a_receiver_that_never_takes_it_is_given_up_after_a_day() {
    let bench = Bench::new();
    let id = ended(&bench);
    plan(&bench, [Receipt::Status(500); 30]);
    let delivery = tick_until_settled(&bench, id);
    assert_eq!(delivery.state, DeliveryState::Failed);
    assert_eq!(delivery.attempts.len(), 12);
    let (first, last) = (&delivery.attempts[0], &delivery.attempts[11]);
    let hours = last.started_at.duration_since(first.started_at).as_hours();
    assert!((24..=26).contains(&hours), "{hours} h");
    let about_it = format!("executionId={id}");
    let lines = bench.world.lines.borrow();
    let tells = |l: &String| l.starts_with("a webhook was given up ") && l.contains(&about_it);
    assert!(lines.iter().any(tells), "{lines:?}");
}

#[test]
fn a_receiver_that_hangs_keeps_nobody_waiting() {
    let bench = Bench::new();
    let id = ended(&bench);
    plan(&bench, [Receipt::Hang]);
    let (first, second) = (bench.app(), bench.app());
    let begun = bench.world.now();
    let (first, (led, other)) = bench.world.run(async {
        let beside = async {
            let time = bench.time();
            time.sleep(SECOND).await;
            let other = match first
                .submit(&Caller::local(), &hooked_submission(), None)
                .await
            {
                Ok(app::Submitted::New { execution, .. }) => execution,
                other => panic!("it was not accepted: {other:?}"),
            };
            first.dispatch_submitted(&other, &hooked_submission()).await;
            time.sleep(3 * SECOND).await;
            // The first tick is over, but for the receiver that hangs.
            (second.tick(SECOND).await.expect("answers").leader, other.id)
        };
        futures::join!(first.scheduled_tick(3 * SECOND), beside)
    });
    assert!(
        first.expect("answers").leader && led,
        "the lease was given back in time"
    );
    let took = bench.world.now().duration_since(begun).as_secs();
    assert!((10..=13).contains(&took), "{took} s");
    assert_eq!(delivery(&bench, other).state, DeliveryState::Delivered);
    let hung = delivery(&bench, id);
    assert_eq!(hung.state, DeliveryState::Pending);
    assert_eq!(
        told(&hung),
        [(None, "the receiver did not answer within 10 s")]
    );
    assert_eq!(hung.attempts[0].duration_micros / 1_000_000, 10);
    assert_eq!(bench.world.received.borrow().len(), 2, "each was sent once");
    assert_eq!(
        tick_until_settled(&bench, id).state,
        DeliveryState::Delivered
    );
}

#[test]
fn a_receiver_that_hangs_does_not_keep_the_caller_of_a_tick_waiting() {
    let bench = Bench::new();
    let id = ended(&bench);
    plan(&bench, [Receipt::Hang]);
    let begun = bench.world.now();
    assert!(bench.tick(3).leader);
    let took = bench.world.now().duration_since(begun).as_millis();
    assert!((4_000..=5_100).contains(&took), "{took} ms for one of 3 s");
    // Nothing is lost by that: the attempt is noted, and the next one is made in its time.
    let hung = delivery(&bench, id);
    assert_eq!(hung.state, DeliveryState::Pending);
    let [(None, error)] = told(&hung)[..] else {
        panic!("{hung:?}");
    };
    assert_eq!(error, "the receiver did not answer within 4 s");
    let again = hung.next_at.expect("an attempt is planned");
    let pause = again.duration_since(bench.world.now()).as_secs();
    assert!((4..=5).contains(&pause), "{pause} s");
    assert_eq!(
        tick_until_settled(&bench, id).state,
        DeliveryState::Delivered
    );
    assert_eq!(bench.world.received.borrow().len(), 2, "no third time");
}

#[test]
fn gone_is_given_up_at_once() {
    let bench = Bench::new();
    let id = ended(&bench);
    plan(&bench, [Receipt::Status(410)]);
    let delivery = tick_until_settled(&bench, id);
    assert_eq!(delivery.state, DeliveryState::Failed);
    assert_eq!(
        told(&delivery),
        [(
            Some(410),
            "the receiver answered 410: it wants no more of these"
        )]
    );
    bench.world.pass(100_000);
    bench.tick(1);
    assert_eq!(bench.world.received.borrow().len(), 1);
}

#[test]
fn a_redirect_is_not_followed() {
    let bench = Bench::new();
    let id = ended(&bench);
    let inner = "http://169.254.169.254/latest/meta-data/";
    plan(&bench, [Receipt::With(307, "location", inner)]);
    let delivery = tick_until_settled(&bench, id);
    assert_eq!(
        told(&delivery),
        [
            (
                Some(307),
                "the receiver answered 307; redirects are not followed"
            ),
            (Some(204), "")
        ]
    );
    let hosts = bench.world.received.borrow();
    let hosts: Vec<_> = hosts.iter().map(|r| r.request.uri().host()).collect();
    assert_eq!(hosts, [Some("example.org"); 2]);
}

#[test]
fn a_receiver_may_ask_for_a_pause() {
    let bench = Bench::new();
    let id = ended(&bench);
    plan(&bench, [Receipt::With(429, "retry-after", "120")]);
    let delivery = tick_until_settled(&bench, id);
    let starts: Vec<_> = delivery.attempts.iter().map(|a| a.started_at).collect();
    let pause = starts[1].duration_since(starts[0]).as_secs();
    assert!((120..=122).contains(&pause), "{pause} s");
}

#[test]
fn wherever_an_instance_dies_the_end_is_told() {
    let mut twice = 0;
    for step in 1..MOST_STEPS {
        let bench = Bench::new();
        bench.script(600, 0, "hello\n");
        bench.world.crash_after(step);
        let life = async {
            let app = bench.app();
            let submission = hooked_submission();
            let accepted = app.submit(&Caller::local(), &submission, Some("key")).await;
            if let Ok(app::Submitted::New { execution, .. }) = accepted {
                app.dispatch_submitted(&execution, &submission).await;
            }
            app.tick(2 * SECOND).await.expect("the store answers");
        };
        let survived = bench.world.run_or_crash(life).is_some();
        bench.world.crash_after(u32::MAX);
        // Twice past a claim of the outbox.
        for _ in 0..2 {
            bench.world.pass(31);
            bench.tick(2);
        }
        let page = bench.world.run(bench.app().list(
            &Caller::local(),
            &app::Filter::default(),
            10,
            None,
        ));
        let Some(execution) = page.expect("the store answers").items.pop() else {
            continue;
        };
        assert_eq!(execution.status, Status::Finished, "after step {step}");
        let delivery = delivery(&bench, execution.id);
        assert_eq!(
            delivery.state,
            DeliveryState::Delivered,
            "after step {step}"
        );
        let received = bench.world.received.borrow();
        assert!(
            (1..=2).contains(&received.len()),
            "after step {step}: {received:?}"
        );
        twice += u32::from(received.len() == 2);
        for message in received.iter() {
            message.verify();
            assert_eq!(message.header("webhook-id"), execution.id.to_string());
            assert_eq!(message.json()["status"], "FINISHED");
            assert_eq!(message.request.body(), received[0].request.body());
        }
        if survived {
            assert!(twice > 0, "no death fell between sending and storing");
            return;
        }
    }
    panic!("the life of an execution does not end");
}

#[test]
fn a_delivery_that_failed_can_be_asked_for_again() {
    let bench = Bench::new();
    let id = ended(&bench);
    plan(&bench, [Receipt::Status(410), Receipt::Status(500)]);
    bench.tick(1);
    let redeliver = |number| {
        let asked = bench
            .world
            .run(bench.app().redeliver(&Caller::local(), id, number));
        asked.expect("the store answers")
    };
    assert_eq!(redeliver(2), Redelivered::Missing);
    assert_eq!(redeliver(1), Redelivered::Pending(2));
    bench.tick(1);
    // It waits for its second attempt; asked for once more, it is told now.
    assert_eq!(redeliver(2), Redelivered::Pending(3));
    bench.tick(1);
    let states: Vec<_> = deliveries(&bench, id).iter().map(|d| d.state).collect();
    assert_eq!(
        states,
        [
            DeliveryState::Failed,
            DeliveryState::Replaced,
            DeliveryState::Delivered
        ]
    );
    let received = bench.world.received.borrow();
    let ids: Vec<_> = received
        .iter()
        .map(|r| r.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids, [id.to_string(), id.to_string(), id.to_string()]);
}

#[test]
fn what_the_configuration_allows_no_more_is_not_sent() {
    for (change, error) in [
        (
            "url = 'https://10.0.0.1/'",
            "the URL must not name an inner host",
        ),
        (
            "url = 'https://cluster:8001/'",
            "the URL must not name the Kubernetes API server",
        ),
        ("secret_ref = 'old'", "the secret `old` is not configured"),
    ] {
        let bench = Bench::new();
        let id = ended(&bench);
        bench.sql(&format!("UPDATE webhooks SET {change}"));
        bench.tick(1);
        let refused = delivery(&bench, id);
        assert_eq!(refused.state, DeliveryState::Pending);
        let (status, told) = told(&refused)[0];
        assert!(status.is_none() && told.starts_with(error), "{told}");
        assert!(bench.world.received.borrow().is_empty());
    }
}

#[test]
fn of_a_deleted_execution_nothing_is_told() {
    let bench = Bench::new();
    let id = ended(&bench);
    plan(&bench, [Receipt::Status(500)]);
    bench.tick(1);
    bench.sql("DELETE FROM executions");
    bench.world.pass(10);
    bench.tick(1);
    assert_eq!(bench.world.received.borrow().len(), 1);
    let gone = bench
        .world
        .run(bench.app().deliveries(&Caller::local(), id));
    assert_eq!(gone.expect("the store answers"), None);
}
