//! Pauses between attempts: doubled with each failure, with jitter.

use std::cell::RefCell;

use rand::RngExt;

thread_local! {
    /// Where a simulated life decides the jitter: each test of lives runs in threads of its own.
    static SEEDED: RefCell<Option<Box<dyn FnMut() -> f64>>> = const { RefCell::new(None) };
}

/// From here on the jitter of this thread comes from these numbers, between a half and one: a simulated life is decided by its seed alone.
#[cfg(feature = "fail-points")]
pub fn seed_jitter(numbers: impl FnMut() -> f64 + 'static) {
    SEEDED.with_borrow_mut(|seeded| *seeded = Some(Box::new(numbers)));
}

/// A factor between a half and one: who failed together shall not try again together.
pub fn jitter() -> f64 {
    let seeded = SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(|numbers| numbers()));
    seeded.unwrap_or_else(|| rand::rng().random_range(0.5..=1.0))
}
