//! What follows from an error: the one place that maps each kind to what the lane does next and what the operator is told. Every halt of a lane is
//! made here.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::lane::error::LaneError;
use crate::model::halt::{Halt, HaltKind, HaltResolution};
use crate::model::late::RowCounts;
use crate::model::mark::CommittedOffset;
use crate::model::number::{Lane, Offset, Seq};
use crate::model::reconcile::{Contradiction, LedgerSide};
use crate::ports::audience::AudienceError;
use crate::ports::broker::BrokerError;
use crate::ports::ledger::LedgerError;

/// What a lane does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Take the lane over again, after a pause.
    TakeOverAgain,
    /// Do nothing until it is resolved.
    Halt(Halt),
    /// Leave it to its new owner.
    Leave,
}

/// How often a step must fail in a row with an error that the server calls permanent before the lane halts.
const PERMANENT_FAILURES: u32 = 3;
/// For how long Kafka must have refused before a lane halts: certificates and passwords are changed on one server after the other.
const KAFKA_REFUSES: Duration = Duration::from_secs(10);
/// How often in a row a round may not get through before it is withdrawn and planned smaller.
const UNDELIVERED: u32 = 2;
/// Between two attempts at a step of a lane.
pub const RETRY_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The failures of a lane since its last success.
#[derive(Debug)]
pub struct Failures {
    backoff: Backoff,
    /// None where the last error was not permanent.
    permanent: Option<InARow>,
    undelivered: Option<Undelivered>,
}

/// Permanent errors, one after the other.
#[derive(Debug, Clone, Copy)]
struct InARow {
    times: u32,
    /// When the first of them came.
    since: Instant,
}

/// A round that did not get through in the time that a transaction has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undelivered {
    seq: Seq,
    times: u32,
    /// What its drafts take, in bytes.
    pub bytes: usize,
    /// How long it was tried.
    pub seconds: u64,
}

impl Default for Failures {
    fn default() -> Self {
        Self { backoff: RETRY_BACKOFF, permanent: None, undelivered: None }
    }
}

impl Failures {
    /// Forgets all failures, since a round was published.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Decides what follows from an error.
    pub fn classify(&mut self, error: &LaneError) -> Next {
        self.backoff = self.backoff.longer();
        if let LaneError::Broker(BrokerError::Undelivered { seq, bytes, seconds, .. }) = *error {
            let before = self.undelivered.filter(|before| before.seq == seq).map_or(0, |before| before.times);
            self.undelivered = Some(Undelivered { seq, times: before + 1, bytes, seconds });
        }
        match error {
            LaneError::NotAssigned => Next::Leave,
            LaneError::Halt(halt) => Next::Halt(halt.clone()),
            // Only the lane's owner records a halt: what fails before the lane is owned is tried again.
            error => {
                self.permanent = halt_rule(error).map(|_| {
                    let before = self.permanent.unwrap_or(InARow { times: 0, since: Instant::now() });
                    InARow { times: before.times + 1, ..before }
                });
                Next::TakeOverAgain
            }
        }
    }

    /// Whether this round did not get through so often that it is to be planned smaller.
    pub fn undeliverable(&self, seq: Seq) -> Option<Undelivered> {
        self.undelivered.filter(|round| round.seq == seq && round.times >= UNDELIVERED)
    }

    /// Returns the halt to record if this error is the next failure, or none if it is to be tried again.
    pub fn halt_for(&self, lane: Lane, error: &LaneError) -> Option<Halt> {
        let (before, lasted) = self.permanent.map_or((0, Duration::ZERO), |row| (row.times, row.since.elapsed()));
        halt_rule(error)
            .filter(|rule| before + 1 >= rule.after_failures && lasted >= rule.after_duration)
            .map(|rule| rule.halt(lane))
    }

    /// Returns how long to wait before the next takeover: from 0.1 s to 5 s, doubled with each failure, with jitter of a half.
    pub fn delay(&self) -> Duration {
        self.backoff.delay()
    }
}

/// The halt that an error leads to, and when.
struct HaltRule<'a> {
    kind: HaltKind,
    found: &'a str,
    /// With which failure in a row the lane halts.
    after_failures: u32,
    /// For how long it must have failed by then.
    after_duration: Duration,
    /// What the server itself said to do before the lane tries again.
    advice: Option<&'a str>,
}

impl HaltRule<'_> {
    fn halt(self, lane: Lane) -> Halt {
        let mut halt = Halt::new(self.kind, lane, self.found.to_owned());
        if let Some(advice) = self.advice {
            halt.remedy = format!("{advice}, then: {}", HaltResolution::Retry.command(lane));
        }
        halt
    }
}

