//! The API server as its administrator sees it, to check what Executor left there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::wait::{poll, wait_for};

/// An idle API server on two busy cores answers well within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// How the API server is reached, for who asks it in other ways.
#[derive(Clone)]
pub struct Access {
    /// `scheme://host:port`.
    pub url: String,
    /// The bearer token; empty for none.
    pub token: String,
    /// The namespace that it is looked at.
    pub namespace: String,
    /// The file of the certificate authority, PEM; none without TLS.
    pub ca: Option<PathBuf>,
}

/// The API server, asked directly.
#[derive(Clone)]
pub struct Kube {
    url: String,
    token: String,
    namespace: String,
    ca: Option<PathBuf>,
    agent: ureq::Agent,
}

impl Kube {
    /// The server at that URL, trusted by the certificate authority in the file if one is given.
    pub fn new(url: &str, token: &str, namespace: &str, ca: Option<&Path>) -> Self {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A kept connection would hide that the server was restarted.
            .max_idle_connections(0)
            .timeout_global(Some(ANSWERS_WITHIN));
        if let Some(ca) = ca {
            let pem = std::fs::read(ca).unwrap_or_else(|e| panic!("{}: {e}", ca.display()));
            let root = Certificate::from_pem(&pem).expect("a certificate in PEM");
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::from(vec![root]))
                .build();
            config = config.tls_config(tls);
        }
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
            namespace: namespace.to_owned(),
            ca: ca.map(Path::to_owned),
            agent: config.build().into(),
        }
    }

    /// How it is reached.
    pub fn access(&self) -> Access {
        Access {
            url: self.url.clone(),
            token: self.token.clone(),
            namespace: self.namespace.clone(),
            ca: self.ca.clone(),
        }
    }

    /// Whether the server answers at all.
    pub fn answers(&self) -> bool {
        self.try_get(&self.jobs_path()).is_ok()
    }

    /// The names of all Jobs in the namespace.
    ///
    /// # Panics
    /// When the server does not answer with a list.
    pub fn jobs(&self) -> Vec<String> {
        match self.try_get(&self.jobs_path()) {
            Ok(list) => names(&list),
            Err(e) => panic!("{e}"),
        }
    }

    /// The names of the pods of the execution with that id.
    ///
    /// # Panics
    /// When the server does not answer with a list.
    pub fn pods_of(&self, id: &str) -> Vec<String> {
        let path = format!(
            "/api/v1/namespaces/{}/pods?labelSelector=executor.dev/execution={id}",
            self.namespace
        );
        match self.try_get(&path) {
            Ok(list) => names(&list),
            Err(e) => panic!("{e}"),
        }
    }

    /// Whether all that the cluster tells of Jobs of that name is about one, and its controller had no answer when it created
    /// a pod for it: it may have created two then, as Kubernetes' documentation of Jobs says.
    ///
    /// # Panics
    /// When the server does not answer with a list.
    pub fn may_have_made_two_pods(&self, job: &str) -> bool {
        let path = format!(
            "/api/v1/namespaces/{}/events?fieldSelector=involvedObject.kind=Job,involvedObject.name={job}",
            self.namespace
        );
        let list = self.try_get(&path).unwrap_or_else(|e| panic!("{e}"));
        let events: Vec<&Value> = list["items"].as_array().into_iter().flatten().collect();
        let uid = |event: &&Value| event["involvedObject"]["uid"].clone();
        let one_job = events.windows(2).all(|two| uid(&two[0]) == uid(&two[1]));
        one_job && events.iter().any(|event| event["reason"] == "FailedCreate")
    }

    /// Waits until there is no Job but those that run nothing and only keep their names, or gives those left at the limit.
    pub fn jobs_left_after(&self, limit: Duration) -> Vec<String> {
        let none = poll(limit, || self.jobs_in_use().is_empty().then_some(()));
        if none.is_some() {
            Vec::new()
        } else {
            self.jobs_in_use()
        }
    }

    fn jobs_in_use(&self) -> Vec<String> {
        let mut list = self
            .try_get(&self.jobs_path())
            .unwrap_or_else(|e| panic!("{e}"));
        let is_held = |job: &Value| {
            job["metadata"]["annotations"]["executor.dev/name-held-until"].is_string()
                && job["spec"]["suspend"] == true
                && job["status"]["active"].is_null()
        };
        if let Some(items) = list["items"].as_array_mut() {
            items.retain(|job| !is_held(job));
        }
        names(&list)
    }

    /// Deletes every Job with its pods: a real cluster is shared by stacks that come one after another.
    pub fn delete_jobs(&self) {
        for job in self.jobs() {
            self.delete_job(&job);
        }
    }

    /// Creates a Job of `exit 0` as anybody would, and waits for its `Complete` condition.
    ///
    /// # Panics
    /// When it is not complete within the limit.
    pub fn run_job(&self, name: &str, image: &str, limit: Duration) {
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": name },
            "spec": { "backoffLimit": 0, "template": { "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "main",
                    "image": image,
                    "command": ["/bin/sh", "-c", "exit 0"],
                    "resources": {
                        "requests": { "cpu": "10m", "memory": "16Mi" },
                        "limits": { "cpu": "10m", "memory": "16Mi" },
                    },
                }],
            }}},
        });
        let url = format!("{}{}", self.url, self.jobs_path());
        let answer = self
            .agent
            .post(&url)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .send(job.to_string().as_bytes());
        let status = answer
            .unwrap_or_else(|e| panic!("POST {url}: {e}"))
            .status();
        assert_eq!(status.as_u16(), 201, "POST {url}");
        let path = format!("{}/{name}", self.jobs_path());
        let complete = || {
            let job = self.try_get(&path).unwrap_or_else(|e| panic!("{e}"));
            let conditions = job["status"]["conditions"].as_array().cloned();
            let of = |c: &Value| c["type"] == "Complete" && c["status"] == "True";
            conditions.unwrap_or_default().iter().any(of).then_some(())
        };
        wait_for("the Job to be complete", limit, complete);
    }

    /// Deletes a Job with its pods, as `kubectl delete job` does.
    pub fn delete_job(&self, name: &str) {
        let jobs = self.jobs_path();
        self.delete(&format!("{jobs}/{name}?propagationPolicy=Background"));
    }

    /// Deletes a pod. Executor may not do that: the token must be somebody else's.
    pub fn delete_pod(&self, name: &str) {
        let namespace = &self.namespace;
        self.delete(&format!("/api/v1/namespaces/{namespace}/pods/{name}"));
    }

    /// The namespace that it looks at.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Sends a DELETE; that the object is gone already is fine.
    fn delete(&self, path: &str) {
        let url = format!("{}{path}", self.url);
        let answer = self
            .agent
            .delete(&url)
            .header("authorization", format!("Bearer {}", self.token))
            .call();
        match answer {
            Ok(answer) if answer.status().is_success() || answer.status() == 404 => {}
            Ok(answer) => panic!("DELETE {url}: {}", answer.status()),
            Err(e) => panic!("DELETE {url}: {e}"),
        }
    }

    fn jobs_path(&self) -> String {
        format!("/apis/batch/v1/namespaces/{}/jobs", self.namespace)
    }

    fn try_get(&self, path: &str) -> Result<Value, String> {
        let url = format!("{}{path}", self.url);
        let mut request = self.agent.get(&url);
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let mut answer = request.call().map_err(|e| format!("GET {url}: {e}"))?;
        let status = answer.status().as_u16();
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(|e| format!("GET {url}: {e}"))?;
        if status != 200 {
            return Err(format!("GET {url}: {status} {text}"));
        }
        serde_json::from_str(&text).map_err(|e| format!("GET {url}: {e} in {text}"))
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let names = items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str());
    names.map(str::to_owned).collect()
}
