//! Lists, pages and watches.

use serde_json::json;

use crate::api;
use crate::common::{job, name, terminated, unique};

#[test]
fn pages_show_one_moment() {
    let label = unique("page");
    let make = |index: usize| json!({"metadata": {"name": format!("{label}-{index}"), "labels": {"page": label}}, "data": {"n": index.to_string()}});
    for index in 0..5 {
        api().create("configmaps", &make(index));
    }
    let base = format!(
        "{}?labelSelector=page={label}&limit=2",
        api().path("configmaps", "")
    );
    let (status, first) = api().call("GET", &base, None);
    assert_eq!((status, &first["kind"]), (200, &json!("ConfigMapList")));
    let mut names: Vec<String> = first["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(name)
        .collect();
    assert_eq!(names.len(), 2);
    // What happens between the pages does not show in them.
    api().create("configmaps", &make(9));
    api().delete("configmaps", &format!("{label}-4"));
    let mut token = first["metadata"]["continue"]
        .as_str()
        .expect("more")
        .to_owned();
    while !token.is_empty() {
        let (status, page) = api().call("GET", &format!("{base}&continue={token}"), None);
        assert_eq!(status, 200, "{page}");
        assert_eq!(
            page["metadata"]["resourceVersion"],
            first["metadata"]["resourceVersion"]
        );
        names.extend(page["items"].as_array().expect("items").iter().map(name));
        token = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    }
    let expected: Vec<String> = (0..5).map(|index| format!("{label}-{index}")).collect();
    assert_eq!(names, expected);
    let (status, answer) = api().call("GET", &format!("{base}&continue=nonsense"), None);
    assert_eq!((status, &answer["reason"]), (400, &json!("BadRequest")));
    for index in [0, 1, 2, 3, 9] {
        api().delete("configmaps", &format!("{label}-{index}"));
    }
}

#[test]
fn a_watch_tells_every_change_from_a_version_on() {
    let label = unique("watch");
    let path = api().path("configmaps", &label);
    let (_, list) = api().call(
        "GET",
        &format!(
            "{}?labelSelector=watch={label}",
            api().path("configmaps", "")
        ),
        None,
    );
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .expect("version");
    api().create(
        "configmaps",
        &json!({"metadata": {"name": label, "labels": {"watch": label}}, "data": {"a": "1"}}),
    );
    api().call("PATCH", &path, Some(&json!({"data": {"a": "2"}})));
    // Without the label the object is gone for this watch, and back with it.
    api().call(
        "PATCH",
        &path,
        Some(&json!({"metadata": {"labels": {"watch": null}}})),
    );
    api().call(
        "PATCH",
        &path,
        Some(&json!({"metadata": {"labels": {"watch": label}}})),
    );
    api().delete("configmaps", &label);
    let mut watch = api().watch(
        "configmaps",
        &format!("labelSelector=watch={label}&resourceVersion={version}&timeoutSeconds=30"),
    );
    let mut last = version.parse::<u64>().expect("number");
    for (kind, value) in [
        ("ADDED", "1"),
        ("MODIFIED", "2"),
        ("DELETED", "2"),
        ("ADDED", "2"),
        ("DELETED", "2"),
    ] {
        let event = watch.next().expect("event");
        assert_eq!(
            (&event["type"], &event["object"]["data"]["a"]),
            (&json!(kind), &json!(value)),
            "{event}"
        );
        let version = event["object"]["metadata"]["resourceVersion"]
            .as_str()
            .expect("version")
            .parse::<u64>()
            .expect("number");
        assert!(version > last, "{version} after {last}");
        last = version;
    }
}

#[test]
fn a_watch_without_a_version_begins_with_what_is() {
    let map = unique("initial");
    api().create(
        "configmaps",
        &json!({"metadata": {"name": map}, "data": {}}),
    );
    let mut watch = api().watch(
        "configmaps",
        &format!("fieldSelector=metadata.name={map}&timeoutSeconds=20"),
    );
    let event = watch.next().expect("event");
    assert_eq!(
        (&event["type"], name(&event["object"])),
        (&json!("ADDED"), map.clone())
    );
    assert_eq!(event["object"]["kind"], "ConfigMap");
    api().delete("configmaps", &map);
    assert_eq!(watch.next().expect("event")["type"], "DELETED");
}

#[test]
fn a_watch_ends_in_time_with_a_bookmark() {
    let (_, list) = api().call("GET", &api().path("jobs", ""), None);
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .expect("version");
    let begin = std::time::Instant::now();
    let query = format!(
        "fieldSelector=metadata.name=none&resourceVersion={version}&timeoutSeconds=4&allowWatchBookmarks=true"
    );
    let mut watch = api().watch("jobs", &query);
    let mut bookmarks = 0;
    while let Some(event) = watch.next() {
        assert_eq!(
            (&event["type"], &event["object"]["kind"]),
            (&json!("BOOKMARK"), &json!("Job")),
            "{event}"
        );
        assert!(
            event["object"]["metadata"]["resourceVersion"]
                .as_str()
                .expect("version")
                .parse::<u64>()
                .is_ok()
        );
        bookmarks += 1;
    }
    assert!(bookmarks >= 1);
    let took = begin.elapsed().as_secs_f64();
    assert!((3.5..15.0).contains(&took), "{took}");
}

#[test]
fn a_watch_of_pods_shows_the_way_of_a_job() {
    let job_name = unique("way");
    let (_, list) = api().call("GET", &api().path("pods", ""), None);
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .expect("version");
    let query = format!(
        "labelSelector=batch.kubernetes.io/job-name={job_name}&resourceVersion={version}&timeoutSeconds=60"
    );
    let mut watch = api().watch("pods", &query);
    api().create("jobs", &job(&job_name, "exit 7"));
    let added = watch.next().expect("event");
    assert_eq!(
        (&added["type"], &added["object"]["status"]["phase"]),
        (&json!("ADDED"), &json!("Pending"))
    );
    // The container's end shows no later than the pod's.
    let ended = watch.find(|event| !terminated(&event["object"]).is_null());
    assert_eq!(terminated(&ended["object"])["exitCode"], 7);
    let failed = if ended["object"]["status"]["phase"] == "Failed" {
        ended
    } else {
        watch.find(|e| e["object"]["status"]["phase"] == "Failed")
    };
    assert_eq!(failed["type"], "MODIFIED");
    api().delete("jobs", &job_name);
    watch.find(|event| event["type"] == "DELETED");
}

#[test]
fn selectors() {
    let label = unique("select");
    for (index, tier) in ["a", "b", "c"].iter().enumerate() {
        let labels = json!({"select": label, "tier": tier});
        api().create(
            "configmaps",
            &json!({"metadata": {"name": format!("{label}-{index}"), "labels": labels}}),
        );
    }
    for (labels, fields, expected) in [
        ("", "", "012"),
        (",tier=a", "", "0"),
        (",tier!=a", "", "12"),
        (",tier%20in%20(a,c)", "", "02"),
        (",tier%20notin%20(a,c)", "", "1"),
        (",tier", "", "012"),
        (",!tier", "", ""),
        ("", "metadata.name=NAME-1", "1"),
        (",tier==b", "metadata.name!=NAME-1", ""),
    ] {
        let fields = fields.replace("NAME", &label);
        let found = api().list(
            "configmaps",
            &format!("labelSelector=select={label}{labels}&fieldSelector={fields}"),
        );
        let shown: String = found
            .iter()
            .map(|map| name(map).rsplit('-').next().expect("index").to_owned())
            .collect();
        assert_eq!(shown, expected, "{labels} {fields}");
    }
    for index in 0..3 {
        api().delete("configmaps", &format!("{label}-{index}"));
    }
}

#[test]
fn versions_from_the_future() {
    let (status, answer) = api().call(
        "GET",
        &format!(
            "{}?resourceVersion=999999999999",
            api().path("configmaps", "")
        ),
        None,
    );
    assert_eq!(
        (status, &answer["reason"]),
        (504, &json!("Timeout")),
        "{answer}"
    );
    let (status, _) = api().call(
        "GET",
        &format!("{}?resourceVersion=nonsense", api().path("configmaps", "")),
        None,
    );
    assert_eq!(status, 400);
}
