//! What both sinks hold, spread over temporary files by the draft's key. Equal keys meet in one bucket, and a bucket fits into memory however many
//! drafts there are. The files have no name: they go with the process.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

/// Entries that one bucket should hold at most: some ten megabytes in memory.
const PER_BUCKET: u64 = 200_000;
/// A process may have 1,024 files, and two sets of them are open at once.
const MAX_BUCKETS: u64 = 256;
/// Bytes that are gathered for each file before they are written.
const GATHERED: usize = 16 << 10;
/// Bytes of an entry in a file.
const SIZE: usize = 46;

/// What an entry says of its draft. The order is that of [`Entry`]s of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DraftSource {
    /// A message that was there when the comparison began.
    Message,
    /// A message that came afterwards: its row may be newer than the snapshot.
    LaterMessage,
    /// A feedback row.
    Row,
    /// A row was there before the client's page was read: an earlier job's.
    Before,
    /// A round that is not known to be published holds it.
    Recorded,
    /// Its draft was withdrawn, and somebody's open transaction has the row locked.
    Locked,
    /// Its row stands behind the campaign's cursor: no page holds it.
    BehindCursor,
    /// A round told the client late.
    Late,
}

/// One thing known of one draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Campaign and client.
    pub key: u128,
    /// What is known.
    pub kind: DraftSource,
    /// All ten fields; 0 where the kind has none.
    pub fingerprint: u64,
    /// The campaign.
    pub campaign: u64,
    /// The message's partition, or the round's lane.
    pub partition: i32,
    /// The message's offset, the row's id or the round's number.
    pub place: i64,
    /// Of a message: that it names a round of ours. Of a row: that somebody answered in it.
    pub flag: bool,
}

impl Entry {
    fn encode(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..16].copy_from_slice(&self.key.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.fingerprint.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.campaign.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.place.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.partition.to_le_bytes());
        bytes[44] = self.kind as u8;
        bytes[45] = u8::from(self.flag);
        bytes
    }

    fn decode(bytes: &[u8; SIZE]) -> io::Result<Self> {
        let kind = match bytes[44] {
            0 => DraftSource::Message,
            1 => DraftSource::LaterMessage,
            2 => DraftSource::Row,
            3 => DraftSource::Before,
            4 => DraftSource::Recorded,
            5 => DraftSource::Locked,
            6 => DraftSource::BehindCursor,
            7 => DraftSource::Late,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Self {
            key: u128::from_le_bytes(part(bytes, 0)),
            kind,
            fingerprint: u64::from_le_bytes(part(bytes, 16)),
            campaign: u64::from_le_bytes(part(bytes, 24)),
            place: i64::from_le_bytes(part(bytes, 32)),
            partition: i32::from_le_bytes(part(bytes, 40)),
            flag: bytes[45] != 0,
        })
    }
}

fn part<const N: usize>(bytes: &[u8; SIZE], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}

/// The files. One that nothing was put into does not exist.
#[derive(Debug)]
pub struct Buckets {
    files: Vec<Option<BufWriter<File>>>,
}

impl Buckets {
    /// Enough of them for about this number of entries.
    pub fn new(entries: u64) -> Self {
        let buckets = (entries / PER_BUCKET + 1).min(MAX_BUCKETS);
        Self { files: (0..buckets).map(|_| None).collect() }
    }

    /// Adds an entry. Fails where the disk has no room for it.
    pub fn push(&mut self, entry: &Entry) -> io::Result<()> {
        let bucket = (entry.key >> 64) as u64 % self.files.len() as u64;
        let file = match &mut self.files[bucket as usize] {
            Some(file) => file,
            none => none.insert(BufWriter::with_capacity(GATHERED, tempfile::tempfile()?)),
        };
        file.write_all(&entry.encode())
    }

    /// Each bucket's entries, sorted; a file is gone when its bucket was taken.
    pub fn into_sorted(self) -> impl Iterator<Item = io::Result<Vec<Entry>>> {
        self.files.into_iter().flatten().map(|file| {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let (entries, rest) = bytes.as_chunks::<SIZE>();
            if !rest.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut entries = entries.iter().map(Entry::decode).collect::<io::Result<Vec<_>>>()?;
            entries.sort_unstable();
            Ok(entries)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_sorted_and_once() {
        let entry = |n: u128, kind: DraftSource| Entry {
            key: n << 64 | n,
            kind,
            fingerprint: n as u64 + 1,
            campaign: 7,
            partition: -1,
            place: i64::MIN + n as i64,
            flag: n.is_multiple_of(2),
        };
        let mut buckets = Buckets::new(3 * PER_BUCKET);
        assert_eq!(buckets.files.len(), 4);
        let mut put = Vec::new();
        for n in 0..1000 {
            for kind in [
                DraftSource::Recorded,
                DraftSource::Locked,
                DraftSource::Before,
                DraftSource::Row,
                DraftSource::LaterMessage,
                DraftSource::Message,
            ] {
                put.push(entry(n, kind));
                buckets.push(&entry(n, kind)).expect("room on the disk");
            }
        }
        let mut found = Vec::new();
        for bucket in buckets.into_sorted() {
            let bucket = bucket.expect("the files can be read");
            assert!(bucket.is_sorted() && bucket.len() > 1000);
            found.extend(bucket);
        }
        put.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, put);
    }
}
