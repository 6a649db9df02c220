//! Kafka: reachable, the topics as they are needed, and the rights as far as they can be tried without leaving anything behind.
//!
//! Tried are: describing and reading the campaigns topic, the group's offsets, and the transactional ids, by taking over
//! `{group}/{topic}/doctor`, which no lane uses (the brokers remember it for `transactional.id.expiration.ms`). Not tried are writing to the
//! topics and joining the group: readers, or the group's members, would notice.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::Findings;
use crate::broker::{BrokerError, Lane};
use crate::config::kafka_client::Role;
use crate::config::{self, Config};
use crate::kafka::client::{self, ASK, Observer};
use crate::kafka::topics::{self, INTERNAL, Topic};

/// How long a read may show nothing before it counts as allowed.
const READ: Duration = Duration::from_secs(2);
/// How long the check of transactional ids may take.
const TAKE_OVER: Duration = Duration::from_secs(15);
/// Looks at Kafka; where it answers, with the id of its cluster and the number of partitions of the campaigns topic.
pub(super) async fn examine(config: &Config, found: Findings) -> (Findings, Option<(String, Lane)>) {
    let kafka = config.kafka.clone();
    let nothing = found.another();
    // librdkafka blocks.
    let asked = tokio::task::spawn_blocking(move || ask(&kafka, found)).await;
    let (mut found, cluster) = asked.unwrap_or_else(|error| {
        let mut found = nothing;
        found.refused("kafka-connection", error);
        (found, None)
    });
    let Some(mut cluster) = cluster else { return (found, None) };
    settings(&config.kafka, &mut cluster, &mut found).await;
    (found, Some((cluster.id, cluster.lanes)))
}

fn ask(kafka: &config::Kafka, mut found: Findings) -> (Findings, Option<Cluster>) {
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
    topics::encryption(kafka, &mut found);
    let topics = &kafka.topics;
    let named = [Some(&topics.campaigns), Some(&topics.notifications), topics.dead_letters.as_ref()];
    let (mut known, mut lanes) = (Vec::new(), 0);
    for topic in named.into_iter().flatten() {
        match asking.shape(topic) {
            Ok((partitions, replicas)) => {
                found.ok(
                    "kafka-topics",
                    format!("topic {topic} has {partitions} partitions with {replicas} replicas each"),
                );
                if *topic == topics.campaigns {
                    lanes = partitions;
                }
                known.push(Topic { name: topic.clone(), partitions, replicas, settings: None });
            }
            Err(error) => found.refused("kafka-topics", error),
        }
    }
    let internal = INTERNAL.iter().filter_map(|name| {
        let (partitions, replicas) = asking.shape(name).ok()?;
        Some(Topic { name: (*name).to_owned(), partitions, replicas, settings: None })
    });
    let internal = internal.collect();
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
    (found, Some(Cluster { id: cluster, lanes, known, internal }))
}

/// A cluster that answers.
struct Cluster {
    id: String,
    lanes: Lane,
    /// The topics of the configuration that are there.
    known: Vec<Topic>,
    /// Kafka's own, those that this user may look at.
    internal: Vec<Topic>,
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
    fn shape(&self, name: &str) -> Result<(i32, usize), BrokerError> {
        topics::shape(&self.consumer, name).map_err(|error| self.explain(&format!("looking at topic {name}"), &error))
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
async fn settings(kafka: &config::Kafka, cluster: &mut Cluster, found: &mut Findings) {
    let named: Vec<&str> = cluster.known.iter().chain(&cluster.internal).map(|topic| topic.name.as_str()).collect();
    let mut read = topics::settings(kafka, &named).await;
    for topic in cluster.known.iter_mut().chain(&mut cluster.internal) {
        topic.settings = read.remove(&topic.name);
    }
    topics::judge(&kafka.topics, &cluster.known, found);
    for topic in &cluster.internal {
        topics::durability(topic, found);
    }
    for name in INTERNAL.iter().filter(|name| !cluster.internal.iter().any(|topic| topic.name == **name)) {
        found.ok("kafka-durability", format!("topic {name} may not be looked at, so its replicas were not checked"));
    }
    found.ok(
        "kafka-isolation",
        format!(
            "readers of {} must use isolation.level=read_committed (Java's default does not)",
            kafka.topics.notifications
        ),
    );
}
