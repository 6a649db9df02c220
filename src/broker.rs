//! What a lane needs of Kafka: one trait, with the real broker in [`crate::kafka`] and a simulated one in [`crate::simulation`].

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;

use crate::draft::DraftBatch;
use crate::ledger::RoundHead;
use crate::way::record::Recorded;

/// The partition of the campaigns topic that a lane is.
pub type Lane = i32;

/// A record of the campaigns topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch, as Kafka holds it; -1 where there is none.
    pub timestamp: i64,
    /// The key, null allowed.
    pub key: Option<Vec<u8>>,
    /// The value; null is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in their order.
    pub headers: Vec<Header>,
    /// What of it is not here, where it was too large to be kept or could not be read.
    pub left_out: Option<LeftOut>,
}

/// Most bytes of a record: its key, value and headers together. Of a larger one only what it was is kept.
pub const LARGEST_RECORD: usize = 1 << 20;
/// Most bytes that are kept of the key, and of the headers, of a record that is too large.
pub const LARGEST_REST: usize = 16 << 10;

/// What of a record is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Which parts: `key`, `value`, `headers`.
    pub parts: Vec<&'static str>,
    /// Why, in words; the reason of its dead letter.
    pub reason: String,
    /// Its value, where it had one and it was read.
    pub value: Option<Digest>,
    /// XXH3 of key and value, as in its mark; none where they could not be read.
    pub hash: Option<i64>,
}

/// What is known of a value that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Its size in bytes.
    pub size: i64,
    /// Its SHA-256.
    pub sha256: Vec<u8>,
}

/// A header of a record. A name that is not UTF-8 cannot be read through the client library and is kept as
/// [`Header::UNREADABLE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The value, null allowed.
    pub value: Option<Vec<u8>>,
}

impl Header {
    /// Stands for the name of a header whose name is not UTF-8.
    pub const UNREADABLE: &'static str = "(unreadable)";
}

/// Tells one record from another at the same offset: a topic that was created anew holds other records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordMark {
    /// The record's offset.
    pub offset: i64,
    /// The record's timestamp.
    pub timestamp: i64,
    /// XXH3 of key and value.
    pub hash: i64,
}

impl Record {
    /// The mark by which this record is known again; none where it could not be read.
    pub fn mark(&self) -> Option<RecordMark> {
        let hash = match &self.left_out {
            None => hash(self.key.as_deref(), self.value.as_deref()),
            Some(left_out) => left_out.hash?,
        };
        Some(RecordMark { offset: self.offset, timestamp: self.timestamp, hash })
    }

    /// What the record occupies, in bytes.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len)).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers + 64
    }
}

/// XXH3 of a record's key and value.
pub fn hash(key: Option<&[u8]>, value: Option<&[u8]>) -> i64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in [key, value] {
        let length = part.map_or(u64::MAX, |bytes| bytes.len() as u64);
        hasher.update(&length.to_le_bytes());
        hasher.update(part.unwrap_or_default());
    }
    hasher.digest().cast_signed()
}

/// What arrived in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// The next record.
    Record(Record),
    /// The end of the partition was reached: there is no record below this offset that was not delivered.
    End(i64),
}

/// The commit metadata of a lane's offset: which round of which ledger the offset was committed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The ledger's own id.
    pub ledger: Uuid,
    /// The round.
    pub head: RoundHead,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoundHead { seq, revision, checksum } = self.head;
        write!(f, "dinnerbell/1 {} {seq} {revision} {:016x}", self.ledger.simple(), checksum.cast_unsigned())
    }
}

/// The text is not a mark that this service writes.
#[derive(Debug, thiserror::Error)]
#[error("not the metadata of a dinnerbell round")]
pub struct ForeignMetadata;

impl FromStr for Mark {
    type Err = ForeignMetadata;

    fn from_str(text: &str) -> Result<Self, ForeignMetadata> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(ForeignMetadata);
        if word()? != "dinnerbell/1" {
            return Err(ForeignMetadata);
        }
        let mark = Self {
            ledger: word()?.parse().map_err(|_| ForeignMetadata)?,
            head: RoundHead {
                seq: word()?.parse().map_err(|_| ForeignMetadata)?,
                revision: word()?.parse().map_err(|_| ForeignMetadata)?,
                checksum: u64::from_str_radix(word()?, 16).map_err(|_| ForeignMetadata)?.cast_signed(),
            },
        };
        if words.next().is_some() { Err(ForeignMetadata) } else { Ok(mark) }
    }
}

/// What the group's committed offset of a lane says (stable offsets only).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Nothing is committed, or it expired, or was deleted.
    None,
    /// A mark of this service's form.
    Mark(Mark),
    /// Something else, as text for the operator (unreadable metadata included).
    Foreign(String),
}

impl fmt::Display for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no mark"),
            Self::Mark(mark) => write!(f, "its mark is of round {} (ledger {})", mark.head, mark.ledger),
            Self::Foreign(text) => write!(f, "{text}"),
        }
    }
}

