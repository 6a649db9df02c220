//! One campaign with a large audience, one lane: from its append until both sinks are complete, against the roofline.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::audience::Audience;
use super::error::BenchError;
use super::figures::{self, Spread, mebibytes, rate, seconds};
use super::instance::Instance;
use super::progress::tell;
use super::roofline::{self, Roofline};
use super::sinks;
use super::usage::{Meter, Usage, memory_text, steps_text};
use crate::environment::{Ground, Stage};
use crate::sender;
use crate::sender::{Bell, campaign};
use dinnerbell_core::instance::round_sizing::RECENT_CAMPAIGN_WINDOW;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::text_table::table;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Params {
    /// Sizes of the audience.
    pub audiences: Vec<usize>,
    /// How often each.
    pub repeat: u32,
}

/// Every size.
#[derive(Debug, Serialize)]
pub struct FanOuts {
    /// Each size.
    pub sizes: Vec<FanOut>,
    /// Peak memory with the largest audience over that with the smallest, of several.
    pub memory_ratio: Option<f64>,
}

/// One size of `fanout`.
#[derive(Debug, Serialize)]
pub struct FanOut {
    /// How many subscribers.
    pub audience: usize,
    /// Throughput of the service over that of the roofline, of each pair.
    pub ratio: Spread,
    /// Drafts a second of the service.
    pub drafts_per_second: Spread,
    /// Drafts a second of the roofline.
    pub roofline_drafts_per_second: Spread,
    /// The service's largest resident memory.
    pub peak_memory_bytes: Spread,
    /// Each pair.
    pub runs: Vec<FanOutRun>,
}

/// One pair of `fanout`, one directly after the other.
#[derive(Debug, Serialize)]
pub struct FanOutRun {
    /// Without the service.
    pub roofline: Roofline,
    /// With it.
    pub service: Service,
    /// Throughput of the service over that of the roofline.
    pub ratio: f64,
}

/// The service on one large campaign.
#[derive(Debug, Serialize)]
pub struct Service {
    /// From the append of the campaign until both sinks were complete.
    pub seconds: f64,
    /// Drafts a second.
    pub drafts_per_second: f64,
    /// What it used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// Every audience, as often as is wished.
pub async fn measure(ground: &Ground<'_>, wish: &Params) -> Result<FanOuts, BenchError> {
    let mut sizes = Vec::new();
    for audience in &wish.audiences {
        let mut runs = Vec::new();
        for number in 1..=wish.repeat {
            tell(&format!("fanout to {audience}, pair {number} of {}", wish.repeat));
            runs.push(once(ground, *audience, number).await?);
        }
        sizes.push(FanOut::of(*audience, runs));
    }
    Ok(FanOuts::of(sizes))
}

async fn once(ground: &Ground<'_>, subscribers: usize, number: u32) -> Result<FanOutRun, BenchError> {
    let audience = Audience::of(subscribers);
    ground.room_for(subscribers).await?;
    let stage = ground.stage(1).await?;
    stage.seed(&audience).await?;
    // What comes second finds other servers than what came first, so they take turns.
    let (roofline, service) = if number % 2 == 1 {
        let roofline = roofline::measure(&stage, &audience).await?;
        (roofline, service(&stage, &audience).await?)
    } else {
        let service = service(&stage, &audience).await?;
        (roofline::measure(&stage, &audience).await?, service)
    };
    stage.end().await?;
    Ok(FanOutRun::of(roofline, service))
}

/// One campaign to a whole audience, on a stage of one lane with empty tables.
pub async fn service(stage: &Stage<'_>, audience: &Audience) -> Result<Service, BenchError> {
    let mut instance = Instance::start(stage).await?;
    let bell = Bell::new(&stage.config.kafka)?;
    let warmed = Audience::warm_up().subscribers;
    bell.ring(&sender::warm_up(0), Lane::new(0)).await?;
    let meter = Meter::from(instance.published(warmed).await?);
    // One that comes alone is measured: for a while after another one its rounds would be short, as beside others.
    tokio::time::sleep(RECENT_CAMPAIGN_WINDOW).await;
    let began = Instant::now();
    bell.ring(&campaign("fanout", &audience.restaurant), Lane::new(0)).await?;
    let after = instance.published(warmed + audience.subscribers).await?;
    let took = began.elapsed();
    let service = Service::of(audience.subscribers, took, meter.until(&after, &instance)?);
    instance.stop();
    sinks::hold(stage, warmed + audience.subscribers).await?;
    Ok(service)
}

impl Service {
    fn of(audience: usize, took: Duration, usage: Usage) -> Self {
        Self { seconds: took.as_secs_f64(), drafts_per_second: audience as f64 / took.as_secs_f64(), usage }
    }
}

impl FanOutRun {
    /// Both sides.
    pub fn of(roofline: Roofline, service: Service) -> Self {
        let ratio = roofline.seconds / service.seconds;
        Self { roofline, service, ratio }
    }
}

impl FanOut {
    /// The pairs of one size.
    pub fn of(audience: usize, runs: Vec<FanOutRun>) -> Self {
        let spread = |of: fn(&FanOutRun) -> f64| Spread::of(runs.iter().map(of));
        Self {
            audience,
            ratio: spread(|run| run.ratio),
            drafts_per_second: spread(|run| run.service.drafts_per_second),
            roofline_drafts_per_second: spread(|run| run.roofline.drafts_per_second),
            peak_memory_bytes: spread(|run| run.service.usage.peak_memory_bytes as f64),
            runs,
        }
    }

