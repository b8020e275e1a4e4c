//! The only crate that calls the Spin host: outbound HTTP, SQLite, PostgreSQL, variables, files, clock, and the way in and
//! out of a request.

mod address;
mod database;
mod inbound;
mod postgres;
mod runtime;
mod sqlite;
mod streams;
mod transport;

pub use database::Database;
pub use inbound::{IncomingBody, Responder, request};
pub use runtime::{HostRuntime, block_on, log_broken_off};
pub use transport::{HttpTransport, ResponseBody};

use app::{App, Config, Platform};

/// The Spin host, as the use cases see it.
pub struct SpinHost;

impl Platform for SpinHost {
    type Transport = HttpTransport;
    type Sql = Database;
    type Runtime = HostRuntime;
}

/// `database_url`: where the PostgreSQL is, as a URL or as settings of libpq; empty for the SQLite named `default`.
const DATABASE_URL: &str = "database_url";

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

/// Puts the use cases together for one instance: settings from the variables, and the database that they name, which
/// may still need [`App::migrate`].
///
/// # Errors
/// When a variable has no usable value, or the SQLite cannot be opened.
pub fn app() -> Result<SpinApp, StartError> {
    let config = Config::read(variable).map_err(|e| StartError(e.to_string()))?;
    let config = config.with_files(read_file);
    let url = variable(DATABASE_URL).ok_or_else(|| {
        StartError(format!(
            "the variable {DATABASE_URL} is not set in the manifest"
        ))
    })?;
    let database = Database::open(&url).map_err(StartError)?;
    Ok(App::new(config, database, HttpTransport, HostRuntime))
}

/// A file of a folder that the manifest shows to the component.
fn read_file(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

fn variable(name: &str) -> Option<String> {
    spin_sdk::variables::get(name).ok()
}
