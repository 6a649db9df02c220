//! Lanes as the ledger knows them.

use serde::Serialize;
use tokio_postgres::Row;

use crate::operator::campaigns::time;
use dinnerbell_core::model::number::{Epoch, Lane, Offset, Seq};
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::number::number;

/// One partition of the campaigns topic.
#[derive(Debug, Clone, Serialize)]
pub struct LaneStatus {
    /// The partition.
    pub lane: Lane,
    /// The instance that entered it last.
    pub owner: Option<String>,
    /// When it did.
    pub entered_at: Option<String>,
    /// + 1 with each owner.
    pub epoch: Epoch,
    /// The last recorded round.
    pub seq: Seq,
    /// The last round known to be committed in Kafka.
    pub published_seq: Option<Seq>,
    /// The next input offset to record.
    pub position: Offset,
    /// Why it stands still; null where it does not.
    pub halted: Option<HaltedLane>,
    /// When an operator last resolved a halt.
    pub resolved_at: Option<String>,
    /// Who, and how.
    pub resolved_by: Option<String>,
    /// As what its input records ended.
    pub counts: Counts,
}

/// Why a lane stands still.
#[derive(Debug, Clone, Serialize)]
pub struct HaltedLane {
    /// The halt's name.
    pub name: String,
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: String,
    /// Since when.
    pub since: Option<String>,
}

/// As what the input records of a lane ended; they add up to `records`.
#[derive(Debug, Clone, Serialize)]
pub struct Counts {
    /// All of them.
    pub records: i64,
    /// New campaigns.
    pub campaigns: i64,
    /// Newer versions.
    pub updates: i64,
    /// Older versions, ignored.
    pub older_updates: i64,
    /// Identical copies.
    pub duplicates: i64,
    /// Handed to the lane that owns the campaign.
    pub handed_over: i64,
    /// Tombstones.
    pub cancellations: i64,
    /// Dead letters.
    pub dead_letters: i64,
}

/// All lanes that were ever entered.
pub async fn list(pool: &Pool) -> Result<Vec<LaneStatus>, PostgresError> {
    let micros = |column: &str| format!("(extract(epoch from {column}) * 1000000)::int8");
    let sql = format!(
        "select lane, owner, {}, epoch, seq, published_seq, position, halted, halted_found, halted_remedy, {}, {}, resolved_by, records, \
         campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters from dinnerbell.lane order by lane",
        micros("entered_at"),
        micros("halted_at"),
        micros("resolved_at"),
    );
    Ok(pool.query(&sql, &[]).await?.iter().map(status).collect())
}

fn status(row: &Row) -> LaneStatus {
    let halted = row.get::<_, Option<String>>(7).map(|name| HaltedLane {
        name,
        found: row.get::<_, Option<String>>(8).unwrap_or_default(),
        remedy: row.get::<_, Option<String>>(9).unwrap_or_default(),
        since: time(row.get(10)),
    });
    LaneStatus {
        lane: number(row, 0),
        owner: row.get(1),
        entered_at: time(row.get(2)),
        epoch: number(row, 3),
        seq: number(row, 4),
        published_seq: number(row, 5),
        position: number(row, 6),
        halted,
        resolved_at: time(row.get(11)),
        resolved_by: row.get(12),
        counts: Counts {
            records: row.get(13),
            campaigns: row.get(14),
            updates: row.get(15),
            older_updates: row.get(16),
            duplicates: row.get(17),
            handed_over: row.get(18),
            cancellations: row.get(19),
            dead_letters: row.get(20),
        },
    }
}
