//! `dinnerbell run`: one instance, from the first contact to the last.

pub mod file_limit;
pub mod health;
pub mod http;
pub mod retention;
pub mod startup;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::operator::hold;
use crate::service::retention::RetentionJob;
use crate::service::startup::{Attempt, GaveUp, retry_until_ready};
use dinnerbell_config::{Config, Database};
use dinnerbell_core::guard::Guards;
use dinnerbell_core::instance::change_feed::ChangeFeed;
use dinnerbell_core::instance::dead_letters::DeadLetterTopic;
use dinnerbell_core::instance::memory_budget::MemoryBudget;
use dinnerbell_core::instance::pause::{PauseReading, PauseWatch};
use dinnerbell_core::instance::rate_limiter::RateLimiter;
use dinnerbell_core::instance::round_sizing::RecentCampaigns;
use dinnerbell_core::instance::{pause, supervisor};
use dinnerbell_core::lane::context::{LaneContext, Limits};
use dinnerbell_core::model::finding::Findings;
use dinnerbell_core::ports::broker::Broker;
use dinnerbell_core::ports::failure::{Failure, FailureKind};
use dinnerbell_core::shutdown::stopped;
use dinnerbell_core::telemetry;
use dinnerbell_core::telemetry::{Need, Telemetry};
use dinnerbell_kafka as kafka;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::membership::{GroupStatus, Membership};
use dinnerbell_postgres::audience::PostgresAudience;
use dinnerbell_postgres::clock::PostgresClock;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::identity::of_another_table;
use dinnerbell_postgres::ledger::{Belonging, PostgresLedger, probe};
use dinnerbell_postgres::migrate::FeedbackIndex;
use dinnerbell_postgres::{encryption, migrate, needs};

/// How often the telemetry learns that the poll loop goes round.
const NOTE_TURNS: Duration = Duration::from_secs(1);
/// How long all of stopping may take from the signal on, whatever stands still; what is served by HTTP ends after it.
const STOP: Duration = Duration::from_millis(8_400);
/// How much of it is kept for closing the clients.
const CLOSE: Duration = Duration::from_secs(1);
/// The group is left when the rounds in flight are finished, and after this long in any case: whoever takes the lanes up then fences them.
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

/// Everything behind the three traits.
type Shared = LaneContext<KafkaBroker, PostgresLedger, PostgresAudience, PostgresClock>;

