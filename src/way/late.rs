//! Whoever favours a restaurant while its campaign runs is told too.
//!
//! Two watchers bring candidates to the planner, which judges them in the next round: the sweep, for speed (favourites that were added, by
//! their ids), and the re-pass, which keeps the promise (ids commit out of order, replicas fail over: each open campaign's audience is
//! read again up to its cursor). Only the round decides who is late, against the cursor as it plans it.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::policy::Failures;
use super::work::Work;
use super::{Deps, LaneError, pages};
use crate::audience::{Audience, AudienceError};
use crate::ledger::{Ledger, OpenCampaign, Ownership};

/// How often the sweep looks.
const SWEEP: Duration = Duration::from_secs(1);
/// Most favourites of one look.
const SWEEP_ROWS: usize = 2_000;
/// Ids below the newest one that the first look reads again: transactions that were under way when the lane was entered.
const OVERLAP: i64 = 1_000;
/// How often a re-pass that may be due is looked for.
const LOOK_FOR_REPASS: Duration = Duration::from_secs(5);
/// Rows of one page of a re-pass.
const REPASS_ROWS: usize = 5_000;
/// A re-pass rests this many times as long as it works.
const REST: u32 = 20;

/// Reads the favourites that were added, until something fails for good.
pub async fn sweep<B, L, A: Audience, C>(
    deps: &Deps<B, L, A, C>,
    own: Ownership,
    work: &Work,
) -> Result<Infallible, LaneError> {
    if !deps.limits.late_subscribers {
        work.sweep_began();
        return pending().await;
    }
    let mut failures = Failures::default();
    let mut mark = None;
    loop {
        work.room_for_late().await;
        match look(deps, &mut mark, work).await {
            Ok(more) => {
                failures.clear();
                if more {
                    continue;
                }
            }
            Err(error @ LaneError::Audience(AudienceError::Passing(_))) => {
                failures.judge(own.lane, &error);
                deps.board.lane_warns(own.lane, &error);
                sleep(failures.pause()).await;
            }
            Err(error) => return Err(error),
        }
        sleep(SWEEP).await;
    }
}

/// One look; says whether there may be more to see at once. The first one only takes the mark, before any page is read: whoever is added
/// after a page was read has a higher id. An error leaves the mark where it is.
async fn look<B, L, A: Audience, C>(
    deps: &Deps<B, L, A, C>,
    mark: &mut Option<i64>,
    work: &Work,
) -> Result<bool, LaneError> {
    let Some(from) = *mark else {
        *mark = Some(deps.audience.newest().await?.saturating_sub(OVERLAP).max(0));
        work.sweep_began();
        return Ok(false);
    };
    let added = deps.audience.added(from, SWEEP_ROWS).await?;
    *mark = Some(added.last().map_or(from, |last| last.id));
    let more = added.len() == SWEEP_ROWS;
    work.add_late(added.into_iter().map(|favourite| (favourite.restaurant_id, favourite.client_id)));
    Ok(more)
}

/// Passes the audiences of open campaigns again, until something fails for good.
pub async fn repass<B, L: Ledger, A: Audience, C>(
    deps: &Deps<B, L, A, C>,
    own: Ownership,
    work: &Work,
) -> Result<Infallible, LaneError> {
    if !deps.limits.late_subscribers {
        return pending().await;
    }
    // What the owner before did not finish is not known: all open campaigns are passed once.
    let mut walked = None;
    while let Some(open) = deps.ledger.open_after(own, walked.as_deref()).await? {
        pass(deps, own, work, &open).await?;
        walked = Some(open.running.campaign.adv_campaign_id.clone());
    }
    loop {
        match deps.ledger.due_repass(own).await? {
            Some(open) => pass(deps, own, work, &open).await?,
            None => sleep(LOOK_FOR_REPASS).await,
        }
    }
}

/// Passes one campaign's audience again, up to the cursor of the last recorded round.
async fn pass<B, L: Ledger, A: Audience, C>(
    deps: &Deps<B, L, A, C>,
    own: Ownership,
    work: &Work,
    open: &OpenCampaign,
) -> Result<(), LaneError> {
    let campaign = &open.running.campaign;
    let (id, restaurant) = (&campaign.adv_campaign_id, &campaign.restaurant_id);
    let upto = if open.main_pass_over { None } else { open.running.cursor.as_deref() };
    let mut cursor = None::<String>;
    loop {
        work.room_for_late().await;
        let began = Instant::now();
        let page = match deps.audience.page(restaurant, cursor.as_deref(), upto, REPASS_ROWS).await {
            Ok(page) => page,
            Err(error @ AudienceError::Passing(_)) => {
                deps.board.lane_warns(own.lane, &error.into());
                sleep(LOOK_FOR_REPASS).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let last = page.last;
        if let Some(end) = page.clients.last().map(str::to_owned) {
            let told = deps.ledger.already_told(id, cursor.as_deref(), &end).await?;
            let untold = pages::without(page.clients, &told);
            work.add_late(untold.iter().map(|client| (restaurant.clone(), client.to_owned())));
            cursor = Some(end);
        }
        if last {
            break;
        }
        sleep(began.elapsed() * REST).await;
    }
    Ok(deps.ledger.note_repassed(own, id, open.running.revision).await?)
}
