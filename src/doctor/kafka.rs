//! Kafka: reachable, the topics as they are needed, and the rights as far as they can be tried without leaving anything behind.
//!
//! Tried are: describing and reading the campaigns topic, the group's offsets, and the transactional ids, by taking over
//! `{group}/{topic}/doctor`, which no lane uses (the brokers remember it for `transactional.id.expiration.ms`). Not tried are writing to the
//! topics and joining the group: readers, or the group's members, would notice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::Findings;
use crate::broker::{BrokerError, Lane};
use crate::config::kafka_client::Role;
use crate::config::{self, Config};
use crate::kafka::client::{self, ASK, Observer};
use crate::way::decode::{LONGEST_CONTENT, LONGEST_NAME};

/// How long a read may show nothing before it counts as allowed.
const READ: Duration = Duration::from_secs(2);
/// How long the check of transactional ids may take.
const TAKE_OVER: Duration = Duration::from_secs(15);
/// The most that a byte of text can take in JSON.
const ESCAPED: usize = 6;
/// What a draft is besides its texts, headers and frames included.
const DRAFT_FRAME: usize = 4_096;

/// The largest draft that can be: every text at its limit, each byte escaped.
pub const fn largest_draft() -> usize {
    (LONGEST_CONTENT + 5 * LONGEST_NAME) * ESCAPED + DRAFT_FRAME
}

/// Looks at Kafka; where it answers, with the id of its cluster and the number of partitions of the campaigns topic.
pub(super) async fn examine(config: &Config) -> (Findings, Option<(String, Lane)>) {
    let kafka = config.kafka.clone();
    // librdkafka blocks.
    let asked = tokio::task::spawn_blocking(move || ask(&kafka)).await;
    let (mut found, cluster) = asked.unwrap_or_else(|error| {
        let mut found = Findings::default();
        found.refused("kafka-connection", error);
        (found, None)
    });
    if cluster.is_some() {
        settings(&config.kafka, &mut found).await;
    }
    (found, cluster)
}

fn ask(kafka: &config::Kafka) -> (Findings, Option<(String, Lane)>) {
    let mut found = Findings::default();
    let asking = match Asking::start(kafka) {
        Ok(asking) => asking,
        Err(error) => {
            found.refused("kafka-connection", error);
            return (found, None);
        }
    };
    let cluster = match asking.cluster_id() {
        Ok(cluster) => cluster,
        Err(error) => {
            found.refused("kafka-connection", error);
            return (found, None);
        }
    };
    let security = match kafka.security_protocol.as_str() {
        "SASL_SSL" | "SSL" => "encrypted",
        _ => "not encrypted",
    };
    found.ok("kafka-connection", format!("cluster {cluster} at {} answers; {security}", kafka.bootstrap_servers));
    let topics = &kafka.topics;
    let named = [Some(&topics.campaigns), Some(&topics.notifications), topics.dead_letters.as_ref()];
    let mut lanes = 0;
    for topic in named.into_iter().flatten() {
        match asking.partitions(topic) {
            Ok((partitions, replicas)) => {
                found.ok(
                    "kafka-topics",
                    format!("topic {topic} has {partitions} partitions with {replicas} replicas each"),
                );
                if *topic == topics.campaigns {
                    lanes = partitions;
                }
                if replicas == 1 {
                    found.warn(
                        "kafka-topics",
                        format!("topic {topic} has one replica: what a broker loses is lost"),
                        "kafka-reassign-partitions.sh: three replicas, and min.insync.replicas = 2",
                    );
                }
            }
            Err(error) => found.refused("kafka-topics", error),
        }
    }
    if lanes > 0 {
        tell("kafka-read", "the campaigns topic may be read", asking.read(&topics.campaigns), &mut found);
        tell(
            "kafka-group",
            "the offsets of the group may be read; joining it was not tried",
            asking.offsets(&topics.campaigns, lanes),
            &mut found,
        );
    }
    tell(
        "kafka-transactions",
        "transactional ids of the group may be taken over; writing to the topics was not tried",
        crate::kafka::take_over(kafka, &crate::kafka::unused_id(kafka), TAKE_OVER),
        &mut found,
    );
    (found, Some((cluster, lanes)))
}

