//! What to change first, as far as the figures say it. Every sentence names the figures that it follows from.

use super::fanout::FanOut;
use super::figures::mebibytes;
use super::report::{Configured, Report};
use super::usage::{Usage, memory_promised};

/// From here on a share is nearly all.
const NEARLY_ALL: f64 = 0.9;
/// A step that takes so much of the time bounds it.
const BOUNDS: f64 = 0.6;
/// Rounds below this many rows spend much of their time on the transactions around them.
const SMALL_ROUND: usize = 10_000;

/// Shares of the time that a large campaign took, over all runs.
struct Shares {
    audience: f64,
    copy: f64,
    record: f64,
    publish: f64,
}

impl Shares {
    fn of(fanout: &FanOut) -> Self {
        let all: f64 = fanout.runs.iter().map(|run| run.service.seconds).sum();
        let of = |step: &str| fanout.usages().map(|usage| usage.step_seconds(step)).sum::<f64>() / all;
        Self { audience: of("audience"), copy: of("copy"), record: of("record"), publish: of("publish") }
    }

    /// Everything of a round that goes on while the round before it is published.
    fn before_publish(&self) -> f64 {
        self.audience + self.copy + self.record
    }
}

/// All of it, the weightiest first.
pub fn advice(report: &Report) -> Vec<String> {
    let mut advice = disturbances(report);
    let largest = report.fanout.as_ref().and_then(|all| all.sizes.iter().max_by_key(|size| size.audience));
    if let Some(fanout) = largest {
        advice.extend(limits(&report.configured, fanout));
        advice.extend(sinks(fanout));
        advice.extend(machine(fanout));
    }
    advice.extend(lanes(report));
    advice.extend(latency(report));
    advice
}

/// What makes the figures themselves doubtful, or breaks a promise.
fn disturbances(report: &Report) -> Vec<String> {
    let mut advice = Vec::new();
    let cores = report.machine.cores as f64;
    if let Some(load) = report.machine.load_before.filter(|load| *load > cores) {
        advice.push(format!(
            "measure again on a machine that does nothing else: {load:.1} processes wanted its {cores} processors before"
        ));
    }
    let failures: u64 = report.usages().iter().map(|(_, usage)| usage.lane_failures).sum();
    if failures > 0 {
        advice.push(format!(
            "find out why lanes were taken over again {failures} times (their log says it) before believing any figure"
        ));
    }
    let worst = report.usages().into_iter().filter_map(|(lanes, usage)| {
        let promised = memory_promised(lanes).filter(|promised| usage.peak_memory_bytes > *promised)?;
        Some((usage.peak_memory_bytes, lanes, promised))
    });
    if let Some((peak, lanes, promised)) = worst.max() {
        let (peak, promised) = (mebibytes(peak as f64), mebibytes(promised as f64));
        advice.push(format!(
            "lower fanout.memory_limit or fanout.round_rows: {peak} were resident with {lanes} lane(s), {promised} are promised"
        ));
    }
    advice
}

/// Settings that hold the service back.
fn limits(configured: &Configured, fanout: &FanOut) -> Vec<String> {
    let mut advice = Vec::new();
    let Configured { round_rows, rate_limit, memory_limit } = *configured;
    let found = fanout.drafts_per_second.median;
    if rate_limit > 0 && (rate_limit as f64) < found {
        advice.push(format!(
            "fanout.rate_limit holds an instance to {rate_limit} drafts/s; without it {found:.0} were reached here"
        ));
    }
    if round_rows < SMALL_ROUND && fanout.audience > round_rows {
        advice.push(format!(
            "raise fanout.round_rows: rounds of {round_rows} pay for two transactions each; 20000 is usual"
        ));
    }
    let fullest = fanout.usages().filter_map(|usage| usage.in_flight_share).fold(0.0, f64::max);
    if fullest >= NEARLY_ALL {
        advice.push(format!(
            "raise fanout.memory_limit: {:.0} % of its {} were in use at the fullest, so rounds may have waited for memory",
            fullest * 100.0,
            mebibytes(memory_limit as f64)
        ));
    }
    advice
}

