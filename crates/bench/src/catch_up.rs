//! A backlog of small campaigns after an outage: from the start of the service until all are told.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::audience::Audience;
use super::error::BenchError;
use super::figures::{Spread, mebibytes, rate, seconds};
use super::instance::Instance;
use super::progress::{bar, tell};
use super::scrape::Scrape;
use super::usage::{Meter, Usage, memory_text, steps_text};
use super::{sinks, steady};
use crate::environment::Ground;
use crate::sender::{Bell, campaign};
use dinnerbell_core::text_table::table;

/// How many campaigns are handed over before their deliveries are waited for.
const PORTION: usize = 10_000;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// How many campaigns wait.
    pub backlog: usize,
    /// Subscribers of each.
    pub size: u32,
    /// Partitions of the campaigns topic, taken in turn.
    pub lanes: i32,
    /// How often.
    pub repeat: u32,
}

/// A backlog after an outage.
#[derive(Debug, Serialize)]
pub struct CatchUp {
    /// How many campaigns waited.
    pub backlog: usize,
    /// Subscribers of each.
    pub size: u32,
    /// How many lanes they lay in.
    pub lanes: i32,
    /// Campaigns a second.
    pub campaigns_per_second: Spread,
    /// Drafts a second.
    pub drafts_per_second: Spread,
    /// Each run.
    pub runs: Vec<CatchUpRun>,
}

/// One run of `catch-up`.
#[derive(Debug, Serialize)]
pub struct CatchUpRun {
    /// From the start of the process until both sinks were complete.
    pub seconds: f64,
    /// From the start of the process until every lane ran.
    pub start_seconds: f64,
    /// Campaigns a second.
    pub campaigns_per_second: f64,
    /// Drafts a second.
    pub drafts_per_second: f64,
    /// What the service used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// As often as is wished.
pub async fn measure(ground: &Ground<'_>, wish: Params) -> Result<CatchUp, BenchError> {
    let mut runs = Vec::new();
    for number in 1..=wish.repeat {
        tell(&format!("catching up with {} campaigns, run {number} of {}", wish.backlog, wish.repeat));
        runs.push(once(ground, wish).await?);
    }
    Ok(CatchUp::of(wish, runs))
}

async fn once(ground: &Ground<'_>, wish: Params) -> Result<CatchUpRun, BenchError> {
    let (audience, drafts) = (Audience::of(wish.size as usize), wish.backlog * wish.size as usize);
    ground.room_for(drafts).await?;
    let stage = ground.stage(wish.lanes).await?;
    stage.seed(&audience).await?;
    ring(&Bell::new(&stage.config.kafka)?, wish, &audience).await?;
    let meter = Meter::from(Scrape::default());
    let began = Instant::now();
    let mut instance = Instance::start(&stage).await?;
    let started = began.elapsed();
    let after = instance.published(drafts).await?;
    let took = began.elapsed();
    let run = CatchUpRun::of(wish, started, took, meter.until(&after, &instance)?);
    instance.stop();
    sinks::hold(&stage, drafts).await?;
    stage.end().await?;
    Ok(run)
}

async fn ring(bell: &Bell, wish: Params, audience: &Audience) -> Result<(), BenchError> {
    let bar = bar("ringing", wish.backlog);
    let mut deliveries = Vec::with_capacity(PORTION);
    for number in 0..wish.backlog {
        let campaign = campaign(&format!("backlog-{number}"), &audience.restaurant);
        deliveries.push(bell.send(&campaign, steady::lane(number, wish.lanes))?);
        if deliveries.len() == PORTION || number + 1 == wish.backlog {
            for delivery in deliveries.drain(..) {
                bell.delivered(delivery).await?;
            }
            bar.set_position(number as u64);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

impl CatchUpRun {
    fn of(wish: Params, started: Duration, took: Duration, usage: Usage) -> Self {
        let campaigns_per_second = wish.backlog as f64 / took.as_secs_f64();
        Self {
            seconds: took.as_secs_f64(),
            start_seconds: started.as_secs_f64(),
            campaigns_per_second,
            drafts_per_second: campaigns_per_second * f64::from(wish.size),
            usage,
        }
    }
}

impl CatchUp {
    fn of(Params { backlog, size, lanes, .. }: Params, runs: Vec<CatchUpRun>) -> Self {
        Self {
            backlog,
            size,
            lanes,
            campaigns_per_second: Spread::of(runs.iter().map(|run| run.campaigns_per_second)),
            drafts_per_second: Spread::of(runs.iter().map(|run| run.drafts_per_second)),
            runs,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let Self { backlog, size, lanes, .. } = self;
        let mut text = format!(
            "\ncatch-up: {backlog} campaigns of {size} subscribers wait in {lanes} lanes, from the start of the service until both sinks are \
             complete\n\n"
        );
        let rows = self.runs.iter().map(|run| {
            [
                seconds(run.seconds),
                seconds(run.start_seconds),
                rate(run.campaigns_per_second),
                rate(run.drafts_per_second),
                mebibytes(run.usage.peak_memory_bytes as f64),
                seconds(run.usage.cpu_seconds),
                run.usage.rounds.to_string(),
            ]
        });
        let head = ["DRAINED", "LANES RUN", "CAMPAIGNS/S", "DRAFTS/S", "PEAK", "CPU", "ROUNDS"];
        text.push_str(&table(head, rows));
        let usages = || self.runs.iter().map(|run| &run.usage);
        let (campaigns, drafts) = (self.campaigns_per_second.show(rate), self.drafts_per_second.show(rate));
        let memory = memory_text(*lanes, usages());
        text.push_str(&format!("\n{campaigns} campaigns/s, {drafts} drafts/s; {memory}\n"));
        text.push_str(&steps_text("catch-up", usages()));
        text
    }
}
