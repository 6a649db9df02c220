//! The delay before something is tried again.

use std::time::Duration;

use dinnerbell_core::backoff::Backoff;
use tokio::time::{Instant, sleep_until};

/// A delay that doubles with each attempt, with jitter.
#[derive(Debug)]
pub(crate) struct RetryDelay {
    backoff: Backoff,
}

impl RetryDelay {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { backoff: Backoff::new(first, most) }
    }

    /// Waits, unless the deadline would pass meanwhile. Returns whether it waited.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> bool {
        let until = Instant::now() + self.backoff.failed();
        if until >= deadline {
            return false;
        }
        sleep_until(until).await;
        true
    }
}
