//! An operator's cancellation: recorded for the lane that owns the campaign, as a tombstone of another lane would be, and waited for.
//!
//! It has taken effect when its owner applied it and no round with drafts of the campaign is left to be published. From then on nobody is told, and
//! the number of told clients stays.

use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use crate::operator::campaigns::time;
use dinnerbell_config::Config;
use dinnerbell_core::model::audit::{Action, Orderer, Subject};
use dinnerbell_core::model::number::Lane;
use dinnerbell_kafka as kafka;
use dinnerbell_postgres::connect::{Parameter, Pool};
use dinnerbell_postgres::errors::{ErrorKind, PostgresError};
use dinnerbell_postgres::ledger::audit;
use dinnerbell_postgres::number::number;
use dinnerbell_postgres::sql;

/// How often the ledger is read.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// An owner that runs applies a cancellation well within this time. Only after it is asked why it did not.
const EXPECTED_DELAY: Duration = Duration::from_secs(1);
/// How often the group is asked whether an instance runs.
const MEMBERS_INTERVAL: Duration = Duration::from_secs(2);

/// What to cancel.
#[derive(Debug, Clone)]
pub struct Request {
    /// The campaign.
    pub adv_campaign_id: String,
    /// Who cancels, as the ledger keeps it.
    pub by: Orderer,
    /// How long the effect is waited for.
    pub timeout: Duration,
}

/// What came of a cancellation, as it is printed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Cancellation {
    /// The campaign.
    pub adv_campaign_id: String,
    /// Its restaurant; null for one that was cancelled before it arrived.
    pub restaurant_id: Option<String>,
    /// Its state before this command.
    pub state_before: String,
    /// Its state now.
    pub state: String,
    /// Whether the cancellation is in force: nobody is told any more.
    pub in_effect: bool,
    /// Why it is not, and what happens next; null where it is.
    pub waits_for: Option<String>,
    /// Whether no instance runs, as far as it was asked: it takes effect when one starts, before anybody is told.
    pub no_instance: bool,
    /// Drafts recorded by now, late ones included.
    pub told: i64,
    /// Those of late subscribers among them.
    pub late: i64,
    /// When it was cancelled.
    pub cancelled_at: Option<String>,
}

/// A campaign and its lane, while its cancellation is waited for.
#[derive(Debug)]
struct CancelStatus {
    restaurant_id: Option<String>,
    state: String,
    told: i64,
    late: i64,
    cancelled_at: Option<String>,
    lane: Lane,
    /// A round with drafts of the campaign is recorded and not known to be published.
    unpublished_round: bool,
    halted: Option<String>,
    owner: Option<String>,
    paused: bool,
}

/// Why the waiting ended.
enum Ended {
    InEffect,
    Halted,
    NoInstance,
    TimedOut,
}

/// Records the cancellation and waits for its effect. None for a campaign that the ledger does not know.
pub async fn cancel(
    config: &Config,
    request: &Request,
    progress: &ProgressBar,
) -> Result<Option<Cancellation>, PostgresError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let id = &request.adv_campaign_id;
    let Some(state_before) = record(&pool, request).await? else { return Ok(None) };
    let ended = tokio::select! {
        biased;
        ended = wait_until_in_effect(&pool, id, progress) => ended?,
        () = nobody_runs(&config.kafka) => Ended::NoInstance,
        () = sleep(request.timeout) => Ended::TimedOut,
    };
    let now = cancel_status(&pool, id).await?;
    let in_effect = now.is_in_effect();
    let no_instance = !in_effect && now.halted.is_none() && matches!(ended, Ended::NoInstance);
    Ok(Some(Cancellation {
        adv_campaign_id: id.clone(),
        waits_for: (!in_effect).then(|| now.waits_for(&ended, request.timeout)),
        restaurant_id: now.restaurant_id,
        state_before,
        state: now.state,
        in_effect,
        no_instance,
        told: now.told,
        late: now.late,
        cancelled_at: now.cancelled_at,
    }))
}

