//! A pause between two attempts at the same question.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A pause that doubles.
pub(crate) struct Pause {
    next: Duration,
    most: Duration,
}

impl Pause {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// Waits, unless the deadline would pass meanwhile. Returns whether it waited.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> bool {
        let until = Instant::now() + self.next;
        if until >= deadline {
            return false;
        }
        self.next = self.most.min(2 * self.next);
        sleep_until(until).await;
        true
    }
}
