//! The topics that are written to, known by their ids (KIP-516). A recreated topic has another id, and nothing of what was written to the old one.
//!
//! One question to Kafka serves all lanes of an instance: at most one a second while rounds are published, one every four seconds or so while there
//! are none.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::reader::Reader;
use dinnerbell_config as config;
use dinnerbell_core::model::outputs::OutputIds;
use dinnerbell_core::ports::broker::BrokerError;

/// For how long an answer stands where a round is to be published.
const FRESH: Duration = Duration::from_secs(1);
/// And where there is nothing to write.
const RECENT: Duration = Duration::from_secs(4);

/// The topics that are written to.
#[derive(Debug)]
pub struct Outputs {
    notifications: CachedId,
    dead_letters: Option<CachedId>,
}

impl Outputs {
    /// Nobody has asked yet.
    pub fn new(topics: &config::Topics) -> Self {
        Self {
            notifications: CachedId::new(&topics.notifications),
            dead_letters: topics.dead_letters.as_ref().map(|topic| CachedId::new(topic)),
        }
    }

    /// The ids of all of them, as they were a few seconds ago. Blocks, for some seconds at most.
    pub fn ids(&self, reader: &Reader) -> Result<OutputIds, BrokerError> {
        let dead_letters = self.dead_letters.as_ref().map(|topic| topic.id(reader, RECENT)).transpose()?;
        Ok(OutputIds { notifications: self.notifications.id(reader, RECENT)?, dead_letters: dead_letters.flatten() })
    }

    /// The id of the topic of the drafts, as it was a second ago; none where the brokers know no ids, or no such topic. Blocks, for some seconds at most.
    pub fn notifications(&self, reader: &Reader) -> Result<Option<String>, BrokerError> {
        self.notifications.id(reader, FRESH)
    }
}

/// The id of a topic, where it has one.
type Answer = Result<Option<String>, BrokerError>;

/// One topic, and what was answered last.
#[derive(Debug)]
struct CachedId {
    topic: String,
    last: Mutex<Option<(Instant, Answer)>>,
}

impl CachedId {
    fn new(topic: &str) -> Self {
        Self { topic: topic.to_owned(), last: Mutex::default() }
    }

    fn id(&self, reader: &Reader, stands: Duration) -> Answer {
        // Held while Kafka is asked: the other lanes learn of the answer, a failure too.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, answer)) if at.elapsed() < stands => answer.clone(),
            _ => {
                let answer = reader.id_of(&self.topic);
                *last = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }
}
