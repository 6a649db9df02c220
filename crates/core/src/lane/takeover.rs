//! Takes a lane over, the only way to own it: for assignment, start, error, doubt and a changed producer alike.
//!
//! The order keeps "once in both": `crates/sim/tests/model` finds a message without a row for each other order. First the next epoch is acquired,
//! which ends former owners' transactions. Then a new producer fences former owners' producers. Then the epoch is read again. Only then is Kafka's
//! mark read.
//!
//! With the mark the lane is compared: all lanes wait for that after a fail-over of the database ([`crate::instance::pause`]). So the comparison needs nothing
//! but these four. It comes before everything that may fail for a reason of the lane's own: its topic, its partition's leader, its last round.

use std::time::Duration;

use crate::fail_point::fail_point;
use crate::guard::{Guard, Guards};
use crate::instance::round_sizing;
use crate::instance::round_sizing::RoundSizing;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::Failures;
use crate::lane::round::publish;
use crate::lane::{error_policy, locks, output_topics};
use crate::model::campaign::Window;
use crate::model::halt::{Halt, HaltKind};
use crate::model::lock::LockedPart;
use crate::model::mark::CommittedOffset;
use crate::model::number::{Lane, Offset};
use crate::model::output_topics::OutputTopicIds;
use crate::model::ownership::{AcquiredLane, Ownership};
use crate::model::reconcile::{LedgerSide, Reconciled, reconcile};
use crate::model::recorded::{Published, Recorded};
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::ledger::{Ledger, LedgerError};

/// A lane that was acquired: everything that running it takes.
pub struct OwnedLane<B: Broker> {
    /// The right to write.
    pub own: Ownership,
    /// Which ledger.
    pub ledger: uuid::Uuid,
    /// The lane's transactional producer.
    pub producer: B::Producer,
    /// How the lane's last round was found.
    pub last: FoundRound,
    /// The lane's records from its position on.
    pub input: B::Input,
    /// The next input offset to record.
    pub position: Offset,
    /// The topics that are written to, as they were found.
    pub outputs: OutputTopicIds,
    /// Most bytes of a round, where its owners met a slow link.
    pub round_bytes: Option<i64>,
    /// Whether rows of withdrawn drafts are locked.
    pub locked_rows: bool,
}

/// The last round, as it was found by the takeover.
pub enum FoundRound {
    /// Committed in Kafka.
    Published {
        /// The proof.
        published: Published,
        /// Whether the ledger knows.
        noted: bool,
    },
    /// Recorded, and what is not open is withdrawn from it: to be published before the next one is recorded.
    Recorded(Recorded),
    /// Recorded, and somebody else's transaction has the table locked: the lane tries again beside its intake, which needs no feedback row.
    Locked(Box<AcquiredLane>),
}

/// How a takeover ends.
pub enum Takeover<B: Broker> {
    /// The lane is ours and runs.
    Runs(Box<OwnedLane<B>>),
    /// It is ours, and stands still until its halt is resolved.
    Halted(Box<AcquiredLane>, Halt),
}

/// Enters a lane. What stands in its way for good is recorded as its halt; `failures` know whether it does.
pub async fn take_over<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    lane: Lane,
    failures: &Failures,
) -> Result<Takeover<B>, LaneError> {
    if !cx.broker.still_assigned(lane).await {
        return Err(LaneError::NotAssigned);
    }
    let (low, high) = match cx.broker.watermarks(lane).await {
        Ok(found) => found,
        Err(error) => {
            compare_unreadable(cx, lane, failures).await?;
            return Err(error.into());
        }
    };
    let early = match cx.guards.enabled(Guard::EpochBeforeInit) {
        true => None,
        false => Some(cx.broker.producer(lane).await?),
    };
    let mut acquired = cx.ledger.acquire(lane, Some(low)).await?;
    fail_point("takeover.acquired");
    cx.telemetry.position(lane, acquired.position);
    if let Some(halt) = acquired.halt.clone() {
        return Ok(Takeover::Halted(Box::new(acquired), halt));
    }
    let own = acquired.ownership;
    let RecoveredLane { producer, last, topic_id, outputs } =
        match fence_and_reconcile(cx, &mut acquired, failures, (low, high), early).await {
            Ok(reconciled) => reconciled,
            Err(error) => return Err(halt(cx, own, error, failures).await),
        };
    let input = cx.broker.open(lane, acquired.position, topic_id.as_deref()).await?;
    let AcquiredLane { ledger, position, round_bytes, locked_rows, .. } = acquired;
    let owned = OwnedLane { own, ledger, producer, last, input, position, outputs, round_bytes, locked_rows };
    Ok(Takeover::Runs(Box::new(owned)))
}

