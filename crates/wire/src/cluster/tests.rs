use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse, FinalizedFeatureKey};
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResponse, DescribeConfigsResult};
use kafka_protocol::messages::end_txn_response::EndTxnResponse;
use kafka_protocol::messages::find_coordinator_response::{Coordinator as Named, FindCoordinatorResponse};
use kafka_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseBroker, MetadataResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::producer::{Identity, Producer};
use crate::transaction::{GroupOffset, OffsetCommit, Transaction};

const SOON: Duration = Duration::from_millis(500);

/// What a broker says.
#[derive(Debug, Clone, Default)]
struct Says {
    silent: bool,
    brokers: Vec<String>,
    coordinator: String,
    topic_error: i16,
    settings_error: i16,
    initialise_error: i16,
    /// What becomes of an offset that it is sent.
    offset_error: i16,
}

/// The offset that every coordinator knows.
const COMMITTED: i64 = 41;

/// A broker that answers what it is told to.
struct Broker {
    address: String,
    says: Arc<Mutex<Says>>,
    connections: Arc<AtomicUsize>,
    serving: JoinSet<()>,
}

impl Broker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let says = Says { coordinator: address.clone(), brokers: vec![address.clone()], ..Says::default() };
        let (says, connections) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let mut serving = JoinSet::new();
        let (told, counted) = (Arc::clone(&says), Arc::clone(&connections));
        serving.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                clients.spawn(serve(client, Arc::clone(&told)));
            }
        });
        Self { address, says, connections, serving }
    }

    fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Its port refuses, and its connections break.
    async fn stop(&mut self) {
        self.serving.shutdown().await;
    }
}

async fn serve(mut client: TcpStream, says: Arc<Mutex<Says>>) {
    while let Ok(length) = client.read_i32().await {
        let mut request = vec![0; usize::try_from(length).unwrap()];
        client.read_exact(&mut request).await.unwrap();
        let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let (api, version) = (ApiKey::try_from(number(0)).unwrap(), number(2));
        let says = says.lock().unwrap().clone();
        if says.silent {
            continue;
        }
        let mut body = BytesMut::from(&request[4..8]);
        if api.response_header_version(version) > 0 {
            body.put_u8(0);
        }
        says.answer(api, version, &mut body);
        client.write_i32(i32::try_from(body.len()).unwrap()).await.unwrap();
        client.write_all(&body).await.unwrap();
    }
}

impl Says {
    fn answer(&self, api: ApiKey, version: i16, body: &mut BytesMut) {
        let coordinator = Named::default().with_host(host_of(&self.coordinator)).with_port(port_of(&self.coordinator));
        let encoded = match api {
            ApiKey::ApiVersions => versions().encode(body, version),
            ApiKey::DescribeConfigs => self.settings().encode(body, version),
            ApiKey::Metadata => self.metadata().encode(body, version),
            ApiKey::FindCoordinator => {
                FindCoordinatorResponse::default().with_coordinators(vec![coordinator]).encode(body, version)
            }
            ApiKey::InitProducerId => {
                InitProducerIdResponse::default().with_error_code(self.initialise_error).encode(body, version)
            }
            ApiKey::TxnOffsetCommit => self.offset_taken().encode(body, version),
            ApiKey::EndTxn => EndTxnResponse::default().encode(body, version),
            ApiKey::OffsetFetch => committed().encode(body, version),
            other => panic!("nobody asks for {other:?} here"),
        };
        encoded.unwrap();
    }

    fn settings(&self) -> DescribeConfigsResponse {
        let topic = DescribeConfigsResult::default()
            .with_resource_name(StrBytes::from_static_str("drafts"))
            .with_error_code(self.settings_error);
        DescribeConfigsResponse::default().with_results(vec![topic])
    }

    fn offset_taken(&self) -> TxnOffsetCommitResponse {
        let partition = TxnOffsetCommitResponsePartition::default().with_error_code(self.offset_error);
        let topic = TxnOffsetCommitResponseTopic::default().with_partitions(vec![partition]);
        TxnOffsetCommitResponse::default().with_topics(vec![topic])
    }

