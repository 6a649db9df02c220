use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::cluster::{Cluster, ClusterSettings};
use crate::connection::tests::to_nobody;
use crate::dial::Dial;
use crate::producer::Identity;
use crate::security::Security;

#[test]
fn numbers_of_records_begin_again_behind_the_largest() {
    assert_eq!(following(0, 5), 5);
    assert_eq!(following(i32::MAX, 1), 0);
    assert_eq!(following(i32::MAX - 1, 3), 1);
}

#[test]
fn an_answer_that_names_no_partition_is_no_consent() {
    let all = |codes: Vec<i16>| check_all("asking", "b:9092", 1, codes.into_iter().map(|code| (code, None)));
    assert!(all(vec![0]).is_ok());
    assert!(matches!(all(vec![]), Err(WireError::Unreadable { .. })));
    assert!(matches!(all(vec![0, 0]), Err(WireError::Unreadable { .. })));
    assert!(matches!(all(vec![6]), Err(WireError::Answered { .. })));
}

/// A transaction whose coordinators are at one address.
fn transaction(version: TransactionVersion, address: &str) -> Transaction {
    let cluster = Cluster::new(ClusterSettings {
        bootstrap: Vec::new(),
        client_id: "test".into(),
        security: Security::default(),
        longest_use: Duration::from_secs(60),
        most_idle: Duration::from_secs(60),
        dial: Dial::default(),
    });
    let producer = Producer {
        cluster,
        identity: Identity {
            transactional_id: "id".into(),
            group: "group".into(),
            transaction_time: Duration::from_secs(60),
        },
        coordinator: address.to_owned(),
        group_coordinator: address.to_owned(),
        told_by: [address.to_owned(), address.to_owned()],
        producer_id: 1,
        epoch: 0,
        version,
        sequences: HashMap::new(),
    };
    Transaction::new(producer, Instant::now() + Duration::from_secs(60))
}

#[tokio::test(start_paused = true)]
async fn whether_it_may_begin_is_asked_after_the_pause_of_a_quota() {
    for version in [TransactionVersion::One, TransactionVersion::Two] {
        let mut transaction = transaction(version, "b:9092");
        let mut throttled = to_nobody("b:9092");
        throttled.throttle(9_000);
        transaction.connections.insert("b:9092".into(), throttled);
        let began = Instant::now();
        let asked = AtomicU64::new(0);
        let commit = OffsetCommit { topic: "in".into(), partition: 0, offset: 1, metadata: String::new() };
        let may_begin = || {
            asked.store(began.elapsed().as_secs(), Ordering::Relaxed);
            false
        };
        assert!(!transaction.begin(&commit, &Vec::new(), &may_begin).await.unwrap());
        assert_eq!(asked.into_inner(), 9, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_pauses_longer_than_a_call_may_take_leaves_the_call_its_time() {
    let mut transaction = transaction(TransactionVersion::Two, "b:9092");
    let mut throttled = to_nobody("b:9092");
    throttled.throttle(25_000);
    transaction.connections.insert("b:9092".into(), throttled);
    let began = Instant::now();
    let until = transaction.unthrottled("b:9092").await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(25));
    assert_eq!(until - Instant::now(), CALL);
}
