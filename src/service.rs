//! `dinnerbell run`: one instance, from the first contact to the last.

pub mod attempt;
pub mod file_limit;
pub mod health;
pub mod housekeeping;
pub mod http;
pub mod startup;
mod steady_clock;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::operator::hold;
use crate::service::attempt::NotStarted;
use crate::service::housekeeping::Housekeeping;
use crate::service::startup::{ServiceContext, Startup};
use crate::web::site::Site;
use dinnerbell_config::{Config, Secret};
use dinnerbell_core::instance::pause::{PauseReading, PauseWatch};
use dinnerbell_core::instance::{pause, supervisor};
use dinnerbell_core::ports::broker::Broker;
use dinnerbell_core::shutdown::stopped;
use dinnerbell_core::telemetry;
use dinnerbell_core::telemetry::{Need, Telemetry};
use dinnerbell_kafka as kafka;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::membership::{GroupStatus, Membership};

/// How often the telemetry learns that the poll loop goes round.
const NOTE_TURNS: Duration = Duration::from_secs(1);
/// How long all of stopping may take from the signal on, whatever stands still; what is served by HTTP ends after it.
const STOP: Duration = Duration::from_millis(8_400);
/// How much of it is kept for closing the clients.
const CLOSE: Duration = Duration::from_secs(1);
/// The group is left when the rounds in flight are finished, and after this long in any case. Anyone who takes the lanes over then fences them.
const LEAVE: Duration = Duration::from_secs(3);

/// Why an instance ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A server was contacted and refused, or a port was taken.
    #[error("{0}")]
    Refused(String),
    /// A call that must return did not: a supervisor starts the service again.
    #[error("{0}")]
    Watchdog(String),
}

/// What an instance is run with.
#[derive(Debug)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The same as text, without secrets, for the page; empty where it is not shown.
    pub shown: String,
    /// The bearer of this is signed in on the page as an operator, once.
    pub admits: Option<Secret>,
}

/// Runs an instance until the stop.
pub async fn run(setup: Setup, mut stop: watch::Receiver<bool>) -> Result<(), ServiceError> {
    let Setup { config, shown, admits } = setup;
    let telemetry = Arc::new(Telemetry::new(&kafka::version()));
    let files = file_limit::raise();
    let bound = http::bind(&config.http).await.map_err(|error| ServiceError::Refused(error.to_string()))?;
    // HTTP ends last: while the lanes finish their rounds, it says that the service is stopping.
    let (end, ended) = watch::channel(false);
    let site = Site::new(&config, &startup::hostname(), Arc::clone(&telemetry));
    let site = site.map_err(|error| ServiceError::Refused(error.to_string()))?.showing(shown);
    if let Some(secret) = &admits {
        site.admits_once(secret.reveal());
    }
    let serving = http::serve(bound, Arc::clone(&telemetry), Arc::new(site), ended);
    let noting = note_stop(&telemetry, stop.clone());
    let working = async {
        let (readings, pause) = watch::channel(PauseReading::NONE);
        let startup = Startup { config: &config, telemetry: &telemetry, stop: &mut stop };
        match startup.run(&readings, PauseWatch::new(pause)).await {
            Ok(cx) => {
                warn_of_files(&cx.broker, &config, files).await;
                work(cx, &config, readings, stop.clone()).await
            }
            Err(NotStarted::Stopped) => Ok(()),
            Err(NotStarted::Refused(text)) => Err(ServiceError::Refused(text)),
        }
    };
    let working = async {
        let worked = tokio::select! {
            worked = working => worked,
            never = noting => match never {},
        };
        end.send_replace(true);
        worked
    };
    tokio::join!(working, serving).0
}

/// Says beforehand that lanes will find no file. Kafka was contacted a moment ago: what it does not answer now is left unsaid.
async fn warn_of_files(broker: &KafkaBroker, config: &Config, limit: Option<u64>) {
    let (Ok(lanes), Ok(brokers)) = tokio::join!(broker.lanes(), broker.brokers()) else { return };
    let lanes = u64::try_from(lanes).unwrap_or(0);
    if let Some((found, remedy)) = file_limit::check(limit, lanes, brokers as u64, config.database_connections() as u64)
    {
        tracing::warn!(remedy, "{found}");
    }
}

