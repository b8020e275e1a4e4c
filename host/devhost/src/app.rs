//! Puts an application together from its files and runs it until a signal comes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::Engine;

use crate::allowed_hosts::AllowedHosts;
use crate::cli::Up;
use crate::cron_trigger::CronTrigger;
use crate::http_trigger::{HttpGuest, HttpTrigger};
use crate::instance::{Guest, GuestSettings};
use crate::manifest::{Component, Manifest};
use crate::outbound::Outbound;
use crate::postgres::Postgres;
use crate::routes::Routes;
use crate::runtime_config::RuntimeConfig;
use crate::signals::Signals;
use crate::sqlite::Databases;
use crate::tls::TlsConfigs;
use crate::variables::{self, Variables};
use crate::{engine, log};

/// How many instances run at once by default, over all triggers: Spin's value (per trigger there).
const DEFAULT_INSTANCES: u32 = 1000;

/// Sets the number of instances, as in Spin.
const INSTANCES_VARIABLE: &str = "SPIN_MAX_INSTANCE_COUNT";

/// What all components share while the application is put together.
struct Workshop<'a> {
    engine: Engine,
    manifest: &'a Manifest,
    config: &'a RuntimeConfig,
    variables: Variables,
    databases: Arc<Databases>,
    compiled: PathBuf,
    refuses_empty_answers: bool,
    quiet: bool,
}

/// `devhost up`: serves the application until the first signal, then lets what runs finish.
///
/// # Errors
/// Something is wrong with the manifest, the configuration, a variable, a component or the address; the text says what.
pub async fn up(flags: Up) -> Result<()> {
    let mut signals = Signals::new()?;
    let path = if flags.from.is_dir() {
        flags.from.join("spin.toml")
    } else {
        flags.from.clone()
    };
    let manifest = Manifest::load(&path)?;
    let config = match &flags.runtime_config_file {
        Some(path) => RuntimeConfig::load(path)?,
        None => RuntimeConfig::default(),
    };
    let settings = variables::parse_settings(&flags.variables)?;
    let variables = Variables::resolve(&manifest.variables, &settings, |name| {
        std::env::var(name).ok()
    })?;
    let state_dir = flags
        .state_dir
        .clone()
        .or_else(|| config.state_dir.clone())
        .unwrap_or_else(|| manifest.dir.join(".spin"));
    let instances = instances()?;
    let workshop = Workshop {
        engine: engine::new(instances)?,
        databases: Arc::new(Databases::new(&config, &state_dir)?),
        compiled: flags
            .compiled_dir
            .clone()
            .unwrap_or_else(|| state_dir.join("compiled")),
        refuses_empty_answers: flags.refuse_empty_answers,
        quiet: flags.quiet,
        manifest: &manifest,
        config: &config,
        variables,
    };
    let guests = workshop.build_all()?;
    let instances = Arc::new(Semaphore::new(usize::try_from(instances)?));
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();

    let crons = cron_triggers(&manifest, &guests, &instances)?;
    if manifest.http.is_empty() {
        announce("Serving no HTTP, cron only")?;
    } else {
        let trigger = HttpTrigger::new(http_routes(&manifest, &guests)?, instances, tasks.clone());
        let listener = TcpListener::bind(flags.listen)
            .await
            .with_context(|| format!("cannot listen on {}", flags.listen))?;
        announce(&format!("Serving http://{}", listener.local_addr()?))?;
        tokio::spawn(Arc::new(trigger).serve(listener, stop.clone()));
    }
    for cron in crons {
        tokio::spawn(Arc::new(cron).run(tasks.clone(), stop.clone()));
    }

    let signal = signals.next().await;
    log::line("devhost", &format!("{signal}: finishing what runs"));
    stop.cancel();
    tasks.close();
    drain(
        &tasks,
        Duration::from_secs(flags.drain_seconds),
        &mut signals,
    )
    .await;
    Ok(())
}

