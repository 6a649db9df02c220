//! What the service used while something was measured, and where its time went.

use serde::Serialize;

use super::error::BenchError;
use super::figures::{Spread, mebibytes};
use super::instance::Instance;
use super::machine::Ticks;
use super::scrape::{Scrape, Step};
use dinnerbell_core::text_table::table;

/// What one instance of the service used in one run.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    /// The process's largest resident memory.
    pub peak_memory_bytes: u64,
    /// Processor time that it used.
    pub cpu_seconds: f64,
    /// The share of this machine's processor time in use, by whatever ran.
    pub machine_busy: Option<f64>,
    /// The largest share of `fanout.memory_limit` that was seen in use, where somebody looked.
    pub in_flight_share: Option<f64>,
    /// Rounds that it took.
    pub rounds: u64,
    /// How often a lane failed and was taken over again; 0 in an undisturbed run.
    pub lane_failures: u64,
    /// What the steps took. Copying and publishing go on at the same time, so they add up to more than the whole.
    pub steps: Vec<Step>,
}

/// What an instance had used when the measurement began.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    scrape: Scrape,
    ticks: Ticks,
}

impl Meter {
    /// From a scrape that was made now.
    pub fn from(scrape: Scrape) -> Self {
        Self { scrape, ticks: Ticks::now() }
    }

    /// What was used since then, until a scrape that was made now.
    pub fn until(&self, after: &Scrape, instance: &Instance) -> Result<Usage, BenchError> {
        Ok(Usage { in_flight_share: instance.in_flight_share(), ..self.usage(after, instance.peak_memory()?) })
    }

    /// See [`Meter::until`].
    pub(super) fn usage(&self, after: &Scrape, peak_memory_bytes: u64) -> Usage {
        let before = &self.scrape;
        Usage {
            peak_memory_bytes,
            cpu_seconds: after.cpu() - before.cpu(),
            machine_busy: Ticks::now().busy_since(self.ticks),
            in_flight_share: None,
            rounds: after.rounds() - before.rounds(),
            lane_failures: after.failures() - before.failures(),
            steps: after.steps_since(before),
        }
    }
}

impl Usage {
    /// How long a step took in all.
    pub fn step_seconds(&self, name: &str) -> f64 {
        self.steps.iter().filter(|step| step.step == name).map(|step| step.seconds).sum()
    }
}

/// The largest resident memory that is promised for an instance with this number of lanes, where something is promised.
pub fn memory_promised(lanes: i32) -> Option<u64> {
    match lanes {
        1 => Some(128_000_000),
        2..=12 => Some(256_000_000),
        _ => None,
    }
}

/// The peaks of several runs against what is promised, as a sentence.
pub fn memory_text<'a>(lanes: i32, usages: impl Iterator<Item = &'a Usage>) -> String {
    peaks_text(lanes, usages.map(|usage| usage.peak_memory_bytes))
}

/// See [`memory_text`].
pub fn peaks_text(lanes: i32, peaks: impl Iterator<Item = u64>) -> String {
    let peak = Spread::of(peaks.map(|peak| peak as f64));
    let promised = memory_promised(lanes).map(|promised| {
        let place = if peak.max <= promised as f64 { "within" } else { "ABOVE" };
        format!(", {place} the {} that are promised", mebibytes(promised as f64))
    });
    format!("peak memory {}{}", peak.show(mebibytes), promised.unwrap_or_default())
}

/// The steps of all runs together, as a table.
pub fn steps_text<'a>(title: &str, usages: impl Iterator<Item = &'a Usage>) -> String {
    let mut sums: Vec<Step> = Vec::new();
    let mut failures = 0;
    for usage in usages {
        failures += usage.lane_failures;
        for step in &usage.steps {
            match sums.iter_mut().find(|sum| sum.step == step.step) {
                Some(sum) => {
                    sum.times += step.times;
                    sum.seconds += step.seconds;
                }
                None => sums.push(step.clone()),
            }
        }
    }
    let rows = sums.iter().map(|Step { step, times, seconds }| {
        let mean = if *times == 0 { 0.0 } else { seconds * 1000.0 / *times as f64 };
        [step.clone(), times.to_string(), format!("{seconds:.3} s"), format!("{mean:.2} ms")]
    });
    let mut text =
        format!("\nwhere the service's time went, {title}\n\n{}", table(["STEP", "TIMES", "IN ALL", "EACH"], rows));
    if failures > 0 {
        text.push_str(&format!(
            "a lane failed and was taken over again {failures} times: this was no undisturbed run\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_judged_by_the_worst_run() {
        let usage = |peak_memory_bytes| Usage { peak_memory_bytes, ..Meter::default().usage(&Scrape::default(), 0) };
        let (good, bad) = (usage(100 << 20), usage(200 << 20));
        assert!(memory_text(1, [&good].into_iter()).contains("within"));
        assert!(memory_text(1, [&good, &bad].into_iter()).contains("ABOVE"));
        assert!(memory_text(4, [&good, &bad].into_iter()).contains("within"));
        assert_eq!(memory_text(40, [&good].into_iter()), "peak memory 100 MiB");
    }
}
