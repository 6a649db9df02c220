//! The real Kafka behind [`dinnerbell_core::ports::broker`].
//!
//! - [`client`]: settings, log and errors, the same for every client;
//! - [`cluster`]: how our own client reaches the cluster;
//! - [`group`]: who else is in the group;
//! - [`membership`]: which lanes this instance is assigned, and nothing else;
//! - [`reader`]: the lanes' records, and every question about the campaigns topic;
//! - [`notifications`]: what the output topic holds, for those who compare;
//! - [`message`]: headers and dead letters as messages;
//! - [`producer`]: the rounds, each in one transaction of a client of our own (`dinnerbell_wire`);
//! - [`output_topics`]: the topics that are written to, known by their ids;
//! - [`resend`]: records of the campaigns topic, sent once more;
//! - [`topics`]: whether topics will do.

mod catch_panic;
pub mod client;
pub mod cluster;
pub mod deliveries;
pub mod group;
pub mod lag;
pub mod membership;
pub mod message;
pub mod notifications;
pub mod output_topics;
pub mod producer;
pub mod reader;
pub mod resend;
pub mod topics;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use client::{ClientEvents, REQUEST_TIMEOUT};
use dinnerbell_config as config;
use dinnerbell_config::Start;
use dinnerbell_core::model::finding::Findings;
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::model::output_topics::OutputTopicIds;
use dinnerbell_core::model::record::RecordFingerprint;
use dinnerbell_core::ports::broker::{Broker, BrokerError};
use dinnerbell_wire::cluster::Cluster;
use membership::{Membership, View};
use output_topics::OutputTopics;
use producer::{LaneProducer, Limits, Producers};
use reader::{LaneInput, Reader};
use tokio::time::Instant;
use topics::{BATCH_FRAME, DEFAULT_LIMIT, Topic};

/// How long a topic may be unknown before it is missing.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// The Kafka cluster, as one group and one set of topics see it.
#[derive(Debug, Clone)]
pub struct KafkaBroker {
    shared: Arc<BrokerShared>,
}

#[derive(Debug)]
struct BrokerShared {
    kafka: config::Kafka,
    cluster: String,
    /// The same cluster, for what our own client asks.
    wire: Cluster,
    /// What the topics were judged as.
    found: Findings,
    reader: Reader,
    outputs: Arc<OutputTopics>,
    producers: Producers,
    membership: OnceLock<View>,
}

/// The version of librdkafka.
pub fn version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// How many members the group of this configuration has: the instances that run, and one that was killed until its session ends.
pub async fn members(kafka: &config::Kafka) -> Result<usize, BrokerError> {
    Ok(lag::observe(kafka, []).await?.members)
}

impl KafkaBroker {
    /// Contacts the cluster and looks at the topics. Tries for some seconds; [`BrokerError::Transient`] is worth waiting for, a refusal is not.
    pub async fn connect(kafka: &config::Kafka) -> Result<Self, BrokerError> {
        let (reader, wire) = (Reader::start(kafka)?, cluster::cluster(kafka)?);
        let cluster = cluster_id(&reader).await?;
        let topics = read_topics(kafka, &reader, &wire).await?;
        let mut found = Findings::default();
        topics::encryption(kafka, &mut found);
        topics::check(&kafka.topics, &topics, &mut found);
        if let Some(errors) = found.errors() {
            return Err(BrokerError::Refused(errors));
        }
        let limit = |name: Option<&String>| {
            let topic = topics.iter().find(|topic| Some(&topic.name) == name);
            let most = topic.and_then(Topic::max_message_bytes).unwrap_or(DEFAULT_LIMIT);
            most.saturating_sub(BATCH_FRAME)
        };
        let limits = Limits {
            notifications: limit(Some(&kafka.topics.notifications)),
            dead_letters: limit(kafka.topics.dead_letters.as_ref()),
            dead_letters_compacted: topics
                .iter()
                .any(|topic| Some(&topic.name) == kafka.topics.dead_letters.as_ref() && topic.is_compacted()),
        };
        let outputs = Arc::new(OutputTopics::new(wire.clone(), &kafka.topics));
        let producers = Producers::new(kafka, limits, wire.clone(), Arc::clone(&outputs))?;
        let (kafka, membership) = (kafka.clone(), OnceLock::new());
        let shared = BrokerShared { kafka, cluster, wire, found, reader, outputs, producers, membership };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Joins the group; once for each broker. From here on [`Broker::still_assigned`] has something to say.
    pub fn join(&self) -> Result<Membership, BrokerError> {
        let membership = Membership::start(&self.shared.kafka)?;
        self.shared
            .membership
            .set(membership.view())
            .map_err(|_| BrokerError::Refused("this process has joined the group before".into()))?;
        Ok(membership)
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster
    }

    /// What was found of the topics when they were looked at.
    pub fn found(&self) -> &Findings {
        &self.shared.found
    }

    /// The topics of the configuration, as they are now.
    pub async fn topics(&self) -> Result<Vec<Topic>, BrokerError> {
        read_topics(&self.shared.kafka, &self.shared.reader, &self.shared.wire).await
    }

    /// Why a draft that is missing from the notifications topic may have been told all the same, and the remedy; none where messages go by age alone. Fails
    /// where Kafka did not say.
    pub async fn drafts_are_forgotten_by_key(&self) -> Result<Option<(String, String)>, BrokerError> {
        let name = &self.shared.kafka.topics.notifications;
        let settings = topics::settings(&self.shared.wire, &[name]).await?.remove(name);
        Ok(Topic { name: name.clone(), settings, ..Topic::default() }.forgets_by_key())
    }

    /// How many brokers the cluster has.
    pub async fn brokers(&self) -> Result<usize, BrokerError> {
        let counted = self.shared.reader.ask("counting the brokers".into(), |consumer, topic| {
            Ok(consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?.brokers().len())
        });
        counted.await
    }

    /// Where each lane begins when the service first starts.
    pub async fn start_offsets(&self, start: Start) -> Result<BTreeMap<Lane, Offset>, BrokerError> {
        let lanes = self.lanes().await?;
        let mut ends = BTreeMap::new();
        for lane in Lane::all(lanes) {
            // Before times are asked for: a record that comes in between is of that time, and found by it.
            let (low, high) = self.shared.reader.watermarks(lane).await?;
            ends.insert(lane, if start == Start::Earliest { low } else { high });
        }
        let Start::At(seconds) = start else { return Ok(ends) };
        let found = self
            .shared
            .reader
            .ask("looking up the offsets of kafka.start".into(), move |consumer, topic| {
                offsets_at(consumer, topic, lanes, seconds.get().saturating_mul(1000))
            })
            .await?;
        ends.extend(found.into_iter().map(|(lane, offset)| (Lane::new(lane), Offset::new(offset))));
        Ok(ends)
    }

    /// Asks the group's coordinator for a sign of life.
    pub async fn coordinator_answers(&self) -> Result<(), BrokerError> {
        self.shared.reader.coordinator_answers().await
    }

    /// Waits, at most this long, until the reading client is closed. Inputs must have been dropped.
    pub async fn close(self, most: Duration) {
        let reader = self.shared.reader.clone();
        drop(self);
        reader.close(most).await;
    }
}

impl Broker for KafkaBroker {
    type Producer = LaneProducer;
    type Input = LaneInput;

