//! The topics of a simulated world, their open transactions, and what was committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use dinnerbell_core::model::campaign::Campaign;
use dinnerbell_core::model::mark::CommittedMark;
use dinnerbell_core::model::number::{Lane, Micros, Millis, Offset, Seconds, Seq};
use dinnerbell_core::model::record::Record;
use dinnerbell_core::model::round::Publication;

/// A transaction that is open for longer is aborted by the broker.
pub(super) const TRANSACTION: i64 = 60_000_000;

/// The cluster.
#[derive(Debug)]
pub struct Kafka {
    /// The lanes: partitions of the campaigns topic, and what their transactional ids did.
    pub lanes: BTreeMap<Lane, Partition>,
    /// What a `read_committed` reader of the notifications topic sees, by campaign and client.
    pub notifications: BTreeMap<(String, String), Notification>,
    /// How often each dead letter was published, by its id.
    pub dead_letters: BTreeMap<i64, u32>,
    /// How it stands with their topic.
    pub letters: Letters,
    /// The id of the notifications topic; none where the brokers know no ids.
    pub notifications_id: Option<&'static str>,
    /// Whether offsets of the group were lost.
    pub has_lost_marks: bool,
}

impl Kafka {
    pub(super) fn new(lanes: i32) -> Self {
        let lanes = Lane::all(lanes).map(|lane| (lane, Partition::default())).collect();
        Self {
            lanes,
            notifications: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            letters: Letters::default(),
            notifications_id: None,
            has_lost_marks: false,
        }
    }

    pub(super) fn lane(&mut self, lane: Lane) -> &mut Partition {
        self.lanes.entry(lane).or_default()
    }

    /// What the group committed for a lane.
    pub(super) fn committed(&self, lane: Lane) -> Option<CommittedMark> {
        self.lanes.get(&lane)?.committed
    }

    /// Appends a record, behind a gap as a transaction's marker leaves it.
    pub fn append(&mut self, lane: Lane, timestamp: Millis, key: Option<Vec<u8>>, value: Option<Vec<u8>>, gap: i64) {
        let partition = self.lane(lane);
        let offset = Offset::new(partition.end.get() + gap);
        partition.records.push(Record { offset, timestamp, key, value, headers: Vec::new(), omitted: None });
        partition.end = offset.next();
    }

    /// Nothing but a gap stands behind the records: aborted ones, and the marker.
    pub fn leave_gap(&mut self, lane: Lane, wide: i64) {
        let partition = self.lane(lane);
        partition.end = Offset::new(partition.end.get() + wide);
    }

    /// Former owners of the lane are fenced: what they were committing is committed, what else they left open is gone.
    pub(super) fn fence(&mut self, lane: Lane) -> bool {
        let partition = self.lane(lane);
        partition.producer_epoch += 1;
        let commits = partition.transaction.as_ref().is_some_and(|open| open.committing);
        if !commits {
            partition.transaction = None;
        }
        commits
    }

    /// The group's offset of a lane expires, unless a transaction is about to write it.
    pub fn expire(&mut self, lane: Lane) {
        let partition = self.lane(lane);
        if partition.transaction.is_none() {
            partition.committed = None;
            self.has_lost_marks = true;
        }
    }
}

/// How it stands with the topic of dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Letters {
    /// It takes them.
    #[default]
    Accepted,
    /// It is not there, and Kafka says so when asked.
    Missing,
    /// It is there, and takes none.
    Refused,
}

/// A message of the notifications topic.
#[derive(Debug, Clone)]
pub struct Notification {
    /// What it says.
    pub campaign: Arc<Campaign>,
    /// When it was formed.
    pub trigger_datetime_created: Seconds,
    /// By which lane it was told.
    pub lane: Lane,
    /// In which of its rounds.
    pub seq: Seq,
}

/// One partition of the campaigns topic, and its lane's transactional id.
#[derive(Debug, Default)]
pub struct Partition {
    /// The records.
    pub records: Vec<Record>,
    /// The high watermark: markers of transactions stand between records.
    pub end: Offset,
    /// What the group committed.
    pub committed: Option<CommittedMark>,
    pub(super) producer_epoch: u64,
    /// When the producer was made that may publish.
    pub(super) initialised: Micros,
    pub(super) transaction: Option<Transaction>,
}

impl Partition {
    /// Whether a transaction of the lane is under way.
    pub fn is_busy(&self) -> bool {
        self.transaction.is_some()
    }

    /// Aborts what has been open for too long; its producer is fenced.
    pub(super) fn expire(&mut self, now: Micros) {
        if self.transaction.as_ref().is_some_and(|open| !open.committing && now - open.begun > TRANSACTION) {
            self.transaction = None;
            self.producer_epoch += 1;
        }
    }
}

#[derive(Debug)]
pub(super) struct Transaction {
    /// More than one only where a producer in doubt is used again: Kafka knows one open transaction of it.
    pub(super) publications: Vec<Announced>,
    pub(super) begun: Micros,
    pub(super) offset_sent: bool,
    /// An earlier round's offset, whose request was sent twice, came after this transaction's own.
    pub(super) offset_of_before: Option<CommittedMark>,
    /// It is to be committed: nothing stops that any more.
    pub(super) committing: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Announced {
    pub(super) publication: Arc<Publication>,
    pub(super) records: bool,
}
