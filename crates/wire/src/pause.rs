//! A pause between two attempts at the same question.

use std::time::Duration;

use dinnerbell_core::backoff::Backoff;
use tokio::time::{Instant, sleep_until};

/// A pause that doubles, with jitter.
pub(crate) struct Pause {
    backoff: Backoff,
}

impl Pause {
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
