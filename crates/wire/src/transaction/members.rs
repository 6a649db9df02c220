//! What brokers without KIP-890 must know first: the partitions and the group that a transaction is about.

use kafka_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use kafka_protocol::messages::{GroupId, ProducerId};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::{Partitions, Transaction, check_all};
use crate::cluster::topic_name;
use crate::error::{WireError, check};
use crate::producer::{Producer, TransactionVersion, transactional_id};

const ADDING: &str = "adding partitions to a transaction";
const OFFSETS: &str = "adding the group to a transaction";

impl Transaction {
    /// Names further partitions that will be written to. Does nothing where the first record of each is enough.
    pub async fn add_partitions(&mut self, partitions: &Partitions) -> Result<(), WireError> {
        if self.producer.version == TransactionVersion::Two {
            return Ok(());
        }
        let address = self.producer.coordinator.clone();
        let until = self.unthrottled(&address).await?;
        let request = add_partitions(&self.producer, partitions);
        let connection = self.connection(&address, until).await?;
        let answer = connection.ask(ADDING, &request, LAST, until).await?;
        connection.throttle(answer.throttle_time_ms);
        added(&address, partitions, &answer)
    }

    /// Names partitions and the group, in one round trip.
    pub(super) async fn add_members(&mut self, partitions: &Partitions, until: Instant) -> Result<(), WireError> {
        let Producer { identity, producer_id, epoch, coordinator, .. } = &self.producer;
        let group = AddOffsetsToTxnRequest::default()
            .with_transactional_id(transactional_id(identity))
            .with_producer_id(ProducerId(*producer_id))
            .with_producer_epoch(*epoch)
            .with_group_id(GroupId(StrBytes::from_string(identity.group.clone())));
        let request = add_partitions(&self.producer, partitions);
        let (address, names_some) = (coordinator.clone(), !partitions.is_empty());
        let connection = self.connection(&address, until).await?;
        if names_some {
            let version = connection.version::<AddPartitionsToTxnRequest>(ADDING, 0, LAST)?;
            connection.queue(ADDING, &request, version)?;
        }
        let version = connection.version::<AddOffsetsToTxnRequest>(OFFSETS, 0, 3)?;
        connection.send(OFFSETS, &group, version, until).await?;
        // Both answers are taken before either is judged: the connection goes on.
        let named = match names_some {
            true => Some(connection.answer::<AddPartitionsToTxnRequest>(until).await?),
            false => None,
        };
        let answer = connection.answer::<AddOffsetsToTxnRequest>(until).await?;
        connection.throttle(answer.throttle_time_ms);
        if let Some(named) = named {
            added(&address, partitions, &named)?;
        }
        check(OFFSETS, &address, answer.error_code, None)
    }
}

/// The last version of the request that clients send; later ones are for brokers.
const LAST: i16 = 3;

fn add_partitions(producer: &Producer, partitions: &Partitions) -> AddPartitionsToTxnRequest {
    let topic = |(name, partitions): &(String, Vec<i32>)| {
        AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(partitions.clone())
    };
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional_id(&producer.identity))
        .with_v3_and_below_producer_id(ProducerId(producer.producer_id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(partitions.iter().map(topic).collect())
}

type Added = kafka_protocol::messages::add_partitions_to_txn_response::AddPartitionsToTxnResponse;

fn added(address: &str, asked: &Partitions, answer: &Added) -> Result<(), WireError> {
    // One that was refused leaves the others unattempted, which say so: it comes first.
    let unattempted = kafka_protocol::ResponseError::OperationNotAttempted.code();
    let topics = answer.results_by_topic_v3_and_below.iter();
    let mut codes: Vec<i16> =
        topics.flat_map(|topic| &topic.results_by_partition).map(|partition| partition.partition_error_code).collect();
    codes.sort_by_key(|code| *code == unattempted);
    let asked = asked.iter().map(|(_, partitions)| partitions.len()).sum();
    check_all(ADDING, address, asked, codes.into_iter().map(|code| (code, None)))
}
