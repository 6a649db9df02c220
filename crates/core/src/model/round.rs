//! A round: what it records, as it is named, read back and published.

use crate::model::campaign::Window;
use crate::model::draft::{DraftBatch, dead_letter_checksum};
use crate::model::mark::{CommittedMark, RoundVersion};
use crate::model::number::{Lane, Offset, Seconds};
use crate::model::record::DeadLetterMessage;

/// A page of the main pass of one campaign, and who was late for it, in a round.
#[derive(Debug, Clone)]
pub struct RoundPart {
    /// The drafts of the part: the page's clients first, then the late ones.
    pub drafts: DraftBatch,
    /// The campaign's version.
    pub revision: i32,
    /// The page, where the main pass moves.
    pub page: Option<PageRange>,
    /// How many of the drafts are of late subscribers.
    pub late: usize,
}

impl RoundPart {
    /// Returns whether the main pass is over with it and nobody favours the restaurant.
    pub fn found_nobody(&self) -> bool {
        let is_whole = |page: &PageRange| page.after.is_none() && page.last && page.already_told.is_empty();
        self.drafts.clients.is_empty() && self.page.as_ref().is_some_and(is_whole)
    }
}

/// The range of clients that a page covers, and who in it had a draft already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRange {
    /// The cursor before: exclusive, none from the beginning.
    pub after: Option<String>,
    /// The cursor afterwards: inclusive. None only for an empty page.
    pub upto: Option<String>,
    /// Whether the main pass ends with it.
    pub last: bool,
    /// Clients in the range that had a feedback row before.
    pub already_told: Vec<String>,
    /// Client ids that are empty, too long or no UTF-8.
    pub skipped: u64,
}

/// Everything that a round records.
#[derive(Debug, Clone)]
pub struct RoundContent {
    /// The drafts by campaign.
    pub parts: Vec<RoundPart>,
    /// The dead letters that it publishes.
    pub dead_letters: Vec<DeadLetterMessage>,
    /// The moment at which its drafts were formed.
    pub trigger_datetime_created: Seconds,
    /// What the lane's next owner is to know: most bytes of a round, where the link is slow.
    pub round_bytes: Option<i64>,
}

/// A recorded round, read back.
#[derive(Debug, Clone)]
pub struct StoredRound {
    /// Seq, revision and checksum of the round.
    pub version: RoundVersion,
    /// The offset recorded with it.
    pub position: Offset,
    /// How many drafts it holds by its own record.
    pub drafts: u64,
    /// The drafts found.
    pub batches: Vec<DraftBatch>,
    /// The dead letters found.
    pub dead_letters: Vec<DeadLetterMessage>,
    /// Ids of the campaigns in it that are not open, as they stand now: ended, cancelled, or moved to a later start. Not to be published.
    pub not_open: Vec<String>,
    /// The time in which all campaigns in it are open, as updates have moved their windows since.
    pub open: Window,
}

/// What the compare-and-set at the end of a recording answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// The round is recorded; the lane's position stood here.
    Recorded {
        /// The offset to commit with it.
        position: Offset,
        /// Whether campaigns of the round before turned out to be over: who was not told of them is to be counted.
        closed_campaigns: bool,
    },
    /// These campaigns of the round ended, were updated or cancelled meanwhile (none: its dead letters are another round's): nothing is
    /// recorded, plan again.
    Conflict(Vec<String>),
}

/// What goes into one Kafka transaction.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The lane.
    pub lane: Lane,
    /// The offset that is committed: the lane's position when the round was recorded.
    pub offset: Offset,
    /// The metadata committed with it.
    pub mark: CommittedMark,
    /// The drafts, for each campaign version.
    pub drafts: Vec<DraftBatch>,
    /// Dead letters to publish, after the drafts.
    pub dead_letters: Vec<DeadLetterMessage>,
}

impl Publication {
    /// Returns what its drafts take as messages and as rows, in bytes.
    pub fn draft_bytes(&self) -> usize {
        self.drafts.iter().map(DraftBatch::size).sum()
    }

    /// Returns what its messages take on their way to Kafka, in bytes.
    pub fn wire_bytes(&self) -> usize {
        let drafts: usize = self.drafts.iter().map(DraftBatch::size_of_messages).sum();
        drafts + self.dead_letters.iter().map(DeadLetterMessage::size).sum::<usize>()
    }
}

pub(super) fn checksum<'a>(
    batches: impl IntoIterator<Item = &'a DraftBatch>,
    dead_letters: impl Iterator<Item = i64>,
) -> i64 {
    let drafts = batches.into_iter().fold(0u64, |sum, batch| sum.wrapping_add(batch.checksum()));
    dead_letters.fold(drafts, |sum, id| sum.wrapping_add(dead_letter_checksum(id))).cast_signed()
}

impl RoundPart {
    /// Its campaign's id.
    pub fn id(&self) -> String {
        self.drafts.template.campaign().adv_campaign_id.clone()
    }
}

impl RoundContent {
    /// Returns what its drafts take as messages and as rows, in bytes.
    pub fn draft_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.drafts.size()).sum()
    }

    /// Returns how many drafts it holds.
    pub fn drafts(&self) -> usize {
        self.parts.iter().map(|part| part.drafts.clients.len()).sum()
    }

    /// Of its drafts and dead letters, in any order.
    pub fn checksum(&self) -> i64 {
        checksum(self.parts.iter().map(|part| &part.drafts), self.dead_letters.iter().map(|letter| letter.id))
    }

    /// The time in which all campaigns that have drafts in it are open.
    pub fn open(&self) -> Window {
        let with_drafts = self.parts.iter().filter(|part| !part.drafts.clients.is_empty());
        with_drafts.map(|part| part.drafts.template.campaign().window).fold(Window::ALWAYS, Window::and)
    }
}
