//! The ledger's last round beside the mark in Kafka: what follows is decided by [`crate::model::reconcile`].

use super::{fence, halt};
use crate::guard::{Guard, Guards};
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy;
use crate::lane::error_policy::Failures;
use crate::model::halt::Halt;
use crate::model::mark::CommittedOffset;
use crate::model::number::Lane;
use crate::model::ownership::AcquiredLane;
use crate::model::reconcile::{LedgerSide, Reconciled, reconcile};
use crate::ports::broker::{Broker, Producer};
use crate::ports::ledger::Ledger;

/// Reads Kafka's mark by the producer that fenced all former owners. Returns the producer and the mark. Where the two sides show that no commit of
/// the lane is missing, the ledger learns it: the hold ends with the last lane.
pub(super) async fn compare<B: Broker, L: Ledger>(
    broker: &B,
    ledger: &L,
    guards: Guards,
    acquired: &AcquiredLane,
    producer: B::Producer,
) -> Result<(B::Producer, CommittedOffset), LaneError> {
    let (producer, theirs) = producer.committed().await?;
    let hides_loss = matches!(
        reconciled(guards, acquired, &ledger_side(acquired), &theirs),
        Reconciled::Contradiction(kind) if kind.may_hide_loss()
    );
    if !hides_loss && !acquired.compared {
        let lanes = broker.lanes().await?;
        ledger.note_compared(acquired.ownership, &acquired.comparison, lanes).await?;
    }
    Ok((producer, theirs))
}

/// Compares a lane as its takeover does, and leaves it. Returns the halt that the takeover would find, if commits of it may be missing.
pub async fn compare_only<B: Broker, L: Ledger>(
    broker: &B,
    ledger: &L,
    guards: Guards,
    acquired: &AcquiredLane,
) -> Result<Option<Halt>, LaneError> {
    let own = acquired.ownership;
    let producer = fence(broker, ledger, guards, own, None).await?;
    let (_, theirs) = compare(broker, ledger, guards, acquired, producer).await?;
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
pub(super) async fn compare_unreadable<B: Broker, L: Ledger, A, C>(
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

/// Compares a lane that is halted, after it has fenced all its former owners: the others wait for it. Fails with a halt where commits are missing in
/// it: that one comes before the one that is there.
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

pub(super) fn ledger_side(acquired: &AcquiredLane) -> LedgerSide {
    let AcquiredLane { ledger, head, previous, published, compared, .. } = *acquired;
    LedgerSide { ledger, head, previous, published, compared }
}

/// What follows from the two sides, and from what an operator overruled.
pub(super) fn reconciled(
    guards: Guards,
    acquired: &AcquiredLane,
    ours: &LedgerSide,
    theirs: &CommittedOffset,
) -> Reconciled {
    if matches!(theirs, CommittedOffset::None) && !guards.enabled(Guard::RestoredMarkOnlyWhenKnown) {
        return Reconciled::PublishRecorded;
    }
    let compared = ours.compared || !guards.enabled(Guard::RestoredMarkOnlyWhenCompared);
    let ours = &LedgerSide { compared, ..*ours };
    let reconciled = reconcile(ours, theirs);
    if !(acquired.mark_overruled && matches!(reconciled, Reconciled::Contradiction(_))) {
        return reconciled;
    }
    match reconcile(ours, &CommittedOffset::None) {
        Reconciled::Contradiction(_) => Reconciled::PublishRecorded,
        decided => decided,
    }
}
