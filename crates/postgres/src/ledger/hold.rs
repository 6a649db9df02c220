//! The hold: nothing is sent and nothing is taken in while the ledger may know less than was told.
//!
//! `service.compared` names the comparison in which every lane was found whole. It holds server, database, tables, and a number that grows when a
//! lane finds commits missing all the same. Where it is not the one that stands, all is held. A lane notes its own part at the takeover, where former
//! owners are fenced and Kafka's mark was read; the last one ends the hold. Null is a ledger that no version with a hold has run on yet.

use tokio_postgres::types::Type;

use super::PostgresLedger;
use crate::connect::Transaction;
use crate::errors::PostgresError;
use crate::number::Number;
use crate::sql;
use crate::sql::fragments::{COMPARISON, WRITTEN, held, untouched};
use dinnerbell_core::model::audit::{Action, Subject};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::ownership::{Ownership, Suspension};
use dinnerbell_core::ports::ledger::LedgerError;

impl PostgresLedger {
    pub(super) async fn read_suspension(&self) -> Result<Suspension, LedgerError> {
        let sql = format!("select paused_at is not null as paused, {} as held from dinnerbell.service", held());
        let rows = self.pool.query(&sql, &[]).await?;
        Ok(rows.first().map(|row| Suspension { paused: row.get("paused"), held: row.get("held") }).unwrap_or_default())
    }

    pub(super) async fn end_hold(&self, own: Ownership, comparison: &str, lanes: i32) -> Result<(), LedgerError> {
        // No feedback row is touched: a lane whose feedback table was replaced is compared too.
        let (tx, ..) = self.begin_anywhere(own).await?;
        note(&tx, own.lane, comparison, lanes).await?;
        let details = "compared with what Kafka holds";
        self.note_order(&tx, Action::Resolved, Subject::Lane(own.lane), details).await?;
        Ok(tx.commit().await?)
    }
}

/// The lane was compared; with the last of `lanes` the hold ends. Another comparison than the one that stands changes nothing.
pub(super) async fn note(tx: &Transaction, lane: Lane, comparison: &str, lanes: i32) -> Result<(), PostgresError> {
    let sql = format!("update dinnerbell.lane set {WRITTEN}, compared = $2 where lane = $1");
    tx.execute(&sql, &[lane.parameter(), (&comparison, Type::TEXT)]).await?;
    // One after the other: anyone who comes second counts the first one.
    tx.query("select from dinnerbell.service for update", &[]).await?;
    tx.execute(sql::END_HOLD.text(), &[(&comparison, Type::TEXT), (&lanes, Type::INT4)]).await?;
    Ok(())
}

/// A lane found commits missing: every lane is to be compared again, unless they are being compared already.
pub(super) async fn begin(tx: &Transaction, halt: &Halt) -> Result<(), LedgerError> {
    if halt.is_loss() {
        tx.execute(&begun("true"), &[]).await?;
    }
    Ok(())
}

/// Somebody else wrote the lane's row, perhaps as it stood in a backup: every lane is to be compared again. To be asked before the lane is taken.
pub(super) async fn begin_if_touched(tx: &Transaction, lane: Lane) -> Result<(), PostgresError> {
    let touched = format!("exists (select from dinnerbell.lane l where lane = $1 and not {})", untouched("l"));
    tx.execute(&begun(&touched), &[lane.parameter()]).await.map(drop)
}

/// Begins a comparison of every lane if this is so, unless they are being compared already.
fn begun(condition: &str) -> String {
    format!(
        "update dinnerbell.service set comparison = comparison + 1, compared = coalesce(compared, '') \
         where (compared is null or compared = {COMPARISON}) and {condition}"
    )
}
