//! The loops of the change feed: the poll for changes, and the tail scan. One lane's future runs them for all lanes of the instance.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::guard::Guard;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::RETRY_BACKOFF;
use crate::model::late::Subscription;
use crate::model::number::Lane;
use crate::periodic::Periodic;
use crate::ports::audience::{Audience, AudienceError};
use crate::ports::failure::Failure;
use crate::ports::ledger::Ledger;

/// How often the tail scan reads.
const TAIL_SCAN: Duration = Duration::from_secs(1);

/// Most favourites of one scan.
const TAIL_SCAN_ROWS: usize = 2_000;

/// How long the tail scan waits for lanes that have no room. What one of them cannot take then is left to its rescan, so that it holds up no other.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);

/// How often the lanes' changes are polled: the owner of a campaign notices within 250 ms what another lane received, and a poll takes time too.
const POLL_CHANGES: Duration = Duration::from_millis(200);

/// Between polls that failed: a database that failed over is polled soon after it answers.
const POLL_AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

/// Between questions for the high-water mark that were not answered: each may read the whole table.
const WITHOUT_HIGH_WATER: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Waits for this lane's turn, then polls and scans on behalf of all lanes. Fails with an error that is not transient.
pub async fn follow<B, L: Ledger, A: Audience, C>(
    cx: &LaneContext<B, L, A, C>,
    lane: Lane,
) -> Result<Infallible, LaneError> {
    let _leader = cx.change_feed.leader.lock().await;
    tokio::try_join!(poll_changes(cx, lane), tail_scan(cx, lane)).map(|(never, _)| never)
}

/// Says so, and waits a little longer each time.
async fn warn<B, L, A, C>(cx: &LaneContext<B, L, A, C>, lane: Lane, backoff: &mut Backoff, error: &LaneError) {
    cx.telemetry.lane_warns(lane, error);
    sleep(backoff.failed()).await;
}

/// Polls for changes, rescans and lost lanes of all lanes, until the leading lane is dropped. A transient error is logged, and the poll waits longer;
/// any other ends the lane that leads, and another lane goes on.
async fn poll_changes<B, L: Ledger, A, C>(cx: &LaneContext<B, L, A, C>, lane: Lane) -> Result<Infallible, LaneError> {
    let (mut backoff, mut polls) = (POLL_AGAIN, Periodic::at_once(POLL_CHANGES));
    loop {
        polls.due().await;
        let owned = cx.change_feed.owned();
        match cx.ledger.poll(&owned).await.map_err(LaneError::from) {
            Ok(waiting) => {
                backoff = POLL_AGAIN;
                cx.change_feed.for_each(&waiting.changes, LaneBacklog::notify_changes);
                cx.change_feed.for_each(&waiting.rescans, LaneBacklog::notify_rescan);
                cx.change_feed.mark_lost(&owned, &waiting.lost_lanes);
            }
            Err(error) if error.is_transient() => warn(cx, lane, &mut backoff, &error).await,
            Err(error) => return Err(error),
        }
    }
}

async fn tail_scan<B, L: Ledger, A: Audience, C>(
    cx: &LaneContext<B, L, A, C>,
    lane: Lane,
) -> Result<Infallible, LaneError> {
    if !cx.limits.late_subscribers {
        cx.change_feed.begin(0);
        return pending().await;
    }
    let (mut backoff, mut without_high_water) = (RETRY_BACKOFF, WITHOUT_HIGH_WATER);
    loop {
        match scan_once(cx).await {
            // There are more: they are not to wait for the next second.
            Ok(TAIL_SCAN_ROWS..) => backoff = RETRY_BACKOFF,
            Ok(_) => {
                backoff = RETRY_BACKOFF;
                sleep(TAIL_SCAN).await;
            }
            Err(_)
                if !cx.guards.enabled(Guard::TailScanErrorKeepsHighWater) && cx.change_feed.high_water().is_some() =>
            {
                cx.audience.newest().await.map(|newest| cx.change_feed.begin(newest)).unwrap_or_default();
            }
            // It is for speed: the rescan keeps the promise, and what a page needs its own reading finds.
            Err(error) if server_is_up_but_query_failed(&error) && cx.change_feed.high_water().is_none() => {
                cx.change_feed.start_degraded();
                warn(cx, lane, &mut without_high_water, &error).await;
            }
            Err(error) => warn(cx, lane, &mut backoff, &error).await,
        }
    }
}

/// Returns whether the server answers, but not this query: one for a page may succeed.
fn server_is_up_but_query_failed(error: &LaneError) -> bool {
    !error.is_transient() || matches!(error, LaneError::Audience(AudienceError::Unanswered(_)))
}

/// Scans once. Returns how many it found. The first scan only takes the high-water mark, before any page is read: a subscriber who is added after a
/// page was read has a higher id. An error leaves the high-water mark where it is.
async fn scan_once<B, L: Ledger, A: Audience, C>(cx: &LaneContext<B, L, A, C>) -> Result<usize, LaneError> {
    let Some(from) = cx.change_feed.high_water() else {
        cx.change_feed.begin(cx.audience.newest().await?);
        cx.change_feed.rescan_after_degraded_start();
        // What is read again is handed on, or dropped, before it grows old.
        return Ok(TAIL_SCAN_ROWS);
    };
    let lanes = cx.change_feed.lanes_to_backfill();
    if !lanes.is_empty() {
        cx.change_feed.step_back(&lanes, cx.ledger.tail_scanned(&lanes).await?);
        return Ok(TAIL_SCAN_ROWS);
    }
    let _ = timeout(WAIT_FOR_ROOM, cx.change_feed.room()).await;
    let added = cx.audience.added(from, TAIL_SCAN_ROWS).await?;
    if added.ids.is_empty()
        && cx.change_feed.checks_id_restart(Instant::now())
        && cx.change_feed.step_down(from, cx.audience.newest().await?)
    {
        return Ok(TAIL_SCAN_ROWS);
    }
    let mut found = added.favourites;
    let gaps = cx.change_feed.gaps();
    let filled = if gaps.is_empty() { Vec::new() } else { cx.audience.of_ids(&gaps).await? };
    found.extend_from_slice(&filled);
    hand_on(cx, &found).await?;
    cx.change_feed.advance(from, &added.ids, &filled, cx.guards);
    if let Some((lanes, upto)) = cx.change_feed.to_note(Instant::now())
        && cx.ledger.note_tail_scanned(&lanes, upto).await?
    {
        cx.change_feed.persisted(upto);
    }
    Ok(added.ids.len())
}

/// Hands favourites to the lanes that have a use for them.
async fn hand_on<B, L: Ledger, A, C>(cx: &LaneContext<B, L, A, C>, found: &[Subscription]) -> Result<(), LaneError> {
    if found.is_empty() {
        return Ok(());
    }
    // A campaign that becomes open after this was asked reads its pages later still, and finds them there.
    let restaurants: BTreeSet<&String> = found.iter().map(|favourite| &favourite.restaurant_id).collect();
    let restaurants: Vec<String> = restaurants.into_iter().cloned().collect();
    let open = cx.ledger.open_restaurants(&cx.change_feed.lanes(), &restaurants).await?;
    cx.change_feed.hand_on(found, &open);
    Ok(())
}
