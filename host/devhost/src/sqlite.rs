//! `spin:sqlite/sqlite@3.0.0` over SQLite files: one connection per open, as Spin does it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use wasmtime::component::Resource;

use crate::bindings::spin::sqlite::sqlite::{
    Error, Host, HostConnection, QueryResult, RowResult, Value,
};
use crate::instance::InstanceState;
use crate::runtime_config::RuntimeConfig;

/// File of the database `default`, inside the state folder.
const DEFAULT_FILE: &str = "sqlite_db.db";

/// How long a statement waits for a lock that somebody else holds: Spin's value.
const BUSY_TIMEOUT: Duration = Duration::from_millis(5000);

/// An instance may hold this many connections at once: Spin's value.
const CONNECTIONS_PER_INSTANCE: usize = 256;

/// A result may take this many bytes of memory: Spin's value since 3.6.3.
const RESULT_LIMIT_BYTES: usize = 128 * 1024 * 1024;

/// Where every database of the application is; None for one in memory, new at each open.
pub struct Databases(BTreeMap<String, Option<PathBuf>>);

impl Databases {
    /// Takes the databases of the runtime configuration, and `default` in the state folder if that is not among them.
    ///
    /// # Errors
    /// The folder of a database cannot be made.
    pub fn new(config: &RuntimeConfig, state_dir: &Path) -> Result<Databases> {
        let mut databases: BTreeMap<_, _> = config
            .sqlite_database
            .iter()
            .map(|(name, database)| (name.clone(), database.path.clone()))
            .collect();
        databases
            .entry("default".to_owned())
            .or_insert_with(|| Some(state_dir.join(DEFAULT_FILE)));
        for path in databases.values().flatten() {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            if let Some(dir) = dir {
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("cannot make the folder {}", dir.display()))?;
            }
        }
        Ok(Databases(databases))
    }

    /// The names of all databases.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// What one instance knows of databases.
pub struct SqliteState {
    databases: Arc<Databases>,
    allowed: Arc<BTreeSet<String>>,
    open: usize,
}

impl SqliteState {
    /// An instance that may open the `allowed` ones among `databases`.
    pub fn new(databases: Arc<Databases>, allowed: Arc<BTreeSet<String>>) -> SqliteState {
        SqliteState {
            databases,
            allowed,
            open: 0,
        }
    }
}

/// A connection as the guest holds it. The file is opened by the first statement, as in Spin.
pub struct Connection {
    file: Option<PathBuf>,
    inner: Arc<Mutex<Option<rusqlite::Connection>>>,
}

impl Connection {
    /// Runs `work` on a thread that may block, with the file open.
    async fn run<T: Send + 'static>(
        file: Option<PathBuf>,
        inner: Arc<Mutex<Option<rusqlite::Connection>>>,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let task = tokio::task::spawn_blocking(move || {
            let mut guard = inner.lock().unwrap_or_else(PoisonError::into_inner);
            if guard.is_none() {
                *guard = Some(open(file.as_deref()).map_err(|error| io_error(&error))?);
            }
            let connection = guard.as_ref().expect("it was opened just above");
            work(connection)
        });
        task.await
            .unwrap_or_else(|error| Err(Error::Io(format!("the statement was cut off: {error}"))))
    }
}

impl Host for InstanceState {}

