//! One lane's life: a takeover, then intake and rounds side by side, until something fails or the lane is to stop.
//!
//! Everything of a lane happens inside one future. Dropping it at any await is a crash: what was in flight is found by the next takeover.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::guard::Guard;
use crate::instance::dead_letter_topic::DeadLetterQuota;
use crate::instance::follow_changes;
use crate::instance::round_sizing::RoundSizing;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::{Failures, Next};
use crate::lane::round::pipeline::Rounds;
use crate::lane::round::read_ahead::{NextPage, ReadAheadPace};
use crate::lane::takeover::{LastRoundState, OwnedLane, Takeover, halt, take_over};
use crate::lane::{close_out, intake, locks, output_topics, rescan, takeover};
use crate::model::halt::Halt;
use crate::model::lock::LockedPart;
use crate::model::number::Lane;
use crate::model::ownership::{AcquiredLane, Ownership};
use crate::model::page::PageRequest;
use crate::ports::audience::Audience;
use crate::ports::broker::{Broker, BrokerError, transaction_time};
use crate::ports::clock::Clock;
use crate::ports::ledger::Ledger;
use crate::shutdown::stopped;
use crate::telemetry::LaneState;

/// How often a halted lane reads whether it is resolved.
const RESOLUTION_INTERVAL: Duration = Duration::from_secs(1);

/// Runs a lane until it is to stop, or the lane is somebody else's.
pub async fn run_until_stopped<B: Broker, L: Ledger, A: Audience, C: Clock>(
    cx: Arc<LaneContext<B, L, A, C>>,
    lane: Lane,
    mut stop: watch::Receiver<bool>,
) {
    let mut failures = Failures::default();
    while !*stop.borrow() {
        let Err(error) = run_ownership(&cx, lane, &mut failures, &mut stop).await else { continue };
        match failures.classify(&error) {
            Next::Leave => break,
            Next::TakeOverAgain => {
                let pause = failures.delay();
                cx.telemetry.lane_failed(lane, &error, pause);
                if let Some(wait) = locks::waited_for(&error) {
                    locks::show_wait(&cx, lane, LockedPart::Lane, Some(wait)).await;
                }
                let _ = timeout(pause, stopped(&mut stop)).await;
            }
            Next::Halt(halt) => {
                cx.telemetry.set_lane(lane, LaneState::Halted(halt));
                let _ = timeout(RESOLUTION_INTERVAL, stopped(&mut stop)).await;
            }
        }
    }
    cx.telemetry.left(lane);
}

/// One ownership of the lane, from the acquisition to an error or the stop.
async fn run_ownership<B: Broker, L: Ledger, A: Audience, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    lane: Lane,
    failures: &mut Failures,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), LaneError> {
    cx.telemetry.set_lane(lane, LaneState::TakingOver);
    match take_over(cx, lane, failures).await? {
        Takeover::Halted(acquired, halt) => wait_for_resolution(cx, &acquired, halt, failures, stop).await,
        Takeover::Runs(owned) => {
            cx.telemetry.set_lane(lane, LaneState::Running);
            // What cannot be published brings it here again and again: whatever failed is over only afterwards.
            if matches!(owned.last, LastRoundState::Published { .. }) {
                cx.telemetry.well(lane);
            }
            let own = owned.own;
            locks::show_wait(cx, lane, LockedPart::Lane, None).await;
            match run(cx, *owned, failures, stop).await {
                // A step that failed for good is recorded as a halt while the lane is still ours to write.
                Err(error) => {
                    let error = who_fenced(cx, own, error).await;
                    Err(halt(cx, own, error, failures).await)
                }
                stopped => stopped,
            }
        }
    }
}

/// Finds out who fenced the lane's producer, and returns the error that says so: another owner acquired the next epoch before it did; if that is still ours, the broker did.
async fn who_fenced<B, L: Ledger, A, C>(cx: &LaneContext<B, L, A, C>, own: Ownership, error: LaneError) -> LaneError {
    if !matches!(error, LaneError::Broker(BrokerError::Fenced)) {
        return error;
    }
    match cx.ledger.still_mine(own).await {
        Ok(true) => BrokerError::Overdue { seconds: transaction_time().as_secs() }.into(),
        // Nothing more is known: the error stays as it is.
        Ok(false) | Err(_) => error,
    }
}

/// Waits until the halt is resolved, or the lane is to stop. The lane stays assigned, and is compared with Kafka all the same: the others wait for
/// it. Fails where the comparison finds commits missing, or the ledger does not answer.
async fn wait_for_resolution<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &AcquiredLane,
    halt: Halt,
    failures: &Failures,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), LaneError> {
    let own = acquired.ownership;
    cx.telemetry.set_lane(own.lane, LaneState::Halted(halt.clone()));
    let mut compared = acquired.compared;
    while !*stop.borrow() {
        if !compared {
            let found = tokio::select! {
                biased;
                () = stopped(stop) => break,
                found = takeover::compare_halted(cx, acquired, Some(&halt)) => found,
            };
            match found {
                Ok(()) => compared = true,
                Err(error @ LaneError::Broker(_)) => cx.telemetry.lane_warns(own.lane, &error),
                Err(error) => return Err(takeover::halt(cx, own, error, failures).await),
            }
        }
        if cx.ledger.resolved(own, &acquired.comparison).await? {
            break;
        }
        let _ = timeout(RESOLUTION_INTERVAL, stopped(stop)).await;
    }
    Ok(())
}

