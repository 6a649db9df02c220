//! What was measured, as JSON and as text.

use std::time::Duration;

use serde::Serialize;

use super::latency::{Load, Seen};
use super::scrape::Scrape;
use super::{Plan, Scenario};
use crate::cli::output::table;

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of the service.
    pub version: &'static str,
    /// When it began, RFC 3339.
    pub at: String,
    /// Where the bench and the service ran.
    pub machine: Machine,
    /// What they spoke with.
    pub servers: Servers,
    /// Partitions of the topic of drafts.
    pub notification_partitions: i32,
    /// How often each scenario was run.
    pub repeat: u32,
    /// One campaign with a large audience, for each size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fanout: Vec<FanOut>,
    /// Peak memory with the largest audience over that with the smallest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_ratio: Option<f64>,
    /// Small campaigns at a steady rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

/// Where the bench and the service ran.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Processors that may be used.
    pub cores: usize,
    /// The processors' name, where it is known.
    pub processor: Option<String>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// How many processes wanted a processor in the minute before: above the number of cores, nothing that was measured means much.
    pub load_before: Option<f64>,
}

/// What the bench and the service spoke with.
#[derive(Debug, Serialize)]
pub struct Servers {
    /// The version of PostgreSQL.
    pub postgres: String,
    /// How many brokers the cluster has.
    #[serde(rename = "kafka_brokers")]
    pub kafka: usize,
}

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

/// One size of `fanout`.
#[derive(Debug, Serialize)]
pub struct FanOut {
    /// How many subscribers.
    pub audience: usize,
    /// Throughput of the service over that of the roofline.
    pub ratio: Spread,
    /// Drafts a second of the service.
    pub drafts_per_second: Spread,
    /// The service's largest resident memory.
    pub peak_memory_bytes: Spread,
    /// Each run.
    pub runs: Vec<FanOutRun>,
}

/// One run of `fanout`.
#[derive(Debug, Serialize)]
pub struct FanOutRun {
    /// Without the service.
    pub roofline: Roofline,
    /// With it.
    pub service: Service,
    /// Throughput of the service over that of the roofline.
    pub ratio: f64,
}

/// The same rows and messages without the service.
#[derive(Debug, Serialize)]
pub struct Roofline {
    /// Until both were done.
    pub seconds: f64,
    /// Until the COPY was committed.
    pub copy_seconds: f64,
    /// Until the last message was acknowledged.
    pub produce_seconds: f64,
    /// Drafts a second.
    pub drafts_per_second: f64,
}

/// The service on one large campaign.
#[derive(Debug, Serialize)]
pub struct Service {
    /// From the append of the campaign until both sinks were complete.
    pub seconds: f64,
    /// Drafts a second.
    pub drafts_per_second: f64,
    /// The process's largest resident memory.
    pub peak_memory_bytes: u64,
    /// Processor time that it used.
    pub cpu_seconds: f64,
    /// Rounds that it took.
    pub rounds: u64,
    /// How often a lane failed and was entered again; 0 in an undisturbed run.
    pub lane_failures: u64,
    /// What the steps took. Copying and publishing go on at the same time, so they add up to more than the whole.
    pub steps: Vec<Step>,
}

/// One step of the service, all of its times together.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Its name in the metrics.
    pub step: String,
    /// How often.
    pub times: u64,
    /// How long in all.
    pub seconds: f64,
}

/// Small campaigns at a steady rate.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// What was sent.
    pub load: Load,
    /// Half of the campaigns took at most so long.
    pub p50_ms: Spread,
    /// 99 of 100 took at most so long.
    pub p99_ms: Spread,
    /// Each run.
    pub runs: Vec<LatencyRun>,
}

/// One run of `latency`.
#[derive(Debug, Serialize)]
pub struct LatencyRun {
    /// How many campaigns.
    pub campaigns: usize,
    /// Half of them took at most so long.
    pub p50_ms: f64,
    /// 99 of 100 took at most so long.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Campaigns whose rows were committed after their messages could be read; there should be none.
    pub rows_after_messages: usize,
    /// The process's largest resident memory.
    pub peak_memory_bytes: u64,
    /// Processor time that the service used.
    pub cpu_seconds: f64,
    /// Rounds that it took.
    pub rounds: u64,
    /// How often a lane failed and was entered again; 0 in an undisturbed run.
    pub lane_failures: u64,
    /// What the steps took.
    pub steps: Vec<Step>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(servers: Servers, plan: &Plan) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            at: jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string(),
            machine: Machine::here(),
            servers,
            notification_partitions: plan.partitions,
            repeat: plan.repeat,
            fanout: Vec::new(),
            memory_ratio: None,
            latency: None,
        }
    }

    /// What follows from all of it.
    pub fn conclude(&mut self) {
        let smallest = self.fanout.iter().min_by_key(|fanout| fanout.audience);
        let largest = self.fanout.iter().max_by_key(|fanout| fanout.audience);
        self.memory_ratio = smallest
            .zip(largest)
            .filter(|(smallest, largest)| smallest.audience < largest.audience)
            .map(|(smallest, largest)| largest.peak_memory_bytes.median / smallest.peak_memory_bytes.median);
    }
}

