//! `dinnerbell demo`: the whole service on one machine, with nothing left of it afterwards.
//!
//! PostgreSQL is real, a cluster of the demo's own ([`cluster`]). Kafka is librdkafka's in-process mock broker, which forgets
//! transactional offsets, keeps aborted messages and holds 5 MB a partition. That is enough to look at, because the ledger is the
//! truth and a lane that runs undisturbed never asks Kafka for its mark again; it proves nothing, and the demo says so.

pub mod cluster;
pub mod compare;
pub mod messages;
pub mod sender;
pub mod show;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::service;
use crate::service::{ServiceError, Setup};
use cluster::{Cluster, Programs};
use dinnerbell_config::show as show_config;
use dinnerbell_config::{Config, Database, Secret, Settings, check};
use dinnerbell_core::shutdown::stopped;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::migrate;
use dinnerbell_postgres::migrate::Adopt;
use sender::Bell;
use show::{Screen, Show};

/// The topics, and how many partitions each has.
const TOPICS: [(&str, i32); 3] = [("promo.in", LANES), ("promo.out", 6), ("promo.in.dead", 1)];
/// Partitions of the campaigns topic.
const LANES: i32 = 2;
/// The in-process broker answers an empty fetch when the wait is over, whatever comes meanwhile.
const FETCH_WAIT: (&str, &str) = ("fetch.wait.max.ms", "10");
/// How long PostgreSQL may take to come up.
const COME_UP: Duration = Duration::from_secs(60);
/// How long the takeover of all lanes may take.
const TAKEOVER: Duration = Duration::from_secs(30);
/// How long it takes until the next campaign is rung.
const RING_AGAIN: Duration = Duration::from_secs(5);
/// The file of the token, in the demo's folder.
const TOKEN: &str = "token";
/// How often what is waited for is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something could not be set up, or did not come to an end.
    #[error("{0}")]
    Failed(String),
    /// The sinks differ.
    #[error("the two sinks differ: {0}")]
    Different(String),
    /// The service ended by itself.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<String> for DemoError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

