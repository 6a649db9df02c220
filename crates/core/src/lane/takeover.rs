//! Takes a lane over, the only way to own it: for assignment, start, error, doubt and a changed producer alike.
//!
//! The order keeps "once in both": `crates/sim/tests/model` finds a message without a row for each other order. First the next epoch is acquired,
//! which ends former owners' transactions. Then a new producer fences former owners' producers. Then the epoch is read again. Only then is Kafka's
//! mark read.
//!
//! With the mark the lane is compared: all lanes wait for that after a fail-over of the database ([`crate::instance::pause`]). So the comparison needs nothing
//! but these four. It comes before everything that may fail for a reason of the lane's own: its topic, its partition's leader, its last round.

mod compare;
mod last_round;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::fail_point::fail_point;
use crate::guard::{Guard, Guards};
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::Failures;
use crate::lane::{error_policy, output_topics};
use crate::model::halt::Halt;
use crate::model::number::{Lane, Offset};
use crate::model::output_topics::OutputTopicIds;
use crate::model::ownership::{AcquiredLane, Ownership};
use crate::model::recorded::{Published, Recorded};
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::ledger::Ledger;

pub(crate) use compare::compare_halted;
pub use compare::compare_only;
use compare::{compare, compare_unreadable};
pub(crate) use last_round::read_back_last_round;
use last_round::reconcile_last_round;

/// For how long the end of the log is read again while it lies before the lane's position.
const LOG_END_RETRY_FOR: Duration = Duration::from_secs(5);
/// How often it is read meanwhile.
const LOG_END_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A lane that was acquired: everything that running it takes.
pub struct OwnedLane<B: Broker> {
    /// The right to write.
    pub own: Ownership,
    /// Which ledger.
    pub ledger: uuid::Uuid,
    /// The lane's transactional producer.
    pub producer: B::Producer,
    /// How the lane's last round was found.
    pub last: LastRoundState,
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

/// What the takeover found of the last round.
pub enum LastRoundState {
    /// Committed in Kafka.
    Published {
        /// The proof.
        published: Published,
        /// Whether the ledger knows that.
        ledger_knows: bool,
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
    /// It is ours, and does nothing until its halt is resolved.
    Halted(Box<AcquiredLane>, Halt),
}

/// Takes a lane over. Returns the lane, running or halted. Fails with what can be tried again; an error that `failures` call permanent is recorded
/// as a halt.
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
    last: LastRoundState,
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
    let (producer, theirs) = compare(&cx.broker, &cx.ledger, cx.guards, acquired, producer).await?;
    let topic_id = verify_input_topic(cx, acquired, low, high).await?;
    // After the new producer was made: it writes only to the topic that was there then.
    let outputs = output_topics::compare(cx, acquired).await?;
    // Before the last round is read: what was cancelled meanwhile is withdrawn from it.
    if cx.guards.enabled(Guard::ChangesAppliedAtTakeover) {
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

/// Applies all that arrived about the lane's campaigns while nobody owned it: what an operator cancelled then is told to nobody any more.
async fn apply_waiting_changes<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
) -> Result<(), LaneError> {
    loop {
        let outcome = cx.ledger.apply_changes(own).await?;
        cx.telemetry.applied_changes(own.lane, &outcome);
        if !(outcome.more_changes && cx.guards.enabled(Guard::ChangesAppliedToTheLast)) {
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
        error => match failures.halt_for(own.lane, error) {
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

/// Verifies that the campaigns topic is the one that the ledger knows. Returns its id, where Kafka has one. Fails with a halt where the topic was
/// replaced, or where records are gone. This comes before the offsets, which Kafka deletes with the topic.
async fn verify_input_topic<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &AcquiredLane,
    low: Offset,
    high: Offset,
) -> Result<Option<String>, LaneError> {
    let lane = acquired.ownership.lane;
    let now = cx.broker.topic_id().await?;
    let has_known_id = match (&acquired.topic_id, &now) {
        (Some(known), Some(now)) if known != now => {
            return Err(LaneError::Halt(error_policy::topic_replaced(lane, known, now)));
        }
        (known, _) => known.is_some() && now.is_some(),
    };
    let record_missing = |found: String| LaneError::Halt(error_policy::record_missing(lane, has_known_id, &found));
    let position = acquired.position;
    if position < low {
        return Err(LaneError::Halt(error_policy::input_trimmed(lane, position, low)));
    }
    let high = if cx.guards.enabled(Guard::WatermarksReadAgain) {
        reread_log_end(cx, lane, position, high).await?
    } else {
        high
    };
    if position > high {
        return Err(record_missing(format!("the lane's position is {position}, but the topic ends at {high}")));
    }
    if let Some(last) = acquired.last_record.filter(|last| last.offset >= low)
        && cx.broker.fingerprint_at(lane, last.offset).await?.is_some_and(|found| found != last)
    {
        return Err(record_missing(format!("another record stands at offset {} of the topic", last.offset)));
    }
    if let (None, Some(now)) = (&acquired.topic_id, &now) {
        cx.ledger.note_topic(acquired.ownership, now).await?;
    }
    Ok(now)
}

/// Reads the end of the log again for some seconds, while it lies before the position, and returns it. It was read before the acquisition: until
/// then a former owner may have taken in what arrived since. And a broker that was just cut off, or frozen, tells the end that it knew.
async fn reread_log_end<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    lane: Lane,
    position: Offset,
    mut high: Offset,
) -> Result<Offset, LaneError> {
    let until = Instant::now() + LOG_END_RETRY_FOR;
    while position > high {
        high = cx.broker.watermarks(lane).await?.1;
        if position <= high || Instant::now() >= until {
            break;
        }
        sleep(LOG_END_RETRY_INTERVAL).await;
    }
    Ok(high)
}
