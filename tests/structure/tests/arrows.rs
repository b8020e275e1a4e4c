//! The arrows between the rooms are those of docs/ARCHITECTURE.md and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use structure::{files, top};

/// From each room to the rooms it may use. Dev-dependencies are held only to `TEST_ARROWS`.
const ARROWS: &[(&str, &[&str])] = &[
    ("benches", &["domain", "e2e", "kubernetes", "store"]),
    ("domain", &[]),
    ("kubernetes", &[]),
    ("store", &["domain"]),
    ("app", &["domain", "kubernetes", "store"]),
    ("http-api", &["app", "domain"]),
    ("spin-platform", &["app", "kubernetes", "store"]),
    ("api", &["http-api", "spin-platform"]),
    ("reconciler", &["app", "spin-platform"]),
    ("devhost", &[]),
    ("devhost-test-guest", &[]),
    ("localcluster", &[]),
    ("e2e", &[]),
    (
        "fuzz",
        &["app", "domain", "http-api", "kubernetes", "store"],
    ),
    (
        "sim",
        &["app", "domain", "kubernetes", "localcluster", "store"],
    ),
    ("structure", &[]),
];

/// What tests may use besides.
const TEST_ARROWS: &[&str] = &["localcluster", "store", "kubernetes", "app", "domain"];

fn manifests() -> BTreeMap<String, toml::Table> {
    let name =
        |manifest: &toml::Table| Some(manifest.get("package")?.get("name")?.as_str()?.to_owned());
    files(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"))
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).expect("a readable manifest");
            let manifest: toml::Table = text
                .parse()
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            Some((name(&manifest)?, manifest))
        })
        .collect()
}

fn dependencies(manifest: &toml::Table, kinds: &[&str]) -> BTreeSet<String> {
    let of = |table: &toml::Table| -> Vec<String> {
        kinds
            .iter()
            .filter_map(|kind| table.get(*kind)?.as_table())
            .flat_map(|table| table.keys().cloned())
            .collect()
    };
    let mut all = of(manifest);
    for target in manifest
        .get("target")
        .and_then(|t| t.as_table())
        .into_iter()
        .flat_map(|t| t.values())
    {
        all.extend(target.as_table().map(of).unwrap_or_default());
    }
    all.into_iter().collect()
}

#[test]
fn every_room_is_in_the_table_and_every_arrow_is_allowed() {
    let manifests = manifests();
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    let present: BTreeSet<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(present, rooms, "the rooms and the table of arrows differ");
    for (room, allowed) in ARROWS {
        let manifest = &manifests[*room];
        for dependency in dependencies(manifest, &["dependencies", "build-dependencies"]) {
            let ours = rooms.contains(dependency.as_str());
            assert!(
                !ours || allowed.contains(&dependency.as_str()),
                "{room} -> {dependency} is no arrow of the design"
            );
        }
        for dependency in dependencies(manifest, &["dev-dependencies"]) {
            let ours = rooms.contains(dependency.as_str());
            let ok = allowed.contains(&dependency.as_str())
                || TEST_ARROWS.contains(&dependency.as_str());
            assert!(!ours || ok, "the tests of {room} may not use {dependency}");
        }
    }
}

#[test]
fn hosts_are_never_linked_into_components() {
    // Transitively: what a component reaches must be none of the native rooms.
    let manifests = manifests();
    for component in ["api", "reconciler"] {
        let mut reached = BTreeSet::new();
        let mut next = vec![component.to_owned()];
        while let Some(room) = next.pop() {
            if let Some(manifest) = manifests.get(&room)
                && reached.insert(room)
            {
                next.extend(dependencies(manifest, &["dependencies"]));
            }
        }
        for native in ["benches", "devhost", "localcluster", "e2e", "fuzz", "sim"] {
            assert!(!reached.contains(native), "{component} reaches {native}");
        }
        assert!(
            reached.contains("domain"),
            "the walk went somewhere: {reached:?}"
        );
    }
}

#[test]
fn there_is_one_lock_file_and_every_room_inherits_the_lints() {
    for (room, manifest) in manifests() {
        let inherits = manifest
            .get("lints")
            .and_then(|l| l.get("workspace"))
            .and_then(|w| w.as_bool());
        assert_eq!(
            inherits,
            Some(true),
            "{room} does not inherit the workspace's lints"
        );
    }
    assert!(top().join("Cargo.lock").is_file());
}
