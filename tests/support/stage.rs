//! One test's own world.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::campaign::Campaign;
use super::database::Database;
use super::kafka::{Message, Security};
use super::kafka_server::KafkaServer;
use super::servers::PostgresServer;
use super::service::{self, Service, ServiceConfig};
use super::sinks::{self, Expected, FoundDraft};
use super::wait::unique;

/// How long a command that is not the service may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// What a test needs other than usual.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Partitions of the campaigns topic.
    pub lanes: i32,
    /// Partitions of the notifications topic.
    pub notification_partitions: i32,
    /// Whether subscribers and feedback live in two databases.
    pub two_databases: bool,
    /// Whether the seed's tables are there already, as at users.
    pub seed_tables: bool,
    /// A Kafka that no other test uses, to bounce it.
    pub own_kafka: bool,
    /// Three brokers that no other test uses.
    pub three_brokers: bool,
    /// A PostgreSQL that no other test uses, to bounce it.
    pub own_postgres: bool,
    /// How the service reaches Kafka.
    pub security: Security,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            lanes: 1,
            notification_partitions: 3,
            two_databases: false,
            seed_tables: true,
            own_kafka: false,
            three_brokers: false,
            own_postgres: false,
            security: Security::Plaintext,
        }
    }
}

/// Topics, group, databases and folder of one test.
pub struct Stage {
    pub kafka: Arc<KafkaServer>,
    pub postgres: Arc<PostgresServer>,
    pub group: String,
    /// The topic of campaigns.
    pub campaigns: String,
    /// The topic of drafts.
    pub notifications: String,
    /// The topic of dead letters.
    pub dead_letters: String,
    /// The database with the feedback table (and the ledger).
    pub feedback: Arc<Database>,
    /// The database with the subscribers table; the same unless the setting says two.
    pub subscribers: Arc<Database>,
    pub dir: TempDir,
    /// What [`Stage::start`] and the commands are configured with.
    pub config: ServiceConfig,
}

impl Stage {
    /// As most tests need it.
    pub fn new() -> Self {
        Self::with(Setting::default())
    }

    /// With a setting of its own.
    pub fn with(setting: Setting) -> Self {
        let kafka = match (setting.three_brokers, setting.own_kafka) {
            (true, _) => KafkaServer::three(),
            (false, true) => KafkaServer::private(),
            (false, false) => KafkaServer::shared(),
        };
        let postgres = if setting.own_postgres { PostgresServer::private() } else { PostgresServer::shared() };
        let database = || {
            let database = Arc::new(Database::create(&postgres));
            if setting.seed_tables {
                database.create_seed_tables();
            }
            database
        };
        let feedback = database();
        let subscribers = if setting.two_databases { database() } else { feedback.clone() };
        let name = unique("t");
        let mut stage = Self {
            group: format!("{name}.group"),
            campaigns: format!("{name}.in"),
            notifications: format!("{name}.out"),
            dead_letters: format!("{name}.in.dead"),
            kafka,
            postgres: postgres.clone(),
            feedback,
            subscribers,
            dir: tempfile::tempdir().expect("a temporary folder can be made"),
            config: ServiceConfig::default(),
        };
        stage.kafka.create_topic(&stage.campaigns, setting.lanes, &[]);
        stage.kafka.create_topic(&stage.notifications, setting.notification_partitions, &[]);
        stage.kafka.create_topic(&stage.dead_letters, 1, &[]);
        stage.config = stage.configuration(setting.security);
        stage
    }

    /// The subscribers live in a database of another encoding from here on.
    pub fn encode_subscribers(&mut self, encoding: &str) {
        let database = Database::encoded(&self.postgres, encoding);
        database.create_seed_tables();
        self.config.set("subscribers", "url", database.url());
        self.subscribers = Arc::new(database);
    }

    fn configuration(&self, security: Security) -> ServiceConfig {
        let mut config = ServiceConfig::default();
        config.set("kafka", "group_id", self.group.as_str());
        match security {
            Security::Plaintext => {
                config.set("kafka", "bootstrap_servers", self.kafka.plaintext.as_str());
                config.set("kafka", "security_protocol", "PLAINTEXT");
            }
            Security::SaslSsl => {
                config.set("kafka", "bootstrap_servers", self.kafka.sasl_ssl.as_str());
                config.set("kafka", "security_protocol", "SASL_SSL");
                config.set("kafka", "sasl_mechanism", "SCRAM-SHA-512");
                config.set("kafka", "username", self.kafka.username.as_str());
                config.set("kafka", "password", self.kafka.password.as_str());
                config.set("kafka", "ca_file", self.kafka.ca.display().to_string());
            }
        }
        config.set("kafka.topics", "campaigns", self.campaigns.as_str());
        config.set("kafka.topics", "notifications", self.notifications.as_str());
        config.set("kafka.topics", "dead_letters", self.dead_letters.as_str());
        for (section, database) in [("subscribers", &self.subscribers), ("feedback", &self.feedback)] {
            config.set(section, "url", database.url());
            config.set(section, "password", self.postgres.password.as_str());
        }
        config.set("http", "listen", "127.0.0.1:0");
        config
    }

    /// Runs a command of the binary with this stage's configuration to its end.
    #[track_caller]
    pub fn dinnerbell(&self, args: &[&str]) -> Output {
        let config = self.config.write(self.dir.path());
        let mut command = service::command(self.dir.path(), args);
        command.arg("-c").arg(config);
        service::run(command, COMMAND_WITHIN)
    }

