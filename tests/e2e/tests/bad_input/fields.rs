//! The table of bodies that are JSON but ask for what cannot be.

use serde_json::{Value, json};

/// A body, where its error must point to, and what must be named there.
pub struct Invalid {
    /// What is wrong with it.
    pub name: &'static str,
    /// The body.
    pub body: Value,
    /// The JSON pointer that an error has, or begins with.
    pub pointer: &'static str,
    /// What the errors must mention.
    pub mentions: &'static [&'static str],
}

/// The whole table.
pub fn invalid() -> Vec<Invalid> {
    let mut cases = scripts();
    cases.extend(commands());
    cases.extend(resources());
    cases.extend(environments());
    cases.extend(files());
    cases.extend(timeouts());
    cases.extend(retries());
    cases.extend(labels());
    cases
}

/// A good submission but for that field.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({ "script": "echo never" });
    body[field] = value;
    body
}

type Row = (&'static str, Value, &'static str, &'static [&'static str]);

fn table(rows: Vec<Row>) -> Vec<Invalid> {
    let row = |(name, body, pointer, mentions)| Invalid {
        name,
        body,
        pointer,
        mentions,
    };
    rows.into_iter().map(row).collect()
}

#[rustfmt::skip] // One line for each case reads as a table.
fn scripts() -> Vec<Invalid> {
    let long = "x".repeat(1024 * 1024 + 1);
    table(vec![
        ("script missing", json!({}), "", &["script"]),
        ("script null", json!({ "script": null }), "/script", &[]),
        ("script a number", json!({ "script": 42 }), "/script", &[]),
        ("script a list", json!({ "script": ["echo"] }), "/script", &[]),
        ("script empty", json!({ "script": "" }), "/script", &[]),
        ("script blank", json!({ "script": " \n\t " }), "/script", &[]),
        ("script with NUL", json!({ "script": "echo a\u{0}b" }), "/script", &[]),
        ("script over 1 MiB", json!({ "script": long }), "/script", &[]),
        ("unknown field, near script", json!({ "scirpt": "x", "script": "x" }), "/scirpt", &["`script`"]),
        ("unknown field, other case", json!({ "Script": "x", "script": "x" }), "/Script", &["`script`"]),
        ("unknown field, near env", with("envs", json!({})), "/envs", &["`env`"]),
        ("unknown field, near nothing", with("qqqqqqqq", json!(1)), "/qqqqqqqq", &["qqqqqqqq"]),
    ])
}

#[rustfmt::skip] // One line for each case reads as a table.
fn commands() -> Vec<Invalid> {
    table(vec![
        ("interpreter a string", with("interpreter", json!("python3")), "/interpreter", &[]),
        ("interpreter empty", with("interpreter", json!([])), "/interpreter", &[]),
        ("interpreter with an empty command", with("interpreter", json!([""])), "/interpreter", &[]),
        ("interpreter with a number", with("interpreter", json!(["sh", 1])), "/interpreter/1", &[]),
        ("interpreter with NUL", with("interpreter", json!(["s\u{0}h"])), "/interpreter/0", &[]),
        ("args a string", with("args", json!("one")), "/args", &[]),
        ("args with null", with("args", json!(["one", null])), "/args/1", &[]),
        ("args with NUL", with("args", json!(["a\u{0}"])), "/args/0", &[]),
        ("args too long for Linux", with("args", json!(["x".repeat(200_000)])), "/args", &[]),
        ("args too many", with("args", json!(vec!["x"; 100_000])), "/args", &[]),
        ("image empty", with("image", json!("")), "/image", &[]),
        ("image a number", with("image", json!(1.37)), "/image", &[]),
        ("image with a blank", with("image", json!("busybox latest")), "/image", &[]),
    ])
}

#[rustfmt::skip] // One line for each case reads as a table.
fn resources() -> Vec<Invalid> {
    let of = |value| with("resources", value);
    table(vec![
        ("resources a list", of(json!([])), "/resources", &[]),
        ("cpu negative", of(json!({ "cpu": "-1" })), "/resources/cpu", &[]),
        ("cpu no quantity", of(json!({ "cpu": "a lot" })), "/resources/cpu", &[]),
        ("cpu true", of(json!({ "cpu": true })), "/resources/cpu", &[]),
        ("cpu zero", of(json!({ "cpu": "0" })), "/resources/cpu", &[]),
        ("cpu over the maximum", of(json!({ "cpu": "1000" })), "/resources/cpu", &["4"]),
        ("cpu with a blank", of(json!({ "cpu": " 1" })), "/resources/cpu", &[]),
        ("memory with a wrong suffix", of(json!({ "memory": "128MiB" })), "/resources/memory", &[]),
        ("memory in capital kilo", of(json!({ "memory": "128K" })), "/resources/memory", &[]),
        ("memory beyond all numbers", of(json!({ "memory": "1e99" })), "/resources/memory", &[]),
        ("memory over the maximum", of(json!({ "memory": "999Ti" })), "/resources/memory", &["8Gi"]),
        ("memory empty", of(json!({ "memory": "" })), "/resources/memory", &[]),
        ("memory NaN", of(json!({ "memory": "NaN" })), "/resources/memory", &[]),
        ("disk not whole", of(json!({ "ephemeralStorage": "0.5" })), "/resources/ephemeralStorage", &[]),
        ("resource near memory", of(json!({ "memroy": "1Mi" })), "/resources/memroy", &["`memory`"]),
        ("resource unknown", of(json!({ "gpu": "1" })), "/resources/gpu", &["gpu"]),
    ])
}