/// What goes into one Kafka transaction.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The lane.
    pub lane: Lane,
    /// The offset that is committed: the lane's position when the round was recorded.
    pub offset: i64,
    /// The metadata committed with it.
    pub mark: Mark,
    /// The drafts, for each campaign version.
    pub drafts: Vec<DraftBatch>,
    /// Dead letters to publish, after the drafts.
    pub dead_letters: Vec<DeadLetterMessage>,
}

impl Publication {
    /// What its drafts take as messages and as rows, in bytes.
    pub fn bytes(&self) -> usize {
        self.drafts.iter().map(DraftBatch::size).sum()
    }

    /// What its messages take on their way, in bytes, the client library's own included.
    pub fn size(&self) -> usize {
        let drafts: usize = self.drafts.iter().map(DraftBatch::size_of_messages).sum();
        drafts + self.dead_letters.iter().map(DeadLetterMessage::size).sum::<usize>()
    }
}

/// A dead letter as it goes to its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterMessage {
    /// Its number in the ledger.
    pub id: i64,
    /// The lane in which it arrived.
    pub lane: Lane,
    /// The offset at which it arrived.
    pub offset: i64,
    /// The original key.
    pub key: Option<Vec<u8>>,
    /// The original value.
    pub value: Option<Vec<u8>>,
    /// What is known of the original value, where it is not kept.
    pub digest: Option<Digest>,
    /// The original headers; ours come after them.
    pub headers: Vec<Header>,
    /// Why it is no campaign.
    pub reason: String,
    /// The field that breaks a rule, where it is one field.
    pub field: Option<String>,
}

impl DeadLetterMessage {
    /// What it takes, in bytes, the headers that it gets on its way included.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len)).sum();
        let original = self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len);
        original + headers + self.reason.len() + 1_024
    }
}

/// Why the broker did not do what was asked. One place maps these to what happens: [`crate::way::policy`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// It may pass: a broker away, a coordinator loading, a time-out. Nothing is known about what was under way.
    #[error("{0}")]
    Passing(String),
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
        seq: i64,
        /// What its drafts take as messages and as rows.
        bytes: usize,
        /// How long it was tried.
        seconds: u64,
        /// What the client library met.
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
    /// A transactional call overran its watchdog and was abandoned on its thread.
    #[error("a transactional call did not return within {seconds} s and was abandoned")]
    Overrun {
        /// How long it was waited for.
        seconds: u64,
    },
}

/// How long a round's transaction may be open: a full round on a slow link. The broker ends it then.
#[cfg(not(feature = "fail-points"))]
pub fn transaction_time() -> Duration {
    TRANSACTION
}

/// The same; a test may have less patience, by `DINNERBELL_TRANSACTION_SECONDS`.
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
    fn committed(&self, lane: Lane) -> impl Future<Output = Result<Committed, BrokerError>> + Send;
    /// The first offset of the lane, and the offset up to which a `read_committed` reader can read.
    fn watermarks(&self, lane: Lane) -> impl Future<Output = Result<(i64, i64), BrokerError>> + Send;
    /// The offset behind the lane's last record, those of open transactions included.
    fn log_end(&self, lane: Lane) -> impl Future<Output = Result<i64, BrokerError>> + Send;
    /// How many lanes there are: the partitions of the campaigns topic.
    fn lanes(&self) -> impl Future<Output = Result<i32, BrokerError>> + Send;
    /// The mark of the record at an offset; none where no record is there (compacted, or a transaction's marker).
    fn mark_at(&self, lane: Lane, offset: i64) -> impl Future<Output = Result<Option<RecordMark>, BrokerError>> + Send;
    /// Whether the topic of dead letters is there, and every partition of it has a leader.
    fn dead_letter_topic(&self) -> impl Future<Output = Result<(), BrokerError>> + Send;
    /// The id of the campaigns topic as the brokers know it now; none where they know no ids.
    fn topic_id(&self) -> impl Future<Output = Result<Option<String>, BrokerError>> + Send;
    /// Starts to read the lane from a position. Where the id of its topic is given, no record of another topic of that name is ever returned.
    fn open(
        &self,
        lane: Lane,
        position: i64,
        topic_id: Option<&str>,
    ) -> impl Future<Output = Result<Self::Input, BrokerError>> + Send;
}

/// The records of one lane, in order, from the position at which it was opened.
pub trait Input: Send + 'static {
    /// Waits for the next arrivals, at least one and at most `most`, and fewer where they are large. Cancel safe: what was not returned comes again.
    fn next(&mut self, most: usize) -> impl Future<Output = Result<Vec<Arrived>, BrokerError>> + Send;
}

/// A lane's transactional producer. It is consumed by publishing and returned only by plain success, so that a producer
/// in doubt cannot be used again.
///
/// None in its place: the round is published, and a request of its transaction may have been sent twice (a connection broke). The second
/// copy could end the next transaction of this producer, so that there must be none.
pub trait Producer: Sized + Send + 'static {
    /// Publishes a recorded round in one transaction: drafts, dead letters, and the lane's offset with its mark.
    fn publish(self, round: &Recorded) -> impl Future<Output = Result<Option<Self>, BrokerError>> + Send;
    /// Commits a round's offset and mark again, without any record: the group's offsets were lost.
    fn publish_mark(self, round: &Recorded) -> impl Future<Output = Result<Option<Self>, BrokerError>> + Send;
}
