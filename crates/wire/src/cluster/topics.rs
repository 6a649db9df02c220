//! Topics as the brokers described them. One question serves all lanes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{Cluster, address_of, topic_name};
use crate::error::{WireError, check, timed_out};

/// A topic as the brokers described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id (KIP-516); none where the brokers know none.
    pub id: Option<Uuid>,
    /// The leader of each partition, by its number; none where there is no leader.
    pub leaders: Vec<Option<String>>,
}

/// What is known, by topic.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: Mutex<HashMap<String, Known>>,
}

/// What is known of one topic.
#[derive(Debug, Clone, Default)]
struct Known {
    /// As it was described last, and by whom. A question that nobody answers leaves it as it is.
    described: Option<(Instant, Topic, String)>,
    /// The last failure, until it is described again.
    failed: Option<(Instant, WireError)>,
    /// Held by who asks: others wait for that answer.
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// For how long a failure answers those who had not asked yet.
const FAILURE_STANDS: Duration = Duration::from_secs(1);

const DOING: &str = "describing a topic";

impl Known {
    /// What it was at most so long ago. A failure stands for a moment, so that not every lane asks a cluster that is away.
    fn at_most_so_old(&self, at_most: Duration) -> Option<Result<Topic, WireError>> {
        let described = self.described.as_ref().filter(|(at, ..)| at.elapsed() < at_most);
        let failed = self.failed.as_ref().filter(|(at, _)| at.elapsed() < at_most.min(FAILURE_STANDS));
        self.answer(described, failed)
    }

    /// What was answered since.
    fn since(&self, asked: Instant) -> Option<Result<Topic, WireError>> {
        let described = self.described.as_ref().filter(|(at, ..)| *at >= asked);
        self.answer(described, self.failed.as_ref().filter(|(at, _)| *at >= asked))
    }

    fn answer(
        &self,
        described: Option<&(Instant, Topic, String)>,
        failed: Option<&(Instant, WireError)>,
    ) -> Option<Result<Topic, WireError>> {
        let described = described.map(|(_, topic, _)| Ok(topic.clone()));
        described.or_else(|| failed.map(|(_, error)| Err(error.clone())))
    }

    fn learn(&mut self, answer: Result<(Topic, String), WireError>) {
        let now = Instant::now();
        match answer {
            Ok((topic, told_by)) => {
                self.described = Some((now, topic, told_by));
                self.failed = None;
            }
            Err(error) => {
                // The brokers say that it is not so any more.
                if error.code().is_some() {
                    self.described = None;
                }
                self.failed = Some((now, error));
            }
        }
    }
}

impl Cluster {
    /// A topic as the brokers described it, at most so long ago. All lanes share the question that is under way, and its answer, a failure too. Fails
    /// where it is not there, or may not be described.
    pub async fn topic(&self, name: &str, at_most: Duration, deadline: Instant) -> Result<Topic, WireError> {
        let known = self.known_of(name);
        if let Some(answer) = known.at_most_so_old(at_most) {
            return answer;
        }
        let asked = Instant::now();
        let asking = timeout_at(deadline, known.asking.lock()).await;
        let now = self.known_of(name);
        if let Some(answer) = now.since(asked).or_else(|| now.at_most_so_old(at_most)) {
            return answer;
        }
        let _asking = match asking {
            Ok(asking) if Instant::now() < deadline => asking,
            // Somebody else's time is not over: this says nothing to others.
            Ok(_) | Err(_) => return Err(timed_out(DOING, name, asked)),
        };
        let answer = self.ask_for_topic(name, deadline).await;
        self.known().entry(name.to_owned()).or_default().learn(answer.clone());
        answer.map(|(topic, _)| topic)
    }

    /// The topic as it was described last, also where later questions were not answered; none where the brokers say that it is not so any more. Asks
    /// nobody.
    pub fn last_described(&self, name: &str) -> Option<Topic> {
        self.known_of(name).described.map(|(_, topic, _)| topic)
    }

    /// Who described the topic last.
    pub fn described_by(&self, name: &str) -> Option<String> {
        self.known_of(name).described.map(|(.., told_by)| told_by)
    }

    fn known_of(&self, name: &str) -> Known {
        self.known().entry(name.to_owned()).or_default().clone()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.shared.topics.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The brokers as they are now: connections to others are dropped.
    fn know(&self, addresses: &BTreeMap<i32, String>) {
        let mut brokers = self.brokers();
        brokers.know(addresses);
        self.shared.pool.keep_only(&brokers.all());
    }

    async fn ask_for_topic(&self, name: &str, deadline: Instant) -> Result<(Topic, String), WireError> {
        let request = |_| {
            let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
        };
        // From version 4 on a topic that is missing is not made.
        let (answer, at) = self.ask_any(DOING, (4, 12), request, deadline).await?;
        let brokers: BTreeMap<i32, String> =
            answer.brokers.iter().map(|broker| (broker.node_id.0, address_of(&broker.host, broker.port))).collect();
        self.know(&brokers);
        described(&answer, &brokers, name, &at).map(|topic| (topic, at))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_stands_for_a_second_however_old_an_answer_may_be() {
        let mut known = Known::default();
        known.learn(Err(timed_out(DOING, "b:9092", Instant::now())));
        tokio::time::advance(FAILURE_STANDS / 2).await;
        assert!(known.at_most_so_old(Duration::from_secs(10)).is_some());
        tokio::time::advance(FAILURE_STANDS / 2).await;
        assert!(known.at_most_so_old(Duration::from_secs(10)).is_none());
    }
}
