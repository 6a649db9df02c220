//! A connection breaks while the service waits for an answer. The request is still on its way, and reaches the broker in the middle of a later
//! transaction of the lane: of a producer that took the lane over since, so that the broker refuses it.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, Producer};

use crate::support::kafka_proxy::{END_TXN, PRODUCE, TXN_OFFSET_COMMIT};
use crate::support::{Campaign, Expected, KafkaProxy, Service, Setting, Stage, wait_until};

const LONG: Duration = Duration::from_secs(90);
const ROUND_ROWS: u64 = 1_000;

/// The service behind a proxy, its lane entered, and a campaign of so many rounds that is not sent yet.
fn behind_a_proxy(rounds: u64) -> (Stage, KafkaProxy, Service, Campaign, Expected) {
    let mut stage = Stage::new();
    let proxy = KafkaProxy::before(&stage.kafka.plaintext);
    stage.config.set("kafka", "bootstrap_servers", proxy.address.to_string());
    stage.config.set("fanout", "round_rows", i64::try_from(ROUND_ROWS).unwrap());
    stage.migrate();
    // The last page is a short one.
    stage.subscribers.subscribe("crowd", rounds * ROUND_ROWS - ROUND_ROWS / 2);
    let campaign = Campaign::now("two-for-one", "crowd");
    let expected = Expected::from([(&campaign, stage.subscribers.clients_of("crowd"))]);
    let service = stage.start();
    wait_until("the lane is entered", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.lane where published_seq = 0") == 1
    });
    (stage, proxy, service, campaign, expected)
}

/// Everybody was told once, though the request came late; what came then was refused.
fn assert_refused(
    stage: &Stage,
    proxy: &KafkaProxy,
    service: Service,
    expected: &Expected,
    error: impl Fn(&[u8]) -> i16,
) {
    stage.await_sinks(expected, LONG);
    assert!(proxy.has_held(), "no such request was sent");
    let answer = proxy.answer().expect("the request that was held up was sent at last, and answered");
    let log = service.stop();
    assert!(!log.contains("another instance took"), "{log}");
    stage.assert_sinks(expected);
    assert_ne!(error(&answer), 0, "the broker took it: {answer:?}");
}

#[test]
fn the_end_of_a_transaction_that_arrives_late_ends_no_later_one() {
    let (stage, proxy, service, campaign, expected) = behind_a_proxy(3);
    proxy.hold(END_TXN, 1, PRODUCE);
    stage.send(&campaign);
    // EndTxn, version 3 or later: number, no tags, throttle time, error.
    assert_refused(&stage, &proxy, service, &expected, |answer| i16::from_be_bytes([answer[9], answer[10]]));
}

#[test]
fn offsets_that_arrive_late_replace_none_of_a_later_transaction() {
    let (stage, proxy, service, campaign, expected) = behind_a_proxy(2);
    // The next end is of the takeover, which has an offset of its own aborted; behind it the round is published again.
    proxy.hold(TXN_OFFSET_COMMIT, 1, END_TXN);
    stage.send(&campaign);
    // TxnOffsetCommit, version 3 or later, with one partition: its error, and the empty tags of three levels.
    assert_refused(&stage, &proxy, service, &expected, |answer| {
        let error = answer.len() - 5;
        i16::from_be_bytes([answer[error], answer[error + 1]])
    });
}

#[test]
fn a_replay_whose_connection_broke_ends_with_its_batch_and_the_next_run_sends_the_rest_once() {
    let mut stage = Stage::with(Setting { lanes: 3, ..Setting::default() });
    stage.migrate();
    let service = stage.start();
    wait_until("the lanes are entered", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.lane where published_seq = 0") == 3
    });
    service.stop();
    // A batch is a hundred.
    stage.feedback.execute(
        "insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, key, value, header_names, header_values, reason)
         select 0, n % 3, n, convert_to('k' || n, 'UTF8'), '{}', '{}', '{}', 'it is wrong' from generate_series(1, 150) n",
    );
    let proxy = KafkaProxy::before(&stage.kafka.plaintext);
    stage.config.set("kafka", "bootstrap_servers", proxy.address.to_string());
    proxy.hold(END_TXN, 1, PRODUCE);
    let first = stage.dinnerbell(&["dead-letter", "replay", "--all"]);
    let said = String::from_utf8_lossy(&[first.stdout, first.stderr].concat()).into_owned();
    assert!(first.status.code() == Some(1) && said.contains("give the command again"), "{said}");
    assert_eq!(stage.kafka.read_topic(&stage.campaigns).len(), 100);
    stage.dinnerbell_ok(&["dead-letter", "replay", "--all"]);
    let mut keys: Vec<_> =
        stage.kafka.read_topic(&stage.campaigns).into_iter().filter_map(|record| record.key).collect();
    assert_eq!(keys.len(), 150);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 150, "none came twice");
    let answer = proxy.answer().expect("the request that was held up was sent at last, and answered");
    assert_ne!(i16::from_be_bytes([answer[8], answer[9]]), 0, "the broker took it: {answer:?}");
}

/// As the broker does it by itself with a transaction that lasts too long.
#[test]
fn a_producer_that_was_fenced_while_the_lane_is_still_ours_is_not_said_to_be_another_instances() {
    let stage = Stage::new();
    stage.migrate();
    stage.subscribers.subscribe("crowd", 10);
    let service = stage.start();
    wait_until("the lane is entered", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.lane where published_seq = 0") == 1
    });
    let id = format!("{}/{}/0", stage.group, stage.campaigns);
    let other: BaseProducer = stage.kafka.client().set("transactional.id", id).create().unwrap();
    other.init_transactions(LONG).unwrap();
    let campaign = Campaign::now("two-for-one", "crowd");
    stage.send(&campaign);
    stage.await_sinks(&Expected::from([(&campaign, stage.subscribers.clients_of("crowd"))]), LONG);
    let log = service.stop();
    assert!(log.contains("which is still ours"), "{log}");
    assert!(!log.contains("another instance took this lane over"), "{log}");
}
