//! The only crate that calls the Spin host: outbound HTTP, SQLite, variables, clock, and the way in and out of a request.

mod inbound;
mod runtime;
mod sqlite;
mod streams;
mod transport;

pub use inbound::{IncomingBody, Responder, request};
pub use runtime::HostRuntime;
pub use sqlite::SpinSqlite;
pub use transport::{HttpTransport, ResponseBody};
pub use wstd::runtime::block_on;

use app::{App, Config, Platform};

/// The Spin host, as the use cases see it.
pub struct SpinHost;

impl Platform for SpinHost {
    type Transport = HttpTransport;
    type Sql = SpinSqlite;
    type Runtime = HostRuntime;
}

/// The use cases on the Spin host.
pub type SpinApp = App<SpinHost>;

/// Why the use cases could not be put together, for the operator.
#[derive(Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Puts the use cases together for one instance: settings from the variables, and the default database, which may
/// still need [`App::migrate`].
///
/// # Errors
/// When a variable has no usable value, or the database cannot be opened.
pub fn app() -> Result<SpinApp, StartError> {
    let config = Config::read(|name| spin_sdk::variables::get(name).ok())
        .map_err(|e| StartError(e.to_string()))?;
    let sql = SpinSqlite::open()
        .map_err(|e| StartError(format!("the database cannot be opened: {e}")))?;
    Ok(App::new(config, sql, HttpTransport, HostRuntime))
}
