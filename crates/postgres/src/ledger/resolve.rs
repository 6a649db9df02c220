//! What an operator's resolution reads and writes. Each lane has one transaction, which moves its epoch: so its owner takes it over
//! again.

mod accept;
mod mend;

use std::collections::BTreeMap;
use std::future::Future;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

pub use mend::OpenMending;

use super::audit;
use super::rounds::StoredPart;
use crate::connect::{Parameter, Pool, Transaction, place};
use crate::errors::PostgresError;
use crate::number::{Number, number};
use crate::sql;
use crate::sql::fragments::CLEARED;
use dinnerbell_core::model::audit::{Action, Orderer, Subject};
use dinnerbell_core::model::halt::{HaltKind, HaltResolution};
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::recovery::decide::{Decision, LastRound};
use dinnerbell_core::recovery::found::FoundDraft;

/// A lane as a resolution finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRow {
    /// The next input offset to record.
    pub position: Offset,
    /// The last recorded round.
    pub head: RoundVersion,
    /// The one before it, where it is still kept.
    pub previous: Option<RoundVersion>,
    /// The last round known to be committed in Kafka.
    pub published: Option<Seq>,
    /// Its halt.
    pub halted: Option<HaltKind>,
    /// Whether it was compared with Kafka in the comparison that stands.
    pub compared: bool,
    /// When the last round's drafts were formed.
    pub trigger_datetime_created: Seconds,
}

impl LaneRow {
    /// Whether it is halted, and this ends it.
    pub fn is_resolved_by(&self, resolution: HaltResolution) -> bool {
        self.halted.as_ref().is_some_and(|halt| halt.is_resolved_by(resolution))
    }

    fn of(row: &Row) -> Self {
        let seq: Seq = number(row, "seq");
        let head = |seq: Seq, revision: &str, checksum: &str| {
            Some(RoundVersion { seq, revision: row.get::<_, Option<i32>>(revision)?, checksum: row.get(checksum) })
        };
        Self {
            position: number(row, "position"),
            head: head(seq, "revision", "checksum").unwrap_or(RoundVersion { seq, ..RoundVersion::default() }),
            previous: head(seq.before(), "previous_revision", "previous_checksum"),
            published: number(row, "published_seq"),
            halted: row.get::<_, Option<String>>("halted").map(HaltKind::from),
            compared: row.get("compared"),
            trigger_datetime_created: number::<Option<_>>(row, "trigger_datetime_created").unwrap_or_default(),
        }
    }
}

/// What a campaign gets back: the drafts whose rows were missing.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The campaign as its newest draft shows it.
    pub newest: FoundDraft<'static>,
    /// When the first of them was formed.
    pub first: Seconds,
    /// When the last of them was formed.
    pub last: Seconds,
}

/// A mending that is to be written.
pub struct Repair<'a> {
    /// The lane as it was found; it must still be so.
    pub lane_row: &'a LaneRow,
    /// What was decided.
    pub decision: &'a Decision,
    /// The campaigns of rows that are missing.
    pub campaigns: &'a BTreeMap<String, Restored>,
    /// Clients of the last round whose drafts are taken back, by campaign.
    pub untold: &'a BTreeMap<String, Vec<String>>,
    /// Who resolves.
    pub by: &'a str,
    /// The comparison in which the lane was taken, and how many lanes there are: mended by what Kafka holds, it is compared.
    pub compared: (&'a str, i32),
}

impl Repair<'_> {
    /// Whether the ledger's last round is published in another form, so that nobody knows whether its dead letters are: they are published again.
    fn hides_dead_letters(&self) -> bool {
        let Repair { lane_row, decision, .. } = self;
        let known = lane_row.published == Some(lane_row.head.seq);
        !known && decision.last != LastRound::Unpublished && decision.head != lane_row.head
    }
}

/// What a mending wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Mended {
    /// Rows inserted because their messages are in the topic.
    pub rows_restored: u64,
    /// Rows that said something else than their messages in the topic.
    pub rows_corrected: u64,
    /// Campaigns that the ledger did not know.
    pub campaigns_restored: u64,
    /// Rows removed because their messages are not in the topic.
    pub rows_removed: u64,
    /// Rows that would have been removed, had nobody answered in them.
    pub rows_kept: u64,
}

/// A lane as it stands; none where it was never taken over.
pub async fn lane_row(pool: &Pool, lane: Lane) -> Result<Option<LaneRow>, PostgresError> {
    let rows = pool.query(sql::LANE_ROW.text(), &[lane.parameter()]).await?;
    Ok(rows.first().map(LaneRow::of))
}

