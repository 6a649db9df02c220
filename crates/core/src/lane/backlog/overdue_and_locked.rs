//! The backlog's part for what rounds leave out: restaurants whose pages do not come in time, and campaigns on which others hold a lock. Also for
//! locked rows, which are still to be withdrawn.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::lane::backlog::LaneBacklog;
use crate::lane::backlog::running::RunningCampaigns;
use crate::lane::backlog::wakeups::Signal;
use crate::model::lock::{LockHolder, LockedCampaign};

impl LaneBacklog {
    /// Leaves the campaigns of this restaurant out of rounds, as no page came in time. Returns for how long at least.
    pub fn overdue(&self, restaurant_id: &str) -> Duration {
        let pause = self.state().running.overdue.note(restaurant_id, Instant::now());
        self.wakeups.overdue.notify();
        pause
    }

    /// Waits until a restaurant that is left out is to be asked for alone. Returns it, and the client after whom a page of one of its campaigns
    /// begins.
    pub async fn next_overdue(&self) -> (String, Option<String>) {
        loop {
            let next = |running: &RunningCampaigns| {
                running.overdue.next().map(|(at, restaurant, ())| (at, restaurant.to_owned()))
            };
            let restaurant = self.until_due(&self.wakeups.overdue, next).await;
            let mut state = self.state();
            match state.running.of_restaurant(&restaurant) {
                Some(running) => return (restaurant, running.cursor.clone()),
                None => state.running.overdue.forget(&restaurant),
            }
        }
    }

    /// Lets rounds ask for this restaurant again: a page came that was asked for alone.
    pub fn came_alone(&self, restaurant_id: &str) {
        self.state().running.overdue.came_alone(restaurant_id);
        self.wakeups.changed.notify();
    }

    /// Notes that a round read a page of this restaurant: it is like any other again.
    pub fn came(&self, restaurant_id: &str) {
        self.state().running.overdue.forget(restaurant_id);
    }

    /// Wakes whoever withdraws locked rows: some are locked.
    pub fn notify_locked_rows(&self) {
        self.wakeups.locked_rows.notify();
    }

    /// Waits until there are some.
    pub async fn wait_for_locked_rows(&self) {
        self.wakeups.locked_rows.wait().await;
    }

    /// Keeps this campaign out of rounds: somebody else holds a lock on what it would write.
    pub fn lock_out(&self, campaign: &LockedCampaign, holder: Option<&LockHolder>) {
        self.state().running.locked_out.note(campaign, holder, Instant::now());
        self.wakeups.locked_out.notify();
    }

    /// Notes that the transaction that holds the lock is still open.
    pub fn stays_locked_out(&self, id: &str) {
        self.state().running.locked_out.stays(id, Instant::now());
    }

    /// Returns whether no round is to hold it.
    pub fn is_locked_out(&self, id: &str) -> bool {
        self.state().running.locked_out.is_out(id)
    }

    /// Returns whether any campaign is left out.
    pub fn any_locked_out(&self) -> bool {
        !self.state().running.locked_out.is_empty()
    }

    /// Waits until it is time to ask about a campaign that is left out. Returns its id, and who held the lock.
    pub async fn next_locked_out(&self) -> (String, Option<LockHolder>) {
        let next = |running: &RunningCampaigns| {
            running.locked_out.next().map(|(at, id, locked)| (at, (id.to_owned(), locked.holder.clone())))
        };
        self.until_due(&self.wakeups.locked_out, next).await
    }

    /// Lets rounds hold the campaign again. Who came late meanwhile was not checked for it: its restaurant's open campaigns are rescanned.
    pub fn let_in(&self, id: &str) {
        let restaurant = self.state().running.locked_out.let_in(id);
        self.missed(restaurant.into_iter());
        self.wakeups.changed.notify();
    }

    /// Notes that a round holds these campaigns: they are like any other again.
    pub fn staged<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        let mut state = self.state();
        ids.for_each(|id| state.running.locked_out.forget(id));
    }

    /// Waits until the next one is due, and returns it. The signal says that another one was added.
    async fn until_due<T>(&self, added: &Signal, next: impl Fn(&RunningCampaigns) -> Option<(Instant, T)>) -> T {
        loop {
            let next = next(&self.state().running);
            let Some((at, found)) = next else {
                added.wait().await;
                continue;
            };
            // Another one may be due before it.
            if timeout_at(at, added.wait()).await.is_err() {
                return found;
            }
        }
    }
}