    fn metadata(&self) -> MetadataResponse {
        let broker = |(id, address): (i32, &String)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(host_of(address))
                .with_port(port_of(address))
        };
        let topic = MetadataResponseTopic::default()
            .with_name(Some(topic_name("drafts")))
            .with_topic_id(uuid::Uuid::from_u128(7))
            .with_error_code(self.topic_error);
        MetadataResponse::default()
            .with_brokers((0..).zip(&self.brokers).map(broker).collect())
            .with_topics(vec![topic])
    }
}

fn committed() -> OffsetFetchResponse {
    let partition = OffsetFetchResponsePartition::default().with_committed_offset(COMMITTED);
    let topic = OffsetFetchResponseTopic::default().with_partitions(vec![partition]);
    OffsetFetchResponse::default().with_topics(vec![topic])
}

fn versions() -> ApiVersionsResponse {
    let spoken = [
        (ApiKey::ApiVersions, 3),
        (ApiKey::DescribeConfigs, 4),
        (ApiKey::Metadata, 12),
        (ApiKey::FindCoordinator, 4),
        (ApiKey::InitProducerId, 4),
        (ApiKey::Produce, 12),
        (ApiKey::TxnOffsetCommit, 5),
        (ApiKey::OffsetFetch, 7),
        (ApiKey::EndTxn, 5),
    ];
    let transactions = FinalizedFeatureKey::default()
        .with_name(StrBytes::from_static_str("transaction.version"))
        .with_max_version_level(2);
    let known = spoken.map(|(api, most)| ApiVersion::default().with_api_key(api as i16).with_max_version(most));
    ApiVersionsResponse::default().with_api_keys(known.to_vec()).with_finalized_features(vec![transactions])
}

fn host_of(address: &str) -> StrBytes {
    StrBytes::from_string(address.split_once(':').unwrap().0.to_owned())
}

fn port_of(address: &str) -> i32 {
    address.split_once(':').unwrap().1.parse().unwrap()
}

fn cluster(named: &[&Broker]) -> Cluster {
    Cluster::new(ClusterSettings {
        bootstrap: named.iter().map(|broker| broker.address.clone()).collect(),
        client_id: "test".into(),
        security: Security::default(),
        longest_use: Duration::from_secs(60),
        most_idle: MOST_IDLE,
        dial: Dial::default(),
    })
}

fn identity() -> Identity {
    Identity { transactional_id: "id".into(), group: "group".into(), transaction_time: Duration::from_secs(60) }
}

fn within(time: Duration) -> Instant {
    Instant::now() + time
}

const ENOUGH: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_named_broker_that_is_silent_costs_a_second_once() {
    let (silent, well) = (Broker::start().await, Broker::start().await);
    silent.says(|says| says.silent = true);
    let cluster = cluster(&[&silent, &well]);
    // Were it waited for alone, it would take all of that.
    let found = cluster.coordinator(Coordinator::Transaction, "id", within(ASK)).await.unwrap();
    assert_eq!((found.address, found.told_by), (well.address.clone(), well.address.clone()));
    cluster.coordinator(Coordinator::Group, "group", within(SOON)).await.unwrap();
    assert_eq!(silent.connections(), 1, "who answered is asked first");
}

#[tokio::test]
async fn a_cluster_that_moved_is_found_by_its_name_though_all_former_brokers_are_silent() {
    let named = Broker::start().await;
    let former = [Broker::start().await, Broker::start().await, Broker::start().await];
    let all: Vec<String> = former.iter().map(|broker| broker.address.clone()).collect();
    named.says(|says| says.brokers = all);
    let cluster = cluster(&[&named]);
    cluster.topic("drafts", Duration::ZERO, within(ENOUGH)).await.unwrap();
    former.iter().for_each(|broker| broker.says(|says| says.silent = true));
    cluster.distrust([named.address.as_str()]);
    named.says(|says| says.brokers = vec![says.coordinator.clone()]);
    cluster.topic("drafts", Duration::ZERO, within(ENOUGH)).await.unwrap();
    cluster.topic("drafts", Duration::ZERO, within(SOON)).await.unwrap();
    assert_eq!(cluster.brokers().all(), std::slice::from_ref(&named.address));
}

