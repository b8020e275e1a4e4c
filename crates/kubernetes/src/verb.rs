//! What a request asks of the API server, in one word, for whoever counts requests.

use http::Method;

/// The verb of a request that [`Client`](crate::Client) builds: as in RBAC rules, but for `log` and `follow`, which are `get`s
/// that take as long as a log does.
pub fn verb<B>(request: &http::Request<B>) -> &'static str {
    let uri = request.uri();
    let asks_for = |pair: &str| uri.query().is_some_and(|q| q.split('&').any(|p| p == pair));
    // Behind the namespace: the kind, the object's name, and what is asked of it.
    let below = uri.path().split_once("/namespaces/");
    let depth = below.map_or(0, |(_, rest)| rest.split('/').skip(1).count());
    match (request.method(), depth) {
        (&Method::GET, 1) if asks_for("watch=true") => "watch",
        (&Method::GET, 1) => "list",
        (&Method::GET, 3) if asks_for("follow=true") => "follow",
        (&Method::GET, 3) => "log",
        (&Method::POST, _) => "create",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, _) => "delete",
        _ => "get",
    }
}

#[cfg(test)]
mod tests {
    //! The verbs of the client's own requests.
    use std::time::Duration;

    use crate::fake::{FakeTransport, answer, client, ready};
    use crate::{LogOptions, Propagation, verb};

    #[test]
    fn each_call_has_its_verb() {
        let answers = (0..11).map(|_| answer(404, "{}"));
        let transport = FakeTransport::answering(answers);
        let client = client(&transport);
        let follow = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        ready(async {
            // What comes back is no matter here.
            let _ = client.list_jobs("a=b", 5, None).await;
            let _ = client.pods_of_job("x").await;
            let _ = client.watch_pods("a=b", "1", Duration::from_secs(9)).await;
            let _ = client.get_job("x").await;
            let _ = client.read_log("p", &LogOptions::default()).await;
            let _ = client.read_log("p", &follow).await;
            let _ = client.unsuspend_job("x").await;
            let _ = client.delete_job("x", None, Propagation::Foreground).await;
            let _ = client.list_events_of("u").await;
            let _ = client.create_job(&crate::Job::default()).await;
            let _ = client.ready().await;
        });
        let sent = transport.take_sent();
        let verbs: Vec<_> = sent.iter().map(|(request, _)| verb(request)).collect();
        assert_eq!(
            verbs,
            [
                "list", "list", "watch", "get", "log", "follow", "patch", "delete", "list",
                "create", "get"
            ]
        );
    }
}
