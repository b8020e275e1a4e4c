//! The corpus: `scripts/<name>.sh`, and beside each its `<name>.toml` with what is sent and expected.
//!
//! A `.toml` has `about` (what it shows), `[request]` (fields of the submission beside `script`),
//! `[expect]` ([`Expectation`]), and where needed `fill`, which puts a
//! repeated text in the place of `@FILL@`, `only-real`, the reason why an embedded cluster cannot
//! show it, and `by-runtime`, what a container runtime does that a shell alone does not.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

pub use crate::expectation::{Expectation, ExpectedLog, KEPT_BYTES, Repeat};

/// What is replaced by a repeated text.
const FILL: &str = "@FILL@";

/// One script with everything about it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file's name without its ending.
    pub name: String,
    /// What it shows, in a few words.
    pub about: String,
    /// The body of the submission.
    pub request: Value,
    /// Why an embedded cluster cannot show it; none where it can.
    pub only_real: Option<String>,
    /// What the container runtime adds, where a shell alone gives something else; none where it does not.
    pub by_runtime: Option<String>,
    /// What is expected.
    pub expect: Expectation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    about: String,
    #[serde(default)]
    request: toml::Table,
    fill: Option<Fill>,
    only_real: Option<String>,
    by_runtime: Option<String>,
    expect: Expectation,
}

/// A text too large to be written out in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fill {
    /// JSON pointer of the string with `@FILL@` in it.
    at: String,
    text: String,
    times: usize,
}

/// All scripts, by name.
///
/// # Panics
/// When a file is not as it should be, or stands alone.
pub fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder that can be read").path())
        .collect();
    files.sort();
    for file in &files {
        let other = file.with_extension(if file.extension().is_some_and(|e| e == "sh") {
            "toml"
        } else {
            "sh"
        });
        assert!(
            other.is_file(),
            "{} has no {}",
            file.display(),
            other.display()
        );
    }
    let scripts = files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "sh"));
    scripts.map(|script| Case::read(script)).collect()
}

impl Case {
    fn read(script: &Path) -> Self {
        let name = script.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(script.with_extension("toml"))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let file: File = toml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let script = std::fs::read_to_string(script).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut request = serde_json::to_value(&file.request).expect("TOML without dates is JSON");
        request["script"] = script.into();
        if let Some(fill) = &file.fill {
            let place = request.pointer_mut(&fill.at);
            let place = place.unwrap_or_else(|| panic!("{name}: nothing at {}", fill.at));
            let text = place.as_str().unwrap_or_default();
            assert!(text.contains(FILL), "{name}: no {FILL} at {}", fill.at);
            *place = text.replace(FILL, &fill.text.repeat(fill.times)).into();
        }
        Self {
            name: name.into_owned(),
            about: file.about,
            request,
            only_real: file.only_real,
            by_runtime: file.by_runtime,
            expect: file.expect,
        }
    }
}
