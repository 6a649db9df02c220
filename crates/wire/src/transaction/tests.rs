use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::batch::BatchBuilder;
use crate::cluster::{Cluster, ClusterSettings};
use crate::compression::Compression;
use crate::connection::tests::{speaking_produce, to, to_nobody};
use crate::dial::Dial;
use crate::producer::Identity;
use crate::record::Record;
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

#[test]
fn records_go_to_an_id_only_where_the_transactions_and_the_broker_allow_that() {
    let target = |id| Target { name: "out".into(), id };
    let version = |transactions, last, id| produce_version(transactions, &speaking_produce(3, last), &target(id)).ok();
    let (one, two, id) = (TransactionVersion::One, TransactionVersion::Two, Some(Uuid::from_u128(1)));
    assert_eq!([version(one, 13, id), version(one, 9, None)], [Some(11), Some(9)]);
    assert_eq!([version(two, 13, None), version(two, 13, id), version(two, 12, id)], [Some(12), Some(13), Some(12)]);
    assert_eq!(version(two, 11, id), None, "a record of such a transaction adds its partition");
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

/// Answers every offset with this code.
async fn answer_offsets_with(mut far: tokio::io::DuplexStream, code: ResponseError) {
    loop {
        let length = usize::try_from(far.read_i32().await.unwrap()).unwrap();
        let mut request = vec![0; length];
        far.read_exact(&mut request).await.unwrap();
        let partition = TxnOffsetCommitResponsePartition::default().with_error_code(code.code());
        let topic = TxnOffsetCommitResponseTopic::default().with_partitions(vec![partition]);
        let mut answer = BytesMut::from(&request[4..8]);
        answer.put_u8(0);
        TxnOffsetCommitResponse::default().with_topics(vec![topic]).encode(&mut answer, 5).unwrap();
        far.write_i32(i32::try_from(answer.len()).unwrap()).await.unwrap();
        far.write_all(&answer).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_never_ready_has_no_more_time_than_a_call() {
    let mut transaction = transaction(TransactionVersion::Two, "b:9092");
    let spoken = ApiVersion::default().with_api_key(ApiKey::TxnOffsetCommit as i16).with_max_version(5);
    let (connection, far) = to("b:9092", ApiVersionsResponse::default().with_api_keys(vec![spoken]));
    transaction.connections.insert("b:9092".into(), connection);
    let commit = OffsetCommit { topic: "in".into(), partition: 0, offset: 1, metadata: String::new() };
    let (partitions, may_begin, began) = (Vec::new(), || true, Instant::now());
    let failed = tokio::select! {
        failed = transaction.begin(&commit, &partitions, &may_begin) => failed.unwrap_err(),
        () = answer_offsets_with(far, ResponseError::ConcurrentTransactions) => unreachable!("it answers for ever"),
    };
    // Its last answer, or none: the last request may have had no time left.
    let told = failed.code() == Some(ResponseError::ConcurrentTransactions);
    assert!(told || matches!(failed, WireError::TimedOut { .. }), "{failed}");
    let took = began.elapsed();
    assert!(took <= CALL && took > CALL - 2 * MARKERS_MOST, "{took:?}");
}

/// Answers requests with these codes of their partitions in turn. Returns what came, but for the numbers of the requests.
async fn answer_with(mut far: tokio::io::DuplexStream, answers: &[&[(i32, i16)]]) -> Vec<Vec<u8>> {
    let mut came = Vec::new();
    for codes in answers {
        let length = usize::try_from(far.read_i32().await.unwrap()).unwrap();
        let mut request = vec![0; length];
        far.read_exact(&mut request).await.unwrap();
        let partition =
            |(index, code): &(i32, i16)| PartitionProduceResponse::default().with_index(*index).with_error_code(*code);
        let topic = TopicProduceResponse::default().with_partition_responses(codes.iter().map(partition).collect());
        let mut answer = BytesMut::from(&request[4..8]);
        answer.put_u8(0);
        ProduceResponse::default().with_responses(vec![topic]).encode(&mut answer, 12).unwrap();
        far.write_i32(i32::try_from(answer.len()).unwrap()).await.unwrap();
        far.write_all(&answer).await.unwrap();
        came.push(request.split_off(8));
    }
    came
}

fn batch(partition: u32, value: &[u8]) -> PartitionBatch {
    let mut builder = BatchBuilder::new(10_000);
    assert!(builder.push(&Record { key: None, value: Some(value), headers: &[] }, &mut Vec::new()));
    PartitionBatch { partition, batch: builder.build(Compression::None, 0).unwrap().unwrap() }
}

/// Sends these requests to a broker that answers so. Returns what came there, and how it ended.
async fn sent_to(
    requests: Vec<Vec<PartitionBatch>>,
    answers: &[&[(i32, i16)]],
) -> (Vec<Vec<u8>>, Result<(), WireError>) {
    let mut transaction = transaction(TransactionVersion::Two, "c:9092");
    let produce = ApiVersion::default().with_api_key(ApiKey::Produce as i16).with_min_version(3).with_max_version(12);
    let (connection, far) = to("b:9092", ApiVersionsResponse::default().with_api_keys(vec![produce]));
    transaction.connections.insert("b:9092".into(), connection);
    let target = Target { name: "out".into(), id: None };
    let sent = async {
        for batches in requests {
            transaction.send_batches(&target, "b:9092", batches).await?;
        }
        transaction.acknowledged().await
    };
    tokio::join!(answer_with(far, answers), sent)
}

fn holds(request: &[u8], value: &[u8]) -> bool {
    request.windows(value.len()).any(|window| window == value)
}

const COME_BACK: i16 = 51;
const NOT_LEADER: i16 = 6;
const NOT_ATTEMPTED: i16 = 55;

#[tokio::test]
async fn the_first_batch_of_a_partition_that_is_told_to_come_back_is_sent_again_before_any_other_of_it() {
    let requests = vec![vec![batch(0, b"first")], vec![batch(0, b"second")]];
    let (came, sent) = sent_to(requests, &[&[(0, COME_BACK)], &[(0, COME_BACK)], &[(0, 0)], &[(0, 0)]]).await;
    sent.unwrap();
    assert!(came[0] == came[1] && came[1] == came[2], "the same, until it is taken");
    assert!(holds(&came[2], b"first") && holds(&came[3], b"second"), "and the second one then");
}

#[tokio::test]
async fn of_a_request_only_the_batches_are_sent_again_that_are_told_to_come_back() {
    let requests = vec![vec![batch(0, b"zero"), batch(1, b"one"), batch(2, b"two")], vec![batch(1, b"next")]];
    let (came, sent) = sent_to(
        requests,
        &[&[(0, 0), (1, COME_BACK), (2, COME_BACK)], &[(1, COME_BACK), (2, 0)], &[(1, 0)], &[(1, 0)]],
    )
    .await;
    sent.unwrap();
    let held = |place: usize| ["zero", "one", "two", "next"].map(|value| holds(&came[place], value.as_bytes()));
    assert_eq!(held(0), [true, true, true, false]);
    assert_eq!(held(1), [false, true, true, false], "zero is written already");
    assert_eq!(held(2), [false, true, false, false]);
    assert_eq!(held(3), [false, false, false, true]);
}

#[tokio::test]
async fn a_refusal_of_one_batch_ends_the_transaction_though_the_others_are_told_to_come_back() {
    let answers: &[&[(i32, i16)]] = &[&[(0, COME_BACK), (1, NOT_LEADER)]];
    let (_, sent) = sent_to(vec![vec![batch(0, b"zero"), batch(1, b"one")]], answers).await;
    assert_eq!(sent.unwrap_err().code(), Some(ResponseError::NotLeaderOrFollower));
}

#[tokio::test]
async fn a_further_batch_never_comes_back() {
    let further = vec![vec![batch(0, b"first")], vec![batch(0, b"second")]];
    let (_, sent) = sent_to(further, &[&[(0, 0)], &[(0, COME_BACK)]]).await;
    assert_eq!(sent.unwrap_err().code(), Some(ResponseError::ConcurrentTransactions));
    let beside_a_first_one = vec![vec![batch(0, b"first")], vec![batch(0, b"second"), batch(1, b"one")]];
    let (_, sent) = sent_to(beside_a_first_one, &[&[(0, 0)], &[(0, COME_BACK), (1, 0)]]).await;
    assert_eq!(sent.unwrap_err().code(), Some(ResponseError::ConcurrentTransactions));
}

#[tokio::test]
async fn an_answer_that_is_not_about_each_partition_once_is_no_consent() {
    let first = || vec![batch(0, b"zero"), batch(1, b"one")];
    let answers: [&[(i32, i16)]; 4] = [&[(0, 0)], &[(0, 0), (0, 0)], &[(0, 0), (7, 0)], &[(0, 0), (1, 0), (2, 0)]];
    for answer in answers {
        let (_, sent) = sent_to(vec![first()], &[answer]).await;
        assert!(matches!(sent, Err(WireError::Unreadable { .. })), "{answer:?} {sent:?}");
        let (_, sent) = sent_to(vec![first(), first()], &[&[(0, 0), (1, 0)], answer]).await;
        assert!(matches!(sent, Err(WireError::Unreadable { .. })), "further ones: {answer:?} {sent:?}");
    }
}

#[tokio::test]
async fn a_batch_that_was_not_attempted_hides_no_reason() {
    let (_, sent) =
        sent_to(vec![vec![batch(0, b"zero"), batch(1, b"one")]], &[&[(0, NOT_ATTEMPTED), (1, NOT_LEADER)]]).await;
    assert_eq!(sent.unwrap_err().code(), Some(ResponseError::NotLeaderOrFollower));
}
