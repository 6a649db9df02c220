//! The topic of dead letters, as an instance finds it. Letters go into rounds only while it takes them: whatever state it is in, drafts do
//! not wait for letters.
//!
//! Kafka is asked about the topic before letters go there. Some faults only a publication can find: a right, a policy, too few replicas. One round of
//! one lane, with one letter, finds them. Its letters are then set aside, and the topic is left alone for a while.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::model::number::Lane;
use crate::ports::broker::BrokerError;
use crate::telemetry::Telemetry;

/// For how long an answer of Kafka's about the topic, or a publication in it, stands.
const STATUS_LIFETIME: Duration = Duration::from_secs(10);
/// Letters are let into rounds only this long after: what has become of the topic since may hold up the lane that writes to it.
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// How long the topic is left alone after it refused: at first, and at most.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// How long the lane that tries the topic again may take, before another one does.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(90);

/// How many letters a round may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterQuota {
    /// None: they wait.
    Nothing,
    /// One, to try the topic.
    One,
    /// As many as fit.
    Many,
}

/// The status of the topic, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TopicStatus {
    /// Kafka was not asked yet.
    Unknown,
    /// It took letters, or was found well, at that time.
    Accepts(Instant),
    /// It is there again; this lane tries it.
    OnTrial { by: Lane, since: Instant, backoff: Backoff },
    /// It is left alone until then.
    Refuses { until: Instant, backoff: Backoff },
}

/// The topic of dead letters. One for all lanes of an instance.
#[derive(Debug)]
pub struct DeadLetterTopic {
    status: watch::Sender<TopicStatus>,
    /// One lane asks Kafka, the others learn of the answer.
    asking: Mutex<()>,
    telemetry: Arc<Telemetry>,
}

