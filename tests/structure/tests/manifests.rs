//! What is deployed into a cluster says the same as `spin.toml`, and the documented rights are those of the manifests.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use structure::top;

fn text(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn toml(text: &str) -> toml::Table {
    text.parse().expect("TOML")
}

/// The manifest that the images hold.
fn in_cluster() -> toml::Table {
    let output = Command::new(top().join("scripts/image"))
        .arg("--manifest")
        .output()
        .expect("scripts/image starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    toml(&String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn the_manifest_in_the_images_is_the_one_at_the_top_but_for_what_a_cluster_needs() {
    let mut expected = toml(&text("spin.toml"));
    let variables = expected["variables"].as_table_mut().expect("a table");
    for (name, default) in [
        ("kube_url", "https://kubernetes.default.svc"),
        ("kube_token_file", "/sa/token"),
    ] {
        variables[name]["default"] = default.into();
    }
    let components = expected["component"].as_table_mut().expect("a table");
    for (id, component) in components {
        let component = component.as_table_mut().expect("a table");
        component.remove("build");
        component.insert("source".to_owned(), format!("{id}.wasm").into());
        let folder = toml::Table::from_iter([
            (
                "source".to_owned(),
                "/var/run/secrets/kubernetes.io/serviceaccount".into(),
            ),
            ("destination".to_owned(), "/sa".into()),
        ]);
        component.insert("files".to_owned(), vec![folder].into());
    }
    assert_eq!(in_cluster(), expected);
}

#[test]
fn every_variable_that_the_manifests_set_is_one_of_spin_toml() {
    let manifest = toml(&text("spin.toml"));
    let known: BTreeSet<&str> = manifest["variables"]
        .as_table()
        .expect("a table")
        .keys()
        .map(String::as_str)
        .collect();
    let deployment = text("k8s/overlays/deployment/deployment.yaml");
    let set = deployment
        .split("SPIN_VARIABLE_")
        .skip(1)
        .filter_map(|rest| rest.split([',', ' ']).next())
        .map(str::to_lowercase);
    let app = text("k8s/overlays/spinkube/spinapp.yaml");
    let (_, variables) = app.split_once("variables:").expect("variables");
    let (variables, _) = variables.split_once("checks:").expect("checks after them");
    let of_app = variables
        .split("- { name: ")
        .skip(1)
        .filter_map(|rest| rest.split(',').next())
        .map(str::to_owned);
    let all: Vec<String> = set.chain(of_app).collect();
    assert!(all.len() >= 6, "{all:?}");
    for name in &all {
        assert!(known.contains(name.as_str()), "{name} is no variable");
    }
}

#[test]
fn one_script_may_take_as_much_in_the_cluster_as_in_spin_toml() {
    let manifest = toml(&text("spin.toml"));
    let default = |name: &str| {
        let default = &manifest["variables"][name]["default"];
        default.as_str().expect("text").to_owned()
    };
    let (cpu, memory, disk) = (
        default("max_cpu"),
        default("max_memory"),
        default("max_ephemeral_storage"),
    );
    let most = format!(r#"max: {{ cpu: "{cpu}", memory: {memory}, ephemeral-storage: {disk} }}"#);
    assert!(text("k8s/base/runs.yaml").contains(&most), "{most}");
}

/// The documents of a manifest, without comments, as if they were of one namespace.
fn documents(path: &str, namespace: &str) -> Vec<String> {
    let text = text(path).replace(namespace, "NAMESPACE");
    let document = |text: &str| -> String {
        let lines = text.lines();
        let kept = lines.filter(|line| !line.trim_start().starts_with('#'));
        kept.map(|line| format!("{line}\n")).collect()
    };
    text.split("---\n").map(document).collect()
}

/// The one among them that has these words.
fn the_one<'a>(documents: &'a [String], words: &str) -> &'a str {
    let found: Vec<&String> = documents.iter().filter(|d| d.contains(words)).collect();
    assert_eq!(found.len(), 1, "{words} in {documents:#?}");
    found[0]
}

#[test]
fn a_tenants_namespace_is_as_the_one_of_all_is() {
    let of_all = |file: &str| documents(&format!("k8s/base/{file}"), "executor-runs");
    let component = "k8s/components/tenant";
    let tenants = |file: &str| documents(&format!("{component}/{file}"), "tenant-runs");
    // The account itself is the service's, and is there once.
    let (base, own) = (of_all("rights.yaml"), tenants("rights.yaml"));
    for kind in ["kind: Role\n", "kind: RoleBinding\n", "name: default"] {
        assert_eq!(the_one(&own, kind), the_one(&base, kind));
    }
    assert_eq!(own.len() + 1, base.len());
    let (base, own) = (of_all("runs.yaml"), tenants("runs.yaml"));
    let limits = "kind: LimitRange";
    assert_eq!(the_one(&own, limits), the_one(&base, limits));
    let counted = |documents: &[String]| -> Vec<String> {
        let quota = the_one(documents, "kind: ResourceQuota").lines();
        let names = quota.filter_map(|line| line.split_once(':'));
        names.map(|(name, _)| name.trim().to_owned()).collect()
    };
    assert_eq!(counted(&own), counted(&base), "how much may differ");
    let own = tenants("namespace.yaml");
    let policy = "kind: NetworkPolicy\nmetadata: { name: nothing, namespace: NAMESPACE }";
    let base = of_all("network-policies.yaml");
    assert_eq!(the_one(&own, policy), the_one(&base, policy));
    let labels = |documents: &[String]| -> BTreeSet<String> {
        let namespace = the_one(documents, "name: NAMESPACE\n").lines();
        let labels = namespace.filter(|line| line.contains("pod-security"));
        labels.map(str::to_owned).collect()
    };
    assert_eq!(labels(&own), labels(&of_all("namespaces.yaml")));
    assert_eq!(labels(&own).len(), 2);
    // Each file is listed, and what is shown to operators is there.
    let listed = text(&format!("{component}/kustomization.yaml"));
    for file in fs::read_dir(top().join(component)).expect("a folder") {
        let name = file.expect("a file").file_name();
        let name = name.to_str().expect("a name");
        assert!(
            name == "kustomization.yaml" || listed.contains(&format!("- {name}\n")),
            "{name}"
        );
    }
    let shown = format!("components: [../../{component}]");
    assert!(text("docs/OPERATIONS.md").contains(&shown), "{shown}");
}

#[test]
fn the_documented_rights_are_those_of_the_manifests() {
    let documented = text("docs/OPERATIONS.md").replace(['{', '}', ' '], "");
    let rules: Vec<String> = text("k8s/base/rights.yaml")
        .lines()
        .filter(|line| line.starts_with("- { apiGroups"))
        .map(|line| line.replace(['{', '}', ' '], ""))
        .collect();
    assert!(rules.len() >= 5, "{rules:?}");
    for rule in &rules {
        assert!(documented.contains(rule), "not documented: {rule}");
    }
    assert_eq!(documented.matches("-apiGroups:").count(), rules.len());
}
