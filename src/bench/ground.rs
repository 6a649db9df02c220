//! What the bench stands on: its database, tables, topics and groups. It is the one place that makes and drops.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;
use tokio_postgres::config::{ChannelBinding, Host, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::types::Type;

use super::report::Servers;
use super::{BenchError, Plan, bar, bell, tell};
use crate::config::{Config, Database, Role, SslMode, Start, TableName};
use crate::kafka::client::{Observer, settings};
use crate::postgres::connect::Pool;
use crate::postgres::migrate;

/// The schema of the bench's own tables.
const SCHEMA: &str = "dinnerbell_bench";
/// The ledger's schema.
const LEDGER: &str = "dinnerbell";
/// How long the cluster may take to make or drop topics.
const TOPICS: Duration = Duration::from_secs(30);
/// How long a group may take to be empty: a member that was killed counts until its session ends.
const GROUP_ENDS: Duration = Duration::from_secs(20);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long it may take to drop what is in the database.
const DROP: Duration = Duration::from_secs(60);
/// Subscribers are made so many at a time.
const PORTION: usize = 50_000;
/// The broker's own number of replicas.
const USUAL_REPLICAS: TopicReplication<'static> = TopicReplication::Fixed(-1);

/// Ends what a measurement that was stopped left running, which would go on or stand in the way.
const END_STATEMENTS: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where usename = current_user and pid <> pg_backend_pid() and application_name = 'dinnerbell' \
    and (query = $1 or datname = current_database() and position($2 in query) > 0)";

/// What exists because of the bench, until it is dropped.
#[derive(Debug, Default)]
struct Made {
    database: bool,
    schemas: bool,
    topics: BTreeSet<String>,
    groups: BTreeSet<String>,
}

/// The servers of the configuration, and what the bench made there.
pub struct Ground<'a> {
    plan: &'a Plan,
    /// As the user gave it: where the servers are.
    given: Config,
    /// The same in the bench's database, with its tables.
    config: Config,
    admin: AdminClient<Observer>,
    observer: Observer,
    stages: AtomicU32,
    seeded: tokio::sync::Mutex<BTreeSet<String>>,
    made: Mutex<Made>,
}

/// Topics, a group and empty tables for one run of the service.
pub struct Stage<'a> {
    ground: &'a Ground<'a>,
    /// The configuration of the service and of everything that measures it.
    pub config: Config,
    /// How many lanes there are.
    pub lanes: i32,
    /// The bench's own way to the tables.
    pub pool: Pool,
}

impl<'a> Ground<'a> {
    /// Contacts nobody.
    pub fn new(given: Config, plan: &'a Plan) -> Result<Self, BenchError> {
        let observer = Observer::default();
        let admin = settings(&given.kafka, Role::Producer, "bench-admin", &[], &[])
            .create_with_context(observer.clone())
            .map_err(|error| observer.explain("making a client", &error))?;
        let mut config = given.clone();
        let database = plan.database.clone().unwrap_or_else(|| plan.prefix.replace('-', "_"));
        config.feedback.connection.dbname(database);
        // The replica may be read-only: the audience is read where the feedback is written.
        config.subscribers = config.feedback.clone();
        config.subscribers.table = own_table("subscribers_restaurants");
        config.feedback.table = own_table("subscribers_feedback");
        config.kafka.start = Start::Earliest;
        // The limits are to be found, not the operator's own.
        config.fanout.rate_limit = 0;
        Ok(Self {
            plan,
            given,
            config,
            admin,
            observer,
            stages: AtomicU32::new(0),
            seeded: tokio::sync::Mutex::default(),
            made: Mutex::default(),
        })
    }

    /// Looks at all rights first, then makes the database and the tables. Returns what the servers are.
    pub async fn prepare(&self) -> Result<Servers, BenchError> {
        tell(&format!("preparing database {} and topics {}.*", self.database(), self.plan.prefix));
        let given = Pool::open(&few(&self.given.feedback), "feedback")?;
        let version = given.query("select current_setting('server_version')", &[]).await?;
        let mut missing = Vec::new();
        self.may_make_topics(&mut missing).await?;
        let own = Pool::open(&few(&self.config.feedback), "feedback")?;
        match &self.plan.database {
            None => may_make_databases(&given, &mut missing).await?,
            Some(name) => may_use_database(&own, name, &mut missing).await?,
        }
        if !missing.is_empty() {
            return Err(BenchError::Rights(missing));
        }
        if self.plan.database.is_none() {
            self.made().database = true;
            let connection = given.get().await?;
            connection.batch_without_deadline(&self.create_database()).await?;
        } else {
            self.made().schemas = true;
        }
        let connection = own.get().await?;
        connection.batch(&format!("create schema {SCHEMA}")).await?;
        self.migrate(&self.config, true).await?;
        let like = format!("create table {} (like {} including all)", self.roofline(), own.table().sql());
        connection.batch(&like).await?;
        connection.release();
        let postgres = version.first().map(|row| row.get(0)).unwrap_or_default();
        Ok(Servers { postgres, kafka: self.brokers().await? })
    }

