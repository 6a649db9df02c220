//! What Kafka refuses, and what is away for a while.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use dinnerbell_config as config;
use dinnerbell_config::Secret;
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::ports::broker::{Broker, BrokerError, Producer};
use dinnerbell_kafka::KafkaBroker;

use super::{SOON, Scene, is_transient, producer_of, soon, take, values};
use crate::support::{KafkaServer, unique};

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
    let login = |password: &str| config::Sasl::Password {
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
pub(super) fn other_ca() -> PathBuf {
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
    scene.server.set_topic(&scene.kafka.topics.notifications, "max.message.bytes", "60000");
    let round = scene.round(Lane::new(0), 0, vec![scene.drafts(&clients)]);
    let mut refused = 0;
    let published = async {
        while producer_of(&broker, Lane::new(0)).await.publish(&round).await.is_err() {
            refused += 1;
        }
    };
    timeout(SOON, published).await.expect("it gets through");
    assert!(refused > 0, "compressed, the first batches were small enough");
    assert_eq!(scene.told().len(), 5_000);
}

/// There are as many letters as drafts: by their number alone nobody could tell which were refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_topic_of_drafts_refuses_is_not_blamed_on_the_letters_of_the_round() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    scene.server.set_topic(&scene.kafka.topics.notifications, "max.message.bytes", "100");
    let letter = DeadLetterMessage {
        id: 1,
        lane: Lane::new(0),
        offset: Offset::new(41),
        key: None,
        value: Some(b"{}".to_vec()),
        digest: None,
        headers: Vec::new(),
        reason: "it is no campaign".into(),
        field: None,
    };
    let round = scene.round_with(Lane::new(0), 0, vec![scene.drafts(&["anna"])], vec![letter]);
    let refused = producer_of(&broker, Lane::new(0)).await.publish(&round).await.map(drop);
    let is_of_drafts = matches!(&refused, Err(BrokerError::Transient(text)) if text.contains("batches have at most"));
    assert!(is_of_drafts, "{refused:?}");
    assert!(scene.server.read_topic(scene.kafka.topics.dead_letters.as_ref().unwrap()).is_empty());
}

/// The name is looked up seldom: each message says which topic it is for.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_a_topic_that_was_created_again_since_the_producer_was_made() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let topic = &scene.kafka.topics.notifications;
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let first = scene.round(Lane::new(0), 0, vec![scene.drafts(&["anna"])]);
    let producer = producer.publish(&first).await.unwrap().unwrap();
    scene.server.delete_topics(&[topic]);
    scene.server.create_topic(topic, 4, &[]);
    let second = scene.round(Lane::new(0), 1, vec![scene.drafts(&["bob"])]);
    let refused = producer.publish(&second).await.map(drop);
    assert!(is_transient(&refused), "{refused:?}");
    drop(producer_of(&broker, Lane::new(0)).await);
    assert_eq!(scene.told().len(), 0, "{refused:?}");
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(scene.mark(0)));
}

/// Whether it is the one of before, its producer cannot know.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_to_a_topic_that_came_after_the_producer_was_made() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let topic = &scene.kafka.topics.notifications;
    scene.server.delete_topics(&[topic]);
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    scene.server.create_topic(topic, 4, &[]);
    let known = async {
        while broker.output_ids().await.unwrap().notifications.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, known).await.expect("the topic is there again");
    let round = scene.round(Lane::new(0), 0, vec![scene.drafts(&["anna"])]);
    let refused = producer.publish(&round).await.map(drop);
    assert!(is_transient(&refused) && format!("{refused:?}").contains("was recreated"), "{refused:?}");
    drop(producer_of(&broker, Lane::new(0)).await);
    assert_eq!(scene.told().len(), 0);
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