/// What fencing and reconciling found.
struct RecoveredLane<P> {
    producer: P,
    last: FoundRound,
    /// The id of the topic that is read.
    topic_id: Option<String>,
    outputs: OutputTopicIds,
}

/// Fences former owners, and brings both sides together.
async fn fence_and_reconcile<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &mut AcquiredLane,
    failures: &Failures,
    (low, high): (Offset, Offset),
    early: Option<B::Producer>,
) -> Result<RecoveredLane<B::Producer>, LaneError> {
    let own = acquired.ownership;
    let producer = fence(&cx.broker, &cx.ledger, cx.guards, own, early).await?;
    let theirs = compare(&cx.broker, &cx.ledger, cx.guards, acquired).await?;
    let topic_id = same_topic(cx, acquired, low, high).await?;
    // Behind the new producer, which writes to the topic alone that was there when it was made.
    let outputs = output_topics::compare(cx, acquired).await?;
    // Before the last round is looked at: what was cancelled meanwhile is withdrawn from it.
    if cx.guards.enabled(Guard::ChangesJudgedAtTakeover) {
        apply_waiting_changes(cx, own).await?;
    }
    let (producer, last) = reconcile_last_round(cx, acquired, failures, producer, &theirs).await?;
    Ok(RecoveredLane { producer, last, topic_id, outputs })
}

/// Makes a new producer and returns it. By then no transaction of a former owner's is open or about to be committed, and the lane is still ours; else
/// it fails as taken over.
async fn fence<B: Broker, L: Ledger>(
    broker: &B,
    ledger: &L,
    guards: Guards,
    own: Ownership,
    early: Option<B::Producer>,
) -> Result<B::Producer, LaneError> {
    let producer = match early {
        None => broker.producer(own.lane).await?,
        Some(early) => early,
    };
    fail_point("takeover.producer");
    if guards.enabled(Guard::EpochAfterInit) && !ledger.still_mine(own).await? {
        return Err(LaneError::TakenOver);
    }
    Ok(producer)
}

/// Reads Kafka's mark, behind all former owners. Where the two sides show that no commit of the lane is missing, the ledger learns it: the hold
/// ends with the last lane.
async fn compare<B: Broker, L: Ledger>(
    broker: &B,
    ledger: &L,
    guards: Guards,
    acquired: &AcquiredLane,
) -> Result<CommittedOffset, LaneError> {
    let theirs = broker.committed(acquired.ownership.lane).await?;
    let hides_loss = matches!(
        reconciled(guards, acquired, &ledger_side(acquired), &theirs),
        Reconciled::Contradiction(kind) if kind.may_hide_loss()
    );
    if !hides_loss && !acquired.compared {
        let lanes = broker.lanes().await?;
        ledger.note_compared(acquired.ownership, &acquired.comparison, lanes).await?;
    }
    Ok(theirs)
}

