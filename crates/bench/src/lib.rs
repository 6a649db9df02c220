//! `dinnerbell bench`: what these servers can take, and the service against them, side by side in one run.
//!
//! The service that is measured is `dinnerbell run`, a process of its own, configured as the user's is. Only the names of topics, group and tables
//! differ. Everything is made for the run and dropped afterwards, whatever comes of it. From below:
//!
//! - [`error`], [`progress`], [`figures`], [`machine`]: what everything uses;
//! - [`environment`]: the database, the tables, the topics, the rights that are needed; [`audience`]: who subscribes;
//! - [`instance`] and [`scrape`]: the service as a process, and what its `/metrics` say; [`usage`]: what it used meanwhile;
//! - [`sender`] sends campaigns, [`reader`] reads drafts, [`sinks`] counts both sinks; [`steady`]: the times of small campaigns;
//! - [`roofline`]: the same rows and messages without the service;
//! - [`fanout`], [`latency`], [`mixed`], [`lanes`], [`catch_up`], [`take_over`], [`peer`]: one file for each scenario, with its result
//!   and its part of the report. To add one: its file, its variant of [`Scenario`], its line in `measure` and in [`report`], which only puts
//!   the parts together;
//! - [`advice`]: what follows from the figures.

pub mod advice;
pub mod audience;
pub mod catch_up;
pub mod environment;
pub mod error;
pub mod fanout;
pub mod figures;
pub mod instance;
pub mod lanes;
pub mod latency;
pub mod machine;
pub mod mixed;
pub mod peer;
pub mod progress;
pub mod reader;
pub mod report;
pub mod roofline;
pub mod scrape;
pub mod sender;
pub mod sinks;
pub mod steady;
pub mod take_over;
pub mod usage;

use tokio::sync::watch;

use dinnerbell_config::Config;
use dinnerbell_core::shutdown::stopped;
use environment::{Ground, Setup};
use error::BenchError;
use progress::tell;
use report::{Configured, Report};

/// What is measured.
#[derive(Debug, Clone)]
pub enum Scenario {
    /// One campaign with a large audience.
    FanOut(fanout::Params),
    /// Small campaigns at a steady rate.
    Latency(latency::Params),
    /// Small campaigns while a giant one runs.
    Mixed(mixed::Params),
    /// The same work over more and more lanes.
    Lanes(lanes::Params),
    /// A backlog after an outage.
    CatchUp(catch_up::Params),
    /// Lanes that change hands.
    TakeOver(take_over::Params),
    /// The same work as most people would write it.
    Peer(peer::Params),
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The servers and settings that it runs on.
    pub setup: Setup,
    /// What, in this order.
    pub scenarios: Vec<Scenario>,
    /// How often each, for the report.
    pub repeat: u32,
}

/// Measures until it is done or told to stop, and clears away what was made for it.
pub async fn run(config: Config, plan: &Plan, stop: &mut watch::Receiver<bool>) -> Result<Report, BenchError> {
    let ground = Ground::new(config, &plan.setup)?;
    let measured = tokio::select! {
        biased;
        () = stopped(stop) => Err(BenchError::Stopped),
        report = measure(&ground, plan) => report,
    };
    tell("clearing away");
    let cleared = ground.clear().await;
    measured.and_then(|report| cleared.map(|()| report))
}

async fn measure(ground: &Ground<'_>, plan: &Plan) -> Result<Report, BenchError> {
    let configured = Configured::from(&ground.given().fanout);
    let mut report = Report::new(ground.prepare().await?, configured, plan.setup.partitions, plan.repeat);
    for scenario in &plan.scenarios {
        match scenario {
            Scenario::FanOut(wish) => report.fanout = Some(fanout::measure(ground, wish).await?),
            Scenario::Latency(wish) => report.latency = Some(latency::measure(ground, *wish).await?),
            Scenario::Mixed(wish) => report.mixed = Some(mixed::measure(ground, *wish).await?),
            Scenario::Lanes(wish) => report.lanes = Some(lanes::measure(ground, wish).await?),
            Scenario::CatchUp(wish) => report.catch_up = Some(catch_up::measure(ground, *wish).await?),
            Scenario::TakeOver(wish) => report.take_over = Some(take_over::measure(ground, *wish).await?),
            Scenario::Peer(wish) => report.peer = Some(peer::measure(ground, *wish).await?),
        }
    }
    report.advice = advice::advice(&report);
    Ok(report)
}
