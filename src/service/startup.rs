//! The start of an instance: a list of steps. What may come is waited for, what was refused ends the service.

use std::sync::Arc;

use tokio::sync::watch;

use crate::service::attempt::{Attempt, NotStarted, Unready, retry_until_ready};
use dinnerbell_config::{Config, Database};
use dinnerbell_core::guard::Guards;
use dinnerbell_core::instance::change_feed::ChangeFeed;
use dinnerbell_core::instance::dead_letter_topic::DeadLetterTopic;
use dinnerbell_core::instance::memory_budget::MemoryBudget;
use dinnerbell_core::instance::pause;
use dinnerbell_core::instance::pause::{PauseReading, PauseWatch};
use dinnerbell_core::instance::rate_limiter::RateLimiter;
use dinnerbell_core::instance::round_sizing::RecentCampaigns;
use dinnerbell_core::lane::context::{LaneContext, Limits};
use dinnerbell_core::model::finding::Findings;
use dinnerbell_core::telemetry::{Need, Telemetry};
use dinnerbell_kafka as kafka;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_postgres::audience::PostgresAudience;
use dinnerbell_postgres::clock::PostgresClock;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::{LedgerIdentity, PostgresLedger, probe};
use dinnerbell_postgres::migrate::FeedbackIndex;
use dinnerbell_postgres::table_identity::of_another_table;
use dinnerbell_postgres::{encryption, migrate, needs};

/// Everything behind the three traits.
pub type ServiceContext = LaneContext<KafkaBroker, PostgresLedger, PostgresAudience, PostgresClock>;

/// A start that is under way.
pub struct Startup<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where it is said what is waited for.
    pub telemetry: &'a Arc<Telemetry>,
    /// Ends the waiting.
    pub stop: &'a mut watch::Receiver<bool>,
}