/// Compares a lane as its takeover does, and leaves it. The halt that the takeover would find, if commits of it may be missing.
pub async fn compare_only<B: Broker, L: Ledger>(
    broker: &B,
    ledger: &L,
    guards: Guards,
    acquired: &AcquiredLane,
) -> Result<Option<Halt>, LaneError> {
    let own = acquired.ownership;
    drop(fence(broker, ledger, guards, own, None).await?);
    let theirs = compare(broker, ledger, guards, acquired).await?;
    let ours = ledger_side(acquired);
    Ok(match reconciled(guards, acquired, &ours, &theirs) {
        Reconciled::Contradiction(kind) if kind.may_hide_loss() => {
            Some(error_policy::contradiction(own.lane, &kind, &ours, &theirs))
        }
        _ => None,
    })
}

/// The lane's partition cannot be read, for instance because it has no leader: the other lanes do not wait for that. What the lane's records are
/// has no part in whether commits of it are missing.
async fn compare_unreadable<B: Broker, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    lane: Lane,
    failures: &Failures,
) -> Result<(), LaneError> {
    if !cx.pause.is_held() {
        return Ok(());
    }
    let acquired = cx.ledger.acquire(lane, None).await?;
    if acquired.compared {
        return Ok(());
    }
    match compare_halted(cx, &acquired, acquired.halt.as_ref()).await {
        Ok(()) => Ok(()),
        Err(error) => Err(halt(cx, acquired.ownership, error, failures).await),
    }
}

/// Compares a lane that stands still, behind all its former owners: the others wait for it. Commits that are missing in it are a halt of their
/// own, which comes before the one that stands.
pub(crate) async fn compare_halted<B: Broker, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &AcquiredLane,
    halted: Option<&Halt>,
) -> Result<(), LaneError> {
    let found = compare_only(&cx.broker, &cx.ledger, cx.guards, acquired).await?;
    // What is not known to be missing is not worth another halt: this one is to be resolved anyway.
    let is_news = |found: &Halt| halted.is_none_or(|halted| found.is_loss() && !halted.is_loss());
    found.filter(is_news).map_or(Ok(()), |found| Err(LaneError::Halt(found)))
}

fn ledger_side(acquired: &AcquiredLane) -> LedgerSide {
    let AcquiredLane { ledger, head, previous, published, compared, .. } = *acquired;
    LedgerSide { ledger, head, previous, published, compared }
}

/// What follows from the two sides, and from what an operator overruled.
fn reconciled(guards: Guards, acquired: &AcquiredLane, ours: &LedgerSide, theirs: &CommittedOffset) -> Reconciled {
    if matches!(theirs, CommittedOffset::None) && !guards.enabled(Guard::RestoredMarkOnlyWhenKnown) {
        return Reconciled::PublishRecorded;
    }
    let compared = ours.compared || !guards.enabled(Guard::RestoredMarkOnlyWhenCompared);
    let ours = &LedgerSide { compared, ..*ours };
    let reconciled = reconcile(ours, theirs);
    if !(acquired.overrule && matches!(reconciled, Reconciled::Contradiction(_))) {
        return reconciled;
    }
    match reconcile(ours, &CommittedOffset::None) {
        Reconciled::Contradiction(_) => Reconciled::PublishRecorded,
        decided => decided,
    }
}

/// Judges all that arrived about the lane's campaigns while nobody owned it: what an operator cancelled then is told to nobody any more.
async fn apply_waiting_changes<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
) -> Result<(), LaneError> {
    loop {
        let outcome = cx.ledger.apply_changes(own).await?;
        cx.telemetry.applied_changes(own.lane, &outcome);
        if !(outcome.more_changes && cx.guards.enabled(Guard::ChangesJudgedToTheLast)) {
            return Ok(());
        }
    }
}