fn tell(check: &'static str, well: &str, tried: Result<(), BrokerError>, found: &mut Findings) {
    match tried {
        Ok(()) => found.ok(check, well),
        Err(error) => found.refused(check, error),
    }
}

/// A consumer that belongs to the group by name and never joins it.
struct Asking {
    consumer: BaseConsumer<Observer>,
    observer: Observer,
}

impl Asking {
    fn start(kafka: &config::Kafka) -> Result<Self, BrokerError> {
        let observer = Observer::default();
        let settings = client::settings(
            kafka,
            Role::Consumer,
            "doctor",
            &[],
            &[("group.id", &kafka.group_id), ("enable.auto.commit", "false"), ("isolation.level", "read_committed")],
        );
        let consumer = settings
            .create_with_context(observer.clone())
            .map_err(|error| observer.explain("connecting to kafka.bootstrap_servers", &error))?;
        Ok(Self { consumer, observer })
    }

    fn explain(&self, doing: &str, error: &KafkaError) -> BrokerError {
        self.observer.explain(doing, error)
    }

    /// In short steps, so that a refusal that is heard meanwhile is told at once.
    fn cluster_id(&self) -> Result<String, BrokerError> {
        const STEP: Duration = Duration::from_millis(500);
        let doing = "connecting to kafka.bootstrap_servers";
        let until = Instant::now() + ASK;
        loop {
            client::listen(&self.consumer);
            let asked = self.consumer.fetch_metadata(Some("__consumer_offsets"), STEP);
            match (asked, self.consumer.client().fetch_cluster_id(STEP), self.observer.refused(doing)) {
                (Ok(_), Some(id), _) => return Ok(id),
                (_, _, Some(refused)) => return Err(refused),
                _ if Instant::now() < until => {}
                (Err(error), _, None) => return Err(self.explain(doing, &error)),
                (Ok(_), None, None) => return Err(BrokerError::Passing(format!("{doing}: no id of a cluster"))),
            }
        }
    }

    /// Partitions, and the replicas of the one that has fewest.
    fn partitions(&self, name: &str) -> Result<(i32, usize), BrokerError> {
        let doing = format!("looking at topic {name}");
        let metadata = self.consumer.fetch_metadata(Some(name), ASK).map_err(|error| self.explain(&doing, &error))?;
        let unknown = || KafkaError::MetadataFetch(rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition);
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let topic = topic.ok_or_else(|| self.explain(&doing, &unknown()))?;
        if let Some(error) = topic.error() {
            return Err(self.explain(&doing, &KafkaError::MetadataFetch(error.into())));
        }
        let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
        Ok((i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX), replicas))
    }

    /// Reads from the end of the first partition: a refusal comes as an event, and nothing else has to come.
    fn read(&self, topic: &str) -> Result<(), BrokerError> {
        let doing = format!("reading topic {topic}");
        let mut list = TopicPartitionList::new();
        let assigned = list.add_partition_offset(topic, 0, Offset::End).and_then(|()| self.consumer.assign(&list));
        assigned.map_err(|error| self.explain(&doing, &error))?;
        let until = Instant::now() + READ;
        let mut outcome = Ok(());
        while Instant::now() < until && outcome.is_ok() {
            if let Some(Err(error)) = self.consumer.poll(Duration::from_millis(100))
                && let refused @ BrokerError::Refused(_) = self.explain(&doing, &error)
            {
                outcome = Err(refused);
            }
        }
        self.consumer.unassign().map_err(|error| self.explain(&doing, &error))?;
        outcome
    }

    fn offsets(&self, topic: &str, partitions: i32) -> Result<(), BrokerError> {
        let doing = "reading the group's committed offsets";
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let offsets = self.consumer.committed_offsets(list, ASK).map_err(|error| self.explain(doing, &error))?;
        offsets.elements().iter().try_for_each(|one| one.error()).map_err(|error| self.explain(doing, &error))
    }
}

