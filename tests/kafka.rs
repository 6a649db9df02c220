//! The real implementation of the broker's traits against a real Apache Kafka.

#![cfg(feature = "fail-points")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::kafka_proxy::FETCH;
use crate::support::{KafkaProxy, KafkaServer, Security, unique, wait_until};
use dinnerbell_config as config;
use dinnerbell_config::{Secret, Start};
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::mark::{CommittedMark, CommittedOffset, RoundVersion};
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::record::{DeadLetterMessage, Header, InputEvent};
use dinnerbell_core::model::recorded::Recorded;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{Broker, BrokerError, Input, Producer};
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::notifications::{Found, Notifications};
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
            head: RoundVersion { seq: Seq::new(seq), revision: 0, checksum: seq * 31 },
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

#[tokio::test(flavor = "multi_thread")]
async fn a_published_round_is_read_whole_and_its_mark_is_committed_beside_a_living_member() {
    let scene = Scene::new(2);
    let broker = scene.broker().await;
    let mut membership = broker.join().unwrap();
    let mut assigned = membership.assignments();
    timeout(SOON, assigned.wait_for(|held| held.len() == 2)).await.unwrap().unwrap();

    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::None);
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let producer = producer.publish(&scene.round(Lane::new(0), 0, vec![])).await.unwrap().unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(scene.mark(0)));
    let round = scene.round(Lane::new(0), 1, vec![scene.drafts(&["anna", "b\"ob"]), scene.drafts(&["кот"])]);
    let producer = producer.publish(&round).await.unwrap().unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(scene.mark(1)));
    assert_eq!(broker.committed(Lane::new(1)).await.unwrap(), CommittedOffset::None);

    let told = scene.told();
    let keys: BTreeSet<_> = told.iter().map(|message| message.key.clone().unwrap()).collect();
    assert_eq!(keys, ["anna", "b\"ob", "кот"].map(str::to_owned).into());
    let anna = told.iter().find(|message| message.key.as_deref() == Some("anna")).unwrap();
    let names: Vec<_> = anna.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ce_specversion",
            "ce_type",
            "ce_source",
            "ce_time",
            "ce_expirytime",
            "content-type",
            "dinnerbell_round",
            "ce_id"
        ]
    );
    assert_eq!(anna.header("dinnerbell_round"), Some(format!("{}/0/1", scene.campaigns()).as_str()));
    assert!(anna.value.as_ref().unwrap().contains(r#""client_id":"anna""#));

    producer.publish_mark(&scene.round(Lane::new(0), 1, vec![scene.drafts(&["nobody"])])).await.unwrap();
    assert_eq!(scene.told().len(), 3);
    membership.leave(soon()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_producer_publishes_nothing() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let old = broker.producer(Lane::new(0)).await.unwrap();
    let old = old.publish(&scene.round(Lane::new(0), 0, vec![])).await.unwrap().unwrap();
    let new = broker.producer(Lane::new(0)).await.unwrap();
    let fenced = old.publish(&scene.round(Lane::new(0), 1, vec![scene.drafts(&["twice"])])).await;
    assert!(matches!(fenced, Err(BrokerError::Fenced)), "{fenced:?}");
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(scene.mark(0)));
    new.publish(&scene.round(Lane::new(0), 1, vec![scene.drafts(&["once"])])).await.unwrap();
    let keys: Vec<_> = scene.told().into_iter().map(|message| message.key.unwrap()).collect();
    assert_eq!(keys, ["once"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_owner_left_open_is_aborted_and_its_offset_is_never_seen() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let former = scene.transactional(&format!("{}/{}/0", scene.kafka.group_id, scene.campaigns()));
    former.begin_transaction().unwrap();
    produce(&former, &scene.kafka.topics.notifications, Lane::new(0), [b"aborted".to_vec()]);
    former.flush(SOON).unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(scene.campaigns(), 0, rdkafka::Offset::Offset(7)).unwrap();
    let group = group_metadata(&scene);
    former.send_offsets_to_transaction(&offsets, &group, SOON).unwrap();

    let held_back = broker.committed(Lane::new(0)).await;
    assert!(is_transient(&held_back), "an unstable offset is not an answer: {held_back:?}");
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::None);
    producer.publish(&scene.round(Lane::new(0), 0, vec![scene.drafts(&["heard"])])).await.unwrap();
    let keys: Vec<_> = scene.told().into_iter().map(|message| message.key.unwrap()).collect();
    assert_eq!(keys, ["heard"]);
    assert!(former.commit_transaction(SOON).is_err());
}

fn group_metadata(scene: &Scene) -> rdkafka::consumer::ConsumerGroupMetadata {
    let consumer: BaseConsumer = scene.server.client().set("group.id", &scene.kafka.group_id).create().unwrap();
    consumer.group_metadata().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_read_in_order_and_its_end_lies_behind_the_gaps() {
    let scene = Scene::new(1);
    let sender = scene.sender();
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), [b"one".to_vec(), b"two".to_vec()]);
    sender.commit_transaction(SOON).unwrap();
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), [b"never".to_vec()]);
    sender.flush(SOON).unwrap();
    sender.abort_transaction(SOON).unwrap();

    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    // two records, a marker, an aborted record, its marker
    assert_eq!(values(&take(&mut input, 3).await), ["one", "two", "end 5"]);
    assert_eq!(broker.watermarks(Lane::new(0)).await.unwrap(), (Offset::FIRST, Offset::new(5)));
    assert!(timeout(Duration::from_secs(2), input.next(10)).await.is_err(), "a lane at rest says nothing");

    scene.send(Lane::new(0), [b"three".to_vec()]);
    assert_eq!(values(&take(&mut input, 1).await), ["three"]);
    assert!(timeout(Duration::from_secs(2), input.next(10)).await.is_err(), "there is no gap behind the last record");
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), [b"never".to_vec()]);
    sender.flush(SOON).unwrap();
    assert!(timeout(Duration::from_secs(2), input.next(10)).await.is_err(), "an open transaction is not the end");
    sender.abort_transaction(SOON).unwrap();
    assert_eq!(values(&take(&mut input, 1).await), ["end 8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_holds_nothing_but_a_gap_ends_behind_it() {
    let scene = Scene::new(1);
    let sender = scene.sender();
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), (0..100).map(|_| b"never".to_vec()));
    sender.flush(SOON).unwrap();
    sender.abort_transaction(SOON).unwrap();
    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    assert_eq!(values(&take(&mut input, 1).await), ["end 101"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_holds_up_no_other_and_loses_nothing() {
    let scene = Scene::new(2);
    scene.send(Lane::new(0), (0..20_000).map(|n| format!("{n:0>400}").into_bytes()));
    let broker = scene.broker().await;
    let mut full = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    let mut other = broker.open(Lane::new(1), Offset::new(0), None).await.unwrap();
    for n in 0..5 {
        scene.send(Lane::new(1), [format!("small {n}").into_bytes()]);
        assert_eq!(values(&take(&mut other, 1).await), [format!("small {n}")]);
    }
    let drained = take(&mut full, 20_000).await;
    let expected: Vec<_> = (0..20_000).map(|n| format!("{n:0>400}")).collect();
    assert!(values(&drained) == expected, "the lane is read whole and in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_larger_than_every_bound_still_passes_as_what_it_was() {
    let scene = Scene::new(1);
    let large = vec![b'x'; 6_000_000];
    scene.send(Lane::new(0), [large.clone(), b"next".to_vec()]);
    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    let arrived = take(&mut input, 2).await;
    let [InputEvent::Record(first), InputEvent::Record(next)] = &arrived[..] else { panic!("{arrived:?}") };
    drop(input);
    let omitted = first.omitted.as_ref().unwrap();
    let size = omitted.value.as_ref().map(|value| value.size);
    assert_eq!((&first.value, &omitted.parts, size), (&None, &vec!["value"], Some(6_000_000)));
    assert_eq!((next.value.as_deref(), &next.omitted), (Some(&b"next"[..]), &None));
    assert_eq!(
        broker.fingerprint_at(Lane::new(0), Offset::new(0)).await.unwrap(),
        first.fingerprint(),
        "it is known again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_opened_again_at_any_position_and_its_former_reader_is_told() {
    let scene = Scene::new(1);
    scene.send(Lane::new(0), (0..3_000).map(|n| n.to_string().into_bytes()));
    let broker = scene.broker().await;
    let mut former = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    assert_eq!(values(&take(&mut former, 1).await)[0], "0");
    for position in [5, 2_999, 0, 1_500] {
        let mut input = broker.open(Lane::new(0), Offset::new(position), None).await.unwrap();
        assert_eq!(values(&take(&mut input, 1).await)[0], position.to_string());
    }
    let told = former.next(10).await;
    assert!(is_transient(&told), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_at_an_offset_is_that_of_the_record_there_or_none() {
    let scene = Scene::new(1);
    scene.send(Lane::new(0), [b"zero".to_vec(), b"one".to_vec()]);
    let sender = scene.sender();
    sender.begin_transaction().unwrap();
    produce(&sender, scene.campaigns(), Lane::new(0), [b"two".to_vec()]);
    sender.commit_transaction(SOON).unwrap();
    scene.send(Lane::new(0), [b"four".to_vec()]);

    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    let InputEvent::Record(one) = take(&mut input, 4).await.remove(1) else { panic!("a record stands there") };
    drop(input);
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(1)).await.unwrap(), one.fingerprint());
    assert_eq!(
        broker.fingerprint_at(Lane::new(0), Offset::new(3)).await.unwrap(),
        None,
        "a transaction's marker is no record"
    );
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(5)).await.unwrap(), None, "nothing is there yet");
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(500)).await.unwrap(), None, "nothing was ever there");
    scene.server.delete_records(scene.campaigns(), 0, 2);
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(1)).await.unwrap(), None, "it was deleted");
    assert_eq!(broker.watermarks(Lane::new(0)).await.unwrap(), (Offset::new(2), Offset::new(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn input_trimmed_below_the_position_is_an_error_not_a_jump() {
    let scene = Scene::new(1);
    scene.send(Lane::new(0), (0..10).map(|n| n.to_string().into_bytes()));
    scene.server.delete_records(scene.campaigns(), 0, 5);
    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(2), None).await.unwrap();
    let told = timeout(SOON, input.next(10)).await.unwrap();
    assert!(is_transient(&told), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_move_between_two_members_and_come_back() {
    let scene = Scene::new(4);
    let (one, two) = (scene.broker().await, scene.broker().await);
    let mut first = one.join().unwrap();
    let mut ours = first.assignments();
    timeout(SOON, ours.wait_for(|held| held.len() == 4)).await.unwrap().unwrap();
    assert!(one.still_assigned(Lane::new(3)).await);

    let mut second = two.join().unwrap();
    let mut theirs = second.assignments();
    timeout(SOON, theirs.wait_for(|held| held.len() == 2)).await.unwrap().unwrap();
    timeout(SOON, ours.wait_for(|held| held.len() == 2)).await.unwrap().unwrap();
    let moved = theirs.borrow().clone();
    assert!(ours.borrow().is_disjoint(&moved));
    for lane in moved {
        assert!(!one.still_assigned(lane).await);
        assert!(two.still_assigned(lane).await);
    }

    let began = Instant::now();
    second.leave(soon()).await;
    assert!(theirs.borrow().is_empty(), "leaving gives every lane back");
    timeout(SOON, ours.wait_for(|held| held.len() == 4)).await.unwrap().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "leaving is prompt, not a session time-out: {:?}",
        began.elapsed()
    );
    first.leave(soon()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_become_lanes() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let mut membership = broker.join().unwrap();
    let mut assigned = membership.assignments();
    timeout(SOON, assigned.wait_for(|held| held.len() == 1)).await.unwrap().unwrap();
    scene.server.grow_topic(scene.campaigns(), 3);
    timeout(SOON, assigned.wait_for(|held| held.len() == 3)).await.unwrap().unwrap();
    assert_eq!(broker.lanes().await.unwrap(), 3);
    membership.leave(soon()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_offsets_are_resolved_for_every_lane() {
    let scene = Scene::new(3);
    scene.send(Lane::new(0), [b"a".to_vec(), b"b".to_vec()]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let between = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    scene.send(Lane::new(0), [b"c".to_vec()]);
    scene.send(Lane::new(1), [b"d".to_vec()]);
    let broker = scene.broker().await;
    let offsets =
        async |start| broker.start_offsets(start).await.unwrap().into_values().map(Offset::get).collect::<Vec<_>>();
    assert_eq!(offsets(Start::Earliest).await, [0, 0, 0]);
    assert_eq!(offsets(Start::Latest).await, [3, 1, 0]);
    assert_eq!(offsets(Start::At(Seconds::new(i64::try_from(between).unwrap()))).await, [2, 0, 0]);
    assert_eq!(offsets(Start::At(Seconds::new(4_000_000_000))).await, [3, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_published_with_where_they_came_from_or_described_where_they_do_not_fit() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let letter = |id, value: Vec<u8>| DeadLetterMessage {
        id,
        lane: Lane::new(0),
        offset: Offset::new(40 + id),
        key: Some(b"first_message".to_vec()),
        value: Some(value),
        digest: None,
        headers: vec![Header { name: "trace".into(), value: None }],
        reason: "restaurant_id is missing".into(),
        field: Some("restaurant_id".into()),
    };
    let incompressible: Vec<u8> = (0..60_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let letters = vec![letter(1, b"{}".to_vec()), letter(2, incompressible)];
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    producer.publish(&scene.round_with(Lane::new(0), 0, vec![scene.drafts(&["anna"])], letters)).await.unwrap();

    let dead = scene.server.read_topic(scene.kafka.topics.dead_letters.as_ref().unwrap());
    assert_eq!(dead.len(), 2);
    assert_eq!((dead[0].key.as_deref(), dead[0].value.as_deref()), (Some("first_message"), Some("{}")));
    assert_eq!(dead[0].headers[0], ("trace".into(), None));
    assert_eq!(dead[0].header("dinnerbell_reason"), Some("restaurant_id is missing"));
    assert_eq!(dead[0].header("dinnerbell_field"), Some("restaurant_id"));
    assert_eq!(dead[0].header("dinnerbell_topic"), Some(scene.campaigns()));
    assert_eq!((dead[0].header("dinnerbell_partition"), dead[0].header("dinnerbell_offset")), (Some("0"), Some("41")));
    assert_eq!(dead[1].value, None);
    assert_eq!(dead[1].header("dinnerbell_size"), Some("60000"));
    assert_eq!(dead[1].header("dinnerbell_sha256").map(str::len), Some(64));
    assert_eq!(scene.told().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_names_that_are_not_text_are_kept_as_unreadable() {
    let scene = Scene::new(1);
    let mut kcat = scene.server.kcat(Security::Plaintext);
    kcat.args(["-P", "-t", scene.campaigns(), "-p", "0", "-H", "good=1", "-H"]);
    kcat.arg(std::ffi::OsStr::from_bytes(b"b\xffd=2")).stdin(std::process::Stdio::piped());
    let mut kcat = kcat.spawn().unwrap();
    kcat.stdin.take().unwrap().write_all(b"value\n").unwrap();
    assert!(kcat.wait().unwrap().success());
    let broker = scene.broker().await;
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    let InputEvent::Record(record) = take(&mut input, 1).await.remove(0) else { panic!("a record was sent") };
    assert_eq!(
        record.headers,
        [
            Header { name: "good".into(), value: Some(b"1".to_vec()) },
            Header { name: Header::UNREADABLE.into(), value: None }
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_metadata_of_others_is_foreign_whatever_it_holds() {
    let scene = Scene::new(3);
    commit_raw(&scene, Lane::new(0), b"");
    commit_raw(&scene, Lane::new(1), b"somebody else");
    commit_raw(&scene, Lane::new(2), b"caf\xe9");
    let broker = scene.broker().await;
    // The broker itself replaces what is not text; another one may not, and the library would panic.
    for (lane, says) in [(0, "\"\""), (1, "\"somebody else\""), (2, "\"caf\u{fffd}\"")] {
        let found = broker.committed(Lane::new(lane)).await.unwrap();
        assert!(matches!(&found, CommittedOffset::Foreign(text) if text.contains(says)), "{found:?}");
    }
}

/// OffsetCommit, version 2, by hand: no client library sends metadata that is not text.
fn commit_raw(scene: &Scene, lane: Lane, metadata: &[u8]) {
    fn text(request: &mut Vec<u8>, text: &[u8]) {
        request.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
        request.extend(text);
    }
    let mut request = Vec::new();
    request.extend(8i16.to_be_bytes());
    request.extend(2i16.to_be_bytes());
    request.extend(77i32.to_be_bytes());
    text(&mut request, b"test");
    text(&mut request, scene.kafka.group_id.as_bytes());
    request.extend((-1i32).to_be_bytes());
    text(&mut request, b"");
    request.extend((-1i64).to_be_bytes());
    request.extend(1i32.to_be_bytes());
    text(&mut request, scene.campaigns().as_bytes());
    request.extend(1i32.to_be_bytes());
    request.extend(lane.get().to_be_bytes());
    request.extend(5i64.to_be_bytes());
    text(&mut request, metadata);
    wait_until("the coordinator takes the offset", SOON, || {
        let mut stream = TcpStream::connect(&scene.server.plaintext).unwrap();
        stream.write_all(&u32::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&request).unwrap();
        let mut size = [0; 4];
        stream.read_exact(&mut size).unwrap();
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(size)).unwrap()];
        stream.read_exact(&mut answer).unwrap();
        answer.ends_with(&[0, 0])
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_names_the_setting_and_what_is_away_may_come() {
    let scene = Scene::new(1);
    // As the service does it: on a slow machine an attempt may end before the broker said why.
    let refusal = async |kafka: &config::Kafka| {
        let refused = async {
            loop {
                match KafkaBroker::connect(kafka).await {
                    Err(BrokerError::Refused(text)) => return text,
                    Err(BrokerError::Transient(_)) => {}
                    other => panic!("it should be refused: {other:?}"),
                }
            }
        };
        timeout(SOON, refused).await.expect("it is refused")
    };
    let mut kafka = scene.kafka.clone();
    kafka.topics.notifications = "no.such.topic".into();
    let text = refusal(&kafka).await;
    assert!(text.contains("no.such.topic") && text.contains("kafka.topics"), "{text}");

    let server = &scene.server;
    let mut kafka = scene.kafka.clone();
    kafka.bootstrap_servers = server.sasl_ssl.clone();
    kafka.security_protocol = "SASL_SSL".into();
    kafka.ca_file = Some(server.ca.clone());
    let login = |password: &str| config::Sasl {
        mechanism: "SCRAM-SHA-512".into(),
        username: server.username.clone(),
        password: Secret::new(password.into()),
    };
    kafka.sasl = Some(login(&server.password));
    let broker = KafkaBroker::connect(&kafka).await.unwrap();
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    producer.publish(&scene.round(Lane::new(0), 0, vec![scene.drafts(&["anna"])])).await.unwrap();

    kafka.sasl = Some(login("wrong"));
    let text = refusal(&kafka).await;
    assert!(text.contains("kafka.password_file") && !text.contains("wrong"), "{text}");
    kafka.sasl = Some(login(&server.password));
    kafka.ca_file = Some(other_ca());
    let text = refusal(&kafka).await;
    assert!(text.contains("kafka.ca_file"), "{text}");

    let mut kafka = scene.kafka.clone();
    kafka.bootstrap_servers = "127.0.0.1:1".into();
    let away = KafkaBroker::connect(&kafka).await;
    assert!(is_transient(&away), "{away:?}");
}

/// The system's first CA: not ours.
fn other_ca() -> PathBuf {
    let path = std::env::temp_dir().join(unique("other-ca-"));
    let status = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=OtherTable CA"])
        .args(["-keyout", "/dev/null", "-out"])
        .arg(&path)
        .stderr(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_small_messages_only_refuses_each_large_round_by_its_cause() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let names: Vec<String> = (0..30_000).map(|client| format!("client-{client}")).collect();
    let clients: Vec<&str> = names.iter().map(String::as_str).collect();
    scene.server.set_topic(&scene.kafka.topics.notifications, "max.message.bytes", "100");
    let round = scene.round(Lane::new(0), 0, vec![scene.drafts(&clients)]);
    // Batches are made smaller first: the topic might take a part of the round.
    let mut refusals = Vec::new();
    while refusals.len() < 3 {
        match producer_of(&broker, Lane::new(0)).await.publish(&round).await.map(drop) {
            Err(BrokerError::Transient(text)) if refusals.is_empty() => {
                assert!(text.contains("batches have at most"), "{text}");
            }
            refused => refusals.push(refused),
        }
    }
    for refused in refusals {
        let is_cause = matches!(&refused, Err(BrokerError::Refused(text)) if text.contains("max.message.bytes"));
        assert!(is_cause, "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_a_topic_does_not_take_are_made_smaller_until_it_does() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let names: Vec<String> =
        (0..5_000).map(|client| format!("{:x}", u64::wrapping_mul(client, 0x9e37_79b9_7f4a_7c15))).collect();
    let clients: Vec<&str> = names.iter().map(String::as_str).collect();
    // What was read of its settings when the broker was connected to is larger.
    scene.server.set_topic(&scene.kafka.topics.notifications, "max.message.bytes", "150000");
    let round = scene.round(Lane::new(0), 0, vec![scene.drafts(&clients)]);
    let published = async { while producer_of(&broker, Lane::new(0)).await.publish(&round).await.is_err() {} };
    timeout(SOON, published).await.expect("it gets through");
    assert_eq!(scene.told().len(), 5_000);
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

#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_found_by_the_time_at_which_they_were_formed_though_this_machines_clock_is_hours_behind_it() {
    let scene = Scene::new(1);
    let topic = &scene.kafka.topics.notifications;
    // As a topic of Kafka 3 has it: 4.0 takes no time of more than an hour ahead.
    scene.server.set_topic(topic, "message.timestamp.after.max.ms", "9223372036854775807");
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let batch = |client: &str, formed| DraftBatch {
        template: template_formed(&scene.kafka.group_id, formed),
        clients: [client].into_iter().collect(),
    };
    let (ahead, late) = (now + 5 * 3_600, now - 30 * 86_400);
    let round =
        scene.round(Lane::new(0), 0, vec![batch("ahead", Seconds::new(ahead)), batch("late", Seconds::new(late))]);
    scene.broker().await.producer(Lane::new(0)).await.unwrap().publish(&round).await.unwrap();
    assert_eq!(scene.told().len(), 2);

    let kafka = scene.kafka.clone();
    let found_since = move |since: i64| {
        let notifications = Notifications::open(&kafka).unwrap();
        let extent = notifications.extent().unwrap();
        let from = notifications.beginning(&extent, Some(Seconds::new(since))).unwrap();
        let mut found = BTreeSet::new();
        let take = |message: Found<'_>| {
            found.insert(String::from_utf8_lossy(message.key.unwrap()).into_owned());
            Ok::<_, BrokerError>(())
        };
        notifications.read(&from, &extent.high, take).unwrap();
        found
    };
    let (since_ahead, since_now) =
        tokio::task::spawn_blocking(move || (found_since(ahead), found_since(now))).await.unwrap();
    assert!(since_ahead.contains("ahead"), "{since_ahead:?}");
    assert!(since_now.contains("late"), "a round that waited has the time at which it was sent: {since_now:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_and_comes_back_is_passed_over() {
    let server = KafkaServer::private();
    let scene = Scene::on(Arc::clone(&server), 1);
    let broker = scene.broker().await;
    let mut membership = broker.join().unwrap();
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let producer =
        producer.publish(&scene.round(Lane::new(0), 0, vec![scene.drafts(&["before"])])).await.unwrap().unwrap();
    scene.send(Lane::new(0), [b"before".to_vec()]);
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    assert_eq!(values(&take(&mut input, 1).await), ["before"]);

    server.kill();
    let round = scene.round(Lane::new(0), 1, vec![scene.drafts(&["after"])]);
    let away = round.clone();
    let publishing = tokio::spawn(async move { producer.publish(&away).await.map(drop) });
    let away = broker.watermarks(Lane::new(0)).await;
    assert!(is_transient(&away), "{away:?}");
    server.start();

    let published = timeout(Duration::from_secs(100), publishing).await.unwrap().unwrap();
    assert!(published.is_ok() || is_transient(&published), "{published:?}");
    let producer = timeout(Duration::from_secs(60), async {
        loop {
            match broker.producer(Lane::new(0)).await {
                Ok(producer) => break producer,
                Err(error) => assert!(matches!(error, BrokerError::Transient(_)), "{error}"),
            }
        }
    });
    let producer = producer.await.unwrap();
    if broker.committed(Lane::new(0)).await.unwrap() == CommittedOffset::Mark(scene.mark(0)) {
        producer.publish(&round).await.unwrap();
    }
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(scene.mark(1)));
    let mut keys: Vec<_> = scene.told().into_iter().map(|message| message.key.unwrap()).collect();
    keys.sort();
    assert_eq!(keys, ["after", "before"]);
    scene.send(Lane::new(0), [b"after".to_vec()]);
    assert_eq!(values(&take(&mut input, 1).await), ["after"], "an input needs no help");
    let mut held = membership.assignments();
    // The group waits for its members after a restart, and one that lost its assignment joins again only after 20 s.
    timeout(SOON * 4, held.wait_for(|held| held.contains(&Lane::new(0)))).await.unwrap().unwrap();
    membership.leave(soon()).await;
}

/// How fast one producer publishes, in time and in this process's own processor time. With MEASURE="compression.codec=zstd ..." under other settings:
/// `cargo test --workspace --release --features fail-points --test servers -- --ignored --nocapture measure_rounds`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_rounds() {
    let mut scene = Scene::new(1);
    let settings = std::env::var("MEASURE").unwrap_or_default();
    let settings = settings.split_whitespace().filter_map(|setting| setting.split_once('='));
    scene.kafka.client = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let broker = scene.broker().await;
    let mut producer = broker.producer(Lane::new(0)).await.unwrap();
    let clients = |count: usize| -> Clients {
        let ids: Vec<String> = (0..count).map(|n| format!("{n:08}-e89b-12d3-a456-426614174000")).collect();
        ids.iter().map(String::as_str).collect()
    };
    let template = template(&scene.kafka.group_id);
    let batch = |count| DraftBatch { template: Arc::clone(&template), clients: clients(count) };
    let mut seq = 0;
    let mut small = Vec::new();
    for _ in 0..100 {
        let round = scene.round(Lane::new(0), seq, vec![batch(100)]);
        seq += 1;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let began = Instant::now();
        producer = producer.publish(&round).await.unwrap().unwrap();
        small.push(began.elapsed());
    }
    small.sort();
    println!("100 drafts: p50 {:?}, p90 {:?}", small[50], small[90]);
    let mut at_once = Vec::new();
    for _ in 0..200 {
        let round = scene.round(Lane::new(0), seq, vec![batch(100)]);
        seq += 1;
        let began = Instant::now();
        producer = producer.publish(&round).await.unwrap().unwrap();
        at_once.push(began.elapsed());
    }
    at_once.sort();
    println!(
        "100 drafts, one round right after the other: p50 {:?}, p90 {:?}, p99 {:?}",
        at_once[100], at_once[180], at_once[198]
    );
    let rounds: Vec<_> = (0..25).map(|n| scene.round(Lane::new(0), seq + n, vec![batch(20_000)])).collect();
    let (began, cpu) = (Instant::now(), processor_time());
    for round in &rounds {
        producer = producer.publish(round).await.unwrap().unwrap();
    }
    let (elapsed, cpu) = (began.elapsed(), processor_time() - cpu);
    let rate = 500_000.0 / elapsed.as_secs_f64();
    println!("500,000 drafts in rounds of 20,000: {elapsed:?}, {rate:.0} a second, {cpu:?} of processor time");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

/// What this process has used.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_initialisations_that_timed_out_each_round_is_published_once() {
    let server = KafkaServer::private();
    let scene = Scene::on(Arc::clone(&server), 1);
    let broker = scene.broker().await;
    drop(broker.producer(Lane::new(0)).await.unwrap().publish(&scene.round(Lane::new(0), 0, vec![])).await.unwrap());
    server.freeze();
    let away = timeout(Duration::from_secs(40), broker.producer(Lane::new(0))).await.unwrap();
    assert!(is_transient(&away), "{away:?}");
    let cancelled = timeout(Duration::from_millis(100), broker.producer(Lane::new(0))).await;
    assert!(cancelled.is_err(), "the coordinator does not answer");
    server.thaw();
    // What was asked before and was not answered still arrives, and may fence a producer that was made since: then it is made anew.
    let publish = async |seq, client: &str| {
        let round = scene.round(Lane::new(0), seq, vec![scene.drafts(&[client])]);
        let published = async {
            loop {
                let Ok(producer) = broker.producer(Lane::new(0)).await else { continue };
                let Ok((producer, CommittedOffset::Mark(mark))) = producer.committed().await else { continue };
                if mark == scene.mark(seq) || producer.publish(&round).await.is_ok() {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(60), published).await.expect("it is published");
    };
    publish(1, "anna").await;
    publish(2, "bob").await;
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(scene.mark(2)));
    assert_eq!(scene.told().len(), 2);
}

/// Between the look at its windows and its beginning no broker is waited for: a campaign could end meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_is_begun_or_given_up_at_once_though_kafka_does_not_say_which_topic_it_goes_to() {
    let server = KafkaServer::private();
    let scene = Scene::on(Arc::clone(&server), 1);
    let broker = scene.broker().await;
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let first = scene.round(Lane::new(0), 0, vec![scene.drafts(&["anna"])]);
    let producer = producer.publish(&first).await.unwrap().unwrap();
    // What was answered about the topic is old by then.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    server.freeze();
    let asked = Instant::now();
    let second = scene.round(Lane::new(0), 1, vec![scene.drafts(&["bob"])]);
    let given_up = producer.publish_if(&second, Arc::new(|| false)).await.map(drop);
    let took = asked.elapsed();
    server.thaw();
    assert!(matches!(given_up, Err(BrokerError::NotBegun)), "{given_up:?}");
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    assert_eq!(scene.told().len(), 1);
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

/// `cargo test --workspace --release --features fail-points --test servers -- --ignored --nocapture measure_idle`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn measure_idle_lanes() {
    let scene = Scene::new(12);
    let broker = scene.broker().await;
    let membership = broker.join().unwrap();
    let mut held = membership.assignments();
    timeout(SOON, held.wait_for(|held| held.len() == 12)).await.unwrap().unwrap();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..12 {
        let producer = broker.producer(Lane::new(lane)).await.unwrap();
        let producer =
            producer.publish(&scene.round(Lane::new(lane), 0, vec![scene.drafts(&["anna"])])).await.unwrap().unwrap();
        let mut input = broker.open(Lane::new(lane), Offset::new(0), None).await.unwrap();
        lanes.spawn(async move { (input.next(10).await.map(drop), producer) });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = (thread_times(), processor_time());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let used = processor_time() - before.1;
    println!("12 idle lanes: {used:?} of processor time in 30 s, {:.2} % of a core", used.as_secs_f64() / 0.3);
    for (name, ticks) in thread_times() {
        let ticks = ticks - before.0.get(&name).copied().unwrap_or(0);
        if ticks > 0 {
            println!("  {name}: {ticks} ms");
        }
    }
}

/// Milliseconds that the threads of each name ran on a processor.
fn thread_times() -> BTreeMap<String, u64> {
    let mut times = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let nanos: u64 = read("schedstat").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        *times.entry(read("comm").trim().to_owned()).or_default() += nanos / 1_000_000;
    }
    times
}