/// Which of the two sinks bounds a large campaign.
fn sinks(fanout: &FanOut) -> Vec<String> {
    if fanout.ratio.median >= NEARLY_ALL {
        return vec![format!(
            "nothing in the service: it reached {:.2} of what these servers take; only faster servers help, {}",
            fanout.ratio.median,
            slower_server(fanout)
        )];
    }
    let shares = Shares::of(fanout);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    if shares.publish >= shares.before_publish() && shares.publish >= BOUNDS {
        let produce = mean(fanout.runs.iter().map(|run| run.roofline.produce_seconds));
        let publish = mean(fanout.usages().map(|usage| usage.step_seconds("publish")));
        let what = if produce > BOUNDS * publish {
            "brokers: more of them, faster disks, more partitions of the topic of drafts, another compression.codec in kafka.client"
        } else {
            "transactions: larger rounds (fanout.round_rows), more partitions of the topic of campaigns"
        };
        return vec![format!(
            "Kafka bounds a campaign to {}: it was published during {} of the time (a plain producer took {produce:.1} s, the service {publish:.1} \
             s); what helps first is {what}",
            fanout.audience,
            percent(shares.publish)
        )];
    }
    if shares.before_publish() >= BOUNDS {
        let parts = [
            (
                shares.audience,
                "reading the audience",
                "the index on the subscribers table (`dinnerbell migrate`) and its cache",
            ),
            (
                shares.copy,
                "copying rows",
                "PostgreSQL: shared_buffers, max_wal_size, faster disks, fewer indexes on the feedback table",
            ),
            (
                shares.record,
                "committing rounds",
                "the disk that PostgreSQL's log of changes is on; larger rounds (fanout.round_rows)",
            ),
        ];
        let most = parts.into_iter().max_by(|one, other| one.0.total_cmp(&other.0));
        return most
            .map(|(share, step, what)| {
                format!(
                    "PostgreSQL bounds a campaign to {}: {step} took {} of the time; what helps first is {what}",
                    fanout.audience,
                    percent(share)
                )
            })
            .into_iter()
            .collect();
    }
    vec![format!(
        "neither sink was busy all the time (copying {}, publishing {}): rounds wait for one another; more partitions of the topic of campaigns \
         let several run side by side",
        percent(shares.before_publish()),
        percent(shares.publish)
    )]
}

fn slower_server(fanout: &FanOut) -> String {
    let copy = mean(fanout.runs.iter().map(|run| run.roofline.copy_seconds));
    let produce = mean(fanout.runs.iter().map(|run| run.roofline.produce_seconds));
    let (first, one, other) = if copy > produce { ("PostgreSQL", copy, produce) } else { ("Kafka", produce, copy) };
    format!("first {first} ({one:.1} s alone, the other {other:.1} s)")
}

fn machine(fanout: &FanOut) -> Option<String> {
    let busy = mean(fanout.usages().filter_map(|usage| usage.machine_busy));
    (busy >= NEARLY_ALL).then(|| {
        format!(
            "{:.0} % of this machine's processor time was in use: if the servers run here too, a machine for each of them",
            busy * 100.0
        )
    })
}

/// Whether more lanes help.
fn lanes(report: &Report) -> Option<String> {
    let counts = &report.lanes.as_ref()?.counts;
    let (first, best) = (
        counts.first()?,
        counts.iter().max_by(|one, other| one.drafts_per_second.median.total_cmp(&other.drafts_per_second.median))?,
    );
    let times = best.drafts_per_second.median / first.drafts_per_second.median;
    Some(if times > 1.1 {
        format!(
            "give the topic of campaigns {} partitions: they took {times:.2} times as much as {}",
            best.lanes, first.lanes
        )
    } else {
        format!(
            "more partitions of the topic of campaigns do not help: {} took {times:.2} times as much as {}",
            best.lanes, first.lanes
        )
    })
}