impl Machine {
    fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kilobytes = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor.map(|(_, name)| name.to_owned()),
            memory_bytes: kilobytes.and_then(|text| text.parse::<u64>().ok()).map(|kilobytes| kilobytes * 1024),
            load_before: read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()),
        }
    }
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        Self { median: f64::midpoint(at(low), at(high)), min: at(0), max: at(values.len().saturating_sub(1)) }
    }

    /// The median, and the extremes where there are several.
    fn show(&self, value: impl Fn(f64) -> String) -> String {
        match self.min < self.max {
            true => format!("{} ({} to {})", value(self.median), value(self.min), value(self.max)),
            false => value(self.median),
        }
    }
}

impl FanOut {
    /// The runs of one size.
    pub fn of(audience: usize, runs: Vec<FanOutRun>) -> Self {
        Self {
            audience,
            ratio: Spread::of(runs.iter().map(|run| run.ratio)),
            drafts_per_second: Spread::of(runs.iter().map(|run| run.service.drafts_per_second)),
            peak_memory_bytes: Spread::of(runs.iter().map(|run| run.service.peak_memory_bytes as f64)),
            runs,
        }
    }
}

impl FanOutRun {
    /// Both sides of one run.
    pub fn of(audience: usize, roofline: Roofline, service: Service) -> Self {
        let ratio = if audience == 0 { 0.0 } else { roofline.seconds / service.seconds };
        Self { roofline, service, ratio }
    }
}

impl Roofline {
    /// What was found.
    pub fn new(audience: usize, copied: Duration, produced: Duration) -> Self {
        let seconds = copied.max(produced).as_secs_f64();
        Self {
            seconds,
            copy_seconds: copied.as_secs_f64(),
            produce_seconds: produced.as_secs_f64(),
            drafts_per_second: audience as f64 / seconds,
        }
    }
}

impl Service {
    /// What was found.
    pub fn of(audience: usize, took: Duration, before: &Scrape, after: &Scrape, peak_memory_bytes: u64) -> Self {
        Self {
            seconds: took.as_secs_f64(),
            drafts_per_second: audience as f64 / took.as_secs_f64(),
            peak_memory_bytes,
            cpu_seconds: after.cpu() - before.cpu(),
            rounds: after.rounds() - before.rounds(),
            lane_failures: after.failures() - before.failures(),
            steps: after.steps_since(before),
        }
    }
}

impl Latency {
    /// The runs.
    pub fn of(load: Load, runs: Vec<LatencyRun>) -> Self {
        Self {
            load,
            p50_ms: Spread::of(runs.iter().map(|run| run.p50_ms)),
            p99_ms: Spread::of(runs.iter().map(|run| run.p99_ms)),
            runs,
        }
    }
}

impl LatencyRun {
    /// What was found.
    pub fn of(seen: &Seen, before: &Scrape, after: &Scrape, peak_memory_bytes: u64) -> Self {
        let mut sorted = seen.latencies.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            // The nearest rank.
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        Self {
            campaigns: sorted.len(),
            p50_ms: at(50),
            p99_ms: at(99),
            max_ms: at(100),
            rows_after_messages: seen.rows_later,
            peak_memory_bytes,
            cpu_seconds: after.cpu() - before.cpu(),
            rounds: after.rounds() - before.rounds(),
            lane_failures: after.failures() - before.failures(),
            steps: after.steps_since(before),
        }
    }
}

impl Report {
    /// For people.
    pub fn text(&self, plan: &Plan) -> String {
        let Machine { cores, processor, memory_bytes, load_before } = &self.machine;
        let processor = processor.as_deref().unwrap_or("processor unknown");
        let memory = memory_bytes.map_or_else(String::new, |bytes| format!(", {:.0} GiB", bytes as f64 / GIB));
        let load = load_before.map_or_else(String::new, |load| format!(", load {load:.1} before"));
        let Servers { postgres, kafka } = &self.servers;
        let mut text = format!(
            "dinnerbell {} at {}\n{cores} cores ({processor}){memory}{load}; PostgreSQL {postgres}; Kafka with {kafka} broker(s), \
             {} partitions of drafts\n",
            self.version, self.at, self.notification_partitions
        );
        if plan.scenarios.contains(&Scenario::Fanout) {
            text.push_str(&self.fanout_text());
        }
        if let Some(latency) = &self.latency {
            text.push_str(&latency_text(latency));
        }
        text
    }