#[rustfmt::skip] // One line for each case reads as a table.
fn environments() -> Vec<Invalid> {
    let of = |value| with("env", value);
    table(vec![
        ("env a list", of(json!(["A=1"])), "/env", &[]),
        ("env name with a digit first", of(json!({ "1A": "x" })), "/env/1A", &[]),
        ("env name with a dash", of(json!({ "A-B": "x" })), "/env/A-B", &[]),
        ("env name with a slash", of(json!({ "A/B~": "x" })), "/env/A~1B~0", &[]),
        ("env name empty", of(json!({ "": "x" })), "/env/", &[]),
        ("env name not ASCII", of(json!({ "É": "x" })), "/env/", &[]),
        ("env value a number", of(json!({ "A": 1 })), "/env/A", &[]),
        ("env value null", of(json!({ "A": null })), "/env/A", &[]),
        ("env value with NUL", of(json!({ "A": "\u{0}" })), "/env/A", &[]),
        ("env value too long for Linux", of(json!({ "A": "x".repeat(200_000) })), "/env", &[]),
    ])
}

#[rustfmt::skip] // One line for each case reads as a table.
fn files() -> Vec<Invalid> {
    let of = |value| with("files", value);
    let large = "x".repeat(700 * 1024 + 1);
    table(vec![
        ("files a list", of(json!([])), "/files", &[]),
        ("file out of its folder", of(json!({ "../x": { "text": "" } })), "/files/..~1x", &[]),
        ("file with .. inside", of(json!({ "a/../b": { "text": "" } })), "/files/a~1..~1b", &[]),
        ("file with an absolute path", of(json!({ "/etc/passwd": { "text": "" } })), "/files/~1etc~1passwd", &[]),
        ("file without a name", of(json!({ "": { "text": "" } })), "/files/", &[]),
        ("file with NUL in its name", of(json!({ "a\u{0}": { "text": "" } })), "/files/a", &[]),
        ("file of two kinds", of(json!({ "a": { "text": "", "base64": "" } })), "/files/a", &[]),
        ("file of no kind", of(json!({ "a": {} })), "/files/a", &[]),
        ("file as a string", of(json!({ "a": "text" })), "/files/a", &[]),
        ("file that is no base64", of(json!({ "a": { "base64": "!!!!" } })), "/files/a", &[]),
        ("file field near text", of(json!({ "a": { "txet": "" } })), "/files/a", &["`text`"]),
        ("files over 700 KiB", of(json!({ "a": { "text": large } })), "/files", &[]),
        ("file that is a folder too", of(json!({ "a": { "text": "" }, "a/b": { "text": "" } })), "/files", &[]),
    ])
}

#[rustfmt::skip] // One line for each case reads as a table.
fn timeouts() -> Vec<Invalid> {
    let of = |value| with("timeouts", value);
    table(vec![
        ("timeouts a number", of(json!(60)), "/timeouts", &[]),
        ("run clock zero", of(json!({ "runSeconds": 0 })), "/timeouts/runSeconds", &[]),
        ("run clock negative", of(json!({ "runSeconds": -1 })), "/timeouts/runSeconds", &[]),
        ("run clock not whole", of(json!({ "runSeconds": 1.5 })), "/timeouts/runSeconds", &[]),
        ("run clock a string", of(json!({ "runSeconds": "10" })), "/timeouts/runSeconds", &[]),
        ("run clock for ever", of(json!({ "runSeconds": 1e15 })), "/timeouts/runSeconds", &[]),
        ("grace negative", of(json!({ "graceSeconds": -1 })), "/timeouts/graceSeconds", &[]),
        ("clock near startSeconds", of(json!({ "startSecond": 1 })), "/timeouts/startSecond", &["`startSeconds`"]),
    ])
}

#[rustfmt::skip] // One line for each case reads as a table.
fn retries() -> Vec<Invalid> {
    let of = |value| with("retry", value);
    table(vec![
        ("retry a number", of(json!(3)), "/retry", &[]),
        ("retries without end", of(json!({ "limit": 11 })), "/retry/limit", &["10"]),
        ("retries negative", of(json!({ "limit": -1 })), "/retry/limit", &[]),
        ("retries a string", of(json!({ "limit": "3" })), "/retry/limit", &[]),
        ("retry on a string", of(json!({ "limit": 1, "on": "ERROR" })), "/retry/on", &[]),
        ("retry on nothing", of(json!({ "limit": 1, "on": [] })), "/retry/on", &[]),
        ("retry on success", of(json!({ "limit": 1, "on": ["SUCCEEDED"] })), "/retry/on/0", &[]),
        ("retry field near limit", of(json!({ "limt": 1 })), "/retry/limt", &["`limit`"]),
    ])
}

#[rustfmt::skip] // One line for each case reads as a table.
fn labels() -> Vec<Invalid> {
    let of = |value| with("labels", value);
    let many: serde_json::Map<String, Value> = (0..17).map(|n| (format!("l{n}"), json!("x"))).collect();
    table(vec![
        ("labels too many", of(Value::Object(many)), "/labels", &["16"]),
        ("labels a list", of(json!(["a"])), "/labels", &[]),
        ("label value a number", of(json!({ "a": 1 })), "/labels/a", &[]),
        ("label value with NUL", of(json!({ "a": "\u{0}" })), "/labels/a", &[]),
        ("label value too long", of(json!({ "a": "x".repeat(10_000) })), "/labels/a", &[]),
        ("label name empty", of(json!({ "": "x" })), "/labels/", &[]),
    ])
}
