//! `dinnerbell bench`: what these servers can take, and the service against them, side by side in one run.
//!
//! The service that is measured is `dinnerbell run`, a process of its own, configured as the user's is but for the names of topics, group and
//! tables. Everything is made for the run and dropped afterwards, whatever comes of it:
//!
//! - [`ground`]: the database, the tables, the topics, the rights that are needed;
//! - [`instance`] and [`scrape`]: the service as a process, and what its `/metrics` say;
//! - [`bell`] rings, [`reader`] hears, [`sinks`] counts;
//! - [`roofline`]: the same rows and messages without the service;
//! - [`fanout`], [`latency`]: one file for each scenario. To add one: its file, its variant of [`Scenario`], its line in [`measure`], its part
//!   of [`report`].

pub mod bell;
pub mod fanout;
pub mod ground;
pub mod instance;
pub mod latency;
pub mod reader;
pub mod report;
pub mod roofline;
pub mod scrape;
pub mod sinks;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::sync::watch;

use crate::broker::BrokerError;
use crate::config::Config;
use crate::postgres::errors::PostgresError;
use ground::Ground;
use report::Report;

/// How long anything that is waited for may stand still.
pub const STANDSTILL: Duration = Duration::from_secs(60);

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Something could not be set up, measured or cleared away.
    #[error("{0}")]
    Failed(String),
    /// Rights are missing: each with what grants it.
    #[error("rights are missing:\n  {}", .0.join("\n  "))]
    Rights(Vec<String>),
    /// It was told to stop.
    #[error("stopped before everything was measured")]
    Stopped,
}

impl From<PostgresError> for BenchError {
    fn from(error: PostgresError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<BrokerError> for BenchError {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// One campaign with a large audience.
    Fanout,
    /// Small campaigns at a steady rate.
    Latency,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The file by which the service is configured, as it was named.
    pub file: Option<PathBuf>,
    /// What is measured.
    pub scenarios: Vec<Scenario>,
    /// How often.
    pub repeat: u32,
    /// Partitions of the topic of drafts.
    pub partitions: i32,
    /// What the names of topics and groups begin with.
    pub prefix: String,
    /// An existing database to use instead of one of the bench's own.
    pub database: Option<String>,
    /// Sizes of the audience in `fanout`.
    pub audiences: Vec<usize>,
    /// What `latency` does.
    pub latency: latency::Load,
}

/// Measures until it is done or told to stop, and clears away what was made for it.
pub async fn run(config: Config, plan: &Plan, stop: &mut watch::Receiver<bool>) -> Result<Report, BenchError> {
    let ground = Ground::new(config, plan)?;
    let measured = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => Err(BenchError::Stopped),
        report = measure(&ground, plan) => report,
    };
    tell("clearing away");
    let cleared = ground.clear().await;
    measured.and_then(|report| cleared.map(|()| report))
}

async fn measure(ground: &Ground<'_>, plan: &Plan) -> Result<Report, BenchError> {
    let mut report = Report::new(ground.prepare().await?, plan);
    for scenario in &plan.scenarios {
        match scenario {
            Scenario::Fanout => report.fanout = fanout::measure(ground, plan).await?,
            Scenario::Latency => report.latency = Some(latency::measure(ground, plan).await?),
        }
    }
    report.conclude();
    Ok(report)
}

/// Says what it is busy with, on standard error.
pub fn tell(what: &str) {
    eprintln!("bench: {what}");
}

/// A bar on a terminal, nothing elsewhere.
fn bar(what: &str, length: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{msg} {bar:30} {human_pos} of {human_len}")
        .expect("the template is well formed");
    ProgressBar::new(length as u64).with_style(style).with_message(what.to_owned())
}

/// Runs work that blocks, and whose failure is worth an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> Result<T, BenchError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| BenchError::Failed(format!("a thread of the bench ended early: {error}")))?
}
