//! A lane of the ledger: taken, halted, compared.

use tokio_postgres::types::Type;

use super::{PostgresLedger, hold};
use crate::connect::{Parameter, lock_holders};
use crate::number::Number;
use crate::sql::fragments::{COMPARISON, POSTMASTER, WRITTEN, untouched};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::lock::{LockHolder, LockWait, LockedPart};
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::model::output_topics::OutputTopicIds;
use dinnerbell_core::model::ownership::{AcquiredLane, Ownership};
use dinnerbell_core::ports::ledger::{LaneLedger, LedgerError};

impl LaneLedger for PostgresLedger {
    async fn acquire(&self, lane: Lane, beginning: Option<Offset>) -> Result<AcquiredLane, LedgerError> {
        self.acquire_lane(lane, beginning).await
    }

    async fn still_mine(&self, own: Ownership) -> Result<bool, LedgerError> {
        match self.begin_anywhere(own).await {
            Ok((tx, ..)) => {
                tx.commit().await?;
                Ok(true)
            }
            Err(LedgerError::NotMine(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn note_topic(&self, own: Ownership, topic_id: &str) -> Result<(), LedgerError> {
        let tx = self.begin(own).await?;
        let sql = format!("update dinnerbell.lane set {WRITTEN}, topic_id = $2 where lane = $1");
        tx.execute(&sql, &[own.lane.parameter(), (&topic_id, Type::TEXT)]).await?;
        Ok(tx.commit().await?)
    }

    async fn note_outputs(&self, own: Ownership, ids: &OutputTopicIds) -> Result<bool, LedgerError> {
        self.note_output_ids(own, ids).await
    }

    async fn note_compared(&self, own: Ownership, comparison: &str, lanes: i32) -> Result<(), LedgerError> {
        self.end_hold(own, comparison, lanes).await
    }

    async fn note_lock_wait(&self, lane: Lane, part: LockedPart, wait: Option<&LockWait>) -> Result<(), LedgerError> {
        // Nobody waits for what is only shown.
        let tx = self.pool.begin("set local lock_timeout = '100ms'; set local synchronous_commit = off").await?;
        let (part, text) = (part.name(), Type::TEXT);
        if let Some(wait) = wait {
            let (pid, transaction) =
                wait.holder.as_ref().map_or((0, ""), |holder| (holder.pid, holder.transaction.as_str()));
            let shown = wait.to_string();
            let values: [Parameter<'_>; 5] = [
                lane.parameter(),
                (&part, text.clone()),
                (&shown, text.clone()),
                (&pid, Type::INT4),
                (&transaction, text),
            ];
            let sql = "insert into dinnerbell.lock_wait (lane, part, waits_for, pid, transaction) values ($1, $2, $3, $4, $5) \
                       on conflict (lane, part) do update set waits_for = $3, pid = $4, transaction = $5, \
                         since = case when lock_wait.transaction = $5 then lock_wait.since else excluded.since end";
            tx.execute(sql, &values).await?;
        } else {
            let sql = "delete from dinnerbell.lock_wait where lane = $1 and part = $2";
            tx.execute(sql, &[lane.parameter(), (&part, text)]).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn is_transaction_active(&self, holder: &LockHolder) -> Result<bool, LedgerError> {
        Ok(lock_holders::is_transaction_active(&self.pool, holder).await?)
    }

    async fn halt(&self, own: Ownership, halt: Halt) -> Result<(), LedgerError> {
        let (tx, ..) = self.begin_anywhere(own).await?;
        let sql = format!(
            "update dinnerbell.lane set {WRITTEN}, halted = $2, halted_found = $3, halted_remedy = $4, halted_at = clock_timestamp() \
             where lane = $1"
        );
        let text = Type::TEXT;
        let values: [Parameter<'_>; 4] = [
            own.lane.parameter(),
            (&halt.kind.name(), text.clone()),
            (&halt.found, text.clone()),
            (&halt.remedy, text),
        ];
        tx.execute(&sql, &values).await?;
        hold::begin(&tx, &halt).await?;
        Ok(tx.commit().await?)
    }

    async fn resolved(&self, own: Ownership, comparison: &str) -> Result<bool, LedgerError> {
        let sql = format!(
            "select halted is null or epoch <> $2 or $3 <> {POSTMASTER} or coalesce($4 <> {COMPARISON}, false) or not {} \
             from dinnerbell.lane l left join dinnerbell.service on true where lane = $1",
            untouched("l")
        );
        let parameters: [Parameter<'_>; 4] =
            [own.lane.parameter(), own.epoch.parameter(), own.server_started_at.parameter(), (&comparison, Type::TEXT)];
        let rows = self.pool.query(&sql, &parameters).await?;
        Ok(rows.first().is_none_or(|row| row.get(0)))
    }
}
