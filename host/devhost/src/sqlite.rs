//! `spin:sqlite/sqlite@3.0.0` over SQLite files and libSQL servers: one connection per open, as Spin does it.

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
use crate::libsql::{Server, Stream};
use crate::runtime_config::{RuntimeConfig, SqliteDatabase};

/// File of the database `default`, inside the state folder.
const DEFAULT_FILE: &str = "sqlite_db.db";

/// How long a statement waits for a lock that somebody else holds: Spin's value.
const BUSY_TIMEOUT: Duration = Duration::from_millis(5000);

/// An instance may hold this many connections at once: Spin's value.
const CONNECTIONS_PER_INSTANCE: usize = 256;

/// A result may take this many bytes of memory: Spin's value since 3.6.3.
pub const RESULT_LIMIT_BYTES: usize = 128 * 1024 * 1024;

/// Where every database of the application is.
pub struct Databases(BTreeMap<String, Place>);

#[derive(Clone)]
enum Place {
    File(PathBuf),
    /// A new database at each open.
    Memory,
    Server(Arc<Server>),
}

impl Databases {
    /// Takes the databases of the runtime configuration, and `default` in the state folder if that is not among them.
    ///
    /// # Errors
    /// The folder of a database cannot be made, or what is said of a server cannot be.
    pub fn new(config: &RuntimeConfig, state_dir: &Path) -> Result<Databases> {
        let mut databases = BTreeMap::new();
        for (name, database) in &config.sqlite_database {
            let place = place(database).with_context(|| format!("[sqlite_database.{name}]"))?;
            databases.insert(name.clone(), place);
        }
        databases
            .entry("default".to_owned())
            .or_insert_with(|| Place::File(state_dir.join(DEFAULT_FILE)));
        for place in databases.values() {
            let Place::File(path) = place else { continue };
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

fn place(database: &SqliteDatabase) -> Result<Place> {
    Ok(match database {
        SqliteDatabase::Spin { path: Some(path) } => Place::File(path.clone()),
        SqliteDatabase::Spin { path: None } => Place::Memory,
        SqliteDatabase::Libsql { url, token } => {
            Place::Server(Arc::new(Server::new(url, token.as_str())?))
        }
    })
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

/// A connection as the guest holds it. The first statement opens the file, or asks the server for a stream, as in Spin.
#[derive(Clone)]
pub enum Connection {
    /// To a file, or to memory.
    Local(Local),
    /// To a server.
    Remote(Arc<tokio::sync::Mutex<Stream>>),
}

/// A connection without a server; without a file it is to memory.
#[derive(Clone)]
pub struct Local {
    file: Option<PathBuf>,
    inner: Arc<Mutex<Option<rusqlite::Connection>>>,
}

impl Connection {
    fn new(place: Place) -> Connection {
        let file = match place {
            Place::File(path) => Some(path),
            Place::Memory => None,
            Place::Server(server) => {
                return Connection::Remote(Arc::new(tokio::sync::Mutex::new(Stream::new(server))));
            }
        };
        Connection::Local(Local {
            file,
            inner: Arc::default(),
        })
    }
}

impl Local {
    /// Runs `work` on a thread that may block, with the file open.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Local { file, inner } = self;
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

    /// What `read` says of the connection; `before` it is open, that.
    fn tell<T>(&self, before: T, read: impl FnOnce(&rusqlite::Connection) -> T) -> T {
        let guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().map_or(before, read)
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
        let Some(place) = self.sqlite.databases.0.get(&name).cloned() else {
            return Ok(Err(Error::NoSuchDatabase));
        };
        if self.sqlite.open >= CONNECTIONS_PER_INSTANCE {
            return Ok(Err(Error::Io("too many connections opened".to_owned())));
        }
        self.sqlite.open += 1;
        Ok(Ok(self.table.push(Connection::new(place))?))
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<Value>,
    ) -> wasmtime::Result<Result<QueryResult, Error>> {
        Ok(match self.table.get(&connection)?.clone() {
            Connection::Local(local) => {
                let work = move |connection: &rusqlite::Connection| {
                    query(connection, &statement, parameters)
                };
                local.run(work).await
            }
            Connection::Remote(stream) => stream.lock().await.execute(statement, parameters).await,
        })
    }

    async fn last_insert_rowid(
        &mut self,
        connection: Resource<Connection>,
    ) -> wasmtime::Result<i64> {
        Ok(match self.table.get(&connection)?.clone() {
            Connection::Local(local) => local.tell(0, rusqlite::Connection::last_insert_rowid),
            Connection::Remote(stream) => stream.lock().await.last_insert_rowid(),
        })
    }

    async fn changes(&mut self, connection: Resource<Connection>) -> wasmtime::Result<u64> {
        Ok(match self.table.get(&connection)?.clone() {
            Connection::Local(local) => local.tell(0, rusqlite::Connection::changes),
            Connection::Remote(stream) => stream.lock().await.changes(),
        })
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
