//! Outbound HTTP: what is allowed, timeouts, errors, pooling, streaming, TLS.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::support::{Host, Setup, read_until, send_chunk};
use crate::upstream::Upstream;

const ANY_HOST: &str = "allowed_outbound_hosts = [\"*://*:*\"]";

fn fetch(host: &Host, url: &str, more: &str) -> (u16, String) {
    host.get(&format!("/fetch?url={url}{more}"))
}

#[test]
fn only_allowed_hosts_are_called() {
    let (allowed, other) = (Upstream::plain(), Upstream::plain());
    let host = Setup::new()
        .component("allowed_outbound_hosts = [\"http://127.0.0.1:{{ port }}\"]")
        .arguments(&["--variable", &format!("port={}", allowed.address.port())])
        .start();
    assert_eq!(
        fetch(&host, &format!("http://{}/", allowed.address), ""),
        (200, "hello".to_owned())
    );
    for url in [
        format!("http://{}/", other.address),
        format!("https://{}/", allowed.address),
        format!("http://localhost:{}/", allowed.address.port()),
    ] {
        assert_eq!(
            fetch(&host, &url, ""),
            (502, "ErrorCode::HttpRequestDenied".to_owned()),
            "{url}"
        );
    }
    assert_eq!(other.connections(), 0);
    host.wait_for_stderr("allowed_outbound_hosts do not allow");
}

#[test]
fn errors_have_spins_codes() {
    let upstream = Upstream::plain();
    let host = Setup::new().component(ANY_HOST).start();
    let closed_port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let cases = [
        (
            format!("http://{closed_port}/"),
            "",
            "ErrorCode::ConnectionRefused",
        ),
        (
            "http://no-such-name.invalid/".to_owned(),
            "",
            "ErrorCode::DnsError",
        ),
        (
            format!("http://{}/close", upstream.address),
            "",
            "ErrorCode::HttpProtocolError",
        ),
        (
            format!("http://{}/silent", upstream.address),
            "&first_byte=300",
            "ErrorCode::ConnectionReadTimeout",
        ),
        (
            format!("https://{}/", upstream.address),
            "",
            "ErrorCode::TlsProtocolError",
        ),
    ];
    for (url, more, code) in cases {
        let (status, text) = fetch(&host, &url, more);
        assert!(
            status == 502 && text.starts_with(code),
            "{url}: {status} {text}"
        );
    }
    let stalling = format!("http://{}/stall", upstream.address);
    let (status, text) = fetch(&host, &stalling, "&between_bytes=300");
    assert_eq!(
        (status, text.as_str()),
        (200, "start\nbroken off: ErrorCode::ConnectionReadTimeout")
    );
}

#[test]
fn the_connect_timeout_counts() {
    // Nobody accepts here: once its queue is full, the system leaves further connections unanswered.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let limit = std::time::Duration::from_millis(300);
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, limit) {
        waiting.push(stream);
    }
    let host = Setup::new().component(ANY_HOST).start();
    let (_, text) = fetch(&host, &format!("http://{address}/"), "&connect=300");
    assert_eq!(text, "ErrorCode::ConnectionTimeout");
}

#[test]
fn connections_are_pooled_unless_configured_otherwise() {
    for (config, connections) in [("", 1), ("[outbound_http]\nconnection_pooling = false", 3)] {
        let upstream = Upstream::plain();
        let host = Setup::new()
            .component(ANY_HOST)
            .runtime_config(config)
            .start();
        for _ in 0..3 {
            assert_eq!(
                fetch(&host, &format!("http://{}/", upstream.address), "").0,
                200
            );
        }
        assert_eq!(upstream.connections(), connections, "{config:?}");
    }
}

#[test]
fn requests_and_responses_stream() {
    let upstream = Upstream::plain();
    let host = Setup::new().component(ANY_HOST).start();
    let mut client = host.connect();
    let url = format!("http://{}", upstream.address);
    write!(
        client,
        "GET /fetch?url={url}/stream HTTP/1.1\r\nhost: test\r\n\r\n"
    )
    .unwrap();
    read_until(&mut client, "first");
    upstream.go_on();
    read_until(&mut client, "then");
    read_until(&mut client, "0\r\n\r\n");
    write!(
        client,
        "POST /fetch?post=1&url={url}/upload HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .unwrap();
    for piece in ["one", "two", "three"] {
        send_chunk(&mut client, piece);
        upstream.wait_to_see(piece);
    }
    write!(client, "0\r\n\r\n").unwrap();
    read_until(&mut client, "received");
}

/// An authority of the test's own, and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A server for `localhost`; with `clients`, only for clients that the authority has signed.
    fn server(&self, clients: bool) -> Upstream {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.sign("localhost");
        let chain = vec![CertificateDer::from(certificate)];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Upstream::tls(builder.with_single_cert(chain, key).unwrap())
    }

    fn write_files(&self, dir: &Path) {
        let (certificate, key) = self.sign("client");
        std::fs::write(dir.join("ca.pem"), self.0.pem()).unwrap();
        std::fs::write(dir.join("client.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.join("client.key"), key.serialize_pem()).unwrap();
    }
}

#[test]
fn an_authority_is_trusted_only_where_the_runtime_config_says_so() {
    let authority = Authority::new();
    let upstream = authority.server(false);
    let url = format!("https://localhost:{}/", upstream.address.port());
    let client_tls = |component: &str, host: &str| {
        format!(
            "[[client_tls]]\ncomponent_ids = [\"{component}\"]\nhosts = [\"{host}\"]\nca_roots_file = \"ca.pem\""
        )
    };
    for (config, expected) in [
        (client_tls("guest", "localhost"), (200, "hello")),
        (
            client_tls("other", "localhost"),
            (502, "ErrorCode::TlsProtocolError"),
        ),
        (
            client_tls("guest", "example.com"),
            (502, "ErrorCode::TlsProtocolError"),
        ),
        (String::new(), (502, "ErrorCode::TlsProtocolError")),
    ] {
        let setup = Setup::new().component(ANY_HOST).runtime_config(&config);
        authority.write_files(setup.dir());
        let (status, text) = fetch(&setup.start(), &url, "");
        assert_eq!((status, text.as_str()), expected, "{config}");
    }
}

#[test]
fn a_client_certificate_is_shown() {
    let authority = Authority::new();
    let upstream = authority.server(true);
    let url = format!("https://localhost:{}/", upstream.address.port());
    let without = "[[client_tls]]\ncomponent_ids = [\"guest\"]\nhosts = [\"localhost\"]\nca_roots_file = \"ca.pem\"";
    let with = format!(
        "{without}\nclient_cert_file = \"client.pem\"\nclient_private_key_file = \"client.key\""
    );
    for (config, status) in [(without, 502), (&with, 200)] {
        let setup = Setup::new().component(ANY_HOST).runtime_config(config);
        authority.write_files(setup.dir());
        assert_eq!(fetch(&setup.start(), &url, "").0, status, "{config}");
    }
}