    /// Makes topics for one run of the service, and empties the tables.
    pub async fn stage(&self, lanes: i32) -> Result<Stage<'_>, BenchError> {
        let name = format!("{}.{}", self.plan.prefix, self.stages.fetch_add(1, Ordering::Relaxed) + 1);
        let mut config = self.config.clone();
        config.kafka.group_id = name.clone();
        config.kafka.topics.campaigns = format!("{name}.in");
        config.kafka.topics.notifications = format!("{name}.out");
        let dead_letters = config.kafka.topics.dead_letters.as_mut();
        if let Some(dead_letters) = dead_letters {
            *dead_letters = format!("{name}.dead");
            self.make_topic(dead_letters, 1).await?;
        }
        self.make_topic(&config.kafka.topics.campaigns, lanes).await?;
        self.make_topic(&config.kafka.topics.notifications, self.plan.partitions).await?;
        self.made().groups.insert(name);
        let pool = Pool::open(&few(&config.feedback), "feedback")?;
        let connection = pool.get().await?;
        // A ledger belongs to one group and one set of topics.
        let sql = format!(
            "drop schema if exists {LEDGER} cascade; truncate {}, {}",
            self.config.feedback.table.sql(),
            self.roofline()
        );
        connection.batch_without_deadline(&sql).await?;
        connection.release();
        self.migrate(&config, false).await?;
        settle(&pool).await;
        Ok(Stage { ground: self, config, lanes, pool })
    }

    /// Makes so many subscribers of a restaurant, unless they are there.
    pub async fn seed(&self, restaurant: &str, subscribers: usize) -> Result<(), BenchError> {
        let mut seeded = self.seeded.lock().await;
        if seeded.contains(restaurant) {
            return Ok(());
        }
        let table = self.config.subscribers.table.sql();
        let pool = Pool::open(&few(&self.config.subscribers), "subscribers")?;
        let connection = pool.get().await?;
        let bar = bar("making subscribers", subscribers);
        for from in (0..subscribers).step_by(PORTION) {
            let to = (from + PORTION).min(subscribers);
            let sql = format!(
                "insert into {table} (client_id, restaurant_id) \
                 select md5('{restaurant}' || n)::uuid::text, '{restaurant}' from generate_series({from} + 1, {to}) n"
            );
            connection.batch_without_deadline(&sql).await?;
            bar.set_position(to as u64);
        }
        bar.finish_and_clear();
        // As in a table that is not new: statistics, and an index that need not look at the table.
        connection.batch_without_deadline(&format!("vacuum (analyze) {table}")).await?;
        connection.release();
        seeded.insert(restaurant.to_owned());
        Ok(())
    }

    /// The table of the roofline, with the same columns and indexes as that of the feedback.
    pub fn roofline(&self) -> String {
        own_table("roofline").sql()
    }

    /// Makes a topic with the broker's usual number of replicas.
    pub async fn make_topic(&self, name: &str, partitions: i32) -> Result<(), BenchError> {
        self.made().topics.insert(name.to_owned());
        let topic = NewTopic::new(name, partitions, USUAL_REPLICAS);
        let made = self.admin.create_topics([&topic], &options()).await;
        self.judge(&format!("making topic {name}"), made.map(one)).map_err(BenchError::from)
    }

    /// Drops topics.
    pub async fn drop_topics(&self, names: &[&str]) -> Result<(), BenchError> {
        for name in names {
            let dropped = self.admin.delete_topics(&[name], &options()).await.map(one);
            let gone = Err(RDKafkaErrorCode::UnknownTopicOrPartition);
            if dropped != Ok(gone) {
                self.judge(&format!("dropping topic {name}"), dropped)?;
            }
            self.made().topics.remove(*name);
        }
        Ok(())
    }

    /// Drops everything that was made. What cannot be dropped is named.
    pub async fn clear(&self) -> Result<(), BenchError> {
        let (topics, groups) = {
            let made = self.made();
            (made.topics.clone(), made.groups.clone())
        };
        let mut left = Vec::new();
        for topic in &topics {
            left.extend(self.drop_topics(&[topic]).await.err());
        }
        for group in &groups {
            left.extend(self.drop_group(group).await.err());
        }
        left.extend(self.clear_database().await.err());
        if left.is_empty() {
            return Ok(());
        }
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        Err(BenchError::Failed(format!("something is left behind, drop it by hand: {}", left.join("; "))))
    }

    async fn clear_database(&self) -> Result<(), BenchError> {
        let Made { database, schemas, .. } = *self.made();
        let (at, sql) = match (database, schemas) {
            // The server ends what a measurement that was stopped left running there.
            (true, _) => {
                (&self.given.feedback, format!("drop database if exists \"{}\" with (force)", self.database()))
            }
            (_, true) => (&self.config.feedback, format!("drop schema if exists {LEDGER}, {SCHEMA} cascade")),
            _ => return Ok(()),
        };
        let failed = |why: String| BenchError::Failed(format!("dropping database {}: {why}", self.database()));
        let work = async {
            let connection = Pool::open(&few(at), "feedback")?.get().await?;
            let (create, mark) = (self.create_database(), SCHEMA.to_owned());
            connection.execute(END_STATEMENTS, &[(&create, Type::TEXT), (&mark, Type::TEXT)]).await?;
            connection.batch_without_deadline(&sql).await
        };
        match tokio::time::timeout(DROP, work).await {
            Ok(dropped) => dropped.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("not done after {} s", DROP.as_secs()))),
        }
        let mut made = self.made();
        (made.database, made.schemas) = (false, false);
        Ok(())
    }

    async fn drop_group(&self, name: &str) -> Result<(), BenchError> {
        let until = Instant::now() + GROUP_ENDS;
        loop {
            let dropped = self.admin.delete_groups(&[name], &options()).await.map(one);
            match dropped {
                Ok(Err(RDKafkaErrorCode::GroupIdNotFound)) => break,
                Ok(Err(RDKafkaErrorCode::NonEmptyGroup)) if Instant::now() < until => tokio::time::sleep(LOOK).await,
                other => {
                    self.judge(&format!("dropping group {name}"), other)?;
                    break;
                }
            }
        }
        self.made().groups.remove(name);
        Ok(())
    }

    async fn migrate(&self, config: &Config, create_tables: bool) -> Result<(), BenchError> {
        let tell = |event: migrate::Event<'_>| {
            if let migrate::Event::Warning(text) = event {
                tracing::warn!("{text}");
            }
        };
        Ok(migrate::migrate(config, create_tables, &tell).await?)
    }

    /// Whether topics may be made; makes none.
    async fn may_make_topics(&self, missing: &mut Vec<String>) -> Result<(), BenchError> {
        let prefix = &self.plan.prefix;
        let name = format!("{prefix}.0.in");
        let topic = NewTopic::new(&name, 1, USUAL_REPLICAS);
        let options = options().validate_only(true);
        let tried = self.admin.create_topics([&topic], &options).await.map(one);
        use RDKafkaErrorCode::{ClusterAuthorizationFailed, TopicAuthorizationFailed};
        match tried {
            Ok(Err(TopicAuthorizationFailed | ClusterAuthorizationFailed)) => {
                missing.push(format!(
                    "kafka: allow this user Create, Describe, Read, Write and Delete on topics, Read and Delete on groups, and Write on \
                     transactional ids that begin with {prefix}. (prefixed; --prefix chooses the name)"
                ));
                Ok(())
            }
            other => Ok(self.judge("asking whether topics may be made", other)?),
        }
    }

    fn judge(
        &self,
        doing: &str,
        done: Result<Result<(), RDKafkaErrorCode>, KafkaError>,
    ) -> Result<(), crate::broker::BrokerError> {
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(code)) => Err(self.observer.explain(doing, &KafkaError::AdminOp(code))),
            Err(error) => Err(self.observer.explain(doing, &error)),
        }
    }

    async fn brokers(&self) -> Result<usize, BenchError> {
        let kafka = self.given.kafka.clone();
        super::blocking(move || {
            let observer = Observer::default();
            let failed = |error: &KafkaError| observer.explain("asking for the brokers", error);
            let asking: AdminClient<Observer> = settings(&kafka, Role::Producer, "bench-asks", &[], &[])
                .create_with_context(observer.clone())
                .map_err(|error| failed(&error))?;
            let metadata = asking.inner().fetch_metadata(None, TOPICS).map_err(|error| failed(&error))?;
            Ok(metadata.brokers().len())
        })
        .await
    }

    fn create_database(&self) -> String {
        // Nobody is connected to this template.
        format!("create database \"{}\" template template0", self.database())
    }

    fn database(&self) -> &str {
        self.config.feedback.connection.get_dbname().unwrap_or_default()
    }

    /// What it holds stays consistent when a holder panics: each change is one assignment.
    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage<'_> {
    /// The file by which the service is configured.
    pub fn file(&self) -> Option<&Path> {
        self.ground.plan.file.as_deref()
    }

    /// The subscribers of a restaurant, and of the one that warms up.
    pub async fn seed(&self, restaurant: &str, subscribers: usize) -> Result<(), BenchError> {
        self.ground.seed(bell::WARM_UP, bell::WARM_UP_AUDIENCE).await?;
        self.ground.seed(restaurant, subscribers).await
    }

    /// The ground on which it stands.
    pub fn ground(&self) -> &Ground<'_> {
        self.ground
    }

    /// Drops its topics and its group; the next stage empties the tables.
    pub async fn end(self) -> Result<(), BenchError> {
        let topics = &self.config.kafka.topics;
        let names = [Some(&topics.campaigns), Some(&topics.notifications), topics.dead_letters.as_ref()];
        let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
        self.ground.drop_topics(&names).await?;
        self.ground.drop_group(&self.config.kafka.group_id).await
    }

    /// What the service's environment says otherwise than the user's configuration.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let Config { kafka, subscribers, feedback, .. } = &self.config;
        let mut variables = vec![
            ("DINNERBELL_KAFKA__GROUP_ID", kafka.group_id.clone()),
            ("DINNERBELL_KAFKA__START", "earliest".to_owned()),
            ("DINNERBELL_KAFKA__TOPICS__CAMPAIGNS", kafka.topics.campaigns.clone()),
            ("DINNERBELL_KAFKA__TOPICS__NOTIFICATIONS", kafka.topics.notifications.clone()),
            ("DINNERBELL_SUBSCRIBERS__URL", words(subscribers)),
            ("DINNERBELL_SUBSCRIBERS__TABLE", subscribers.table.to_string()),
            ("DINNERBELL_FEEDBACK__URL", words(feedback)),
            ("DINNERBELL_FEEDBACK__TABLE", feedback.table.to_string()),
            ("DINNERBELL_FANOUT__RATE_LIMIT", "0".to_owned()),
        ];
        let dead_letters = kafka.topics.dead_letters.clone();
        variables.extend(dead_letters.map(|topic| ("DINNERBELL_KAFKA__TOPICS__DEAD_LETTERS", topic)));
        variables
    }

    /// What must not be in its environment: passwords are in the connection strings, and nothing is to fail.
    pub fn removed_variables(&self) -> [&'static str; 5] {
        [
            "DINNERBELL_SUBSCRIBERS__PASSWORD",
            "DINNERBELL_SUBSCRIBERS__PASSWORD_FILE",
            "DINNERBELL_FEEDBACK__PASSWORD",
            "DINNERBELL_FEEDBACK__PASSWORD_FILE",
            "DINNERBELL_FAIL_POINT",
        ]
    }
}

