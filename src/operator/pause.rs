//! The pause of all instances: `service.paused_at`, which each of them reads ([`dinnerbell_core::instance::pause`]).

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use crate::operator::campaigns::time;
use dinnerbell_core::model::audit::{Action, Orderer, Subject};
use dinnerbell_core::model::number::{Lane, Seq};
use dinnerbell_postgres::connect::{Connection, Pool};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::audit;
use dinnerbell_postgres::number::number;
use dinnerbell_postgres::sql;
use dinnerbell_postgres::sql::fragments::micros;

/// After this long no instance begins a publication any more: as long as it may act on a reading of the pause.
const PAUSE_TAKES_EFFECT_AFTER: Duration =
    Duration::from_micros(dinnerbell_core::instance::pause::MAX_READING_AGE.unsigned_abs());
/// After this long every instance that can read has seen that sending goes on.
const RESUME_SEEN_AFTER: Duration = Duration::from_millis(500);

/// Who paused all sending, and when.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Pause {
    /// When it was ordered.
    pub since: Option<String>,
    /// Who ordered it.
    pub by: Option<String>,
    /// The reason that was given.
    pub reason: Option<String>,
}

/// All sending is paused.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Paused {
    /// Always true.
    pub paused: bool,
    /// Whether it was not before.
    pub changed: bool,
    /// Who paused it first, and when.
    #[serde(flatten)]
    pub pause: Pause,
    /// Rounds that are recorded and not known to be published: what is not, waits for the resumption.
    pub waiting: Vec<Waiting>,
}

/// A recorded round that waits to be published.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Waiting {
    /// Its lane.
    #[schema(value_type = i32)]
    pub lane: Lane,
    /// Its number.
    #[schema(value_type = i64)]
    pub round: Seq,
    /// How many drafts it holds.
    pub drafts: i64,
}

/// Sending goes on.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Resumed {
    /// Always false.
    pub paused: bool,
    /// Whether it was paused before.
    pub changed: bool,
    /// The pause that ended; null where there was none.
    pub ended: Option<Pause>,
    /// When it was resumed last.
    pub resumed_at: Option<String>,
    /// Who did.
    pub resumed_by: Option<String>,
}

/// Reads the pause from the row of `dinnerbell.service`.
fn read_pause() -> String {
    format!("select {}, paused_by, paused_reason from dinnerbell.service", micros("paused_at"))
}

fn pause_of(row: &Row) -> Option<Pause> {
    let at: Option<i64> = row.get(0);
    at.map(|at| Pause { since: time(Some(at)), by: row.get(1), reason: row.get(2) })
}

/// Who paused all sending, if anybody did.
pub async fn current(pool: &Pool) -> Result<Option<Pause>, PostgresError> {
    let rows = pool.query(&read_pause(), &[]).await?;
    Ok(rows.first().and_then(pause_of))
}

/// Pauses all sending; returns when no instance begins a publication any more. None where no service has used this ledger yet.
pub async fn pause(pool: &Pool, by: &Orderer, reason: Option<&str>) -> Result<Option<Paused>, PostgresError> {
    let tx = pool.begin("set local lock_timeout = '2s'").await?;
    let Some(before) = locked(&tx).await? else { return Ok(None) };
    let set = "update dinnerbell.service set paused_at = clock_timestamp(), paused_by = $1, paused_reason = $2 where paused_at is null";
    tx.execute(set, &[(&by.to_string(), Type::TEXT), (&reason, Type::TEXT)]).await?;
    if before.is_none() {
        audit::note(&tx, by, Action::Paused, Subject::Service, reason.unwrap_or_default()).await?;
    }
    let after = locked(&tx).await?.flatten();
    tx.commit().await?;
    tokio::time::sleep(PAUSE_TAKES_EFFECT_AFTER).await;
    let waiting = waiting(pool).await?;
    let pause = after.unwrap_or(Pause { since: None, by: None, reason: None });
    Ok(Some(Paused { paused: true, changed: before.is_none(), pause, waiting }))
}

/// Lets sending go on; returns when every instance that can look has seen it. None where no service has used this ledger yet.
pub async fn resume(pool: &Pool, by: &Orderer) -> Result<Option<Resumed>, PostgresError> {
    let tx = pool.begin("set local lock_timeout = '2s'").await?;
    let Some(ended) = locked(&tx).await? else { return Ok(None) };
    let set = "update dinnerbell.service set paused_at = null, paused_by = null, paused_reason = null, \
               resumed_at = clock_timestamp(), resumed_by = $1 where paused_at is not null";
    tx.execute(set, &[(&by.to_string(), Type::TEXT)]).await?;
    if let Some(ended) = &ended {
        let details = ended.since.as_ref().map(|since| format!("paused since {since}")).unwrap_or_default();
        audit::note(&tx, by, Action::Resumed, Subject::Service, &details).await?;
    }
    let sql = format!("select {}, resumed_by from dinnerbell.service", micros("resumed_at"));
    let row = tx.query_one(&sql, &[]).await?;
    tx.commit().await?;
    tokio::time::sleep(RESUME_SEEN_AFTER).await;
    Ok(Some(Resumed {
        paused: false,
        changed: ended.is_some(),
        ended,
        resumed_at: time(row.get(0)),
        resumed_by: row.get(1),
    }))
}

/// The pause that stands, the row locked; none where nobody has claimed the ledger.
async fn locked(tx: &Connection) -> Result<Option<Option<Pause>>, PostgresError> {
    let row = tx.query_opt(&format!("{} for update", read_pause()), &[]).await?;
    Ok(row.as_ref().map(pause_of))
}

async fn waiting(pool: &Pool) -> Result<Vec<Waiting>, PostgresError> {
    let rows = pool.query(sql::UNPUBLISHED_ROUNDS.text(), &[]).await?;
    Ok(rows.iter().map(|row| Waiting { lane: number(row, 0), round: number(row, 1), drafts: row.get(2) }).collect())
}
