//! What `dinnerbell migrate` does: the ledger's tables, and the indexes on the two tables that were there before.
//!
//! It may be run at any time, repeatedly, by several at once, and beside a running service. A lock serialises migrations. What would block others
//! waits for its lock only for moments. Indexes are built CONCURRENTLY. What is there already is left alone.

mod adopt;
mod index;
mod ledger;
mod questions;
mod script;

use std::time::Duration;

use tokio_postgres::types::Type;

use crate::connect::{Pool, Transaction};
use crate::errors::PostgresError;
use crate::needs;
use crate::needs::Missing;
use dinnerbell_config::{Config, Database, TableName};

pub use adopt::Adopt;
pub use ledger::schema_is_current;
pub use questions::{
    FeedbackIndex, count_duplicates, feedback_index, feedback_indexes_of_before, missing_subscriber_indexes,
};
pub use script::script;

use index::{Ensured, Wanted};

/// What `migrate` tells while it works.
#[derive(Debug)]
pub enum Event<'a> {
    /// It is busy with this now.
    Doing(&'a str),
    /// How far an index is.
    Building {
        /// The server's word for what it does.
        phase: &'a str,
        /// How much of the phase is done, where it is counted.
        done: u64,
        /// Out of how much; 0 where it is not counted.
        total: u64,
    },
    /// This is as it should be now.
    Done(&'a str),
    /// This is not, and the service can work without it.
    Warning(&'a str),
    /// SQL for somebody with the right to run it.
    HandOver(&'a str),
}

/// Who learns of it.
pub type Listener<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// The most connections: the lock, the work, and the eye on it.
const CONNECTIONS: usize = 3;
/// Of an advisory lock in the feedback database: `dinnerbe` in ASCII.
const MIGRATION_LOCK: i64 = 0x6469_6e6e_6572_6265;
/// How long another `migrate` is waited for, in steps.
const LOCK_STEP: Duration = Duration::from_millis(250);
const LOCK_STEPS: u32 = 2400;
/// How long a short lock on a table is waited for, and how often: in between, those who queued behind are let through.
const SHORT_LOCK: &str = "set local lock_timeout = '2s'";
const SHORT_LOCK_TRIES: u32 = 30;
const SHORT_LOCK_PAUSE: Duration = Duration::from_secs(1);

/// Brings both databases to what this version of the service needs.
///
/// The ledger keeps the feedback table that it knows, unless it is to adopt another one.
pub async fn migrate(
    config: &Config,
    create_tables: bool,
    adopt: &Adopt,
    tell: Listener<'_>,
) -> Result<(), PostgresError> {
    let feedback = Job { pool: open(&config.feedback, "feedback")?, tell };
    let subscribers = Job { pool: open(&config.subscribers, "subscribers")?, tell };
    needs::of_encoding(&feedback.pool).await?;
    let lock = feedback.lock().await?;
    if create_tables {
        subscribers.create_table(script::SUBSCRIBERS).await?;
        feedback.create_table(script::FEEDBACK).await?;
    }
    subscribers.must_have_table().await?;
    feedback.must_have_table().await?;
    // Before the indexes: what mends a column can mean that they are built again.
    feedback.warn_of(&needs::missing_in_feedback(&feedback.pool).await?);
    subscribers.warn_of(&needs::missing_in_subscribers(&subscribers.pool, config.fanout.late_subscribers).await?);
    let migrating = async || ledger::migrate(&feedback.pool).await;
    let applied = feedback.when_the_lock_is_free("the ledger's tables", migrating).await?;
    match applied {
        0 => feedback.done("the ledger is up to date"),
        _ => feedback.done("the ledger's tables are made"),
    }
    let another = feedback.knows_its_table(adopt).await?;
    feedback.index_feedback().await?;
    // With the index: what is counted is found by it.
    match (another, adopt) {
        (Some(another), Adopt::Yes { without_rows, by }) => feedback.adopt(&another, *without_rows, by).await?,
        (None, Adopt::Yes { .. }) => feedback.done("the ledger knows the feedback table already"),
        (_, Adopt::No) => {}
    }
    subscribers.index_subscribers().await?;
    lock.rollback().await
}

fn open(database: &Database, section: &'static str) -> Result<Pool, PostgresError> {
    Pool::open(&Database { max_connections: CONNECTIONS, ..database.clone() }, section)
}

/// The work in one of the two databases.
struct Job<'a> {
    pool: Pool,
    tell: Listener<'a>,
}

impl Job<'_> {
    fn done(&self, what: &str) {
        (self.tell)(Event::Done(&format!("{}: {what}", self.pool.address())));
    }

    fn warn(&self, what: &str) {
        (self.tell)(Event::Warning(&format!("{}: {what}", self.pool.address())));
    }

    /// What `run` will not start with. Rights are left out: this role need not be the service's.
    fn warn_of(&self, missing: &[Missing]) {
        for one in missing.iter().filter(|one| !one.is_a_right()) {
            self.warn(&format!("the service will not start: {}", one.say(&self.pool)));
        }
    }

    fn table(&self) -> &TableName {
        self.pool.table()
    }

    /// Waits until no other `migrate` works, and keeps the lock in a transaction that does nothing else.
    ///
    /// An index that is built concurrently waits for every snapshot, and must not wait for this transaction's. So the lock is tried for, since
    /// a statement that waits holds a snapshot; and by the simple protocol, since the other one keeps the statement's until the next.
    async fn lock(&self) -> Result<Transaction, PostgresError> {
        let lock = self.pool.begin("set local idle_in_transaction_session_timeout = 0").await?;
        for step in 0..LOCK_STEPS {
            let rows = lock.simple(&format!("select pg_try_advisory_xact_lock({MIGRATION_LOCK})")).await?;
            if rows.first().is_some_and(|row| row.get(0) == Some("t")) {
                return Ok(lock);
            }
            if step == 0 {
                (self.tell)(Event::Doing("another `dinnerbell migrate` is at work: waiting for it"));
            }
            tokio::time::sleep(LOCK_STEP).await;
        }
        Err(PostgresError::transient(format!(
            "{}: another `dinnerbell migrate` has been at work for {} minutes; wait for it to end, or end it",
            self.pool.address(),
            (LOCK_STEP * LOCK_STEPS).as_secs() / 60
        )))
    }

    /// Does something in a transaction that needs a lock on a table for a moment.
    async fn with_short_lock(&self, sql: &str) -> Result<(), PostgresError> {
        let work = async || {
            let transaction = self.pool.begin(SHORT_LOCK).await?;
            transaction.batch_without_deadline(sql).await?;
            transaction.commit().await
        };
        self.when_the_lock_is_free(&format!("table {}", self.table()), work).await
    }

    /// Tries a transaction that waits for its locks for a short time only, until it gets them.
    async fn when_the_lock_is_free<T>(
        &self,
        on: &str,
        work: impl AsyncFn() -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        for attempt in 1.. {
            match work().await {
                Err(error) if lock_was_busy(&error) && attempt < SHORT_LOCK_TRIES => {
                    (self.tell)(Event::Doing(&format!("waiting for a lock on {on}")));
                    tokio::time::sleep(SHORT_LOCK_PAUSE).await;
                }
                answer => return answer,
            }
        }
        unreachable!("the last attempt returns its answer")
    }

    /// What the table is, as pg_class.relkind says it; none if it does not exist.
    async fn relkind(&self) -> Result<Option<String>, PostgresError> {
        let sql = "select relkind::text from pg_class where oid = to_regclass($1)";
        let rows = self.pool.query(sql, &[(&self.table().sql(), Type::TEXT)]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    async fn must_have_table(&self) -> Result<(), PostgresError> {
        let (address, table) = (self.pool.address(), self.table());
        match self.relkind().await?.as_deref() {
            Some("r" | "p") => Ok(()),
            // Somebody else's view or foreign table can be read; rows cannot be guarded by an index there.
            Some(_) if address.section == "subscribers" => Ok(()),
            Some(_) => Err(PostgresError::refused(format!(
                "{address}: {table} is not a table; set feedback.table to the table that it shows"
            ))),
            None => Err(PostgresError::refused(format!(
                "{address}: table {table} does not exist; correct {}.table, or let `dinnerbell migrate --create-tables` make it",
                address.section
            ))),
        }
    }

    async fn create_table(&self, seed: script::SeedTable) -> Result<(), PostgresError> {
        let table = self.table();
        if self.relkind().await?.is_some() {
            self.done(&format!("table {table} is there"));
            return Ok(());
        }
        self.with_short_lock(&seed.sql(table)).await?;
        self.done(&format!("table {table} is made"));
        Ok(())
    }

    /// Makes the index, and names those of an earlier version: an instance of that version may still need them.
    async fn index_feedback(&self) -> Result<(), PostgresError> {
        self.make_feedback_index().await?;
        for name in self.of_before().await? {
            self.warn(&of_before(&name, self.table(), self.relkind().await?.as_deref() == Some("p")));
        }
        Ok(())
    }

    async fn make_feedback_index(&self) -> Result<(), PostgresError> {
        let once = match self.unique_index().await? {
            Ok(once) => once,
            Err(why) => {
                self.ensure(&Wanted::told()).await?;
                self.warn(&format!(
                    "no index can keep each (campaign, client) once: {why}; a plain index serves the service, which tells nobody \
                     twice by itself"
                ));
                return Ok(());
            }
        };
        let duplicates = match self.ensure(&once).await? {
            Ensured::There(name) => {
                self.done(&format!("index {name} keeps each (campaign, client) once"));
                return Ok(());
            }
            Ensured::ThereFrom { name, id } => {
                self.ensure(&Wanted::told()).await?;
                self.warn(&format!(
                    "index {name} keeps each (campaign, client) once only for rows with id > {id}; {}",
                    mend(&name)
                ));
                return Ok(());
            }
            Ensured::Duplicates => self.count_duplicates().await?,
        };
        self.ensure(&Wanted::told()).await?;
        let (name, id) = self.ensure_from_now_on(&once).await?;
        self.warn(&format!(
            "{duplicates} (campaign, client) pairs have more than one row each; they stay. Index {name} keeps each pair once for rows with id > {id}; {}",
            mend(&name)
        ));
        Ok(())
    }

    async fn count_duplicates(&self) -> Result<i64, PostgresError> {
        (self.tell)(Event::Doing("counting the pairs that have more than one row"));
        let tx = self.pool.begin("").await?;
        let rows = tx.simple_without_deadline(&script::count_duplicates(&self.table().sql())).await?;
        tx.commit().await?;
        Ok(rows.first().and_then(|row| row.get(0)?.parse().ok()).unwrap_or(0))
    }

    /// Keeps pairs unique from the highest id on. If an earlier job still writes, rows that come in while the index is built can repeat each other as
    /// well. Then the build begins again behind them.
    async fn ensure_from_now_on(&self, once: &Wanted) -> Result<(String, i64), PostgresError> {
        let table = self.table().sql();
        for _ in 0..5 {
            let rows = self.pool.query(&format!("select coalesce(max(id), 0)::int8 from {table}"), &[]).await?;
            let id: i64 = rows.first().map_or(0, |row| row.get(0));
            match self.ensure(&once.clone().above(id)).await? {
                Ensured::There(name) => return Ok((name, id)),
                Ensured::ThereFrom { name, id } => return Ok((name, id)),
                Ensured::Duplicates => {}
            }
        }
        Err(PostgresError::refused(format!(
            "{}: something writes rows into table {} that repeat (adv_campaign_id, client_id); end it, and run `dinnerbell migrate` again",
            self.pool.address(),
            self.table()
        )))
    }

    async fn index_subscribers(&self) -> Result<(), PostgresError> {
        if !matches!(self.relkind().await?.as_deref(), Some("r" | "p")) {
            self.warn(&format!(
                "{} is not a table: the tables behind it need an index on restaurant_id, client_id",
                self.table()
            ));
            return Ok(());
        }
        let mut missing = Vec::new();
        for wanted in [Wanted::audience(), Wanted::skipped()] {
            match self.ensure(&wanted).await {
                Ok(Ensured::There(name)) => self.done(&format!("index {name} is there")),
                Ok(_) => unreachable!("the subscribers' indexes are not unique"),
                Err(error) if is_not_ours_to_change(&error) => missing.push(wanted),
                Err(error) => return Err(error),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.warn(
            "indexes cannot be made here with this role; the service works without them, but each page of an audience is then a scan \
             of the table. Its owner makes them with:",
        );
        let sql: Vec<String> = missing.iter().map(|wanted| wanted.statement(self.table()) + ";\n").collect();
        (self.tell)(Event::HandOver(&sql.concat()));
        Ok(())
    }
}

/// How to get from an index for later rows to one for all.
fn mend(name: &str) -> String {
    format!("to cover all rows remove the duplicates, drop index {name}, and run `dinnerbell migrate` again")
}

/// What is to be done about an index of an earlier version.
fn of_before(name: &str, table: &TableName, is_partitioned: bool) -> String {
    let index = TableName { schema: table.schema.clone(), table: name.to_owned() }.sql();
    let concurrently = if is_partitioned { "" } else { "concurrently " };
    format!(
        "index {name} is of an earlier version, and compares ids of campaigns by the database's collation, whose order can change with its \
         library; when no instance of an earlier version runs any more: drop index {concurrently}{index}"
    )
}

fn lock_was_busy(error: &PostgresError) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "55P03" | "40P01"))
}

/// Not the owner, or a database that takes no changes.
fn is_not_ours_to_change(error: &PostgresError) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "42501" | "25006"))
}
