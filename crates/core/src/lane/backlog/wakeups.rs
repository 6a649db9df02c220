//! How the steps of a lane wake one another.

use tokio::sync::{Notify, watch};

/// Every signal of a lane, by what it says.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    /// Something was added for rounds.
    pub(super) changed: Signal,
    /// There may be a campaign to count.
    pub(super) uncounted: Signal,
    /// Dead letters came, were carried, or were taken back.
    pub(super) letters: Signal,
    /// The ledger knows one more round to be published.
    pub(super) noted: Signal,
    /// There is room for candidates.
    pub(super) room: Signal,
    /// There may be changes to apply.
    pub(super) changes: Signal,
    /// A rescan may be due.
    pub(super) rescan: Signal,
    /// A restaurant was left out because its pages do not come in time.
    pub(super) overdue: Signal,
    /// A campaign was left out because of somebody's lock.
    pub(super) locked_out: Signal,
    /// Rows of withdrawn drafts are locked.
    pub(super) locked_rows: Signal,
    /// The tail scan has its high-water mark.
    pub(super) tail_scan: Latch,
    /// The lane is not as it was taken over.
    pub(super) lost: Latch,
}

/// A notification that the next waiter gets, though nobody waits yet. Notifications that nobody got are one.
#[derive(Debug, Default)]
pub(super) struct Signal(Notify);

impl Signal {
    /// Wakes one waiter, or the next one.
    pub(super) fn notify(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters, and the next one.
    pub(super) fn notify_all(&self) {
        self.0.notify_waiters();
        self.0.notify_one();
    }

    /// Waits for a notification.
    pub(super) async fn wait(&self) {
        self.0.notified().await;
    }
}

/// What is so from one moment on, for good.
#[derive(Debug, Default)]
pub(super) struct Latch(watch::Sender<bool>);

impl Latch {
    /// It is so.
    pub(super) fn set(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is so.
    pub(super) async fn is_set(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|set| *set).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_notification_is_heard_once_however_often_and_early_it_came(calls in prop::collection::vec(any::<bool>(), 0..40)) {
            let (signal, latch, mut pending, mut set) = (Signal::default(), Latch::default(), false, false);
            for notify in calls {
                if notify {
                    signal.notify();
                    latch.set();
                    (pending, set) = (true, true);
                } else {
                    prop_assert_eq!(signal.wait().now_or_never().is_some(), pending);
                    prop_assert_eq!(latch.is_set().now_or_never().is_some(), set);
                    pending = false;
                }
            }
        }
    }

    #[tokio::test]
    async fn all_who_wait_are_notified_and_the_next_one() {
        let signal = Signal::default();
        let (one, other, notify) = (signal.wait(), signal.wait(), async { signal.notify_all() });
        tokio::join!(one, other, notify);
        signal.wait().await;
    }
}
