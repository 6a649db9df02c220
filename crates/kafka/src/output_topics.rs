//! The topics that are written to, known by their ids (KIP-516). A recreated topic has another id, and nothing of what was written to the old one.
//!
//! One question to Kafka serves all lanes of an instance: at most one a second while rounds are published, one every four seconds or so while there
//! are none. While rounds are published it is asked beside them. A broker that does not answer holds up no round between the look at its windows and
//! the beginning of its transaction.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task;
use tokio::time::Instant;

use super::reader::Reader;
use dinnerbell_config as config;
use dinnerbell_core::model::output_topics::OutputTopicIds;
use dinnerbell_core::ports::broker::BrokerError;

/// How old an answer may be where a round is to be published.
const FRESH: Duration = Duration::from_secs(1);
/// How old it may be where there is nothing to write.
const RECENT: Duration = Duration::from_secs(4);
/// How long the end of a transaction waits for an answer, from when the question was asked. Kafka answers within milliseconds, or a broker stands
/// still.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The topics that are written to.
#[derive(Debug)]
pub struct OutputTopics {
    notifications: Arc<CachedId>,
    dead_letters: Option<Arc<CachedId>>,
}

impl OutputTopics {
    /// Nobody has asked yet.
    pub fn new(topics: &config::Topics) -> Self {
        Self {
            notifications: Arc::new(CachedId::new(&topics.notifications)),
            dead_letters: topics.dead_letters.as_ref().map(|topic| Arc::new(CachedId::new(topic))),
        }
    }

    /// The ids of all of them, as they were a few seconds ago. Blocks, for some seconds at most.
    pub fn ids(&self, reader: &Reader) -> Result<OutputTopicIds, BrokerError> {
        let dead_letters = self.dead_letters.as_ref().map(|topic| topic.id(reader, RECENT)).transpose()?;
        Ok(OutputTopicIds {
            notifications: self.notifications.id(reader, RECENT)?,
            dead_letters: dead_letters.flatten(),
        })
    }

    /// The id of the topic of the drafts, as it was a second ago; none where the brokers know no ids, or no such topic. Blocks, for some seconds at most.
    pub fn notifications(&self, reader: &Reader) -> Result<Option<String>, BrokerError> {
        self.notifications.id(reader, FRESH)
    }

    /// Asks for the id of the topic of the drafts, on a thread of the runtime's, unless somebody asks already or asked a second ago. Returns at once.
    pub fn look_beside(&self, reader: &Reader) {
        let asking = {
            let mut known = self.notifications.known();
            if known.asking.is_some() || known.standing(FRESH).is_some() {
                return;
            }
            Asking::begin(&self.notifications, &mut known)
        };
        let reader = reader.clone();
        // Nobody waits for its end, which comes within seconds: its answer is found where it is kept.
        drop(task::spawn_blocking(move || asking.ask(&reader)));
    }

    /// The id of the topic of the drafts as it was answered last; none also where nobody was answered. Asks nobody.
    pub fn last_known(&self) -> Option<String> {
        self.notifications.last_answer(Duration::ZERO)
    }

    /// The same, after the answer to a question that is under way. Blocks, at most until a second after the question was asked.
    pub fn known_behind_the_look(&self) -> Option<String> {
        self.notifications.last_answer(ANSWER_TIMEOUT)
    }
}

/// The id of a topic, where it has one.
type Answer = Result<Option<String>, BrokerError>;

/// One topic, and what was answered last.
#[derive(Debug)]
struct CachedId {
    topic: String,
    known: Mutex<Known>,
    /// Told when a question is over.
    over: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    last: Option<(Instant, Answer)>,
    /// Since when Kafka is being asked.
    asking: Option<Instant>,
}

impl Known {
    /// The last answer, if it still stands.
    fn standing(&self, stands: Duration) -> Option<&Answer> {
        self.last.as_ref().filter(|(at, _)| at.elapsed() < stands).map(|(_, answer)| answer)
    }
}

/// Somebody asks. However that ends, others may ask again.
struct Asking(Arc<CachedId>);

impl Asking {
    fn begin(cached: &Arc<CachedId>, known: &mut Known) -> Self {
        known.asking = Some(Instant::now());
        Self(Arc::clone(cached))
    }

    fn ask(self, reader: &Reader) -> Answer {
        let answer = reader.id_of(&self.0.topic);
        self.0.known().last = Some((Instant::now(), answer.clone()));
        answer
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.known().asking = None;
        self.0.over.notify_all();
    }
}

impl CachedId {
    fn new(topic: &str) -> Self {
        Self { topic: topic.to_owned(), known: Mutex::default(), over: Condvar::new() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last answer where it still stands, or else a new one. All lanes share the question that is under way, and its answer, a failure too.
    fn id(self: &Arc<Self>, reader: &Reader, stands: Duration) -> Answer {
        let mut known = self.known();
        loop {
            if let Some(answer) = known.standing(stands) {
                return answer.clone();
            }
            if known.asking.is_none() {
                break;
            }
            known = self.over.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
        let asking = Asking::begin(self, &mut known);
        drop(known);
        asking.ask(reader)
    }

    /// What was answered last. Waits for the answer to a question that is under way, until the question is this old.
    fn last_answer(&self, timeout: Duration) -> Option<String> {
        let mut known = self.known();
        while let Some(left) =
            known.asking.and_then(|since| timeout.checked_sub(since.elapsed())).filter(|left| !left.is_zero())
        {
            known = self.over.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        known.last.as_ref().and_then(|(_, answer)| answer.as_ref().ok().cloned().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_that_has_just_begun_is_waited_for() {
        let cached = Arc::new(CachedId::new("out"));
        cached.known().last = Some((Instant::now(), Ok(Some("old".to_owned()))));
        let asked = |begun| cached.known().asking = Some(begun);
        asked(Instant::now());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| cached.last_answer(Duration::from_secs(60)));
            assert_eq!(cached.last_answer(Duration::ZERO).as_deref(), Some("old"), "who asks nobody waits for nobody");
            let over = Asking(Arc::clone(&cached));
            cached.known().last = Some((Instant::now(), Ok(Some("new".to_owned()))));
            drop(over);
            assert_eq!(waiting.join().unwrap().as_deref(), Some("new"));
        });
        asked(Instant::now());
        assert_eq!(cached.last_answer(Duration::from_millis(1)).as_deref(), Some("new"), "it waits no longer");
        cached.known().last = Some((Instant::now(), Err(BrokerError::Transient("away".to_owned()))));
        assert_eq!(cached.last_answer(Duration::ZERO), None, "what failed says nothing");
    }
}
