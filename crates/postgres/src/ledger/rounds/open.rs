//! A round is recorded: rows are copied, and everything else is written with the seal.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};

use super::super::due::{active_campaign, dead_letter};
use super::super::{LaneMutex, PostgresLedger, not_mine, refused, rows};
use super::published::complete;
use crate::connect::{Parameter, Transaction};
use crate::errors::PostgresError;
use crate::number::{Number, number};
use crate::sql;
use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::due::RunningCampaign;
use dinnerbell_core::model::late::LateQuery;
use dinnerbell_core::model::lock::{LockWait, LockedCampaign};
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Offset, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::model::round::{RoundContent, RoundPart, Sealed};
use dinnerbell_core::ports::ledger::{LedgerError, RoundTransaction};

/// The part of a round as it is in `dinnerbell.round_part`.
#[derive(Debug, Serialize)]
struct PartRow {
    part: i32,
    id: String,
    revision: i32,
    has_page: bool,
    after: Option<String>,
    upto: Option<String>,
    last: bool,
    already_told: Vec<String>,
    skipped: i64,
    late: Vec<String>,
    drafts: i64,
    checksum: i64,
}

impl PartRow {
    fn of(number: usize, part: &RoundPart) -> Self {
        let clients = &part.drafts.clients;
        let page = part.page.as_ref();
        Self {
            part: i32::try_from(number).unwrap_or(i32::MAX),
            id: part.drafts.template.campaign().adv_campaign_id.clone(),
            revision: part.revision,
            has_page: page.is_some(),
            after: page.and_then(|page| page.after.clone()),
            upto: page.and_then(|page| page.upto.clone()),
            last: page.is_some_and(|page| page.last),
            already_told: page.map(|page| page.already_told.clone()).unwrap_or_default(),
            skipped: page.map_or(0, |page| page.skipped.cast_signed()),
            late: clients.iter().skip(clients.len() - part.late).map(str::to_owned).collect(),
            drafts: clients.len() as i64,
            checksum: part.drafts.checksum().cast_signed(),
        }
    }
}

