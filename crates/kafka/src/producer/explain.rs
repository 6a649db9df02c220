//! What an error on the way to a broker means for a lane.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

use crate::client::classify;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{BrokerError, transaction_time};
use dinnerbell_wire::error::WireError;

/// What timers are late by.
const LATE: Duration = Duration::from_millis(500);

/// What was tried when something is written to a topic, as a fragment.
pub(super) fn writing_to(topic: &str) -> String {
    format!("writing to topic {topic}")
}

/// What an error means; `doing` says what was tried, as a fragment. An error that a broker answered means the same whichever client asked.
pub fn explain(doing: &str, error: &WireError) -> BrokerError {
    match error {
        WireError::Answered { address, code, message, .. } => {
            let known = RDKafkaRespErr::try_from(i32::from(code.code())).map(RDKafkaErrorCode::from);
            let words = match (&known, message) {
                (Ok(known), None) => known.to_string(),
                (Ok(known), Some(message)) => format!("{known} ({message})"),
                (Err(_), message) => format!("{code} ({})", message.as_deref().unwrap_or("no more was said")),
            };
            let code = known.unwrap_or(RDKafkaErrorCode::Unknown);
            classify(doing, code, &format!("{address}: {words}"))
        }
        WireError::Unresolved { address, reason, .. } => {
            classify(doing, RDKafkaErrorCode::Resolve, &format!("failed to resolve {address}: {reason}"))
        }
        WireError::Refused { address, reason, .. } => BrokerError::Refused(format!("{doing}: {address}: {reason}")),
        WireError::Unsupported { .. } => BrokerError::Refused(format!("{doing}: {error}")),
        WireError::Broken { .. } | WireError::TimedOut { .. } | WireError::Unreadable { .. } => {
            BrokerError::Transient(format!("{doing}: {error}"))
        }
    }
}

/// What failed when the time of its transaction was over is a round that did not get through. The broker ends such a transaction by itself, and
/// what it says then is that somebody else has taken it over.
pub(super) fn undelivered(error: BrokerError, round: &Publication, took: Duration) -> BrokerError {
    let reason = match &error {
        BrokerError::Transient(reason) => reason.clone(),
        BrokerError::Fenced => "the broker ended its transaction".to_owned(),
        _ => return error,
    };
    if took + LATE < transaction_time() {
        return error;
    }
    BrokerError::Undelivered {
        seq: round.mark.version.seq,
        bytes: round.draft_bytes(),
        seconds: took.as_secs(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use dinnerbell_wire::error::ResponseError;

    use super::*;

    fn answered(code: ResponseError) -> BrokerError {
        explain("trying", &WireError::Answered { doing: "asking", address: "b:9092".into(), code, message: None })
    }

    #[test]
    fn an_answer_means_what_it_means_to_every_client() {
        assert!(matches!(answered(ResponseError::ProducerFenced), BrokerError::Fenced));
        assert!(matches!(answered(ResponseError::InvalidProducerEpoch), BrokerError::Fenced));
        assert!(matches!(answered(ResponseError::NotLeaderOrFollower), BrokerError::Transient(_)));
        assert!(matches!(answered(ResponseError::TransactionAbortable), BrokerError::Transient(_)));
        let refused = answered(ResponseError::TransactionalIdAuthorizationFailed);
        assert!(matches!(&refused, BrokerError::Refused(text) if text.contains("Write and Describe")), "{refused}");
    }
}
