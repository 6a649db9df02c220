//! The order of a round as types: publishing takes a [`Recorded`] round, and recording the next one takes the [`Published`] of the one before.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::guard::{Guard, Guards};
use crate::model::campaign::Window;
use crate::model::mark::{CommittedMark, RoundVersion};
use crate::model::number::{Lane, Offset};
use crate::model::round::{Publication, RoundContent, StoredRound, checksum};

/// A round that is recorded: the frozen decision of who is told what. Made only after the ledger's commit, or from what the ledger holds;
/// publishing takes nothing else.
#[derive(Debug, Clone)]
pub struct Recorded {
    version: RoundVersion,
    publication: Arc<Publication>,
    window: Window,
    closed_campaigns: bool,
}

/// The feedback rows of a recorded round are not what it was recorded with; in words for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DamagedRound(pub String);

impl Recorded {
    /// The round that the ledger has just committed, at this position. For the recording alone (`round::stage_and_seal`).
    pub(crate) fn committed(
        mark: CommittedMark,
        lane: Lane,
        position: Offset,
        content: &RoundContent,
        closed_campaigns: bool,
    ) -> Self {
        let publication = Publication {
            lane,
            offset: position,
            mark,
            drafts: content.parts.iter().map(|part| part.drafts.clone()).collect(),
            dead_letters: content.dead_letters.clone(),
        };
        Self { version: mark.version, publication: Arc::new(publication), window: content.open(), closed_campaigns }
    }

    /// Reads the last recorded round back. It is taken up only when its count and checksum are those that were recorded.
    pub fn read_back(lane: Lane, ledger: Uuid, stored: StoredRound, guards: Guards) -> Result<Self, DamagedRound> {
        let found: u64 = stored.batches.iter().map(|batch| batch.clients.len() as u64).sum();
        let checksum = checksum(&stored.batches, stored.dead_letters.iter().map(|letter| letter.id));
        let as_recorded = found == stored.drafts && checksum == stored.version.checksum;
        if !as_recorded && guards.enabled(Guard::ChecksumReadBack) {
            return Err(DamagedRound(format!(
                "round {lane}/{} was recorded with {} drafts and checksum {:016x}, but {found} drafts with checksum {checksum:016x} are \
                 found: rows of it were changed or removed",
                stored.version.seq, stored.drafts, stored.version.checksum
            )));
        }
        let publication = Publication {
            lane,
            offset: stored.position,
            mark: CommittedMark { ledger, version: stored.version },
            drafts: stored.batches,
            dead_letters: stored.dead_letters,
        };
        Ok(Self {
            version: stored.version,
            publication: Arc::new(publication),
            window: stored.open,
            closed_campaigns: false,
        })
    }

    /// The mark of a round that is published already, without its drafts: whatever became of its rows since, the mark stands.
    pub(crate) fn mark_only(lane: Lane, ledger: Uuid, stored: &StoredRound) -> Self {
        let mark = CommittedMark { ledger, version: stored.version };
        let publication =
            Publication { lane, offset: stored.position, mark, drafts: Vec::new(), dead_letters: Vec::new() };
        Self {
            version: stored.version,
            publication: Arc::new(publication),
            window: Window::ALWAYS,
            closed_campaigns: false,
        }
    }

    /// Returns its seq, revision and checksum.
    pub fn version(&self) -> RoundVersion {
        self.version
    }

    /// Returns what Kafka is to be told.
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// The same, for a producer's thread.
    pub fn share(&self) -> Arc<Publication> {
        Arc::clone(&self.publication)
    }

    /// The time in which all its campaigns are open: outside of it, the round may not be begun.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Whether, as it was recorded, campaigns of the round before turned out to be over: who was not told of them is to be counted.
    pub fn has_closed_campaigns(&self) -> bool {
        self.closed_campaigns
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

    /// Returns what its drafts take as messages and as rows, in bytes.
    pub fn draft_bytes(&self) -> usize {
        self.publication.draft_bytes()
    }

    /// Returns how many drafts it holds.
    pub fn drafts(&self) -> usize {
        self.publication.drafts.iter().map(|batch| batch.clients.len()).sum()
    }

    /// A round of a test of the broker, that no ledger knows.
    #[cfg(feature = "fail-points")]
    pub fn for_test(publication: Publication) -> Self {
        Self {
            version: publication.mark.version,
            publication: Arc::new(publication),
            window: Window::ALWAYS,
            closed_campaigns: false,
        }
    }
}

/// Proof that a round is committed in Kafka. Made by the publication alone, or where
/// both sides were found to name the round; the next round cannot be recorded without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    version: RoundVersion,
    delivery: Option<Delivery>,
}

impl Published {
    /// Returns the version that Kafka holds.
    pub fn version(&self) -> RoundVersion {
        self.version
    }

    /// What was delivered by it, where it was published just now.
    pub fn delivery(&self) -> Option<Delivery> {
        self.delivery
    }

    /// Kafka committed the round just now. For the publication alone (`round::publish`).
    pub(crate) fn committed(version: RoundVersion, delivery: Delivery) -> Self {
        Self { version, delivery: Some(delivery) }
    }

    /// Both sides were found to name this round at the takeover.
    pub(crate) fn found(version: RoundVersion) -> Self {
        Self { version, delivery: None }
    }
}

/// What was delivered, and how long that took: the throughput of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The drafts, as messages and rows.
    pub bytes: usize,
    /// From the beginning of the transaction to its end.
    pub took: Duration,
}
