//! An index is looked for on a table, and built beside a running service.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::super::{Event, Job, lock_was_busy};
use super::{Ensured, Found, Wanted};
use crate::errors::PostgresError;
use crate::sql;
use dinnerbell_config::TableName;

/// How often an index is begun again after a leftover, a lock or a new partition came between.
pub(super) const TRIES: u32 = 5;
/// How often the progress of a build is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

impl Job<'_> {
    /// A valid index on the table that serves; makes nothing.
    pub(in crate::migrate) async fn find(&self, wanted: &Wanted) -> Result<Option<Ensured>, PostgresError> {
        self.find_on(wanted, self.table()).await
    }

    /// The same on one table or leaf partition.
    pub(super) async fn ensure_on(&self, wanted: &Wanted, table: &TableName) -> Result<Ensured, PostgresError> {
        let name = wanted.name(&table.table);
        for attempt in 1.. {
            if let Some(there) = self.find_on(wanted, table).await? {
                return Ok(there);
            }
            if self.indexes(table).await?.iter().any(|found| found.is_ours(&name) && !found.valid) {
                self.drop_leftover(table, &name).await?;
            }
            match self.build(table, &wanted.sql("concurrently", &name, &table.sql())).await {
                Ok(()) => {}
                Err(error) if error.constraint() == Some(name.as_str()) => {
                    self.drop_leftover(table, &name).await?;
                    return Ok(Ensured::Duplicates);
                }
                Err(error) if lock_was_busy(&error) && attempt < TRIES => {}
                Err(error) => return Err(error),
            }
            if attempt >= TRIES {
                break;
            }
        }
        Err(PostgresError::transient(format!(
            "{}: index {name} on {table} did not become valid; run `dinnerbell migrate` again",
            self.pool.address()
        )))
    }

    /// A valid index on this very table that serves.
    pub(super) async fn find_on(&self, wanted: &Wanted, table: &TableName) -> Result<Option<Ensured>, PostgresError> {
        let indexes = self.indexes(table).await?;
        let mut valid = indexes.into_iter().filter(|found| found.valid);
        Ok(valid.find_map(|found| {
            if wanted.is_served_by(&found) {
                return Some(match wanted.from_id {
                    Some(id) => Ensured::ThereFrom { name: found.name, id },
                    None => Ensured::There(found.name),
                });
            }
            wanted.is_served_from(&found).map(|id| Ensured::ThereFrom { name: found.name.clone(), id })
        }))
    }

    /// Builds an index concurrently and shows how far it is.
    async fn build(&self, table: &TableName, sql: &str) -> Result<(), PostgresError> {
        (self.tell)(Event::Doing(&format!("{}: {sql}", self.pool.address())));
        let builder = self.pool.get().await?;
        let built = tokio::select! {
            built = builder.batch_without_deadline(sql) => built,
            never = self.watch(table) => never,
        };
        match built {
            Ok(()) => {
                builder.release();
                Ok(())
            }
            Err(error) if error.code().is_some_and(|code| code.code() == "57014") => {
                Err(PostgresError::refused(format!(
                    "{error}; an index takes its time: `alter role ... set statement_timeout = 0` for the role that migrates, or pass \
                     it by a direct connection without the pooler"
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// Shows the progress of a build until it is dropped. What it cannot see it does not show.
    async fn watch(&self, table: &TableName) -> Result<(), PostgresError> {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let Ok(rows) = self.pool.query(sql::INDEX_PROGRESS.text(), &[(&table.sql(), Type::TEXT)]).await else {
                continue;
            };
            if let Some(row) = rows.first() {
                let count = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
                (self.tell)(Event::Building { phase: row.get("phase"), done: count("done"), total: count("total") });
            }
        }
    }

    /// Drops what an interrupted build left, unless it is a build that goes on: that one holds the lock that is asked for first.
    pub(super) async fn drop_leftover(&self, table: &TableName, name: &str) -> Result<(), PostgresError> {
        let index = TableName { schema: table.schema.clone(), table: name.to_owned() }.sql();
        self.with_short_lock(&format!(
            "lock table {on} in share update exclusive mode; \
             do $$ begin \
               if exists (select from pg_index where indexrelid = to_regclass({literal}) and not indisvalid) then \
                 drop index {index}; \
               end if; \
             end $$",
            on = table.sql(),
            literal = literal(&index),
        ))
        .await
    }

    /// The indexes of an earlier version on the table itself, which serve no longer.
    pub(in crate::migrate) async fn of_before(&self) -> Result<Vec<String>, PostgresError> {
        let indexes = self.indexes(self.table()).await?;
        Ok(indexes.into_iter().filter(Wanted::is_of_before).map(|found| found.name).collect())
    }

    /// The indexes on a table.
    pub(super) async fn indexes(&self, table: &TableName) -> Result<Vec<Found>, PostgresError> {
        let rows = self.pool.query(sql::INDEXES.text(), &[(&table.sql(), Type::TEXT)]).await?;
        Ok(rows.iter().map(Found::of).collect())
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
