//! A round is known to be published.

use super::super::not_mine;
use crate::connect::Transaction;
use crate::number::Number;
use crate::sql;
use crate::sql::fragments::WRITTEN;
use dinnerbell_core::model::number::Seq;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::LedgerError;

/// The ledger learns that a round is committed in Kafka: campaigns whose last page it held are complete.
pub(super) async fn note_published(tx: &Transaction, own: Ownership, seq: Seq) -> Result<bool, LedgerError> {
    let sql = format!(
        "update dinnerbell.lane set {WRITTEN}, published_seq = $3, overrule = false where lane = $1 and epoch = $2 and seq = $3"
    );
    let noted = tx.execute(&sql, &[own.lane.parameter(), own.epoch.parameter(), seq.parameter()]).await?;
    if noted != 1 {
        return Err(not_mine(own, "the last round"));
    }
    complete(tx, own, seq).await
}

/// Campaigns whose last page is in a round up to this one are complete, or closed where their end has come: whether any is. They are locked in
/// the order of their ids: other lanes' intakes lock what they know of so too.
pub(in crate::ledger) async fn complete(tx: &Transaction, own: Ownership, seq: Seq) -> Result<bool, LedgerError> {
    let rows = tx.query(sql::COMPLETE.text(), &[own.lane.parameter(), seq.parameter()]).await?;
    Ok(rows.iter().any(|row| row.get(0)))
}
