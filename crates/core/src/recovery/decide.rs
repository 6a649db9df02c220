//! What `lane resolve --from-kafka` makes of what it found: pure.
//!
//! Postgres decides and Kafka announces; but when the two contradict each other, what was announced cannot be taken back. So the output
//! topic is believed about what was told, and the ledger follows:
//!
//! - a draft with a message gets its row, if it has none;
//! - the ledger's last round is published if its drafts have messages, and is left to be published again if none of them has;
//! - a round may have gone out in part: it was withdrawn from, and the ledger lost that. Its drafts without a message are taken back, so that a later
//!   round tells those clients;
//! - the lane goes on with the highest number that either side knows.

use crate::model::mark::{CommittedMark, CommittedOffset, RoundVersion};
use crate::model::number::Seq;
use crate::model::reconcile::{LedgerSide, Reconciled, reconcile};

/// What an operator says about a round of which the topic no longer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assumed {
    /// It was published.
    Published,
    /// It was not.
    Unpublished,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The ledger's side.
    pub ours: LedgerSide,
    /// Kafka's mark.
    pub theirs: CommittedOffset,
    /// The highest number of a round of this lane in the output topic; 0 where there is none.
    pub newest_in_topic: Seq,
    /// Drafts of the ledger's last round that have a message.
    pub told: u64,
    /// Those that have none.
    pub untold: u64,
    /// Whether the topic still holds everything since that round was formed.
    pub covered: bool,
    /// What the operator says.
    pub assumed: Option<Assumed>,
}

/// What becomes of the ledger's last round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRound {
    /// It is published as it stands.
    Published,
    /// It is published, but for the drafts without a message: those are taken back.
    PublishedInPart,
    /// It is left to be published again.
    Unpublished,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the ledger's last round.
    pub last: LastRound,
    /// The round with which the lane goes on.
    pub head: RoundVersion,
    /// Whether that round is known to be published.
    pub published: Option<Seq>,
    /// Whether the lane has to write Kafka's mark again.
    pub mark_overruled: bool,
}

/// The topic no longer holds what would tell whether the last round was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the output topic no longer holds everything since round {0} was formed, and none of its drafts is found: say whether it was published \
     with --assume published (then nobody is told twice, and some perhaps never) or --assume unpublished (then it is published now, as \
     far as its campaigns still run)"
)]
pub struct Untold(pub Seq);

/// Decides. The errors are for the operator.
pub fn decide(found: &Evidence) -> Result<Decision, Untold> {
    let ours = &found.ours;
    let mark = match &found.theirs {
        CommittedOffset::Mark(mark) if mark.ledger == ours.ledger => Some(mark),
        _ => None,
    };
    let newest = ours.head.seq.max(mark.map_or(Seq::FIRST, |mark| mark.version.seq)).max(found.newest_in_topic);
    let last = last_round(found, mark, newest)?;
    let marked = mark.filter(|mark| mark.version.seq == newest && last != LastRound::Unpublished);
    let head = match marked {
        Some(mark) => mark.version,
        None if newest > ours.head.seq => RoundVersion { seq: newest, revision: 0, checksum: 0 },
        None => ours.head,
    };
    let published = match last {
        LastRound::Unpublished => ours.published.filter(|published| *published < head.seq),
        _ => Some(newest),
    };
    let previous = if newest > ours.head.seq { None } else { ours.previous };
    let settled = reconcile(&LedgerSide { head, previous, published, compared: true, ..*ours }, &found.theirs);
    Ok(Decision { last, head, published, mark_overruled: matches!(settled, Reconciled::Contradiction(_)) })
}

