//! The manifests on a real cluster: applied as docs/OPERATIONS.md says, used through a port-forward, and tried for what they forbid.

mod install;
mod network;
mod rights;
mod runs;

use std::sync::{Mutex, MutexGuard, PoisonError};

use e2e::{Admin, not_applicable};

use install::{Installed, spin_app_type};

/// There is one installation in a cluster: tests take turns.
static CLUSTER: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    // Another test's failure is no reason to fail this one.
    CLUSTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The administrator of the real cluster; where there is none, that is said.
fn real_cluster(what: &str) -> Option<Admin> {
    let admin = Admin::from_env();
    if admin.is_none() {
        not_applicable(
            &format!("{what} on the embedded cluster"),
            "it runs no Deployments and has no rights",
        );
    }
    admin
}

#[test]
fn what_is_installed_by_the_book_takes_a_script_and_may_do_no_more_than_it_must() {
    let _turn = turn();
    let Some(admin) = real_cluster("the Deployment") else {
        return;
    };
    let installed = Installed::by_the_book(&admin);
    let client = installed.client();
    let ready = client.get("/readyz").expect(200).text();
    println!("ready: {ready}");
    runs::a_script_runs_and_is_shut_in(&client);
    network::a_script_reaches_nothing_and_is_not_reached(&admin, &client);
    rights::nothing_else_is_allowed(&admin);
    rights::each_verb_is_needed(&admin, &client);
    installed.keeps_all_over_a_restart();
}

#[test]
fn a_tenants_namespace_gives_the_service_the_same_rights_and_shuts_scripts_in() {
    let _turn = turn();
    let Some(admin) = real_cluster("a tenant's namespace") else {
        return;
    };
    let _namespaces = install::namespaces(&admin);
    let made = install::Tenant::new(&admin);
    rights::are_those_of_all_in(&admin, install::TENANT);
    // A pod that is not shut in is refused by the labels, and one that takes too much by the LimitRange.
    let pod = |security: serde_json::Value, cpu: &str| {
        serde_json::json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "probe", "namespace": install::TENANT },
            "spec": { "securityContext": security, "containers": [{ "name": "c", "image": "i",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "resources": { "limits": { "cpu": cpu, "memory": "16Mi" } } }] } })
    };
    let shut_in = serde_json::json!({ "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } });
    assert!(admin.would_take(&pod(shut_in.clone(), "10m")));
    let refused = install::refusal(&admin, &pod(serde_json::json!({}), "10m"));
    assert!(refused.contains("PodSecurity"), "{refused}");
    let refused = install::refusal(&admin, &pod(shut_in, "5"));
    assert!(refused.contains("maximum cpu usage"), "{refused}");
    for kind in ["resourcequota/runs", "networkpolicy/nothing"] {
        admin.kubectl(&["-n", install::TENANT, "get", kind]);
    }
    drop(made);
}

#[test]
fn the_manifests_for_spinkube_are_what_the_api_server_takes() {
    let _turn = turn();
    let Some(admin) = real_cluster("SpinKube's manifests") else {
        return;
    };
    let _namespaces = install::namespaces(&admin);
    let _kind = spin_app_type(&admin);
    for overlay in [
        "k8s/overlays/spinkube",
        "tests/cluster/overlays/wasm-runtime",
    ] {
        println!("{}", install::dry_run(&admin, overlay));
    }
    let wasm = install::dry_run(&admin, "tests/cluster/overlays/wasm-runtime -o json");
    for words in [
        r#""runtimeClassName": "wasmtime-spin-v2""#,
        r#""name": "SPIN_COMPONENTS_TO_RETAIN""#,
        r#""name": "SPIN_VARIABLE_TICK_TOKEN""#,
        r#""name": "executor-ticker""#,
    ] {
        assert!(wasm.contains(words), "{words} is not in {wasm}");
    }
    assert!(!wasm.contains("--state-dir"), "arguments of another image");
    // The check itself sees a misspelt field.
    let misspelt = serde_json::json!({ "apiVersion": "core.spinkube.dev/v1alpha1", "kind": "SpinApp",
        "metadata": { "name": "probe", "namespace": "executor" },
        "spec": { "executor": "e", "image": "i", "serviceAcount": "s" } });
    let refused = install::refusal(&admin, &misspelt);
    assert!(refused.contains("spec.serviceAcount"), "{refused}");
}