impl From<dinnerbell_postgres::errors::PostgresError> for DemoError {
    fn from(error: dinnerbell_postgres::errors::PostgresError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// librdkafka's in-process broker with the demo's topics. It ends when it is dropped, on the thread that made it.
pub fn broker() -> KafkaResult<MockCluster<'static, DefaultProducerContext>> {
    let broker = MockCluster::new(1)?;
    for (topic, partitions) in TOPICS {
        broker.create_topic(topic, partitions, 1)?;
    }
    Ok(broker)
}

/// Runs the demo until the stop, or, if it is to run `once`, until the first campaigns are done.
pub async fn run(bootstrap_servers: &str, once_only: bool, stop: &watch::Sender<bool>) -> Result<(), DemoError> {
    let programs = Programs::find()?;
    let screen = Screen::on_stdout();
    let http =
        dinnerbell_config::address::free_port().map_err(|error| format!("no port of 127.0.0.1 is free: {error}"))?;
    let once = secret();
    if !once_only {
        screen.say(&format!(
            "The page: http://127.0.0.1:{http}/sign-in?once={once}\n(the link signs you in, once, in a few seconds)\n"
        ));
    }
    screen.say("starting PostgreSQL, a cluster of the demo's own");
    let mut cluster = Cluster::start(&programs)?;
    let servers = DemoServers {
        folder: cluster.folder().to_owned(),
        database: cluster.url(),
        bootstrap_servers: bootstrap_servers.to_owned(),
        http,
        once,
    };
    let played = tokio::select! {
        biased;
        ended = cluster.ended() => Err(DemoError::Failed(ended)),
        played = play(&servers, once_only, &screen, stop) => played,
    };
    let cleared = cluster.stop().await;
    if cleared.is_ok() {
        screen.say_at_the_end("stopped; nothing is left behind");
    }
    played.and(cleared.map_err(DemoError::Failed))
}

/// Where everything of this demo is.
struct DemoServers {
    folder: PathBuf,
    database: String,
    bootstrap_servers: String,
    /// The port of the page.
    http: u16,
    /// The secret of the link: it signs in once.
    once: String,
}

/// Characters that nobody guesses.
fn secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// What was set up: the configuration of the service, and our own way to its databases.
struct Scene {
    file: PathBuf,
    config: Config,
    /// The same as text, without secrets.
    shown: String,
    subscribers: Pool,
    feedback: Pool,
}

/// Sets up, runs the service, shows what it does, and stops it.
async fn play(servers: &DemoServers, once: bool, screen: &Screen, stop: &watch::Sender<bool>) -> Result<(), DemoError> {
    let mut asked = stop.subscribe();
    let early = || match once {
        true => Err(DemoError::Failed("stopped before the first campaigns were done".to_owned())),
        false => Ok(()),
    };
    let scene = tokio::select! {
        biased;
        () = stopped(&mut asked) => return early(),
        scene = set_up(servers, screen) => scene?,
    };
    let admits = Some(Secret::new(servers.once.clone()));
    let setup = Setup { config: scene.config.clone(), shown: scene.shown.clone(), admits };
    let mut service = pin!(service::run(setup, stop.subscribe()));
    let shown = tokio::select! {
        biased;
        ended = &mut service => {
            return ended.map_err(DemoError::from).and(Err("the service ended by itself".to_owned().into()));
        }
        () = stopped(&mut asked) => early(),
        shown = perform(servers, &scene, once, screen) => shown,
    };
    stop.send_replace(true);
    let ended = service.await;
    shown.and(ended.map_err(DemoError::from))
}

/// Waits for PostgreSQL, writes the configuration, makes the tables and fills the one of favourites.
async fn set_up(servers: &DemoServers, screen: &Screen) -> Result<Scene, DemoError> {
    let file = servers.folder.join("dinnerbell.toml");
    let write = |file: &Path, text: String| {
        std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
    };
    write(&servers.folder.join(TOKEN), secret())?;
    write(&file, configuration(servers))?;
    // The file alone: what this shell exports is meant for another service.
    let settings = Settings::gather(Some(&file), std::iter::empty());
    let config =
        check::check(&settings).map_err(|error| format!("the demo's own configuration is refused: {error}"))?;
    let shown = show_config::show(&settings);
    let few = |database: &Database| Database { max_connections: 2, ..database.clone() };
    let feedback = Pool::open(&few(&config.feedback), "feedback")?;
    let subscribers = Pool::open(&few(&config.subscribers), "subscribers")?;
    come_up(&feedback).await?;
    screen.say("making the tables, and some users who favour restaurants");
    let tell = |event: migrate::Event<'_>| {
        if let migrate::Event::Warning(text) = event {
            tracing::warn!("{text}");
        }
    };
    migrate::migrate(&config, true, &Adopt::No, &tell).await?;
    sender::seed(&subscribers).await?;
    Ok(Scene { file, config, shown, subscribers, feedback })
}

/// The configuration by which the demo runs, and by which other commands reach it.
fn configuration(servers: &DemoServers) -> String {
    let DemoServers { bootstrap_servers, database, http, .. } = servers;
    let [(campaigns, _), (notifications, _), (dead_letters, _)] = TOPICS;
    let (setting, value) = FETCH_WAIT;
    format!(
        "# The demo's own; gone when it ends.\n\
         [kafka]\nbootstrap_servers = \"{bootstrap_servers}\"\nsecurity_protocol = \"PLAINTEXT\"\n\
         [kafka.topics]\ncampaigns = \"{campaigns}\"\nnotifications = \"{notifications}\"\ndead_letters = \"{dead_letters}\"\n\
         [kafka.client]\n\"{setting}\" = {value}\n\
         [subscribers]\nurl = \"{database}\"\n\
         [feedback]\nurl = \"{database}\"\n\
         [http]\nlisten = \"127.0.0.1:{http}\"\ntoken_file = \"{TOKEN}\"\n"
    )
}

