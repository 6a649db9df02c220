//! Topics as the brokers described them. One question serves all lanes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Cluster, address_of, topic_name};
use crate::error::{WireError, check};

/// A topic as the brokers described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id (KIP-516); none where the brokers know none.
    pub id: Option<Uuid>,
    /// The leader of each partition, by its number; none where there is no leader.
    pub leaders: Vec<Option<String>>,
}

/// What was answered last, by topic.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: Mutex<HashMap<String, Described>>,
    /// Held by who asks: others wait for that answer.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Described {
    at: Instant,
    answer: Result<Topic, WireError>,
}

const DOING: &str = "describing a topic";

impl Cluster {
    /// A topic as the brokers described it, at most so long ago. All lanes share the question that is under way, and its answer, a failure too. Fails
    /// where it is not there, or may not be described.
    pub async fn topic(&self, name: &str, at_most: Duration, deadline: Instant) -> Result<Topic, WireError> {
        if let Some(known) = self.standing(name, at_most) {
            return known.answer;
        }
        let asked = Instant::now();
        let _asking = self.shared.topics.asking.lock().await;
        let stands = |known: &Described| known.at >= asked || known.at.elapsed() < at_most;
        if let Some(known) = self.described(name).filter(stands) {
            return known.answer;
        }
        let answer = self.ask_for_topic(name, deadline).await;
        let described = Described { at: Instant::now(), answer: answer.clone() };
        self.known().insert(name.to_owned(), described);
        answer
    }

    /// The topic as it was described last; none where the last question failed, or nobody asked. Asks nobody.
    pub fn last_described(&self, name: &str) -> Option<Topic> {
        self.described(name)?.answer.ok()
    }

    fn standing(&self, name: &str, at_most: Duration) -> Option<Described> {
        self.described(name).filter(|known| known.at.elapsed() < at_most)
    }

    fn described(&self, name: &str) -> Option<Described> {
        self.known().get(name).cloned()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Described>> {
        self.shared.topics.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_for_topic(&self, name: &str, deadline: Instant) -> Result<Topic, WireError> {
        let request = |_| {
            let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
        };
        // From version 4 on a topic that is missing is not made.
        let (answer, at) = self.ask_any(DOING, (4, 12), request, deadline).await?;
        let brokers: BTreeMap<i32, String> =
            answer.brokers.iter().map(|broker| (broker.node_id.0, address_of(&broker.host, broker.port))).collect();
        self.know(&brokers);
        described(&answer, &brokers, name, &at)
    }
}

fn described(
    answer: &MetadataResponse,
    brokers: &BTreeMap<i32, String>,
    name: &str,
    address: &str,
) -> Result<Topic, WireError> {
    let is_it = |topic: &&MetadataResponseTopic| topic.name.as_ref().is_some_and(|found| found.0.as_str() == name);
    let missing = || WireError::Answered {
        doing: DOING,
        address: address.to_owned(),
        code: ResponseError::UnknownTopicOrPartition,
        message: Some(name.to_owned()),
    };
    let topic = answer.topics.iter().find(is_it).ok_or_else(missing)?;
    check(DOING, address, topic.error_code, Some(name))?;
    let mut leaders = vec![None; topic.partitions.len()];
    for partition in &topic.partitions {
        let leader = brokers.get(&partition.leader_id.0).cloned();
        if let Some(place) = usize::try_from(partition.partition_index).ok().and_then(|index| leaders.get_mut(index)) {
            *place = leader;
        }
    }
    Ok(Topic { id: (!topic.topic_id.is_nil()).then_some(topic.topic_id), leaders })
}