/// The telemetry learns of the stop.
async fn note_stop(telemetry: &Telemetry, mut stop: watch::Receiver<bool>) -> Infallible {
    stopped(&mut stop).await;
    telemetry.stopping();
    pending().await
}

/// Works until the stop, then drains the lanes and leaves the group.
async fn work(
    cx: Arc<ServiceContext>,
    config: &Config,
    readings: watch::Sender<PauseReading>,
    stop: watch::Receiver<bool>,
) -> Result<(), ServiceError> {
    let broker = cx.broker.clone();
    let housekeeping = Housekeeping {
        feedback: cx.ledger.pool().clone(),
        subscribers: cx.audience.pool().clone(),
        retention: config.retention,
        publishes_dead_letters: config.kafka.topics.dead_letters.is_some(),
    };
    let mut membership = broker.join().map_err(|error| ServiceError::Refused(error.to_string()))?;
    let (stalled, noting) = (membership.stalled(), note_membership(&cx.telemetry, &membership));
    let assigned = membership.assignments();
    tracing::info!(group = config.kafka.group_id, topic = config.kafka.topics.campaigns, "running");
    let ended = tokio::select! {
        biased;
        () = stalled => Err(watchdog("the group's poll loop stood still for 10 s")),
        never = pause::watch(&cx.ledger, &cx.clock, &readings, |suspension| cx.telemetry.suspended(suspension)) => match never {},
        never = noting => match never {},
        never = hold::watch(cx.ledger.pool(), &cx.pause, &cx.telemetry) => match never {},
        never = housekeeping.run(&cx.telemetry) => match never {},
        never = health::watch(&cx.telemetry, &broker, cx.ledger.pool(), cx.audience.pool()) => match never {},
        by = async {
            let drained = Notify::new();
            let keeping = async {
                supervisor::supervise(Arc::clone(&cx), assigned, stop.clone()).await;
                drained.notify_one();
            };
            let watching = telemetry::watch::watch(&cx.broker, &cx.clock, &cx.telemetry, stop.clone());
            tokio::join!(keeping, watching, leave(&mut membership, &drained, stop.clone())).2
        } => Ok(by),
    };
    let by = ended.as_ref().map_or_else(|_| Instant::now() + LEAVE, |by| *by);
    membership.leave(by - CLOSE).await;
    drop(cx);
    broker.close(by.saturating_duration_since(Instant::now())).await;
    ended.map(drop)
}

/// At the stop leaves the group, beside the lanes that finish their rounds. Returns by when everything is to end.
async fn leave(membership: &mut Membership, drained: &Notify, mut stop: watch::Receiver<bool>) -> Instant {
    stopped(&mut stop).await;
    let by = Instant::now() + STOP;
    let _ = timeout(LEAVE, drained.notified()).await;
    membership.leave(by - CLOSE).await;
    by
}

/// The telemetry learns of the membership: whether it has an assignment, though it be empty, and of the turns of its poll loop.
fn note_membership<'a>(
    telemetry: &'a Telemetry,
    membership: &Membership,
) -> impl Future<Output = Infallible> + use<'a> {
    note(telemetry, membership.status(), membership.turns())
}

async fn note(
    telemetry: &Telemetry,
    mut status: watch::Receiver<GroupStatus>,
    mut turns: watch::Receiver<u64>,
) -> Infallible {
    let joining = async {
        while status.changed().await.is_ok() {
            match *status.borrow_and_update() {
                GroupStatus::Joining => {}
                GroupStatus::Member => telemetry.has(Need::Group),
                GroupStatus::Lost => telemetry.waits_for(
                    Need::Group,
                    "the group's coordinator was not reached for as long as a session lasts, so others may have the lanes; joining again",
                ),
            }
        }
    };
    let turning = async {
        while turns.changed().await.is_ok() {
            telemetry.polled();
            tokio::time::sleep(NOTE_TURNS).await;
        }
    };
    tokio::join!(joining, turning);
    pending().await
}

fn watchdog(what: &str) -> ServiceError {
    ServiceError::Watchdog(format!("{what}; the process ends so that a supervisor restarts it"))
}
