//! A bounded pool of connections, and transactions that are undone unless they are committed.
//!
//! A connection goes back into the pool only when it is handed back with nothing outstanding. After an error, a call that was
//! not waited for, or a transaction that was dropped, it is closed: the server undoes what was open.

mod connection;
pub mod lock_holders;
mod transaction;

use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postgres_openssl::MakeTlsConnector;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Row};

pub use connection::Connection;
pub use transaction::{CopyIn, Transaction};

use crate::errors::{Address, PostgresError, TIME_LIMIT, deadline};
use crate::tls;
use dinnerbell_config::{Database, SslMode, TableName};

/// A parameter of a statement with its type: so that no statement must be prepared to learn it.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// What each transaction sets itself, since the settings of its role or database may be made for others. Names in quotes would not be recognised. A
/// time-out would end a copy that makes progress, or a round that waits for the one before it. A commit that waits for no disk would be confirmed,
/// and could be lost with the server. Each call has a deadline of its own.
///
/// A search path that names `pg_catalog` behind a schema gives that schema's functions and operators the names of the server's: a `now()` for tests.
/// Without its name `pg_catalog` is searched first. The rest stays, since triggers may need it.
const SETTINGS: &str = "set local quote_all_identifiers = off; set local statement_timeout = 0; \
                        set local idle_in_transaction_session_timeout = '1min'; set local synchronous_commit = on; \
                        select pg_catalog.set_config('search_path', pg_catalog.ltrim(pg_catalog.regexp_replace(\
                        pg_catalog.current_setting('search_path'), '(^|,) *\"?pg_catalog\"? *(?=,|$)', '', 'gi'), ', '), true)";

/// Begins a transaction, whatever its role or database has for a default; `rest` are further statements.
pub(crate) fn begin_sql(access: &str, rest: &str) -> String {
    begin_at(&format!("read committed{access}"), rest)
}

/// The same at another isolation level.
pub(crate) fn begin_at(level: &str, rest: &str) -> String {
    format!("begin isolation level {level}; {SETTINGS}; {rest}")
}

/// Connections to one database, a bounded number at once.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    connection: tokio_postgres::Config,
    prefers_tls: bool,
    connector: MakeTlsConnector,
    address: Address,
    table: TableName,
    slots: Arc<Semaphore>,
    /// How often a slot was given to who waited for one.
    given: AtomicU64,
    most: usize,
    idle: Mutex<Vec<Wire>>,
}

/// A client and the task that moves its bytes; the task ends with it.
struct Wire {
    client: Client,
    mover: JoinHandle<()>,
    /// Whether the server was a standby when it was connected to, if it says so; PostgreSQL 14 and later do.
    standby: Option<bool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.mover.abort();
    }
}