impl Startup<'_> {
    /// Contacts everything, in this order. Returns what the lanes share.
    pub async fn run(
        mut self,
        readings: &watch::Sender<PauseReading>,
        pause: PauseWatch,
    ) -> Result<Arc<ServiceContext>, NotStarted> {
        let feedback = open(&self.config.feedback, "feedback")?;
        let subscribers = open(&self.config.subscribers, "subscribers")?;
        let clock = self.feedback(&feedback).await?;
        let audience = self.subscribers(&subscribers).await?;
        let broker = self.kafka().await?;
        let ledger = self.ledger(feedback, &clock, &broker).await?;
        self.pause(&ledger, &clock, readings).await?;
        Ok(self.context(broker, ledger, audience, clock, pause))
    }

    /// Tries one step until it works.
    async fn step<T, F: Future<Output = Attempt<T>>>(
        &mut self,
        need: Need,
        attempt: impl FnMut() -> F,
    ) -> Result<T, NotStarted> {
        retry_until_ready(self.telemetry, need, self.stop, attempt).await
    }

    async fn feedback(&mut self, pool: &Pool) -> Result<PostgresClock, NotStarted> {
        let config = self.config;
        self.step(Need::Feedback, || async { Ok(feedback_will_do(config, pool).await?) }).await?;
        self.step(Need::Feedback, || async { Ok(PostgresClock::start(pool.clone()).await?) }).await
    }

    async fn subscribers(&mut self, pool: &Pool) -> Result<PostgresAudience, NotStarted> {
        let (late, database) = (self.config.fanout.late_subscribers, &self.config.subscribers);
        self.step(Need::Subscribers, || async { Ok(needs::of_subscribers(pool, late).await?) }).await?;
        self.step(Need::Subscribers, || async { Ok(is_encrypted(pool, database).await?) }).await?;
        self.step(Need::Subscribers, || async { Ok(PostgresAudience::open(pool.clone()).await?) }).await
    }

    async fn kafka(&mut self) -> Result<KafkaBroker, NotStarted> {
        let config = &self.config.kafka;
        let broker = self.step(Need::Kafka, || async { Ok(KafkaBroker::connect(config).await?) }).await?;
        broker.found().log_warnings();
        self.step(Need::Kafka, || async { Ok(kafka::may_transact(config, kafka::unused_id(config)).await?) }).await?;
        Ok(broker)
    }

    async fn ledger(
        &mut self,
        feedback: Pool,
        clock: &PostgresClock,
        broker: &KafkaBroker,
    ) -> Result<PostgresLedger, NotStarted> {
        let config = self.config;
        let owner = format!("{}/{}", hostname(), std::process::id());
        let letters = config.kafka.topics.dead_letters.is_some();
        let ledger = PostgresLedger::new(feedback, clock.clone(), owner, config.kafka.group_id.clone(), letters);
        self.step(Need::Ledger, || claim(config, broker, &ledger)).await?;
        // Not before: nothing is tried in a table that is another's.
        self.step(Need::Feedback, || async { Ok(feedback_keeps_drafts(ledger.pool()).await?) }).await?;
        Ok(ledger)
    }

    /// Known before the first lane is taken over: an instance that starts while all sending is paused plans nothing.
    async fn pause(
        &mut self,
        ledger: &PostgresLedger,
        clock: &PostgresClock,
        readings: &watch::Sender<PauseReading>,
    ) -> Result<(), NotStarted> {
        let reading = self.step(Need::Ledger, || async { Ok(pause::read(ledger, clock).await?) }).await?;
        readings.send_replace(reading);
        self.telemetry.suspended(reading.suspension);
        Ok(())
    }

    fn context(
        &self,
        broker: KafkaBroker,
        ledger: PostgresLedger,
        audience: PostgresAudience,
        clock: PostgresClock,
        pause: PauseWatch,
    ) -> Arc<ServiceContext> {
        let Self { config, telemetry, .. } = self;
        let limits = Limits {
            group_id: config.kafka.group_id.clone(),
            round_rows: config.fanout.round_rows,
            late_subscribers: config.fanout.late_subscribers,
        };
        let memory = Arc::new(MemoryBudget::new(config.fanout.memory_limit));
        telemetry.watch_memory(Arc::clone(&memory));
        Arc::new(LaneContext {
            broker,
            ledger,
            audience,
            clock,
            limits,
            memory,
            rate: RateLimiter::new(config.fanout.rate_limit),
            pause,
            change_feed: ChangeFeed::default(),
            recent_campaigns: RecentCampaigns::default(),
            dead_letter_topic: DeadLetterTopic::new(Arc::clone(telemetry)),
            telemetry: Arc::clone(telemetry),
            guards: Guards::of_process(),
        })
    }
}

fn open(database: &Database, name: &'static str) -> Result<Pool, NotStarted> {
    Pool::open(database, name).map_err(|error| NotStarted::Refused(error.to_string()))
}

/// What can be read on its way is said in the log.
async fn is_encrypted(pool: &Pool, database: &Database) -> Result<(), PostgresError> {
    let mut found = Findings::default();
    encryption::check(pool, database, "tls", &mut found).await?;
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

/// The ledger belongs to one cluster, one group and one set of topics.
async fn claim(config: &Config, broker: &KafkaBroker, ledger: &PostgresLedger) -> Attempt<()> {
    let ours = LedgerIdentity {
        cluster_id: broker.cluster_id().to_owned(),
        group_id: config.kafka.group_id.clone(),
        campaigns_topic: config.kafka.topics.campaigns.clone(),
        notifications_topic: config.kafka.topics.notifications.clone(),
        feedback_table: Some(config.feedback.table.to_string()),
    };
    let found = match ledger.identity().await? {
        Some(found) => Some(found),
        None => {
            let beginnings: Vec<_> = broker.start_offsets(config.kafka.start).await?.into_iter().collect();
            ledger.claim(&ours, &beginnings).await?;
            // The first one decided: look at what stands there now.
            ledger.identity().await?
        }
    };
    let Some((_, found)) = found else {
        return Err(Unready::Transient("the ledger's claim is not to be seen yet".to_owned()));
    };
    if let Some(what) = found.differs(&ours) {
        return Err(Unready::Refused(what));
    }
    ledger.knows_its_table().await?.map_err(|another| Unready::Refused(of_another_table(&another)))
}

/// The name of this machine.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