impl HostConnection for InstanceState {
    async fn open(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, Error>> {
        if !self.sqlite.allowed.contains(&name) {
            return Ok(Err(Error::AccessDenied));
        }
        let Some(file) = self.sqlite.databases.0.get(&name).cloned() else {
            return Ok(Err(Error::NoSuchDatabase));
        };
        if self.sqlite.open >= CONNECTIONS_PER_INSTANCE {
            return Ok(Err(Error::Io("too many connections opened".to_owned())));
        }
        self.sqlite.open += 1;
        let connection = Connection {
            file,
            inner: Arc::default(),
        };
        Ok(Ok(self.table.push(connection)?))
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<Value>,
    ) -> wasmtime::Result<Result<QueryResult, Error>> {
        let connection = self.table.get(&connection)?;
        let (file, inner) = (connection.file.clone(), Arc::clone(&connection.inner));
        let work =
            move |connection: &rusqlite::Connection| query(connection, &statement, parameters);
        Ok(Connection::run(file, inner, work).await)
    }

    async fn last_insert_rowid(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<i64> {
        let inner = Arc::clone(&self.table.get(&connection)?.inner);
        let guard = inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(guard
            .as_ref()
            .map_or(0, rusqlite::Connection::last_insert_rowid))
    }

    async fn changes(&mut self, connection: Resource<Connection>) -> wasmtime::Result<u64> {
        let inner = Arc::clone(&self.table.get(&connection)?.inner);
        let guard = inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(guard.as_ref().map_or(0, rusqlite::Connection::changes))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        // Closing rolls back what was not committed.
        self.table.delete(connection)?;
        self.sqlite.open -= 1;
        Ok(())
    }
}

fn open(file: Option<&Path>) -> rusqlite::Result<rusqlite::Connection> {
    let connection = match file {
        Some(path) => rusqlite::Connection::open(path)?,
        None => rusqlite::Connection::open_in_memory()?,
    };
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // A guest must not reach other files of this machine; temporary and in-memory databases are fine.
    connection.authorizer(Some(|context: AuthContext<'_>| match context.action {
        AuthAction::Attach { filename } if !matches!(filename, "" | ":memory:") => {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }));
    Ok(connection)
}

fn query(
    connection: &rusqlite::Connection,
    statement: &str,
    parameters: Vec<Value>,
) -> Result<QueryResult, Error> {
    // As in Spin, the first statement of the string is taken and the rest passed over in silence.
    let first = rusqlite::Batch::new(connection, statement).next();
    let Some(mut statement) = first.map_err(|error| io_error(&error))? else {
        return Ok(QueryResult {
            columns: Vec::new(),
            rows: Vec::new(),
        });
    };
    let columns: Vec<String> = statement
        .column_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let parameters = parameters.into_iter().map(to_sqlite);
    let mut found = statement
        .query(rusqlite::params_from_iter(parameters))
        .map_err(|error| io_error(&error))?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    while let Some(row) = found.next().map_err(|error| io_error(&error))? {
        let mut values = Vec::with_capacity(columns.len());
        for index in 0..columns.len() {
            let value = row.get_ref(index).map_err(|error| io_error(&error))?;
            let value = from_sqlite(value)?;
            bytes += size_bytes(&value);
            values.push(value);
        }
        if bytes > RESULT_LIMIT_BYTES {
            return Err(Error::Io(format!(
                "query result exceeds limit of {RESULT_LIMIT_BYTES} bytes"
            )));
        }
        rows.push(RowResult { values });
    }
    Ok(QueryResult { columns, rows })
}

fn to_sqlite(value: Value) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(integer) => rusqlite::types::Value::Integer(integer),
        Value::Real(real) => rusqlite::types::Value::Real(real),
        Value::Text(text) => rusqlite::types::Value::Text(text),
        Value::Blob(bytes) => rusqlite::types::Value::Blob(bytes),
    }
}

fn from_sqlite(value: ValueRef<'_>) -> Result<Value, Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(bytes) => Value::Text(
            String::from_utf8(bytes.to_vec())
                .map_err(|error| Error::Io(format!("a text is not UTF-8: {error}")))?,
        ),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}

fn size_bytes(value: &Value) -> usize {
    let outside = match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        Value::Integer(_) | Value::Real(_) | Value::Null => 0,
    };
    size_of::<Value>() + outside
}

/// Spin reports every failure of SQLite in words, a full disk too.
fn io_error(error: &rusqlite::Error) -> Error {
    Error::Io(error.to_string())
}