    async fn still_assigned(&self, lane: Lane) -> bool {
        match self.shared.membership.get() {
            Some(view) => view.still_holds(lane).await,
            None => false,
        }
    }

    async fn producer(&self, lane: Lane) -> Result<LaneProducer, BrokerError> {
        self.shared.producers.make(lane).await
    }

    async fn committed(&self, lane: Lane) -> Result<CommittedOffset, BrokerError> {
        self.shared.reader.committed(lane).await
    }

    async fn watermarks(&self, lane: Lane) -> Result<(Offset, Offset), BrokerError> {
        self.shared.reader.watermarks(lane).await
    }

    async fn log_end(&self, lane: Lane) -> Result<Offset, BrokerError> {
        self.shared.reader.log_end(lane).await
    }

    async fn lanes(&self) -> Result<i32, BrokerError> {
        partitions(&self.shared.reader, &self.shared.kafka.topics.campaigns).await
    }

    async fn fingerprint_at(&self, lane: Lane, offset: Offset) -> Result<Option<RecordFingerprint>, BrokerError> {
        self.shared.reader.fingerprint_at(lane, offset).await
    }

    async fn dead_letter_topic(&self) -> Result<(), BrokerError> {
        let Some(topic) = self.shared.kafka.topics.dead_letters.clone() else { return Ok(()) };
        let (doing, name) = (format!("looking at topic {topic}"), topic.clone());
        let asked = self.shared.reader.ask(doing, move |consumer, _| {
            led_partitions(consumer, &name)?;
            topics::shape(consumer, &name)
        });
        let mut found = asked.await?;
        // Where Kafka did not say, letters wait: what may be set may hold up the lane that writes them.
        found.settings = topics::settings(&self.shared.wire, &[&topic]).await?.remove(&topic);
        match found.refuses_transactions() {
            None => Ok(()),
            Some((what, remedy)) => Err(BrokerError::Refused(format!("{what}: {remedy}"))),
        }
    }

    async fn topic_id(&self) -> Result<Option<String>, BrokerError> {
        self.shared.reader.topic_id().await
    }

    async fn output_ids(&self) -> Result<OutputTopicIds, BrokerError> {
        self.shared.outputs.ids().await
    }

