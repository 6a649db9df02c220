//! Rows of withdrawn drafts that somebody's open transaction had locked: kept in mind by the withdrawal, and withdrawn when they are free.

use tokio_postgres::types::Type;

use super::super::PostgresLedger;
use super::parts::of_parts;
use crate::connect::{Parameter, Transaction, lock_holders};
use crate::number::Number;
use crate::sql;
use dinnerbell_core::model::lock::{LockHolder, LockedRows};
use dinnerbell_core::model::number::{Lane, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::LedgerError;

/// What one look found, before it is known who holds the locks.
struct Looked {
    rows: LockedRows,
    /// Transactions that have some of the rows locked.
    locked_by: Vec<String>,
}

impl PostgresLedger {
    /// Keeps in mind which rows of withdrawn parts are locked: how many, by part. Rows of the same second could be told again and be taken for those
    /// that are to go: then the withdrawal is done again a moment later.
    pub(super) async fn keep_locked_rows(
        &self,
        tx: &Transaction,
        lane: Lane,
        seq: Seq,
        parts: &[i32],
    ) -> Result<Vec<(i32, i64)>, LedgerError> {
        let columns = "client_id, trigger_datetime_created::int8, feedback is null";
        let rows = of_parts("p.part, p.id", columns, &self.feedback(), "");
        let sql = sql::KEEP_LOCKED_ROWS.with([("rows", &rows)]);
        let round: [Parameter<'_>; 3] = [lane.parameter(), seq.parameter(), (&parts, Type::INT4_ARRAY)];
        let kept = tx.query(&sql, &round).await?;
        if kept.iter().any(|row| row.get("young")) {
            let text =
                "rows of a round are locked that was formed this very second; they are withdrawn in the next one";
            return Err(LedgerError::Transient(text.to_owned()));
        }
        Ok(kept.iter().map(|row| (row.get("part"), row.get("rows"))).collect())
    }

    pub(super) async fn withdraw_locked_rows(
        &self,
        own: Ownership,
        behind: Option<&(String, String)>,
        most: usize,
    ) -> Result<LockedRows, LedgerError> {
        let looked = match self.look_at_locked_rows(own, behind, most, true).await {
            // Who has a row locked did not show. Nothing was changed.
            Err(LedgerError::Locked(wait)) => {
                let looked = self.look_at_locked_rows(own, behind, most, false).await?;
                let rows = LockedRows { waited: true, holder: wait.holder, ..looked.rows };
                Looked { rows, ..looked }
            }
            looked => looked?,
        };
        let Looked { rows, locked_by } = looked;
        let holder: Option<LockHolder> = match rows.holder {
            Some(holder) => Some(holder),
            None => lock_holders::of_transactions(&self.pool, &locked_by).await,
        };
        Ok(LockedRows { holder, ..rows })
    }

    /// Deletes those that are free, if it is to, and says what became of all that were looked at.
    async fn look_at_locked_rows(
        &self,
        own: Ownership,
        behind: Option<&(String, String)>,
        most: usize,
        withdraws: bool,
    ) -> Result<Looked, LedgerError> {
        let tx = self.begin(own).await?;
        // A row that is locked by several at once does not show it: it is waited for, no longer than this.
        tx.batch("set local lock_timeout = '500ms'").await?;
        let (campaign, client) = behind.map_or(("", ""), |(campaign, client)| (campaign.as_str(), client.as_str()));
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let feedback = self.feedback();
        let parameters: [Parameter<'_>; 4] =
            [own.lane.parameter(), (&campaign, Type::TEXT), (&client, Type::TEXT), (&most, Type::INT8)];
        if withdraws {
            tx.query_one(&sql::WITHDRAW_FREE_ROWS.with([("feedback", &feedback)]), &parameters).await?;
        }
        let row = tx.query_one(&sql::SETTLE_LOCKED_ROWS.with([("feedback", &feedback)]), &parameters).await?;
        self.touched_its_own(&tx).await?;
        tx.commit().await?;
        let count = |column: &str| row.get::<_, Option<i64>>(column).unwrap_or(0).max(0).unsigned_abs();
        let (gone, kept) = (count("gone"), count("kept"));
        // Only the last ones say how many there are in all.
        let next = match row.get::<_, Option<i64>>("all_rows") {
            Some(_) => None,
            None => row.get::<_, Option<String>>("last_id").zip(row.get("last_client")),
        };
        let left = count("all_rows").saturating_sub(gone + kept);
        let rows = LockedRows { left, gone, kept, waited: false, next, holder: None };
        Ok(Looked { rows, locked_by: row.get("locked_by") })
    }
}
