//! A running API server, embedded or real, and the few calls that the suites share.
#![allow(dead_code, reason = "each suite uses a part of it")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for anything a cluster is expected to do; a real one needs some seconds for a pod.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// The image on a real cluster; ignored by the embedded one.
pub const IMAGE: &str = "docker.io/library/busybox:1.37";

/// A `localcluster` process of the test's own; killed with all its pods when dropped.
pub struct Server {
    pub child: Child,
    pub url: String,
}

impl Server {
    /// Starts one with these further arguments and waits until it serves.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_localcluster")).args(arguments))
    }

    /// As [`start`](Self::start), from a shell that ignores these signals, as `nohup` and `&` do.
    pub fn start_ignoring(signals: &str, arguments: &[&str]) -> Self {
        let script = format!("trap '' {signals}; exec \"$0\" \"$@\"");
        Self::start_by(
            Command::new("sh")
                .args(["-c", &script, env!("CARGO_BIN_EXE_localcluster")])
                .args(arguments),
        )
    }

    fn start_by(command: &mut Command) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("localcluster starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        let url = line
            .strip_prefix("Serving Kubernetes API ")
            .unwrap_or_else(|| panic!("said {line:?}"))
            .trim()
            .to_owned();
        Self { child, url }
    }

    /// Ends it as a service manager does; answers whether it ended well.
    pub fn terminate(&mut self) -> bool {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("wait").success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
        }
    }
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .expect("kill");
}

/// Where requests go.
pub struct Api {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
    pub namespace: String,
    pub real: bool,
    server: Option<Server>,
}

impl Api {
    /// The real cluster that `KUBERNETES_TEST_URL` names, or a fresh embedded one.
    pub fn from_environment() -> Self {
        let variable = |name: &str| {
            std::env::var(format!("KUBERNETES_TEST_{name}"))
                .ok()
                .filter(|v| !v.is_empty())
        };
        match variable("URL") {
            None => Self::embedded(Server::start(&[])),
            Some(url) => {
                let namespace = variable("NAMESPACE").unwrap_or_else(|| "default".to_owned());
                let ca = variable("CA").map(PathBuf::from);
                Self {
                    agent: agent(ca.as_deref()),
                    url,
                    token: variable("TOKEN"),
                    namespace,
                    real: true,
                    server: None,
                }
            }
        }
    }

    /// This embedded server.
    pub fn embedded(server: Server) -> Self {
        let (url, namespace) = (server.url.clone(), "default".to_owned());
        Self {
            agent: agent(None),
            url,
            token: None,
            namespace,
            real: false,
            server: Some(server),
        }
    }

