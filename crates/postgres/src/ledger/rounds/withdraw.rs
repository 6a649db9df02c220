//! Drafts of a recorded round are withdrawn, and its dead letters set aside.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use super::super::{PostgresLedger, not_mine};
use super::parts::{StoredPart, delete_rows, parts, set_parts_back};
use crate::connect::{Parameter, Transaction};
use crate::number::Number;
use crate::sql;
use crate::sql::fragments::WRITTEN;
use dinnerbell_core::model::draft::dead_letter_checksum;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::Seq;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::LedgerError;

impl PostgresLedger {
    /// Takes back the drafts of campaigns that are not open, or all: rows, counts and cursors, and changes the round's revision and checksum. How many
    /// rows are locked, and go later.
    pub(in crate::ledger) async fn withdraw_round(
        &self,
        own: Ownership,
        head: RoundVersion,
        scope: WithdrawalScope,
    ) -> Result<u64, LedgerError> {
        let tx = self.begin(own).await?;
        let _exclusive = self.lock_lane(own.lane).await;
        hold_last_round(&tx, own, head).await?;
        let mut parts = parts(&tx, own.lane, head.seq).await?;
        parts.retain(|part| scope.includes(part));
        let stay = self.withdraw_parts(&tx, own, head.seq, &parts).await?;
        self.rewrite_round(&tx, own, head).await?;
        if let WithdrawalScope::WholeRound { round_bytes } = scope {
            let sql = format!("update dinnerbell.lane set {WRITTEN}, round_bytes = $2 where lane = $1");
            tx.execute(&sql, &[own.lane.parameter(), (&round_bytes, Type::INT8)]).await?;
        }
        self.touched_its_own(&tx).await?;
        tx.commit().await?;
        Ok(stay.locked.unsigned_abs())
    }

    /// Takes the dead letters out of a round: its revision and checksum change, and they wait for a later one.
    pub(in crate::ledger) async fn set_aside(&self, own: Ownership, head: RoundVersion) -> Result<(), LedgerError> {
        let tx = self.begin(own).await?;
        let _exclusive = self.lock_lane(own.lane).await;
        hold_last_round(&tx, own, head).await?;
        let key: [Parameter<'_>; 2] = [own.lane.parameter(), head.seq.parameter()];
        tx.execute(sql::FREE_DEAD_LETTERS.text(), &key).await?;
        let [lane, seq] = key;
        tx.execute("update dinnerbell.round set dead_letters = '{}' where lane = $1 and seq = $2", &[lane, seq])
            .await?;
        self.rewrite_round(&tx, own, head).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The rows of some parts go, but for those in which somebody answered, and those that are locked. Counts and cursors go back.
    pub(in crate::ledger) async fn withdraw_parts(
        &self,
        tx: &Transaction,
        own: Ownership,
        seq: Seq,
        parts: &[StoredPart],
    ) -> Result<RowsThatStay, LedgerError> {
        let mut kept: BTreeMap<i32, i64> = parts.iter().map(|part| (part.part, part.drafts)).collect();
        let numbers: Vec<i32> = kept.keys().copied().collect();
        for (part, gone) in delete_rows(tx, &self.feedback(), own.lane, seq, &numbers).await? {
            *kept.entry(part).or_default() -= gone;
        }
        let mut locked = 0;
        if kept.values().any(|stay| *stay > 0) {
            for (part, rows) in self.keep_locked_rows(tx, own.lane, seq, &numbers).await? {
                *kept.entry(part).or_default() -= rows;
                locked += rows;
            }
        }
        set_parts_back(tx, own.lane, seq, &kept).await?;
        Ok(RowsThatStay { kept: kept.values().sum(), locked })
    }

    /// The round becomes the sum of the parts that are left.
    pub(in crate::ledger) async fn rewrite_round(
        &self,
        tx: &Transaction,
        own: Ownership,
        head: RoundVersion,
    ) -> Result<(), LedgerError> {
        let sql = "select dead_letters from dinnerbell.round where lane = $1 and seq = $2";
        let key: [Parameter<'_>; 2] = [own.lane.parameter(), head.seq.parameter()];
        let letters: Vec<i64> = tx.query_one(sql, &key).await?.get(0);
        let left = parts(tx, own.lane, head.seq).await?;
        let drafts: i64 = left.iter().map(|part| part.drafts).sum();
        let checksum = left.iter().fold(0u64, |sum, part| sum.wrapping_add(part.checksum.cast_unsigned()));
        let checksum = letters.iter().fold(checksum, |sum, id| sum.wrapping_add(dead_letter_checksum(*id)));
        let sql = "update dinnerbell.round set revision = revision + 1, drafts = $3, checksum = $4 where lane = $1 and seq = $2";
        let [lane, seq] = key;
        let changed =
            tx.execute(sql, &[lane, seq, (&drafts, Type::INT8), (&checksum.cast_signed(), Type::INT8)]).await?;
        if changed == 1 { Ok(()) } else { Err(not_mine(own, "the round")) }
    }
}

/// Locks the lane's row, if this is still its last round.
async fn hold_last_round(tx: &Transaction, own: Ownership, head: RoundVersion) -> Result<(), LedgerError> {
    let sql = "select 1 from dinnerbell.lane where lane = $1 and epoch = $2 and seq = $3 for update";
    let key: [Parameter<'_>; 3] = [own.lane.parameter(), own.epoch.parameter(), head.seq.parameter()];
    if tx.query_opt(sql, &key).await?.is_some() { Ok(()) } else { Err(not_mine(own, "the last round")) }
}

/// Rows of withdrawn drafts that are still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ledger) struct RowsThatStay {
    /// For good: somebody answered in them.
    pub(in crate::ledger) kept: i64,
    /// Until they are free.
    pub(in crate::ledger) locked: i64,
}

/// What of a round is withdrawn.
#[derive(Debug, Clone, Copy)]
pub(in crate::ledger) enum WithdrawalScope {
    /// What must not be published any more.
    NotOpen,
    /// All of it, since it does not get through. The lane remembers how large a round may be.
    WholeRound { round_bytes: Option<i64> },
}

impl WithdrawalScope {
    fn includes(self, part: &StoredPart) -> bool {
        part.drafts > 0 && (!part.open || matches!(self, Self::WholeRound { .. }))
    }
}
