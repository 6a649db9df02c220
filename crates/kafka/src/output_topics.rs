//! The topics that are written to, known by their ids (KIP-516). A recreated topic has another id, and nothing of what was written to the old one.
//!
//! One question to Kafka serves all lanes of an instance.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tokio::time::Instant;
use uuid::Uuid;

use crate::producer::explain;
use dinnerbell_config as config;
use dinnerbell_core::model::output_topics::OutputTopicIds;
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_wire::cluster::{Cluster, Topic};
use dinnerbell_wire::error::WireError;

/// How old an answer may be where there is nothing to write.
const RECENT: Duration = Duration::from_secs(4);
/// How long Kafka may take to answer.
const ANSWERED: Duration = Duration::from_secs(5);

/// The topics that are written to.
#[derive(Debug)]
pub struct OutputTopics {
    cluster: Cluster,
    notifications: String,
    dead_letters: Option<String>,
}

impl OutputTopics {
    /// Nobody has asked yet.
    pub fn new(cluster: Cluster, topics: &config::Topics) -> Self {
        let (notifications, dead_letters) = (topics.notifications.clone(), topics.dead_letters.clone());
        Self { cluster, notifications, dead_letters }
    }

    /// The ids of all of them, as they were a few seconds ago.
    pub async fn ids(&self) -> Result<OutputTopicIds, BrokerError> {
        let until = Instant::now() + ANSWERED;
        let dead_letters = match &self.dead_letters {
            Some(topic) => {
                let described = self.cluster.topic(topic, RECENT, until).await;
                id_of_letters(described).map_err(|error| not_asked(topic, &error))?
            }
            None => None,
        };
        let notifications = self.id(&self.notifications, RECENT, until).await?;
        Ok(OutputTopicIds { notifications: notifications.map(shown), dead_letters: dead_letters.map(shown) })
    }

    /// The id of the topic of the drafts as it is now; none where the brokers know no ids, or no such topic.
    pub async fn notifications_now(&self, until: Instant) -> Result<Option<Uuid>, BrokerError> {
        self.id(&self.notifications, Duration::ZERO, until).await
    }

    async fn id(&self, topic: &str, at_most: Duration, until: Instant) -> Result<Option<Uuid>, BrokerError> {
        match self.cluster.topic(topic, at_most, until).await {
            Ok(topic) => Ok(topic.id),
            Err(error) if error.is_unknown_topic() => Ok(None),
            Err(error) => Err(not_asked(topic, &error)),
        }
    }
}

fn not_asked(topic: &str, error: &WireError) -> BrokerError {
    explain(&format!("asking for the id of topic {topic}"), error)
}

/// The id of the topic of dead letters. Whatever the brokers say of that topic, a right that is missing too, drafts do not wait for it: it has no id.
fn id_of_letters(described: Result<Topic, WireError>) -> Result<Option<Uuid>, WireError> {
    match described {
        Ok(topic) => Ok(topic.id),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// An id as Kafka's own tools show it: base64 for addresses, without padding.
fn shown(id: Uuid) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(id)
}

#[cfg(test)]
mod tests {
    use dinnerbell_wire::error::ResponseError;

    use super::*;

    #[test]
    fn what_the_brokers_say_of_the_letters_topic_is_no_failure_and_silence_is() {
        let (doing, address) = ("describing a topic", "b:9092".to_owned());
        for code in [ResponseError::TopicAuthorizationFailed, ResponseError::UnknownTopicOrPartition] {
            let answered = WireError::Answered { doing, address: address.clone(), code, message: None };
            assert!(matches!(id_of_letters(Err(answered)), Ok(None)), "{code}");
        }
        assert!(id_of_letters(Err(WireError::TimedOut { doing, address, after: ANSWERED })).is_err());
    }

    #[test]
    fn an_id_is_shown_as_kafka_shows_it() {
        let id = Uuid::from_bytes(*b"\x47\x32\x65\x34\x81\xd4\x47\xb7\xb1\x91\x39\xc8\x7c\xb5\x83\x72");
        assert_eq!(shown(id), "RzJlNIHUR7exkTnIfLWDcg");
    }
}
