//! Somebody else's open transaction holds a lock on what a lane would write: a feedback row, a campaign, the whole table. The lane's other work goes
//! on. Locked rows of withdrawn drafts are withdrawn later ([`withdraw_rows`]). Campaigns with which a round could not be recorded are left out until
//! they are free ([`let_in`]). Operators see who holds the lock ([`show_wait`]).

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::model::lock::{LockWait, LockedPart};
use crate::model::number::Lane;
use crate::model::ownership::Ownership;
use crate::ports::failure::Failure;
use crate::ports::ledger::{Ledger, LedgerError};

/// How often it tries again to withdraw locked rows.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// Most rows of one attempt.
const BATCH_SIZE: usize = 500;
/// After each attempt of several it pauses this many times as long as that one took.
const PAUSE_FACTOR: u32 = 4;

/// Shows operators who holds the lock that a part of the lane's work waits for; `None` ends that. A change is recorded in the ledger, so that
/// other instances and commands show it too. If the ledger does not take it, the log and `/readyz` show it all the same.
pub(crate) async fn show_wait<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    lane: Lane,
    part: LockedPart,
    wait: Option<&LockWait>,
) {
    if cx.telemetry.lock_wait(lane, part, wait)
        && let Err(error) = cx.ledger.note_lock_wait(lane, part, wait).await
    {
        tracing::debug!(lane = lane.get(), %error, "the ledger could not note for whom the lane waits");
    }
}

/// What a failed step of a lane waited for.
pub(crate) fn waited_for(error: &LaneError) -> Option<&LockWait> {
    match error {
        LaneError::Ledger(LedgerError::Locked(wait)) => Some(wait),
        _ => None,
    }
}

/// Withdraws rows of withdrawn drafts that were locked, as soon as they are free. It waits until there are some.
pub(crate) async fn withdraw_rows<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &LaneBacklog,
) -> Result<Infallible, LaneError> {
    loop {
        backlog.wait_for_locked_rows().await;
        let mut most = BATCH_SIZE;
        while withdraw_pass(cx, own, backlog, &mut most).await? {
            sleep(RETRY_INTERVAL).await;
        }
        show_wait(cx, own.lane, LockedPart::Rows, None).await;
    }
}

/// Tries all of them once. Returns whether any are left.
async fn withdraw_pass<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &LaneBacklog,
    most: &mut usize,
) -> Result<bool, LaneError> {
    let (mut after, mut holder) = (None, None);
    loop {
        let began = Instant::now();
        let rows = match cx.ledger.withdraw_locked(own, after.as_ref(), *most).await {
            Ok(rows) => rows,
            Err(error) if error.is_transient() => {
                cx.telemetry.lane_warns(own.lane, &error.into());
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        // What cannot be seen to be locked shows by waiting: fewer at once, until it is alone.
        *most = if rows.waited { (*most / 4).max(1) } else { (*most * 2).min(BATCH_SIZE) };
        if rows.gone > 0 {
            // An open campaign's rescan finds the clients who were not told; of a campaign that is over they are counted.
            backlog.notify_rescan();
            backlog.reload();
        }
        holder = holder.or(rows.holder);
        after = rows.next;
        if after.is_none() {
            if rows.left > 0 {
                let found =
                    format!("{} rows of withdrawn drafts are locked; they are withdrawn when they are free", rows.left);
                let wait = LockWait { found, row: None, holder, campaigns: Vec::new() };
                show_wait(cx, own.lane, LockedPart::Rows, Some(&wait)).await;
            }
            return Ok(rows.left > 0);
        }
        sleep(began.elapsed() * PAUSE_FACTOR).await;
    }
}

/// A round could not be recorded, as somebody holds a lock: its campaigns are left out of rounds, where they are known.
pub(crate) async fn left_out<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    lane: Lane,
    backlog: &LaneBacklog,
    wait: &LockWait,
) {
    show_wait(cx, lane, LockedPart::Round, Some(wait)).await;
    for campaign in &wait.campaigns {
        backlog.lock_out(campaign, wait.holder.as_ref());
    }
}

/// Lets campaigns that are left out into rounds again, as soon as the transaction is over that held the lock.
pub(crate) async fn let_in<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &LaneBacklog,
) -> Result<Infallible, LaneError> {
    loop {
        let (id, holder) = backlog.next_locked_out().await;
        let is_open = match &holder {
            // A ledger that does not answer does not take rounds either.
            Some(holder) => cx.ledger.is_transaction_active(holder).await.unwrap_or(true),
            // Only a round can tell.
            None => false,
        };
        if is_open {
            backlog.stays_locked_out(&id);
            continue;
        }
        backlog.let_in(&id);
        if !backlog.any_locked_out() {
            show_wait(cx, own.lane, LockedPart::Round, None).await;
        }
    }
}
