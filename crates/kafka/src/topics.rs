//! Whether topics will do: one judgement for all who look at them. `run` refuses what cannot work and says in its log what can lose something;
//! `doctor` prints all of it.

mod checks;

use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use tokio::time::Instant;

use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_wire::cluster::Cluster;
use dinnerbell_wire::error::WireError;

use super::client::{ClientEvents, REQUEST_TIMEOUT};
use super::producer::explain;

use checks::{CLOSE_TIMESTAMPS, add_config};
pub use checks::{INTERNAL, check, durability, encryption};

/// What a topic takes unless it is configured otherwise.
pub const DEFAULT_LIMIT: usize = 1_048_588;
/// What a batch adds to its messages.
pub const BATCH_FRAME: usize = 1_024;
/// What is known of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// The replicas of the partition that has fewest.
    pub replicas: usize,
    /// The replicas in sync of the partition that has fewest.
    pub in_sync: usize,
    /// What it is configured with; none where this user may not read it.
    pub settings: Option<BTreeMap<String, String>>,
}

impl Topic {
    /// Its max.message.bytes, where this user may read it.
    pub fn max_message_bytes(&self) -> Option<usize> {
        self.setting("max.message.bytes")?.parse().ok()
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref()?.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }

    /// Why it would take no message, or take one and refuse the end of its transaction. Returns what is wrong and the remedy, as far as this user may
    /// know. A refused end is sent again until it is taken, and the round waits for that.
    pub fn refuses_transactions(&self) -> Option<(String, String)> {
        let (name, in_sync) = (&self.name, self.in_sync);
        // A broker asks for no more replicas than there are.
        let needed = self.number("min.insync.replicas").map(|needed| needed.min(self.replicas as i64));
        if let Some(needed) = needed.filter(|needed| *needed > in_sync as i64) {
            return Some((
                format!(
                    "topic {name} takes nothing: a partition has {in_sync} replicas in sync, and its min.insync.replicas is {needed}"
                ),
                format!(
                    "start the brokers that are away, or: kafka-configs.sh --alter --topic {name} --add-config min.insync.replicas={in_sync}"
                ),
            ));
        }
        let by_log = self.setting("message.timestamp.type") == Some("LogAppendTime");
        let policy = [
            "message.timestamp.before.max.ms",
            "message.timestamp.after.max.ms",
            "message.timestamp.difference.max.ms",
        ]
        .into_iter()
        .find(|policy| !by_log && self.number(policy).is_some_and(|most| (0..CLOSE_TIMESTAMPS).contains(&most)))?;
        Some((
            format!("topic {name} may refuse the end of a transaction: its {policy} is less than {CLOSE_TIMESTAMPS}"),
            format!("kafka-configs.sh --alter --topic {name} --delete-config {policy}"),
        ))
    }

    /// Whether it is compacted, as far as this user may know.
    pub fn is_compacted(&self) -> bool {
        self.setting("cleanup.policy").is_some_and(is_compaction)
    }

    /// Why a message that is missing from it says nothing of what was told, and the remedy; none where messages go by their age alone.
    pub fn forgets_by_key(&self) -> Option<(String, String)> {
        let name = &self.name;
        match self.setting("cleanup.policy") {
            Some(policy) if is_compaction(policy) => Some((
                format!(
                    "topic {name} is compacted: of all messages of a client only the last stays, and the others were told"
                ),
                add_config(name, "cleanup.policy=delete"),
            )),
            Some(_) => None,
            None => Some((
                format!(
                    "whether topic {name} is compacted may not be read, and of a compacted one only the last message of a client stays"
                ),
                format!(
                    "allow this user DescribeConfigs on topic {name} (`dinnerbell doctor --grants` prints all rights)"
                ),
            )),
        }
    }
}

fn is_compaction(policy: &str) -> bool {
    policy.contains("compact")
}

/// A topic as it is now, without its settings.
pub fn shape(consumer: &BaseConsumer<ClientEvents>, name: &str) -> KafkaResult<Topic> {
    let metadata = consumer.fetch_metadata(Some(name), REQUEST_TIMEOUT)?;
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let topic = metadata.topics().iter().find(|topic| topic.name() == name).ok_or(unknown)?;
    if let Some(error) = topic.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let partitions = i32::try_from(topic.partitions().len()).expect("the protocol counts partitions in 32 bits");
    let fewest = |of: fn(&MetadataPartition) -> usize| topic.partitions().iter().map(of).min().unwrap_or(0);
    let (replicas, in_sync) = (fewest(|one| one.replicas().len()), fewest(|one| one.isr().len()));
    Ok(Topic { name: name.to_owned(), partitions, replicas, in_sync, settings: None })
}

/// What topics are configured with, those whose configuration this user may read; nothing where the broker knows no such question, as that of the demo.
/// Fails where Kafka did not say. The client library's own administration cannot log in by tokens.
pub async fn settings(
    cluster: &Cluster,
    topics: &[&str],
) -> Result<BTreeMap<String, BTreeMap<String, String>>, BrokerError> {
    let read = match cluster.settings_of(topics, Instant::now() + REQUEST_TIMEOUT).await {
        Err(WireError::Unsupported { .. }) => Ok(BTreeMap::new()),
        read => read,
    };
    let doing = format!("reading the settings of {}", topics.join(", "));
    read.map_err(|error| match error.is_unknown_topic() {
        // They were seen before: this broker has not heard of them yet.
        true => BrokerError::Transient(format!("{doing}: {error}")),
        false => explain(&doing, &error),
    })
}

#[cfg(test)]
mod tests;