#[tokio::test]
async fn a_broker_that_names_a_wrong_coordinator_is_not_asked_again_before_others() {
    let (cut_off, well) = (Broker::start().await, Broker::start().await);
    cut_off.says(|says| says.initialise_error = ResponseError::NotCoordinator.code());
    let cluster = cluster(&[&cut_off, &well]);
    let made = Producer::initialise(cluster.clone(), identity(), within(ENOUGH)).await.unwrap();
    assert_eq!(made.told_by(), [well.address.clone(), well.address.clone()]);
    assert_eq!(cluster.brokers().all(), [well.address.clone(), cut_off.address.clone()]);
}

/// What a coordinator answers is what it knew when it was cut off.
#[tokio::test]
async fn a_coordinator_that_can_take_no_offset_is_not_believed_what_was_committed() {
    let coordinator = Broker::start().await;
    let cluster = cluster(&[&coordinator]);
    let probe = OffsetCommit { topic: "in".into(), partition: 0, offset: 0, metadata: String::new() };
    let read = async || {
        let producer = Producer::initialise(cluster.clone(), identity(), within(ENOUGH)).await.unwrap();
        Transaction::new(producer, within(ENOUGH)).abort_for_group_offset(&probe).await.map(|(_, found)| found)
    };
    assert_eq!(read().await.unwrap(), Some(GroupOffset { offset: COMMITTED, metadata: String::new() }));
    coordinator.says(|says| says.offset_error = ResponseError::CoordinatorNotAvailable.code());
    let cut_off = read().await;
    let is_refused = cut_off.as_ref().is_err_and(|error| error.code() == Some(ResponseError::CoordinatorNotAvailable));
    assert!(is_refused, "{cut_off:?}");
}

#[tokio::test]
async fn a_question_that_nobody_answers_leaves_what_was_described_and_an_answer_does_not() {
    let broker = Broker::start().await;
    let cluster = cluster(&[&broker]);
    let described = cluster.topic("drafts", Duration::ZERO, within(ENOUGH)).await.unwrap();
    broker.says(|says| says.silent = true);
    let failed = cluster.topic("drafts", Duration::ZERO, within(SOON)).await;
    assert!(matches!(failed, Err(WireError::TimedOut { .. })), "{failed:?}");
    let stands = cluster.topic("drafts", Duration::from_secs(10), within(SOON)).await;
    assert_eq!(stands.unwrap(), described);
    assert_eq!(cluster.last_described("drafts"), Some(described));
    assert_eq!(cluster.described_by("drafts"), Some(broker.address.clone()));
    broker.says(|says| (says.silent, says.topic_error) = (false, ResponseError::UnknownTopicOrPartition.code()));
    let failed = cluster.topic("drafts", Duration::ZERO, within(ENOUGH)).await.unwrap_err();
    assert!(failed.is_unknown_topic(), "{failed}");
    assert_eq!(cluster.last_described("drafts"), None);
}

#[tokio::test]
async fn a_failure_answers_others_for_a_moment_and_nobody_who_wants_to_know_now() {
    let broker = Broker::start().await;
    broker.says(|says| says.topic_error = ResponseError::LeaderNotAvailable.code());
    let cluster = cluster(&[&broker]);
    let ten = Duration::from_secs(10);
    cluster.topic("drafts", ten, within(ENOUGH)).await.unwrap_err();
    broker.says(|says| says.topic_error = 0);
    cluster.topic("drafts", ten, within(ENOUGH)).await.unwrap_err();
    cluster.topic("drafts", Duration::ZERO, within(ENOUGH)).await.unwrap();
    cluster.topic("drafts", ten, within(ENOUGH)).await.unwrap();
}

#[tokio::test]
async fn only_a_right_that_is_missing_leaves_a_topics_settings_unread() {
    let broker = Broker::start().await;
    let cluster = cluster(&[&broker]);
    let read = async |names: &[&str], time| cluster.settings_of(names, within(time)).await;
    assert!(read(&["drafts"], ENOUGH).await.unwrap().contains_key("drafts"));
    assert!(read(&["drafts", "letters"], ENOUGH).await.is_err(), "nothing was said of the second one");
    broker.says(|says| says.settings_error = ResponseError::TopicAuthorizationFailed.code());
    assert!(read(&["drafts"], ENOUGH).await.unwrap().is_empty());
    broker.says(|says| says.settings_error = ResponseError::NotController.code());
    assert!(read(&["drafts"], ENOUGH).await.is_err());
    broker.says(|says| (says.silent, says.settings_error) = (true, 0));
    let silence = read(&["drafts"], SOON).await;
    assert!(matches!(silence, Err(WireError::TimedOut { .. })), "{silence:?}");
}

