//! Clients who subscribe to a restaurant while its campaign runs are told too.
//!
//! Two watchers bring candidates to the planner, which judges them in the next round. The tail scan is for speed: it finds favourites that were
//! added, by their ids ([`crate::instance::change_feed`]). The rescan keeps the promise: it reads each open campaign's audience again up to its
//! cursor. It finds ids that commit long out of order, rows that are changed to another restaurant, and what a replica's fail-over hid. Only the
//! round decides who is late, against the cursor as it plans it.
//!
//! Passes go on in batches ([`super::rescan_passes`]): in each, a page of the campaign that ends first, and the first pages of those that had none. So newcomers
//! of a small campaign wait for no giant, and what ends soon for nothing that ends later. What fails is that pass's own: it is tried again later.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use crate::guard::Guard;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy;
use crate::lane::rescan_passes::{Pass, Passes, RescanBatch};
use crate::lane::round::pages;
use crate::model::clients::ClientRange;
use crate::model::late::RowCounts;
use crate::model::ownership::Ownership;
use crate::model::page::{Page, PageRequest};
use crate::ports::audience::{Audience, AudienceError};
use crate::ports::clock::Clock;
use crate::ports::failure::Failure;
use crate::ports::ledger::Ledger;

/// How long a rescan waits for a ledger that cannot be asked, and at most before it looks again.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// A rescan rests this many times as long as it works.
const REST: u32 = 20;
/// A campaign of which many have no row is not counted again before.
const COUNT_AGAIN: Duration = Duration::from_secs(10);
/// Open campaigns that are taken up at once: their contents are read with them.
const AT_ONCE: usize = 50;

/// Passes the audiences of open campaigns again, until the lane is lost or its ledger refuses.
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
    let mut rescan = Rescan { cx, own, backlog, passes: Passes::default(), due: true, counted: BTreeMap::new() };
    // What the owner before did not finish is not known.
    if cx.guards.enabled(Guard::RescanAfterTakeOver) {
        rescan.passes.all_again();
    }
    loop {
        match rescan.step().await {
            Ok(()) => {}
            Err(LaneError::Ledger(error)) if error.is_transient() => {
                cx.telemetry.lane_warns(own.lane, &error.into());
                sleep(TRY_AGAIN).await;
            }
            Err(error) => return Err(error),
        }
    }
}

struct Rescan<'a, B, L, A, C> {
    cx: &'a LaneContext<B, L, A, C>,
    own: Ownership,
    backlog: &'a LaneBacklog,
    passes: Passes,
    /// Whether more may be due than was taken up.
    due: bool,
    /// Campaigns whose rows were counted a short while ago, and when.
    counted: BTreeMap<String, Instant>,
}

impl<B, L: Ledger, A: Audience, C: Clock> Rescan<'_, B, L, A, C> {
    /// Takes up what is to be passed, and reads a page of some; waits where there is nothing to do.
    async fn step(&mut self) -> Result<(), LaneError> {
        self.take_up().await?;
        self.passes.forget_ended(self.cx.clock.now().seconds());
        let batch = self.passes.next(Instant::now());
        if batch.is_empty() {
            let called = self.backlog.rescan_called();
            if self.passes.is_empty() {
                called.await;
            } else {
                // Passes that failed wait for their time.
                let _ = timeout(TRY_AGAIN, called).await;
            }
            self.due = true;
            return Ok(());
        }
        self.backlog.room_for_late().await;
        let began = Instant::now();
        self.read(batch).await?;
        if !self.passes.is_empty() {
            sleep(began.elapsed() * REST).await;
        }
        Ok(())
    }

    /// Takes up the campaigns whose newcomers found no room, those that a new owner passes, and those that are due.
    async fn take_up(&mut self) -> Result<(), LaneError> {
        let Self { cx, own, .. } = *self;
        // The call first: a call that comes after what is taken up here is noticed the next time.
        self.due |= self.backlog.rescan_called().now_or_never().is_some();
        let missed = self.backlog.take_missed();
        if missed.everywhere {
            self.passes.all_again();
        } else if !missed.restaurants.is_empty() {
            let restaurants: Vec<String> = missed.restaurants.into_iter().collect();
            match cx.ledger.open_campaigns_of(own, &restaurants).await {
                Ok(open) => open.into_iter().for_each(|open| self.passes.again(open)),
                Err(error) => {
                    self.backlog.missed(restaurants.into_iter());
                    return Err(error.into());
                }
            }
        }
        if let Some(after) = self.passes.walks_from() {
            let open = cx.ledger.open_campaigns_after(own, after.as_ref(), AT_ONCE).await?;
            self.passes.walked(open, AT_ONCE);
        }
        if self.due && !self.passes.is_full() && cx.guards.enabled(Guard::RescanWhenDue) {
            let due = cx.ledger.due_rescan(own, &self.passes.ids(), AT_ONCE).await?;
            // As many as were asked for: there may be more behind them.
            self.due = due.len() == AT_ONCE;
            due.into_iter().for_each(|open| self.passes.take_up(open));
        }
        Ok(())
    }

    /// Reads a page for each pass of a batch. If that fails for several passes together, each is read alone, to find the one that fails.
    async fn read(&mut self, batch: RescanBatch) -> Result<(), LaneError> {
        match self.pages(&batch).await {
            Ok(pages) => self.hand_on(&batch, pages).await,
            Err(error) if batch.len() == 1 => {
                self.cx.telemetry.lane_warns(self.own.lane, &error.into());
                self.passes.failed(&batch, Instant::now());
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
        let passes = self.passes.of(batch);
        let wanted = passes.map(|(pass, rows)| PageRequest {
            restaurant_id: &pass.restaurant_id,
            after: pass.cursor.as_deref(),
            upto: pass.upto.as_deref(),
            rows,
        });
        let wanted: Vec<_> = wanted.collect();
        let pages = self.cx.audience.pages(&wanted).await?;
        Ok(pages.into_iter().collect::<Result<_, _>>()?)
    }

    /// Hands those of the pages who have no draft to the planner, and notes the passes that are over.
    async fn hand_on(&mut self, batch: &RescanBatch, pages: Vec<Page>) -> Result<(), LaneError> {
        let read: Vec<(&Pass, &Page)> = self.passes.of(batch).map(|(pass, _)| pass).zip(&pages).collect();
        let ranges = read.iter().filter_map(|(pass, page)| {
            Some(ClientRange {
                adv_campaign_id: &pass.adv_campaign_id,
                after: pass.cursor.as_deref(),
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
        for (pass, page) in read {
            if page.clients.is_empty() {
                continue;
            }
            let untold = pages::without(page.clients.clone(), &told.next().unwrap_or_default());
            let many = RowCounts { told: page.clients.len() as i64, rows: (page.clients.len() - untold.len()) as i64 };
            if many.were_removed() && !self.counted.contains_key(&pass.adv_campaign_id) {
                rows_are_there(self.cx, self.own, &pass.adv_campaign_id).await?;
                self.counted.insert(pass.adv_campaign_id.clone(), Instant::now());
            }
            self.backlog.add_late(untold.iter().map(|client| (pass.restaurant_id.clone(), client.to_owned())));
        }
        let over = self.passes.read(batch, &pages);
        self.backlog.missed(over.again.into_iter());
        if !over.passed.is_empty() {
            self.due = true;
            self.cx.ledger.note_rescanned(self.own, &over.passed).await?;
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
    match counted.were_removed() {
        true => Err(LaneError::Halt(error_policy::rows_removed(own.lane, id, counted))),
        false => Ok(()),
    }
}
