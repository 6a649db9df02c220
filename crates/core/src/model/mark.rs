//! The mark of a lane: which round its committed offset was committed with.

use crate::model::number::Seq;
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A state of a round: seq, revision and checksum. Both sides hold it; where they hold the same, they hold the same decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RoundVersion {
    /// The round's number in its lane.
    pub seq: Seq,
    /// How often it was changed by withdrawal.
    pub revision: i32,
    /// Of its drafts and dead letters, in any order.
    pub checksum: i64,
}

impl fmt::Display for RoundVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seq)?;
        if self.revision > 0 {
            write!(f, ", revision {}", self.revision)?;
        }
        write!(f, ", checksum {:016x}", self.checksum)
    }
}

/// The commit metadata of a lane's offset: which round of which ledger the offset was committed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommittedMark {
    /// The ledger's own id.
    pub ledger: Uuid,
    /// The version of the round.
    pub version: RoundVersion,
}

impl fmt::Display for CommittedMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RoundVersion { seq, revision, checksum } = self.version;
        write!(f, "dinnerbell/1 {} {seq} {revision} {:016x}", self.ledger.simple(), checksum.cast_unsigned())
    }
}

impl FromStr for CommittedMark {
    type Err = ForeignMetadata;

    fn from_str(text: &str) -> Result<Self, ForeignMetadata> {
        let mut words = text.split(' ');
        let mut word = || words.next().ok_or(ForeignMetadata);
        if word()? != "dinnerbell/1" {
            return Err(ForeignMetadata);
        }
        let mark = Self {
            ledger: word()?.parse().map_err(|_| ForeignMetadata)?,
            version: RoundVersion {
                seq: word()?.parse().map_err(|_| ForeignMetadata)?,
                revision: word()?.parse().map_err(|_| ForeignMetadata)?,
                checksum: u64::from_str_radix(word()?, 16).map_err(|_| ForeignMetadata)?.cast_signed(),
            },
        };
        if words.next().is_some() { Err(ForeignMetadata) } else { Ok(mark) }
    }
}

/// The text is not a mark that this service writes.
#[derive(Debug, thiserror::Error)]
#[error("not the metadata of a dinnerbell round")]
pub struct ForeignMetadata;

/// What the group's committed offset of a lane says (stable offsets only).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommittedOffset {
    /// Nothing is committed, or it expired, or was deleted.
    None,
    /// A mark of this service's form.
    Mark(CommittedMark),
    /// Something else, as text for the operator (unreadable metadata included).
    Foreign(String),
}

impl fmt::Display for CommittedOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no mark"),
            Self::Mark(mark) => write!(f, "its mark is of round {} (ledger {})", mark.version, mark.ledger),
            Self::Foreign(text) => write!(f, "{text}"),
        }
    }
}
