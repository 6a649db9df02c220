//! A connection on loan, and its calls.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::{Client, Row, SimpleQueryMessage, SimpleQueryRow};

use super::{Parameter, Pool, Wire, lock_holders};
use crate::errors::{PostgresError, TIME_LIMIT, deadline};

/// A connection on loan. Dropped, it is closed; [`Connection::release`] hands it back.
pub struct Connection {
    pub(super) wire: Option<Wire>,
    pub(super) pool: Pool,
    /// Calls that were begun and did not end well.
    pub(super) outstanding: AtomicUsize,
    /// The server's process of the open transaction, behind any pooler; 0 outside of one.
    pub(super) backend: AtomicI32,
    pub(super) _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// Runs a statement and collects its rows.
    pub async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        self.call(self.client().query_typed(sql, parameters)).await
    }

    /// Runs a statement that gives at most one row.
    pub async fn query_opt(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<Row>, PostgresError> {
        self.call(self.client().query_typed_opt(sql, parameters)).await
    }

    /// Runs a statement that gives exactly one row.
    pub async fn query_one(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Row, PostgresError> {
        self.call(self.client().query_typed_one(sql, parameters)).await
    }

    /// Runs a statement and says how many rows it touched.
    pub async fn execute(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, PostgresError> {
        self.call(self.client().execute_typed(sql, parameters)).await
    }

    /// Runs one or more statements without parameters, in one round trip.
    pub async fn batch(&self, sql: &str) -> Result<(), PostgresError> {
        self.call(self.client().batch_execute(sql)).await
    }

    /// Asks in a transaction of its own, which begins by these statements; one round trip.
    pub(super) async fn ask(
        self,
        begin: &str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, PostgresError> {
        // Sent at once, answered in this order.
        let ((), rows, ()) =
            futures_util::try_join!(self.batch(begin), self.query(sql, parameters), self.batch("commit"))?;
        self.release();
        Ok(rows)
    }

    /// Begins a transaction by these statements, and learns which backend has it.
    pub(super) async fn begin(&self, begin: &str) -> Result<(), PostgresError> {
        let begin = format!("{begin}; select pg_backend_pid()");
        let rows = self.simple(&begin).await?;
        let backend = rows.last().and_then(|row| row.get(0)?.parse().ok()).unwrap_or(0);
        self.backend.store(backend, Ordering::Release);
        Ok(())
    }

    /// Runs one or more statements without parameters, and gives their rows as text.
    pub async fn simple(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, PostgresError> {
        self.call(self.client().simple_query(sql)).await.map(rows_of)
    }

    /// Runs a query without parameters that may take its time, and gives its rows as text; the caller watches it.
    pub async fn simple_without_deadline(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, PostgresError> {
        self.watch(async { self.client().simple_query(sql).await.map(rows_of).map_err(|error| self.explain(&error)) })
            .await
    }

    /// Runs a statement without parameters that may take its time; the caller watches it.
    pub async fn batch_without_deadline(&self, sql: &str) -> Result<(), PostgresError> {
        self.watch(async {
            self.client().batch_execute(sql).await.map_err(|error| self.pool.inner.address.explain(&error))
        })
        .await
    }

    /// Runs a statement and hands each row to `take` as it comes; `time_limit` is for the first row and between rows.
    pub async fn for_each(
        &self,
        sql: &str,
        parameters: Vec<Parameter<'_>>,
        time_limit: Duration,
        mut take: impl FnMut(&Row) -> Result<(), PostgresError>,
    ) -> Result<(), PostgresError> {
        self.watch(async {
            let address = &self.pool.inner.address;
            let rows = deadline(address, time_limit, self.client().query_typed_raw(sql, parameters)).await?;
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = deadline(address, time_limit, rows.try_next()).await? {
                take(&row)?;
            }
            Ok(())
        })
        .await
    }

    /// The library's client, for what has no call here. Errors are explained by [`Connection::explain`]; the connection must not be
    /// released after one.
    pub fn client(&self) -> &Client {
        &self.wire.as_ref().expect("taken only when the connection is given up").client
    }

    /// Says what an error of the library's client means.
    pub fn explain(&self, error: &tokio_postgres::Error) -> PostgresError {
        self.pool.inner.address.explain(error)
    }

    /// Hands the connection back. One with a failed or abandoned call is closed instead.
    pub fn release(mut self) {
        if self.is_sound()
            && let Some(wire) = self.wire.take()
        {
            self.pool.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(wire);
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) == 0 && !self.client().is_closed()
    }

    pub(super) async fn call<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        self.watch(deadline(&self.pool.inner.address, TIME_LIMIT, answer)).await
    }

    /// Runs a call: an error for a lock that did not come in time names who held it.
    pub(super) async fn naming<T>(
        &self,
        call: impl Future<Output = Result<T, PostgresError>>,
    ) -> Result<T, PostgresError> {
        match self.backend.load(Ordering::Acquire) {
            0 => call.await,
            backend => lock_holders::naming(&self.pool, backend, call).await,
        }
    }

    fn is_of_a_standby(&self) -> Option<bool> {
        self.wire.as_ref().and_then(|wire| wire.standby)
    }

    /// Counts a call as outstanding until it ends well: also if its future is dropped half-way.
    async fn watch<T>(&self, call: impl Future<Output = Result<T, PostgresError>>) -> Result<T, PostgresError> {
        self.outstanding.fetch_add(1, Ordering::AcqRel);
        let answer = self.naming(call).await.map_err(|error| match self.is_of_a_standby() {
            Some(false) => error.of_no_standby(),
            Some(true) | None => error,
        });
        match &answer {
            Ok(_) => {
                self.outstanding.fetch_sub(1, Ordering::AcqRel);
            }
            Err(error) if error.code().is_none() => self.pool.inner.forget_idle(),
            Err(_) => {}
        }
        answer
    }
}

fn rows_of(messages: Vec<SimpleQueryMessage>) -> Vec<SimpleQueryRow> {
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.collect()
}
