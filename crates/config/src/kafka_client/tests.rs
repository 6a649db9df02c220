use super::*;
use crate::{Secret, Start, Topics};

fn kafka(client: &[(&str, &str)]) -> Kafka {
    Kafka {
        bootstrap_servers: "localhost:9092".to_owned(),
        security_protocol: "SASL_PLAINTEXT".to_owned(),
        sasl: Some(Sasl::Password {
            mechanism: "SCRAM-SHA-512".to_owned(),
            username: "bell".to_owned(),
            password: Secret::new("s3cret".to_owned()),
        }),
        ca_file: None,
        group_id: "dinnerbell".to_owned(),
        start: Start::Earliest,
        topics: Topics { campaigns: "in".to_owned(), notifications: "out".to_owned(), dead_letters: None },
        client: client.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

#[test]
fn every_setting_that_can_be_suggested_is_known_to_librdkafka_and_allowed() {
    let native = ClientConfig::new().create_native_config().unwrap();
    for name in COMMON.iter().chain(CONSUMER_ONLY).chain(PRODUCER_ONLY) {
        // `get` knows no settings of topics.
        let known = native.get(name).is_ok() || check(name, "1").is_ok();
        assert!(known, "{name}");
        assert!(!REFUSED.iter().any(|(refused, _)| name == refused), "{name}");
        assert_eq!(canonical(name), *name);
    }
}

#[test]
fn what_the_promises_rest_on_is_refused_by_name() {
    for name in [
        "transactional.id",
        "isolation.level",
        "enable.idempotence",
        "enable.auto.commit",
        "acks",
        "linger.ms",
        "queue.buffering.max.ms",
        "batch.size",
        "partitioner",
        "auto.offset.reset",
        "group.protocol",
        "group.instance.id",
        "test.mock.num.brokers",
        "sasl.kerberos.principal",
        "client.dns.lookup",
        "ssl.engine.location",
    ] {
        let problem = check(name, "x").expect_err(name);
        assert!(problem.starts_with("cannot be set here: "), "{problem}");
    }
}

#[test]
fn an_unknown_setting_and_a_wrong_value_are_found_without_a_cluster() {
    assert!(check("fetch.wait.max.ms", "5").is_ok());
    assert!(check("fetch.wait.max.msec", "5").unwrap_err().contains("fetch.wait.max.ms"));
    let too_small = check("message.max.bytes", "50000").unwrap_err();
    assert!(too_small.contains("at least") && !too_small.ends_with('\n'), "{too_small}");
    let refused = check("message.max.bytes", "-5").unwrap_err();
    assert!(refused.contains("refused by librdkafka") && !refused.ends_with('\n'), "{refused:?}");
    assert!(check("fetch.wait.max.ms", "soon").unwrap_err().contains("refused by librdkafka"));
    assert!(check("compression.codec", "\0").is_err());
}

#[test]
fn settings_that_contradict_each_other_are_found_without_a_cluster() {
    assert_eq!(kafka(&[("fetch.wait.max.ms", "5"), ("session.timeout.ms", "30000")]).try_clients(), Ok(()));
    assert_eq!(kafka(&[("compression.codec", "zstd"), ("compression.level", "1")]).try_clients(), Ok(()));
    assert!(kafka(&[("compression.level", "1")]).try_clients().is_err(), "lz4 has no levels");
    assert!(kafka(&[("fetch.max.bytes", "1000"), ("message.max.bytes", "100000")]).try_clients().is_err());
    assert!(kafka(&[("session.timeout.ms", "600000")]).try_clients().is_err());
}

#[test]
fn the_users_settings_stand_over_our_defaults_and_under_the_promises() {
    let kafka = kafka(&[("compression.level", "7"), ("fetch.min.bytes", "9"), ("client.id", "mine")]);
    let producer = kafka.client_config_for(
        Role::Producer,
        &[("compression.level", "1"), ("compression.type", "lz4")],
        &[("acks", "all")],
    );
    assert_eq!(producer.get("compression.level"), Some("7"));
    assert_eq!(producer.get("compression.type"), None);
    assert_eq!(producer.get("compression.codec"), Some("lz4"));
    assert_eq!(producer.get("acks"), Some("all"));
    assert_eq!(producer.get("client.id"), Some("mine"));
    assert_eq!(producer.get("sasl.password"), Some("s3cret"));
    assert_eq!(producer.get("fetch.min.bytes"), None);
    let consumer = kafka.client_config_for(Role::Consumer, &[], &[]);
    assert_eq!((consumer.get("fetch.min.bytes"), consumer.get("compression.level")), (Some("9"), None));
}

#[test]
fn nothing_secret_is_printed() {
    let kafka = kafka(&[("ssl.key.password", "s3cret"), ("ssl.key.pem", "s3cret"), ("fetch.min.bytes", "7")]);
    let text = format!("{kafka:?} {:?}", kafka.sasl);
    assert!(!text.contains("s3cret") && text.contains("fetch.min.bytes"), "{text}");
}