/// Intake, rounds and the counting of campaigns that are over, side by side.
async fn run<B: Broker, L: Ledger, A: Audience, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    owned: OwnedLane<B>,
    failures: &mut Failures,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), LaneError> {
    let OwnedLane { own, ledger, producer, last, input, position, outputs, round_bytes, locked_rows } = owned;
    let backlog = Arc::new(LaneBacklog::empty(cx.guards));
    if locked_rows {
        backlog.notify_locked_rows();
    }
    let _registration = cx.change_feed.register(own, Arc::clone(&backlog), cx.guards);
    let _trial_guard = cx.dead_letter_topic.trial_guard(own.lane);
    let sizing = RoundSizing::from_stored(round_bytes);
    let (next_page, pace) = (NextPage::default(), ReadAheadPace::default());
    let rounds = Rounds { cx, own, ledger, backlog: &backlog, failures, sizing, next_page, pace };
    tokio::select! {
        biased;
        // Whatever is under way in it is found by the takeover.
        () = backlog.until_lost() => Err(LaneError::TakenOver),
        ended = rounds.run(producer, last, stop) => ended,
        failed = intake::take_in(cx, own, input, position, &backlog) => failed.map(|never: Infallible| match never {}),
        failed = apply_changes(cx, own, &backlog) => failed.map(|never: Infallible| match never {}),
        failed = follow_changes::follow(cx, own.lane) => failed.map(|never: Infallible| match never {}),
        failed = rescan::rescan(cx, own, &backlog) => failed.map(|never: Infallible| match never {}),
        failed = ask_overdue_alone(cx, own, &backlog) => failed.map(|never: Infallible| match never {}),
        failed = locks::withdraw_rows(cx, own, &backlog) => failed.map(|never: Infallible| match never {}),
        failed = locks::let_in(cx, own, &backlog) => failed.map(|never: Infallible| match never {}),
        failed = carry_dead_letters(cx, own, &backlog) => failed.map(|never: Infallible| match never {}),
        failed = output_topics::watch(cx, own, outputs) => failed.map(|never: Infallible| match never {}),
        failed = close_out::count_ended(cx, own, &backlog) => failed.map(|never: Infallible| match never {}),
    }
}

/// Applies what other lanes, or an operator, recorded about campaigns of this lane.
async fn apply_changes<B: Broker, L: Ledger, A: Audience, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &LaneBacklog,
) -> Result<Infallible, LaneError> {
    let mut more = false;
    loop {
        if !more {
            backlog.wait_for_changes().await;
        }
        let _changes = backlog.lock_intake().await;
        let outcome = cx.ledger.apply_changes(own).await?;
        cx.telemetry.applied_changes(own.lane, &outcome);
        more = outcome.more_changes;
        let found = !outcome.changed.is_empty() || !outcome.dead_letters.is_empty();
        if found && cx.guards.enabled(Guard::AppliedChangesAreRead) {
            backlog.add_applied(outcome);
        }
    }
}

/// Asks for pages of what is left out, one after the other. What comes is read again by the next round.
async fn ask_overdue_alone<B, L, A: Audience, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &LaneBacklog,
) -> Result<Infallible, LaneError> {
    loop {
        let (restaurant_id, after) = backlog.next_overdue().await;
        let wanted = PageRequest {
            restaurant_id: &restaurant_id,
            after: after.as_deref(),
            upto: None,
            rows: cx.limits.rows_beside(),
        };
        match cx.audience.page(wanted).await {
            Ok(_) => backlog.came_alone(&restaurant_id),
            Err(error) => {
                let pause = backlog.overdue(&restaurant_id);
                cx.telemetry.left_out(own.lane, &restaurant_id, &error.to_string(), pause);
            }
        }
    }
}

/// Lets dead letters into rounds whenever their topic takes them; until then they wait beside the rounds.
async fn carry_dead_letters<B: Broker, L: Ledger, A: Audience, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &LaneBacklog,
) -> Result<Infallible, LaneError> {
    loop {
        cx.telemetry.waiting_dead_letters(own.lane, backlog.waiting_dead_letters());
        backlog.dead_letters_wait().await;
        cx.telemetry.waiting_dead_letters(own.lane, backlog.waiting_dead_letters());
        cx.dead_letter_topic.wait_open(own.lane, || cx.broker.dead_letter_topic()).await;
        match cx.dead_letter_topic.quota(own.lane) {
            DeadLetterQuota::Nothing => continue,
            DeadLetterQuota::One => backlog.carry(1),
            DeadLetterQuota::Many => backlog.carry(usize::MAX),
        }
        backlog.carried().await;
    }
}