    fn fanout_text(&self) -> String {
        let mut text = String::from("\nfanout: one campaign, one lane, until both sinks are complete\n\n");
        let runs = self.fanout.iter().flat_map(|fanout| fanout.runs.iter().map(|run| (fanout.audience, run)));
        let rows = runs.map(|(audience, FanOutRun { roofline, service, ratio })| {
            [
                audience.to_string(),
                format!("{:.2} s", roofline.seconds),
                format!("{:.2} s", roofline.copy_seconds),
                format!("{:.2} s", roofline.produce_seconds),
                format!("{:.2} s", service.seconds),
                format!("{:.0}", service.drafts_per_second),
                format!("{ratio:.2}"),
                mebibytes(service.peak_memory_bytes as f64),
                format!("{:.2} s", service.cpu_seconds),
                service.rounds.to_string(),
            ]
        });
        let head = ["AUDIENCE", "ROOFLINE", "COPY", "PRODUCE", "SERVICE", "DRAFTS/S", "RATIO", "PEAK", "CPU", "ROUNDS"];
        text.push_str(&table(head, rows));
        text.push('\n');
        for fanout in &self.fanout {
            let ratio = fanout.ratio.show(|ratio| format!("{ratio:.2}"));
            let memory = fanout.peak_memory_bytes.show(mebibytes);
            text.push_str(&format!("{}: {ratio} of the roofline, peak memory {memory}\n", fanout.audience));
        }
        if let Some(ratio) = self.memory_ratio {
            text.push_str(&format!("peak memory, largest audience over smallest: {ratio:.2}\n"));
        }
        for fanout in &self.fanout {
            let title = format!("fanout to {}", fanout.audience);
            let runs = fanout.runs.iter().map(|run| (run.service.steps.as_slice(), run.service.lane_failures));
            text.push_str(&steps_text(&title, runs));
        }
        text
    }
}

const GIB: f64 = (1_u64 << 30) as f64;

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / f64::from(1 << 20))
}

fn latency_text(latency: &Latency) -> String {
    let Load { rate, lanes, seconds, size } = latency.load;
    let mut text = format!(
        "\nlatency: {rate} campaigns a second of {size} subscribers over {lanes} lanes for {seconds} s, until the last draft is committed in \
         PostgreSQL and readable in Kafka\n\n"
    );
    let rows = latency.runs.iter().map(|run| {
        [
            run.campaigns.to_string(),
            format!("{:.1} ms", run.p50_ms),
            format!("{:.1} ms", run.p99_ms),
            format!("{:.1} ms", run.max_ms),
            mebibytes(run.peak_memory_bytes as f64),
            format!("{:.2} s", run.cpu_seconds),
            run.rounds.to_string(),
        ]
    });
    text.push_str(&table(["CAMPAIGNS", "P50", "P99", "MAX", "PEAK", "CPU", "ROUNDS"], rows));
    let milliseconds = |value: f64| format!("{value:.1} ms");
    text.push_str(&format!("\np50 {}, p99 {}\n", latency.p50_ms.show(milliseconds), latency.p99_ms.show(milliseconds)));
    let later: usize = latency.runs.iter().map(|run| run.rows_after_messages).sum();
    if later > 0 {
        text.push_str(&format!("{later} campaigns had messages before their rows: report this, it must not be\n"));
    }
    let runs = latency.runs.iter().map(|run| (run.steps.as_slice(), run.lane_failures));
    text.push_str(&steps_text("latency", runs));
    text
}

/// The steps of all runs together.
fn steps_text<'a>(title: &str, runs: impl Iterator<Item = (&'a [Step], u64)>) -> String {
    let mut sums: Vec<Step> = Vec::new();
    let mut failures = 0;
    for (steps, failed) in runs {
        failures += failed;
        for step in steps {
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
        text.push_str(&format!("a lane failed and was entered again {failures} times: this was no undisturbed run\n"));
    }
    text
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
    fn percentiles_are_latencies_that_were_seen() {
        let latencies = (1..=200).rev().map(Duration::from_millis).collect();
        let none = Scrape::default();
        let run = LatencyRun::of(&Seen { latencies, rows_later: 0 }, &none, &none, 0);
        assert_eq!((run.p50_ms, run.p99_ms, run.max_ms), (100.0, 198.0, 200.0));
    }

    #[test]
    fn the_ratio_is_of_throughputs() {
        let none = Scrape::default();
        let roofline = Roofline::new(1_000, Duration::from_secs(2), Duration::from_secs(3));
        let service = Service::of(1_000, Duration::from_secs(4), &none, &none, 1 << 20);
        assert_eq!((roofline.drafts_per_second.round(), service.drafts_per_second), (333.0, 250.0));
        assert_eq!(FanOutRun::of(1_000, roofline, service).ratio, 0.75);
    }
}
