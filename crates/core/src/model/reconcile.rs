//! What a new owner makes of the two sides: the ledger's last round, and the mark that Kafka holds. Pure; the models in
//! `crates/sim/tests/model` run this very function.

use std::fmt;

use uuid::Uuid;

use crate::model::halt::{CommitLoss, HaltKind};
use crate::model::mark::{CommittedOffset, RoundVersion};
use crate::model::number::Seq;

/// What the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LedgerSide {
    /// Which ledger.
    pub ledger: Uuid,
    /// The last recorded round.
    pub head: RoundVersion,
    /// The one before, where it is still kept.
    pub previous: Option<RoundVersion>,
    /// The last round that the ledger knows to be committed in Kafka.
    pub published: Option<Seq>,
    /// Whether the lane was compared on the server and in the database that it uses now. Else the database may be an older state of itself, and
    /// know less than was told.
    pub compared: bool,
}

impl fmt::Display for LedgerSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its last round is {}, ", self.head)?;
        match self.published {
            Some(seq) if seq == self.head.seq => write!(f, "known to be published")?,
            Some(seq) => write!(f, "published at least up to round {seq}")?,
            None => write!(f, "not known to be published")?,
        }
        write!(f, " (ledger {})", self.ledger)
    }
}

/// What the new owner does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reconciled {
    /// Both sides name the same round: run.
    Equal,
    /// The ledger is one ahead: withdraw what has ended, publish that round, run.
    PublishRecorded,
    /// Kafka lost the mark of a round that the ledger knows to be published: commit that mark again, offsets only, run.
    RestoreMark,
    /// The sides contradict each other: halt, unless the epoch is gone.
    Contradiction(Contradiction),
}

/// Why the two sides cannot both be right.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Contradiction {
    /// Kafka holds no mark, and the ledger does not know whether its last round was published.
    MarkMissing,
    /// Kafka's mark is of a later round: the database lost its last commits.
    KafkaAhead,
    /// Kafka's mark is more than one round behind, or behind a round that the ledger knows to be published.
    KafkaBehind,
    /// The same round, or the one before it, with other content: the database lost commits and went on without them.
    OtherContent,
    /// The mark belongs to another ledger.
    OtherLedger,
    /// The metadata is not this service's.
    Foreign,
}

impl Contradiction {
    /// The halt that it is.
    pub fn halt(&self) -> HaltKind {
        match self {
            Self::MarkMissing => HaltKind::MarkMissing,
            Self::KafkaAhead => HaltKind::KafkaAhead,
            Self::KafkaBehind => HaltKind::KafkaBehind,
            Self::OtherContent => HaltKind::OtherContent,
            Self::OtherLedger => HaltKind::OtherLedger,
            Self::Foreign => HaltKind::ForeignOffset,
        }
    }

    /// Whether the ledger may know less than was told: where Kafka is behind, it knows all of it.
    pub fn may_hide_loss(&self) -> bool {
        self.halt().commit_loss() != CommitLoss::Nothing
    }
}

/// Compares the two sides.
pub fn reconcile(ours: &LedgerSide, theirs: &CommittedOffset) -> Reconciled {
    use Contradiction::{Foreign, KafkaAhead, KafkaBehind, MarkMissing, OtherContent, OtherLedger};
    let mark = match theirs {
        // A restored database knows its last round to be published too, though not the rounds that followed; so does one that knows of none yet.
        CommittedOffset::None if ours.published == Some(ours.head.seq) && ours.compared => {
            return Reconciled::RestoreMark;
        }
        CommittedOffset::None if ours.head.seq == Seq::FIRST && ours.published.is_none() => {
            return Reconciled::PublishRecorded;
        }
        CommittedOffset::None => return Reconciled::Contradiction(MarkMissing),
        CommittedOffset::Foreign(_) => return Reconciled::Contradiction(Foreign),
        CommittedOffset::Mark(mark) => mark,
    };
    if mark.ledger != ours.ledger {
        return Reconciled::Contradiction(OtherLedger);
    }
    match mark.version.seq - ours.head.seq {
        0 if mark.version == ours.head => Reconciled::Equal,
        // Kafka lost the commit of a round that the ledger knows to be published: publishing it again would tell everyone twice.
        -1 if ours.published == Some(ours.head.seq) => Reconciled::Contradiction(KafkaBehind),
        -1 if ours.previous.is_none_or(|previous| previous == mark.version) => Reconciled::PublishRecorded,
        0 | -1 => Reconciled::Contradiction(OtherContent),
        1.. => Reconciled::Contradiction(KafkaAhead),
        _ => Reconciled::Contradiction(KafkaBehind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_restored_only_where_the_ledger_is_known_to_have_lost_nothing() {
        let head = RoundVersion { seq: Seq::new(3), revision: 0, checksum: 7 };
        let side = |head: RoundVersion, compared| {
            let published = Some(head.seq);
            let ours = LedgerSide { ledger: Uuid::from_u128(1), head, previous: None, published, compared };
            reconcile(&ours, &CommittedOffset::None)
        };
        assert_eq!(side(head, true), Reconciled::RestoreMark);
        assert_eq!(side(head, false), Reconciled::Contradiction(Contradiction::MarkMissing));
        let missing = Reconciled::Contradiction(Contradiction::MarkMissing);
        assert_eq!(side(RoundVersion::default(), false), missing, "the copy may be older than all that was told");
    }

    #[test]
    fn a_new_lane_publishes_the_round_that_only_says_how_far_it_is() {
        let ours = LedgerSide {
            ledger: Uuid::from_u128(1),
            head: RoundVersion::default(),
            previous: None,
            published: None,
            compared: false,
        };
        assert_eq!(reconcile(&ours, &CommittedOffset::None), Reconciled::PublishRecorded);
    }
}
