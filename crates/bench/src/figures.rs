//! Figures of several runs, and how they are shown.

use std::time::Duration;

use serde::Serialize;

/// The middle of several runs, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        Self { median: f64::midpoint(at(low), at(high)), min: at(0), max: at(values.len().saturating_sub(1)) }
    }

    /// The median, and the extremes where there are several.
    pub fn show(&self, value: impl Fn(f64) -> String) -> String {
        match self.min < self.max {
            true => format!("{} ({} to {})", value(self.median), value(self.min), value(self.max)),
            false => value(self.median),
        }
    }
}

/// How long things took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half of them took at most so long.
    pub p50_ms: f64,
    /// 95 of 100 took at most so long.
    pub p95_ms: f64,
    /// 99 of 100 took at most so long.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Quantiles {
    /// By the nearest rank: each is a time that was seen.
    pub fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = times.collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        Self { p50_ms: at(50), p95_ms: at(95), p99_ms: at(99), max_ms: at(100) }
    }
}

const GIB: f64 = (1_u64 << 30) as f64;

/// Bytes in gibibytes.
pub fn gibibytes(bytes: f64) -> String {
    format!("{:.0} GiB", bytes / GIB)
}

/// Bytes in mebibytes.
pub fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

/// Milliseconds.
pub fn milliseconds(value: f64) -> String {
    format!("{value:.1} ms")
}

/// Seconds.
pub fn seconds(value: f64) -> String {
    format!("{value:.2} s")
}

/// A ratio.
pub fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// A number of things a second.
pub fn rate(value: f64) -> String {
    format!("{value:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_of_runs_is_their_median_and_their_extremes() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0].into_iter()).median, 1.5);
        assert_eq!(spread.show(|value| format!("{value}")), "2 (1 to 3)");
        assert_eq!(Spread::of([4.0].into_iter()).show(|value| format!("{value}")), "4");
    }

    #[test]
    fn quantiles_are_times_that_were_seen() {
        let quantiles = Quantiles::of((1..=200).rev().map(Duration::from_millis));
        let Quantiles { p50_ms, p95_ms, p99_ms, max_ms } = quantiles;
        assert_eq!((p50_ms, p95_ms, p99_ms, max_ms), (100.0, 190.0, 198.0, 200.0));
    }
}