/// Returns the rule of an error that trying again does not mend; none of any other.
fn halt_rule(error: &LaneError) -> Option<HaltRule<'_>> {
    let mut advice = None;
    let (kind, found, after_failures) = match error {
        LaneError::Ledger(LedgerError::Damaged(found)) => (HaltKind::RoundDamaged, found, 1),
        LaneError::Ledger(LedgerError::AnotherTable(found)) => (HaltKind::FeedbackTableReplaced, found, 1),
        LaneError::Ledger(LedgerError::Duplicate(row)) => (HaltKind::DuplicateRow, row, PERMANENT_FAILURES),
        LaneError::Ledger(LedgerError::Refused(refusal)) => {
            advice = refusal.remedy.as_deref();
            (HaltKind::FeedbackRefused, &refusal.found, PERMANENT_FAILURES)
        }
        LaneError::Broker(BrokerError::Refused(text)) => (HaltKind::KafkaRefused, text, PERMANENT_FAILURES),
        LaneError::Audience(AudienceError::Refused(text)) => (HaltKind::SubscribersRefused, text, PERMANENT_FAILURES),
        LaneError::NotAssigned
        | LaneError::Halt(_)
        | LaneError::Ledger(
            LedgerError::NotMine(_)
            | LedgerError::Transient(_)
            | LedgerError::Locked(_)
            | LedgerError::LockHeldByOther { .. }
            | LedgerError::OnHold,
        )
        | LaneError::Broker(
            BrokerError::Transient(_)
            | BrokerError::Fenced
            | BrokerError::DeadLetters { .. }
            | BrokerError::Undelivered { .. }
            | BrokerError::Overdue { .. }
            | BrokerError::NotBegun,
        )
        | LaneError::Audience(AudienceError::Transient(_) | AudienceError::Unanswered(_))
        | LaneError::ClockUnread
        | LaneError::NotOpen { .. }
        | LaneError::Paused { .. }
        | LaneError::NewProducerNeeded
        | LaneError::TakenOver => return None,
    };
    let after_duration = if kind == HaltKind::KafkaRefused { KAFKA_REFUSES } else { Duration::ZERO };
    Some(HaltRule { kind, found, after_failures, after_duration, advice })
}

/// Returns the halt that a contradiction between the two sides is.
pub fn contradiction(lane: Lane, kind: &Contradiction, ours: &LedgerSide, theirs: &CommittedOffset) -> Halt {
    let what = match kind {
        Contradiction::MarkMissing if ours.published == Some(ours.head.seq) => {
            "kafka holds no mark for the lane, and the database, started since they were compared, may be an older state of itself"
        }
        Contradiction::MarkMissing => {
            "kafka holds no mark for the lane, and the ledger does not know whether its last round was published"
        }
        Contradiction::KafkaAhead => "kafka holds a later round than the ledger: the database lost commits",
        Contradiction::KafkaBehind => {
            "kafka's mark is behind what the ledger knows to be published: kafka lost commits"
        }
        Contradiction::OtherContent => "kafka holds the same round with other content",
        Contradiction::OtherLedger => {
            "kafka's mark is of another ledger: another database, or a second group of the same name"
        }
        Contradiction::Foreign => "the group's offset of this lane was committed by something else",
    };
    Halt::new(kind.halt(), lane, format!("{what}; ledger: {ours}; kafka: {theirs}"))
}

/// Returns the halt of a lane that would tell clients again because their rows were removed.
pub fn rows_removed(lane: Lane, id: &str, counted: RowCounts) -> Halt {
    let RowCounts { told, rows } = counted;
    let found = format!(
        "campaign {id} has told {told} clients, and {rows} of their rows are in the feedback table: without a row, each would be told again"
    );
    Halt::new(HaltKind::RowsRemoved, lane, found)
}

/// Returns the halt of a lane whose drafts would go to another topic than before.
pub fn drafts_topic_replaced(lane: Lane, known: &str, now: &str) -> Halt {
    let found = format!(
        "the id of the topic of the drafts is {now}, and drafts were written to the topic {known}: it was recreated, and what was in it \
         is gone"
    );
    Halt::new(HaltKind::NotificationsReplaced, lane, found)
}

/// Returns the halt of a lane whose campaigns topic has another id than the one that it has read.
pub fn topic_replaced(lane: Lane, known: &str, now: &str) -> Halt {
    let found = format!("its id is {now}, and the lane has read the topic {known}: it was recreated");
    Halt::new(HaltKind::TopicReplaced, lane, found)
}

/// Returns the halt of a lane whose next records were deleted before it read them.
pub fn input_trimmed(lane: Lane, position: Offset, low: Offset) -> Halt {
    let found =
        format!("the lane's position is {position}, but the topic begins at {low}: records were deleted unread");
    Halt::new(HaltKind::InputTrimmed, lane, found)
}

/// Returns the halt of a lane whose campaigns topic does not hold a record that the lane has read. Where the topic has the id that the ledger
/// knows, its brokers lost records; else it may be another topic.
pub fn record_missing(lane: Lane, has_known_id: bool, found: &str) -> Halt {
    match has_known_id {
        true => {
            let why = "and its id is the same: its brokers lost records that they had acknowledged";
            Halt::new(HaltKind::InputTruncated, lane, format!("{found}, {why}"))
        }
        false => {
            let why = "it was recreated, or its brokers lost records";
            Halt::new(HaltKind::TopicReplaced, lane, format!("{found}: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane::new(0);

    fn refused() -> LaneError {
        BrokerError::Refused("the certificate is not good".to_owned()).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_halts_when_kafka_has_refused_for_ten_seconds_and_not_before() {
        let mut failures = Failures::default();
        for second in 0..10 {
            assert_eq!(failures.halt_for(LANE, &refused()), None, "second {second}");
            failures.classify(&refused());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(failures.halt_for(LANE, &refused()).is_some());
        failures.classify(&BrokerError::Transient("the broker is away".to_owned()).into());
        assert_eq!(failures.halt_for(LANE, &refused()), None, "it did not refuse all the time");
    }
}
