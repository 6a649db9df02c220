//! Clients who subscribe to a restaurant while its campaign runs are told too.
//!
//! Two watchers bring candidates to the planner, which checks them in the next round. The tail scan is for speed: it finds favourites that were
//! added, by their ids ([`crate::instance::change_feed`]). The rescan keeps the promise: it reads each open campaign's audience again up to its
//! cursor. It finds ids that commit long out of order, rows that are changed to another restaurant, and what a replica's fail-over hid. Only the
//! round decides who is late, against the cursor as it plans it.
//!
//! Rescans go on in batches ([`super::rescan_order`]): in each, a page of the campaign that ends first, and the first pages of those that had none. So newcomers
//! of a small campaign wait for no giant, and what ends soon for nothing that ends later. What fails is that rescan's own: it is tried again later.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use crate::guard::Guard;
use crate::lane::backlog::{LaneBacklog, LateCandidate};
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy;
use crate::lane::rescan_order::{CampaignRescan, RescanBatch, Rescans};
use crate::lane::round::pages;
use crate::model::clients::ClientRange;
use crate::model::late::RowCounts;
use crate::model::ownership::Ownership;
use crate::model::page::{Page, PageRequest};
use crate::ports::audience::{Audience, AudienceError};
use crate::ports::clock::Clock;
use crate::ports::failure::Failure;
use crate::ports::ledger::Ledger;

/// How long a rescan waits after an error of the ledger, and at most before it asks again what is due.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// After each batch a rescan pauses this many times as long as the batch took.
const PAUSE_FACTOR: u32 = 20;
/// A campaign of which many have no row is not counted again before.
const COUNT_AGAIN: Duration = Duration::from_secs(10);
/// Most open campaigns that are read from the ledger at once: their contents come with them.
const BATCH_SIZE: usize = 50;

/// Rescans the audiences of open campaigns, until the lane is lost or its ledger refuses.
pub async fn rescan<B, L: Ledger, A: Audience, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &LaneBacklog,
) -> Result<Infallible, LaneError> {
    if !cx.limits.late_subscribers {
        return pending().await;
    }
    if cx.guards.enabled(Guard::HighWaterBeforePages) {
        backlog.tail_scan_has_begun().await;
    }
    let mut rescan = Rescan { cx, own, backlog, rescans: Rescans::default(), due: true, counted: BTreeMap::new() };
    // What the owner before did not finish is not known.
    if cx.guards.enabled(Guard::RescanAfterTakeOver) {
        rescan.rescans.restart_all();
    }
    loop {
        match rescan.step().await {
            Ok(()) => {}
            Err(LaneError::Ledger(error)) if error.is_transient() => {
                cx.telemetry.lane_warns(own.lane, &error.into());
                sleep(RETRY_DELAY).await;
            }
            Err(error) => return Err(error),
        }
    }
}

struct Rescan<'a, B, L, A, C> {
    cx: &'a LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &'a LaneBacklog,
    rescans: Rescans,
    /// Whether more may be due than was taken up.
    due: bool,
    /// Campaigns whose rows were counted a short while ago, and when.
    counted: BTreeMap<String, Instant>,
}