/// A round that is being recorded.
pub struct PostgresRound {
    tx: Transaction,
    own: Ownership,
    ledger: PostgresLedger,
    feedback: String,
    lane_mutex: Arc<LaneMutex>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl PostgresRound {
    pub(in crate::ledger) fn new(
        tx: Transaction,
        own: Ownership,
        ledger: PostgresLedger,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (feedback, lane_mutex) = (ledger.feedback(), ledger.lane_mutex(own.lane));
        Self { tx, own, ledger, feedback, lane_mutex, _permit: permit }
    }

    /// How many rows the server took.
    async fn copy_rows(&self, content: &RoundContent) -> Result<u64, PostgresError> {
        let column = self.ledger.trigger_type(&self.tx).await?;
        rows::copy(&self.tx, &self.feedback, column, content.parts.iter().map(|part| &part.drafts)).await
    }

    /// Compare-and-set of epoch and seq; the position as it stands under the lock.
    async fn advance_lane(&self, before: Seq, round_bytes: Option<i64>) -> Result<Offset, LedgerError> {
        let values: [Parameter<'_>; 5] = [
            self.own.lane.parameter(),
            self.own.epoch.parameter(),
            before.parameter(),
            (&self.feedback, Type::TEXT),
            (&round_bytes, Type::INT8),
        ];
        let row = self
            .tx
            .query_opt(sql::ADVANCE_LANE.text(), &values)
            .await?
            .ok_or_else(|| not_mine(self.own, "the last round"))?;
        Ok(number(&row, 0))
    }

    /// The cursors move where every campaign of the round still stands as it was planned; returns which did. The planner sees nothing of what
    /// is asked beside the id: without statistics it would go through all that is open for each part.
    async fn move_cursors(&self, parts: &Json<&[PartRow]>, seq: Seq) -> Result<BTreeSet<String>, LedgerError> {
        let parameters: [Parameter<'_>; 3] = [(parts, Type::JSON), seq.parameter(), self.own.lane.parameter()];
        Ok(self.tx.query(sql::MOVE_CURSORS.text(), &parameters).await?.iter().map(|row| row.get(0)).collect())
    }

    /// A lock did not come: of which campaign, where it is a campaign's row.
    async fn naming_campaign(&self, mut wait: Box<LockWait>) -> LedgerError {
        if let Some((relation, place)) = &wait.row
            && relation == "campaign"
        {
            let sql = "select adv_campaign_id, restaurant_id from dinnerbell.campaign \
                       where ctid = $1::text::tid and restaurant_id is not null";
            let found = self.ledger.pool.query_if_free(sql, &[(place, Type::TEXT)]).await.and_then(Result::ok);
            let locked = |row: &Row| LockedCampaign { adv_campaign_id: row.get(0), restaurant_id: row.get(1) };
            wait.campaigns = found.iter().flatten().map(locked).collect();
        }
        LedgerError::Locked(wait)
    }

    async fn write_round(
        &self,
        head: RoundVersion,
        content: &RoundContent,
        letters: &[i64],
    ) -> Result<(), LedgerError> {
        let drafts = content.drafts() as i64;
        let values: [Parameter<'_>; 6] = [
            self.own.lane.parameter(),
            head.seq.parameter(),
            (&head.checksum, Type::INT8),
            (&drafts, Type::INT8),
            content.trigger_datetime_created.parameter(),
            (&letters, Type::INT8_ARRAY),
        ];
        self.tx.execute(sql::WRITE_ROUND.text(), &values).await?;
        Ok(())
    }

    async fn write_parts(&self, parts: &Json<&[PartRow]>, seq: Seq) -> Result<(), LedgerError> {
        let parameters: [Parameter<'_>; 3] = [(parts, Type::JSON), self.own.lane.parameter(), seq.parameter()];
        self.tx.execute(sql::WRITE_PARTS.text(), &parameters).await?;
        Ok(())
    }

    /// Marks the dead letters as published by this round; how many were free.
    async fn take_dead_letters(&self, letters: &[i64], seq: Seq) -> Result<u64, LedgerError> {
        if letters.is_empty() {
            return Ok(0);
        }
        let sql = "update dinnerbell.dead_letter set round_seq = $2 where id = any($1) and round_seq is null";
        Ok(self.tx.execute(sql, &[(&letters, Type::INT8_ARRAY), seq.parameter()]).await?)
    }
}

/// The campaign whose row is in this line of the copy; lines are counted from 1.
fn of_line(content: &RoundContent, line: u64) -> Option<LockedCampaign> {
    let mut before = 0;
    content.parts.iter().map(|part| &part.drafts).find_map(|drafts| {
        before += drafts.clients.len() as u64;
        let campaign = drafts.template.campaign();
        (line <= before).then(|| LockedCampaign {
            adv_campaign_id: campaign.adv_campaign_id.clone(),
            restaurant_id: campaign.restaurant_id.clone(),
        })
    })
}

/// A lock that a round did not get in time, because of these of its campaigns.
fn locked(error: PostgresError, campaigns: Vec<LockedCampaign>) -> LedgerError {
    match error.into() {
        LedgerError::Locked(wait) => LedgerError::Locked(Box::new(LockWait { campaigns, ..*wait })),
        other => other,
    }
}

impl RoundTransaction for PostgresRound {
    async fn already_told(&mut self, ranges: &[ClientRange<'_>]) -> Result<Vec<Clients>, LedgerError> {
        Ok(rows::already_told(&self.tx, &self.feedback, ranges).await?)
    }

    async fn late(&mut self, questions: &[LateQuery<'_>]) -> Result<Vec<Clients>, LedgerError> {
        Ok(rows::late(&self.tx, &self.feedback, questions).await?)
    }

    async fn campaigns(&mut self, ids: &[&str]) -> Result<Vec<RunningCampaign>, LedgerError> {
        let parameters: [Parameter<'_>; 2] = [(&ids, Type::TEXT_ARRAY), self.own.lane.parameter()];
        let rows = self.tx.query(sql::ACTIVE_CAMPAIGNS.text(), &parameters).await?;
        Ok(rows.iter().map(active_campaign).collect())
    }

    async fn dead_letters(&mut self, ids: &[i64]) -> Result<Vec<DeadLetterMessage>, LedgerError> {
        let sql = sql::DEAD_LETTERS.with([("which", "id = any($1) and round_seq is null")]);
        Ok(self.tx.query(&sql, &[(&ids, Type::INT8_ARRAY)]).await?.iter().map(dead_letter).collect())
    }

    async fn abandon(self) -> Result<(), LedgerError> {
        Ok(self.tx.rollback().await?)
    }

    async fn copy(&mut self, content: Arc<RoundContent>) -> Result<(), LedgerError> {
        let copied = match self.copy_rows(&content).await {
            Ok(copied) => copied,
            Err(error) => {
                // The table may have been altered.
                self.ledger.forget_trigger_type();
                return Err(match error.missed_lock() {
                    Some(lock) => {
                        let campaigns = lock.line.and_then(|line| of_line(&content, line)).into_iter().collect();
                        locked(error, campaigns)
                    }
                    None => refused::explain(&self.ledger.pool, error, &content).await.into(),
                });
            }
        };
        let drafts = content.drafts() as u64;
        if copied != drafts {
            let refused = refused::left_out(&self.tx, &self.ledger.pool, drafts, copied).await?;
            return Err(refused::of_campaigns(refused, &content).into());
        }
        Ok(())
    }

    async fn seal(self, head: RoundVersion, content: Arc<RoundContent>) -> Result<Sealed, LedgerError> {
        let before = head.seq.before();
        let parts: Vec<PartRow> = content.parts.iter().enumerate().map(|(n, part)| PartRow::of(n, part)).collect();
        let json = Json(parts.as_slice());
        let letters: Vec<i64> = content.dead_letters.iter().map(|letter| letter.id).collect();
        let _exclusive = self.lane_mutex.lock().await;
        // One round trip: the statements are sent together, in this order, so the lane's row is locked first. Where the compare-and-set finds
        // something else, the others are undone with it.
        let written = futures_util::try_join!(
            self.advance_lane(before, content.round_bytes),
            self.move_cursors(&json, head.seq),
            self.write_round(head, &content, &letters),
            self.write_parts(&json, head.seq),
            self.take_dead_letters(&letters, head.seq),
            complete(&self.tx, self.own, before),
        );
        let (position, moved, (), (), taken, closed_campaigns) = match written {
            Err(LedgerError::Locked(wait)) => return Err(self.naming_campaign(wait).await),
            written => written?,
        };
        if moved.len() != parts.len() || taken != letters.len() as u64 {
            self.tx.rollback().await?;
            let stale = parts.into_iter().map(|part| part.id).filter(|id| !moved.contains(id));
            return Ok(Sealed::Conflict(stale.collect()));
        }
        // What is deferred to the commit is refused by it.
        if let Err(error) = self.tx.commit().await {
            return Err(refused::explain(&self.ledger.pool, error, &content).await.into());
        }
        Ok(Sealed::Recorded { position, closed_campaigns })
    }
}
