//! An open transaction: the lane's offset first, then records, then its end.
//!
//! Nothing is sent twice within a transaction, but for what the brokers refuse, having changed nothing, with the word to come back
//! ([`ResponseError::ConcurrentTransactions`]): its first request, while the markers of the last one are written, and the first batch of a partition,
//! while another one is added. Whatever else fails ends the transaction and its producer.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::end_txn_request::EndTxnRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, ProducerId};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use uuid::Uuid;

use crate::batch::Sequence;
use crate::cluster::topic_name;
use crate::connection::Connection;
use crate::error::{WireError, check};
use crate::producer::{Producer, TransactionVersion, transactional_id};
use crate::retry_delay::RetryDelay;
use crate::round::PartitionBatch;

mod grouping;
mod in_flight;
mod leaders;
mod members;
mod offsets;

pub use grouping::{BrokerBatches, by_broker};
use in_flight::{BatchRequest, Sent};
use leaders::while_it_leads;
pub use offsets::GroupOffset;

/// How long the first request of a transaction waits before it is sent again, while the markers of the last one are written: at first, and at most.
const MARKERS_FIRST: Duration = Duration::from_micros(500);
const MARKERS_MOST: Duration = Duration::from_millis(20);
/// How long one transactional call may take.
const CALL: Duration = Duration::from_secs(10);
/// Most requests with records that are under way to one broker: it checks the order of the last five.
const MOST_IN_FLIGHT: usize = 5;

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

/// A topic that is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its id (KIP-516). Where the broker takes ids, records go to the topic of this id and to no other one of that name.
    pub id: Option<Uuid>,
}

/// Partitions of topics, by the names of the topics.
pub type Partitions = Vec<(String, Vec<i32>)>;

/// An open transaction. Dropped, it ends the producer, and the broker aborts it when the id is taken over or its time is over.
#[derive(Debug)]
pub struct Transaction {
    producer: Producer,
    deadline: Instant,
    connections: HashMap<String, Connection>,
    /// What each broker was sent that leads something.
    sent: BTreeMap<String, Sent>,
}

impl Transaction {
    /// One that is to be over by the deadline; nothing is sent yet.
    pub fn new(producer: Producer, deadline: Instant) -> Self {
        Self { producer, deadline, connections: HashMap::new(), sent: BTreeMap::new() }
    }

    /// Connects to the coordinators and to these brokers, so that nothing is to be connected to once the transaction has begun.
    pub async fn reach(&mut self, leaders: impl IntoIterator<Item = &str>) -> Result<(), WireError> {
        let until = self.call_deadline();
        for coordinator in [self.producer.coordinator.clone(), self.producer.group_coordinator.clone()] {
            self.connection(&coordinator, until).await?;
        }
        for leader in leaders {
            self.connection(leader, until).await?;
        }
        Ok(())
    }

