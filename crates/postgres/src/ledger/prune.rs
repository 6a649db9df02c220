//! House-keeping of the ledger: what is long over goes, a little at a time.
//!
//! A step is one short transaction that removes at most [`STEP`] rows. It leaves alone what somebody else has locked, and waits for nothing. So any
//! number of instances may do it at once, and no lane is held up. Never removed: what is not published, and the last two rounds of a lane with what
//! they hold. Nor what `verify` needs to tell an earlier job's rows from lost drafts, as long as the ledger knows their campaign.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::BY_INDEX;
use crate::connect::{Parameter, Pool};
use crate::errors::PostgresError;
use crate::sql;
use dinnerbell_config::Retention;
use dinnerbell_core::model::retention::Prunable;

/// Most rows of one step.
pub const STEP: u64 = 200;
/// How long a tombstone for a campaign that never came is kept, in seconds: thirty days.
const TOMBSTONES: i64 = 30 * 86_400;

/// One step; how many rows it took. Fewer than [`STEP`]: there is no more for now. Where dead letters go to a topic, those that were not
/// published yet are kept at any age.
pub async fn prune(
    pool: &Pool,
    what: Prunable,
    retention: &Retention,
    publishes_dead_letters: bool,
) -> Result<u64, PostgresError> {
    let step = i64::try_from(STEP).unwrap_or(i64::MAX);
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
    let row = tx.query_one(statement.text(), &parameters).await?;
    let gone: i64 = row.get(0);
    tx.commit().await?;
    Ok(gone.unsigned_abs())
}
