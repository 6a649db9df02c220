//! The brokers of a cluster, as far as a lane's producer needs them: who leads a partition, who coordinates, and connections that are lent.
//!
//! A connection is lent to one transaction at a time and comes back when all its requests were answered. In doubt it is dropped, so that
//! what is sent late can reach no later transaction of the same connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::{WireError, check};
use crate::security::Security;

/// How long one question to a broker may take.
pub const ASK: Duration = Duration::from_secs(5);
/// For how long a connection may lie idle before it is used again: half of what brokers allow by default.
const MOST_IDLE: Duration = Duration::from_secs(300);
/// Most connections to one broker that are kept while nobody uses them.
const MOST_KEPT: usize = 16;

/// Where a cluster is, and how it is reached.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// `host:port` of some brokers.
    pub bootstrap: Vec<String>,
    /// How we name ourselves to them.
    pub client_id: String,
    /// TLS and log-in.
    pub security: Security,
    /// How long a borrower may need a connection: one whose log-in ends before is not lent.
    pub longest_use: Duration,
}

/// What coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coordinator {
    /// A group's offsets.
    Group,
    /// A transactional id.
    Transaction,
}

/// A topic as the brokers described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id (KIP-516); none where the brokers know none.
    pub id: Option<Uuid>,
    /// The leader of each partition, by its number; none where there is no leader.
    pub leaders: Vec<Option<String>>,
}

/// A cluster, shared by all lanes of an instance.
#[derive(Debug, Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ClusterSettings,
    idle: Mutex<HashMap<String, Vec<Connection>>>,
    /// The brokers by their addresses, as they were described last: asked when no bootstrap broker answers.
    brokers: Mutex<Vec<String>>,
}

impl Cluster {
    /// Nothing is contacted yet.
    pub fn new(settings: ClusterSettings) -> Self {
        Self { shared: Arc::new(Shared { settings, idle: Mutex::default(), brokers: Mutex::default() }) }
    }

    /// A connection to this broker: one that lies idle, or a new one.
    pub async fn connection(&self, address: &str, deadline: Instant) -> Result<Connection, WireError> {
        let settings = &self.shared.settings;
        while let Some(mut connection) = self.take_idle(address) {
            if connection.is_fit_for(settings.longest_use, MOST_IDLE) {
                return Ok(connection);
            }
        }
        Connection::open(address, &settings.client_id, &settings.security, deadline).await
    }

    /// Takes a connection back. One with requests under way is dropped.
    pub fn give_back(&self, connection: Connection) {
        if connection.pending() > 0 {
            return;
        }
        let mut idle = self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(connection.address().to_owned()).or_default();
        if kept.len() < MOST_KEPT {
            kept.push(connection);
        }
    }

    fn take_idle(&self, address: &str) -> Option<Connection> {
        // The one that was used last: the others grow old and go.
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(address)?.pop()
    }

    /// A connection to any broker that answers. Fails with what the last one said.
    async fn any(&self, deadline: Instant) -> Result<Connection, WireError> {
        let mut addresses = self.shared.settings.bootstrap.clone();
        addresses.extend(self.shared.brokers.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        let mut last = None;
        for address in &addresses {
            match self.connection(address, deadline.min(Instant::now() + ASK)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| WireError::Refused {
            doing: "connecting",
            address: String::new(),
            reason: "kafka.bootstrap_servers names no broker".into(),
        }))
    }

    /// Topics as the brokers describe them now, in the order asked for. Fails where one is not there, or may not be described.
    pub async fn topics(&self, names: &[&str], deadline: Instant) -> Result<Vec<Topic>, WireError> {
        const DOING: &str = "describing topics";
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(false);
        let mut connection = self.any(deadline).await?;
        let answer = connection.ask(DOING, &request, 12, deadline).await?;
        connection.throttle(answer.throttle_time_ms);
        let brokers: BTreeMap<i32, String> =
            answer.brokers.iter().map(|broker| (broker.node_id.0, address_of(&broker.host, broker.port))).collect();
        *self.shared.brokers.lock().unwrap_or_else(PoisonError::into_inner) = brokers.values().cloned().collect();
        let address = connection.address().to_owned();
        self.give_back(connection);
        names.iter().map(|name| described(&answer, &brokers, name, &address)).collect()
    }

    /// The address of a coordinator. Waits for one that is not there yet, until the deadline.
    pub async fn coordinator(&self, of: Coordinator, key: &str, deadline: Instant) -> Result<String, WireError> {
        const DOING: &str = "finding a coordinator";
        let key_type = match of {
            Coordinator::Group => 0,
            Coordinator::Transaction => 1,
        };
        let key = StrBytes::from_string(key.to_owned());
        let mut connection = self.any(deadline).await?;
        let version = connection.version::<FindCoordinatorRequest>(DOING, 1, 4)?;
        let request = FindCoordinatorRequest::default().with_key_type(key_type);
        let request = match version >= 4 {
            true => request.with_coordinator_keys(vec![key]),
            false => request.with_key(key),
        };
        let answer = connection.ask_version(DOING, &request, version, deadline).await?;
        connection.throttle(answer.throttle_time_ms);
        let at = connection.address().to_owned();
        self.give_back(connection);
        match answer.coordinators.first() {
            Some(found) => {
                check(DOING, &at, found.error_code, found.error_message.as_deref())?;
                Ok(address_of(&found.host, found.port))
            }
            None => {
                check(DOING, &at, answer.error_code, answer.error_message.as_deref())?;
                Ok(address_of(&answer.host, answer.port))
            }
        }
    }
}

fn described(
    answer: &MetadataResponse,
    brokers: &BTreeMap<i32, String>,
    name: &str,
    address: &str,
) -> Result<Topic, WireError> {
    let is_it = |topic: &&MetadataResponseTopic| topic.name.as_ref().is_some_and(|found| found.0.as_str() == name);
    let missing = || WireError::Answered {
        doing: "describing topics",
        address: address.to_owned(),
        code: ResponseError::UnknownTopicOrPartition,
        message: Some(name.to_owned()),
    };
    let topic = answer.topics.iter().find(is_it).ok_or_else(missing)?;
    check("describing topics", address, topic.error_code, Some(name))?;
    let mut leaders = vec![None; topic.partitions.len()];
    for partition in &topic.partitions {
        let leader = brokers.get(&partition.leader_id.0).cloned();
        if let Some(place) = usize::try_from(partition.partition_index).ok().and_then(|index| leaders.get_mut(index)) {
            *place = leader;
        }
    }
    Ok(Topic { id: (!topic.topic_id.is_nil()).then_some(topic.topic_id), leaders })
}

/// A topic's name as requests hold it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// `host:port`, an IPv6 address in brackets.
fn address_of(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