    /// Begins it with the lane's offset, which is committed with it. `may_begin` is asked directly before the first request, and again before each
    /// repetition while the markers of the last transaction are written. Returns false where it said no: nothing can be seen of this transaction.
    /// `partitions` are those that will be written to: brokers without KIP-890 must know them first.
    pub async fn begin(
        &mut self,
        commit: &OffsetCommit,
        partitions: &Partitions,
        may_begin: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<bool, WireError> {
        let mut retry_delay = RetryDelay::new(MARKERS_FIRST, MARKERS_MOST);
        let first = match self.producer.version {
            TransactionVersion::One => self.producer.coordinator.clone(),
            TransactionVersion::Two => self.producer.group_coordinator.clone(),
        };
        let mut until = self.unthrottled(&first).await?;
        loop {
            if !may_begin() {
                return Ok(false);
            }
            match self.begin_once(commit, partitions, until).await {
                Err(error) if is_not_ready(&error) && retry_delay.wait(until).await => {
                    let waits = Instant::now();
                    self.unthrottled(&first).await?;
                    // Only a pause gives it more time: a coordinator that is never ready is one that hangs.
                    until = self.deadline.min(until + waits.elapsed());
                }
                other => return other.map(|()| true),
            }
        }
    }

    /// Waits until the pause is over that a broker's quota asked for: nothing may stand between a decision and its request, and a quota is no
    /// broker that hangs. Returns until when the next call may take.
    async fn unthrottled(&mut self, address: &str) -> Result<Instant, WireError> {
        let deadline = self.deadline;
        self.connection(address, deadline).await?.throttled(deadline).await?;
        Ok(self.call_deadline())
    }

    async fn begin_once(
        &mut self,
        commit: &OffsetCommit,
        partitions: &Partitions,
        until: Instant,
    ) -> Result<(), WireError> {
        if self.producer.version == TransactionVersion::One {
            self.add_members(partitions, until).await?;
        }
        self.commit_offset(commit, until).await
    }

    async fn commit_offset(&mut self, commit: &OffsetCommit, until: Instant) -> Result<(), WireError> {
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
        let codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        check_all(DOING, &address, 1, codes.map(|code| (code, None)))
    }

    /// Whether records go to a topic by its id alone.
    pub fn writes_by_id(&self, target: &Target, leader: &str) -> bool {
        let Some(connection) = self.connections.get(leader) else { return false };
        produce_version(self.producer.version, connection, target).is_ok_and(|version| version >= BY_ID)
    }

    /// Sends batches of partitions that one broker leads, one for each, in one request: the broker adds the new ones of them to the transaction at
    /// once. Their acknowledgement by all replicas in sync is awaited by a later call, or by [`Self::acknowledged`]. Five requests are under way to each
    /// broker at most. Fails where the broker keeps us waiting and another one leads what was written to it.
    pub async fn send_batches(
        &mut self,
        target: &Target,
        leader: &str,
        batches: Vec<PartitionBatch>,
    ) -> Result<(), WireError> {
        let (until, transactions) = (self.deadline, self.producer.version);
        let version = produce_version(transactions, self.connection(leader, until).await?, target)?;
        let batches: Vec<(i32, Bytes)> = batches.into_iter().map(|found| self.number(target, found)).collect();
        let numbers: Vec<i32> = batches.iter().map(|(partition, _)| *partition).collect();
        let request = self.produce_request(target, batches, version);
        let Sent { partitions, in_flight } = self.sent.entry(leader.to_owned()).or_default();
        let opens = |partition: &i32| partitions.insert((target.name.clone(), *partition));
        let opening = numbers.into_iter().filter(opens).collect();
        let request = BatchRequest { request, version, topic: target.name.clone(), opening };
        let connection = self.connections.get_mut(leader).expect("its version was asked for above");
        let sent = in_flight.send(connection, request, until);
        while_it_leads(&self.producer.cluster, partitions, leader, sent).await
    }

    /// Gives a batch its place in its partition.
    fn number(&mut self, target: &Target, PartitionBatch { partition, batch }: PartitionBatch) -> (i32, Bytes) {
        let partition = i32::try_from(partition).expect("kafka numbers partitions by an i32");
        let next = self.producer.sequences.entry((target.name.clone(), partition)).or_default();
        let first = *next;
        *next = following(first, batch.count());
        let Producer { producer_id, epoch, .. } = self.producer;
        (partition, batch.seal(Sequence { producer_id, producer_epoch: epoch, first }))
    }

    fn produce_request(&self, target: &Target, batches: Vec<(i32, Bytes)>, version: i16) -> ProduceRequest {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let data =
            |(partition, records)| PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_partition_data(batches.into_iter().map(data).collect());
        let topic = match target.id.filter(|_| version >= BY_ID) {
            Some(id) => topic.with_topic_id(id),
            None => topic.with_name(topic_name(&target.name)),
        };
        ProduceRequest::default()
            .with_transactional_id(Some(transactional_id(&self.producer.identity)))
            .with_acks(-1)
            .with_timeout_ms(i32::try_from(left.as_millis()).unwrap_or(i32::MAX))
            .with_topic_data(vec![topic])
    }

    /// Waits until everything that was sent is acknowledged. Fails as [`Self::send_batches`] does.
    pub async fn acknowledged(&mut self) -> Result<(), WireError> {
        let Self { producer, deadline, connections, sent } = self;
        for (leader, Sent { partitions, in_flight }) in sent.iter_mut() {
            let Some(connection) = connections.get_mut(leader) else { continue };
            let all = in_flight.all_acknowledged(connection, *deadline);
            while_it_leads(&producer.cluster, partitions, leader, all).await?;
        }
        Ok(())
    }

    /// Commits. Returns the producer for the next transaction.
    pub async fn commit(self) -> Result<Producer, WireError> {
        self.end("committing a transaction", true).await
    }

    async fn end(mut self, doing: &'static str, committed: bool) -> Result<Producer, WireError> {
        self.end_here(doing, committed).await?;
        Ok(self.give_back())
    }

    /// Ends it; the connections stay.
    async fn end_here(&mut self, doing: &'static str, committed: bool) -> Result<(), WireError> {
        let address = self.producer.coordinator.clone();
        let until = self.unthrottled(&address).await?;
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&self.producer.identity))
            .with_producer_id(ProducerId(self.producer.producer_id))
            .with_producer_epoch(self.producer.epoch)
            .with_committed(committed);
        let version = self.producer.version;
        let (least, most) = match version {
            TransactionVersion::One => (0, 4),
            TransactionVersion::Two => (5, 5),
        };
        let connection = self.connection(&address, until).await?;
        let spoken = connection.version::<EndTxnRequest>(doing, least, most)?;
        let answer = connection.ask_version(doing, &request, spoken, until).await?;
        connection.throttle(answer.throttle_time_ms);
        check(doing, &address, answer.error_code, None)?;
        if version == TransactionVersion::Two {
            self.producer.producer_id = answer.producer_id.0;
            self.producer.epoch = answer.producer_epoch;
            self.producer.sequences.clear();
        }
        Ok(())
    }

    fn give_back(self) -> Producer {
        let Self { producer, connections, .. } = self;
        connections.into_values().for_each(|connection| producer.cluster.give_back(connection));
        producer
    }

    /// The connection to a broker, lent for the transaction: the same one to its end.
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

