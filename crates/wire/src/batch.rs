//! A record batch of format version 2, from its first record to its checksum.

use bytes::{BufMut, Bytes, BytesMut};

use crate::compression::Compression;
use crate::record::{Record, put_head};

/// What precedes the records of a batch, in bytes.
pub const HEAD: usize = 61;
/// What precedes `batchLength` and itself: neither is counted in it.
const BEFORE_LENGTH: usize = 12;
/// Where the checksum stands; it is of all that follows it.
const CHECKSUM_AT: usize = 17;
/// What a record takes beside its key, value and headers, at most: length, attributes, time and offset.
const RECORD_HEAD: usize = 5 + 2 + 5;
const MAGIC: i8 = 2;
const TRANSACTIONAL: i16 = 0x10;

/// Who sends a batch, and which number its first record has in that partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// The producer's id, as the coordinator gave it.
    pub producer_id: i64,
    /// Its epoch, which fences former ones.
    pub producer_epoch: i16,
    /// The number of the batch's first record since the epoch began, in this partition.
    pub first: i32,
}

/// The records of one batch as they are gathered.
#[derive(Debug)]
pub struct BatchBuilder {
    limit: usize,
    records: Vec<u8>,
    count: i32,
}

impl BatchBuilder {
    /// An empty batch of at most so many bytes, head included and compressed or not.
    pub fn new(limit: usize) -> Self {
        Self { limit, records: Vec::new(), count: 0 }
    }

    /// How many records it holds.
    pub fn len(&self) -> i32 {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes its records have so far.
    pub fn size(&self) -> usize {
        self.records.len()
    }

    /// Whether a record of such a body fits in beside what is there.
    pub fn has_room(&self, body: usize) -> bool {
        HEAD + self.records.len() + RECORD_HEAD + body <= self.limit && self.count < i32::MAX
    }

    /// Appends a record whose body is written by a function, in exactly so many bytes.
    pub(crate) fn push_with(&mut self, body: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.records.reserve(RECORD_HEAD + body);
        put_head(self.count, body, &mut self.records);
        let before = self.records.len();
        write(&mut self.records);
        debug_assert_eq!(self.records.len() - before, body, "a record is as long as was said");
        self.count += 1;
    }

    /// Appends a record if it fits. Returns whether it did.
    pub fn push(&mut self, record: &Record<'_>, scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        record.put_body(scratch);
        let fits = self.has_room(scratch.len());
        if fits {
            self.push_with(scratch.len(), |out| out.extend_from_slice(scratch));
        }
        fits
    }

    /// The batch, compressed, all its records of one time (epoch milliseconds); the builder is empty again. What compression would make larger is
    /// sent as it is. None where it holds no record. Fails where the codec does.
    pub fn build(&mut self, compression: Compression, time: i64) -> std::io::Result<Option<Batch>> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut compressed = Vec::with_capacity(HEAD + self.records.len() / 4);
        compressed.resize(HEAD, 0);
        compression.compress(&self.records, &mut compressed)?;
        let (mut bytes, compression) = if compressed.len() <= HEAD + self.records.len() {
            (compressed, compression)
        } else {
            compressed.truncate(HEAD);
            compressed.extend_from_slice(&self.records);
            (compressed, Compression::None)
        };
        let count = self.count;
        write_head(&mut bytes, compression, time, count);
        self.records.clear();
        self.count = 0;
        Ok(Some(Batch { bytes: BytesMut::from(Bytes::from(bytes)), count }))
    }
}

/// Writes all that does not depend on who sends the batch.
fn write_head(bytes: &mut [u8], compression: Compression, time: i64, count: i32) {
    let length =
        i32::try_from(bytes.len() - BEFORE_LENGTH).expect("a batch has at most as many bytes as a topic takes");
    let mut head = &mut bytes[..HEAD];
    head.put_i64(0); // the broker's to say
    head.put_i32(length);
    head.put_i32(-1); // the leader's epoch: the broker's to say
    head.put_i8(MAGIC);
    head.put_u32(0); // the checksum, when the sender is known
    head.put_i16(TRANSACTIONAL | compression.attribute());
    head.put_i32(count - 1);
    head.put_i64(time);
    head.put_i64(time);
    head.put_i64(-1);
    head.put_i16(-1);
    head.put_i32(-1);
    head.put_i32(count);
}

/// Where the producer's id stands.
const PRODUCER_AT: usize = 43;

/// A batch that lacks its sender.
#[derive(Debug)]
pub struct Batch {
    bytes: BytesMut,
    count: i32,
}

impl Batch {
    /// How many records it holds.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The batch as it is sent.
    pub fn seal(mut self, sequence: Sequence) -> Bytes {
        let mut sender = &mut self.bytes[PRODUCER_AT..];
        sender.put_i64(sequence.producer_id);
        sender.put_i16(sequence.producer_epoch);
        sender.put_i32(sequence.first);
        let checksum = crc32c::crc32c(&self.bytes[CHECKSUM_AT + 4..]);
        self.bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_be_bytes());
        self.bytes.freeze()
    }
}

#[cfg(test)]
mod tests;