    /// The server's process.
    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("embedded")
    }

    /// The same server with another token.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Sends any request; answers status, headers and the body's reader.
    pub fn send(
        &self,
        method: &str,
        target: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> ureq::http::Response<ureq::Body> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.url));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let result = if body.is_empty() {
            self.agent.run(request.body(()).expect("request"))
        } else {
            self.agent.run(request.body(body).expect("request"))
        };
        result.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// Sends JSON; answers status and JSON.
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> (u16, Value) {
        let content_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let bytes = body
            .map(|body| body.to_string().into_bytes())
            .unwrap_or_default();
        self.call_raw(method, target, body.map(|_| content_type), &bytes)
    }

    /// Sends bytes; answers status and JSON.
    pub fn call_raw(
        &self,
        method: &str,
        target: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> (u16, Value) {
        let mut response = self.send(method, target, content_type, body);
        let text = response
            .body_mut()
            .with_config()
            .limit(256 << 20)
            .read_to_vec()
            .expect("body");
        let value =
            serde_json::from_slice(&text).unwrap_or_else(|_| json!(String::from_utf8_lossy(&text)));
        (response.status().as_u16(), value)
    }

    /// The URL of a collection in the namespace, or of an object in it.
    pub fn path(&self, plural: &str, name: &str) -> String {
        let prefix = if plural == "jobs" {
            "/apis/batch/v1"
        } else {
            "/api/v1"
        };
        let base = format!("{prefix}/namespaces/{}/{plural}", self.namespace);
        if name.is_empty() {
            base
        } else {
            format!("{base}/{name}")
        }
    }

    /// Creates an object that must be fine.
    pub fn create(&self, plural: &str, object: &Value) -> Value {
        let (status, created) = self.call("POST", &self.path(plural, ""), Some(object));
        assert_eq!(status, 201, "{created}");
        created
    }

    /// One object, or none.
    pub fn get(&self, plural: &str, name: &str) -> Option<Value> {
        let (status, object) = self.call("GET", &self.path(plural, name), None);
        match status {
            200 => Some(object),
            404 => None,
            _ => panic!("{status} {object}"),
        }
    }

    /// The items of a list.
    pub fn list(&self, plural: &str, query: &str) -> Vec<Value> {
        let (status, list) = self.call("GET", &format!("{}?{query}", self.path(plural, "")), None);
        assert_eq!(status, 200, "{list}");
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The pods of a Job.
    pub fn pods(&self, job: &str) -> Vec<Value> {
        self.list(
            "pods",
            &format!("labelSelector=batch.kubernetes.io/job-name={job}"),
        )
    }

    /// Waits for a Job's pod to look like this.
    pub fn wait_pod(&self, job: &str, what: &str, accept: impl Fn(&Value) -> bool) -> Value {
        wait(&format!("pod of {job}: {what}"), || {
            let pods = self.pods(job);
            pods.iter()
                .find(|pod| accept(pod))
                .cloned()
                .ok_or_else(|| json!(pods).to_string())
        })
    }

    /// Waits for the pod's first container to end; answers its end state.
    pub fn wait_ended(&self, job: &str) -> Value {
        let pod = self.wait_pod(job, "ended", |pod| !terminated(pod).is_null());
        terminated(&pod).clone()
    }

    /// Waits for a condition of a Job to be true; answers the Job.
    pub fn wait_condition(&self, job: &str, kind: &str) -> Value {
        wait(&format!("{job}: {kind}"), || {
            let object = self.get("jobs", job).ok_or("gone")?;
            let found = condition(&object, kind).is_some_and(|c| c["status"] == "True");
            if found {
                Ok(object)
            } else {
                Err(object["status"].to_string())
            }
        })
    }

    /// Waits for an object to be gone.
    pub fn wait_gone(&self, plural: &str, name: &str) {
        wait(&format!("{plural}/{name} gone"), || {
            match self.get(plural, name) {
                None => Ok(()),
                Some(object) => Err(object.to_string()),
            }
        });
    }

    /// A pod's log, with this query.
    pub fn log(&self, pod: &str, query: &str) -> Vec<u8> {
        let mut response = self.send(
            "GET",
            &format!("{}/log?{query}", self.path("pods", pod)),
            None,
            &[],
        );
        let mut bytes = Vec::new();
        response
            .body_mut()
            .as_reader()
            .read_to_end(&mut bytes)
            .expect("log");
        assert_eq!(
            response.status().as_u16(),
            200,
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        bytes
    }

    /// The log of a Job's only pod.
    pub fn job_log(&self, job: &str) -> Vec<u8> {
        let pods = self.pods(job);
        assert_eq!(pods.len(), 1, "{job}");
        self.log(pods[0]["metadata"]["name"].as_str().expect("name"), "")
    }

    /// Opens a watch; read its lines with [`Watch::next`].
    pub fn watch(&self, plural: &str, query: &str) -> Watch {
        let response = self.send(
            "GET",
            &format!("{}?watch=true&{query}", self.path(plural, "")),
            None,
            &[],
        );
        assert_eq!(response.status().as_u16(), 200);
        Watch {
            lines: BufReader::new(Box::new(response.into_body().into_reader())),
        }
    }

    /// Deletes in the background, if it is still there.
    pub fn delete(&self, plural: &str, name: &str) {
        self.call(
            "DELETE",
            &format!("{}?propagationPolicy=Background", self.path(plural, name)),
            None,
        );
    }
}

fn agent(ca: Option<&Path>) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(LIMIT));
    if let Some(ca) = ca {
        let pem = std::fs::read(ca).unwrap_or_else(|error| panic!("{}: {error}", ca.display()));
        let certificate = ureq::tls::Certificate::from_pem(&pem).expect("a PEM certificate");
        let roots = ureq::tls::RootCerts::new_with_certs(&[certificate]);
        config = config.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
    }
    config.build().into()
}

/// The events of a watch.
pub struct Watch {
    lines: BufReader<Box<dyn Read>>,
}

impl Watch {
    /// The next event; none at the end.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).expect("watch");
        (count > 0)
            .then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next event that this accepts.
    pub fn find(&mut self, accept: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next().expect("the watch ended");
            if accept(&event) {
                return event;
            }
        }
    }
}

/// Looks until there is an answer; fails with the last complaint.
pub fn wait<T, E: std::fmt::Display>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let limit = Instant::now() + LIMIT;
    loop {
        match look() {
            Ok(found) => return found,
            Err(complaint) if Instant::now() > limit => panic!("{what}: {complaint}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// A name nobody else uses.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis();
    format!(
        "{prefix}-{}-{}-{}",
        time % 100_000_000,
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A Job that runs a script, shaped as Executor shapes its own.
pub fn job(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0, "completions": 1, "parallelism": 1,
            "template": {"spec": {
                "restartPolicy": "Never", "shareProcessNamespace": true, "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 2,
                "containers": [{
                    "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                    // Kubernetes reads $$ and $(…) in arguments itself.
                    "command": ["/bin/sh", "-c", script.replace('$', "$$")],
                    "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
                }],
            }},
        },
    })
}

/// The pod spec inside a Job.
pub fn pod_spec(job: &mut Value) -> &mut Value {
    &mut job["spec"]["template"]["spec"]
}

/// The only container inside a Job.
pub fn container(job: &mut Value) -> &mut Value {
    &mut pod_spec(job)["containers"][0]
}

/// The end state of a pod's first container; null while it has not ended.
pub fn terminated(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["terminated"]
}

/// Why a pod's first container waits.
pub fn waiting(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
        .as_str()
        .unwrap_or_default()
}

/// A condition by type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == kind)
}

/// The name in an object's metadata.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned()
}
