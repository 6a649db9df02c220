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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_delay_that_would_end_after_the_deadline_is_not_waited_for() {
        let began = Instant::now();
        let mut delay = RetryDelay::new(Duration::from_secs(1), Duration::from_secs(1));
        assert!(!delay.wait(began + Duration::from_millis(100)).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(delay.wait(began + Duration::from_secs(10)).await);
        assert!(began.elapsed() > Duration::ZERO);
    }
}
