//! A component that is ready to run, and the state of one running instance of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use wasmtime::component::{Component, HasSelf, InstancePre, Linker, Resource, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, IoError};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bindings::Host_;
use crate::bindings::fermyon::spin::variables;
use crate::engine;
use crate::log::{self, GuestOutput};
use crate::outbound::{Outbound, OutboundHooks};
use crate::postgres::Postgres;
use crate::sqlite::{Databases, SqliteState};

/// The interface as wasmtime-wasi-http 48 names it; older versions of WASI 0.2 are matched to it.
const HTTP_TYPES: &str = "wasi:http/types@0.2.12";

/// Interfaces that components may import, without versions. The linker takes WASI 0.2 up to its own patch version.
const OFFERED: [&str; 10] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
    "fermyon:spin/variables@",
    "spin:postgres/postgres@",
    "spin:sqlite/sqlite@",
];

/// Everything of one component that its instances share.
pub struct Guest {
    /// The component's id in the manifest.
    pub id: Arc<str>,
    pre: InstancePre<InstanceState>,
    settings: GuestSettings,
}

/// What the manifest and the command line say about one component.
pub struct GuestSettings {
    /// Its variables.
    pub variables: Arc<BTreeMap<String, String>>,
    /// Its environment variables.
    pub environment: BTreeMap<String, String>,
    /// Folders of the host, and where it may read them.
    pub folders: Vec<(PathBuf, String)>,
    /// Its outbound HTTP.
    pub outbound: Arc<Outbound>,
    /// Its PostgreSQL.
    pub postgres: Arc<Postgres>,
    /// All SQLite databases.
    pub databases: Arc<Databases>,
    /// Those that it may open.
    pub allowed_databases: Arc<BTreeSet<String>>,
    /// Swallow its output.
    pub quiet: bool,
}

/// The state of one instance.
pub struct InstanceState {
    /// Handles that the guest holds.
    pub table: ResourceTable,
    /// The guest's PostgreSQL.
    pub postgres: Arc<Postgres>,
    /// The guest's SQLite databases.
    pub sqlite: SqliteState,
    variables: Arc<BTreeMap<String, String>>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: OutboundHooks,
}

impl Guest {
    /// Links a component to everything that devhost offers.
    ///
    /// # Errors
    /// The component imports something else; all such imports are named.
    pub fn link(
        engine: &Engine,
        component: &Component,
        id: Arc<str>,
        settings: GuestSettings,
    ) -> Result<Guest> {
        let linker = linker(engine)
            .map_err(anyhow::Error::from)
            .context("devhost's own interfaces do not fit together")?;
        let pre = match linker.instantiate_pre(component) {
            Ok(pre) => pre,
            Err(error) => {
                let foreign = foreign_imports(engine, component);
                if foreign.is_empty() {
                    return Err(error.into());
                }
                bail!(
                    "it imports what devhost does not offer: {}",
                    foreign.join(", ")
                );
            }
        };
        Ok(Guest { id, pre, settings })
    }

    /// The component, linked.
    pub fn pre(&self) -> &InstancePre<InstanceState> {
        &self.pre
    }

    /// The state for one new instance.
    pub fn new_store(&self) -> Store<InstanceState> {
        let settings = &self.settings;
        let output = GuestOutput::new(Arc::clone(&self.id), settings.quiet);
        let errors = GuestOutput::new(Arc::clone(&self.id), settings.quiet);
        let mut wasi = WasiCtx::builder();
        wasi.stdout(output).stderr(errors);
        for (name, value) in &settings.environment {
            wasi.env(name, value);
        }
        for (source, destination) in &settings.folders {
            // It was there at the start. Without it the guest says what it misses.
            if let Err(error) = wasi.preopened_dir(source, destination, FsPerms::ReadOnly) {
                log::line(&self.id, &format!("{}: {error:#}", source.display()));
            }
        }
        let state = InstanceState {
            table: ResourceTable::new(),
            postgres: Arc::clone(&settings.postgres),
            sqlite: SqliteState::new(
                Arc::clone(&settings.databases),
                Arc::clone(&settings.allowed_databases),
            ),
            variables: Arc::clone(&settings.variables),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            outbound: OutboundHooks(Arc::clone(&settings.outbound)),
        };
        let mut store = Store::new(self.pre.engine(), state);
        engine::share_threads(&mut store);
        store
    }
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<InstanceState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Host_::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    tell_stream_errors(&mut linker)?;
    Ok(linker)
}

/// Replaces `http-error-code`: wasmtime-wasi-http 48 finds no code in the errors of bodies, where Spin's version does.
fn tell_stream_errors(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(HTTP_TYPES)?.func_wrap(
        "http-error-code",
        |store, (error,): (Resource<IoError>,)| {
            let error = store.data().table.get(&error)?;
            let code = match error.downcast_ref::<wasmtime_wasi_http::Error>() {
                Some(wasmtime_wasi_http::Error::ConnectionReadTimeout) => {
                    Some(ErrorCode::ConnectionReadTimeout)
                }
                Some(_) => Some(ErrorCode::HttpProtocolError),
                None => error.downcast_ref::<ErrorCode>().cloned(),
            };
            Ok((code,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn foreign_imports(engine: &Engine, component: &Component) -> Vec<String> {
    component
        .component_type()
        .imports(engine)
        .map(|(name, _)| name.to_owned())
        .filter(|name| !OFFERED.iter().any(|offered| name.starts_with(offered)))
        .collect()
}

impl variables::Host for InstanceState {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, variables::Error>> {
        use crate::variables::GetError;
        Ok(
            crate::variables::get(&self.variables, &name).map_err(|error| match error {
                GetError::InvalidName(reason) => variables::Error::InvalidName(reason),
                GetError::Undefined(reason) => variables::Error::Undefined(reason),
            }),
        )
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outbound,
        }
    }
}
