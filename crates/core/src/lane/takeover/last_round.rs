//! The last round of a lane that is taken over: published, read back, or withdrawn in part.

use std::time::Duration;

use super::LastRoundState;
use super::compare::{ledger_side, reconciled};
use crate::fail_point::fail_point;
use crate::guard::Guard;
use crate::instance::round_sizing;
use crate::instance::round_sizing::RoundSizing;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::Failures;
use crate::lane::round::publish;
use crate::lane::{error_policy, locks};
use crate::model::campaign::Window;
use crate::model::lock::LockedPart;
use crate::model::mark::CommittedOffset;
use crate::model::ownership::AcquiredLane;
use crate::model::reconcile::Reconciled;
use crate::model::recorded::{Published, Recorded};
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::ledger::{Ledger, LedgerError};

/// Brings Kafka to the ledger's last round, or finds that the two contradict each other.
pub(super) async fn reconcile_last_round<B: Broker, L: Ledger, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &mut AcquiredLane,
    failures: &Failures,
    producer: B::Producer,
    theirs: &CommittedOffset,
) -> Result<(B::Producer, LastRoundState), LaneError> {
    let lane = acquired.ownership.lane;
    if !cx.guards.enabled(Guard::WithdrawalAfterReading) {
        let stored = cx.ledger.stored_round(acquired.ownership).await?;
        if !stored.not_open.is_empty() {
            cx.ledger.withdraw(acquired.ownership, stored.version).await?;
        }
    }
    let ours = ledger_side(acquired);
    // With the note the ledger forgets what an operator overruled: that was about one mark, which is written again by then.
    let (known, overruled) = (acquired.published, acquired.mark_overruled);
    let published = |published: Published| {
        let ledger_knows = known == Some(published.version().seq) && !overruled;
        LastRoundState::Published { published, ledger_knows }
    };
    match reconciled(cx.guards, acquired, &ours, theirs) {
        Reconciled::Equal => Ok((producer, published(Published::found(acquired.head)))),
        Reconciled::PublishRecorded => {
            if cx.guards.enabled(Guard::UndeliveredIsWithdrawn) {
                withdraw_undeliverable_round(cx, acquired, failures).await?;
            }
            let last = match read_back_last_round(cx, acquired).await {
                Ok(recorded) => LastRoundState::Recorded(recorded),
                Err(error) => match locks::waited_for(&error) {
                    Some(wait) => {
                        locks::show_wait(cx, lane, LockedPart::Round, Some(wait)).await;
                        LastRoundState::Locked(Box::new(acquired.clone()))
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
            let producer = producer.ok_or(LaneError::NewProducerNeeded)?;
            Ok((producer, published(restored)))
        }
        Reconciled::Contradiction(kind) => {
            let halt = error_policy::contradiction(lane, &kind, &ours, theirs);
            Err(LaneError::Halt(halt))
        }
    }
}

/// Withdraws a round that twice did not get through in the time that its transaction has: it would not the third time either. Kafka has nothing of
/// it. It is published as an empty round, and its drafts are planned in smaller ones. The ledger keeps how large those may be, for the lane's next
/// owners. Fails as the ledger does.
pub(super) async fn withdraw_undeliverable_round<B, L: Ledger, A, C>(
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

/// Withdraws from the last round what is not open, and returns the rest as it was recorded. Fails where its rows do not match their checksum.
///
/// The lane publishes it as soon as it runs. So its intake waits neither for a large round nor for a pause. Withdrawing takes time, in which another
/// campaign may end. So the round is read again until nothing in it is to be withdrawn. Dead letters whose topic does not take them leave the round:
/// its drafts do not wait for them.
pub(crate) async fn read_back_last_round<B: Broker, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    acquired: &mut AcquiredLane,
) -> Result<Recorded, LaneError> {
    let own = acquired.ownership;
    let mut stored = cx.ledger.stored_round(own).await?;
    if !stored.dead_letters.is_empty()
        && !cx.dead_letter_topic.accepts(own.lane, || cx.broker.dead_letter_topic()).await
    {
        cx.ledger.set_dead_letters_aside(own, stored.version).await?;
        fail_point("dead_letters.set_aside");
        stored = cx.ledger.stored_round(own).await?;
    }
    while !stored.not_open.is_empty() && cx.guards.enabled(Guard::WithdrawalAtTakeover) {
        acquired.locked_rows |= cx.ledger.withdraw(own, stored.version).await? > 0;
        fail_point("withdraw.recorded");
        stored = cx.ledger.stored_round(own).await?;
        if !cx.guards.enabled(Guard::WithdrawnToTheLast) {
            stored.open = Window::ALWAYS;
            break;
        }
    }
    Ok(Recorded::read_back(own.lane, acquired.ledger, stored, cx.guards).map_err(LedgerError::from)?)
}
