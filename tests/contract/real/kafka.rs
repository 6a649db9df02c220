//! A broker with topics of a case's own, on the Kafka that all tests share.

use std::sync::Arc;
use std::time::Duration;

use dinnerbell_config::{Kafka, Topics};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::round::Publication;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::membership::Membership;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::timeout;

use crate::contract::broker::Environment;
use crate::support::{KafkaServer, unique, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A group with topics of its own.
pub struct Cluster {
    server: Arc<KafkaServer>,
    kafka: Kafka,
    broker: KafkaBroker,
    membership: Option<Membership>,
    /// A former owner whose transaction is open.
    former: std::sync::Mutex<Option<BaseProducer>>,
}

impl Cluster {
    fn letters_topic(&self) -> &str {
        self.kafka.topics.dead_letters.as_deref().expect("there is one")
    }

    fn transactional(&self, id: &str) -> BaseProducer {
        let producer: BaseProducer = self.server.client().set("transactional.id", id).create().unwrap();
        producer.init_transactions(SOON).unwrap();
        producer
    }

    /// Sends a record and waits until it is delivered.
    fn deliver(&self, producer: &BaseProducer, topic: &str, lane: Lane, value: &str) {
        let record = BaseRecord::<[u8], [u8]>::to(topic).partition(lane.get()).payload(value.as_bytes());
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(SOON).unwrap();
    }

    /// What a topic holds when every transaction has ended.
    fn read(&self, topic: &str) -> Vec<crate::support::Message> {
        wait_until("every transaction has ended", SOON, || self.server.held_back(topic).is_empty());
        self.server.read_topic(topic)
    }
}

impl Environment for Cluster {
    type Broker = KafkaBroker;

    async fn fresh() -> Self {
        let (server, name) = (KafkaServer::shared(), unique("contract-"));
        let topic = |role: &str| format!("{name}.{role}");
        server.create_topic(&topic("in"), 2, &[]);
        server.create_topic(&topic("out"), 1, &[]);
        server.create_topic(&topic("dead"), 1, &[]);
        let topics = Topics { campaigns: topic("in"), notifications: topic("out"), dead_letters: Some(topic("dead")) };
        let kafka = server.config(name, topics);
        let broker = KafkaBroker::connect(&kafka).await.unwrap();
        Self { server, kafka, broker, membership: None, former: std::sync::Mutex::default() }
    }

    fn broker(&self) -> KafkaBroker {
        self.broker.clone()
    }

    async fn another(&self) -> KafkaBroker {
        KafkaBroker::connect(&self.kafka).await.unwrap()
    }

    async fn send(&self, lane: Lane, value: &str) {
        self.server.produce(&self.kafka.topics.campaigns, Some(lane.get()), None, Some(value.as_bytes()), &[]);
    }

    async fn leave_gap(&self, lane: Lane) {
        let producer = self.transactional(&unique("sender-"));
        producer.begin_transaction().unwrap();
        self.deliver(&producer, &self.kafka.topics.campaigns, lane, "never");
        producer.abort_transaction(SOON).unwrap();
        let ends = || self.server.watermarks(&self.kafka.topics.campaigns, lane.get(), "read_committed").1;
        let all = || self.server.watermarks(&self.kafka.topics.campaigns, lane.get(), "read_uncommitted").1;
        wait_until("the marker is written", SOON, || ends() == all());
    }

    async fn leave_open(&self, publication: Publication) {
        let Kafka { group_id, topics, .. } = &self.kafka;
        let former = self.transactional(&format!("{group_id}/{}/{}", topics.campaigns, publication.lane));
        former.begin_transaction().unwrap();
        for client in publication.drafts.iter().flat_map(|batch| batch.clients.iter()) {
            self.deliver(&former, &topics.notifications, Lane::new(0), client);
        }
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(&topics.campaigns, publication.lane.get(), Offset::Offset(publication.offset.get()))
            .unwrap();
        let consumer: BaseConsumer = self.server.client().set("group.id", group_id).create().unwrap();
        let group = consumer.group_metadata().unwrap();
        former.send_offsets_to_transaction(&offsets, &group, SOON).unwrap();
        // It sends nothing more, and says nothing when it goes.
        *self.former.lock().unwrap() = Some(former);
    }

    async fn told(&self) -> Vec<String> {
        let told = self.read(&self.kafka.topics.notifications);
        let mut told: Vec<String> = told.into_iter().map(|message| message.key.expect("a draft has a key")).collect();
        told.sort();
        told
    }

    async fn letters(&self) -> usize {
        self.read(self.letters_topic()).len()
    }

    async fn forget_offsets(&self) {
        self.server.delete_group(&self.kafka.group_id);
    }

    async fn lose_letters_topic(&self) {
        self.server.delete_topics(&[self.letters_topic()]);
        wait_until("it is gone", SOON, || self.server.partitions(self.letters_topic()).is_empty());
    }

    async fn assign(&mut self, lane: Lane) {
        let membership = self.broker.join().unwrap();
        let mut held = membership.assignments();
        timeout(SOON, held.wait_for(|held| held.contains(&lane))).await.unwrap().unwrap();
        self.membership = Some(membership);
    }
}
