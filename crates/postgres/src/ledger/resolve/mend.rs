//! A lane is mended by what Kafka holds.

use std::collections::BTreeMap;

use tokio_postgres::types::{ToSql, Type};

use super::super::rounds::StoredPart;
use super::super::{PostgresLedger, hold, not_mine, rounds, rows};
use super::{LaneRow, Mended, Repair, Restored, set_back, together};
use crate::connect::{Parameter, Transaction};
use crate::errors::PostgresError;
use crate::number::{Number, number};
use crate::predicate::of_campaign;
use crate::sql;
use crate::sql::fragments::{CLEARED, NOW, SHORT_IDS};
use crate::table_identity;
use dinnerbell_core::model::audit::{Action, Subject};
use dinnerbell_core::model::campaign::{CampaignState, Window};
use dinnerbell_core::model::number::{Seconds, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::LedgerError;
use dinnerbell_core::recovery::decide::{Decision, LastRound};
use dinnerbell_core::recovery::found::FoundDraft;

impl PostgresLedger {
    /// Begins a mending: one transaction, if the lane still stands as it was found.
    pub async fn begin_mending(&self, own: Ownership, lane_row: &LaneRow) -> Result<OpenMending, LedgerError> {
        let tx = self.begin(own).await?;
        let key: [Parameter<'_>; 4] = [
            own.lane.parameter(),
            own.epoch.parameter(),
            lane_row.head.seq.parameter(),
            lane_row.published.parameter(),
        ];
        if tx.query_opt(sql::HOLD_AS_FOUND.text(), &key).await?.is_none() {
            tx.rollback().await?;
            return Err(not_mine(own, "the last round"));
        }
        let now = number(&tx.query_one(&format!("select {NOW}"), &[]).await?, 0);
        Ok(OpenMending {
            tx,
            own,
            feedback: self.feedback(),
            now,
            restored: BTreeMap::new(),
            mended: Mended::default(),
            ledger: self.clone(),
        })
    }
}

/// A mending that is being written: an open transaction.
pub struct OpenMending {
    pub(super) tx: Transaction,
    own: Ownership,
    feedback: String,
    now: Seconds,
    /// Rows inserted, by campaign.
    restored: BTreeMap<String, i64>,
    mended: Mended,
    ledger: PostgresLedger,
}

impl OpenMending {
    /// Inserts the rows that these drafts lack. A row that differs from its message is corrected: in what the database not_mine, its draft was withdrawn
    /// and the client told again.
    pub async fn restore(&mut self, drafts: &[FoundDraft<'_>]) -> Result<(), LedgerError> {
        let feedback = [("feedback", self.feedback.as_str())];
        let (missing, differing) = (sql::RESTORE_ROWS.with(feedback), sql::CORRECT_ROWS.with(feedback));
        let text = |of: fn(&'_ FoundDraft<'_>) -> String| drafts.iter().map(of).collect::<Vec<String>>();
        let time =
            |of: fn(&FoundDraft<'_>) -> Seconds| drafts.iter().map(|draft| of(draft).get()).collect::<Vec<i64>>();
        let texts = [
            text(|d| d.restaurant_id.to_string()),
            text(|d| d.adv_campaign_id.to_string()),
            text(|d| d.adv_campaign_content.to_string()),
            text(|d| d.adv_campaign_owner.to_string()),
            text(|d| d.adv_campaign_owner_contact.to_string()),
        ];
        let times = [
            time(|d| d.adv_campaign_datetime_start),
            time(|d| d.adv_campaign_datetime_end),
            time(|d| d.datetime_created),
        ];
        let clients = text(|d| d.client_id.to_string());
        let formed = time(|d| d.trigger_datetime_created);
        let mut parameters: Vec<Parameter<'_>> = Vec::with_capacity(10);
        parameters.extend(texts.iter().map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY)));
        parameters.extend(times.iter().map(|column| (column as &(dyn ToSql + Sync), Type::INT8_ARRAY)));
        parameters.push((&clients, Type::TEXT_ARRAY));
        parameters.push((&formed, Type::INT8_ARRAY));
        self.mended.rows_corrected += self.tx.execute(&differing, &parameters).await?;
        for row in self.tx.query(&missing, &parameters).await? {
            *self.restored.entry(row.get(0)).or_default() += 1;
            self.mended.rows_restored += 1;
        }
        Ok(())
    }

    /// The rows that were read and written are in the ledger's own table.
    async fn must_be_known(&self) -> Result<(), LedgerError> {
        let sql = format!("select {}", table_identity::is_known("$1"));
        match self.tx.query_one(&sql, &[(&self.feedback, Type::TEXT)]).await?.get(0) {
            true => Ok(()),
            false => Err(LedgerError::AnotherTable("the feedback table was replaced meanwhile".to_owned())),
        }
    }

    /// Writes everything else, and commits.
    pub async fn commit(mut self, mending: &Repair<'_>) -> Result<Mended, LedgerError> {
        if mending.decision.last == LastRound::PublishedInPart {
            self.take_back(mending).await?;
        }
        self.count_all(mending.campaigns).await?;
        if mending.hides_dead_letters() {
            self.free_dead_letters(mending.lane_row.head.seq).await?;
        }
        self.apply_decision(mending).await?;
        self.must_be_known().await?;
        if let Some(published) = mending.decision.published {
            rounds::complete(&self.tx, self.own, published).await?;
        }
        let (comparison, lanes) = mending.compared;
        hold::note(&self.tx, self.own.lane, comparison, lanes).await?;
        let details =
            format!("--from-kafka: {} rows restored, {} removed", self.mended.rows_restored, self.mended.rows_removed);
        self.ledger.note_order(&self.tx, Action::Resolved, Subject::Lane(self.own.lane), &details).await?;
        self.tx.commit().await?;
        Ok(self.mended)
    }

    /// Drafts of the last round that have no message: their rows go, and the cursors go back, so that a later round tells those clients.
    async fn take_back(&mut self, mending: &Repair<'_>) -> Result<(), LedgerError> {
        let parts = rounds::parts(&self.tx, self.own.lane, mending.lane_row.head.seq).await?;
        let untold = |part| {
            let part: &StoredPart = part;
            Some((part, mending.untold.get(&part.id)?))
        };
        let parts: Vec<(&StoredPart, &Vec<String>)> = parts.iter().filter_map(untold).collect();
        let sql = format!(
            "delete from {} where {} and client_id collate \"C\" = any($2) and feedback is null and {}",
            self.feedback,
            of_campaign("adv_campaign_id", "$1"),
            SHORT_IDS
        );
        let gone = together(parts.iter().map(|&(part, clients)| self.delete(&sql, part, clients))).await?;
        let back = parts.iter().zip(&gone).map(|(&(part, clients), gone)| {
            let kept = (clients.len() as u64).saturating_sub(*gone);
            let late = part.late.iter().filter(|client| clients.contains(client)).count();
            set_back(&self.tx, part, clients.len(), late, kept)
        });
        together(back).await?;
        let removed: u64 = gone.iter().sum();
        self.mended.rows_removed += removed;
        self.mended.rows_kept +=
            parts.iter().map(|(_, clients)| clients.len() as u64).sum::<u64>().saturating_sub(removed);
        Ok(())
    }

    /// Deletes the rows of these drafts of a part, unless somebody answered in them.
    async fn delete(&self, sql: &str, part: &StoredPart, clients: &Vec<String>) -> Result<u64, PostgresError> {
        self.tx.execute(sql, &[(&part.id, Type::TEXT), (clients, Type::TEXT_ARRAY)]).await
    }

    /// Campaigns that got rows back: what each told grows by them, unless they are of drafts that it counts already: their rows were removed. One that
    /// the ledger does not know is made from its newest draft; its own record, read once more, is then a duplicate or an update. The cursors stay:
    /// the rows themselves keep anybody from being told twice.
    async fn count_all(&mut self, campaigns: &BTreeMap<String, Restored>) -> Result<(), LedgerError> {
        let made = together(campaigns.values().map(|restored| self.make(restored))).await?;
        let there = campaigns.keys().map(|id| rows::count(&self.tx, &self.feedback, id, i64::MAX));
        let there = together(there).await?;
        let counts = campaigns.iter().zip(there).map(|((id, restored), rows)| self.count(id, restored, rows));
        together(counts).await?;
        self.mended.campaigns_restored += made.iter().sum::<u64>();
        Ok(())
    }

    /// Makes a campaign that the ledger does not know. How many that were.
    async fn make(&self, restored: &Restored) -> Result<u64, PostgresError> {
        let newest = &restored.newest;
        let window = Window { start: newest.adv_campaign_datetime_start, end: newest.adv_campaign_datetime_end };
        let state = CampaignState::of(window, false, self.now).name();
        let first = restored.first.get() as f64;
        let values: [Parameter<'_>; 11] = [
            self.own.lane.parameter(),
            (&state, Type::TEXT),
            (&first, Type::FLOAT8),
            (&newest.adv_campaign_id, Type::TEXT),
            (&newest.restaurant_id, Type::TEXT),
            (&newest.adv_campaign_content, Type::TEXT),
            (&newest.adv_campaign_owner, Type::TEXT),
            (&newest.adv_campaign_owner_contact, Type::TEXT),
            window.start.parameter(),
            window.end.parameter(),
            newest.datetime_created.parameter(),
        ];
        self.tx.execute(sql::MAKE_CAMPAIGN.text(), &values).await
    }

    /// Counts what a campaign got back; this is how many rows it has now.
    async fn count(&self, id: &str, restored: &Restored, rows: i64) -> Result<(), PostgresError> {
        let told = self.restored.get(id).copied().unwrap_or(0);
        let (first, last) = (restored.first.get() as f64, restored.last.get() as f64);
        let values: [Parameter<'_>; 5] = [
            (&id, Type::TEXT),
            (&told, Type::INT8),
            (&first, Type::FLOAT8),
            (&last, Type::FLOAT8),
            (&rows, Type::INT8),
        ];
        self.tx.execute(sql::COUNT_RESTORED.text(), &values).await?;
        Ok(())
    }

    /// Dead letters of the last round wait for a later one: what Kafka holds in its place may be without them.
    async fn free_dead_letters(&mut self, seq: Seq) -> Result<(), LedgerError> {
        let key: [Parameter<'_>; 2] = [self.own.lane.parameter(), seq.parameter()];
        self.tx.execute(sql::FREE_DEAD_LETTERS.text(), &key).await?;
        self.tx.execute("update dinnerbell.round set dead_letters = '{}' where lane = $1 and seq = $2", &key).await?;
        Ok(())
    }

    /// The round with which the lane goes on, and the lane.
    async fn apply_decision(&mut self, mending: &Repair<'_>) -> Result<(), LedgerError> {
        let Decision { head, published, mark_overruled, .. } = mending.decision;
        let values: [Parameter<'_>; 5] = [
            self.own.lane.parameter(),
            head.seq.parameter(),
            (&head.revision, Type::INT4),
            (&head.checksum, Type::INT8),
            self.now.parameter(),
        ];
        self.tx.execute(sql::SETTLE_ROUND.text(), &values).await?;
        let sql = format!(
            "update dinnerbell.lane set {CLEARED}, seq = $2, published_seq = $3, overrule = $4, resolved_by = $5 where lane = $1"
        );
        let values: [Parameter<'_>; 5] = [
            self.own.lane.parameter(),
            head.seq.parameter(),
            published.parameter(),
            (mark_overruled, Type::BOOL),
            (&mending.by, Type::TEXT),
        ];
        self.tx.execute(&sql, &values).await?;
        Ok(())
    }
}