fn own_table(table: &str) -> TableName {
    TableName { schema: SCHEMA.to_owned(), table: table.to_owned() }
}

fn few(database: &Database) -> Database {
    Database { max_connections: 4, ..database.clone() }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TOPICS)).operation_timeout(Some(TOPICS))
}

/// The outcome for the one thing that was asked for.
fn one<T>(outcomes: Vec<Result<T, (String, RDKafkaErrorCode)>>) -> Result<(), RDKafkaErrorCode> {
    outcomes.into_iter().next().map_or(Ok(()), |outcome| outcome.map(drop).map_err(|(_, code)| code))
}

/// What was written before is on the disks before something is measured, where this role may ask for it.
pub async fn settle(pool: &Pool) {
    if let Ok(connection) = pool.get().await
        && connection.batch_without_deadline("checkpoint").await.is_ok()
    {
        connection.release();
    }
}

async fn may_make_databases(pool: &Pool, missing: &mut Vec<String>) -> Result<(), BenchError> {
    let sql = "select rolcreatedb or rolsuper, rolname::text from pg_roles where rolname = current_user";
    let rows = pool.query(sql, &[]).await?;
    if let Some(row) = rows.first()
        && !row.get::<_, bool>(0)
    {
        let (address, role): (_, String) = (pool.address(), row.get(1));
        missing.push(format!(
            "{address}: `alter role \"{role}\" createdb`, or name a database that is nobody's with --database"
        ));
    }
    Ok(())
}

