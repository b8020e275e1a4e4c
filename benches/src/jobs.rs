//! Raw Jobs, as Executor would write them, created straight at the API server: the reference of most figures.

use e2e::{ClusterKind, Stack};
use kubernetes::{LABEL_MANAGED_BY, RunSpec, payload};
use uuid::Uuid;

use crate::load::{self, Load, Measured};
use crate::wire::Server;

/// How many callers take the Jobs away again, outside of what is measured.
const CLEANERS: usize = 8;

/// Far longer than any number of Jobs takes.
const CLEANED_WITHIN: std::time::Duration = std::time::Duration::from_secs(600);

/// The image of executions where the cluster's file names none; that of `spin.toml`.
const DEFAULT_IMAGE: &str = "docker.io/library/busybox:1.37";

/// The image that Executor runs scripts in, in the stacks of this cluster.
pub fn image() -> String {
    let named = match ClusterKind::from_env() {
        ClusterKind::Embedded => None,
        ClusterKind::Real(real) => real.image,
    };
    named.unwrap_or_else(|| DEFAULT_IMAGE.to_owned())
}

/// The API server, asked directly.
#[derive(Clone)]
pub struct Raw {
    server: Server,
    path: String,
}

/// What a Job runs.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its text.
    pub text: String,
    /// The image.
    pub image: String,
    /// Suspended Jobs get no pod, so that all there is is the creation.
    pub suspended: bool,
}

impl Raw {
    /// That of a stack.
    pub fn of(stack: &Stack) -> Self {
        let access = stack.kube().access();
        let server = Server::new(&access.url, &access.token, access.ca.as_deref());
        Self::new(server, &access.namespace)
    }

    /// Any other.
    pub fn new(server: Server, namespace: &str) -> Self {
        let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs");
        Self { server, path }
    }

    /// Creates Jobs for that long, up to that many, and takes them away again.
    pub fn create(&self, load: Load, script: &Script, most: usize) -> Measured {
        self.create_and_delete(load, script, most).0
    }

    /// The same, with what it took to take them away.
    pub fn create_and_delete(
        &self,
        load: Load,
        script: &Script,
        most: usize,
    ) -> (Measured, Measured) {
        let ids: Vec<Uuid> = (0..most).map(|_| random_id()).collect();
        let requests: Vec<Vec<u8>> = ids
            .iter()
            .map(|id| {
                self.server
                    .request("POST", &self.path, Some(&job(*id, script)))
            })
            .collect();
        let created = load::send(load, &self.server, &requests, 201);
        // Numbers are given out in order, so these were created.
        let deleted = self.delete(&ids[..created.latencies.len()]);
        (created, deleted)
    }

    fn delete(&self, ids: &[Uuid]) -> Measured {
        let request = |id: &Uuid| {
            let path = format!("{}/{}?propagationPolicy=Background", self.path, name(*id));
            self.server.request("DELETE", &path, None)
        };
        let requests: Vec<Vec<u8>> = ids.iter().map(request).collect();
        let load = Load {
            callers: CLEANERS,
            time: CLEANED_WITHIN,
        };
        load::send(load, &self.server, &requests, 200)
    }
}

fn name(id: Uuid) -> String {
    format!("x-{id}")
}

/// The Job in JSON. It says that it is the bench's, lest Executor takes it for one of its own.
fn job(id: Uuid, script: &Script) -> String {
    let spec = RunSpec {
        id,
        attempt: 1,
        job_name: name(id),
        // As long as a real one.
        spec_digest: "0123456789abcdef".repeat(4),
        database: "0123456789abcdef".repeat(2),
        image: script.image.clone(),
        script: script.text.clone(),
        cpu: Some("10m".to_owned()),
        memory: Some("16Mi".to_owned()),
        grace_seconds: 10,
        pod_deadline_seconds: 1_030,
        ..RunSpec::default()
    };
    let mut job = payload(&spec).job;
    let template = job.spec.as_mut().map(|spec| &mut spec.template);
    let template = template.and_then(|template| template.metadata.as_mut());
    for metadata in [Some(&mut job.metadata), template].into_iter().flatten() {
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(LABEL_MANAGED_BY.to_owned(), "bench".to_owned());
    }
    if script.suspended
        && let Some(spec) = job.spec.as_mut()
    {
        spec.suspend = Some(true);
    }
    serde_json::to_string(&job).expect("a Job is JSON")
}

/// Ids that differ from run to run: the time, and a count of this process.
fn random_id() -> Uuid {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = jiff::Timestamp::now().as_nanosecond().unsigned_abs();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = (nanos << 20) ^ u128::from(count) ^ (u128::from(std::process::id()) << 32);
    let bytes = random.to_be_bytes();
    let mut ten = [0; 10];
    ten.copy_from_slice(&bytes[6..]);
    let millis = u64::try_from(nanos / 1_000_000).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &ten).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_job_is_executors_but_for_who_manages_it() {
        let script = Script {
            text: "exit 0".to_owned(),
            image: "busybox".to_owned(),
            suspended: true,
        };
        let (first, second) = (random_id(), random_id());
        assert_ne!(first, second);
        let job: serde_json::Value = serde_json::from_str(&job(first, &script)).expect("JSON");
        assert_eq!(job["metadata"]["name"], name(first));
        assert_eq!(job["spec"]["suspend"], true);
        assert_eq!(job["kind"], "Job");
        let label = "app.kubernetes.io/managed-by";
        for metadata in [&job["metadata"], &job["spec"]["template"]["metadata"]] {
            assert_eq!(metadata["labels"][label], "bench");
        }
        assert_eq!(
            job["spec"]["template"]["spec"]["containers"][0]["command"][2],
            "exit 0"
        );
    }
}
