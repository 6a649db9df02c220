//! A lane's transactional producer: one transaction at a time, and after any doubt none.
//!
//! Nothing is sent twice within a transaction, but for the first request of one, which the broker refuses while it still writes the markers of the
//! last ([`ResponseError::ConcurrentTransactions`]). Any other error, a broken connection and a time-out end the producer: the lane
//! is taken over again, which fences whatever is still on its way.
//!
//! With `transaction.version` 2 (KIP-890) the epoch rises with each transaction, so that a late request of an earlier one is refused. Brokers without
//! it get AddPartitionsToTxn and AddOffsetsToTxn first.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use kafka_protocol::messages::end_txn_request::EndTxnRequest;
use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, sleep_until};

use crate::batch::{Batch, Sequence};
use crate::cluster::{Cluster, Coordinator, topic_name};
use crate::connection::Connection;
use crate::error::{WireError, check};

/// How long the first request of a transaction waits before it is sent again, while the markers of the last one are written: at first, and at most.
const MARKERS_FIRST: Duration = Duration::from_micros(500);
const MARKERS_MOST: Duration = Duration::from_millis(20);
/// How long a coordinator that loads is waited for between two questions: at first, and at most.
const LOADING_FIRST: Duration = Duration::from_millis(20);
const LOADING_MOST: Duration = Duration::from_millis(500);
/// How long one transactional call may take.
const CALL: Duration = Duration::from_secs(10);
/// Most requests with records that are under way to one broker: it checks the order of the last five.
const MOST_IN_FLIGHT: usize = 5;

/// How a cluster does transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionVersion {
    /// Partitions are added by requests of their own.
    One,
    /// Partitions are added by the first record that comes, and the epoch rises with each transaction (KIP-890).
    Two,
}

/// Who a producer is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its transactional id: of a lane.
    pub transactional_id: String,
    /// The group whose offsets it commits.
    pub group: String,
    /// How long a transaction may be open before the broker aborts it.
    pub transaction_time: Duration,
}

/// A producer that may begin a transaction.
#[derive(Debug)]
pub struct Producer {
    cluster: Cluster,
    identity: Identity,
    coordinator: String,
    group_coordinator: String,
    producer_id: i64,
    epoch: i16,
    version: TransactionVersion,
    /// The number of the next record of each partition, since the epoch began.
    sequences: HashMap<(String, i32), i32>,
}

/// The lane's offset with the round's mark.
#[derive(Debug, Clone)]
pub struct OffsetCommit {
    /// The topic that was read.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// The mark.
    pub metadata: String,
}

impl Producer {
    /// Takes the transactional id over: what a former producer left open is aborted, and that producer fenced, when this returns. A coordinator
    /// that loads or moves is asked again until the deadline.
    pub async fn initialise(cluster: Cluster, identity: Identity, deadline: Instant) -> Result<Self, WireError> {
        let mut pause = Backoff::new(LOADING_FIRST, LOADING_MOST);
        loop {
            match Self::initialise_once(&cluster, &identity, deadline).await {
                Err(error) if passes_soon(&error) && pause.wait(deadline).await => {}
                other => return other,
            }
        }
    }

    async fn initialise_once(cluster: &Cluster, identity: &Identity, deadline: Instant) -> Result<Self, WireError> {
        const DOING: &str = "taking the lane's transactional id over";
        let coordinator = cluster.coordinator(Coordinator::Transaction, &identity.transactional_id, deadline).await?;
        let group_coordinator = cluster.coordinator(Coordinator::Group, &identity.group, deadline).await?;
        let mut connection = cluster.connection(&coordinator, deadline).await?;
        let millis = i32::try_from(identity.transaction_time.as_millis()).unwrap_or(i32::MAX);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(identity)))
            .with_transaction_timeout_ms(millis)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = connection.ask(DOING, &request, 5, deadline).await?;
        check(DOING, &coordinator, answer.error_code, None)?;
        connection.throttle(answer.throttle_time_ms);
        let version = match connection.feature("transaction.version") {
            2.. => TransactionVersion::Two,
            _ => TransactionVersion::One,
        };
        cluster.give_back(connection);
        Ok(Self {
            cluster: cluster.clone(),
            identity: identity.clone(),
            coordinator,
            group_coordinator,
            producer_id: answer.producer_id.0,
            epoch: answer.producer_epoch,
            version,
            sequences: HashMap::new(),
        })
    }

    /// How the cluster does transactions.
    pub fn version(&self) -> TransactionVersion {
        self.version
    }

    /// Begins a transaction; nothing is sent yet. `partitions` are those that will be written to, by topic: brokers without KIP-890 must know
    /// them first.
    pub fn begin(self, partitions: Vec<(String, Vec<i32>)>, deadline: Instant) -> Transaction {
        Transaction { producer: self, partitions, deadline, connections: HashMap::new() }
    }
}

/// An open transaction. Dropped, it ends the producer, and the broker aborts it when the id is taken over or its time is over.
#[derive(Debug)]
pub struct Transaction {
    producer: Producer,
    partitions: Vec<(String, Vec<i32>)>,
    deadline: Instant,
    connections: HashMap<String, Connection>,
}