    /// The same; it must exit 0. Returns what it printed.
    #[track_caller]
    pub fn dinnerbell_ok(&self, args: &[&str]) -> String {
        let output = self.dinnerbell(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "dinnerbell {} ended with {}: {errors}", args.join(" "), output.status);
        String::from_utf8(output.stdout).expect("the commands print UTF-8")
    }

    /// `dinnerbell migrate`.
    #[track_caller]
    pub fn migrate(&self) {
        self.dinnerbell_ok(&["migrate"]);
    }

    /// Starts `dinnerbell run`.
    pub fn start(&self) -> Service {
        self.start_with(&[])
    }

    /// Starts `dinnerbell run` with environment variables.
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Service {
        let config = self.config.write(self.dir.path());
        let mut command = service::command(self.dir.path(), &["run"]);
        command.arg("-c").arg(config).envs(environment.iter().copied());
        Service::spawn(command, self.dir.path())
    }

    /// Starts `dinnerbell run`, its output going to this file.
    pub fn start_logging_to(&self, log: &Path) -> Service {
        let config = self.config.write(self.dir.path());
        let mut command = service::command(self.dir.path(), &["run"]);
        command.arg("-c").arg(config);
        Service::spawn_logging_to(command, log.to_owned())
    }

    /// Starts `dinnerbell run` with a fail point armed, for instance `round.copied@1=abort`.
    pub fn start_failing(&self, fail_point: &str) -> Service {
        self.start_with(&[("DINNERBELL_FAIL_POINT", fail_point)])
    }

    /// Sends a campaign to the first lane.
    pub fn send(&self, campaign: &Campaign) {
        self.send_to(0, campaign);
    }

    /// Sends a campaign to a lane.
    pub fn send_to(&self, lane: i32, campaign: &Campaign) {
        let key = campaign.adv_campaign_id.as_bytes();
        self.kafka.produce(&self.campaigns, Some(lane), Some(key), Some(campaign.json().as_bytes()), &[]);
    }

    /// The messages of the notifications topic that a `read_committed` reader sees now.
    #[track_caller]
    pub fn messages(&self) -> Vec<Message> {
        self.kafka.read_topic(&self.notifications)
    }

    /// Both sinks hold exactly these drafts, and each message has the form of the output contract.
    #[track_caller]
    pub fn assert_sinks(&self, expected: &Expected) {
        let messages = self.messages();
        let report = self.difference(expected, &messages);
        assert!(report.is_none(), "the sinks are not as they shall be:\n{}", report.unwrap_or_default());
        let partitions = self.kafka.partitions(&self.notifications).len();
        for message in &messages {
            let wrong = sinks::malformed(message, &self.group, partitions);
            assert!(wrong.is_none(), "{}: {message:?}", wrong.unwrap_or_default());
        }
    }

    /// Waits until both sinks hold exactly these drafts and every lane is at rest; panics with the last difference.
    #[track_caller]
    pub fn await_sinks(&self, expected: &Expected, within: Duration) {
        let began = Instant::now();
        // The numbers are asked for first: reading everything again and again would be most of a test's work.
        while began.elapsed() < within && !self.enough(expected.len()) {
            std::thread::sleep(Duration::from_millis(50));
        }
        loop {
            let unrest = self.unrest();
            let late = began.elapsed() >= within;
            if unrest.is_none() || late {
                self.assert_sinks(expected);
                assert!(unrest.is_none(), "the sinks are right, but {}", unrest.unwrap_or_default());
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Why the lanes are not at rest: a round that is recorded and not published, or a transaction that is open.
    pub fn unrest(&self) -> Option<String> {
        let held_back = self.kafka.held_back(&self.notifications);
        if !held_back.is_empty() {
            return Some(format!("a transaction is open in the notifications' partitions {held_back:?}"));
        }
        let committed = self.kafka.committed(&self.group, &self.campaigns);
        for row in self.feedback.query("select lane, seq from dinnerbell.lane order by lane") {
            let (lane, seq) = (row["lane"].as_i64(), row["seq"].to_string());
            let of_lane = committed.iter().find(|committed| Some(i64::from(committed.partition)) == lane);
            // The third word of the metadata is the round's number.
            let published = of_lane.and_then(|committed| committed.metadata.split(' ').nth(2));
            if published != Some(&seq) {
                return Some(format!("lane {lane:?} recorded round {seq} and published {published:?}"));
            }
        }
        None
    }

    /// Feedback rows so far.
    pub fn row_count(&self) -> usize {
        usize::try_from(self.feedback.number("select count(*) from public.subscribers_feedback")).unwrap_or(0)
    }

    fn enough(&self, drafts: usize) -> bool {
        self.row_count() >= drafts && self.message_count_bound() >= drafts
    }

    /// At least as many as there are messages to see: transaction markers have offsets too.
    fn message_count_bound(&self) -> usize {
        let ends = self.kafka.partitions(&self.notifications).into_iter().map(|partition| {
            let (low, high) = self.kafka.watermarks(&self.notifications, partition, "read_committed");
            usize::try_from(high - low).unwrap_or(0)
        });
        ends.sum()
    }

    fn difference(&self, expected: &Expected, messages: &[Message]) -> Option<String> {
        let rows: Vec<FoundDraft> = sinks::rows(&self.feedback);
        expected.difference(&rows, &sinks::drafts(messages))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.kafka.delete_topics(&[&self.campaigns, &self.notifications, &self.dead_letters]);
        }
    }
}