const SENDING: &str = "sending messages";
/// The version of Produce from which on topics are named by their ids.
const BY_ID: i16 = 13;

/// The version of Produce that is spoken: the first that the transactions need, up to the last that we know.
fn produce_version(
    transactions: TransactionVersion,
    connection: &Connection,
    target: &Target,
) -> Result<i16, WireError> {
    let (least, most) = match (transactions, target.id) {
        (TransactionVersion::One, _) => (3, 11),
        (TransactionVersion::Two, None) => (12, 12),
        (TransactionVersion::Two, Some(_)) => (12, BY_ID),
    };
    connection.version::<ProduceRequest>(SENDING, least, most)
}

/// Fails with the first refusal among the answers about partitions, and where there are not as many as were asked about: silence is no consent.
pub(crate) fn check_all<'a>(
    doing: &'static str,
    address: &str,
    asked: usize,
    codes: impl Iterator<Item = (i16, Option<&'a str>)>,
) -> Result<(), WireError> {
    let mut answered = 0;
    for (code, message) in codes {
        check(doing, address, code, message)?;
        answered += 1;
    }
    match answered == asked {
        true => Ok(()),
        false => Err(WireError::Unreadable {
            doing,
            address: address.to_owned(),
            reason: format!("it speaks of {answered} partitions, and was asked about {asked}"),
        }),
    }
}

/// The number of the record after so many: they begin again at zero after the largest.
fn following(first: i32, count: i32) -> i32 {
    let next = i64::from(first) + i64::from(count);
    i32::try_from(next % (i64::from(i32::MAX) + 1)).expect("a remainder of 2^31 is smaller than 2^31")
}

/// Whether the broker refused, and changed nothing, because it still writes the markers of the last transaction, adds something else to this one, or
/// still loads.
fn is_not_ready(error: &WireError) -> bool {
    use ResponseError::{ConcurrentTransactions, CoordinatorLoadInProgress};
    matches!(error.code(), Some(ConcurrentTransactions | CoordinatorLoadInProgress))
}

#[cfg(test)]
mod tests;
