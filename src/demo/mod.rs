//! `dinnerbell demo`: the whole service on one machine, with nothing left of it afterwards.
//!
//! PostgreSQL is real, a cluster of the demo's own ([`cluster`]). Kafka is librdkafka's in-process mock broker, which forgets
//! transactional offsets, keeps aborted messages and holds 5 MB a partition. That is enough to look at, because the ledger is the
//! truth and a lane that runs undisturbed never asks Kafka for its mark again; it is no proof of anything, and the demo says so.

pub mod bell;
pub mod cluster;
pub mod compare;
pub mod messages;
pub mod show;

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::config::{self, Config, Database};
use crate::postgres::connect::Pool;
use crate::postgres::migrate;
use crate::service::{self, ServiceError};
use cluster::{Cluster, Programs};
use show::{Screen, Show};

/// The topics, and how many partitions each has.
const TOPICS: [(&str, i32); 3] = [("promo.in", LANES), ("promo.out", 6), ("promo.in.dead", 1)];
/// Partitions of the campaigns topic.
const LANES: i32 = 2;
/// How long PostgreSQL may take to come up.
const COME_UP: Duration = Duration::from_secs(60);
/// How long the lanes may take to be entered.
const ENTER: Duration = Duration::from_secs(30);
/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);

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

impl From<crate::postgres::errors::PostgresError> for DemoError {
    fn from(error: crate::postgres::errors::PostgresError) -> Self {
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
pub async fn run(bootstrap_servers: &str, once: bool, stop: &watch::Sender<bool>) -> Result<(), DemoError> {
    let programs = Programs::find()?;
    let mut cluster = Cluster::start(&programs)?;
    let mut stopped = stop.subscribe();
    let played = tokio::select! {
        biased;
        ended = cluster.ended() => Err(DemoError::Failed(ended)),
        played = play(bootstrap_servers, once, stop) => played,
    };
    let _ = &mut stopped;
    let cleared = cluster.stop().await;
    played.and(cleared.map_err(DemoError::Failed))
}
