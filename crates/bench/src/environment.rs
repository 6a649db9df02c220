//! What the bench stands on: its database, tables, topics and groups. It is the one place that makes and drops.

mod connection_string;
mod databases;
mod disk_space;
mod rights;

pub use databases::Stage;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::time::Instant;
use tokio_postgres::types::Type;

use super::audience::{Audience, ClientId};
use super::error::BenchError;
use super::progress::{bar, tell};
use dinnerbell_config::{Config, Database, Start, TableName};
use dinnerbell_core::model::draft::{COPY_HEADER, COPY_TRAILER};
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_kafka as kafka;
use dinnerbell_kafka::cluster::cluster;
use dinnerbell_kafka::producer::explain;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::migrate;
use dinnerbell_postgres::migrate::Adopt;
use dinnerbell_wire::cluster::Cluster;
use dinnerbell_wire::error::{ResponseError, WireError};

/// The schema of the bench's own tables.
const SCHEMA: &str = "dinnerbell_bench";
/// The ledger's schema.
const LEDGER: &str = "dinnerbell";
/// How long the cluster may take to make or drop topics.
const TOPICS: Duration = Duration::from_secs(30);
/// How long a group may take to be empty: a member that was killed counts until its session ends.
const GROUP_ENDS: Duration = Duration::from_secs(20);
/// How often it is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long it may take to drop what is in the database.
const DROP: Duration = Duration::from_secs(60);
/// How many subscribers are made in one transaction, and in one frame of COPY.
const PORTION: usize = 500_000;
/// See [`PORTION`].
const FRAME: usize = 2_000;

/// Ends what a measurement that was stopped left running, which would go on or stand in the way.
const END_STATEMENTS: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where usename = current_user and pid <> pg_backend_pid() and application_name = 'dinnerbell' \
    and (query = $1 or datname = current_database() and position($2 in query) > 0)";

/// Where the bench makes what it needs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The file by which the service is configured, as it was named.
    pub file: Option<PathBuf>,
    /// What the names of topics and groups begin with.
    pub prefix: String,
    /// An existing database to use instead of one of the bench's own.
    pub database: Option<String>,
    /// Partitions of the topic of drafts.
    pub partitions: i32,
}

/// What the bench and the service spoke with.
#[derive(Debug, Serialize)]
pub struct Servers {
    /// The version of PostgreSQL.
    pub postgres: String,
    /// How many brokers the cluster has.
    pub kafka_brokers: usize,
}

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
    setup: &'a Setup,
    /// As the user gave it: where the servers are.
    given: Config,
    /// The same in the bench's database, with its tables.
    config: Config,
    cluster: Cluster,
    stages: AtomicU32,
    seeded: tokio::sync::Mutex<BTreeSet<String>>,
    made: Mutex<Made>,
}

impl<'a> Ground<'a> {
    /// Contacts nobody.
    pub fn new(given: Config, setup: &'a Setup) -> Result<Self, BenchError> {
        let cluster = cluster(&given.kafka)?;
        let mut config = given.clone();
        let database = setup.database.clone().unwrap_or_else(|| setup.prefix.replace('-', "_"));
        config.feedback.connection.dbname(database);
        // The replica may be read-only: the audience is read where the feedback is written.
        config.subscribers = config.feedback.clone();
        config.subscribers.table = own_table("subscribers_restaurants");
        config.feedback.table = own_table("subscribers_feedback");
        config.kafka.start = Start::Earliest;
        // The limits are to be found, not the operator's own.
        config.fanout.rate_limit = 0;
        Ok(Self {
            setup,
            given,
            config,
            cluster,
            stages: AtomicU32::new(0),
            seeded: tokio::sync::Mutex::default(),
            made: Mutex::default(),
        })
    }

