//! The ledger's own tables: versioned migrations by refinery, over calls that a pooler in transaction mode can take.

use refinery_core::error::Kind;
use refinery_core::traits::r#async::{AsyncQuery, AsyncTransaction};
use refinery_core::{AsyncMigrate, Migration, Runner};
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::types::Type;

use crate::connect::{Pool, Transaction};
use crate::errors::{Address, PostgresError};
use crate::migrate::SHORT_LOCK;

/// Every migration by its file's name. One that was released is never changed: databases keep its checksum.
const MIGRATIONS: [(&str, &str); 18] = [
    ("V1__ledger", include_str!("../../../../migrations/V1__ledger.sql")),
    ("V2__keep", include_str!("../../../../migrations/V2__keep.sql")),
    ("V3__pause", include_str!("../../../../migrations/V3__pause.sql")),
    ("V4__replay", include_str!("../../../../migrations/V4__replay.sql")),
    ("V5__cancelled", include_str!("../../../../migrations/V5__cancelled.sql")),
    ("V6__swept", include_str!("../../../../migrations/V6__swept.sql")),
    ("V7__letters", include_str!("../../../../migrations/V7__letters.sql")),
    ("V8__identity", include_str!("../../../../migrations/V8__identity.sql")),
    ("V9__collation", include_str!("../../../../migrations/V9__collation.sql")),
    ("V10__round_bytes", include_str!("../../../../migrations/V10__round_bytes.sql")),
    ("V11__hold", include_str!("../../../../migrations/V11__hold.sql")),
    ("V12__outputs", include_str!("../../../../migrations/V12__outputs.sql")),
    ("V13__audit", include_str!("../../../../migrations/V13__audit.sql")),
    ("V14__written", include_str!("../../../../migrations/V14__written.sql")),
    ("V15__locks", include_str!("../../../../migrations/V15__locks.sql")),
    ("V16__told", include_str!("../../../../migrations/V16__told.sql")),
    ("V17__verified", include_str!("../../../../migrations/V17__verified.sql")),
    ("V18__newcomers", include_str!("../../../../migrations/V18__newcomers.sql")),
];

/// Which migrations a database has.
pub(super) const TABLE: &str = "dinnerbell.migrations";

/// Serialises the schema's changes: `dinnerbs` in ASCII. Taken for moments only, after the lock of the whole.
const SCHEMA_LOCK: i64 = 0x6469_6e6e_6572_6273;

/// The migrations of this program, in order.
pub(super) fn migrations() -> Vec<Migration> {
    let parse = |(name, sql)| Migration::unapplied(name, sql).expect("names are checked by a test");
    MIGRATIONS.into_iter().map(parse).collect()
}

/// The statement that makes the table of migrations.
pub(super) fn migrations_table_sql() -> String {
    InTransaction::assert_migrations_table_query(TABLE)
}

/// Brings the ledger up to date, all in one transaction; how many migrations that took.
pub(super) async fn migrate(pool: &Pool) -> Result<usize, PostgresError> {
    let transaction = pool.begin(SHORT_LOCK).await?;
    transaction.query("select pg_advisory_xact_lock($1)", &[(&SCHEMA_LOCK, Type::INT8)]).await?;
    // `if not exists` asks for the right to create a schema even where it exists.
    let there = transaction.query_one("select to_regnamespace('dinnerbell') is not null", &[]).await?;
    if !there.get::<_, bool>(0) {
        transaction.batch("create schema dinnerbell").await?;
    }
    let mut runner = Runner::new(&migrations());
    runner.set_migration_table_name(TABLE);
    let mut steps = InTransaction { transaction };
    let report = runner.run_async(&mut steps).await.map_err(|error| explain(pool.address(), error))?;
    steps.transaction.commit().await?;
    Ok(report.applied_migrations().len())
}

/// Whether the ledger is the one that this program was made for; otherwise an error that says what to do.
pub async fn schema_is_current(pool: &Pool) -> Result<(), PostgresError> {
    let address = pool.address();
    let rows = pool
        .query(
            &format!("select version::int8 as version, checksum::text as checksum from {TABLE} order by version"),
            &[],
        )
        .await?;
    let applied: Vec<(i64, String)> = rows.iter().map(|row| (row.get("version"), row.get("checksum"))).collect();
    let known = migrations();
    for (migration, (version, checksum)) in known.iter().zip(&applied) {
        if i64::from(migration.version()) != *version || migration.checksum().to_string() != *checksum {
            return Err(PostgresError::refused(foreign(address, &format!("V{version}"))));
        }
    }
    if applied.len() > known.len() {
        return Err(PostgresError::refused(format!(
            "{address}: the ledger has {} migrations, this program knows {}; use the version of dinnerbell that migrated it, or a later one",
            applied.len(),
            known.len()
        )));
    }
    if applied.len() < known.len() {
        return Err(PostgresError::refused(format!(
            "{address}: the ledger is of an earlier version; run `dinnerbell migrate`"
        )));
    }
    Ok(())
}

fn foreign(address: &Address, migration: &str) -> String {
    format!(
        "{address}: migration {migration} in {TABLE} is not the one of this program; the schema dinnerbell was made by another \
         program or an unreleased version"
    )
}

fn explain(address: &Address, error: refinery_core::Error) -> PostgresError {
    match error.kind() {
        Kind::Connection(_, source) => match source.downcast_ref::<PostgresError>() {
            Some(error) => error.clone(),
            None => PostgresError::refused(format!("{address}: {error}: {source}")),
        },
        Kind::DivergentVersion(applied, _) => PostgresError::refused(foreign(address, &applied.to_string())),
        Kind::MissingVersion(applied) => PostgresError::refused(format!(
            "{address}: the ledger has migration {applied}, which this program does not know; use the version of dinnerbell that \
             migrated it, or a later one"
        )),
        _ => PostgresError::refused(format!("{address}: {error}")),
    }
}

/// Everything that refinery does, in one transaction of ours.
struct InTransaction {
    transaction: Transaction,
}

impl AsyncTransaction for InTransaction {
    type Error = PostgresError;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let mut count = 0;
        for query in queries {
            self.transaction.batch_without_deadline(query).await?;
            count += 1;
        }
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for InTransaction {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let rows = self.transaction.simple(query).await?;
        rows.iter().map(applied).collect()
    }
}

impl AsyncMigrate for InTransaction {}

/// A row of the table of migrations: version, name, applied_on, checksum.
fn applied(row: &SimpleQueryRow) -> Result<Migration, PostgresError> {
    let damaged =
        || PostgresError::refused(format!("a row of {TABLE} is damaged: version and checksum must be numbers"));
    let column = |index| row.try_get(index).ok().flatten().ok_or_else(damaged);
    let (version, name, checksum) = (column(0)?, column(1)?, column(3)?);
    let version = version.parse().map_err(|_| damaged())?;
    // When it was applied is of no account here, and only a migration itself can tell a time of this type.
    let mut dated = Migration::unapplied("V1__any", "").map_err(|_| damaged())?;
    dated.set_applied();
    let applied_on = *dated.applied_on().ok_or_else(damaged)?;
    Ok(Migration::applied(version, name.to_owned(), applied_on, checksum.parse().map_err(|_| damaged())?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_in_the_folder_is_a_migration_of_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap().trim_end_matches(".sql").to_owned())
            .collect();
        assert_eq!(files, MIGRATIONS.iter().map(|(name, _)| (*name).to_owned()).collect());
        assert_eq!(migrations().len(), MIGRATIONS.len());
    }
}
