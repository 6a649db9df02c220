//! What the producers of all lanes have in common: settings, topics, group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use rdkafka::config::ClientConfig;

use crate::client::settings;
use crate::deliveries::with_break_events;
use crate::output_topics::OutputTopics;
use crate::reader::Reader;
use dinnerbell_config as config;
use dinnerbell_config::kafka_client::Role;
use dinnerbell_core::ports::broker::transaction_time;

/// How drafts are compressed unless the operator chooses otherwise.
pub const COMPRESSION: &str = "lz4";

/// Most bytes that a message may hold in each topic that is written to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In the notifications topic.
    pub notifications: usize,
    /// In the dead letters topic.
    pub dead_letters: usize,
    /// Whether the dead letters topic is compacted, as far as it may be known.
    pub dead_letters_compacted: bool,
}

/// What the producers of all lanes have in common.
pub(super) struct ProducerContext {
    pub(super) settings: ClientConfig,
    pub(super) topics: Topics,
    pub(super) group: String,
    pub(super) reader: Reader,
    pub(super) outputs: Arc<OutputTopics>,
}

impl ProducerContext {
    /// That of a configuration; nothing is contacted.
    pub(super) fn new(kafka: &config::Kafka, limits: Limits, reader: Reader, outputs: Arc<OutputTopics>) -> Self {
        let topics = Topics {
            campaigns: kafka.topics.campaigns.clone(),
            notifications: kafka.topics.notifications.clone(),
            dead_letters: kafka.topics.dead_letters.clone(),
            dead_letter_limit: AtomicUsize::new(limits.dead_letters),
            dead_letters_compacted: AtomicBool::new(limits.dead_letters_compacted),
        };
        Self { settings: producer_settings(kafka, limits), topics, group: kafka.group_id.clone(), reader, outputs }
    }
}

/// The topics that a producer names, and what a message of dead letters may hold.
#[derive(Debug)]
pub(super) struct Topics {
    pub(super) campaigns: String,
    pub(super) notifications: String,
    pub(super) dead_letters: Option<String>,
    pub(super) dead_letter_limit: AtomicUsize,
    pub(super) dead_letters_compacted: AtomicBool,
}

/// How long a round's transaction may be open, in milliseconds.
pub(crate) fn transaction_millis() -> String {
    transaction_time().as_millis().to_string()
}

fn producer_settings(kafka: &config::Kafka, limits: Limits) -> ClientConfig {
    // The broker measures whole batches against its limit.
    let batch = 1_000_000.min(limits.notifications.min(limits.dead_letters)).to_string();
    let largest = limits.notifications.max(limits.dead_letters).clamp(1_000, 1_000_000_000).to_string();
    let defaults = [
        ("compression.codec", COMPRESSION),
        // Messages wait anyway until their partition is part of the transaction, and until the request before is answered: that fills batches.
        ("linger.ms", "0"),
        ("batch.size", &batch),
        // A round is handed over in portions, so that memory does not grow with it. librdkafka counts about half of what it takes.
        ("queue.buffering.max.kbytes", "4096"),
        ("queue.buffering.max.messages", "50000"),
        ("message.max.bytes", &largest),
        // A transaction that follows at once meets the markers of the last, which are there some milliseconds later. AddOffsetsToTxn is sent again
        // after this long, then after twice as long, and so on up to retry.backoff.max.ms (a second). That limit spares a partition without a leader
        // or a replica in sync.
        ("retry.backoff.ms", "5"),
    ];
    let transaction = transaction_millis();
    let promises = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("partitioner", "murmur2_random"),
        ("transaction.timeout.ms", transaction.as_str()),
        ("message.timeout.ms", &transaction),
        // Success is what remains when nothing is in flight and nothing failed.
        ("delivery.report.only.error", "true"),
    ];
    with_break_events(settings(kafka, Role::Producer, "producer", &defaults, &promises))
}