/// A database that was named must be free of our names, and allow schemas.
async fn may_use_database(pool: &Pool, name: &str, missing: &mut Vec<String>) -> Result<(), BenchError> {
    let sql = "select has_database_privilege(current_database(), 'CREATE'), current_user::text, \
               coalesce((select min(nspname)::text from pg_namespace where nspname = any($1)), '')";
    let rows = pool.query(sql, &[(&vec![LEDGER, SCHEMA], Type::TEXT_ARRAY)]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (may, role, taken): (bool, String, String) = (row.get(0), row.get(1), row.get(2));
    if !taken.is_empty() {
        return Err(BenchError::Failed(format!(
            "database {name} holds a schema {taken}, which the bench would drop: name a database that is nobody's, or drop that schema if a \
             bench that was killed left it"
        )));
    }
    if !may {
        missing.push(format!("{}: `grant create on database \"{name}\" to \"{role}\"`", pool.address()));
    }
    Ok(())
}

/// A connection string that says what a database's configuration came to.
fn words(database: &Database) -> String {
    let Database { connection, tls, .. } = database;
    let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(","));
    let hosts = connection.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    });
    let path = |path: &Path| path.display().to_string();
    let mode = match tls.mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    };
    let certificate = tls.client_cert.as_ref();
    let binding = match connection.get_channel_binding() {
        ChannelBinding::Disable => Some("disable"),
        ChannelBinding::Require => Some("require"),
        _ => None,
    };
    let writable = connection.get_target_session_attrs() == TargetSessionAttrs::ReadWrite;
    let direct = connection.get_ssl_negotiation() == SslNegotiation::Direct;
    let words = [
        ("user", connection.get_user().map(str::to_owned)),
        ("password", connection.get_password().map(|password| String::from_utf8_lossy(password).into_owned())),
        ("dbname", connection.get_dbname().map(str::to_owned)),
        ("host", list(hosts.collect())),
        ("hostaddr", list(connection.get_hostaddrs().iter().map(ToString::to_string).collect())),
        ("port", list(connection.get_ports().iter().map(ToString::to_string).collect())),
        ("options", connection.get_options().map(str::to_owned)),
        ("target_session_attrs", writable.then(|| "read-write".to_owned())),
        ("channel_binding", binding.map(str::to_owned)),
        ("sslnegotiation", direct.then(|| "direct".to_owned())),
        ("sslmode", Some(mode.to_owned())),
        ("sslrootcert", tls.root_cert.as_deref().map(path)),
        ("sslcert", certificate.map(|(certificate, _)| path(certificate))),
        ("sslkey", certificate.map(|(_, key)| path(key))),
    ];
    let quoted = |value: String| value.replace('\\', "\\\\").replace('\'', "\\'");
    let words = words.into_iter().filter_map(|(name, value)| Some(format!("{name}='{}'", quoted(value?))));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn configured(url: &str) -> Database {
        let variables = [
            ("DINNERBELL_KAFKA__BOOTSTRAP_SERVERS", "localhost:9092"),
            ("DINNERBELL_KAFKA__TOPICS__CAMPAIGNS", "in"),
            ("DINNERBELL_KAFKA__TOPICS__NOTIFICATIONS", "out"),
            ("DINNERBELL_SUBSCRIBERS__URL", url),
            ("DINNERBELL_FEEDBACK__URL", url),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        // A file that is there and says nothing: none of the usual ones is looked for.
        load(Some(Path::new("/dev/null")), variables.into_iter()).unwrap().feedback
    }

    #[test]
    fn a_database_written_as_words_is_the_same_database() {
        for url in [
            r"host=h1,h2 port=5432,5433 user='o''neil' password='a \\ b\' c' dbname=d sslmode=disable"
                .replace("''", r"\'"),
            "postgres://bell:s%40cret@localhost:6432/de?sslmode=require&channel_binding=disable".to_owned(),
            "postgres://bell@%2Frun%2Fpostgresql/de?options=-c%20work_mem%3D8MB".to_owned(),
        ] {
            let given = configured(&url);
            let again = configured(&words(&given));
            assert_eq!(again.connection, given.connection, "{url}");
            assert_eq!(again.tls.mode, given.tls.mode, "{url}");
        }
    }
}
