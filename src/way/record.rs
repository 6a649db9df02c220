//! One Postgres transaction: feedback rows, cursors, the round itself.
//!
//! A round goes through three types, and each can only be made from the one before: [`Copied`] (rows written, nothing decided),
//! [`Recorded`] (committed: the frozen decision), [`Published`] (Kafka committed it). Recording takes the
//! `Published` of the round before, so that two rounds can never be under way.

use std::sync::Arc;

use uuid::Uuid;

use super::publish::Published;
use crate::broker::{Lane, Mark, Publication};
use crate::campaign::Window;
use crate::draft::dead_letter_checksum;
use crate::fail_point::fail_point;
use crate::ledger::{Ledger, LedgerError, OpenRound, RoundContent, RoundHead, Sealed, StoredRound};

/// A round whose rows are copied in an open transaction. Dropped, it never was.
pub struct Copied<O> {
    open: O,
    content: Arc<RoundContent>,
}

impl<O: OpenRound> Copied<O> {
    /// Copies the rows of a round.
    pub async fn copy(mut open: O, content: Arc<RoundContent>) -> Result<Self, LedgerError> {
        if content.drafts() > 0 {
            open.copy(Arc::clone(&content)).await?;
        }
        fail_point("round.copied");
        Ok(Self { open, content })
    }

    /// What the round holds.
    pub fn content(&self) -> &Arc<RoundContent> {
        &self.content
    }

    /// Records the round after the one that is published.
    pub async fn seal(self, lane: Lane, ledger: Uuid, before: &Published) -> Result<Outcome, LedgerError> {
        let head = RoundHead { seq: before.head().seq + 1, revision: 0, checksum: self.content.checksum() };
        fail_point("round.sealing");
        let sealed = self.open.seal(head, Arc::clone(&self.content)).await?;
        let (position, closed) = match sealed {
            Sealed::Recorded { position, closed } => (position, closed),
            Sealed::Stale(campaigns) => return Ok(Outcome::Overtaken(campaigns)),
        };
        fail_point("round.sealed");
        let publication = Publication {
            lane,
            offset: position,
            mark: Mark { ledger, head },
            drafts: self.content.parts.iter().map(|part| part.drafts.clone()).collect(),
            dead_letters: self.content.dead_letters.clone(),
        };
        let open = self.content.open();
        Ok(Outcome::Recorded(Recorded { head, publication: Arc::new(publication), open, closed }))
    }
}

/// What became of a round that was to be recorded.
#[derive(Debug)]
pub enum Outcome {
    /// It is recorded.
    Recorded(Recorded),
    /// It is not: these of its campaigns do not stand as it was planned. Plan again.
    Overtaken(Vec<String>),
}

/// A round that is recorded: the frozen decision of who is told what. Only this module makes one, after the ledger's commit or from what
/// the ledger holds; publishing takes nothing else.
#[derive(Debug, Clone)]
pub struct Recorded {
    head: RoundHead,
    publication: Arc<Publication>,
    open: Window,
    closed: bool,
}

impl Recorded {
    /// Reads the last recorded round back. It is taken up only when its count and checksum are those that were recorded.
    pub fn read_back(lane: Lane, ledger: Uuid, stored: StoredRound) -> Result<Self, LedgerError> {
        let found: u64 = stored.batches.iter().map(|batch| batch.clients.len() as u64).sum();
        let checksum = checksum(&stored.batches, stored.dead_letters.iter().map(|letter| letter.id));
        if found != stored.drafts || checksum != stored.head.checksum {
            return Err(LedgerError::Damaged(format!(
                "round {lane}/{} was recorded with {} drafts and checksum {:016x}, but {found} drafts with checksum {checksum:016x} are \
                 found: rows of it were changed or removed",
                stored.head.seq, stored.drafts, stored.head.checksum
            )));
        }
        let publication = Publication {
            lane,
            offset: stored.position,
            mark: Mark { ledger, head: stored.head },
            drafts: stored.batches,
            dead_letters: stored.dead_letters,
        };
        Ok(Self { head: stored.head, publication: Arc::new(publication), open: stored.open, closed: false })
    }

