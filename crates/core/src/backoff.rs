//! Pauses between attempts: doubled with each failure, with jitter of a half.

use std::cell::RefCell;
use std::time::Duration;

use rand::RngExt;

/// How long to wait before the next attempt: twice as long with each failure in a row, from the first pause up to the longest. Each pause has a
/// jitter of a half: it is shorter by up to half. To begin again, it is replaced by a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The same after one more failure.
    #[must_use]
    pub fn longer(self) -> Self {
        Self { failures: self.failures.saturating_add(1), ..self }
    }

    /// The pause after the failures so far: none before the first. Each call has a jitter of its own.
    pub fn delay(&self) -> Duration {
        let doubled = match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => self.first.saturating_mul(1 << doublings.min(10)).min(self.longest),
        };
        doubled.mul_f64(jitter())
    }

    /// It failed once more: the pause that follows.
    pub fn failed(&mut self) -> Duration {
        *self = self.longer();
        self.delay()
    }
}

thread_local! {
    /// Where a simulated life decides the jitter: each test of lives runs in threads of its own.
    static SEEDED: RefCell<Option<Box<dyn FnMut() -> f64>>> = const { RefCell::new(None) };
}

/// From here on the jitter of this thread comes from these numbers, between a half and one. So a seed alone decides a simulated life.
#[cfg(feature = "fail-points")]
pub fn seed_jitter(numbers: impl FnMut() -> f64 + 'static) {
    SEEDED.with_borrow_mut(|seeded| *seeded = Some(Box::new(numbers)));
}

/// A factor between a half and one: who failed together shall not try again together.
fn jitter() -> f64 {
    let seeded = SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(|numbers| numbers()));
    seeded.unwrap_or_else(|| rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_from_the_first_to_the_longest_and_is_shorter_by_half_at_most() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        assert_eq!(backoff.delay(), Duration::ZERO);
        for most in [100, 200, 400, 800, 1_000, 1_000, 1_000].map(Duration::from_millis) {
            let pause = backoff.failed();
            assert!(pause <= most && pause >= most / 2, "{pause:?} of {most:?}");
        }
    }
}
