//! The backlog's part for locks of others: campaigns that are left out of rounds because of them, and rows that are still to be withdrawn.

use tokio::time::{Instant, timeout_at};

use crate::lane::backlog::LaneBacklog;
use crate::model::lock::{LockHolder, LockedCampaign};

impl LaneBacklog {
    /// Rows of withdrawn drafts are locked: they are to be looked at.
    pub fn call_locked_rows(&self) {
        self.wakeups.locked_rows.call();
    }

    /// Waits until there are some.
    pub async fn locked_rows_called(&self) {
        self.wakeups.locked_rows.called().await;
    }

    /// No round is to hold this campaign: somebody else holds a lock on what it would write.
    pub fn lock_out(&self, campaign: &LockedCampaign, holder: Option<&LockHolder>) {
        self.state().running.locked_out.note(campaign, holder, Instant::now());
        self.wakeups.locked_out.call();
    }

    /// The transaction that holds the lock is still open.
    pub fn stays_locked_out(&self, id: &str) {
        self.state().running.locked_out.stays(id, Instant::now());
    }

    /// Whether no round is to hold it.
    pub fn is_locked_out(&self, id: &str) -> bool {
        self.state().running.locked_out.is_out(id)
    }

    /// Whether any is left out.
    pub fn any_locked_out(&self) -> bool {
        !self.state().running.locked_out.is_empty()
    }

    /// Waits until it is to be asked about a campaign that is left out: its id, and who held the lock.
    pub async fn locked_out(&self) -> (String, Option<LockHolder>) {
        loop {
            let next = {
                let state = self.state();
                let next = state.running.locked_out.next();
                next.map(|(at, id, holder)| (at, id.to_owned(), holder.cloned()))
            };
            let Some((at, id, holder)) = next else {
                self.wakeups.locked_out.called().await;
                continue;
            };
            // Another one may be due before it.
            if timeout_at(at, self.wakeups.locked_out.called()).await.is_err() {
                return (id, holder);
            }
        }
    }

    /// Rounds may hold it again. Who came late meanwhile was not judged for it: its restaurant's open campaigns are passed again.
    pub fn let_in(&self, id: &str) {
        let restaurant = self.state().running.locked_out.let_in(id);
        self.missed(restaurant.into_iter());
        self.wakeups.changed.call();
    }

    /// A round holds these campaigns.
    pub fn copied<'a>(&self, ids: impl Iterator<Item = &'a str>) {
        let mut state = self.state();
        ids.for_each(|id| state.running.locked_out.forget(id));
    }
}