/// Waits for all tasks, up to the limit. A second signal ends the process at once.
async fn drain(tasks: &TaskTracker, limit: Duration, signals: &mut Signals) {
    tokio::select! {
        () = tasks.wait() => {}
        () = tokio::time::sleep(limit) => {
            log::line("devhost", &format!("{} task(s) cut off after {limit:?}", tasks.len()));
        }
        signal = signals.next() => {
            log::line("devhost", &format!("{signal} again: {} task(s) cut off", tasks.len()));
            std::process::exit(signal.exit_code());
        }
    }
}

fn announce(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .context("stdout is closed")
}

fn instances() -> Result<u32> {
    match std::env::var(INSTANCES_VARIABLE) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{INSTANCES_VARIABLE} is {text:?}, not a number")),
        Err(_) => Ok(DEFAULT_INSTANCES),
    }
}

fn http_routes(
    manifest: &Manifest,
    guests: &BTreeMap<String, Arc<Guest>>,
) -> Result<Routes<Arc<HttpGuest>>> {
    let mut routes = Vec::new();
    for trigger in &manifest.http {
        let guest = HttpGuest::new(Arc::clone(&guests[&trigger.component]))?;
        routes.push((trigger.route.clone(), Arc::new(guest)));
    }
    Ok(Routes::new(routes))
}

fn cron_triggers(
    manifest: &Manifest,
    guests: &BTreeMap<String, Arc<Guest>>,
    instances: &Arc<Semaphore>,
) -> Result<Vec<CronTrigger>> {
    let triggers = manifest.cron.iter().map(|trigger| {
        let guest = Arc::clone(&guests[&trigger.component]);
        CronTrigger::new(guest, &trigger.cron_expression, Arc::clone(instances))
    });
    triggers.collect()
}

impl Workshop<'_> {
    /// Every component that a trigger names.
    fn build_all(&self) -> Result<BTreeMap<String, Arc<Guest>>> {
        let http = self.manifest.http.iter().map(|trigger| &trigger.component);
        let cron = self.manifest.cron.iter().map(|trigger| &trigger.component);
        let used: BTreeSet<&String> = http.chain(cron).collect();
        let mut guests = BTreeMap::new();
        for id in used {
            let guest = self
                .build(id, &self.manifest.components[id])
                .with_context(|| format!("component {id:?}"))?;
            guests.insert(id.clone(), Arc::new(guest));
        }
        Ok(guests)
    }

    fn build(&self, id: &str, component: &Component) -> Result<Guest> {
        let id: Arc<str> = Arc::from(id);
        let hosts: Vec<String> = component
            .allowed_outbound_hosts
            .iter()
            .map(|pattern| self.variables.expand(pattern))
            .collect::<Result<_>>()?;
        let allowed = Arc::new(AllowedHosts::parse(&hosts)?);
        let outbound = Outbound::new(
            Arc::clone(&id),
            Arc::clone(&allowed),
            TlsConfigs::load(&id, &self.config.client_tls)?,
            self.config.connection_pooling(),
        );
        let postgres = Postgres::new(Arc::clone(&id), allowed, self.refuses_empty_answers);
        let names = self.databases.names();
        for name in &component.sqlite_databases {
            if !names.contains(name.as_str()) {
                bail!("it may open the database {name:?}, which the runtime config does not have");
            }
        }
        let folders = component.files.iter().map(|folder| {
            let source = self.manifest.dir.join(&folder.source);
            if !source.is_dir() {
                bail!("files: there is no folder {}", source.display());
            }
            Ok((source, folder.destination.clone()))
        });
        let settings = GuestSettings {
            folders: folders.collect::<Result<_>>()?,
            variables: Arc::new(self.variables.of_component(&component.variables)?),
            environment: component.environment.clone(),
            outbound: Arc::new(outbound),
            postgres: Arc::new(postgres),
            databases: Arc::clone(&self.databases),
            allowed_databases: Arc::new(component.sqlite_databases.iter().cloned().collect()),
            quiet: self.quiet,
        };
        let source: &Path = &self.manifest.dir.join(&component.source);
        let component = engine::load(&self.engine, source, &self.compiled)?;
        Guest::link(&self.engine, &component, id, settings)
    }
}
