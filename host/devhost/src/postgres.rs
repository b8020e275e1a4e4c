//! `spin:postgres/postgres@4.0.0` over tokio-postgres: a pool of connections for each address, as Spin has it.

mod address;
mod errors;
mod values;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use futures::TryStreamExt;
use tokio_postgres::{Config, NoTls, Row};
use wasmtime::component::Resource;

use crate::allowed_hosts::AllowedHosts;
use crate::bindings::spin::postgres::postgres::{
    Column, DbValue, Error, Host, HostConnection, ParameterValue, RowSet,
};
use crate::instance::InstanceState;
use crate::sqlite::RESULT_LIMIT_BYTES;

/// A pool has this many connections: Spin's value.
const CONNECTIONS_PER_POOL: usize = 64;

/// A component has pools for this many addresses, and the oldest goes first. Spin's value.
const POOLS_PER_COMPONENT: usize = 16;

/// How long an opening waits for a connection that others have, then for a new one, or for one to be made ready again. Spin
/// waits for ever; here whoever keeps connections too long is to be noticed.
const OPENING_LIMIT: Duration = Duration::from_secs(30);

/// What the instances of one component share of PostgreSQL.
pub struct Postgres {
    component: Arc<str>,
    allowed: Arc<AllowedHosts>,
    refuses_empty: bool,
    pools: Mutex<Vec<(String, Pool)>>,
}

/// A connection as the guest holds it. Dropped, it goes back to its pool as it is: with whatever transaction is open on it.
pub struct Connection(Arc<Object>);

impl Postgres {
    /// The side of `component`, which may call the `allowed` hosts. It may refuse queries that answer with no rows.
    pub fn new(component: Arc<str>, allowed: Arc<AllowedHosts>, refuses_empty: bool) -> Postgres {
        Postgres {
            component,
            allowed,
            refuses_empty,
            pools: Mutex::default(),
        }
    }

    async fn open(&self, address: &str) -> Result<Connection, Error> {
        let config: Config = address
            .parse()
            .map_err(|error| Error::ConnectionFailed(errors::in_words(&error)))?;
        if let Err(reason) = address::check(&config, &self.allowed) {
            // The reason names host and port, and nothing else of the address.
            crate::log::line(
                "devhost",
                &format!("{} asked for PostgreSQL: {reason}", self.component),
            );
            return Err(Error::ConnectionFailed(reason));
        }
        let pool = self.pool(address, config).map_err(Error::Other)?;
        match pool.get().await {
            Ok(connection) => Ok(Connection(Arc::new(connection))),
            Err(error) => Err(Error::ConnectionFailed(no_connection(&error))),
        }
    }

    fn pool(&self, address: &str, config: Config) -> Result<Pool, String> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pool)) = pools.iter().find(|(known, _)| known == address) {
            return Ok(pool.clone());
        }
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Clean,
        };
        let pool = Pool::builder(Manager::from_config(config, NoTls, recycling))
            .max_size(CONNECTIONS_PER_POOL)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(OPENING_LIMIT))
            .create_timeout(Some(OPENING_LIMIT))
            .recycle_timeout(Some(OPENING_LIMIT))
            .build()
            .map_err(|error| error.to_string())?;
        if pools.len() == POOLS_PER_COMPONENT {
            pools.remove(0);
        }
        pools.push((address.to_owned(), pool.clone()));
        Ok(pool)
    }
}

fn no_connection(error: &PoolError) -> String {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => format!(
            "all {CONNECTIONS_PER_POOL} connections to this address were in use for {OPENING_LIMIT:?}"
        ),
        PoolError::Timeout(_) => format!("the server did not answer for {OPENING_LIMIT:?}"),
        PoolError::Backend(error) => errors::in_words(error),
        other => other.to_string(),
    }
}

impl Host for InstanceState {}

impl HostConnection for InstanceState {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, Error>> {
        let postgres = Arc::clone(&self.postgres);
        Ok(match postgres.open(&address).await {
            Ok(connection) => Ok(self.table.push(connection)?),
            Err(error) => Err(error),
        })
    }

    async fn query(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> wasmtime::Result<Result<RowSet, Error>> {
        let connection = Arc::clone(&self.table.get(&connection)?.0);
        let answer = query(&connection, &statement, parameters).await;
        let is_empty = answer.as_ref().is_ok_and(|answer| answer.rows.is_empty());
        if is_empty && self.postgres.refuses_empty {
            // What it has written stays written, as it does there.
            let reason = "the answer has no rows: Spin 4.0.0 to 4.0.2 would never return";
            crate::log::line("devhost", &format!("{reason}: {statement}"));
            return Ok(Err(errors::text(reason.to_owned())));
        }
        Ok(answer)
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let connection = Arc::clone(&self.table.get(&connection)?.0);
        let parameters = match values::parameters(parameters) {
            Ok(parameters) => parameters,
            Err(reason) => return Ok(Err(Error::ValueConversionFailed(reason))),
        };
        let changed = connection.execute_raw(&statement, parameters).await;
        Ok(changed.map_err(|error| errors::query_failed(&error)))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

async fn query(
    connection: &Object,
    statement: &str,
    parameters: Vec<ParameterValue>,
) -> Result<RowSet, Error> {
    let parameters = values::parameters(parameters).map_err(Error::BadParameter)?;
    let found = connection
        .query_raw(statement, parameters)
        .await
        .map_err(|error| errors::query_failed(&error))?;
    let mut found = std::pin::pin!(found);
    let mut answer = RowSet {
        columns: Vec::new(),
        rows: Vec::new(),
    };
    let mut bytes = size_of::<RowSet>();
    while let Some(row) = found
        .try_next()
        .await
        .map_err(|error| errors::query_failed(&error))?
    {
        // As in Spin, the first row tells the columns: without rows there are none.
        if answer.rows.is_empty() {
            answer.columns = columns(&row);
        }
        let values = (0..row.len())
            .map(|index| values::value(&row, index))
            .collect::<Result<Vec<DbValue>, _>>()
            .map_err(|error| errors::query_failed(&error))?;
        bytes += values.iter().map(values::size_bytes).sum::<usize>();
        if bytes > RESULT_LIMIT_BYTES {
            return Err(errors::text(format!(
                "query result exceeds limit of {RESULT_LIMIT_BYTES} bytes"
            )));
        }
        answer.rows.push(values);
    }
    Ok(answer)
}

fn columns(row: &Row) -> Vec<Column> {
    let columns = row.columns().iter();
    columns
        .map(|column| Column {
            name: column.name().to_owned(),
            data_type: values::data_type(column.type_()),
        })
        .collect()
}