impl Transaction {
    /// Commits the lane's offset with the transaction. It comes first: it is refused at once while the markers of the last transaction are being written, and
    /// asked again.
    pub async fn commit_offset(&mut self, commit: &OffsetCommit) -> Result<(), WireError> {
        if self.producer.version == TransactionVersion::One {
            self.add_partitions().await?;
        }
        let mut pause = Backoff::new(MARKERS_FIRST, MARKERS_MOST);
        let until = self.call_deadline();
        loop {
            match self.commit_offset_once(commit, until).await {
                Err(error) if writes_markers(&error) && pause.wait(until).await => {}
                other => return other,
            }
        }
    }

    async fn commit_offset_once(&mut self, commit: &OffsetCommit, until: Instant) -> Result<(), WireError> {
        const DOING: &str = "sending the lane's offset";
        let Producer { identity, producer_id, epoch, version, group_coordinator, .. } = &self.producer;
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(commit.partition)
            .with_committed_offset(commit.offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::from_string(commit.metadata.clone())));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(&commit.topic))
            .with_partitions(vec![partition]);
        // The group's generation is never sent: it would abort rounds of lanes that did not move.
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id(identity))
            .with_group_id(GroupId(StrBytes::from_string(identity.group.clone())))
            .with_producer_id(ProducerId(*producer_id))
            .with_producer_epoch(*epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        let (least, most) = match version {
            TransactionVersion::One => (3, 4),
            TransactionVersion::Two => (5, 5),
        };
        let address = group_coordinator.clone();
        let connection = self.connection(&address, until).await?;
        let spoken = connection.version::<TxnOffsetCommitRequest>(DOING, least, most)?;
        let answer = connection.ask_version(DOING, &request, spoken, until).await?;
        connection.throttle(answer.throttle_time_ms);
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            check(DOING, &address, partition.error_code, None)?;
        }
        Ok(())
    }

    /// Names partitions and the group to the coordinator, in one round trip.
    async fn add_partitions(&mut self) -> Result<(), WireError> {
        let mut pause = Backoff::new(2 * MARKERS_FIRST, MARKERS_MOST);
        let until = self.call_deadline();
        loop {
            match self.add_partitions_once(until).await {
                Err(error) if writes_markers(&error) && pause.wait(until).await => {}
                other => return other,
            }
        }
    }

    async fn add_partitions_once(&mut self, until: Instant) -> Result<(), WireError> {
        const ADDING: &str = "adding partitions to a transaction";
        const OFFSETS: &str = "adding the group to a transaction";
        let Producer { identity, producer_id, epoch, coordinator, .. } = &self.producer;
        let topic = |(name, partitions): &(String, Vec<i32>)| {
            AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(partitions.clone())
        };
        let partitions = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(identity))
            .with_v3_and_below_producer_id(ProducerId(*producer_id))
            .with_v3_and_below_producer_epoch(*epoch)
            .with_v3_and_below_topics(self.partitions.iter().map(topic).collect());
        let group = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id(identity))
            .with_producer_id(ProducerId(*producer_id))
            .with_producer_epoch(*epoch)
            .with_group_id(GroupId(StrBytes::from_string(identity.group.clone())));
        let address = coordinator.clone();
        let names_some = !self.partitions.is_empty();
        let connection = self.connection(&address, until).await?;
        if names_some {
            let version = connection.version::<AddPartitionsToTxnRequest>(ADDING, 0, 3)?;
            connection.queue(ADDING, &partitions, version)?;
        }
        let version = connection.version::<AddOffsetsToTxnRequest>(OFFSETS, 0, 3)?;
        connection.send(OFFSETS, &group, version, until).await?;
        // Both answers are taken before either is judged: the connection goes on.
        let added = match names_some {
            true => Some(connection.answer::<AddPartitionsToTxnRequest>(until).await?),
            false => None,
        };
        let answer = connection.answer::<AddOffsetsToTxnRequest>(until).await?;
        connection.throttle(answer.throttle_time_ms);
        let added = added.iter().flat_map(|added| &added.results_by_topic_v3_and_below);
        for partition in added.flat_map(|topic| &topic.results_by_partition) {
            check(ADDING, &address, partition.partition_error_code, None)?;
        }
        check(OFFSETS, &address, answer.error_code, None)
    }

    /// Sends batches of one topic, each with the partition and its leader, and waits until all are acknowledged by all replicas in sync. They go
    /// out while earlier ones are on their way: five to each broker at most.
    pub async fn produce(
        &mut self,
        topic: &str,
        batches: impl IntoIterator<Item = (i32, String, Batch)>,
    ) -> Result<(), WireError> {
        for (partition, leader, batch) in batches {
            self.send_batch(topic, partition, &leader, batch).await?;
        }
        self.acknowledged().await
    }

    /// Sends one batch; its acknowledgement is awaited by a later one, or by [`Self::acknowledged`].
    pub async fn send_batch(
        &mut self,
        topic: &str,
        partition: i32,
        leader: &str,
        batch: Batch,
    ) -> Result<(), WireError> {
        const DOING: &str = "sending messages";
        let count = batch.count();
        let next = self.producer.sequences.entry((topic.to_owned(), partition)).or_default();
        let first = *next;
        *next = following(first, count);
        let sealed =
            batch.seal(Sequence { producer_id: self.producer.producer_id, producer_epoch: self.producer.epoch, first });
        let request = self.produce_request(topic, partition, sealed);
        let (least, most) = match self.producer.version {
            TransactionVersion::One => (3, 11),
            TransactionVersion::Two => (12, 12),
        };
        let until = self.deadline;
        let connection = self.connection(leader, until).await?;
        let version = connection.version::<ProduceRequest>(DOING, least, most)?;
        connection.queue(DOING, &request, version)?;
        if connection.is_full() || connection.pending() >= MOST_IN_FLIGHT {
            connection.flush(until).await?;
        }
        while connection.pending() >= MOST_IN_FLIGHT {
            acknowledged(connection, until).await?;
        }
        Ok(())
    }

    fn produce_request(&self, topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
        ProduceRequest::default()
            .with_transactional_id(Some(transactional_id(&self.producer.identity)))
            .with_acks(-1)
            .with_timeout_ms(i32::try_from(left.as_millis()).unwrap_or(i32::MAX))
            .with_topic_data(vec![topic])
    }

    /// Waits until everything that was sent is acknowledged.
    pub async fn acknowledged(&mut self) -> Result<(), WireError> {
        let until = self.deadline;
        for connection in self.connections.values_mut() {
            connection.flush(until).await?;
        }
        for connection in self.connections.values_mut() {
            while connection.pending() > 0 {
                acknowledged(connection, until).await?;
            }
        }
        Ok(())
    }

    /// Commits. Returns the producer for the next transaction.
    pub async fn commit(mut self) -> Result<Producer, WireError> {
        const DOING: &str = "committing a transaction";
        let until = self.call_deadline();
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&self.producer.identity))
            .with_producer_id(ProducerId(self.producer.producer_id))
            .with_producer_epoch(self.producer.epoch)
            .with_committed(true);
        let version = self.producer.version;
        let (least, most) = match version {
            TransactionVersion::One => (0, 4),
            TransactionVersion::Two => (5, 5),
        };
        let address = self.producer.coordinator.clone();
        let connection = self.connection(&address, until).await?;
        let spoken = connection.version::<EndTxnRequest>(DOING, least, most)?;
        let answer = connection.ask_version(DOING, &request, spoken, until).await?;
        connection.throttle(answer.throttle_time_ms);
        check(DOING, &address, answer.error_code, None)?;
        let Self { mut producer, connections, .. } = self;
        if version == TransactionVersion::Two {
            producer.producer_id = answer.producer_id.0;
            producer.epoch = answer.producer_epoch;
            producer.sequences.clear();
        }
        connections.into_values().for_each(|connection| producer.cluster.give_back(connection));
        Ok(producer)
    }

    /// The connection to a broker, lent for the transaction.
    async fn connection(&mut self, address: &str, until: Instant) -> Result<&mut Connection, WireError> {
        if !self.connections.contains_key(address) {
            let connection = self.producer.cluster.connection(address, until).await?;
            self.connections.insert(address.to_owned(), connection);
        }
        Ok(self.connections.get_mut(address).expect("it was put there above"))
    }

    fn call_deadline(&self) -> Instant {
        self.deadline.min(Instant::now() + CALL)
    }
}