/// Records a halt, if the error is one. It is believed only when the epoch is still ours: another owner may have gone on meanwhile.
pub(crate) async fn halt<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    error: LaneError,
    failures: &Failures,
) -> LaneError {
    let halt = match &error {
        LaneError::Halt(halt) => halt.clone(),
        error => match failures.would_halt(own.lane, error) {
            Some(halt) => halt,
            None => return error.clone(),
        },
    };
    let recorded = match cx.ledger.still_mine(own).await {
        Ok(false) if cx.guards.enabled(Guard::EpochBeforeHalt) => return LaneError::TakenOver,
        Ok(_) => cx.ledger.halt(own, halt.clone()).await,
        Err(error) => Err(error),
    };
    match recorded {
        Ok(()) => LaneError::Halt(halt),
        Err(error) => error.into(),
    }
}

/// Is the topic still the one that the ledger knows? Returns its id, where it is known. This comes before the offsets, which Kafka deletes with
/// the topic.
async fn same_topic<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &AcquiredLane,
    low: Offset,
    high: Offset,
) -> Result<Option<String>, LaneError> {
    let lane = acquired.ownership.lane;
    let halt = |(kind, found): (HaltKind, String)| LaneError::Halt(Halt::new(kind, lane, found));
    let now = cx.broker.topic_id().await?;
    let known = match (&acquired.topic_id, &now) {
        (Some(known), Some(now)) if known != now => {
            let found = format!("its id is {now}, and the lane has read the topic {known}: it was recreated");
            return Err(halt((HaltKind::TopicReplaced, found)));
        }
        (known, _) => known.is_some() && now.is_some(),
    };
    // What another record, or a missing one, says of a topic: its id says whether it is another topic.
    let other = |found: String| match known {
        true => (
            HaltKind::InputTruncated,
            format!("{found}, and its id is the same: its brokers lost records that they had acknowledged"),
        ),
        false => (HaltKind::TopicReplaced, format!("{found}: it was recreated, or its brokers lost records")),
    };
    let position = acquired.position;
    if position < low {
        let found =
            format!("the lane's position is {position}, but the topic begins at {low}: records were deleted unread");
        return Err(halt((HaltKind::InputTrimmed, found)));
    }
    // The watermarks were read before the acquisition: until then a former owner may have taken in what arrived since.
    let read_again = cx.guards.enabled(Guard::WatermarksReadAgain);
    if position > high && !(read_again && position <= cx.broker.watermarks(lane).await?.1) {
        return Err(halt(other(format!("the lane's position is {position}, but the topic ends at {high}"))));
    }
    if let Some(last) = acquired.last_record.filter(|last| last.offset >= low)
        && cx.broker.fingerprint_at(lane, last.offset).await?.is_some_and(|found| found != last)
    {
        return Err(halt(other(format!("another record stands at offset {} of the topic", last.offset))));
    }
    if let (None, Some(now)) = (&acquired.topic_id, &now) {
        cx.ledger.note_topic(acquired.ownership, now).await?;
    }
    Ok(now)
}

/// Brings Kafka to the ledger's last round, or finds that the two contradict each other.
async fn reconcile_last_round<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &mut AcquiredLane,
    failures: &Failures,
    producer: B::Producer,
    theirs: &CommittedOffset,
) -> Result<(B::Producer, FoundRound), LaneError> {
    let lane = acquired.ownership.lane;
    if !cx.guards.enabled(Guard::WithdrawalAfterReading) {
        let stored = cx.ledger.stored_round(acquired.ownership).await?;
        if !stored.not_open.is_empty() {
            cx.ledger.withdraw(acquired.ownership, stored.head).await?;
        }
    }
    let ours = ledger_side(acquired);
    // With the note the ledger forgets what an operator overruled: that was about one mark, which is written again by then.
    let (known, overrule) = (acquired.published, acquired.overrule);
    let published = |published: Published| {
        let noted = known == Some(published.head().seq) && !overrule;
        FoundRound::Published { published, noted }
    };
    match reconciled(cx.guards, acquired, &ours, theirs) {
        Reconciled::Equal => Ok((producer, published(Published::found(acquired.head)))),
        Reconciled::PublishRecorded => {
            if cx.guards.enabled(Guard::UndeliveredIsWithdrawn) {
                withdraw_what_does_not_get_through(cx, acquired, failures).await?;
            }
            let last = match recorded(cx, acquired).await {
                Ok(recorded) => FoundRound::Recorded(recorded),
                Err(error) => match locks::waited_for(&error) {
                    Some(wait) => {
                        locks::show_wait(cx, lane, LockedPart::Round, Some(wait)).await;
                        FoundRound::Locked(Box::new(acquired.clone()))
                    }
                    None => return Err(error),
                },
            };
            Ok((producer, last))
        }
        Reconciled::RestoreMark => {
            let stored = cx.ledger.stored_round(acquired.ownership).await?;
            let round = Recorded::mark_only(lane, acquired.ledger, &stored);
            let (producer, restored) = publish::restore_mark(producer, &round).await?;
            let producer = producer.ok_or(LaneError::ProducerUsedUp)?;
            Ok((producer, published(restored)))
        }
        Reconciled::Contradiction(kind) => {
            let halt = error_policy::contradiction(lane, &kind, &ours, theirs);
            Err(LaneError::Halt(halt))
        }
    }
}

