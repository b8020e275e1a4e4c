//! The kept corpus, played without libFuzzer: whatever once broke something stays mended.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::TARGETS;

/// All of it together, in bytes: it is cloned by everybody.
const MAX_CORPUS_BYTES: u64 = 900_000;

/// So many changed inputs are played of each target, from the corpus on: without a look at what they reach, more find little.
const CHANGED: usize = 400;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn names(folder: &Path) -> BTreeSet<String> {
    let stem = |path: &PathBuf| {
        path.file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    files(folder).iter().map(stem).collect()
}

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let inputs = files(&folder("corpus").join(target)).into_iter();
    inputs
        .map(|path| fs::read(path).expect("a readable input"))
        .collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder("fuzz_targets")), known);
    assert_eq!(names(&folder("corpus")), known);
    let mut bytes = 0;
    for name in &known {
        let inputs = inputs(name);
        assert!(inputs.len() >= 5, "{name} has a corpus");
        bytes += inputs.iter().map(|input| input.len() as u64).sum::<u64>();
    }
    assert!(bytes <= MAX_CORPUS_BYTES, "the corpus has {bytes} bytes");
}

#[test]
fn what_is_kept_breaks_nothing() {
    for (name, target) in TARGETS {
        for path in files(&folder("corpus").join(name)) {
            let input = fs::read(&path).expect("a readable input");
            let played = catch_unwind(|| target(&input));
            assert!(played.is_ok(), "{} breaks something", path.display());
        }
    }
}

#[test]
fn neither_does_what_is_made_of_it_by_chance() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number"));
    println!("SEED={seed}");
    let mut state: u64 = seed | 1;
    let mut below = move |limit: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    };
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        for _ in 0..CHANGED {
            let mut input = inputs[below(inputs.len())].clone();
            let other = &inputs[below(inputs.len())];
            for _ in 0..=below(3) {
                let at = below(input.len() + 1);
                let end = (at + below(8)).min(input.len());
                let from = below(other.len() + 1);
                let to = (from + below(16)).min(other.len());
                match below(3) {
                    0 => input.splice(at..end, [below(256) as u8]).for_each(drop),
                    1 => input.truncate(at),
                    _ => input
                        .splice(at..end, other[from..to].iter().copied())
                        .for_each(drop),
                }
            }
            let played = catch_unwind(|| target(&input));
            assert!(
                played.is_ok(),
                "{name}: {:?}",
                String::from_utf8_lossy(&input)
            );
        }
    }
}
