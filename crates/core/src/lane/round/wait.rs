//! What a lane waits for before its next round: work, the start or the end of a campaign, the time of a report.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::guard::Guard;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::ports::clock::Clock;

/// How often the database's clock is read by a lane that waits for a start or an end.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Waits on behalf of one preparation.
pub(super) struct Waits<'a, B, L, A, C> {
    pub(super) cx: &'a LaneContext<B, L, A, C>,
    pub(super) backlog: &'a LaneBacklog,
}

impl<B, L, A, C: Clock> Waits<'_, B, L, A, C> {
    /// Waits until there is work, the next campaign starts or ends, or a report is due. Returns whether it is the report.
    pub(super) async fn wait(&self, report: Instant) -> bool {
        loop {
            if self.backlog.is_ready(self.cx.clock.now().seconds()) {
                return false;
            }
            if self.backlog.has_moved() && report <= Instant::now() {
                return true;
            }
            let reporting = async {
                match self.backlog.has_moved() {
                    true => sleep_until(report).await,
                    false => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.backlog.wait_for_change() => {}
                () = self.next_deadline() => {}
                () = reporting => {}
            }
        }
    }

    /// Waits until the next campaign starts or ends.
    async fn next_deadline(&self) {
        let wakes = self.cx.guards.enabled(Guard::NextChangeWakes);
        let Some(at) = self.backlog.next_deadline().filter(|_| wakes) else { return pending().await };
        let micros = (at.micros() - self.cx.clock.now()).max(0);
        // The timer is coarse, and two clocks that nobody compares drift apart: check again at least every minute.
        sleep(Duration::from_micros(micros.cast_unsigned() + 1_000).min(CLOCK_CHECK_INTERVAL)).await;
        let _ = self.cx.clock.fresh().await;
    }

    /// While all sending is paused: until it is resumed, something was added, or a campaign starts or ends.
    pub(super) async fn change_or_resumption(&self) {
        tokio::select! {
            biased;
            () = self.cx.pause.until_not_suspended() => {}
            () = self.backlog.wait_for_change() => {}
            () = self.next_deadline() => {}
        }
    }
}
