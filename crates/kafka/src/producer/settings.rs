//! What the operator chose of a lane's batches.

use super::COMPRESSION;
use dinnerbell_config as config;
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_wire::compression::Compression;

/// Most bytes of a batch unless the operator, or the topic, says less.
const BATCH_BYTES: usize = 1_000_000;

/// The codec of drafts.
pub(super) fn compression(kafka: &config::Kafka) -> Result<Compression, BrokerError> {
    let name = kafka.client.get("compression.codec").map_or(COMPRESSION, String::as_str);
    let level = kafka.client.get("compression.level").and_then(|level| level.trim().parse().ok());
    Compression::named(name, level)
        .map_err(|reason| BrokerError::Refused(format!("kafka.client.compression.codec: {reason}")))
}

/// Most bytes of a batch, as the operator chose.
pub(super) fn batch_bytes(kafka: &config::Kafka) -> usize {
    let chosen = kafka.client.get("message.max.bytes").and_then(|bytes| bytes.trim().parse().ok());
    chosen.map_or(BATCH_BYTES, |chosen: usize| chosen.min(BATCH_BYTES))
}