    async fn open(&self, lane: Lane, position: Offset, topic_id: Option<&str>) -> Result<LaneInput, BrokerError> {
        self.shared.reader.open(lane, position, topic_id).await
    }
}

/// Contacts the cluster; an error says what is in the way.
pub async fn contact(kafka: &config::Kafka) -> Result<(), BrokerError> {
    cluster_id(&Reader::start(kafka)?).await.map(drop)
}

/// A transactional id of the group's that no lane uses, to try the right to them with.
pub fn unused_id(kafka: &config::Kafka) -> String {
    format!("{}/{}/doctor", kafka.group_id, kafka.topics.campaigns)
}

/// Whether the user may transact by this id, which is taken over, and the brokers speak what a lane's producer needs. Who does so at the same time may
/// as well.
pub async fn may_transact(kafka: &config::Kafka, id: String) -> Result<(), BrokerError> {
    match take_over(kafka, &id, REQUEST_TIMEOUT).await {
        Err(BrokerError::Fenced) => Ok(()),
        answered => answered,
    }
}

/// Takes a transactional id over.
pub async fn take_over(kafka: &config::Kafka, id: &str, within: Duration) -> Result<(), BrokerError> {
    let identity = producer::identity(&kafka.group_id, id.to_owned());
    let taken =
        dinnerbell_wire::producer::Producer::initialise(cluster::cluster(kafka)?, identity, Instant::now() + within);
    let doing = format!("taking over transactional id {id}");
    taken.await.map(drop).map_err(|error| producer::explain(&doing, &error))
}

/// Asks for the cluster's id in short steps, so that a refusal that is reported meanwhile is told at once.
async fn cluster_id(reader: &Reader) -> Result<String, BrokerError> {
    const STEP: Duration = Duration::from_millis(500);
    let doing = "connecting to kafka.bootstrap_servers";
    let until = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let asked = reader
            .ask(doing.into(), |consumer, _| {
                let client = consumer.client();
                client.fetch_metadata(Some("__consumer_offsets"), STEP)?;
                client.fetch_cluster_id(STEP).ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut))
            })
            .await;
        match (asked, reader.observer().refused(doing)) {
            (Ok(id), _) => return Ok(id),
            (Err(_), Some(refusal)) => return Err(refusal),
            (Err(BrokerError::Transient(_)), None) if Instant::now() < until => {}
            (Err(error), None) => return Err(error),
        }
    }
}

async fn read_topics(kafka: &config::Kafka, reader: &Reader, wire: &Cluster) -> Result<Vec<Topic>, BrokerError> {
    let topics = &kafka.topics;
    let mut found = Vec::new();
    for name in
        [Some(&topics.campaigns), Some(&topics.notifications), topics.dead_letters.as_ref()].into_iter().flatten()
    {
        found.push(shape(reader, name).await?);
    }
    let written: Vec<&str> = found.iter().map(|topic| topic.name.as_str()).collect();
    let mut settings = topics::settings(wire, &written).await?;
    for topic in &mut found {
        topic.settings = settings.remove(&topic.name);
    }
    Ok(found)
}

/// How many partitions a topic has. A broker that has just started, or a topic that has just been made, is given a moment to be known.
async fn partitions(reader: &Reader, topic: &str) -> Result<i32, BrokerError> {
    Ok(shape(reader, topic).await?.partitions)
}

/// A topic as it is now, without its settings.
#[expect(
    clippy::disallowed_methods,
    reason = "on a thread that may block, and librdkafka tells nobody when a topic is known"
)]
async fn shape(reader: &Reader, topic: &str) -> Result<Topic, BrokerError> {
    let name = topic.to_owned();
    reader
        .ask(format!("looking at topic {topic}"), move |consumer, _| {
            let until = Instant::now() + METADATA_TIMEOUT;
            loop {
                match topics::shape(consumer, &name) {
                    Err(error) if is_unknown(&error) && Instant::now() < until => {
                        std::thread::sleep(METADATA_TIMEOUT / 10)
                    }
                    other => return other,
                }
            }
        })
        .await
}

fn is_unknown(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{LeaderNotAvailable, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(LeaderNotAvailable | UnknownTopic | UnknownTopicOrPartition))
}

/// Whether every partition of a topic has a leader, by which it can be written to.
fn led_partitions(consumer: &BaseConsumer<ClientEvents>, name: &str) -> KafkaResult<()> {
    let metadata = consumer.fetch_metadata(Some(name), REQUEST_TIMEOUT)?;
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let topic = metadata.topics().iter().find(|topic| topic.name() == name).ok_or(unknown)?;
    let failed = topic.error().or_else(|| topic.partitions().iter().find_map(|partition| partition.error()));
    failed.map_or(Ok(()), |error| Err(KafkaError::MetadataFetch(error.into())))
}

fn offsets_at(
    consumer: &BaseConsumer<ClientEvents>,
    topic: &str,
    partitions: i32,
    millis: i64,
) -> KafkaResult<BTreeMap<i32, i64>> {
    let mut times = TopicPartitionList::new();
    for partition in 0..partitions {
        times.add_partition_offset(topic, partition, rdkafka::Offset::Offset(millis))?;
    }
    let found = consumer.offsets_for_times(times, REQUEST_TIMEOUT)?;
    let mut offsets = BTreeMap::new();
    for entry in found.elements() {
        entry.error()?;
        // No record of that time or later: the end that was read before stands.
        if let rdkafka::Offset::Offset(offset) = entry.offset() {
            offsets.insert(entry.partition(), offset);
        }
    }
    Ok(offsets)
}