/// A round that twice did not get through in the time that its transaction has would not the third time either. Kafka has nothing of it: all of
/// it is withdrawn, published as an empty round, and planned in smaller ones; the lane's next owners know how large they may be.
async fn withdraw_what_does_not_get_through<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &mut AcquiredLane,
    failures: &Failures,
) -> Result<(), LaneError> {
    let (own, seq) = (acquired.ownership, acquired.head.seq);
    let Some(round) = failures.undeliverable(seq).filter(|round| round_sizing::can_be_smaller(round.bytes)) else {
        return Ok(());
    };
    let within = Duration::from_secs(round.seconds);
    acquired.round_bytes =
        RoundSizing::from_stored(acquired.round_bytes).after_undelivered(round.bytes, within).to_store();
    tracing::warn!(
        lane = own.lane.get(),
        seq = seq.get(),
        bytes = round.bytes,
        acquired.round_bytes,
        "a round was not delivered in {} s, twice: it is withdrawn, and its drafts are planned in smaller rounds; the link to Kafka is slow, \
         or a quota of the broker",
        round.seconds
    );
    acquired.locked_rows |= cx.ledger.withdraw_whole(own, acquired.head, acquired.round_bytes).await? > 0;
    fail_point("withdraw.whole");
    Ok(())
}

/// The ledger is one ahead: withdraw what is not open; the rest of that round is to be published from what was recorded. The lane publishes it as
/// soon as it runs: so its intake waits neither for a large round nor for a pause. Withdrawing takes time, in which another campaign may end: so the
/// round is read again until nothing in it is to be withdrawn. Dead letters whose topic does not take them leave the round, so that its drafts do not
/// wait for them.
pub(crate) async fn recorded<B: Broker, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &mut AcquiredLane,
) -> Result<Recorded, LaneError> {
    let own = acquired.ownership;
    let mut stored = cx.ledger.stored_round(own).await?;
    if !stored.dead_letters.is_empty()
        && !cx.dead_letter_topic.accepts(own.lane, || cx.broker.dead_letter_topic()).await
    {
        cx.ledger.set_dead_letters_aside(own, stored.head).await?;
        fail_point("dead_letters.set_aside");
        stored = cx.ledger.stored_round(own).await?;
    }
    while !stored.not_open.is_empty() && cx.guards.enabled(Guard::WithdrawalAtTakeover) {
        acquired.locked_rows |= cx.ledger.withdraw(own, stored.head).await? > 0;
        fail_point("withdraw.recorded");
        stored = cx.ledger.stored_round(own).await?;
        if !cx.guards.enabled(Guard::WithdrawnToTheLast) {
            stored.open = Window::ALWAYS;
            break;
        }
    }
    Ok(Recorded::read_back(own.lane, acquired.ledger, stored, cx.guards).map_err(LedgerError::from)?)
}