impl Pool {
    /// A pool for what a section of the configuration says. Contacts nobody; reads the certificate files.
    ///
    /// `section` is `feedback` or `subscribers`: errors name the keys to change by it.
    pub fn open(database: &Database, section: &'static str) -> Result<Self, PostgresError> {
        let connector = tls::connector(section, &database.tls)?;
        let connection = settings(database);
        let most = database.max_connections.max(1);
        let inner = Inner {
            address: Address::new(section, &connection),
            prefers_tls: connection.get_ssl_mode() == tokio_postgres::config::SslMode::Prefer,
            connection,
            connector,
            table: database.table.clone(),
            slots: Arc::new(Semaphore::new(most)),
            most,
            given: AtomicU64::new(0),
            idle: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The database as errors name it.
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// The table of the section.
    pub fn table(&self) -> &TableName {
        &self.inner.table
    }

    /// The user that the section names.
    pub fn user(&self) -> &str {
        self.inner.connection.get_user().unwrap_or("(current user)")
    }

    /// Most connections at once.
    pub fn most(&self) -> usize {
        self.inner.most
    }

    /// A connection: an idle one or a new one. Waits for its turn as long as those before it get theirs: no such wait is a failure. Fails after
    /// [`TIME_LIMIT`] in which nobody got a connection, or in which it could not connect.
    pub async fn get(&self) -> Result<Connection, PostgresError> {
        let mut turn = std::pin::pin!(self.inner.slots.clone().acquire_owned());
        loop {
            let given = self.inner.given.load(Ordering::Acquire);
            match tokio::time::timeout(TIME_LIMIT, &mut turn).await {
                Ok(slot) => {
                    self.inner.given.fetch_add(1, Ordering::AcqRel);
                    return self.take(slot.expect("the semaphore is never closed")).await;
                }
                Err(_) if self.inner.given.load(Ordering::Acquire) != given => {}
                Err(_) => return Err(self.exhausted()),
            }
        }
    }

    /// Asks the server for a sign of life. None where all connections are in use: anyone who uses them learns from it.
    pub async fn answers(&self) -> Option<Result<(), PostgresError>> {
        let slot = self.inner.slots.clone().try_acquire_owned().ok()?;
        let asking = async {
            let connection = self.take(slot).await?;
            connection.batch("select 1").await?;
            connection.release();
            Ok(())
        };
        Some(asking.await)
    }

    async fn take(&self, slot: OwnedSemaphorePermit) -> Result<Connection, PostgresError> {
        while let Some(wire) = self.inner.pop_idle() {
            if !wire.client.is_closed() {
                return Ok(self.lend(wire, slot));
            }
        }
        // Seldom, and large: every future that asks for a connection would have room for it.
        let wire = Box::pin(self.inner.connect()).await?;
        Ok(self.lend(wire, slot))
    }

    /// Begins a transaction; `locals` are further statements of the same round trip, such as `set local ...`.
    pub async fn begin(&self, locals: &str) -> Result<Transaction, PostgresError> {
        self.begin_with(&begin_sql("", locals)).await
    }

    /// Begins a transaction by these statements, the first of which is `begin ...`.
    pub async fn begin_with(&self, begin: &str) -> Result<Transaction, PostgresError> {
        let connection = self.get().await?;
        connection.begin(begin).await?;
        Ok(Transaction { connection })
    }

    /// Begins a transaction and asks in it for at most one row, in one round trip. What is asked is a statement of its own: its snapshot
    /// is taken after `locals`, with whatever locks they waited for.
    pub async fn begin_asking(
        &self,
        locals: &str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<(Transaction, Option<Row>), PostgresError> {
        let connection = self.get().await?;
        let begin = begin_sql("", locals);
        // Sent at once, answered in this order.
        let ((), row) = futures_util::try_join!(connection.begin(&begin), connection.query_opt(sql, parameters))?;
        Ok((Transaction { connection }, row))
    }

    /// Asks in a transaction of its own, which begins by these statements; one round trip. After an error the connection is given up.
    pub async fn ask(&self, begin: &str, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        self.get().await?.ask(begin, sql, parameters).await
    }

    /// One statement in a transaction of its own; one round trip.
    pub async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        self.ask(&begin_sql("", ""), sql, parameters).await
    }

    /// One statement in a transaction of its own, if a connection is free: it waits for none. It is no error that nobody asks about.
    pub(crate) async fn query_if_free(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Option<Result<Vec<Row>, PostgresError>> {
        let slot = self.inner.slots.clone().try_acquire_owned().ok()?;
        let asking = async {
            let connection = self.take(slot).await?;
            connection.ask(&begin_sql("", ""), sql, parameters).await
        };
        Some(asking.await)
    }

    fn lend(&self, wire: Wire, slot: OwnedSemaphorePermit) -> Connection {
        let (outstanding, backend) = (AtomicUsize::new(0), AtomicI32::new(0));
        Connection { wire: Some(wire), pool: self.clone(), outstanding, backend, _slot: slot }
    }

    fn exhausted(&self) -> PostgresError {
        let Inner { address, most, .. } = &*self.inner;
        PostgresError::transient(format!(
            "{address}: all {most} connections were in use for {} s, and none came free; raise {}.max_connections",
            TIME_LIMIT.as_secs(),
            address.section
        ))
    }
}

/// The connection settings of a section, with what this service needs.
fn settings(database: &Database) -> tokio_postgres::Config {
    let mut connection = database.connection.clone();
    let only_sockets = connection.get_hostaddrs().is_empty()
        && connection.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
    // As libpq does it: a Unix socket knows no TLS, whatever sslmode says.
    let mode = if only_sockets { SslMode::Disable } else { database.tls.mode };
    if connection.get_hosts().is_empty() {
        // The library wants a name before it speaks TLS; the address is the only one there is.
        for address in connection.get_hostaddrs().to_vec() {
            connection.host(address.to_string());
        }
    }
    connection
        .ssl_mode(tls::library_mode(mode))
        .application_name("dinnerbell")
        .connect_timeout(TIME_LIMIT)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(1))
        .tcp_user_timeout(Duration::from_secs(5));
    connection
}

impl Inner {
    fn pop_idle(&self) -> Option<Wire> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// What one lost connection says about a server is true for the idle ones too; they are cheap to open again.
    fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn connect(&self) -> Result<Wire, PostgresError> {
        let hosts = self.connection.get_hosts().len().max(1);
        let time_limit = TIME_LIMIT * u32::try_from(hosts).unwrap_or(u32::MAX);
        deadline(&self.address, time_limit, async {
            match self.connect_once(&self.connection).await {
                // libpq's `prefer`: where TLS is offered and fails, or is not allowed, once more without.
                Err(error) if self.prefers_tls && would_pass_without_tls(&error) => {
                    let mut plain = self.connection.clone();
                    plain.ssl_mode(tokio_postgres::config::SslMode::Disable);
                    self.connect_once(&plain).await
                }
                answer => answer,
            }
        })
        .await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it moves the connection's bytes; its handle is kept beside the client and aborted with it"
    )]
    async fn connect_once(&self, connection: &tokio_postgres::Config) -> Result<Wire, tokio_postgres::Error> {
        // The mover's error is the calls' error too; it has nothing to add.
        let (client, mover, standby) = if connection.get_ssl_mode() == tokio_postgres::config::SslMode::Disable {
            let (client, bytes) = connection.connect(NoTls).await?;
            let standby = is_on(bytes.parameter(STANDBY));
            (client, tokio::spawn(async { drop(bytes.await) }), standby)
        } else {
            let (client, bytes) = connection.connect(self.connector.clone()).await?;
            let standby = is_on(bytes.parameter(STANDBY));
            (client, tokio::spawn(async { drop(bytes.await) }), standby)
        };
        Ok(Wire { client, mover, standby })
    }
}

/// What a server calls that it is a standby, where it says so by itself.
const STANDBY: &str = "in_hot_standby";

fn is_on(parameter: Option<&str>) -> Option<bool> {
    parameter.map(|value| value == "on")
}

fn would_pass_without_tls(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => error.to_string().contains("TLS"),
    }
}

/// To which of the things that were asked about a row belongs, counted from 0: its first column is their `ordinality`.
pub fn place(row: &Row) -> usize {
    usize::try_from(row.get::<_, i64>(0) - 1).expect("ordinality counts from 1")
}