/// Records the change, unless the campaign is cancelled or the same change waits already. Returns the campaign's state before.
async fn record(pool: &Pool, request: &Request) -> Result<Option<String>, PostgresError> {
    let id = &request.adv_campaign_id;
    let (key, by) = (id.as_bytes(), request.by.to_string());
    let parameters: [Parameter<'_>; 3] = [(id, Type::TEXT), (&key, Type::BYTEA), (&by, Type::TEXT)];
    let tx = pool.begin("").await?;
    let Some(row) = tx.query_opt(sql::RECORD_CANCELLATION.text(), &parameters).await? else {
        return tx.rollback().await.map(|()| None);
    };
    let state: String = row.get(0);
    if row.get(1) {
        audit::note(&tx, &request.by, Action::Cancelled, Subject::Campaign(id), &format!("it was {state}")).await?;
    }
    tx.commit().await?;
    Ok(Some(state))
}

/// Waits until the cancellation has taken effect, or its lane is found halted. Returns which of the two. A server that is away for a while is
/// waited for.
async fn wait_until_in_effect(pool: &Pool, id: &str, progress: &ProgressBar) -> Result<Ended, PostgresError> {
    let began = Instant::now();
    loop {
        match cancel_status(pool, id).await {
            Ok(now) if now.is_in_effect() => return Ok(Ended::InEffect),
            Ok(now) if now.halted.is_some() && began.elapsed() > EXPECTED_DELAY => return Ok(Ended::Halted),
            Ok(now) => progress.set_message(format!("{} told, waiting for {}", now.told, now.next_step())),
            Err(error) if error.kind() == ErrorKind::Transient => progress.set_message(error.to_string()),
            Err(error) => return Err(error),
        }
        progress.tick();
        sleep(POLL_INTERVAL).await;
    }
}

async fn cancel_status(pool: &Pool, id: &str) -> Result<CancelStatus, PostgresError> {
    let rows = pool.query(sql::CANCEL_STATUS.text(), &[(&id, Type::TEXT)]).await?;
    let row = rows.first().ok_or_else(|| PostgresError::transient(format!("campaign {id} is gone from the ledger")))?;
    Ok(CancelStatus {
        restaurant_id: row.get(0),
        state: row.get(1),
        told: row.get(2),
        late: row.get(3),
        cancelled_at: time(row.get(4)),
        lane: number(row, 5),
        unpublished_round: row.get(6),
        halted: row.get(7),
        owner: row.get(8),
        paused: row.get(9),
    })
}

impl CancelStatus {
    fn is_in_effect(&self) -> bool {
        self.state == "cancelled" && !self.unpublished_round
    }

    fn next_step(&self) -> String {
        match self.state.as_str() {
            "cancelled" => format!("the round of lane {} that is being published", self.lane),
            _ => format!("the owner of lane {}", self.lane),
        }
    }

    fn waits_for(&self, ended: &Ended, timeout: Duration) -> String {
        let lane = self.lane;
        let pause = if self.paused { "; all sending is paused (`dinnerbell resume`)" } else { "" };
        match (ended, &self.halted) {
            (_, Some(halted)) => format!(
                "lane {lane} is halted ({halted}): it takes effect when that is resolved, see `dinnerbell lane list`"
            ),
            (Ended::NoInstance, None) => {
                "no instance of the service runs: it takes effect when one starts, before anybody is told".to_owned()
            }
            (_, None) => format!(
                "{} did not end within {} s; {} took the lane over last{pause}; see `dinnerbell lane list`",
                self.next_step(),
                timeout.as_secs(),
                self.owner.as_deref().unwrap_or("nobody"),
            ),
        }
    }
}

/// Completes when the group is seen without a member, which it is asked only where the effect takes longer than usual. A Kafka that does
/// not answer says nothing.
async fn nobody_runs(kafka: &dinnerbell_config::Kafka) {
    sleep(EXPECTED_DELAY).await;
    loop {
        match kafka::members(kafka).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => tracing::debug!("whether an instance runs is not known: {error}"),
        }
        sleep(MEMBERS_INTERVAL).await;
    }
}
