//! One Postgres transaction: feedback rows, cursors, the round itself.
//!
//! A round goes through three types, and each can only be made from the one before. [`StagedRows`]: rows are written, nothing is decided. [`Recorded`]:
//! the frozen decision is committed. [`Published`]: Kafka committed it. Recording takes the `Published` of the round before, so that two rounds can
//! never be under way.

use std::sync::Arc;

use uuid::Uuid;

use crate::fail_point::fail_point;
use crate::model::mark::{CommittedMark, RoundVersion};
use crate::model::number::Lane;
use crate::model::recorded::{Published, Recorded};
use crate::model::round::{RoundContent, Sealed};
use crate::ports::ledger::{LedgerError, RoundTransaction};

/// A round whose rows are copied in an open transaction. Dropped, it never was.
pub struct StagedRows<O> {
    open: O,
    content: Arc<RoundContent>,
}

impl<O: RoundTransaction> StagedRows<O> {
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
    pub async fn seal(self, lane: Lane, ledger: Uuid, before: &Published) -> Result<SealOutcome, LedgerError> {
        let version = RoundVersion { seq: before.version().seq.next(), revision: 0, checksum: self.content.checksum() };
        fail_point("round.sealing");
        let sealed = self.open.seal(version, Arc::clone(&self.content)).await?;
        let (position, closed_campaigns) = match sealed {
            Sealed::Recorded { position, closed_campaigns } => (position, closed_campaigns),
            Sealed::Conflict(campaigns) => return Ok(SealOutcome::Conflict(campaigns)),
        };
        fail_point("round.sealed");
        let mark = CommittedMark { ledger, version };
        Ok(SealOutcome::Recorded(Recorded::committed(mark, lane, position, &self.content, closed_campaigns)))
    }
}

/// The outcome of a round that was to be recorded.
#[derive(Debug)]
pub enum SealOutcome {
    /// It is recorded.
    Recorded(Recorded),
    /// It is not: these of its campaigns do not stand as it was planned. Plan again.
    Conflict(Vec<String>),
}