/// Clears a halt. False where there was none.
pub async fn retry(pool: &Pool, lane: Lane, by: &Orderer) -> Result<bool, PostgresError> {
    let sql = format!("update dinnerbell.lane set {CLEARED}, resolved_by = $2 where lane = $1 and halted is not null");
    let tx = pool.begin(SHORT_LOCK).await?;
    let cleared = tx.execute(&sql, &[lane.parameter(), (&by.to_string(), Type::TEXT)]).await? > 0;
    if cleared {
        audit::note(&tx, by, Action::Resolved, Subject::Lane(lane), "--retry").await?;
    }
    tx.commit().await?;
    Ok(cleared)
}

/// Clears this halt alone: one that stands by another name stays.
pub async fn release(pool: &Pool, lane: Lane, halt: &HaltKind, by: &str) -> Result<(), PostgresError> {
    let sql = format!("update dinnerbell.lane set {CLEARED}, resolved_by = $2 where lane = $1 and halted = $3");
    pool.query(&sql, &[lane.parameter(), (&by, Type::TEXT), (&halt.name(), Type::TEXT)]).await?;
    Ok(())
}

/// Lets a lane go on at another position, whatever records the topic held before. False where its halt is not about the topic any more.
pub async fn restart_at(pool: &Pool, lane: Lane, position: Offset, by: &Orderer) -> Result<bool, PostgresError> {
    let restarts: Vec<&str> = HaltKind::matching(|kind| kind.is_resolved_by(HaltResolution::RestartAt))
        .into_iter()
        .map(HaltKind::name)
        .collect();
    let parameters: [Parameter<'_>; 4] =
        [lane.parameter(), position.parameter(), (&by.to_string(), Type::TEXT), (&restarts, Type::TEXT_ARRAY)];
    let tx = pool.begin(SHORT_LOCK).await?;
    let restarted = tx.query_opt(sql::RESTART_AT.text(), &parameters).await?.is_some();
    if restarted {
        let details = format!("--restart-at {position}");
        audit::note(&tx, by, Action::Resolved, Subject::Lane(lane), &details).await?;
    }
    tx.commit().await?;
    Ok(restarted)
}

/// Which of these drafts have no feedback row, or another one than their message says, by their place in the list. A client is told of one version
/// of a campaign at one time: by both the row is known.
pub async fn without_row(pool: &Pool, drafts: &[FoundDraft<'_>]) -> Result<Vec<usize>, PostgresError> {
    let sql = sql::DRAFTS_WITHOUT_ROW.with([("feedback", &pool.table().sql())]);
    let campaigns: Vec<&str> = drafts.iter().map(|draft| &*draft.adv_campaign_id).collect();
    let clients: Vec<&str> = drafts.iter().map(|draft| &*draft.client_id).collect();
    let created: Vec<i64> = drafts.iter().map(|draft| draft.datetime_created.get()).collect();
    let formed: Vec<i64> = drafts.iter().map(|draft| draft.trigger_datetime_created.get()).collect();
    let parameters: [Parameter<'_>; 4] = [
        (&campaigns, Type::TEXT_ARRAY),
        (&clients, Type::TEXT_ARRAY),
        (&created, Type::INT8_ARRAY),
        (&formed, Type::INT8_ARRAY),
    ];
    let found = pool.query(&sql, &parameters).await?;
    Ok(found.iter().map(place).collect())
}

/// How long the row of a lane is waited for.
const SHORT_LOCK: &str = "set local lock_timeout = '2s'";
/// Statements that are under way at once. What is done for each part of a round, or for each campaign, takes one round trip for so many of them.
const MAX_IN_FLIGHT: usize = 50;

/// Sends statements together, and waits for them: their answers in their order.
async fn together<T>(
    statements: impl Iterator<Item = impl Future<Output = Result<T, PostgresError>>>,
) -> Result<Vec<T>, PostgresError> {
    stream::iter(statements).buffered(MAX_IN_FLIGHT).try_collect().await
}

/// Counts and cursor go back by the drafts of a part that are no drafts any more. Where the main pass moved, it moves once more from
/// where it was: clients with a row are skipped.
async fn set_back(
    tx: &Transaction,
    part: &StoredPart,
    drafts: usize,
    late: usize,
    kept: u64,
) -> Result<(), PostgresError> {
    let skipped = if part.has_page { part.skipped } else { 0 };
    let values: [Parameter<'_>; 7] = [
        (&part.id, Type::TEXT),
        (&(drafts as i64), Type::INT8),
        (&(late as i64), Type::INT8),
        (&skipped, Type::INT8),
        (&kept.cast_signed(), Type::INT8),
        (&part.has_page, Type::BOOL),
        (&part.after, Type::TEXT),
    ];
    tx.execute(sql::SET_BACK.text(), &values).await?;
    Ok(())
}
