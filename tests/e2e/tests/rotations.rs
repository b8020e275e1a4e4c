//! Whatever Executor proves itself with, and believes others by, is changed while scripts run: nothing is lost, and nobody is restarted but
//! where docs/OPERATIONS.md says so.

use std::time::Duration;

use e2e::batch::{READY_WITHIN, all_end, each_ran_once, is_honest_refusal, no_job_is_left};
use e2e::{Answer, Client, ClusterKind, Ledger, Options, Stack, not_applicable, wait_for};
use serde_json::{Value, json};

/// The first script is under way, on two busy cores.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A change shows with the next request, or with the next look at the API server.
const SHOWS_WITHIN: Duration = Duration::from_secs(45);

/// The scripts of one test by their ids, with their exit codes.
struct Scripts {
    ledger: Ledger,
    accepted: Vec<(String, u64)>,
}

impl Scripts {
    /// The first one, which runs while things change.
    fn begun(stack: &Stack, client: &Client) -> Self {
        let ledger = stack.ledger("rotation");
        let mut scripts = Self {
            ledger,
            accepted: Vec::new(),
        };
        scripts.submit(client, 5);
        wait_for("the first script to run", STARTS_WITHIN, || {
            (scripts.ledger.count("start").len() == 1).then_some(())
        });
        scripts
    }

    /// Submits one that takes so many seconds; answers as it was answered, which is 201 always.
    fn submit(&mut self, client: &Client, seconds: u32) -> Value {
        let number = u64::try_from(self.accepted.len()).expect("few scripts");
        let prelude = self.ledger.prelude(&format!("rotation-{number}"));
        let answer = client.post_with(
            "/executions",
            &[],
            &json!({
                "script": format!("{prelude}note start; sleep {seconds}; note end; exit {number}"),
                "resources": { "cpu": "10m", "memory": "16Mi" },
            }),
        );
        let answer = answer.expect(201);
        self.accepted.push((answer.id(), number));
        answer.json()
    }

    /// All of them end, each once, and nothing stays behind.
    #[track_caller]
    fn all_end(&self, stack: &Stack) {
        all_end(&stack.client(), &self.accepted);
        let nonces = (0..self.accepted.len()).map(|number| format!("rotation-{number}"));
        each_ran_once(&self.ledger, nonces);
        no_job_is_left(stack);
    }
}

/// Waits until `/readyz` says of that part whether it is well; answers what it says.
#[track_caller]
fn until(client: &Client, part: &str, well: bool) -> String {
    let answer = wait_for(&format!("/readyz: {part} {well}"), SHOWS_WITHIN, || {
        let answer = client.get("/readyz");
        (answer.json()["checks"][part]["ok"] == well).then_some(answer)
    });
    answer.text()
}

/// Whether the cluster is the embedded one, whose token and certificate a test may change.
fn is_embedded(what: &str) -> bool {
    let real = ClusterKind::from_env().is_real();
    if real {
        let why = "the cluster's own programs prove themselves by the same; tests/manifests has the kubelet's token in a file";
        not_applicable(what, why);
    }
    !real
}

#[test]
fn a_new_token_of_the_account_is_read_from_its_file() {
    if !is_embedded("a new token of the API server") {
        return;
    }
    let mut stack = Stack::start(Options {
        token_in_file: true,
        ..Options::default()
    });
    let client = stack.client();
    let mut scripts = Scripts::begun(&stack, &client);
    stack.change_cluster_token("the-second-token-of-the-cluster");
    let told = until(&client, "kubernetes", false);
    assert!(told.contains("credentials"), "{told}");
    // What is accepted meanwhile waits.
    assert_eq!(scripts.submit(&client, 0)["status"], "QUEUED");
    stack.account_token("the-second-token-of-the-cluster");
    until(&client, "kubernetes", true);
    scripts.submit(&client, 0);
    scripts.all_end(&stack);
}

#[test]
fn another_authority_of_the_api_server_is_believed_after_a_restart() {
    if !is_embedded("another authority of the API server") {
        return;
    }
    let mut stack = Stack::start(Options {
        tls: true,
        ..Options::default()
    });
    let client = stack.client();
    let mut scripts = Scripts::begun(&stack, &client);
    // Without a word before.
    stack.tls().present("second");
    let told = until(&client, "kubernetes", false);
    assert!(told.contains("TLS"), "{told}");
    assert_eq!(scripts.submit(&client, 0)["status"], "QUEUED");
    stack.tls().believe(&["second", "first"]);
    stack.restart_host(0);
    until(&client, "kubernetes", true);
    scripts.submit(&client, 5);
    // And while both are believed, without a restart.
    stack.tls().present("first");
    scripts.submit(&client, 0);
    scripts.all_end(&stack);
}

#[test]
fn a_new_password_of_the_database_takes_a_restart_and_loses_nothing() {
    if std::env::var("EXECUTOR_E2E_DATABASE").as_deref() != Ok("postgres") {
        let why = "it needs EXECUTOR_E2E_DATABASE=postgres";
        return not_applicable("a new password of the database", why);
    }
    let mut stack = Stack::start(Options {
        database_password: Some("first".to_owned()),
        ..Options::default()
    });
    stack.add_host();
    let clients = [stack.client_of(0), stack.client_of(1)];
    let mut scripts = Scripts::begun(&stack, &clients[0]);
    stack.change_database_password("second");
    for client in &clients {
        let refused = |answer: Answer| is_honest_refusal(&answer).then_some(answer);
        let body = json!({ "script": "true" });
        let answer = wait_for("an honest refusal", SHOWS_WITHIN, || {
            refused(client.post_with("/executions", &[], &body))
        });
        assert!(!answer.text().contains("first"), "{}", answer.text());
        let told = until(client, "store", false);
        assert!(told.contains("cannot be reached"), "{told}");
    }
    // One after the other, as a rollout does.
    for (host, client) in clients.iter().enumerate() {
        stack.restart_host(host);
        until(client, "store", true);
        scripts.submit(client, 0);
    }
    wait_for("/readyz to be 200", READY_WITHIN, || {
        (clients[0].get("/readyz").status == 200).then_some(())
    });
    scripts.all_end(&stack);
}
