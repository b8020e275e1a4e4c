//! Scripts in the namespace of the manifests: what they can do, and what they try in vain.

use std::time::Duration;

use e2e::Client;
use serde_json::{Value, json};

/// A container on two busy cores starts and ends within this.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// The kubelet measures volumes once a minute, looks at the figures every ten seconds, and then ends the pod.
const EVICTED_WITHIN: Duration = Duration::from_secs(240);

pub fn small(script: &str, more: &Value) -> Value {
    let mut request = json!({ "script": script, "resources": { "cpu": "10m", "memory": "16Mi" } });
    for (name, value) in more.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    request
}

/// Each line that it prints is something that it could do.
const ATTEMPTS: &str = r#"
for token in /var/run/secrets/kubernetes.io/serviceaccount/token /run/secrets/kubernetes.io/serviceaccount/token; do
  cat "$token" 2>/dev/null && echo "read $token"
done
for place in / /bin /etc /usr /var /home /root /dev; do
  (: >"$place/probe") 2>/dev/null && echo "wrote $place"
done
[ "$(id -u)" != 0 ] || echo "is root"
su root -c true 2>/dev/null </dev/null && echo "became root"
chown 0:0 /tmp 2>/dev/null && echo "gave files away"
cp /bin/busybox /tmp/s && chmod 6755 /tmp/s && chown 0 /tmp/s 2>/dev/null && echo "made a set-uid program of root's"
mount -t tmpfs none /tmp 2>/dev/null && echo "mounted"
unshare -r true 2>/dev/null && [ "$(unshare -r id -u)" = 0 ] && unshare -rm mount -t tmpfs none /tmp 2>/dev/null && echo "mounted in a namespace"
kill -9 1 2>/dev/null && echo "killed the pod's first process"
(echo 1 >/proc/sys/kernel/sysrq) 2>/dev/null && echo "changed the kernel"
echo tried
"#;

/// One of everything, and then one that tries everything.
pub fn a_script_runs_and_is_shut_in(client: &Client) {
    let id = client.submit(&small("echo Hello", &json!({})));
    let execution = client.finished(&id, ENDS_WITHIN);
    assert_eq!(execution["outcome"], "SUCCEEDED", "{execution}");
    assert_eq!(client.log(&id), b"Hello\n");

    let id = client.submit(&small(ATTEMPTS, &json!({})));
    let execution = client.finished(&id, ENDS_WITHIN);
    let log = String::from_utf8_lossy(&client.log(&id)).into_owned();
    assert_eq!(log, "tried\n", "{execution}");

    let deaf = "trap '' TERM INT HUP; echo begun; while :; do sleep 1; done";
    let clocks = json!({ "timeouts": { "runSeconds": 2, "graceSeconds": 1 } });
    let id = client.submit(&small(deaf, &clocks));
    let execution = client.finished(&id, ENDS_WITHIN);
    assert_eq!(execution["reason"], "RunTimeout", "{execution}");

    let flood = "dd if=/dev/zero of=/workspace/big bs=1M count=40 2>/dev/null; sleep 1000";
    let disk =
        json!({ "resources": { "cpu": "10m", "memory": "16Mi", "ephemeralStorage": "8Mi" } });
    let id = client.submit(&small(flood, &disk));
    let execution = client.finished(&id, EVICTED_WITHIN);
    assert_eq!(
        execution["reason"], "EphemeralStorageExceeded",
        "{execution}"
    );
}
