//! Housekeeping beside the lanes: what is long over is pruned, and ids and times that come near the end of their types are reported.
//!
//! Every instance does it, each in small steps that hold up neither a lane nor another instance ([`dinnerbell_postgres::ledger::prune`]). An
//! error is logged and tried again with the next step: nothing else depends on it.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::steady_clock::SteadyClock;
use dinnerbell_config::Retention;
use dinnerbell_core::model::retention::Prunable;
use dinnerbell_core::periodic::Periodic;
use dinnerbell_core::telemetry::Telemetry;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::headroom;
use dinnerbell_postgres::ledger::prune::{BATCH, Clocks, prune};

/// How often it prunes; also how long after the start the first time.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Between two steps: the lanes' own work goes first.
const PAUSE_BETWEEN_STEPS: Duration = Duration::from_millis(200);
/// How often ids and times are read.
const READ_HEADROOM: Duration = Duration::from_secs(3_600);

/// What housekeeping needs.
#[derive(Clone)]
pub struct Housekeeping {
    /// The feedback database, with the ledger.
    pub feedback: Pool,
    /// The subscribers database.
    pub subscribers: Pool,
    /// How long what is over is kept.
    pub retention: Retention,
    /// Whether dead letters go to a topic: then those that did not get there yet are kept.
    pub publishes_dead_letters: bool,
}

impl Housekeeping {
    /// Prunes each minute and reads the headroom each hour, until it is dropped. An error is logged, and tried again with the next step.
    pub async fn run(&self, telemetry: &Telemetry) -> Infallible {
        tokio::join!(self.prune(telemetry), self.watch_headroom(telemetry)).0
    }

    async fn prune(&self, telemetry: &Telemetry) -> Infallible {
        let (mut checks, mut clock, mut told) = (Periodic::later(CHECK_INTERVAL), SteadyClock::default(), false);
        loop {
            checks.due().await;
            if let Err(why) = self.clocks_will_do(&mut clock).await {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("nothing is pruned: {why}");
                }
                continue;
            }
            told = false;
            for what in Prunable::ALL {
                if let Err(error) = self.prune_all(what, telemetry).await {
                    tracing::warn!(what = what.name(), %error, "could not be pruned; tried again in a minute");
                }
            }
        }
    }

    /// What is old is asked of the feedback database's clock. One that is set forward for a minute would take everything.
    async fn clocks_will_do(&self, clock: &mut SteadyClock) -> Result<(), String> {
        let clocks = Clocks::of(&self.feedback).await.map_err(|error| error.to_string())?;
        clocks.agree().map_err(|error| error.to_string())?;
        clock.read(Instant::now(), clocks.database).map_err(|seconds| {
            format!(
                "the feedback database's clock was set by {seconds} s; it is believed when it has gone on so for a day"
            )
        })
    }

    async fn prune_all(&self, what: Prunable, telemetry: &Telemetry) -> Result<(), PostgresError> {
        let mut pruned = 0;
        loop {
            let gone = prune(&self.feedback, what, &self.retention, self.publishes_dead_letters).await?;
            telemetry.pruned(what, gone);
            pruned += gone;
            if gone < BATCH {
                break;
            }
            sleep(PAUSE_BETWEEN_STEPS).await;
        }
        if pruned > 0 {
            tracing::info!(what = what.name(), pruned, "pruned what is long over");
        }
        Ok(())
    }

    async fn watch_headroom(&self, telemetry: &Telemetry) -> Infallible {
        let mut readings = Periodic::at_once(READ_HEADROOM);
        loop {
            readings.due().await;
            match headroom::read(&self.feedback, &self.subscribers).await {
                Ok(found) => telemetry.headroom(&found),
                Err(error) => tracing::warn!(%error, "could not read how many ids are left; tried again in an hour"),
            }
        }
    }
}
