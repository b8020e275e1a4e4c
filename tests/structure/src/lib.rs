//! Holds the shape of the workspace: see `tests/arrows.rs` and `tests/files.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// The top folder of the project.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The project's files whose path is wanted; built and hidden folders are left out.
///
/// # Panics
/// When a folder cannot be read.
pub fn files(wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![top()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if wanted(&path) {
                found.push(path);
            }
        }
    }
    found
}
