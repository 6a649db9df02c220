//! An open transaction, and COPY in it.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::CopyInSink;

use super::Connection;
use crate::errors::{PostgresError, TIME_LIMIT, deadline};

/// An open transaction. Dropped, its connection is closed and the server undoes it.
pub struct Transaction {
    pub(super) connection: Connection,
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Transaction {
    /// Begins `copy ... from stdin`.
    pub async fn copy_in(&self, sql: &str) -> Result<CopyIn<'_>, PostgresError> {
        let connection = &self.connection;
        let sink = connection.call(connection.client().copy_in(sql)).await?;
        // Outstanding until it is finished.
        connection.outstanding.fetch_add(1, Ordering::AcqRel);
        Ok(CopyIn { connection, sink: Box::pin(sink) })
    }

    /// Commits, and hands the connection back. After an error the outcome is unknown.
    pub async fn commit(self) -> Result<(), PostgresError> {
        // COMMIT of a failed transaction succeeds and undoes it: so it is never tried.
        if !self.connection.is_sound() {
            let address = &self.connection.pool.inner.address;
            return Err(PostgresError::transient(format!(
                "{address}: a statement of the transaction did not end well"
            )));
        }
        self.connection.batch("commit").await?;
        self.connection.release();
        Ok(())
    }

    /// Undoes the transaction and hands the connection back: cheaper than closing it.
    pub async fn rollback(self) -> Result<(), PostgresError> {
        self.connection.batch("rollback").await?;
        self.connection.release();
        Ok(())
    }
}

/// A running `copy ... from stdin`. Dropped before [`CopyIn::finish`], it spoils its transaction.
pub struct CopyIn<'a> {
    connection: &'a Connection,
    sink: Pin<Box<CopyInSink<Bytes>>>,
}

impl CopyIn<'_> {
    /// Sends a frame; returns when there is room for the next one. [`TIME_LIMIT`] is for each frame: a copy may take longer.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), PostgresError> {
        let fed = deadline(&self.connection.pool.inner.address, TIME_LIMIT, self.sink.feed(frame));
        self.connection.naming(fed).await
    }

    /// Ends the copy: how many rows the server took.
    pub async fn finish(mut self) -> Result<u64, PostgresError> {
        let finished = deadline(&self.connection.pool.inner.address, TIME_LIMIT, self.sink.as_mut().finish());
        let rows = self.connection.naming(finished).await?;
        self.connection.outstanding.fetch_sub(1, Ordering::AcqRel);
        Ok(rows)
    }
}
