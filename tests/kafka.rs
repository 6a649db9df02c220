//! The real implementation of the broker's traits against a real Apache Kafka.

#![cfg(feature = "fail-points")]

mod lanes;
mod measurements;
mod membership;
mod publication;
mod refusals;

use std::sync::Arc;
use std::time::Duration;

use crate::support::kafka_proxy::FETCH;
use crate::support::{KafkaProxy, KafkaServer, unique, wait_until};
use dinnerbell_config as config;
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::mark::{CommittedMark, RoundVersion};
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::record::{DeadLetterMessage, InputEvent};
use dinnerbell_core::model::recorded::Recorded;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{Broker, BrokerError, Input};
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::notifications::Notifications;
use dinnerbell_kafka::reader::LaneInput;
use rdkafka::Message as _;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::time::timeout;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(20);

/// A group with topics of its own.
struct Scene {
    server: Arc<KafkaServer>,
    kafka: config::Kafka,
    ledger: Uuid,
}

impl Scene {
    fn new(lanes: i32) -> Self {
        Self::on(KafkaServer::shared(), lanes)
    }

    fn on(server: Arc<KafkaServer>, lanes: i32) -> Self {
        let name = unique("kafka-");
        let topics = config::Topics {
            campaigns: format!("{name}.in"),
            notifications: format!("{name}.out"),
            dead_letters: Some(format!("{name}.dead")),
        };
        server.create_topic(&topics.campaigns, lanes, &[("max.message.bytes", "10000000")]);
        server.create_topic(&topics.notifications, 4, &[]);
        server.create_topic(&format!("{name}.dead"), 1, &[("max.message.bytes", "50000")]);
        let kafka = server.config(name, topics);
        Self { server, kafka, ledger: Uuid::new_v4() }
    }

    async fn broker(&self) -> KafkaBroker {
        KafkaBroker::connect(&self.kafka).await.unwrap()
    }

    fn mark(&self, seq: i64) -> CommittedMark {
        CommittedMark {
            ledger: self.ledger,
            version: RoundVersion { seq: Seq::new(seq), revision: 0, checksum: seq * 31 },
        }
    }

    fn round(&self, lane: Lane, seq: i64, drafts: Vec<DraftBatch>) -> Recorded {
        self.round_with(lane, seq, drafts, Vec::new())
    }

    fn round_with(
        &self,
        lane: Lane,
        seq: i64,
        drafts: Vec<DraftBatch>,
        dead_letters: Vec<DeadLetterMessage>,
    ) -> Recorded {
        let mark = self.mark(seq);
        Recorded::for_test(Publication { lane, offset: Offset::new(100 + seq), mark, drafts, dead_letters })
    }

    fn drafts(&self, clients: &[&str]) -> DraftBatch {
        DraftBatch { template: template(&self.kafka.group_id), clients: clients.iter().copied().collect() }
    }

    fn campaigns(&self) -> &str {
        &self.kafka.topics.campaigns
    }

    /// What readers see of the drafts when every transaction has ended: a commit is answered before its markers are everywhere.
    fn told(&self) -> Vec<crate::support::Message> {
        let topic = &self.kafka.topics.notifications;
        wait_until("every transaction has ended", SOON, || self.server.held_back(topic).is_empty());
        self.server.read_topic(topic)
    }

    /// A transactional producer of no lane.
    fn sender(&self) -> BaseProducer {
        self.transactional(&unique("sender-"))
    }

    fn transactional(&self, id: &str) -> BaseProducer {
        let producer: BaseProducer = self.server.client().set("transactional.id", id).create().unwrap();
        producer.init_transactions(SOON).unwrap();
        producer
    }

    fn send(&self, lane: Lane, values: impl IntoIterator<Item = Vec<u8>>) {
        let producer: BaseProducer = self.server.client().set("message.max.bytes", "10000000").create().unwrap();
        produce(&producer, self.campaigns(), lane, values);
        producer.flush(SOON).unwrap();
    }
}

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + SOON
}

