//! The accounts of campaigns that are over: how many were not told before the end, or before the cancellation.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::guard::Guard;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::RETRY_BACKOFF;
use crate::lane::round::pages::without;
use crate::model::clients::ClientRange;
use crate::model::due::Uncounted;
use crate::model::ownership::Ownership;
use crate::model::page::PageRequest;
use crate::ports::audience::Audience;
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::ledger::Ledger;

/// How often a campaign whose count failed is counted again.
const COUNT_AGAIN: Duration = Duration::from_secs(5);

/// Counts, in the background, who was not told of campaigns whose end passed, or that were cancelled.
pub(crate) async fn count_ended<B: Broker, L: Ledger, A: Audience, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &LaneBacklog,
) -> Result<Infallible, LaneError> {
    // What one campaign's count meets holds up none of the others.
    let (mut failed, mut backoff) = (BTreeMap::<String, Instant>::new(), RETRY_BACKOFF);
    loop {
        failed.retain(|_, at| at.elapsed() < COUNT_AGAIN);
        let Some(Uncounted { campaign, cancelled }) = backlog.uncounted(|id| failed.contains_key(id)) else {
            match failed.is_empty() {
                true => backlog.wait_for_uncounted().await,
                false => drop(timeout(COUNT_AGAIN, backlog.wait_for_uncounted()).await),
            }
            continue;
        };
        let id = &campaign.adv_campaign_id;
        let counting = count_untold(cx, &campaign.restaurant_id, id, cx.limits.rows_beside());
        match counting.await {
            Ok(unsent) => {
                backoff = RETRY_BACKOFF;
                let unsent = if cx.guards.enabled(Guard::EndedAreCounted) { unsent } else { 0 };
                if cx.ledger.note_unsent(own, id, unsent).await? {
                    cx.telemetry.unsent(own.lane, unsent, cancelled);
                    backlog.counted(id);
                } else {
                    backlog.wait_for_noted().await;
                }
            }
            Err(error) => {
                cx.telemetry.lane_warns(own.lane, &error);
                failed.insert(id.clone(), Instant::now());
                sleep(backoff.failed()).await;
            }
        }
    }
}

/// Counts who favours the restaurant of an ended campaign and has no draft.
async fn count_untold<B, L: Ledger, A: Audience, C>(
    cx: &LaneContext<B, L, A, C>,
    restaurant_id: &str,
    adv_campaign_id: &str,
    rows: usize,
) -> Result<u64, LaneError> {
    let (mut cursor, mut untold) = (None::<String>, 0);
    loop {
        let page = cx.audience.page(PageRequest { restaurant_id, after: cursor.as_deref(), upto: None, rows }).await?;
        if let Some(upto) = page.clients.last().map(str::to_owned) {
            let range = ClientRange { adv_campaign_id, after: cursor.as_deref(), upto: &upto };
            let told = cx.ledger.already_told(&[range]).await?.pop().unwrap_or_default();
            untold += without(page.clients, &told).len() as u64;
            cursor = Some(upto);
        }
        if page.last {
            return Ok(untold);
        }
    }
}
