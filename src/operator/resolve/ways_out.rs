//! Which resolution ends a halt that trying again does not end.

use dinnerbell_core::model::halt::NOTIFICATIONS_REPLACED;

/// The resolution that believes the output topic.
pub(super) const FROM_KAFKA: &str = "--from-kafka";

/// What resolves a halt that is about what the servers hold, which trying again does not change.
pub(super) fn way_out(halt: &str) -> Option<&'static str> {
    match halt {
        "topic-replaced" | "input-truncated" | "input-trimmed" => {
            Some("--restart-at earliest (or latest, or an offset)")
        }
        "kafka-ahead" | "kafka-behind" | "mark-missing" | "other-content" | "other-ledger" | "foreign-offset" => {
            Some(FROM_KAFKA)
        }
        NOTIFICATIONS_REPLACED => Some("--all --accept-topic"),
        _ => None,
    }
}
