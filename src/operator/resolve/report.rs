//! What a resolution from Kafka says of itself.

use crate::operator::resolve::topic::Scanned;
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::recovery::decide::{Decision, Evidence, LastRound};

/// What was found in the ledger, in Kafka's mark and in the topic.
pub(super) fn described(evidence: &Evidence, scanned: &Scanned) -> Vec<String> {
    let ours = &evidence.ours;
    let published = match ours.published {
        Some(seq) if seq == ours.head.seq => "known to be published".to_owned(),
        Some(seq) => format!("published at least up to {seq}"),
        None => "not known to be published".to_owned(),
    };
    let mut found = vec![
        format!("the ledger's last round is {}, {published}", ours.head.seq),
        match &evidence.theirs {
            CommittedOffset::None => "kafka holds no mark".to_owned(),
            CommittedOffset::Mark(mark) if mark.ledger == ours.ledger => {
                format!("kafka's mark is of round {}, revision {}", mark.version.seq, mark.version.revision)
            }
            CommittedOffset::Mark(mark) => format!("kafka's mark is of round {} of another ledger", mark.version.seq),
            CommittedOffset::Foreign(text) => format!("kafka's mark was written by something else: {text}"),
        },
        format!("the topic holds {} drafts of this lane, up to round {}", scanned.messages, scanned.newest),
        format!(
            "{} of them have no row, or another one, of {} campaigns",
            scanned.missing.drafts,
            scanned.missing.campaigns.len()
        ),
    ];
    if evidence.told + evidence.untold > 0 {
        found.push(format!(
            "of the ledger's last round, {} drafts are in the topic and {} are not",
            evidence.told, evidence.untold
        ));
    }
    found
}

/// What follows from it.
pub(super) fn announced(decision: &Decision, evidence: &Evidence, scanned: &Scanned) -> Vec<String> {
    let seq = evidence.ours.head.seq;
    let mut done = Vec::new();
    if scanned.missing.drafts > 0 {
        done.push(format!("{} rows are written as their messages say", scanned.missing.drafts));
    }
    done.push(match decision.last {
        LastRound::Published => format!("round {seq} is published"),
        LastRound::PublishedInPart => format!(
            "round {seq} is published but for {} drafts, which are taken back: a later round tells those clients, as far as their campaigns run",
            evidence.untold
        ),
        LastRound::Unpublished => format!("round {seq} is not published: the lane publishes it when it is taken over"),
    });
    if decision.head.seq > seq {
        done.push(format!("the lane goes on behind round {}", decision.head.seq));
    }
    if decision.mark_overruled {
        done.push("the lane writes its mark again when it is taken over".to_owned());
    }
    done
}
