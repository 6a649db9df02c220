//! What an intake records, and what it makes of it.

use crate::model::campaign::Window;
use crate::model::due::{RunningCampaign, WaitingDeadLetter};
use crate::model::input::DecodedRecord;
use crate::model::number::{Offset, Seconds};
use crate::model::record::{Record, RecordFingerprint};

/// Records that arrived one after the other, decoded, and the positions before and after them.
#[derive(Debug, Clone)]
pub struct IntakeBatch {
    /// The lane's position before; compared when the position is set.
    pub from: Offset,
    /// The position after.
    pub to: Offset,
    /// The records with what each of them is.
    pub records: Vec<(Record, DecodedRecord)>,
}

impl IntakeBatch {
    /// The fingerprint of the last record that could be read.
    pub fn last_fingerprint(&self) -> Option<RecordFingerprint> {
        self.records.iter().rev().find_map(|(record, _)| record.fingerprint())
    }
}

/// What an intake, or applying changes, made of its records.
#[derive(Debug, Clone, Default)]
pub struct IntakeOutcome {
    /// Campaigns that are new and may get drafts now.
    pub started: Vec<RunningCampaign>,
    /// Campaigns that exist by now in another version, window or state: what is known of them is to be read again.
    pub changed: Vec<String>,
    /// The windows that they have by now: outside of them, a recorded round of theirs must not be begun. That of a cancelled one is
    /// [`Window::NEVER`].
    pub windows: Vec<(String, Window)>,
    /// Dead letters that a round has to publish.
    pub dead_letters: Vec<WaitingDeadLetter>,
    /// The next start or end among what arrived.
    pub next_deadline: Option<Seconds>,
    /// How many records ended as what.
    pub tally: Tally,
    /// Whether more changes may wait to be applied: more than fit into one transaction.
    pub more_changes: bool,
}

/// How many input records ended as what; they add up to the records taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// New campaigns, those among them that had ended included.
    pub campaigns: i64,
    /// Newer versions.
    pub updates: i64,
    /// Older versions, ignored.
    pub older_updates: i64,
    /// Identical copies.
    pub duplicates: i64,
    /// Handed to the lane that owns the campaign.
    pub handed_over: i64,
    /// Tombstones.
    pub cancellations: i64,
    /// Dead letters.
    pub dead_letters: i64,
}

impl Tally {
    /// All of them.
    pub fn records(&self) -> i64 {
        let Self { campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters } = self;
        campaigns + updates + older_updates + duplicates + handed_over + cancellations + dead_letters
    }
}
