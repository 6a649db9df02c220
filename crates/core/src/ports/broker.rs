//! What a lane needs of Kafka: one trait, with the real broker in `dinnerbell_kafka` and a simulated one in `dinnerbell_sim`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::model::mark::CommittedOffset;
use crate::model::number::{Lane, Offset, Seq};
use crate::model::output_topics::OutputTopicIds;
use crate::model::record::{InputEvent, RecordFingerprint};
use crate::model::recorded::Recorded;
use crate::ports::failure::{Failure, FailureKind};

/// Why the broker did not do what was asked. One place maps these to what happens: [`crate::lane::error_policy`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// It may pass: a broker away, a coordinator loading, a time-out. Nothing is known about what was under way.
    #[error("{0}")]
    Transient(String),
    /// Another instance took the lane's transactional id over.
    #[error("another instance took this lane over (its producer fenced ours)")]
    Fenced,
    /// The lane is still ours: the broker itself ended a transaction that lasted too long, and fenced its producer.
    #[error(
        "the broker ended a transaction of this lane, which is still ours: the round was not delivered within the {seconds} s that it may last (a \
         quota of the broker, a slow network), or another program uses the lane's transactional id"
    )]
    Overdue {
        /// How long a transaction may last.
        seconds: u64,
    },
    /// The server refuses and will refuse again: size, right, topic.
    #[error("{0}")]
    Refused(String),
    /// A round did not get through in the time that a transaction has: the link is slow, or a broker away.
    #[error("round {seq} of {bytes} bytes was not delivered in {seconds} s: {reason}")]
    Undelivered {
        /// Which round.
        seq: Seq,
        /// What its drafts take as messages and as rows.
        bytes: usize,
        /// How long it was tried.
        seconds: u64,
        /// What was met.
        reason: String,
    },
    /// The topic of dead letters did not take a letter, or not in time. The drafts of the round are not to blame.
    #[error("{reason}")]
    DeadLetters {
        /// Why, in words.
        reason: String,
        /// Whether letters are sent otherwise from here on, such that it may take them.
        learned: bool,
    },
    /// The round might not be begun any more when its transaction was about to begin. Nothing of it was sent.
    #[error("the round might not be begun any more")]
    NotBegun,
}

impl Failure for BrokerError {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Fenced => FailureKind::LaneLost,
            Self::Refused(_) => FailureKind::Refused,
            Self::Transient(_)
            | Self::Overdue { .. }
            | Self::Undelivered { .. }
            | Self::DeadLetters { .. }
            | Self::NotBegun => FailureKind::Transient,
        }
    }
}

/// How long a round's transaction may be open: a full round on a slow link. The broker ends it then.
#[cfg(not(feature = "fail-points"))]
pub fn transaction_time() -> Duration {
    TRANSACTION
}

/// The same; a test may shorten it by `DINNERBELL_TRANSACTION_SECONDS`.
#[cfg(feature = "fail-points")]
pub fn transaction_time() -> Duration {
    static TIME: std::sync::LazyLock<Duration> = std::sync::LazyLock::new(|| {
        let seconds = std::env::var("DINNERBELL_TRANSACTION_SECONDS").ok().and_then(|text| text.parse().ok());
        seconds.map_or(TRANSACTION, Duration::from_secs)
    });
    *TIME
}

const TRANSACTION: Duration = Duration::from_secs(60);