fn produce(producer: &BaseProducer, topic: &str, lane: Lane, values: impl IntoIterator<Item = Vec<u8>>) {
    for value in values {
        let record = BaseRecord::<[u8], [u8]>::to(topic).partition(lane.get()).key(b"k").payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
}

fn template(group: &str) -> Arc<DraftTemplate> {
    template_formed(group, Seconds::new(1_660_000_000))
}

fn template_formed(group: &str, formed: Seconds) -> Arc<DraftTemplate> {
    let campaign = Campaign {
        restaurant_id: "123e4567-e89b-12d3-a456-426614174000".into(),
        adv_campaign_id: "123e4567-e89b-12d3-a456-426614174003".into(),
        adv_campaign_content: "first campaign".into(),
        adv_campaign_owner: "Ivanov Ivan Ivanovich".into(),
        adv_campaign_owner_contact: "iiivanov@restaurant.ru".into(),
        window: Window { start: Seconds::new(1_659_203_516), end: Seconds::new(2_659_207_116) },
        datetime_created: Seconds::new(1_659_131_516),
    };
    Arc::new(DraftTemplate::new(Arc::new(campaign), formed, group).unwrap())
}

/// Takes events until there are as many, or it takes too long.
async fn take(input: &mut LaneInput, count: usize) -> Vec<InputEvent> {
    let mut arrived = Vec::new();
    while arrived.len() < count {
        let more = timeout(SOON, input.next(1_000)).await;
        arrived.extend(more.unwrap_or_else(|_| panic!("waited in vain after {}", arrived.len())).unwrap());
    }
    arrived
}

fn values(arrived: &[InputEvent]) -> Vec<String> {
    arrived
        .iter()
        .map(|arrived| match arrived {
            InputEvent::Record(record) => String::from_utf8_lossy(record.value.as_ref().unwrap()).into_owned(),
            InputEvent::End(offset) => format!("end {offset}"),
        })
        .collect()
}

fn is_transient<T: std::fmt::Debug>(result: &Result<T, BrokerError>) -> bool {
    matches!(result, Err(BrokerError::Transient(_)))
}

/// A producer, as soon as there may be one more.
async fn producer_of(broker: &KafkaBroker, lane: Lane) -> <KafkaBroker as Broker>::Producer {
    let made = async {
        loop {
            match broker.producer(lane).await {
                Ok(producer) => break producer,
                Err(error) => assert!(matches!(error, BrokerError::Transient(_)), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, made).await.expect("a producer")
}

/// A broker that was just elected says how far the lane is committed when it is asked, and does not hand it over yet. So does one that was cut
/// off: what it hands over ends too early.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_broker_that_does_not_know_what_is_committed_is_no_end() {
    let mut scene = Scene::new(1);
    let proxy = KafkaProxy::before(&scene.kafka.bootstrap_servers);
    scene.kafka.bootstrap_servers = proxy.address.to_string();
    let broker = scene.broker().await;
    proxy.watch(FETCH);
    let numbered = |range: std::ops::Range<u32>| range.map(|n| n.to_string().into_bytes()).collect::<Vec<_>>();
    scene.send(Lane::new(0), numbered(0..10));
    let mut input = broker.open(Lane::new(0), Offset::FIRST, None).await.unwrap();
    assert_eq!(take(&mut input, 10).await.len(), 10);
    // The fetches that follow find nothing.
    tokio::time::sleep(Duration::from_millis(400)).await;
    proxy.learns_nothing(true);
    scene.send(Lane::new(0), numbered(10..20));
    let arrived = timeout(Duration::from_secs(4), input.next(100)).await;
    assert!(arrived.is_err(), "ten records stand there: {arrived:?}");
    proxy.learns_nothing(false);
    let expected: Vec<String> = (10..20).map(|n| n.to_string()).collect();
    assert_eq!(values(&take(&mut input, 10).await), expected);
}

/// What `verify` and `lane resolve` read of the drafts: to the end that was asked for, whatever a broker says that learned nothing since.
#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_read_to_the_end_though_a_broker_ends_them_before() {
    let mut scene = Scene::new(1);
    let topic = scene.kafka.topics.notifications.clone();
    let proxy = KafkaProxy::before(&scene.kafka.bootstrap_servers);
    scene.kafka.bootstrap_servers = proxy.address.to_string();
    let send = |values: std::ops::Range<u32>| {
        let producer: BaseProducer = scene.server.client().create().unwrap();
        produce(&producer, &topic, Lane::new(0), values.map(|value| value.to_string().into_bytes()));
        producer.flush(SOON).unwrap();
    };
    send(0..10);
    proxy.watch(FETCH);
    assert_nothing_behind(&scene, &topic, 10);
    proxy.learns_nothing(true);
    send(10..20);
    let kafka = scene.kafka.clone();
    let mut reading = tokio::task::spawn_blocking(move || {
        let notifications = Notifications::open(&kafka).unwrap();
        let mut found = Vec::new();
        let read = notifications.read(&[(0, 10)].into(), &notifications.extent().unwrap().high, |message| {
            found.push(message.offset);
            Ok::<_, BrokerError>(())
        });
        read.map(|()| found)
    });
    let early = timeout(Duration::from_secs(3), &mut reading).await;
    assert!(early.is_err(), "ten messages stand there: {early:?}");
    proxy.learns_nothing(false);
    assert_eq!(reading.await.unwrap().unwrap(), (10..20).collect::<Vec<_>>());
}

/// A reader's client finds the end of the partition there.
fn assert_nothing_behind(scene: &Scene, topic: &str, offset: i64) {
    let mut settings = scene.server.client();
    settings.set("bootstrap.servers", &scene.kafka.bootstrap_servers).set("group.id", "none");
    let settings = settings.set("enable.partition.eof", "true").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = settings.create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, rdkafka::Offset::Offset(offset)).unwrap();
    consumer.assign(&from).unwrap();
    let found = consumer.poll(SOON).map(|found| found.map(|message| message.offset()));
    assert!(matches!(found, Some(Err(KafkaError::PartitionEOF(0)))), "{found:?}");
}
