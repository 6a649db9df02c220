//! What happens periodically: the one way to wait between two steps of a loop.
//!
//! The loop itself stands where the step is, so that the step may fail, and the loop end with its error, as its module says. Operators' commands,
//! which show progress for a short time, wait by themselves.

use std::time::Duration;

use tokio::time::sleep;

/// When the next step of a loop is due. The interval runs from the end of one step to the beginning of the next. A step that takes long delays those
/// behind it, and steps never pile up.
#[derive(Debug)]
pub struct Periodic {
    interval: Duration,
    is_due: bool,
}

impl Periodic {
    /// The first step is due at once.
    pub const fn at_once(interval: Duration) -> Self {
        Self { interval, is_due: true }
    }

    /// The first step is due after one interval.
    pub const fn later(interval: Duration) -> Self {
        Self { interval, is_due: false }
    }

    /// Waits until the next step is due. It cannot fail. A call that is dropped while it waits changes nothing: the next call waits a whole interval.
    pub async fn due(&mut self) {
        if !std::mem::take(&mut self.is_due) {
            sleep(self.interval).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, advance, timeout};

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn steps_are_one_interval_apart_however_long_each_takes() {
        let began = Instant::now();
        let mut steps = Periodic::at_once(INTERVAL);
        steps.due().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        advance(3 * INTERVAL).await;
        steps.due().await;
        assert_eq!(began.elapsed(), 4 * INTERVAL);
        steps.due().await;
        assert_eq!(began.elapsed(), 5 * INTERVAL, "no step is made up for");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_step_may_be_due_later_and_a_wait_that_is_given_up_begins_again() {
        let began = Instant::now();
        let mut steps = Periodic::later(INTERVAL);
        assert!(timeout(INTERVAL / 2, steps.due()).await.is_err());
        steps.due().await;
        assert_eq!(began.elapsed(), INTERVAL / 2 + INTERVAL);
    }
}
