//! Holds the shape of the workspace: see `tests/arrows.rs` and `tests/files.rs`.