/// What the topics are configured with, where this user may read it.
async fn settings(kafka: &config::Kafka, found: &mut Findings) {
    let topics = &kafka.topics;
    let named: Vec<&String> = [Some(&topics.campaigns), Some(&topics.notifications), topics.dead_letters.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    let read = read_settings(kafka, &named).await;
    let of = |topic: &str| read.get(topic);
    for topic in &named {
        if of(topic).is_none() {
            found.ok(
                "kafka-settings",
                format!("the settings of topic {topic} may not be read (DescribeConfigs), so they were not checked"),
            );
        }
    }
    let number = |topic: &str, name: &str| of(topic)?.get(name)?.parse::<i64>().ok();
    if let Some(most) = number(&topics.notifications, "max.message.bytes") {
        let needed = largest_draft() as i64;
        let told =
            format!("topic {} takes messages of {most} bytes; the largest draft has {needed}", topics.notifications);
        match most >= needed {
            true => found.ok("kafka-message-size", told),
            false => found.fail(
                "kafka-message-size",
                told,
                format!(
                    "kafka-configs.sh --alter --topic {} --add-config max.message.bytes=1048588",
                    topics.notifications
                ),
            ),
        }
    }
    if let Some(letters) = &topics.dead_letters
        && let (Some(arrives), Some(leaves)) =
            (number(&topics.campaigns, "max.message.bytes"), number(letters, "max.message.bytes"))
        && leaves < arrives
    {
        found.warn(
            "kafka-message-size",
            format!("topic {letters} takes {leaves} bytes, less than the {arrives} of {}: a larger dead letter is sent without its value", topics.campaigns),
            format!("kafka-configs.sh --alter --topic {letters} --add-config max.message.bytes={}", arrives + 4_096),
        );
    }
    if of(&topics.notifications)
        .and_then(|settings| settings.get("cleanup.policy"))
        .is_some_and(|policy| policy.contains("compact"))
    {
        found.warn(
            "kafka-retention",
            format!("topic {} is compacted: of all drafts of a client only the last stays", topics.notifications),
            format!("kafka-configs.sh --alter --topic {} --add-config cleanup.policy=delete", topics.notifications),
        );
    }
    if let Some(retention) = number(&topics.notifications, "retention.ms") {
        let days = match retention {
            ..0 => "for ever".to_owned(),
            millis => format!("for {:.1} days", millis as f64 / 86_400_000.0),
        };
        found.ok(
            "kafka-retention",
            format!(
                "topic {} keeps drafts {days}: so far back `verify` and `lane resolve --from-kafka` can see",
                topics.notifications
            ),
        );
    }
    for topic in &named {
        if number(topic, "min.insync.replicas") == Some(1) {
            found.ok(
                "kafka-durability",
                format!("topic {topic} has min.insync.replicas = 1: with three replicas 2 is better, or a broker's loss can lose what was committed"),
            );
        }
    }
    found.ok(
        "kafka-isolation",
        format!(
            "readers of {} must use isolation.level=read_committed (Java's default does not)",
            topics.notifications
        ),
    );
}

async fn read_settings(kafka: &config::Kafka, topics: &[&String]) -> BTreeMap<String, BTreeMap<String, String>> {
    let settings = client::settings(kafka, Role::Producer, "doctor", &[], &[]);
    let Ok(admin) = settings.create_with_context::<_, AdminClient<Observer>>(Observer::default()) else {
        return BTreeMap::new();
    };
    let asked: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
    let answered = admin.describe_configs(&asked, &options).await;
    let values = |topic: ConfigResource| {
        let OwnedResourceSpecifier::Topic(name) = topic.specifier else { return None };
        let entries = topic.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
        Some((name, entries.collect()))
    };
    let read = answered.into_iter().flatten().flatten().filter_map(values).collect();
    // Its end waits for a thread.
    let _ = tokio::task::spawn_blocking(move || drop(admin)).await;
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_draft_fits_into_the_default_limit_of_a_topic() {
        assert!(largest_draft() > 100_000 && largest_draft() < 1_048_588);
    }
}
