//! TLS before a server that has none, with certificates of authorities that the test makes and changes. It takes `openssl` and `socat`.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::launch::free_port;
use crate::process::Process;
use crate::wait::wait_for;

/// A relay is there within moments.
const RELAYS_WITHIN: Duration = Duration::from_secs(30);

/// Elliptic curves, since their keys are made at once.
const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

/// A relay that speaks TLS to its clients, and plainly to one server.
pub struct Tls {
    folder: PathBuf,
    believed: PathBuf,
    port: u16,
    server: String,
    relay: Process,
}

impl Tls {
    /// Relays to the server at that `host:port`, with a certificate of the authority `first`, which is believed.
    pub(crate) fn before(folder: &Path, server: &str) -> Self {
        let folder = folder.join("tls");
        std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let (port, authority) = (free_port(), "first");
        certify(&folder, authority);
        let tls = Self {
            relay: relay(&folder, authority, port, server),
            believed: folder.join("believed.pem"),
            port,
            server: server.to_owned(),
            folder,
        };
        tls.believe(&[authority]);
        tls
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The file of the authorities that hosts believe, as of their start.
    pub(crate) fn believed(&self) -> &Path {
        &self.believed
    }

    /// Goes on with a certificate of that authority, which is made where it is new. Open connections end.
    pub fn present(&mut self, authority: &str) {
        if !self.folder.join(format!("{authority}.ca.pem")).exists() {
            certify(&self.folder, authority);
        }
        self.relay.kill();
        self.relay = relay(&self.folder, authority, self.port, &self.server);
    }

    /// Has the file of the authorities name these.
    pub fn believe(&self, authorities: &[&str]) {
        let read = |name: &&str| {
            let file = self.folder.join(format!("{name}.ca.pem"));
            std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        };
        let all: String = authorities.iter().map(read).collect();
        let file = &self.believed;
        std::fs::write(file, all).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

/// Makes an authority, and a certificate of it for 127.0.0.1.
fn certify(folder: &Path, authority: &str) {
    let file = |end: &str| {
        folder
            .join(format!("{authority}.{end}"))
            .display()
            .to_string()
    };
    let subject = format!("/CN={authority} authority of the tests");
    let mut make = vec!["req", "-x509", "-days", "2", "-subj", &subject];
    let (ca, ca_key) = (file("ca.pem"), file("ca.key"));
    make.extend(NEW_KEY);
    make.extend(["-keyout", &ca_key, "-out", &ca]);
    openssl(&make);
    let (request, key, names) = (file("csr"), file("key"), file("names"));
    let mut ask = vec!["req", "-new", "-subj", "/CN=server of the tests"];
    ask.extend(NEW_KEY);
    ask.extend(["-keyout", &key, "-out", &request]);
    openssl(&ask);
    std::fs::write(&names, "subjectAltName = IP:127.0.0.1\n").expect("a file can be written");
    let certificate = file("pem");
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-extfile",
        &names,
        "-out",
        &certificate,
    ]);
}

fn openssl(arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).output();
    let done = done.expect("openssl is installed: use scripts/test");
    assert!(
        done.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn relay(folder: &Path, authority: &str, port: u16, server: &str) -> Process {
    let script = r#"echo "Serving https://127.0.0.1:$1"
exec socat "OPENSSL-LISTEN:$1,bind=127.0.0.1,reuseaddr,fork,cert=$2,key=$3,verify=0" "TCP:$4""#;
    let mut command = Command::new("/bin/sh");
    command.args(["-ec", script, "tls", &port.to_string()]);
    for end in ["pem", "key"] {
        command.arg(folder.join(format!("{authority}.{end}")));
    }
    command.arg(server);
    let relay = Process::start("tls", &mut command, folder, "Serving ");
    wait_for("the relay with TLS (socat)", RELAYS_WITHIN, || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    relay
}
