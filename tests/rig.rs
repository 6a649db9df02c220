//! The rig itself: what the other tests rely on.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Campaign, Database, Expected, PostgresServer, Security, Setting, Stage, sinks, wait_until};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn kcat_round_trips_a_record_over_sasl_ssl_with_scram() {
    let stage = Stage::new();
    let mut producer = stage.kafka.kcat(Security::SaslSsl);
    producer.args(["-P", "-K:", "-t", &stage.campaigns]).stdin(Stdio::piped());
    let mut producer = producer.spawn().unwrap();
    producer.stdin.take().unwrap().write_all(b"first_message:{\"time\": \"12:30\"}\n").unwrap();
    assert!(producer.wait().unwrap().success());

    let mut consumer = stage.kafka.kcat(Security::SaslSsl);
    consumer.args(["-C", "-q", "-e", "-o", "beginning", "-K:", "-t", &stage.campaigns]);
    let output = consumer.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "first_message:{\"time\": \"12:30\"}\n", "{errors}");
}

#[test]
fn kafka_refuses_a_wrong_password() {
    let stage = Stage::new();
    let mut kcat = stage.kafka.kcat(Security::SaslSsl);
    let output = kcat.args(["-X", "sasl.password=wrong", "-L", "-m", "5"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("uthentication"), "{output:?}");
}

#[test]
fn two_tests_get_databases_and_topics_apart() {
    let (one, other) = (Stage::new(), Stage::new());
    one.subscribers.load_sample_subscribers();
    one.send(&Campaign::sample());
    assert_eq!(one.subscribers.number("select count(*) from public.subscribers_restaurants"), 10);
    assert_eq!(other.subscribers.number("select count(*) from public.subscribers_restaurants"), 0);
    assert_eq!(one.kafka.read_topic(&one.campaigns).len(), 1);
    assert!(other.kafka.read_topic(&other.campaigns).is_empty());
    assert_ne!(one.group, other.group);
}

#[test]
fn the_reader_sees_committed_transactions_only_and_tells_open_ones() {
    let stage = Stage::new();
    let mut config = stage.kafka.client();
    let producer: BaseProducer = config.set("transactional.id", &stage.group).create().unwrap();
    producer.init_transactions(SOON).unwrap();
    let produce = |value: &str| {
        producer.begin_transaction().unwrap();
        let record = BaseRecord::<str, str>::to(&stage.notifications).partition(0).payload(value).key("k");
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(SOON).unwrap();
    };
    produce("kept");
    producer.commit_transaction(SOON).unwrap();
    produce("taken back");
    producer.abort_transaction(SOON).unwrap();
    produce("open");

    let values = || stage.messages().into_iter().filter_map(|message| message.value).collect::<Vec<_>>();
    assert_eq!(values(), ["kept"]);
    assert_eq!(stage.kafka.held_back(&stage.notifications), [0]);
    producer.commit_transaction(SOON).unwrap();
    wait_until("the transaction's end is written", SOON, || stage.kafka.held_back(&stage.notifications).is_empty());
    assert_eq!(values(), ["kept", "open"]);
}

#[test]
fn the_reader_gives_keys_headers_and_null_values() {
    let stage = Stage::new();
    let headers: [(&str, &[u8]); 2] = [("name", b"first"), ("name", b"last")];
    let place = stage.kafka.produce(&stage.notifications, Some(2), Some("k\u{e9}y".as_bytes()), None, &headers);
    let messages = stage.messages();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].partition, messages[0].offset), place);
    assert_eq!((messages[0].key.as_deref(), messages[0].value.as_deref()), (Some("k\u{e9}y"), None));
    assert_eq!(messages[0].header("name"), Some("last"));
}

#[test]
fn committed_offsets_are_read_with_their_metadata() {
    let stage = Stage::with(Setting { lanes: 3, ..Setting::default() });
    stage.kafka.commit(&stage.group, &stage.campaigns, 1, 42, "dinnerbell/1 x 7 0 0");
    let committed = stage.kafka.committed(&stage.group, &stage.campaigns);
    assert_eq!(committed.len(), 1);
    assert_eq!((committed[0].partition, committed[0].offset), (1, 42));
    assert_eq!(committed[0].metadata, "dinnerbell/1 x 7 0 0");
}

#[test]
fn a_comparison_tells_missing_double_and_unexpected_drafts_apart() {
    let stage = Stage::new();
    let campaign = Campaign::now("c", "r");
    let insert = |client: &str, formed: i64| {
        let Campaign { adv_campaign_datetime_start: start, adv_campaign_datetime_end: end, .. } = campaign;
        stage.feedback.execute(&format!(
            "insert into public.subscribers_feedback (restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner,
                 adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id,
                 trigger_datetime_created)
             values ('r', 'c', $${}$$, '{}', '{}', {start}, {end}, {}, '{client}', {formed})",
            campaign.adv_campaign_content,
            campaign.adv_campaign_owner,
            campaign.adv_campaign_owner_contact,
            campaign.datetime_created
        ));
    };
    insert("told", 1);
    insert("twice", 1);
    insert("twice", 2);
    insert("stranger", 1);
    let rows = sinks::rows(&stage.feedback);
    let report = Expected::from([(&campaign, ["told", "twice", "forgotten"])]).difference(&rows, &[]).unwrap();
    assert!(report.contains("missing in the feedback rows: 1"), "{report}");
    assert!(report.contains("more than once in the feedback rows: 1"), "{report}");
    assert!(report.contains("unexpected in the feedback rows: 1"), "{report}");
    assert!(report.contains("missing in the messages: 3"), "{report}");
    assert!(Expected::from([(&campaign, ["told"])]).difference(&rows[..1], &rows[..1]).is_none());
}

#[test]
fn postgres_takes_tls_with_the_private_ca_and_orders_otherwise_than_c() {
    let stage = Stage::new();
    let psql = crate::support::database::psql_command(&stage.postgres, &stage.feedback.name)
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", &stage.postgres.ca)
        .args(["--command", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&psql.stdout).trim(), "t", "{psql:?}");
    assert_eq!(stage.feedback.number("select ('a' < 'B')::int"), 1);
    assert_eq!(stage.feedback.number("select ('a' collate \"C\" < 'B')::int"), 0);
}

#[test]
fn private_servers_are_bounced_without_loss() {
    let stage = Stage::with(Setting { own_kafka: true, own_postgres: true, ..Setting::default() });
    stage.send(&Campaign::sample());
    stage.subscribers.load_sample_subscribers();
    stage.kafka.kill();
    stage.kafka.start();
    assert_eq!(stage.kafka.read_topic(&stage.campaigns).len(), 1);
    stage.postgres.kill();
    stage.postgres.start();
    assert_eq!(stage.subscribers.number("select count(*) from public.subscribers_restaurants"), 10);
    stage.kafka.freeze();
    stage.kafka.thaw();
    stage.postgres.freeze();
    stage.postgres.thaw();
    stage.postgres.stop();
    stage.postgres.start();
    stage.kafka.stop();
    stage.kafka.start();
    assert_eq!(stage.kafka.read_topic(&stage.campaigns).len(), 1);
    assert_eq!(stage.subscribers.number("select count(*) from public.subscribers_restaurants"), 10);
}

#[test]
fn a_database_is_gone_with_its_test() {
    let server = PostgresServer::shared();
    let name = Database::create(&server).name.clone();
    let witness = Database::create(&server);
    assert_eq!(witness.number(&format!("select count(*) from pg_database where datname = '{name}'")), 0);
}
