//! How rounds are published, fenced and found again.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::Producer as _;
use tokio::time::timeout;

use dinnerbell_core::model::draft::DraftBatch;
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::{Lane, Offset, Seconds};
use dinnerbell_core::model::record::{DeadLetterMessage, Header};
use dinnerbell_core::ports::broker::{Broker, BrokerError, Producer};
use dinnerbell_kafka::notifications::{Found, Notifications};

use super::{SOON, Scene, is_transient, produce, soon, template_formed};
use crate::support::{KafkaServer, wait_until};

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

pub(super) fn group_metadata(scene: &Scene) -> rdkafka::consumer::ConsumerGroupMetadata {
    let consumer: BaseConsumer = scene.server.client().set("group.id", &scene.kafka.group_id).create().unwrap();
    consumer.group_metadata().unwrap()
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
pub(super) fn commit_raw(scene: &Scene, lane: Lane, metadata: &[u8]) {
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