    /// Looks at all rights first, then makes the database and the tables. Returns what the servers are.
    pub async fn prepare(&self) -> Result<Servers, BenchError> {
        tell(&format!("preparing database {} and topics {}.*", self.database(), self.setup.prefix));
        let given = Pool::open(&few(&self.given.feedback), "feedback")?;
        let version = given.query("select current_setting('server_version')", &[]).await?;
        let mut missing = Vec::new();
        self.may_make_topics(&mut missing).await?;
        let own = Pool::open(&few(&self.config.feedback), "feedback")?;
        match &self.setup.database {
            None => rights::may_make_databases(&given, &mut missing).await?,
            Some(name) => rights::may_use_database(&own, name, &mut missing).await?,
        }
        if !missing.is_empty() {
            return Err(BenchError::Rights(missing));
        }
        if self.setup.database.is_none() {
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
        Ok(Servers { postgres, kafka_brokers: self.brokers().await? })
    }

    /// Makes topics for one run of the service, and empties the tables.
    pub async fn stage(&self, lanes: i32) -> Result<Stage<'_>, BenchError> {
        let name = format!("{}.{}", self.setup.prefix, self.stages.fetch_add(1, Ordering::Relaxed) + 1);
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
        self.make_topic(&config.kafka.topics.notifications, self.setup.partitions).await?;
        self.will_make_group(&name);
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

    /// Makes the subscribers of a restaurant, unless they are there.
    pub async fn seed(&self, audience: &Audience) -> Result<(), BenchError> {
        let mut seeded = self.seeded.lock().await;
        if seeded.contains(&audience.restaurant) {
            return Ok(());
        }
        let table = self.config.subscribers.table.sql();
        let pool = Pool::open(&few(&self.config.subscribers), "subscribers")?;
        let bar = bar("making subscribers", audience.subscribers);
        let mut clients = audience.clients();
        loop {
            let made = copy_subscribers(&pool, &table, audience, clients.by_ref().take(PORTION)).await?;
            bar.inc(made as u64);
            if made < PORTION {
                break;
            }
        }
        bar.finish_and_clear();
        // As in a table that is not new: statistics, and an index that need not look at the table.
        let connection = pool.get().await?;
        connection.batch_without_deadline(&format!("vacuum (analyze) {table}")).await?;
        connection.release();
        seeded.insert(audience.restaurant.clone());
        Ok(())
    }

    /// How the user configured the service.
    pub fn given(&self) -> &Config {
        &self.given
    }

    /// The table of the roofline, with the same columns and indexes as that of the feedback.
    pub fn roofline(&self) -> String {
        own_table("roofline").sql()
    }

    /// Makes a topic with the brokers' usual number of replicas.
    pub async fn make_topic(&self, name: &str, partitions: i32) -> Result<(), BenchError> {
        self.made().topics.insert(name.to_owned());
        let made = self.cluster.make_topic(name, partitions, false, Instant::now() + TOPICS).await;
        Ok(made.map_err(|error| explain(&format!("making topic {name}"), &error))?)
    }

    /// Drops topics.
    pub async fn drop_topics(&self, names: &[&str]) -> Result<(), BenchError> {
        for name in names {
            match self.cluster.drop_topic(name, Instant::now() + TOPICS).await {
                Err(error) if !error.is_unknown_topic() => {
                    return Err(explain(&format!("dropping topic {name}"), &error).into());
                }
                Ok(()) | Err(_) => drop(self.made().topics.remove(*name)),
            }
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

    /// Remembers a group that comes into being, to drop it at the end.
    pub fn will_make_group(&self, name: &str) {
        self.made().groups.insert(name.to_owned());
    }

    /// Drops a group, once it is empty.
    pub async fn drop_group(&self, name: &str) -> Result<(), BenchError> {
        let until = Instant::now() + GROUP_ENDS;
        loop {
            let dropped = self.cluster.drop_group(name, Instant::now() + TOPICS).await;
            match dropped.as_ref().err().map(WireError::code) {
                None | Some(Some(ResponseError::GroupIdNotFound)) => break,
                Some(Some(ResponseError::NonEmptyGroup)) if Instant::now() < until => {
                    tokio::time::sleep(POLL_INTERVAL).await
                }
                Some(_) => dropped.map_err(|error| explain(&format!("dropping group {name}"), &error))?,
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
        Ok(migrate::migrate(config, create_tables, &Adopt::No, &tell).await?)
    }

    /// Whether topics may be made; makes none.
    async fn may_make_topics(&self, missing: &mut Vec<String>) -> Result<(), BenchError> {
        let prefix = &self.setup.prefix;
        kafka::contact(&self.given.kafka).await?;
        let name = format!("{prefix}.0.in");
        let tried = self.cluster.make_topic(&name, 1, true, Instant::now() + TOPICS).await;
        use ResponseError::{ClusterAuthorizationFailed, TopicAuthorizationFailed};
        match tried.as_ref().err().and_then(WireError::code) {
            Some(TopicAuthorizationFailed | ClusterAuthorizationFailed) => {
                missing.push(format!(
                    "kafka: allow this user Create, Describe, Read, Write and Delete on topics, Read and Delete on groups, and Write on \
                     transactional ids that begin with {prefix}. (prefixed; --prefix chooses the name)"
                ));
                return Ok(());
            }
            _ => tried.map_err(|error| explain("asking whether topics may be made", &error))?,
        }
        match kafka::may_transact(&self.given.kafka, format!("{prefix}.0/{name}/0")).await {
            Err(BrokerError::Refused(_)) => {
                missing.push(format!(
                    "kafka: allow this user Write on transactional ids that begin with {prefix}. (prefixed)"
                ));
                Ok(())
            }
            other => Ok(other?),
        }
    }

    async fn brokers(&self) -> Result<usize, BenchError> {
        let counted = self.cluster.broker_count(Instant::now() + TOPICS).await;
        Ok(counted.map_err(|error| explain("asking for the brokers", &error))?)
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

/// Writes subscribers in one transaction. Returns how many there were.
async fn copy_subscribers(
    pool: &Pool,
    table: &str,
    audience: &Audience,
    clients: impl Iterator<Item = ClientId>,
) -> Result<usize, BenchError> {
    let transaction = pool.begin("").await?;
    let sql = format!("copy {table} (client_id, restaurant_id) from stdin (format binary)");
    let mut copy = transaction.copy_in(&sql).await?;
    let mut frame = BytesMut::from(COPY_HEADER.as_slice());
    let mut made = 0;
    for client in clients {
        audience.row(&client, &mut frame);
        made += 1;
        if made % FRAME == 0 {
            copy.send(frame.split().freeze()).await?;
        }
    }
    frame.extend_from_slice(&COPY_TRAILER);
    copy.send(Bytes::from(frame)).await?;
    copy.finish().await?;
    transaction.commit().await?;
    Ok(made)
}

fn own_table(table: &str) -> TableName {
    TableName { schema: SCHEMA.to_owned(), table: table.to_owned() }
}

fn few(database: &Database) -> Database {
    Database { max_connections: 4, ..database.clone() }
}

/// What was written before is on the disks before something is measured, where this role may ask for it.
pub async fn settle(pool: &Pool) {
    if let Ok(connection) = pool.get().await
        && connection.batch_without_deadline("checkpoint").await.is_ok()
    {
        connection.release();
    }
}