impl<B, L: Ledger, A: Audience, C: Clock> Rescan<'_, B, L, A, C> {
    /// Takes up what is to be rescanned, and reads a page of some; waits where there is nothing to do.
    async fn step(&mut self) -> Result<(), LaneError> {
        self.take_up().await?;
        self.rescans.forget_ended(self.cx.clock.now().seconds());
        let batch = self.rescans.next(Instant::now());
        if batch.is_empty() {
            let called = self.backlog.wait_for_rescan();
            if self.rescans.is_empty() {
                called.await;
            } else {
                // Rescans that failed wait for their time.
                let _ = timeout(RETRY_DELAY, called).await;
            }
            self.due = true;
            return Ok(());
        }
        self.backlog.room_for_late().await;
        let began = Instant::now();
        self.read(batch).await?;
        if !self.rescans.is_empty() {
            sleep(began.elapsed() * PAUSE_FACTOR).await;
        }
        Ok(())
    }

    /// Takes up the campaigns whose newcomers found no room, those that a new owner rescans, and those that are due.
    async fn take_up(&mut self) -> Result<(), LaneError> {
        let Self { cx, own, .. } = *self;
        // The call first: a call that comes after what is taken up here is noticed the next time.
        self.due |= self.backlog.wait_for_rescan().now_or_never().is_some();
        let missed = self.backlog.take_missed();
        if missed.everywhere {
            self.rescans.restart_all();
        } else if !missed.restaurants.is_empty() {
            let restaurants: Vec<String> = missed.restaurants.into_iter().collect();
            match cx.ledger.open_campaigns_of(own, &restaurants).await {
                Ok(open) => open.into_iter().for_each(|open| self.rescans.again(open)),
                Err(error) => {
                    self.backlog.missed(restaurants.into_iter());
                    return Err(error.into());
                }
            }
        }
        if let Some(after) = self.rescans.list_after() {
            let open = cx.ledger.open_campaigns_after(own, after.as_ref(), BATCH_SIZE).await?;
            self.rescans.listed(open, BATCH_SIZE);
        }
        if self.due && !self.rescans.is_full() && cx.guards.enabled(Guard::RescanWhenDue) {
            let due = cx.ledger.due_rescan(own, &self.rescans.ids(), BATCH_SIZE).await?;
            // As many as were asked for: there may be more after them.
            self.due = due.len() == BATCH_SIZE;
            due.into_iter().for_each(|open| self.rescans.take_up(open));
        }
        Ok(())
    }

    /// Reads a page for each rescan of a batch. If that fails for several together, each is read alone, to find the one that fails.
    async fn read(&mut self, batch: RescanBatch) -> Result<(), LaneError> {
        match self.pages(&batch).await {
            Ok(pages) => self.hand_on(&batch, pages).await,
            Err(error) if batch.len() == 1 => {
                self.cx.telemetry.lane_warns(self.own.lane, &error.into());
                self.rescans.failed(&batch, Instant::now());
                Ok(())
            }
            Err(_) => {
                for alone in batch.one_by_one() {
                    Box::pin(self.read(alone)).await?;
                }
                Ok(())
            }
        }
    }

    async fn pages(&self, batch: &RescanBatch) -> Result<Vec<Page>, AudienceError> {
        let rescans = self.rescans.of(batch);
        let wanted = rescans.map(|(campaign, rows)| PageRequest {
            restaurant_id: &campaign.restaurant_id,
            after: campaign.cursor.as_deref(),
            upto: campaign.upto.as_deref(),
            rows,
        });
        let wanted: Vec<_> = wanted.collect();
        let pages = self.cx.audience.pages(&wanted).await?;
        Ok(pages.into_iter().collect::<Result<_, _>>()?)
    }

    /// Hands those of the pages who have no draft to the planner, and notes the rescans that are over.
    async fn hand_on(&mut self, batch: &RescanBatch, pages: Vec<Page>) -> Result<(), LaneError> {
        let read: Vec<(&CampaignRescan, &Page)> =
            self.rescans.of(batch).map(|(campaign, _)| campaign).zip(&pages).collect();
        let ranges = read.iter().filter_map(|(campaign, page)| {
            Some(ClientRange {
                adv_campaign_id: &campaign.adv_campaign_id,
                after: campaign.cursor.as_deref(),
                upto: page.clients.last()?,
            })
        });
        let ranges: Vec<_> = ranges.collect();
        let mut told = match ranges.is_empty() {
            true => Vec::new(),
            false => self.cx.ledger.already_told(&ranges).await?,
        }
        .into_iter();
        self.counted.retain(|_, at| at.elapsed() < COUNT_AGAIN);
        for (campaign, page) in read {
            if page.clients.is_empty() {
                continue;
            }
            let untold = pages::without(page.clients.clone(), &told.next().unwrap_or_default());
            let many = RowCounts { told: page.clients.len() as i64, rows: (page.clients.len() - untold.len()) as i64 };
            if many.indicates_bulk_removal() && !self.counted.contains_key(&campaign.adv_campaign_id) {
                rows_are_there(self.cx, self.own, &campaign.adv_campaign_id).await?;
                self.counted.insert(campaign.adv_campaign_id.clone(), Instant::now());
            }
            self.backlog.add_late(untold.iter().map(|client| LateCandidate {
                restaurant_id: campaign.restaurant_id.clone(),
                client_id: client.to_owned(),
            }));
        }
        let over = self.rescans.read(batch, &pages);
        self.backlog.missed(over.again.into_iter());
        if !over.rescanned.is_empty() {
            self.due = true;
            self.cx.ledger.note_rescanned(self.own, &over.rescanned).await?;
        }
        Ok(())
    }
}

/// Clients without a row look as if they came late. But a campaign that has told more clients than it has rows has lost rows. Then this fails with a
/// halt, and nobody is told.
pub(crate) async fn rows_are_there<B, L: Ledger, A, C>(
    cx: &LaneContext<B, L, A, C>,
    own: Ownership,
    id: &str,
) -> Result<(), LaneError> {
    let counted = cx.ledger.count_rows(own, id).await?;
    match counted.indicates_bulk_removal() {
        true => Err(LaneError::Halt(error_policy::rows_removed(own.lane, id, counted))),
        false => Ok(()),
    }
}