    /// The mark of a round that is published already, without its drafts: whatever became of its rows since, the mark stands.
    pub(super) fn mark_only(lane: Lane, ledger: Uuid, stored: &StoredRound) -> Self {
        let mark = Mark { ledger, head: stored.head };
        let publication =
            Publication { lane, offset: stored.position, mark, drafts: Vec::new(), dead_letters: Vec::new() };
        Self { head: stored.head, publication: Arc::new(publication), open: Window::ALWAYS, closed: false }
    }

    /// The round's name.
    pub fn head(&self) -> RoundHead {
        self.head
    }

    /// What Kafka is to be told.
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// The same, for whoever tells it on a thread of their own.
    pub fn share(&self) -> Arc<Publication> {
        Arc::clone(&self.publication)
    }

    /// The time in which all its campaigns are open: outside of it, the round may not be begun.
    pub fn open(&self) -> Window {
        self.open
    }

    /// Whether, as it was recorded, campaigns of the round before turned out to be over: who was not told of them is to be counted.
    pub fn closed_others(&self) -> bool {
        self.closed
    }

    /// The campaigns that have drafts in it.
    pub fn campaigns(&self) -> impl Iterator<Item = &str> {
        let with_drafts = self.publication.drafts.iter().filter(|batch| !batch.clients.is_empty());
        with_drafts.map(|batch| batch.template.campaign().adv_campaign_id.as_str())
    }

    /// Whether Kafka's readers see anything of it.
    pub fn has_messages(&self) -> bool {
        self.drafts() > 0 || !self.publication.dead_letters.is_empty()
    }

    /// What its drafts take as messages and as rows, in bytes.
    pub fn bytes(&self) -> usize {
        self.publication.bytes()
    }

    /// How many drafts it holds.
    pub fn drafts(&self) -> usize {
        self.publication.drafts.iter().map(|batch| batch.clients.len()).sum()
    }

    /// A round of a test of the broker, that no ledger knows.
    #[cfg(feature = "fail-points")]
    pub fn for_test(publication: Publication) -> Self {
        Self { head: publication.mark.head, publication: Arc::new(publication), open: Window::ALWAYS, closed: false }
    }
}

fn checksum<'a>(
    batches: impl IntoIterator<Item = &'a crate::draft::DraftBatch>,
    dead_letters: impl Iterator<Item = i64>,
) -> i64 {
    let drafts = batches.into_iter().fold(0u64, |sum, batch| sum.wrapping_add(batch.checksum()));
    dead_letters.fold(drafts, |sum, id| sum.wrapping_add(dead_letter_checksum(id))).cast_signed()
}

impl crate::ledger::RoundPart {
    /// Its campaign's id.
    pub fn id(&self) -> String {
        self.drafts.template.campaign().adv_campaign_id.clone()
    }
}

impl RoundContent {
    /// What its drafts take as messages and as rows, in bytes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.drafts.size()).sum()
    }

    /// How many drafts it holds.
    pub fn drafts(&self) -> usize {
        self.parts.iter().map(|part| part.drafts.clients.len()).sum()
    }

    /// Of its drafts and dead letters, in any order.
    pub fn checksum(&self) -> i64 {
        checksum(self.parts.iter().map(|part| &part.drafts), self.dead_letters.iter().map(|letter| letter.id))
    }

    /// The time in which all campaigns that have drafts in it are open.
    fn open(&self) -> Window {
        let with_drafts = self.parts.iter().filter(|part| !part.drafts.clients.is_empty());
        with_drafts.map(|part| part.drafts.template.campaign().window).fold(Window::ALWAYS, Window::and)
    }
}

/// Opens a round and copies its rows.
pub async fn copy<L: Ledger>(open: L::Open, content: RoundContent) -> Result<Copied<L::Open>, LedgerError> {
    Copied::copy(open, Arc::new(content)).await
}