fn last_round(found: &Evidence, mark: Option<&CommittedMark>, newest: Seq) -> Result<LastRound, Untold> {
    let head = found.ours.head;
    // Nothing follows an unpublished round, and Kafka's mark moves only with a round.
    let went_out = newest > head.seq || mark.is_some_and(|mark| mark.version.seq >= head.seq);
    if found.ours.published == Some(head.seq) {
        return Ok(LastRound::Published);
    }
    Ok(match (found.told, found.untold) {
        (0, 0) if went_out => LastRound::Published,
        (0, 0) => LastRound::Unpublished,
        (_, 0) => LastRound::Published,
        // Of what was deleted nothing is known: rows stay.
        (told, _) if !found.covered && (went_out || told > 0) => LastRound::Published,
        (told, _) if went_out || told > 0 => LastRound::PublishedInPart,
        (_, _) if found.covered => LastRound::Unpublished,
        (_, _) => match found.assumed {
            Some(Assumed::Published) => LastRound::Published,
            Some(Assumed::Unpublished) => LastRound::Unpublished,
            None => return Err(Untold(head.seq)),
        },
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::recovery::decide::*;

    const LEDGER: Uuid = Uuid::from_u128(1);

    fn head(seq: i64) -> RoundVersion {
        RoundVersion { seq: Seq::new(seq), revision: 0, checksum: 100 + seq }
    }

    fn mark(head: RoundVersion) -> CommittedOffset {
        CommittedOffset::Mark(CommittedMark { ledger: LEDGER, version: head })
    }

    /// The ledger recorded round 5, of two drafts, and does not know whether it is published.
    fn evidence(theirs: CommittedOffset, told: u64, untold: u64) -> Evidence {
        Evidence {
            ours: LedgerSide {
                ledger: LEDGER,
                head: head(5),
                previous: Some(head(4)),
                published: Some(Seq::new(4)),
                compared: true,
            },
            theirs,
            newest_in_topic: Seq::new(4),
            told,
            untold,
            covered: true,
            assumed: None,
        }
    }

    fn decided(evidence: &Evidence) -> Decision {
        decide(evidence).expect("the topic tells")
    }

    #[test]
    fn a_database_that_lost_commits_takes_kafkas_round_over() {
        let decision = decided(&Evidence { newest_in_topic: Seq::new(8), ..evidence(mark(head(8)), 2, 0) });
        let expected =
            Decision { last: LastRound::Published, head: head(8), published: Some(Seq::new(8)), mark_overruled: false };
        assert_eq!(decision, expected);
    }

    #[test]
    fn what_was_withdrawn_before_the_loss_is_taken_back() {
        for (told, untold) in [(0, 2), (1, 1)] {
            let decision = decided(&evidence(mark(head(8)), told, untold));
            assert_eq!((decision.last, decision.published), (LastRound::PublishedInPart, Some(Seq::new(8))));
            let withdrawn = RoundVersion { revision: 1, checksum: 0, ..head(5) };
            let decision = decided(&evidence(mark(withdrawn), told, untold));
            let expected = Decision {
                last: LastRound::PublishedInPart,
                head: withdrawn,
                published: Some(Seq::new(5)),
                mark_overruled: false,
            };
            assert_eq!(decision, expected);
        }
    }

    #[test]
    fn without_a_mark_the_topic_says_whether_the_last_round_is_published() {
        for theirs in [CommittedOffset::None, CommittedOffset::Foreign("offset 3".to_owned()), mark(head(2))] {
            let decision = decided(&evidence(theirs.clone(), 0, 2));
            assert_eq!(
                (decision.last, decision.published, decision.head),
                (LastRound::Unpublished, Some(Seq::new(4)), head(5))
            );
            assert!(decision.mark_overruled, "{theirs:?}");
            let decision = decided(&evidence(theirs.clone(), 2, 0));
            assert_eq!(
                (decision.last, decision.published, decision.head),
                (LastRound::Published, Some(Seq::new(5)), head(5))
            );
            // A lane that lost its mark restores it by itself once the ledger knows.
            assert_eq!(decision.mark_overruled, theirs != CommittedOffset::None);
        }
    }

    #[test]
    fn another_ledgers_rounds_are_not_overwritten_by_ours() {
        let other = CommittedOffset::Mark(CommittedMark { ledger: Uuid::from_u128(2), version: head(40) });
        let decision = decided(&Evidence { newest_in_topic: Seq::new(40), ..evidence(other, 0, 2) });
        assert_eq!(decision.head, RoundVersion { seq: Seq::new(40), revision: 0, checksum: 0 });
        assert_eq!(
            (decision.last, decision.published, decision.mark_overruled),
            (LastRound::PublishedInPart, Some(Seq::new(40)), true)
        );
    }

    #[test]
    fn of_what_the_topic_lost_nothing_is_taken_back_and_the_operator_decides() {
        let lost = Evidence { covered: false, ..evidence(CommittedOffset::None, 0, 2) };
        assert_eq!(decide(&lost), Err(Untold(Seq::new(5))));
        let assume = |assumed| decided(&Evidence { assumed: Some(assumed), ..lost.clone() });
        assert_eq!(assume(Assumed::Published).last, LastRound::Published);
        assert_eq!(assume(Assumed::Unpublished).last, LastRound::Unpublished);
        assert_eq!(decided(&Evidence { told: 1, untold: 1, ..lost.clone() }).last, LastRound::Published);
    }

    #[test]
    fn a_round_that_the_ledger_knows_to_be_published_is_never_published_again() {
        let mut known = evidence(mark(head(2)), 0, 2);
        known.ours.published = Some(Seq::new(5));
        let decision = decided(&known);
        assert_eq!(
            (decision.last, decision.published, decision.mark_overruled),
            (LastRound::Published, Some(Seq::new(5)), true)
        );
    }

    #[test]
    fn a_new_ledger_goes_on_behind_the_rounds_of_the_lost_one() {
        let fresh = Evidence {
            ours: LedgerSide {
                ledger: LEDGER,
                head: RoundVersion::default(),
                previous: None,
                published: None,
                compared: true,
            },
            newest_in_topic: Seq::new(12),
            ..evidence(CommittedOffset::Mark(CommittedMark { ledger: Uuid::from_u128(2), version: head(12) }), 0, 0)
        };
        let decision = decided(&fresh);
        assert_eq!(
            (decision.head.seq, decision.published, decision.mark_overruled),
            (Seq::new(12), Some(Seq::new(12)), true)
        );
    }
}