/// What most of a small campaign's time is.
fn latency(report: &Report) -> Option<String> {
    let latency = report.latency.as_ref()?;
    let each = |step: &str| {
        let of_runs = latency.runs.iter().flat_map(|run| run.usage.steps.iter().filter(|found| found.step == step));
        let (times, seconds) = of_runs.fold((0, 0.0), |(times, all), step| (times + step.times, all + step.seconds));
        if times == 0 { 0.0 } else { seconds * 1000.0 / times as f64 }
    };
    let steps = [
        ("publish", "how fast the brokers commit a transaction: replicas, disks, distance"),
        ("intake", "how fast PostgreSQL commits: the disk of its log of changes, distance"),
        ("record", "how fast PostgreSQL commits: the disk of its log of changes, distance"),
        ("audience", "the index on the subscribers table, distance to that database"),
        ("copy", "how fast PostgreSQL takes a few rows: distance, processors"),
    ];
    let (step, what, most) = steps
        .into_iter()
        .map(|(step, what)| (step, what, each(step)))
        .max_by(|one, other| one.2.total_cmp(&other.2))?;
    Some(format!(
        "of a small campaign's {:.1} ms (p50) the step {step} is the longest, {most:.1} ms each time: {what}",
        latency.p50_ms.median
    ))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

impl Report {
    /// What the service used in each run, with the number of its lanes.
    fn usages(&self) -> Vec<(i32, &Usage)> {
        let fanout =
            self.fanout.iter().flat_map(|all| all.sizes.iter().flat_map(FanOut::usages)).map(|usage| (1, usage));
        let latency = self.latency.iter().flat_map(|of| of.runs.iter().map(|run| (of.load.lanes, &run.usage)));
        let mixed = self.mixed.iter().flat_map(|of| of.runs.iter().map(|run| (of.load.lanes, &run.usage)));
        let counts = self.lanes.iter().flat_map(|of| &of.counts);
        let lanes = counts.flat_map(|count| count.runs.iter().map(|run| (count.lanes, &run.usage)));
        let backlog = self.catch_up.iter().flat_map(|of| of.runs.iter().map(|run| (of.lanes, &run.usage)));
        fanout.chain(latency).chain(mixed).chain(lanes).chain(backlog).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::{FanOutRun, Service};
    use crate::roofline::Roofline;
    use crate::scrape::Step;
    use std::time::Duration;

    fn fanout(seconds: f64, publish: f64, copy: f64, produce: f64) -> FanOut {
        let step = |step: &str, seconds| Step { step: step.to_owned(), times: 50, seconds };
        let usage = Usage {
            peak_memory_bytes: 1,
            cpu_seconds: 1.0,
            machine_busy: Some(0.5),
            in_flight_share: Some(0.95),
            rounds: 50,
            lane_failures: 0,
            steps: vec![step("copy", copy), step("publish", publish)],
        };
        let roofline = Roofline::new(1_000_000, Duration::from_secs_f64(4.0), Duration::from_secs_f64(produce));
        let service = Service { seconds, drafts_per_second: 1e6 / seconds, usage };
        FanOut::of(1_000_000, vec![FanOutRun::of(roofline, service)])
    }

    #[test]
    fn what_is_slower_than_a_plain_producer_is_the_transactions() {
        assert!(sinks(&fanout(10.0, 9.0, 4.0, 3.0))[0].contains("fanout.round_rows"));
        assert!(sinks(&fanout(10.0, 9.0, 4.0, 7.0))[0].contains("brokers: more of them"));
    }

    #[test]
    fn a_copy_that_takes_most_of_the_time_points_at_postgresql() {
        assert!(sinks(&fanout(10.0, 4.0, 9.0, 3.0))[0].starts_with("PostgreSQL bounds"));
        assert!(sinks(&fanout(10.0, 4.0, 4.0, 3.0))[0].starts_with("neither sink"));
        assert!(sinks(&fanout(4.2, 4.0, 4.0, 3.0))[0].contains("first PostgreSQL (4.0 s alone"));
    }

    #[test]
    fn settings_that_hold_back_are_named() {
        let configured = Configured { round_rows: 500, rate_limit: 2_000, memory_limit: 64 << 20 };
        let advice = limits(&configured, &fanout(10.0, 9.0, 4.0, 3.0)).join("\n");
        assert!(
            ["rate_limit", "round_rows", "memory_limit: 95 %"].iter().all(|word| advice.contains(word)),
            "{advice}"
        );
    }
}
