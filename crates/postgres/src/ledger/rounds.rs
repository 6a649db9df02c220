//! Recording a round, reading it back, withdrawing from it.

mod locked;
mod open;
mod parts;
mod published;
mod withdraw;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

pub use open::PostgresRound;
pub(super) use parts::{StoredPart, delete_rows, of_parts, parts};
pub(super) use published::complete;

use published::note_published;
use withdraw::WithdrawalScope;

use super::due::dead_letter;
use super::{BY_INDEX, PostgresLedger, campaign, rows};
use crate::connect::{Parameter, Transaction};
use crate::errors::TIME_LIMIT;
use crate::number::{Number, number};
use crate::sql;
use crate::sql::fragments::CAMPAIGN;
use dinnerbell_core::model::campaign::Window;
use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::lock::LockedRows;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::round::StoredRound;
use dinnerbell_core::ports::ledger::{LedgerError, RoundLedger};

// The clients of a round are read by their columns' places: there are as many rows, and a name is looked for in each row again.
const PART: usize = 0;
const CLIENT: usize = 1;

impl RoundLedger for PostgresLedger {
    type Transaction = PostgresRound;

    async fn stored_round(&self, own: Ownership) -> Result<StoredRound, LedgerError> {
        self.read_stored_round(own).await
    }

    async fn withdraw(&self, own: Ownership, head: RoundVersion) -> Result<u64, LedgerError> {
        self.withdraw_round(own, head, WithdrawalScope::NotOpen).await
    }

    async fn withdraw_locked(
        &self,
        own: Ownership,
        behind: Option<&(String, String)>,
        most: usize,
    ) -> Result<LockedRows, LedgerError> {
        self.withdraw_locked_rows(own, behind, most).await
    }

    async fn withdraw_whole(
        &self,
        own: Ownership,
        head: RoundVersion,
        round_bytes: Option<i64>,
    ) -> Result<u64, LedgerError> {
        self.withdraw_round(own, head, WithdrawalScope::WholeRound { round_bytes }).await
    }

    async fn set_dead_letters_aside(&self, own: Ownership, head: RoundVersion) -> Result<(), LedgerError> {
        self.set_aside(own, head).await
    }

    async fn open_round(&self, own: Ownership) -> Result<PostgresRound, LedgerError> {
        // The semaphore is never closed; a wait that takes longer than a round is a round's own deadline.
        let permit = Arc::clone(&self.rounds).acquire_owned().await.ok();
        Ok(PostgresRound::new(self.begin(own).await?, own, self.clone(), permit))
    }

    async fn note_published(&self, own: Ownership, seq: Seq) -> Result<bool, LedgerError> {
        let tx = self.begin(own).await?;
        let _exclusive = self.lock_lane(own.lane).await;
        let closed = note_published(&tx, own, seq).await?;
        tx.commit().await?;
        Ok(closed)
    }

    async fn already_told(&self, ranges: &[ClientRange<'_>]) -> Result<Vec<Clients>, LedgerError> {
        let tx = self.pool.begin(&format!("set local lock_timeout = '2s'; {BY_INDEX}")).await?;
        let told = rows::already_told(&tx, &self.feedback(), ranges).await?;
        tx.commit().await?;
        Ok(told)
    }
}

impl PostgresLedger {
    pub(super) async fn read_stored_round(&self, own: Ownership) -> Result<StoredRound, LedgerError> {
        let tx = self.begin(own).await?;
        let sql = "select r.seq, r.revision, r.checksum, r.drafts, r.position, r.trigger_datetime_created, r.dead_letters \
                   from dinnerbell.round r join dinnerbell.lane l using (lane, seq) where lane = $1";
        let row = tx.query_one(sql, &[own.lane.parameter()]).await?;
        let head =
            RoundVersion { seq: number(&row, "seq"), revision: row.get("revision"), checksum: row.get("checksum") };
        let letters: Vec<i64> = row.get("dead_letters");
        let sql = sql::DEAD_LETTERS.with([("which", "id = any($1)")]);
        let dead_letters = tx.query(&sql, &[(&letters, Type::INT8_ARRAY)]).await?.iter().map(dead_letter).collect();
        let (parts, mut batches) = futures_util::try_join!(
            async { Ok(parts(&tx, own.lane, head.seq).await?) },
            self.batches(&tx, own.lane, head.seq)
        )?;
        let mut stored = StoredRound {
            version: head,
            position: number(&row, "position"),
            drafts: row.get::<_, i64>("drafts").cast_unsigned(),
            batches: Vec::new(),
            dead_letters,
            not_open: Vec::new(),
            open: Window::ALWAYS,
        };
        for part in parts.into_iter().filter(|part| part.drafts > 0) {
            stored.open = stored.open.and(part.window);
            stored.batches.extend(batches.remove(&part.part));
            if !part.open {
                stored.not_open.push(part.id);
            }
        }
        self.touched_its_own(&tx).await?;
        tx.commit().await?;
        Ok(stored)
    }

    /// The drafts of a round by the number of their part, from the feedback rows themselves: what was recorded is what is published.
    pub(super) async fn batches(
        &self,
        tx: &Transaction,
        lane: Lane,
        seq: Seq,
    ) -> Result<BTreeMap<i32, DraftBatch>, LedgerError> {
        let round: [Parameter<'_>; 2] = [lane.parameter(), seq.parameter()];
        let feedback = self.feedback();
        let one = format!("{CAMPAIGN}, trigger_datetime_created::int8 as formed");
        let templates = of_parts("p.part", &one, &feedback, " limit 1");
        let clients = of_parts("p.part", "client_id", &feedback, "");
        let mut batches = BTreeMap::new();
        for row in tx.query(&templates, &round).await? {
            let template = DraftTemplate::new(Arc::new(campaign(&row)), number(&row, "formed"), &self.shared.group_id)
                .map_err(|error| LedgerError::Damaged(error.to_string()))?;
            batches.insert(row.get("part"), DraftBatch { template: Arc::new(template), clients: Clients::new() });
        }
        let take = |row: &Row| {
            if let Some(batch) = batches.get_mut(&row.get::<_, i32>(PART)) {
                batch.clients.push(row.get(CLIENT));
            }
            Ok(())
        };
        tx.for_each(&clients, round.to_vec(), TIME_LIMIT, take).await?;
        Ok(batches)
    }
}
