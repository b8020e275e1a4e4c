//! Where webhooks do not go: inner addresses, behind redirects, and past what the host lets out.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use crate::receiver::Receipt::With;
use crate::{error, run, settled, shared, statuses, submission};

/// A listener that nobody should call.
struct Forbidden(TcpListener);

impl Forbidden {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a mode");
        Self(listener)
    }

    fn url(&self) -> String {
        let address = self.0.local_addr().expect("a bound address");
        format!("http://{address}/latest/meta-data")
    }

    /// Nobody called; and had somebody, it would show.
    #[track_caller]
    fn was_not_called(&self) {
        let called = self.0.accept().map_err(|e| e.kind());
        assert_eq!(called.err(), Some(ErrorKind::WouldBlock), "somebody called");
        let address = self.0.local_addr().expect("a bound address");
        let _call = TcpStream::connect(address).expect("it listens");
        self.0.accept().expect("a call shows");
    }
}

#[test]
fn redirects_are_never_followed() {
    const PATH: &str = "/redirects";
    let (receiver, stack) = shared();
    let client = stack.client();
    let inner = Forbidden::new();
    // One that the host itself would let out shows that it is not only the host which stops it.
    let allowed = receiver.plan("/redirected-to", []);
    let to = |status: u16, url: &str| With(status, "location", url.to_owned());
    let answers = [
        to(302, &inner.url()),
        to(307, &allowed),
        to(308, &inner.url()),
        to(303, "/redirected-to"),
    ];
    let url = receiver.plan(PATH, answers);
    let id = run(&client, "true", &url);
    let delivery = settled(&client, &id, 1);
    assert_eq!(delivery["state"], "DELIVERED", "{delivery:#}");
    let expected = [302, 307, 308, 303, 204].map(Some);
    assert_eq!(
        statuses(&delivery),
        expected,
        "at the same URL: {delivery:#}"
    );
    for attempt in 0..4 {
        let why = error(&delivery, attempt);
        assert!(why.contains("redirects are not followed"), "{delivery:#}");
    }
    assert_eq!(receiver.received(PATH).len(), expected.len());
    assert!(receiver.received("/redirected-to").is_empty());
    inner.was_not_called();
}

#[test]
fn inner_addresses_are_refused_at_submission() {
    let (_, stack) = shared();
    let client = stack.client();
    let mut urls: Vec<String> = [
        "https://localhost/",
        "https://127.0.0.1/",
        "http://127.0.0.2:8080/",
        "https://10.0.0.1/",
        "https://192.168.1.1:8443/admin",
        "http://169.254.169.254/latest/meta-data/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00::1]/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://kubernetes.default.svc/",
        "https://metadata.google.internal/",
        "https://postgres/",
        "http://127.0.0.1@10.0.0.1/",
        "http://example.org/",
        "file:///etc/passwd",
    ]
    .map(str::to_owned)
    .into();
    // Whatever exceptions there are: whoever reaches it rules the cluster.
    urls.push(format!(
        "{}/api/v1/namespaces/default/secrets",
        stack.kube_url()
    ));
    for url in &urls {
        let answer = client.post_with("/executions", &[], &submission("true", url));
        let problem = answer.expect(422).json();
        assert_eq!(
            problem["errors"][0]["pointer"], "/webhook/url",
            "{url}: {problem}"
        );
    }
}

#[test]
fn what_the_host_does_not_let_out_does_not_arrive() {
    let (_, stack) = shared();
    let client = stack.client();
    // The guard allows this machine, but the host lets out one port of it.
    let other = Forbidden::new();
    let id = run(&client, "true", &other.url());
    let delivery = settled(&client, &id, 1);
    assert_eq!(delivery["state"], "FAILED", "{delivery:#}");
    assert!(
        error(&delivery, 0).contains("HttpRequestDenied"),
        "{delivery:#}"
    );
    other.was_not_called();
}
