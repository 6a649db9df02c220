//! How long the last steps of the instance's lanes took, for the page. `/metrics` has all of them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::telemetry::labels::RoundStep;
use crate::telemetry::{Telemetry, locked};

/// Times that are kept of each step.
const MAX_SAMPLES: usize = 256;

/// The last times of one step, the latest behind.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Duration>);

impl Recent {
    pub(super) fn took(&mut self, time: Duration) {
        if self.0.len() == MAX_SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(time);
    }
}

/// What the last times of a step were like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTimes {
    /// The step.
    pub step: RoundStep,
    /// How many times they are.
    pub times: usize,
    /// Half of them were no longer.
    pub median: Duration,
    /// The longest.
    pub longest: Duration,
    /// The latest.
    pub latest: Duration,
}

impl Telemetry {
    /// The last times of each step that this instance took, in the steps' order; a step that it never took is left out.
    pub fn step_times(&self) -> Vec<StepTimes> {
        let recent = locked(&self.observed.steps);
        let times = recent.iter().zip(RoundStep::ALL).filter_map(|(Recent(times), step)| {
            let mut sorted: Vec<Duration> = times.iter().copied().collect();
            sorted.sort_unstable();
            let (longest, latest) = (*sorted.last()?, *times.back()?);
            Some(StepTimes { step, times: sorted.len(), median: sorted[(sorted.len() - 1) / 2], longest, latest })
        });
        times.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_times_of_a_step_are_kept_and_no_more() {
        let telemetry = Telemetry::default();
        assert_eq!(telemetry.step_times(), []);
        for millis in [1_000, 3, 1, 2].into_iter().chain(std::iter::repeat_n(2, MAX_SAMPLES - 1)) {
            telemetry.step(RoundStep::Copy, Duration::from_millis(millis));
        }
        let millis = Duration::from_millis;
        let found = telemetry.step_times();
        let copies = StepTimes {
            step: RoundStep::Copy,
            times: MAX_SAMPLES,
            median: millis(2),
            longest: millis(2),
            latest: millis(2),
        };
        assert_eq!(found, [copies], "those before went");
    }
}
