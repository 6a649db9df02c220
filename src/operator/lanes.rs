//! Lanes as the ledger knows them.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;
use tokio_postgres::Row;
use utoipa::ToSchema;

use crate::operator::campaigns::time;
use dinnerbell_config::Kafka;
use dinnerbell_core::model::number::{Epoch, Lane, Offset, Seq};
use dinnerbell_kafka::lag;
use dinnerbell_kafka::lag::Seen;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::number::number;
use dinnerbell_postgres::sql::fragments::{LANES_OF_LOCKED_ROWS, held, micros};

/// One partition of the campaigns topic.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LaneStatus {
    /// The partition.
    #[schema(value_type = i32)]
    pub lane: Lane,
    /// running, paused, held, halted, or unowned: nobody took it over yet, or no instance runs.
    pub state: &'static str,
    /// Records that are to be taken in; null where Kafka was not asked, or does not say.
    pub lag: Option<i64>,
    /// The instance that took it over last.
    pub owner: Option<String>,
    /// When it did.
    pub entered_at: Option<String>,
    /// + 1 with each owner.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// The last recorded round.
    #[schema(value_type = i64)]
    pub seq: Seq,
    /// The last round known to be committed in Kafka.
    #[schema(value_type = Option<i64>)]
    pub published_seq: Option<Seq>,
    /// The next input offset to record.
    #[schema(value_type = i64)]
    pub position: Offset,
    /// Why it stands still; null where it does not.
    pub halted: Option<HaltedLane>,
    /// When an operator last resolved a halt.
    pub resolved_at: Option<String>,
    /// Who, and how.
    pub resolved_by: Option<String>,
    /// For whose locks parts of its work wait, as its instance found it.
    pub waits: Vec<LockedLane>,
    /// Rows of withdrawn drafts of its campaigns that somebody's open transaction had locked, and that are still to be withdrawn.
    pub locked_rows: i64,
    /// As what its input records ended.
    pub counts: Counts,
}

/// A part of a lane's work that waits for somebody else's lock.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LockedLane {
    /// Which part: `rows` (of withdrawn drafts; nothing else waits for them), `round` or `lane`.
    pub part: String,
    /// What waits, who holds the lock, and what ends that.
    pub found: String,
    /// The holder's process on the server; null where it is not known.
    pub pid: Option<i32>,
    /// Since when.
    pub since: Option<String>,
}

/// Why a lane stands still.
#[derive(Debug, Clone, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = LaneCounts)]
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

const RUNNING: &str = "running";
const UNOWNED: &str = "unowned";
/// How long Kafka may take to say how far the partitions go.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// The same lanes, with their lag, and whether an instance runs at all: where Kafka says so in time.
pub async fn list_with_lag(pool: &Pool, kafka: &Kafka) -> Result<Vec<LaneStatus>, PostgresError> {
    let mut lanes = list(pool).await?;
    let numbers: Vec<Lane> = lanes.iter().map(|lane| lane.lane).collect();
    match timeout(TIME_LIMIT, lag::observe(kafka, numbers)).await {
        Ok(Ok(seen)) => lanes.iter_mut().for_each(|lane| lane.learn(&seen)),
        Ok(Err(error)) => tracing::debug!(%error, "the lag is not known"),
        Err(_) => tracing::debug!("the lag is not known: Kafka does not answer in time"),
    }
    Ok(lanes)
}

impl LaneStatus {
    fn learn(&mut self, seen: &Seen) {
        self.lag = seen.ends.get(&self.lane).map(|end| (end.get() - self.position.get()).max(0));
        if seen.members == 0 && self.state == RUNNING {
            self.state = UNOWNED;
        }
    }
}

/// All lanes that were ever taken over.
pub async fn list(pool: &Pool) -> Result<Vec<LaneStatus>, PostgresError> {
    let sql = format!(
        "select lane, owner, {}, epoch, seq, published_seq, position, halted, halted_found, halted_remedy, {}, {}, resolved_by, records, \
         campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters, \
           coalesce(locked.rows, 0), \
           exists (select from dinnerbell.service where paused_at is not null), {} \
         from dinnerbell.lane \
         left join (select lane, count(*) as rows from {LANES_OF_LOCKED_ROWS} w group by lane) locked using (lane) order by lane",
        micros("entered_at"),
        micros("halted_at"),
        micros("resolved_at"),
        held(),
    );
    let mut lanes: Vec<LaneStatus> = pool.query(&sql, &[]).await?.iter().map(status).collect();
    for row in &pool.query(&waits(), &[]).await? {
        let lane: Lane = number(row, "lane");
        let Some(status) = lanes.iter_mut().find(|status| status.lane == lane) else { continue };
        let pid: i32 = row.get("pid");
        let (part, found, since) = (row.get("part"), row.get("waits_for"), time(row.get("since")));
        status.waits.push(LockedLane { part, found, pid: (pid != 0).then_some(pid), since });
    }
    Ok(lanes)
}

/// For whom lanes wait: as long as the holder's transaction is open, or, where nobody could be named, for a minute.
fn waits() -> String {
    format!(
        "select w.lane, w.part, w.waits_for, w.pid, {} as since from dinnerbell.lock_wait w \
         where case when w.transaction = '' then w.since > clock_timestamp() - interval '1 minute' \
           else exists (select from pg_locks l where l.pid = w.pid and l.virtualtransaction = w.transaction) end \
         order by w.lane, w.part",
        micros("w.since")
    )
}

fn status(row: &Row) -> LaneStatus {
    let halted = row.get::<_, Option<String>>(7).map(|name| HaltedLane {
        name,
        found: row.get::<_, Option<String>>(8).unwrap_or_default(),
        remedy: row.get::<_, Option<String>>(9).unwrap_or_default(),
        since: time(row.get(10)),
    });
    let owner: Option<String> = row.get(1);
    let state = match (&halted, row.get(23), row.get(22), &owner) {
        (Some(_), ..) => "halted",
        (_, true, ..) => "held",
        (.., true, _) => "paused",
        (.., None) => UNOWNED,
        (.., Some(_)) => RUNNING,
    };
    LaneStatus {
        lane: number(row, 0),
        state,
        lag: None,
        owner,
        entered_at: time(row.get(2)),
        epoch: number(row, 3),
        seq: number(row, 4),
        published_seq: number(row, 5),
        position: number(row, 6),
        halted,
        resolved_at: time(row.get(11)),
        resolved_by: row.get(12),
        waits: Vec::new(),
        locked_rows: row.get(21),
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