    /// What the service used in each.
    pub fn usages(&self) -> impl Iterator<Item = &Usage> {
        self.runs.iter().map(|run| &run.service.usage)
    }
}

impl FanOuts {
    fn of(sizes: Vec<FanOut>) -> Self {
        let smallest = sizes.iter().min_by_key(|fanout| fanout.audience);
        let largest = sizes.iter().max_by_key(|fanout| fanout.audience);
        let memory_ratio = smallest
            .zip(largest)
            .filter(|(smallest, largest)| smallest.audience < largest.audience)
            .map(|(smallest, largest)| largest.peak_memory_bytes.median / smallest.peak_memory_bytes.median);
        Self { sizes, memory_ratio }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::from("\nfanout: one campaign, one lane, until both sinks are complete\n\n");
        let runs = self.sizes.iter().flat_map(|fanout| fanout.runs.iter().map(|run| (fanout.audience, run)));
        let rows = runs.map(|(audience, FanOutRun { roofline, service, ratio })| {
            [
                audience.to_string(),
                seconds(roofline.seconds),
                seconds(roofline.copy_seconds),
                seconds(roofline.produce_seconds),
                seconds(service.seconds),
                rate(service.drafts_per_second),
                figures::ratio(*ratio),
                mebibytes(service.usage.peak_memory_bytes as f64),
                seconds(service.usage.cpu_seconds),
                service.usage.rounds.to_string(),
            ]
        });
        let head = ["AUDIENCE", "ROOFLINE", "COPY", "PRODUCE", "SERVICE", "DRAFTS/S", "RATIO", "PEAK", "CPU", "ROUNDS"];
        text.push_str(&table(head, rows));
        text.push('\n');
        for fanout in &self.sizes {
            let ratio = fanout.ratio.show(figures::ratio);
            let memory = memory_text(1, fanout.usages());
            text.push_str(&format!("{}: {ratio} of the roofline; {memory}\n", fanout.audience));
        }
        if let Some(ratio) = self.memory_ratio {
            text.push_str(&format!("peak memory, largest audience over smallest: {ratio:.2}\n"));
        }
        for fanout in &self.sizes {
            text.push_str(&steps_text(&format!("fanout to {}", fanout.audience), fanout.usages()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::Scrape;

    #[test]
    fn the_ratio_is_of_throughputs() {
        let roofline = Roofline::new(1_000, Duration::from_secs(2), Duration::from_secs(3));
        let usage = Meter::default().usage(&Scrape::default(), 1 << 20);
        let service = Service::of(1_000, Duration::from_secs(4), usage);
        assert_eq!((roofline.drafts_per_second.round(), service.drafts_per_second), (333.0, 250.0));
        assert_eq!(FanOutRun::of(roofline, service).ratio, 0.75);
    }
}
