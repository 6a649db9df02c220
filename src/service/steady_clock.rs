//! Whether the feedback database's clock goes on as time does. What is pruned by a clock that was set forward for a moment is gone for good.

use std::time::Duration;

use tokio::time::Instant;

use dinnerbell_core::model::number::Micros;

/// A clock that moved by more than this, beside the time that passed, was set by somebody.
const MOVED: Duration = Duration::from_secs(3_600);
/// A clock that was set is believed when it has gone on so long from there.
const BELIEVED_AFTER: Duration = Duration::from_secs(86_400);

/// What the clock said at a moment.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    time: Micros,
}

impl Reading {
    /// By how many seconds another reading is ahead of the time that passed since.
    fn ahead(self, other: Self) -> i64 {
        let passed = i64::try_from(other.at.saturating_duration_since(self.at).as_secs()).unwrap_or(i64::MAX);
        (other.time - self.time) / 1_000_000 - passed
    }

    fn is_steady(self, other: Self) -> bool {
        self.ahead(other).unsigned_abs() <= MOVED.as_secs()
    }
}

/// The clock as it was first read, and where it was set to since.
#[derive(Debug, Default)]
pub struct SteadyClock {
    first: Option<Reading>,
    set: Option<Reading>,
}

impl SteadyClock {
    /// What the clock says now. Returns by how many seconds it was set, unless it has gone on from there for a day.
    pub fn read(&mut self, at: Instant, time: Micros) -> Result<(), i64> {
        let now = Reading { at, time };
        let first = *self.first.get_or_insert(now);
        if first.is_steady(now) {
            self.set = None;
            return Ok(());
        }
        let set = *self.set.insert(self.set.filter(|set| set.is_steady(now)).unwrap_or(now));
        if at.saturating_duration_since(set.at) < BELIEVED_AFTER {
            return Err(first.ahead(now));
        }
        *self = Self { first: Some(now), set: None };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_core::model::number::Seconds;

    const DAY: u64 = 86_400;

    /// What the clock is found to be at these seconds, where it says this many more.
    fn read(clock: &mut SteadyClock, begin: Instant, seconds: u64, more: i64) -> Result<(), i64> {
        let time = 1_700_000_000 + i64::try_from(seconds).unwrap() + more;
        clock.read(begin + Duration::from_secs(seconds), Seconds::new(time).micros())
    }

    #[test]
    fn a_clock_that_is_set_forward_for_some_minutes_is_not_believed_meanwhile() {
        let (mut clock, begin) = (SteadyClock::default(), Instant::now());
        assert_eq!(read(&mut clock, begin, 0, 0), Ok(()));
        for minute in 1..10 {
            assert_eq!(read(&mut clock, begin, 60 * minute, 8_640_000), Err(8_640_000));
        }
        assert_eq!(read(&mut clock, begin, 600, 1), Ok(()));
        assert_eq!(read(&mut clock, begin, 660, -7_200), Err(-7_200));
    }

    #[test]
    fn a_clock_that_was_set_right_is_believed_after_a_day() {
        let (mut clock, begin) = (SteadyClock::default(), Instant::now());
        assert_eq!(read(&mut clock, begin, 0, -8_640_000), Ok(()));
        assert_eq!(read(&mut clock, begin, 60, 0), Err(8_640_000));
        assert_eq!(read(&mut clock, begin, 60 + DAY - 1, 0), Err(8_640_000));
        assert_eq!(read(&mut clock, begin, 60 + DAY, 0), Ok(()));
        assert_eq!(read(&mut clock, begin, 120 + DAY, 0), Ok(()));
    }
}
