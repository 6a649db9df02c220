//! Small campaigns at a steady rate: from the append of each until the last of its drafts can be read and is committed.

use serde::Serialize;
use tokio::sync::watch;

use super::audience::Audience;
use super::error::BenchError;
use super::figures::{Quantiles, Spread, mebibytes, milliseconds, seconds};
use super::instance::Instance;
use super::progress::tell;
use super::sinks;
use super::steady::{self, Load, Seen, Steady};
use super::usage::{Meter, Usage, memory_text, steps_text};
use crate::environment::Ground;
use crate::sender::Bell;
use dinnerbell_core::text_table::table;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// What is sent.
    pub load: Load,
    /// For how many seconds.
    pub seconds: f64,
    /// How often.
    pub repeat: u32,
}

/// Small campaigns at a steady rate.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// What was sent.
    pub load: Load,
    /// For how many seconds.
    pub seconds: f64,
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
    /// How long they took.
    #[serde(flatten)]
    pub took: Quantiles,
    /// Campaigns whose rows were committed after their messages could be read; there should be none.
    pub rows_after_messages: usize,
    /// What the service used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// As often as is wished.
pub async fn measure(ground: &Ground<'_>, wish: Params) -> Result<Latency, BenchError> {
    let mut runs = Vec::new();
    for number in 1..=wish.repeat {
        tell(&format!("latency at {} campaigns a second, run {number} of {}", wish.load.rate, wish.repeat));
        runs.push(once(ground, wish).await?);
    }
    Ok(Latency::of(wish, runs))
}

async fn once(ground: &Ground<'_>, Params { load, seconds, .. }: Params) -> Result<LatencyRun, BenchError> {
    let audience = Audience::of(load.size as usize);
    let stage = ground.stage(load.lanes).await?;
    stage.seed(&audience).await?;
    let mut instance = Instance::start(&stage).await?;
    let bell = Bell::new(&stage.config.kafka)?;
    let (reader, complete) = steady::count(&stage, load.size, 0).await?;
    let warmed = steady::warm_up(&bell, load.lanes).await?;
    let meter = Meter::from(instance.published(warmed).await?);
    reader.has_read(warmed).await?;
    let campaigns = ((load.rate * seconds).round() as usize).max(1);
    let steady = Steady::new(&stage, &bell, &audience.restaurant, load);
    let (giant, none) = watch::channel(false);
    let ((), seen) = tokio::try_join!(steady.ring(campaigns, none), steady.watch(complete, giant))?;
    let drafts = warmed + campaigns * load.size as usize;
    let after = instance.published(drafts).await?;
    let run = LatencyRun::of(&seen, meter.until(&after, &instance)?);
    instance.stop();
    reader.stop();
    sinks::hold(&stage, drafts).await?;
    stage.end().await?;
    Ok(run)
}

impl Latency {
    /// The runs.
    fn of(Params { load, seconds, .. }: Params, runs: Vec<LatencyRun>) -> Self {
        Self {
            load,
            seconds,
            p50_ms: Spread::of(runs.iter().map(|run| run.took.p50_ms)),
            p99_ms: Spread::of(runs.iter().map(|run| run.took.p99_ms)),
            runs,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let Load { rate, lanes, size } = self.load;
        let mut text = format!(
            "\nlatency: {rate} campaigns a second of {size} subscribers over {lanes} lanes for {} s, until the last draft is committed in \
             PostgreSQL and readable in Kafka\n\n",
            self.seconds
        );
        let rows = self.runs.iter().map(|LatencyRun { campaigns, took, usage, .. }| {
            [
                campaigns.to_string(),
                milliseconds(took.p50_ms),
                milliseconds(took.p95_ms),
                milliseconds(took.p99_ms),
                milliseconds(took.max_ms),
                mebibytes(usage.peak_memory_bytes as f64),
                seconds(usage.cpu_seconds),
                usage.rounds.to_string(),
            ]
        });
        text.push_str(&table(["CAMPAIGNS", "P50", "P95", "P99", "MAX", "PEAK", "CPU", "ROUNDS"], rows));
        let usages = || self.runs.iter().map(|run| &run.usage);
        let (p50, p99) = (self.p50_ms.show(milliseconds), self.p99_ms.show(milliseconds));
        text.push_str(&format!("\np50 {p50}, p99 {p99}; {}\n", memory_text(lanes, usages())));
        let later: usize = self.runs.iter().map(|run| run.rows_after_messages).sum();
        if later > 0 {
            text.push_str(&format!("{later} campaigns had messages before their rows: report this, it must not be\n"));
        }
        text.push_str(&steps_text("latency", usages()));
        text
    }
}

impl LatencyRun {
    fn of(seen: &Seen, usage: Usage) -> Self {
        Self {
            campaigns: seen.latencies.len(),
            took: Quantiles::of(seen.latencies.iter().map(|(_, latency)| *latency)),
            rows_after_messages: seen.rows_later,
            usage,
        }
    }
}
