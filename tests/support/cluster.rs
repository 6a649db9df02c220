//! Who leads what among several brokers, and orders to change that.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use kafka_protocol::messages::{ApiKey, BrokerId, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::kafka_server::KafkaServer;

/// How long one broker may take for an answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// The preferred replica shall lead.
const PREFERRED: i8 = 0;

/// A partition as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Who leads it; -1 where nobody does.
    pub leader: i32,
    /// Who keeps it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Who of them has all of it.
    pub in_sync: Vec<i32>,
}

impl KafkaServer {
    /// A topic's partitions, by their numbers; none where nobody answers.
    pub fn places(&self, topic: &str) -> BTreeMap<i32, Place> {
        let consumer: BaseConsumer = self.client().create().expect("the settings are right");
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), ANSWERED_WITHIN) else { return BTreeMap::new() };
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let place = |partition: &rdkafka::metadata::MetadataPartition| Place {
            leader: partition.leader(),
            replicas: partition.replicas().to_vec(),
            in_sync: partition.isr().to_vec(),
        };
        partitions.map(|partition| (partition.id(), place(partition))).collect()
    }

    /// Another replica that is in sync shall lead each partition of the topic. Returns how many partitions have another leader then: none where no
    /// broker takes the order.
    pub fn move_leaders(&self, topic: &str) -> usize {
        let before = self.places(topic);
        let other = |place: &Place| others(place).find(|other| place.in_sync.contains(other));
        self.elect(
            topic,
            before.iter().filter_map(|(partition, place)| Some((*partition, led_by(place, other(place)?)))),
        );
        let after = self.places(topic);
        after.iter().filter(|(partition, place)| before[*partition].leader != place.leader).count()
    }

    /// This broker shall lead all partitions of the topic; it has a replica of each.
    pub fn let_lead(&self, topic: &str, id: i32) {
        let places = self.places(topic);
        self.elect(topic, places.iter().map(|(partition, place)| (*partition, led_by(place, id))));
        assert!(self.places(topic).values().all(|place| place.leader == id), "{:?}", self.places(topic));
    }

    /// Lets the first of these replicas lead these partitions, as far as a broker takes the order.
    fn elect(&self, topic: &str, replicas: impl Iterator<Item = (i32, Vec<i32>)>) {
        let replicas: BTreeMap<i32, Vec<i32>> = replicas.collect();
        self.reassign(topic, &replicas);
        let partitions =
            TopicPartitions::default().with_topic(name(topic)).with_partitions(replicas.into_keys().collect());
        let election = ElectLeadersRequest::default()
            .with_election_type(PREFERRED)
            .with_topic_partitions(Some(vec![partitions]))
            .with_timeout_ms(10_000);
        self.ask(&election, 2);
    }

    /// These brokers shall keep these partitions, the preferred leader first. Returns whether a broker took the order.
    pub fn reassign(&self, topic: &str, replicas: &BTreeMap<i32, Vec<i32>>) -> bool {
        let partitions = replicas.iter().map(|(partition, replicas)| {
            ReassignablePartition::default()
                .with_partition_index(*partition)
                .with_replicas(Some(replicas.iter().copied().map(BrokerId).collect()))
        });
        let topic = ReassignableTopic::default().with_name(name(topic)).with_partitions(partitions.collect());
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        self.ask(&request, 0).is_some_and(|answer| {
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
            answer.error_code == 0 && partitions.map(|partition| partition.error_code).all(|code| code == 0)
        })
    }

    /// Asks one broker after the other; none where nobody answers.
    fn ask<R: Request>(&self, request: &R, version: i16) -> Option<R::Response> {
        self.plaintext.split(',').find_map(|address| ask_one(address, request, version).ok())
    }
}

/// The replicas behind the leader, in their order.
fn others(place: &Place) -> impl Iterator<Item = i32> {
    let at = place.replicas.iter().position(|replica| *replica == place.leader).map_or(0, |at| at + 1);
    place.replicas.iter().cycle().skip(at).take(place.replicas.len()).copied().filter(|other| *other != place.leader)
}

/// The same replicas, this one first.
fn led_by(place: &Place, id: i32) -> Vec<i32> {
    std::iter::once(id).chain(place.replicas.iter().copied().filter(|other| *other != id)).collect()
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn ask_one<R: Request>(address: &str, request: &R, version: i16) -> std::io::Result<R::Response> {
    let key = ApiKey::try_from(R::KEY).expect("the request is one of Kafka's");
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut frame = BytesMut::new();
    header.encode(&mut frame, key.request_header_version(version)).expect("it can be encoded");
    request.encode(&mut frame, version).expect("it can be encoded");
    let address = address.parse().expect("scripts/rig writes an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    let mut sent = BytesMut::new();
    sent.put_u32(u32::try_from(frame.len()).expect("a request is small"));
    sent.extend_from_slice(&frame);
    stream.write_all(&sent)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, key.response_header_version(version)).expect("it is an answer");
    Ok(R::Response::decode(&mut answer, version).expect("it is an answer"))
}