#[tokio::test]
async fn nobody_waits_for_somebody_elses_question_longer_than_for_an_own_one() {
    let broker = Broker::start().await;
    broker.says(|says| says.silent = true);
    let cluster = cluster(&[&broker]);
    let began = Instant::now();
    let slow = cluster.topic("drafts", Duration::ZERO, within(Duration::from_secs(60)));
    let short = async {
        let answer = cluster.topic("drafts", Duration::ZERO, within(SOON)).await;
        (answer, began.elapsed())
    };
    let (slow, (answer, took)) = tokio::join!(slow, short);
    assert!(slow.is_err() && answer.is_err());
    assert!(took < 2 * SOON, "{took:?}");
}

#[tokio::test]
async fn connections_to_brokers_that_left_are_not_kept() {
    let (stays, leaves) = (Broker::start().await, Broker::start().await);
    let all = vec![stays.address.clone(), leaves.address.clone()];
    stays.says(|says| says.brokers = all);
    let cluster = cluster(&[&stays]);
    cluster.topic("drafts", Duration::ZERO, within(ENOUGH)).await.unwrap();
    let lent = cluster.connection(&leaves.address, within(ENOUGH)).await.unwrap();
    cluster.give_back(lent);
    assert_eq!(cluster.shared.pool.len(), 2);
    stays.says(|says| says.brokers = vec![says.coordinator.clone()]);
    cluster.topic("drafts", Duration::ZERO, within(ENOUGH)).await.unwrap();
    // The answer itself came over a connection that is kept.
    assert_eq!(cluster.shared.pool.len(), 1);
}

#[tokio::test]
async fn where_a_broker_cannot_be_reached_nothing_that_leads_to_it_is_kept() {
    let mut broker = Broker::start().await;
    let cluster = cluster(&[&broker]);
    let first = cluster.connection(&broker.address, within(ENOUGH)).await.unwrap();
    let second = cluster.connection(&broker.address, within(ENOUGH)).await.unwrap();
    cluster.give_back(first);
    cluster.give_back(second);
    assert_eq!(cluster.shared.pool.len(), 2);
    broker.stop().await;
    cluster.connection(&broker.address, within(ENOUGH)).await.unwrap_err();
    assert_eq!(cluster.shared.pool.len(), 0);
}

#[tokio::test]
async fn what_comes_back_from_a_broker_while_it_cannot_be_reached_is_not_kept() {
    let broker = Broker::start().await;
    let cluster = cluster(&[&broker]);
    let lent = cluster.connection(&broker.address, within(ENOUGH)).await.unwrap();
    broker.says(|says| says.silent = true);
    let opening = cluster.connection(&broker.address, within(SOON));
    let (failed, ()) = tokio::join!(opening, async { cluster.give_back(lent) });
    failed.unwrap_err();
    assert_eq!(cluster.shared.pool.len(), 0);
}

#[tokio::test]
async fn a_connection_that_waits_for_an_answer_is_not_kept() {
    let cluster = cluster(&[]);
    let mut connection = crate::connection::tests::to_nobody("b:9092");
    connection.queue("asking", &FindCoordinatorRequest::default(), 1).unwrap();
    cluster.give_back(connection);
    assert_eq!(cluster.shared.pool.len(), 0);
}

#[test]
fn an_ipv6_address_stands_in_brackets() {
    assert_eq!([address_of("kafka", 9092), address_of("::1", 9092)], ["kafka:9092", "[::1]:9092"]);
}

#[test]
fn a_refusal_counts_only_where_every_broker_refuses() {
    let refusal = || WireError::Refused { doing: "logging in", address: "a:1".into(), reason: "no".into() };
    let away = || WireError::Broken { doing: "connecting", address: "b:1".into(), reason: "refused".into() };
    assert!(what_failed("asking", vec![refusal(), refusal()]).is_refusal());
    let mixed = what_failed("asking", vec![refusal(), away()]);
    assert!(!mixed.is_refusal() && mixed.to_string().contains("no; and no other broker answers"), "{mixed}");
    assert!(!what_failed("asking", vec![away()]).is_refusal());
}