impl DeadLetterTopic {
    /// Nothing is known of the topic yet.
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { status: watch::Sender::new(TopicStatus::Unknown), asking: Mutex::default(), telemetry }
    }

    /// What a round of this lane may carry at this moment.
    pub fn quota(&self, lane: Lane) -> DeadLetterQuota {
        match *self.status.borrow() {
            TopicStatus::Accepts(at) if at.elapsed() < STATUS_LIFETIME => DeadLetterQuota::Many,
            TopicStatus::OnTrial { by, .. } if by == lane => DeadLetterQuota::One,
            _ => DeadLetterQuota::Nothing,
        }
    }

    /// Waits until a round of this lane may carry letters. `ask_kafka` asks Kafka whether the topic is there.
    pub async fn wait_open<F: Future<Output = Result<(), BrokerError>>>(&self, lane: Lane, ask_kafka: impl Fn() -> F) {
        let mut news = self.status.subscribe();
        while self.quota(lane) == DeadLetterQuota::Nothing || self.accepted_before(SETTLE_TIME) {
            let until = match *news.borrow_and_update() {
                TopicStatus::Unknown | TopicStatus::Accepts(_) => None,
                TopicStatus::OnTrial { since, .. } => Some(since + TRIAL_TIMEOUT),
                TopicStatus::Refuses { until, .. } => Some(until),
            };
            match until.filter(|until| *until > Instant::now()) {
                None => self.ask(lane, ask_kafka()).await,
                Some(until) => tokio::select! {
                    _ = news.changed() => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    /// Whether a round that is recorded with letters may be published with them. Where that is not known, `ask_kafka` asks Kafka.
    pub async fn accepts<F: Future<Output = Result<(), BrokerError>>>(
        &self,
        lane: Lane,
        ask_kafka: impl FnOnce() -> F,
    ) -> bool {
        if matches!(*self.status.borrow(), TopicStatus::Unknown | TopicStatus::Accepts(_))
            && !self.accepted_within(SETTLE_TIME)
        {
            self.ask(lane, ask_kafka()).await;
        }
        self.accepted_within(STATUS_LIFETIME)
    }

    fn accepted_within(&self, time: Duration) -> bool {
        matches!(*self.status.borrow(), TopicStatus::Accepts(at) if at.elapsed() < time)
    }

    fn accepted_before(&self, time: Duration) -> bool {
        matches!(*self.status.borrow(), TopicStatus::Accepts(at) if at.elapsed() >= time)
    }

    async fn ask(&self, lane: Lane, ask_kafka: impl Future<Output = Result<(), BrokerError>>) {
        let before = self.status.borrow().clone();
        let _asking = self.asking.lock().await;
        if *self.status.borrow() != before {
            return;
        }
        match (ask_kafka.await, before) {
            (Ok(()), TopicStatus::Unknown | TopicStatus::Accepts(_)) => self.accepted(),
            (Ok(()), TopicStatus::OnTrial { backoff, .. } | TopicStatus::Refuses { backoff, .. }) => {
                self.status.send_replace(TopicStatus::OnTrial { by: lane, since: Instant::now(), backoff });
            }
            (Err(error), _) => self.refused(&error),
        }
    }

    /// Held while a lane runs: when it is dropped, another lane may try the topic at once.
    pub fn trial_guard(&self, lane: Lane) -> TrialGuard<'_> {
        TrialGuard { dead_letter_topic: self, lane }
    }

    /// The topic took letters, or Kafka says that it is there.
    pub fn accepted(&self) {
        self.status.send_replace(TopicStatus::Accepts(Instant::now()));
        self.telemetry.dead_letter_topic(None);
    }

    /// The topic did not take a letter: it is left alone for a while, longer each time.
    pub fn refused(&self, error: &BrokerError) {
        // What was wrong with the letter is known now, and is done otherwise the next time.
        let learned = matches!(error, BrokerError::DeadLetters { learned: true, .. });
        self.status.send_modify(|status| {
            let backoff = match status {
                _ if learned => BACKOFF,
                TopicStatus::Unknown | TopicStatus::Accepts(_) => BACKOFF.longer(),
                // Another lane met the same.
                TopicStatus::Refuses { until, backoff } if *until > Instant::now() => *backoff,
                TopicStatus::OnTrial { backoff, .. } | TopicStatus::Refuses { backoff, .. } => backoff.longer(),
            };
            *status = TopicStatus::Refuses { until: Instant::now() + backoff.delay(), backoff };
        });
        if !learned {
            self.telemetry.dead_letter_topic(Some(error));
        }
    }
}

/// A lane that may try the topic.
#[derive(Debug)]
pub struct TrialGuard<'a> {
    dead_letter_topic: &'a DeadLetterTopic,
    lane: Lane,
}

impl Drop for TrialGuard<'_> {
    fn drop(&mut self) {
        self.dead_letter_topic.status.send_if_modified(|status| match *status {
            TopicStatus::OnTrial { by, backoff, .. } if by == self.lane => {
                *status = TopicStatus::Refuses { until: Instant::now(), backoff };
                true
            }
            _ => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use futures_util::FutureExt;

    use super::*;

    /// Kafka, as far as it tells of the topic of dead letters.
    #[derive(Default)]
    struct Topic {
        is_there: AtomicBool,
        asked: AtomicU32,
    }

    impl Topic {
        fn is_there(&self) {
            self.is_there.store(true, Ordering::Relaxed);
        }

        async fn answer(&self) -> Result<(), BrokerError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            match self.is_there.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err(BrokerError::Refused("unknown topic".to_owned())),
            }
        }
    }

    fn dead_letter_topic() -> (DeadLetterTopic, Topic, Arc<Telemetry>) {
        let telemetry = Arc::new(Telemetry::default());
        (DeadLetterTopic::new(Arc::clone(&telemetry)), Topic::default(), telemetry)
    }

    fn refusal() -> BrokerError {
        BrokerError::DeadLetters { reason: "not enough replicas".to_owned(), learned: false }
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_topic_is_asked_for_at_growing_intervals_and_shown_until_it_is_there() {
        let (dead_letter_topic, topic, telemetry) = dead_letter_topic();
        let waits = tokio::time::timeout(
            Duration::from_secs(600),
            dead_letter_topic.wait_open(Lane::new(0), || topic.answer()),
        )
        .await;
        assert!(waits.is_err());
        let asked = topic.asked.load(Ordering::Relaxed);
        assert!((20..60).contains(&asked), "asked {asked} times in ten minutes");
        assert_eq!(telemetry.readiness().warnings.len(), 1);
        topic.is_there();
        dead_letter_topic.wait_open(Lane::new(0), || topic.answer()).await;
        assert_eq!(dead_letter_topic.quota(Lane::new(0)), DeadLetterQuota::One, "it is tried with one letter");
        dead_letter_topic.accepted();
        assert_eq!(
            (dead_letter_topic.quota(Lane::new(0)), dead_letter_topic.quota(Lane::new(1))),
            (DeadLetterQuota::Many, DeadLetterQuota::Many)
        );
        assert!(telemetry.readiness().warnings.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_lane_alone_tries_a_topic_that_refused_and_another_one_does_if_that_lane_is_gone() {
        let (dead_letter_topic, topic, _) = dead_letter_topic();
        topic.is_there();
        dead_letter_topic.wait_open(Lane::new(0), || topic.answer()).await;
        dead_letter_topic.refused(&refusal());
        dead_letter_topic.refused(&refusal());
        dead_letter_topic.wait_open(Lane::new(1), || topic.answer()).await;
        assert_eq!(
            (dead_letter_topic.quota(Lane::new(1)), dead_letter_topic.quota(Lane::new(2))),
            (DeadLetterQuota::One, DeadLetterQuota::Nothing)
        );
        assert!(dead_letter_topic.wait_open(Lane::new(2), || topic.answer()).now_or_never().is_none());
        dead_letter_topic.wait_open(Lane::new(2), || topic.answer()).await;
        assert_eq!(
            (dead_letter_topic.quota(Lane::new(1)), dead_letter_topic.quota(Lane::new(2))),
            (DeadLetterQuota::Nothing, DeadLetterQuota::One)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn another_lane_tries_the_topic_at_once_when_the_one_that_did_ends() {
        let (dead_letter_topic, topic, _) = dead_letter_topic();
        topic.is_there();
        dead_letter_topic.refused(&refusal());
        let trial_guard = dead_letter_topic.trial_guard(Lane::new(1));
        dead_letter_topic.wait_open(Lane::new(1), || topic.answer()).await;
        assert!(dead_letter_topic.wait_open(Lane::new(2), || topic.answer()).now_or_never().is_none());
        let began = Instant::now();
        drop(trial_guard);
        dead_letter_topic.wait_open(Lane::new(2), || topic.answer()).await;
        assert_eq!((dead_letter_topic.quota(Lane::new(2)), began.elapsed()), (DeadLetterQuota::One, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_with_letters_is_not_published_with_them_while_the_topic_refuses() {
        let (dead_letter_topic, topic, _) = dead_letter_topic();
        assert!(!dead_letter_topic.accepts(Lane::new(0), || topic.answer()).await, "it is missing");
        let (dead_letter_topic, ..) = self::dead_letter_topic();
        topic.is_there();
        assert!(dead_letter_topic.accepts(Lane::new(0), || topic.answer()).await);
        dead_letter_topic.refused(&refusal());
        assert!(!dead_letter_topic.accepts(Lane::new(0), || topic.answer()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_that_is_sent_otherwise_the_next_time_is_tried_at_once() {
        let (dead_letter_topic, topic, telemetry) = dead_letter_topic();
        topic.is_there();
        dead_letter_topic.wait_open(Lane::new(0), || topic.answer()).await;
        let refused = Instant::now();
        dead_letter_topic.refused(&BrokerError::DeadLetters { reason: "too large".to_owned(), learned: true });
        assert_eq!(dead_letter_topic.quota(Lane::new(0)), DeadLetterQuota::Nothing);
        dead_letter_topic.wait_open(Lane::new(0), || topic.answer()).await;
        assert_eq!((dead_letter_topic.quota(Lane::new(0)), refused.elapsed()), (DeadLetterQuota::One, Duration::ZERO));
        assert!(telemetry.readiness().warnings.is_empty());
    }
}