/// Takes the oldest acknowledgement of a connection.
async fn acknowledged(connection: &mut Connection, until: Instant) -> Result<(), WireError> {
    let answer = connection.answer::<ProduceRequest>(until).await?;
    connection.throttle(answer.throttle_time_ms);
    for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
        check("sending messages", connection.address(), partition.error_code, partition.error_message.as_deref())?;
    }
    Ok(())
}

/// The number of the record after so many: they begin again at zero after the largest.
fn following(first: i32, count: i32) -> i32 {
    let next = i64::from(first) + i64::from(count);
    i32::try_from(next % (i64::from(i32::MAX) + 1)).expect("a remainder of 2^31 is smaller than 2^31")
}

fn transactional_id(identity: &Identity) -> TransactionalId {
    TransactionalId(StrBytes::from_string(identity.transactional_id.clone()))
}

/// Whether the broker still writes the markers of the last transaction.
fn writes_markers(error: &WireError) -> bool {
    error.code() == Some(ResponseError::ConcurrentTransactions)
}

/// Whether a coordinator is only not there yet: nothing was changed by the question.
fn passes_soon(error: &WireError) -> bool {
    use ResponseError::{ConcurrentTransactions, CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    error.code().is_some_and(|code| {
        matches!(code, ConcurrentTransactions | CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
    })
}

/// A pause that doubles.
struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// Waits, unless the deadline would pass meanwhile. Returns whether it waited.
    async fn wait(&mut self, deadline: Instant) -> bool {
        let until = Instant::now() + self.next;
        if until >= deadline {
            return false;
        }
        self.next = self.most.min(2 * self.next);
        sleep_until(until).await;
        true
    }
}
