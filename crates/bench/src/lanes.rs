//! The same work over more and more lanes of one instance.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::audience::Audience;
use super::error::BenchError;
use super::figures::{self, Spread, mebibytes, rate, seconds};
use super::instance::Instance;
use super::progress::tell;
use super::usage::{Meter, Usage, memory_text, steps_text};
use super::{sinks, steady};
use crate::environment::Ground;
use crate::sender::{Bell, campaign};
use dinnerbell_core::text_table::table;

/// How many campaigns the work is: as many for each lane, with 1, 2, 3, 4, 6, 8, 12 or 24 of them.
pub const CAMPAIGNS: usize = 24;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Params {
    /// Numbers of lanes.
    pub counts: Vec<i32>,
    /// Subscribers of each of the [`CAMPAIGNS`].
    pub size: usize,
    /// How often each.
    pub repeat: u32,
}

/// Every number of lanes.
#[derive(Debug, Serialize)]
pub struct Lanes {
    /// How many campaigns are rung at once.
    pub campaigns: usize,
    /// Subscribers of each.
    pub size: usize,
    /// Each number of lanes.
    pub counts: Vec<Count>,
}

/// One number of lanes.
#[derive(Debug, Serialize)]
pub struct Count {
    /// How many lanes.
    pub lanes: i32,
    /// Drafts a second of all lanes together.
    pub drafts_per_second: Spread,
    /// The service's largest resident memory.
    pub peak_memory_bytes: Spread,
    /// Each run.
    pub runs: Vec<CountRun>,
}

/// One run of one number of lanes.
#[derive(Debug, Serialize)]
pub struct CountRun {
    /// From the append of the first campaign until both sinks were complete.
    pub seconds: f64,
    /// Drafts a second.
    pub drafts_per_second: f64,
    /// What the service used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// Every number of lanes in turn, as often as is wished.
pub async fn measure(ground: &Ground<'_>, wish: &Params) -> Result<Lanes, BenchError> {
    let mut runs: Vec<Vec<CountRun>> = wish.counts.iter().map(|_| Vec::new()).collect();
    for number in 1..=wish.repeat {
        for (lanes, runs) in wish.counts.iter().zip(&mut runs) {
            tell(&format!("{lanes} lanes, run {number} of {}", wish.repeat));
            runs.push(once(ground, *lanes, wish.size).await?);
        }
    }
    let counts = wish.counts.iter().zip(runs).map(|(lanes, runs)| Count::of(*lanes, runs)).collect();
    Ok(Lanes { campaigns: CAMPAIGNS, size: wish.size, counts })
}

async fn once(ground: &Ground<'_>, lanes: i32, size: usize) -> Result<CountRun, BenchError> {
    let (audience, drafts) = (Audience::of(size), CAMPAIGNS * size);
    ground.room_for(drafts).await?;
    let stage = ground.stage(lanes).await?;
    stage.seed(&audience).await?;
    let mut instance = Instance::start(&stage).await?;
    let bell = Bell::new(&stage.config.kafka)?;
    let warmed = steady::warm_up(&bell, lanes).await?;
    let meter = Meter::from(instance.published(warmed).await?);
    let began = Instant::now();
    for number in 0..CAMPAIGNS {
        let campaign = campaign(&format!("lanes-{number}"), &audience.restaurant);
        bell.ring(&campaign, steady::lane(number, lanes)).await?;
    }
    let after = instance.published(warmed + drafts).await?;
    let took = began.elapsed();
    let run = CountRun::of(drafts, took, meter.until(&after, &instance)?);
    instance.stop();
    sinks::hold(&stage, warmed + drafts).await?;
    stage.end().await?;
    Ok(run)
}

impl CountRun {
    fn of(drafts: usize, took: Duration, usage: Usage) -> Self {
        Self { seconds: took.as_secs_f64(), drafts_per_second: drafts as f64 / took.as_secs_f64(), usage }
    }
}

impl Count {
    fn of(lanes: i32, runs: Vec<CountRun>) -> Self {
        Self {
            lanes,
            drafts_per_second: Spread::of(runs.iter().map(|run| run.drafts_per_second)),
            peak_memory_bytes: Spread::of(runs.iter().map(|run| run.usage.peak_memory_bytes as f64)),
            runs,
        }
    }
}

impl Lanes {
    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "\nlanes: {} campaigns to {} each, rung at once, until both sinks are complete\n\n",
            self.campaigns, self.size
        );
        let runs = self.counts.iter().flat_map(|count| count.runs.iter().map(|run| (count.lanes, run)));
        let rows = runs.map(|(lanes, run)| {
            [
                lanes.to_string(),
                seconds(run.seconds),
                rate(run.drafts_per_second),
                mebibytes(run.usage.peak_memory_bytes as f64),
                seconds(run.usage.cpu_seconds),
                run.usage.rounds.to_string(),
            ]
        });
        text.push_str(&table(["LANES", "SERVICE", "DRAFTS/S", "PEAK", "CPU", "ROUNDS"], rows));
        text.push('\n');
        let first = self.counts.first().map_or(0.0, |count| count.drafts_per_second.median);
        for count in &self.counts {
            let drafts = count.drafts_per_second.show(rate);
            let times = figures::ratio(count.drafts_per_second.median / first);
            let memory = memory_text(count.lanes, count.runs.iter().map(|run| &run.usage));
            text.push_str(&format!(
                "{} lanes: {drafts} drafts/s, {times} times those of the first; {memory}\n",
                count.lanes
            ));
        }
        for count in &self.counts {
            let title = format!("{} lanes", count.lanes);
            text.push_str(&steps_text(&title, count.runs.iter().map(|run| &run.usage)));
        }
        text
    }
}
