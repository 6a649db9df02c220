//! A record of the campaigns topic, and a dead letter as it is published.

use crate::model::number::{Lane, Millis, Offset};

/// A record of the campaigns topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: Offset,
    /// When it was made or appended, as Kafka holds it; [`Millis::NONE`] where it does not.
    pub timestamp: Millis,
    /// The key, null allowed.
    pub key: Option<Vec<u8>>,
    /// The value; null is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in their order.
    pub headers: Vec<Header>,
    /// What of it is not here, where it was too large to be kept or could not be read.
    pub omitted: Option<OmittedParts>,
}

impl Record {
    /// The mark by which this record is known again; none where it could not be read.
    pub fn fingerprint(&self) -> Option<RecordFingerprint> {
        let hash = match &self.omitted {
            None => hash(self.key.as_deref(), self.value.as_deref()),
            Some(omitted) => omitted.hash?,
        };
        Some(RecordFingerprint { offset: self.offset, timestamp: self.timestamp, hash })
    }

    /// What the record occupies, in bytes.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len)).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers + 64
    }
}

/// What of a record is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OmittedParts {
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

/// Tells one record from another at the same offset: a topic that was recreated holds other records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFingerprint {
    /// The record's offset.
    pub offset: Offset,
    /// The record's timestamp.
    pub timestamp: Millis,
    /// XXH3 of key and value.
    pub hash: i64,
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
pub enum InputEvent {
    /// The next record.
    Record(Record),
    /// The end of the partition was reached: there is no record below this offset that was not delivered.
    End(Offset),
}

/// A dead letter as it goes to its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterMessage {
    /// Its number in the ledger.
    pub id: i64,
    /// The lane in which it arrived.
    pub lane: Lane,
    /// The offset at which it arrived.
    pub offset: Offset,
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
