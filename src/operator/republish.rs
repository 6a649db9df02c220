//! `dinnerbell verify --republish`: clients whose messages Kafka lost are told once more, while their campaigns last.
//!
//! What was acknowledged is lost with an unclean election of the notifications topic, and the rows stay. They are taken back under the lane's own
//! epoch, one transaction for each batch. Its owner takes the lane over again, rescans its open campaigns, and tells who has no row. Neither
//! two runs nor one that died half-way tell anybody twice: the unique index prevents it. What was taken back is gone, and what was told since has a
//! message.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::operator::resolve::{MAX_ATTEMPTS, ResolveError, writer};
use dinnerbell_config::Config;
use dinnerbell_core::model::audit::Orderer;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::ports::failure::{Failure, FailureKind};
use dinnerbell_core::ports::ledger::LaneLedger;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::PostgresLedger;
use dinnerbell_postgres::ledger::republish::{Fate, fates};

/// Rows that are taken back in one transaction.
const BATCH: usize = 5_000;

/// What was ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Republished {
    /// Nothing was written.
    pub dry_run: bool,
    /// Drafts that are told once more.
    pub drafts: u64,
    /// Rows of campaigns that are over: they stay as they are.
    pub over: u64,
    /// Rows in which somebody answered: they stay, since their clients were told.
    pub answered: u64,
    /// Rows that no round which the ledger still has recorded: they stay, since an earlier job may have told their clients.
    pub unrecorded: u64,
}

/// Has the clients of these rows, which have no message, told once more.
pub async fn republish(
    config: &Config,
    rows: &[i64],
    dry_run: bool,
    by: &Orderer,
) -> Result<Republished, ResolveError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let mut done = Republished { dry_run, ..Republished::default() };
    let mut open: BTreeMap<Lane, Vec<i64>> = BTreeMap::new();
    for batch in rows.chunks(BATCH) {
        for (row, fate) in fates(&pool, batch).await? {
            match fate {
                Fate::Open(lane) => open.entry(lane).or_default().push(row),
                Fate::Over => done.over += 1,
                Fate::Answered => done.answered += 1,
                Fate::Unrecorded => done.unrecorded += 1,
            }
        }
    }
    if dry_run {
        done.drafts = open.values().map(|rows| rows.len() as u64).sum();
        return Ok(done);
    }
    let writer = writer(config, &pool, by).await?;
    for (lane, rows) in &open {
        for batch in rows.chunks(BATCH) {
            done.drafts += take_back(&writer, *lane, batch).await?;
        }
    }
    Ok(done)
}

/// Takes a batch back, as often as an owner takes the lane over meanwhile.
async fn take_back(writer: &PostgresLedger, lane: Lane, rows: &[i64]) -> Result<u64, ResolveError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let own = writer.acquire(lane, None).await?.ownership;
        match writer.take_rows_back(own, rows).await {
            Err(error) if error.failure_kind() != FailureKind::Refused && attempts < MAX_ATTEMPTS => {}
            taken => return Ok(taken?),
        }
    }
}
