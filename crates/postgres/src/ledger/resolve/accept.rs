//! A lane takes what its feedback rows are by now for what it told.

use futures_util::try_join;
use tokio_postgres::types::Type;

use super::super::rounds::StoredPart;
use super::super::{PostgresLedger, not_mine, rounds, rows};
use super::{LaneRow, OpenMending, set_back, together};
use crate::connect::{Parameter, Transaction};
use crate::errors::PostgresError;
use crate::number::Number;
use crate::sql::fragments::CLEARED;
use dinnerbell_core::model::audit::{Action, Subject};
use dinnerbell_core::model::halt::HaltKind;
use dinnerbell_core::model::late::RowCounts;
use dinnerbell_core::model::number::{Lane, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::LedgerError;

/// A part of a round becomes what its rows are: its number of drafts, their checksum, and how many fewer were told late.
async fn accept_part(
    tx: &Transaction,
    lane: Lane,
    seq: Seq,
    part: &StoredPart,
    (drafts, checksum, late): (i64, i64, usize),
) -> Result<(), PostgresError> {
    let sql = "update dinnerbell.round_part set drafts = $4, checksum = $5 where lane = $1 and seq = $2 and part = $3";
    let values: [Parameter<'_>; 5] =
        [lane.parameter(), seq.parameter(), (&part.part, Type::INT4), (&drafts, Type::INT8), (&checksum, Type::INT8)];
    let removed = usize::try_from(part.drafts - drafts).unwrap_or(0);
    try_join!(tx.execute(sql, &values), set_back(tx, part, removed, late, 0)).map(drop)
}

impl PostgresLedger {
    /// The last round becomes what its rows and dead letters are by now. How many drafts it held, and holds.
    pub async fn accept_rows(&self, own: Ownership, lane_row: &LaneRow, by: &str) -> Result<(i64, i64), LedgerError> {
        let OpenMending { tx, .. } = self.begin_mending(own, lane_row).await?;
        let seq = lane_row.head.seq;
        let (mut held, mut holds) = (0, 0);
        let mut batches = self.batches(&tx, own.lane, seq).await?;
        let parts = rounds::parts(&tx, own.lane, seq).await?;
        let mut changed = Vec::new();
        for part in parts.iter().filter(|part| part.drafts > 0) {
            let batch = batches.remove(&part.part);
            let drafts = batch.as_ref().map_or(0, |batch| batch.clients.len() as i64);
            let checksum = batch.as_ref().map_or(0, |batch| batch.checksum().cast_signed());
            held += part.drafts;
            holds += drafts;
            if (drafts, checksum) != (part.drafts, part.checksum) {
                let there =
                    |late: &&String| batch.iter().any(|batch| batch.clients.iter().any(|client| client == *late));
                let late = part.late.iter().filter(|late| !there(late)).count();
                changed.push((part, drafts, checksum, late));
            }
        }
        let accept = |(part, drafts, checksum, late)| accept_part(&tx, own.lane, seq, part, (drafts, checksum, late));
        together(changed.into_iter().map(accept)).await?;
        let sql = "update dinnerbell.round set dead_letters = array(select id from dinnerbell.dead_letter where id = any(dead_letters)) \
                   where lane = $1 and seq = $2";
        tx.execute(sql, &[own.lane.parameter(), seq.parameter()]).await?;
        self.rewrite_round(&tx, own, lane_row.head).await?;
        let sql = format!("update dinnerbell.lane set {CLEARED}, resolved_by = $2 where lane = $1");
        tx.execute(&sql, &[own.lane.parameter(), (&by, Type::TEXT)]).await?;
        let details = format!("--accept-rows: round {seq} held {held} drafts and holds {holds}");
        self.note_order(&tx, Action::Resolved, Subject::Lane(own.lane), &details).await?;
        self.touched_its_own(&tx).await?;
        tx.commit().await?;
        Ok((held, holds))
    }

    /// The campaigns of a lane that are not over, and of which rows were removed: by their ids.
    pub async fn removed(&self, lane: Lane) -> Result<Vec<(String, RowCounts)>, LedgerError> {
        let sql = "select adv_campaign_id, told + kept as told from dinnerbell.campaign where lane = $1 \
                   and state in ('active', 'complete') and told > 0 order by adv_campaign_id";
        let tx = self.pool.begin("").await?;
        let found = tx.query(sql, &[lane.parameter()]).await?;
        let found: Vec<(String, i64)> = found.iter().map(|row| (row.get("adv_campaign_id"), row.get("told"))).collect();
        let feedback = self.feedback();
        let rows = together(found.iter().map(|(id, told)| rows::count(&tx, &feedback, id, *told))).await?;
        let counted = found.into_iter().zip(rows).map(|((id, told), rows)| (id, RowCounts { told, rows }));
        let removed = counted.filter(|(_, counted)| counted.indicates_bulk_removal()).collect();
        tx.commit().await?;
        Ok(removed)
    }

    /// Forgets that these campaigns told those whose rows were removed, and clears the lane's halt: the next rescan tells them again. Who was
    /// told late cannot be told from the others any more.
    pub async fn tell_again(
        &self,
        own: Ownership,
        removed: &[(String, RowCounts)],
        by: &str,
    ) -> Result<(), LedgerError> {
        let tx = self.begin(own).await?;
        let sql = format!(
            "update dinnerbell.lane set {CLEARED}, resolved_by = $3 where lane = $1 and epoch = $2 and halted = $4"
        );
        let halt = HaltKind::RowsRemoved;
        let key: [Parameter<'_>; 4] =
            [own.lane.parameter(), own.epoch.parameter(), (&by, Type::TEXT), (&halt.name(), Type::TEXT)];
        if tx.execute(&sql, &key).await? != 1 {
            return Err(not_mine(own, "the halt"));
        }
        let sql = "update dinnerbell.campaign set told = greatest($2 - kept, 0), late = least(late, greatest($2 - kept, 0)), repass_at = 0 \
                   where adv_campaign_id = $1";
        let tx_of = &tx;
        let forget = |(id, counted): &(String, RowCounts)| {
            let (id, rows) = (id.clone(), counted.rows);
            async move { tx_of.execute(sql, &[(&id, Type::TEXT), (&rows, Type::INT8)]).await }
        };
        together(removed.iter().map(forget)).await?;
        let details = format!("--tell-again: {} campaigns", removed.len());
        self.note_order(&tx, Action::Resolved, Subject::Lane(own.lane), &details).await?;
        Ok(tx.commit().await?)
    }
}
