//! Who may write for a lane, and the lane as its owner found it.

use uuid::Uuid;

use crate::model::halt::Halt;
use crate::model::mark::RoundVersion;
use crate::model::number::{Epoch, Lane, Micros, Offset, Seq};
use crate::model::output_topics::OutputTopicIds;
use crate::model::record::RecordFingerprint;

/// The right to write for a lane, as acquired by this instance. Every transaction of the lane compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The lane.
    pub lane: Lane,
    /// The epoch of this ownership.
    pub epoch: Epoch,
    /// `pg_postmaster_start_time()` at the acquisition. A fail-over that lost the acquisition shows here.
    pub server_started_at: Micros,
    /// The key of the lane's advisory lock.
    pub lock_key: i64,
}

/// What the acquisition returned: the lane as its row is.
#[derive(Debug, Clone)]
pub struct AcquiredLane {
    /// The right to write.
    pub ownership: Ownership,
    /// Which ledger this is.
    pub ledger: Uuid,
    /// The next input offset to record.
    pub position: Offset,
    /// The last record taken in, to know the topic again.
    pub last_record: Option<RecordFingerprint>,
    /// The last recorded round.
    pub head: RoundVersion,
    /// The one before it, where it is still kept.
    pub previous: Option<RoundVersion>,
    /// The last round that the ledger knows to be committed in Kafka.
    pub published: Option<Seq>,
    /// The id of the topic that the lane has read, where it is known.
    pub topic_id: Option<String>,
    /// The ids of the topics that the ledger's rounds were written to, where they are known.
    pub outputs: OutputTopicIds,
    /// Whether an operator decided against the mark that Kafka holds: the ledger is right, and the mark is to be written again.
    pub mark_overruled: bool,
    /// Most bytes of a round, where its owners met a slow link.
    pub round_bytes: Option<i64>,
    /// Whether rows of withdrawn drafts were locked, and are still to be withdrawn.
    pub locked_rows: bool,
    /// Why the lane is halted, if it is.
    pub halt: Option<Halt>,
    /// Which comparison of the ledger with Kafka is the current one: another server, or commits that are missing, begins a new one.
    pub comparison: String,
    /// Whether the lane was compared in it.
    pub compared: bool,
}

/// What stops all sending of every instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspension {
    /// An operator paused it.
    pub paused: bool,
    /// Not every lane was compared with Kafka on this server yet, or commits are missing in a lane. The ledger may know less than was told, so
    /// nothing is sent or taken in.
    pub held: bool,
}