/// Runs an instance until the stop.
pub async fn run(config: Config, mut stop: watch::Receiver<bool>) -> Result<(), ServiceError> {
    let telemetry = Arc::new(Telemetry::new(&kafka::version()));
    let files = file_limit::raise();
    let bound = http::bind(&config.http).await.map_err(|error| ServiceError::Refused(error.to_string()))?;
    // HTTP ends last: while the lanes finish their rounds, it says that the service is stopping.
    let (end, ended) = watch::channel(false);
    let serving = http::serve(bound, Arc::clone(&telemetry), ended);
    let noting = note_stop(&telemetry, stop.clone());
    let working = async {
        let (readings, pause) = watch::channel(PauseReading::NONE);
        let started = start(&config, &telemetry, (&readings, PauseWatch::new(pause)), &mut stop).await;
        match started {
            Ok(cx) => {
                warn_of_files(&cx.broker, &config, files).await;
                work(cx, &config, readings, stop.clone()).await
            }
            Err(NotStarted::Stopped) => Ok(()),
            Err(NotStarted::Error(error)) => Err(error),
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
    let connections = config.feedback.max_connections + config.subscribers.max_connections;
    if let Some((found, remedy)) = file_limit::judge(limit, lanes, brokers as u64, connections as u64) {
        tracing::warn!(remedy, "{found}");
    }
}

/// The telemetry learns of the stop.
async fn note_stop(telemetry: &Telemetry, mut stop: watch::Receiver<bool>) -> Infallible {
    stopped(&mut stop).await;
    telemetry.stopping();
    pending().await
}

enum NotStarted {
    Stopped,
    Error(ServiceError),
}

impl From<GaveUp<String>> for NotStarted {
    fn from(stopped: GaveUp<String>) -> Self {
        match stopped {
            GaveUp::Asked => Self::Stopped,
            GaveUp::Refused(text) => Self::Error(ServiceError::Refused(text)),
        }
    }
}

/// Contacts everything; what may come is waited for, what was refused is an error.
async fn start(
    config: &Config,
    telemetry: &Arc<Telemetry>,
    (readings, pause): (&watch::Sender<PauseReading>, PauseWatch),
    stop: &mut watch::Receiver<bool>,
) -> Result<Arc<Shared>, NotStarted> {
    let refused = |error: String| NotStarted::Error(ServiceError::Refused(error));
    let feedback = Pool::open(&config.feedback, "feedback").map_err(|error| refused(error.to_string()))?;
    let subscribers = Pool::open(&config.subscribers, "subscribers").map_err(|error| refused(error.to_string()))?;
    retry_until_ready(telemetry, Need::Feedback, stop, || async { trial(feedback_will_do(config, &feedback).await) })
        .await?;
    let clock = retry_until_ready(telemetry, Need::Feedback, stop, || async {
        trial(PostgresClock::start(feedback.clone()).await)
    })
    .await?;
    let late = config.fanout.late_subscribers;
    retry_until_ready(telemetry, Need::Subscribers, stop, || async {
        trial(needs::of_subscribers(&subscribers, late).await)
    })
    .await?;
    retry_until_ready(telemetry, Need::Subscribers, stop, || async {
        trial(is_encrypted(&subscribers, &config.subscribers).await)
    })
    .await?;
    let audience = retry_until_ready(telemetry, Need::Subscribers, stop, || async {
        trial(PostgresAudience::open(subscribers.clone()).await)
    })
    .await?;
    let broker =
        retry_until_ready(telemetry, Need::Kafka, stop, || async { trial(KafkaBroker::connect(&config.kafka).await) })
            .await?;
    broker.found().log_warnings();
    retry_until_ready(telemetry, Need::Kafka, stop, || async {
        trial(kafka::may_transact(&config.kafka, kafka::unused_id(&config.kafka)).await)
    })
    .await?;
    let owner = format!("{}/{}", hostname(), std::process::id());
    let letters = config.kafka.topics.dead_letters.is_some();
    let ledger = PostgresLedger::new(feedback, clock.clone(), owner, config.kafka.group_id.clone(), letters);
    retry_until_ready(telemetry, Need::Ledger, stop, || async { claim(config, &broker, &ledger).await }).await?;
    // Not before: nothing is tried in a table that is another's.
    retry_until_ready(telemetry, Need::Feedback, stop, || async { trial(feedback_keeps_drafts(ledger.pool()).await) })
        .await?;
    // Known before the first lane is entered: an instance that starts while all sending is paused plans nothing.
    let look = retry_until_ready(telemetry, Need::Ledger, stop, || async { trial(pause::look(&ledger, &clock).await) })
        .await?;
    readings.send_replace(look);
    telemetry.suspended(look.suspension);
    let limits = Limits {
        group_id: config.kafka.group_id.clone(),
        round_rows: config.fanout.round_rows,
        late_subscribers: config.fanout.late_subscribers,
    };
    let memory = Arc::new(MemoryBudget::new(config.fanout.memory_limit));
    telemetry.watch_memory(Arc::clone(&memory));
    let rate = RateLimiter::new(config.fanout.rate_limit);
    let telemetry = Arc::clone(telemetry);
    let (change_feed, arrivals, dead_letter_topic) =
        (ChangeFeed::default(), RecentCampaigns::default(), DeadLetterTopic::new(Arc::clone(&telemetry)));
    Ok(Arc::new(LaneContext {
        broker,
        ledger,
        audience,
        clock,
        limits,
        memory,
        rate,
        pause,
        change_feed,
        arrivals,
        dead_letter_topic,
        telemetry,
        guards: Guards::of_process(),
    }))
}

/// What can be read on its way is said in the log.
async fn is_encrypted(pool: &Pool, database: &Database) -> Result<(), PostgresError> {
    let mut found = Findings::default();
    encryption::judge(pool, database, "tls", &mut found).await?;
    found.log_warnings();
    Ok(())
}

/// The ledger and the feedback table are there, and are ours to read and write.
async fn feedback_will_do(config: &Config, feedback: &Pool) -> Result<(), PostgresError> {
    needs::of_encoding(feedback).await?;
    migrate::schema_is_current(feedback).await?;
    needs::of_ledger(feedback).await?;
    needs::of_feedback(feedback).await?;
    is_encrypted(feedback, &config.feedback).await
}

/// The feedback table, which is the ledger's own by now, and the ledger keep what is written.
async fn feedback_keeps_drafts(feedback: &Pool) -> Result<(), PostgresError> {
    if migrate::feedback_index(feedback).await? == FeedbackIndex::Missing {
        return Err(PostgresError::refused(format!(
            "{}: the index that keeps each (campaign, client) once is missing; run `dinnerbell migrate`",
            feedback.address()
        )));
    }
    let mut found = Findings::default();
    probe::ledger(feedback, &mut found).await?;
    probe::feedback(feedback, &mut found).await?;
    found.log_warnings();
    match found.errors() {
        Some(errors) => Err(PostgresError::refused(format!("{}: {errors}", feedback.address()))),
        None => Ok(()),
    }
}

/// Works until the stop, then drains the lanes and leaves the group.
async fn work(
    cx: Arc<Shared>,
    config: &Config,
    readings: watch::Sender<PauseReading>,
    stop: watch::Receiver<bool>,
) -> Result<(), ServiceError> {
    let broker = cx.broker.clone();
    let keeper = RetentionJob {
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
        () = broker.hung() => Err(watchdog("a transactional call to Kafka hangs though the coordinator answers")),
        () = stalled => Err(watchdog("the group's poll loop stood still for 10 s")),
        never = pause::watch(&cx.ledger, &cx.clock, &readings, |suspension| cx.telemetry.suspended(suspension)) => match never {},
        never = noting => match never {},
        never = hold::watch(cx.ledger.pool(), &cx.pause, &cx.telemetry) => match never {},
        never = keeper.keep(&cx.telemetry) => match never {},
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
    note(telemetry, membership.standing(), membership.turns())
}

async fn note(
    telemetry: &Telemetry,
    mut standing: watch::Receiver<GroupStatus>,
    mut turns: watch::Receiver<u64>,
) -> Infallible {
    let joining = async {
        while standing.changed().await.is_ok() {
            match *standing.borrow_and_update() {
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
    ServiceError::Watchdog(format!("{what}; the process ends so that a supervisor starts it anew"))
}

/// The ledger belongs to one cluster, one group and one set of topics.
async fn claim(config: &Config, broker: &KafkaBroker, ledger: &PostgresLedger) -> Attempt<(), String> {
    let ours = Belonging {
        cluster_id: broker.cluster_id().to_owned(),
        group_id: config.kafka.group_id.clone(),
        campaigns_topic: config.kafka.topics.campaigns.clone(),
        notifications_topic: config.kafka.topics.notifications.clone(),
        feedback_table: Some(config.feedback.table.to_string()),
    };
    let found = match ledger.belonging().await {
        Ok(found) => found,
        Err(error) => return trial(Err(error)),
    };
    let found = match found {
        Some(found) => Some(found),
        None => {
            let beginnings: Vec<_> = match broker.start_offsets(config.kafka.start).await {
                Ok(beginnings) => beginnings.into_iter().collect(),
                Err(error) => return trial(Err(error)),
            };
            if let Err(error) = ledger.claim(&ours, &beginnings).await {
                return trial(Err(error));
            }
            // Whoever came first decided: look at what stands there now.
            match ledger.belonging().await {
                Ok(found) => found,
                Err(error) => return trial(Err(error)),
            }
        }
    };
    let Some((_, found)) = found else { return Attempt::Again("the ledger's claim is not to be seen yet".to_owned()) };
    if let Some(what) = found.differs(&ours) {
        return Attempt::Refused(what);
    }
    match ledger.knows_its_table().await {
        Ok(Ok(())) => Attempt::Done(()),
        Ok(Err(another)) => Attempt::Refused(of_another_table(&another)),
        Err(error) => trial(Err(error)),
    }
}

/// What may pass is tried again, what was refused is not.
fn trial<T, E: Failure>(result: Result<T, E>) -> Attempt<T, String> {
    match result {
        Ok(done) => Attempt::Done(done),
        Err(error) if error.failure_kind() == FailureKind::Refused => Attempt::Refused(error.to_string()),
        Err(error) => Attempt::Again(error.to_string()),
    }
}

/// The name of this machine.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
