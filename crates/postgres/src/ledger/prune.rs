//! House-keeping of the ledger: what is long over goes, a little at a time.
//!
//! A step is one short transaction that removes at most [`BATCH`] rows. It leaves alone what somebody else has locked, and waits for nothing. So any
//! number of instances may do it at once, and no lane is held up. Never removed: what is not published, and the last two rounds of a lane with what
//! they hold. Nor what `verify` needs to tell an earlier job's rows from lost drafts, as long as the ledger knows their campaign.

use std::time::{Duration, SystemTime};

use tokio_postgres::types::Type;

use super::BY_INDEX;
use crate::clock::CLOCK_MICROS;
use crate::connect::{Connection, Parameter, Pool};
use crate::errors::PostgresError;
use crate::number::number;
use crate::sql;
use dinnerbell_config::Retention;
use dinnerbell_core::model::number::Micros;
use dinnerbell_core::model::retention::Prunable;

/// Most rows of one step.
pub const BATCH: u64 = 200;
/// How long a tombstone for a campaign that never came is kept, in seconds: thirty days.
const TOMBSTONES: i64 = 30 * 86_400;

/// The most by which the feedback database's clock and this machine's may differ, in seconds. Beyond that one of them is wrong, and nothing is pruned.
const MAX_CLOCK_SKEW: i64 = 3_600;

/// Both clocks, of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The feedback database's.
    pub database: Micros,
    /// This machine's.
    pub machine: Micros,
}

impl Clocks {
    /// Reads both.
    pub async fn of(pool: &Pool) -> Result<Self, PostgresError> {
        let connection = pool.get().await?;
        let clocks = Self::read(&connection, machine_time).await?;
        connection.release();
        Ok(clocks)
    }

    async fn read(connection: &Connection, machine: fn() -> Micros) -> Result<Self, PostgresError> {
        let row = connection.query_one(&format!("select {CLOCK_MICROS}"), &[]).await?;
        Ok(Self { database: number(&row, 0), machine: machine() })
    }

    /// Whether they agree, as far as it matters for what is kept for days.
    pub fn agree(self) -> Result<(), PostgresError> {
        let apart = (self.machine - self.database) / 1_000_000;
        match apart.abs() <= MAX_CLOCK_SKEW {
            true => Ok(()),
            false => Err(PostgresError::transient(format!(
                "this machine's clock differs from the feedback database's by {apart} s: nothing is pruned; check the time synchronisation of both"
            ))),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the machine's own clock is meant: it is compared with the database's")]
fn machine_time() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros::since_1970(since)
}

/// Removes one batch, and returns how many rows: fewer than [`BATCH`] where there is no more for now. Fails where the two clocks differ. Where dead
/// letters go to a topic, those that are not published yet are kept at any age.
pub async fn prune(
    pool: &Pool,
    what: Prunable,
    retention: &Retention,
    publishes_dead_letters: bool,
) -> Result<u64, PostgresError> {
    prune_by(pool, what, retention, publishes_dead_letters, machine_time).await
}

/// The same, by this clock of the machine.
pub async fn prune_by(
    pool: &Pool,
    what: Prunable,
    retention: &Retention,
    publishes_dead_letters: bool,
    machine: fn() -> Micros,
) -> Result<u64, PostgresError> {
    let step = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let seconds = |kept: Duration| i64::try_from(kept.as_secs()).unwrap_or(i64::MAX);
    let kept = match what {
        Prunable::Rounds | Prunable::Changes => seconds(retention.rounds),
        Prunable::DeadLetters => seconds(retention.dead_letters),
        Prunable::Campaigns => seconds(retention.campaigns),
        Prunable::Tombstones => TOMBSTONES,
        Prunable::Audit => seconds(retention.audit),
    };
    let mut parameters: Vec<Parameter<'_>> = vec![(&kept, Type::INT8), (&step, Type::INT8)];
    let statement = match what {
        Prunable::Rounds => &sql::PRUNE_ROUNDS,
        Prunable::Changes => &sql::PRUNE_CHANGES,
        Prunable::DeadLetters => {
            parameters.push((&publishes_dead_letters, Type::BOOL));
            &sql::PRUNE_DEAD_LETTERS
        }
        Prunable::Campaigns => &sql::PRUNE_CAMPAIGNS,
        Prunable::Tombstones => &sql::PRUNE_TOMBSTONES,
        Prunable::Audit => &sql::PRUNE_AUDIT,
    };
    let locals = format!("set local lock_timeout = '100ms'; set local synchronous_commit = off; {BY_INDEX}");
    let tx = pool.begin(&locals).await?;
    // What is old, the statement asks the database's clock: before and after, it is that of the machine.
    Clocks::read(&tx, machine).await?.agree()?;
    let row = tx.query_one(statement.text(), &parameters).await?;
    let gone: i64 = row.get(0);
    Clocks::read(&tx, machine).await?.agree()?;
    tx.commit().await?;
    Ok(gone.unsigned_abs())
}
