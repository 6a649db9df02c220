//! Whoever favours a restaurant while its campaign runs is told too.
//!
//! Two watchers bring candidates to the planner, which judges them in the next round: the sweep, for speed (favourites that were added, by
//! their ids; [`super::lookout`]), and the re-pass, which keeps the promise (ids commit long out of order, rows are changed to another restaurant, replicas
//! fail over: each open campaign's audience is read again up to its cursor). Only the round decides who is late, against the cursor as it plans it.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::work::Work;
use super::{Deps, LaneError, pages};
use crate::audience::{Audience, AudienceError, Wanted};
use crate::ledger::{Ledger, OpenCampaign, Ownership, Stretch};

/// How long a re-pass waits for subscribers that cannot be read.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Rows of one page of a re-pass.
const REPASS_ROWS: usize = 5_000;
/// A re-pass rests this many times as long as it works.
const REST: u32 = 20;

/// Passes the audiences of open campaigns again, until something fails for good.
pub async fn repass<B, L: Ledger, A: Audience, C>(
    deps: &Deps<B, L, A, C>,
    own: Ownership,
    work: &Work,
) -> Result<Infallible, LaneError> {
    if !deps.limits.late_subscribers {
        return pending().await;
    }
    work.sweep_has_begun().await;
    // What the owner before did not finish is not known.
    pass_all(deps, own, work).await?;
    loop {
        if work.was_overrun() {
            pass_all(deps, own, work).await?;
        }
        match deps.ledger.due_repass(own).await? {
            Some(open) => pass(deps, own, work, &open).await?,
            None => work.repass_called().await,
        }
    }
}

/// Passes every open campaign of the lane once.
async fn pass_all<B, L: Ledger, A: Audience, C>(
    deps: &Deps<B, L, A, C>,
    own: Ownership,
    work: &Work,
) -> Result<(), LaneError> {
    let mut passed = None;
    while let Some(open) = deps.ledger.open_after(own, passed.as_deref()).await? {
        pass(deps, own, work, &open).await?;
        passed = Some(open.running.campaign.adv_campaign_id.clone());
    }
    Ok(())
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
        let wanted = Wanted { restaurant_id: restaurant, after: cursor.as_deref(), upto, rows: REPASS_ROWS };
        let page = match deps.audience.page(wanted).await {
            Ok(page) => page,
            Err(error @ AudienceError::Passing(_)) => {
                deps.board.lane_warns(own.lane, &error.into());
                sleep(TRY_AGAIN).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let last = page.last;
        if let Some(end) = page.clients.last().map(str::to_owned) {
            let stretch = Stretch { adv_campaign_id: id, after: cursor.as_deref(), upto: &end };
            let told = deps.ledger.already_told(stretch).await?;
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