/// Waits until the database takes connections. Whether it ended instead is seen by who started it.
async fn come_up(feedback: &Pool) -> Result<(), DemoError> {
    let until = Instant::now() + COME_UP;
    loop {
        match feedback.query("select 1", &[]).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => {
                return Err(DemoError::Failed(format!("PostgreSQL did not come up: {error}")));
            }
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

/// Rings, shows, compares; then goes on showing unless it is `once`.
async fn perform(servers: &DemoServers, scene: &Scene, once: bool, screen: &Screen) -> Result<(), DemoError> {
    let counter = messages::Counter::default();
    let show = async {
        screen.say("starting the service");
        wait_for_takeover(&scene.feedback).await?;
        screen.say("ringing:");
        let bell = Bell::hang(&scene.config.kafka).await?;
        let rung = bell.ring().await?;
        let mut show = Show::new(screen, &scene.feedback, &scene.subscribers, &counter, rung);
        let lanes = show.first_campaigns().await?;
        agree(scene, &show, lanes).await?;
        screen.say(MODE);
        if once {
            return Ok(());
        }
        screen.say(&invitation(servers, scene));
        tokio::select! {
            never = ring_on(&bell) => never,
            () = show.go_on() => Ok(()),
        }
    };
    tokio::select! {
        biased;
        failed = messages::follow(&scene.config.kafka, &counter) => Err(DemoError::Failed(failed)),
        shown = show => shown,
    }
}

/// Rings one campaign after the other, of several sizes, for as long as the demo runs.
async fn ring_on(bell: &Bell) -> Result<(), DemoError> {
    for number in 0.. {
        sleep(RING_AGAIN).await;
        bell.ring_again(number).await?;
    }
    Ok(())
}

/// Waits until every lane was taken over: what is rung then shows how fast a campaign is, not how fast a group forms.
async fn wait_for_takeover(ledger: &Pool) -> Result<(), DemoError> {
    let until = Instant::now() + TAKEOVER;
    while show::lanes(ledger).await?.running < i64::from(LANES) {
        if Instant::now() >= until {
            return Err(DemoError::Failed(format!("the lanes were not taken over within {} s", TAKEOVER.as_secs())));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Compares both sinks draft by draft, and says what was found.
async fn agree(scene: &Scene, show: &Show<'_>, lanes: show::Lanes) -> Result<(), DemoError> {
    let rows = compare::rows(&scene.feedback).await?;
    let read = messages::read_all(&scene.config.kafka).await?;
    let found = compare::compare(&rows, &read, &show.rung);
    if !found.differences.is_empty() {
        return Err(DemoError::Different(found.differences.join("; ")));
    }
    show.screen.say(&format!(
        "both sinks agree: {} drafts, each one row and one message; {} campaigns told, {} sent twice and told once, \
         {} dead letter",
        found.drafts,
        show.rung.len(),
        lanes.duplicates,
        lanes.dead_letters
    ));
    if found.repeated > 0 {
        show.screen.say(&format!(
            "({} messages are there more than once: this broker keeps what was aborted, Kafka's readers would not see it)",
            found.repeated
        ));
    }
    Ok(())
}

/// What kind of Kafka this is.
const MODE: &str = "\
Kafka is librdkafka's in-process mock broker here: it forgets transactional offsets, keeps aborted messages and holds 5 MB a
partition. This shows the service; it proves nothing: `make test` runs against Apache Kafka.";

/// Addresses, and what to do with them.
fn invitation(servers: &DemoServers, scene: &Scene) -> String {
    let DemoServers { bootstrap_servers, database, .. } = servers;
    let folder = servers.folder.display();
    let (file, http) = (scene.file.display(), scene.config.http.listen);
    let table = scene.config.feedback.table.sql().replace('"', "");
    let [(campaigns, _), (notifications, _), (dead_letters, _)] = TOPICS;
    let program = std::env::args().next().unwrap_or_else(|| "dinnerbell".to_owned());
    let restaurant = sender::RESTAURANTS[1].id;
    format!(
        "
It runs until Ctrl-C, and rings a campaign every few seconds. The page is at http://{http} (signed in by the link at the beginning, or with the
token in {folder}/token). Kafka is at {bootstrap_servers}, metrics are at http://{http}/metrics. In another terminal:

  ring again     {program} campaign send -c {file} --restaurant {restaurant} --content 'Fig tart, 70% off' \\
                   --owner Me --contact me@example.com
  campaigns      {program} campaign list -c {file}
  lanes          {program} lane list -c {file}
  both sinks     {program} verify -c {file}
  messages       kcat -b {bootstrap_servers} -t {notifications} -C -e -o -5
  dead letters   kcat -b {bootstrap_servers} -t {dead_letters} -C -e -f '%s\\n%h\\n'
  by hand        kcat -b {bootstrap_servers} -t {campaigns} -P -k some-id   (then a campaign as JSON on one line)
  rows           psql '{database}' -c 'select * from {table} order by id desc limit 5'
"
    )
}
