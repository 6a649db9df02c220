//! Small campaigns at a steady rate while a giant one runs in the same lanes.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::audience::Audience;
use super::error::BenchError;
use super::figures::{Quantiles, Spread, mebibytes, milliseconds, rate, seconds};
use super::instance::Instance;
use super::progress::tell;
use super::sinks;
use super::steady::{self, Load, Rung, Seen, Steady};
use super::usage::{Meter, Usage, memory_text, steps_text};
use crate::environment::Ground;
use crate::sender::{Bell, campaign};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::text_table::table;

/// The lane of the giant.
const GIANTS: Lane = Lane::new(0);
/// More small campaigns than this are not rung.
const MAX_SMALL_CAMPAIGNS: usize = 1_000_000;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// The small campaigns.
    pub load: Load,
    /// Subscribers of the giant.
    pub giant: u32,
    /// How often.
    pub repeat: u32,
}

/// Small campaigns while a giant one runs.
#[derive(Debug, Serialize)]
pub struct Mixed {
    /// The small campaigns.
    pub load: Load,
    /// Subscribers of the giant.
    pub giant: u32,
    /// Half of the small campaigns took at most so long.
    pub p50_ms: Spread,
    /// 99 of 100 took at most so long.
    pub p99_ms: Spread,
    /// 99 of 100 of those in the giant's own lane took at most so long.
    pub own_lane_p99_ms: Spread,
    /// Drafts a second of the giant.
    pub giant_drafts_per_second: Spread,
    /// Each run.
    pub runs: Vec<MixedRun>,
}

/// One run of `mixed`.
#[derive(Debug, Serialize)]
pub struct MixedRun {
    /// How many small campaigns were rung while the giant ran.
    pub campaigns: usize,
    /// How long they took.
    #[serde(flatten)]
    pub took: Quantiles,
    /// How long those in the giant's own lane took.
    pub own_lane: Quantiles,
    /// From the append of the giant until the last of its drafts could be read.
    pub giant_seconds: f64,
    /// Drafts a second of the giant.
    pub giant_drafts_per_second: f64,
    /// Small campaigns whose rows were committed after their messages could be read; there should be none.
    pub rows_after_messages: usize,
    /// What the service used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// As often as is wished.
pub async fn measure(ground: &Ground<'_>, wish: Params) -> Result<Mixed, BenchError> {
    let mut runs = Vec::new();
    for number in 1..=wish.repeat {
        let (Load { rate, .. }, giant) = (wish.load, wish.giant);
        tell(&format!("mixed, {rate} campaigns a second beside one to {giant}, run {number} of {}", wish.repeat));
        runs.push(once(ground, wish).await?);
    }
    Ok(Mixed::of(wish, runs))
}

async fn once(ground: &Ground<'_>, Params { load, giant, .. }: Params) -> Result<MixedRun, BenchError> {
    let (small, crowd) = (Audience::of(load.size as usize), Audience::of(giant as usize));
    ground.room_for(crowd.subscribers).await?;
    let stage = ground.stage(load.lanes).await?;
    stage.seed(&small).await?;
    stage.seed(&crowd).await?;
    let mut instance = Instance::start(&stage).await?;
    let bell = Bell::new(&stage.config.kafka)?;
    let (reader, complete) = steady::count(&stage, load.size, giant).await?;
    let warmed = steady::warm_up(&bell, load.lanes).await?;
    let meter = Meter::from(instance.published(warmed).await?);
    reader.has_read(warmed).await?;
    let steady = Steady::new(&stage, &bell, &small.restaurant, load);
    let (ended, giants) = watch::channel(false);
    let began = Instant::now();
    bell.ring(&campaign(&Rung::Giant.id(), &crowd.restaurant), GIANTS).await?;
    let ((), seen) = tokio::try_join!(steady.ring(MAX_SMALL_CAMPAIGNS, giants), steady.watch(complete, ended))?;
    let drafts = warmed + crowd.subscribers + seen.latencies.len() * load.size as usize;
    let after = instance.published(drafts).await?;
    let took = seen.giant.map_or_else(|| began.elapsed(), |read| read - began);
    let run = MixedRun::of(&seen, giant, took, meter.until(&after, &instance)?);
    instance.stop();
    reader.stop();
    sinks::hold(&stage, drafts).await?;
    stage.end().await?;
    Ok(run)
}

impl Mixed {
    fn of(Params { load, giant, .. }: Params, runs: Vec<MixedRun>) -> Self {
        let spread = |of: fn(&MixedRun) -> f64| Spread::of(runs.iter().map(of));
        Self {
            load,
            giant,
            p50_ms: spread(|run| run.took.p50_ms),
            p99_ms: spread(|run| run.took.p99_ms),
            own_lane_p99_ms: spread(|run| run.own_lane.p99_ms),
            giant_drafts_per_second: spread(|run| run.giant_drafts_per_second),
            runs,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let Load { rate: often, lanes, size } = self.load;
        let mut text = format!(
            "\nmixed: {often} campaigns a second of {size} subscribers over {lanes} lanes, while a campaign of {} runs in one of them\n\n",
            self.giant
        );
        let rows = self.runs.iter().map(|run| {
            [
                run.campaigns.to_string(),
                milliseconds(run.took.p50_ms),
                milliseconds(run.took.p99_ms),
                milliseconds(run.took.max_ms),
                milliseconds(run.own_lane.p99_ms),
                seconds(run.giant_seconds),
                rate(run.giant_drafts_per_second),
                mebibytes(run.usage.peak_memory_bytes as f64),
                seconds(run.usage.cpu_seconds),
                run.usage.rounds.to_string(),
            ]
        });
        let head = ["CAMPAIGNS", "P50", "P99", "MAX", "P99 OWN LANE", "GIANT", "ITS DRAFTS/S", "PEAK", "CPU", "ROUNDS"];
        text.push_str(&table(head, rows));
        let usages = || self.runs.iter().map(|run| &run.usage);
        text.push_str(&format!(
            "\np50 {}, p99 {}, in the giant's own lane {}; the giant {} drafts/s; {}\n",
            self.p50_ms.show(milliseconds),
            self.p99_ms.show(milliseconds),
            self.own_lane_p99_ms.show(milliseconds),
            self.giant_drafts_per_second.show(rate),
            memory_text(lanes, usages())
        ));
        let later: usize = self.runs.iter().map(|run| run.rows_after_messages).sum();
        if later > 0 {
            text.push_str(&format!("{later} campaigns had messages before their rows: report this, it must not be\n"));
        }
        text.push_str(&steps_text("mixed", usages()));
        text
    }
}

impl MixedRun {
    fn of(seen: &Seen, giant: u32, took: Duration, usage: Usage) -> Self {
        let all = seen.latencies.iter();
        let own = all.clone().filter(|(lane, _)| *lane == GIANTS);
        Self {
            campaigns: seen.latencies.len(),
            took: Quantiles::of(all.map(|(_, latency)| *latency)),
            own_lane: Quantiles::of(own.map(|(_, latency)| *latency)),
            giant_seconds: took.as_secs_f64(),
            giant_drafts_per_second: f64::from(giant) / took.as_secs_f64(),
            rows_after_messages: seen.rows_later,
            usage,
        }
    }
}
