//! Fuzz targets of everything that parses from outside. Each takes any bytes, and panics where something is broken that must hold.
//!
//! `scripts/fuzz` makes programs of them, whose inputs are led by what they reach (libFuzzer); `cargo test` plays the kept
//! corpus, `corpus/<target>/`, and each crash that was found stays there as an input. The bodies are here; the
//! programs in `fuzz_targets/` are one line each.

mod cluster;
mod input;
mod logs;
mod platform;
mod requests;
mod service;
mod texts;

pub use cluster::{answers, pods, watches};
pub use logs::{followed, lines};
pub use requests::{cursors, lists, requests, submissions};
pub use texts::{images, quantities, traces, urls};

/// A target: any bytes go in.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its program and of its corpus.
pub const TARGETS: [(&str, Target); 13] = [
    ("answers", answers),
    ("cursors", cursors),
    ("followed", followed),
    ("images", images),
    ("lines", lines),
    ("lists", lists),
    ("pods", pods),
    ("quantities", quantities),
    ("requests", requests),
    ("submissions", submissions),
    ("traces", traces),
    ("urls", urls),
    ("watches", watches),
];
