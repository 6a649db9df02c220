//! Compares a lane with Kafka, with an owner or without.

use crate::operator::resolve::access::MAX_ATTEMPTS;
use crate::operator::resolve::outcome::ResolveError;
use dinnerbell_core::guard::Guards;
use dinnerbell_core::lane::error::LaneError;
use dinnerbell_core::lane::takeover;
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::ports::ledger::{LaneLedger, LedgerError};
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_postgres::ledger::PostgresLedger;

/// Compares the lane as its takeover does, without any of what else that needs. Refuses where commits of it may be missing.
pub(super) async fn compare(broker: &KafkaBroker, writer: &PostgresLedger, lane: Lane) -> Result<(), ResolveError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let acquired = writer.acquire(lane, None).await?;
        match takeover::compare_only(broker, writer, Guards::default(), &acquired).await {
            Ok(None) => return Ok(()),
            Ok(Some(Halt { kind, found, .. })) => {
                return Err(ResolveError::Refused(format!(
                    "{kind}: {found}; commits of it may be missing: dinnerbell lane resolve {lane} --from-kafka"
                )));
            }
            // Its owner took it over meanwhile.
            Err(LaneError::TakenOver | LaneError::Ledger(LedgerError::NotMine(_))) if attempts < MAX_ATTEMPTS => {}
            Err(error) => return Err(ResolveError::Refused(format!("it was not compared: {error}"))),
        }
    }
}
