//! What Executor relies on, asked of the embedded API server, or of a real one with the same assertions.
//!
//! With `KUBERNETES_TEST_URL` (and `KUBERNETES_TEST_TOKEN`, `KUBERNETES_TEST_CA`, `KUBERNETES_TEST_NAMESPACE`) set, a real cluster
//! is asked; it needs the image `docker.io/library/busybox:1.37`. Where the two differ, the real one is right.

#[path = "contract/api.rs"]
mod api;
mod common;
#[path = "contract/deletion.rs"]
mod deletion;
#[path = "contract/jobs.rs"]
mod jobs;
#[path = "contract/logs.rs"]
mod logs;
#[path = "contract/refusals.rs"]
mod refusals;
#[path = "contract/volumes.rs"]
mod volumes;
#[path = "contract/watches.rs"]
mod watches;

use std::sync::OnceLock;

use common::Api;

/// One server for all tests of the suite: they use names of their own.
fn api() -> &'static Api {
    static API: OnceLock<Api> = OnceLock::new();
    API.get_or_init(|| {
        let mut api = Api::from_environment();
        if !api.real {
            end_with_this_process(api.server().child.id());
        }
        api
    })
}

/// Statics are never dropped: something that outlives this process ends the server then.
fn end_with_this_process(server: u32) {
    let script = format!(
        "(tail --pid={} -f /dev/null; kill -TERM {server}) >/dev/null 2>&1 &",
        std::process::id()
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .status()
        .expect("sh");
    assert!(status.success());
}