/// Kafka, as far as a lane needs it.
pub trait Broker: Clone + Send + Sync + 'static {
    /// A transactional producer of a lane.
    type Producer: Producer;
    /// The records of a lane.
    type Input: Input;

    /// Whether the group's consumer still holds the lane after its poll loop went round once more.
    fn still_assigned(&self, lane: Lane) -> impl Future<Output = bool> + Send;
    /// A new producer for the lane, initialised: former owners of its transactional id are fenced when this returns.
    fn producer(&self, lane: Lane) -> impl Future<Output = Result<Self::Producer, BrokerError>> + Send;
    /// The group's committed metadata for the lane, stable offsets only.
    fn committed(&self, lane: Lane) -> impl Future<Output = Result<CommittedOffset, BrokerError>> + Send;
    /// The first offset of the lane, and the offset up to which a `read_committed` reader can read.
    fn watermarks(&self, lane: Lane) -> impl Future<Output = Result<(Offset, Offset), BrokerError>> + Send;
    /// The offset behind the lane's last record, those of open transactions included.
    fn log_end(&self, lane: Lane) -> impl Future<Output = Result<Offset, BrokerError>> + Send;
    /// How many lanes there are: the partitions of the campaigns topic.
    fn lanes(&self) -> impl Future<Output = Result<i32, BrokerError>> + Send;
    /// The mark of the record at an offset; none where no record is there (compacted, or a transaction's marker).
    fn fingerprint_at(
        &self,
        lane: Lane,
        offset: Offset,
    ) -> impl Future<Output = Result<Option<RecordFingerprint>, BrokerError>> + Send;
    /// Whether the topic of dead letters is there, and every partition of it has a leader.
    fn dead_letter_topic(&self) -> impl Future<Output = Result<(), BrokerError>> + Send;
    /// The id of the campaigns topic as the brokers know it now; none where they know no ids.
    fn topic_id(&self) -> impl Future<Output = Result<Option<String>, BrokerError>> + Send;
    /// The ids of the topics that are written to, as the brokers knew them a few seconds ago.
    fn output_ids(&self) -> impl Future<Output = Result<OutputTopicIds, BrokerError>> + Send;
    /// Starts to read the lane from a position. Where the id of its topic is given, no record of another topic of that name is ever returned.
    fn open(
        &self,
        lane: Lane,
        position: Offset,
        topic_id: Option<&str>,
    ) -> impl Future<Output = Result<Self::Input, BrokerError>> + Send;
}

/// The records of one lane, in order, from the position at which it was opened.
pub trait Input: Send + 'static {
    /// Waits for what comes next, records or the end: at least one and at most `most`, and fewer where they are large. Cancel safe: what was not returned comes again.
    fn next(&mut self, most: usize) -> impl Future<Output = Result<Vec<InputEvent>, BrokerError>> + Send;
}

/// Whether a round may still be begun. It waits for nobody.
pub type MayBegin = Arc<dyn Fn() -> bool + Send + Sync>;

/// A lane's transactional producer. It is consumed by publishing and returned only by plain success, so that a producer
/// in doubt cannot be used again.
///
/// None in its place: the round is published, and a request of its transaction may have been sent twice (a connection broke). The second
/// copy could end the next transaction of this producer, so that there must be none.
pub trait Producer: Sized + Send + 'static {
    /// Publishes a recorded round in one transaction: drafts, dead letters, and the lane's offset with its mark. `may_begin` is asked directly before
    /// the transaction begins; where it says no, this fails with [`BrokerError::NotBegun`].
    fn publish_if(
        self,
        round: &Recorded,
        may_begin: MayBegin,
    ) -> impl Future<Output = Result<Option<Self>, BrokerError>> + Send;
    /// The same for a round that may always be begun.
    fn publish(self, round: &Recorded) -> impl Future<Output = Result<Option<Self>, BrokerError>> + Send {
        self.publish_if(round, Arc::new(|| true))
    }
    /// What the group committed for the lane, read behind all former owners: after every transaction that a former producer of the lane committed, from a
    /// coordinator that has just proved to be the current one. Nothing of the proof is ever seen.
    fn committed(self) -> impl Future<Output = Result<(Self, CommittedOffset), BrokerError>> + Send;
    /// Commits a round's offset and mark again, without any record: the group's offsets were lost.
    fn publish_mark(self, round: &Recorded) -> impl Future<Output = Result<Option<Self>, BrokerError>> + Send;
}
