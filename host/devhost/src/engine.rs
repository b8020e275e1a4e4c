//! The wasmtime engine: its settings, and machine code kept on disk so that a component is compiled once.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

/// How long a guest computes before others get their turn.
const TURN: Duration = Duration::from_millis(10);

/// Compiled components that are kept; the oldest go first. A few builds of a few components fit.
const COMPILED_FILES: usize = 32;

/// Makes the engine, for at most `instances` running at once.
///
/// # Errors
/// This machine cannot run wasmtime, for example for want of address space.
pub fn new(instances: u32) -> Result<Engine> {
    let pooling = Engine::new(&config(Some(instances)));
    let engine = match pooling {
        Ok(engine) => engine,
        // The pool reserves address space for all instances, which a container may forbid.
        Err(_) => Engine::new(&config(None))
            .map_err(anyhow::Error::from)
            .context("wasmtime does not run here")?,
    };
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("turns".to_owned())
        .spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TURN);
            }
        })
        .context("cannot start a thread")?;
    Ok(engine)
}

/// Lets a guest that computes for long give way to others, again and again.
pub fn share_threads<T>(store: &mut Store<T>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
}

fn config(pool: Option<u32>) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true).epoch_interruption(true);
    if let Some(instances) = pool {
        let mut pooling = PoolingAllocationConfig::default();
        pooling
            .total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
            .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
            .total_memories(instances)
            .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
            .max_tables_per_component(TABLES_PER_COMPONENT)
            .total_stacks(instances)
            .max_component_instance_size(INSTANCE_SIZE_BYTES)
            .max_core_instance_size(INSTANCE_SIZE_BYTES)
            .table_elements(TABLE_ELEMENTS)
            .linear_memory_keep_resident(KEEP_RESIDENT_BYTES);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
    }
    config
}

/// A Rust component has its main module, adapters and shims: well below this many core instances.
const CORE_INSTANCES_PER_COMPONENT: u32 = 20;

/// Each of those modules may have a table of functions.
const TABLES_PER_COMPONENT: u32 = 20;

/// Bookkeeping of one instance: grows with imports and functions. Spin allows 10 MiB.
const INSTANCE_SIZE_BYTES: usize = 10 * 1024 * 1024;

/// Functions whose address is taken; a Rust component of some MiB has a few thousands. Spin allows 100,000.
const TABLE_ELEMENTS: usize = 100_000;

/// Memory that a slot keeps for the next instance: clearing this much is quicker than giving it back to the system.
const KEEP_RESIDENT_BYTES: usize = 256 * 1024;

/// Loads the component at `path`, compiling it only when `compiled` does not hold its machine code yet.
///
/// # Errors
/// The file cannot be read or is not a component.
pub fn load(engine: &Engine, path: &Path, compiled: &Path) -> Result<Component> {
    let wasm = std::fs::read(path)
        .with_context(|| format!("cannot read the component {}: is it built?", path.display()))?;
    let file = compiled.join(format!("{}.cwasm", key(engine, &wasm)));
    if file.exists() {
        #[expect(
            unsafe_code,
            reason = "deserialize_file trusts that wasmtime wrote the file: it carries the hash of its source and of the \
                      engine in its name, appears whole (written aside, then renamed), and lies in the user's own folder"
        )]
        let loaded = unsafe { Component::deserialize_file(engine, &file) };
        match loaded {
            Ok(component) => return Ok(component),
            Err(error) => crate::log::line("devhost", &format!("compiling again: {error:#}")),
        }
    }
    let component = Component::from_binary(engine, &wasm)
        .map_err(anyhow::Error::from)
        .with_context(|| format!("{} is not a component", path.display()))?;
    // Without a kept copy the next start is slower, and that is all.
    if let Err(error) = keep(&component, &file) {
        crate::log::line("devhost", &format!("compiled code is not kept: {error:#}"));
    }
    Ok(component)
}

/// Names the machine code of `wasm`: changes with the component, wasmtime's version, the settings and the processor.
fn key(engine: &Engine, wasm: &[u8]) -> String {
    struct Feed(Sha256);
    impl Hasher for Feed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut feed = Feed(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.0.update(wasm);
    feed.0
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn keep(component: &Component, file: &Path) -> Result<()> {
    let dir = file.parent().context("the file has a folder")?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let aside = dir.join(format!("{}.part", std::process::id()));
    std::fs::write(&aside, component.serialize()?)?;
    std::fs::rename(&aside, file)?;
    remove_oldest(dir)
}

fn remove_oldest(dir: &Path) -> Result<()> {
    let mut files: Vec<(std::time::SystemTime, PathBuf)> = std::fs::read_dir(dir)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let made = entry.metadata().ok()?.modified().ok()?;
            Some((made, entry.path()))
        })
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(COMPILED_FILES);
    for (_, path) in files.into_iter().take(surplus) {
        // Another devhost may have removed it first.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}
