//! The brokers of a cluster, as far as a lane's producer needs them: who leads a partition, who coordinates, and connections that are lent.
//!
//! A connection is lent to one transaction at a time and comes back when all its requests were answered. In doubt it is dropped, so that
//! what is sent late can reach no later transaction of the same connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::{WireError, check};
use crate::security::Security;

mod topics;

pub use topics::Topic;
use topics::Topics;

/// How long one question to any broker may take before another broker is asked.
const ASK: Duration = Duration::from_secs(3);
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

/// A cluster, shared by all lanes of an instance.
#[derive(Debug, Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ClusterSettings,
    idle: Mutex<HashMap<String, Vec<Connection>>>,
    /// Brokers by their addresses, the one that answered last first: asked before those that the settings name.
    brokers: Mutex<Vec<String>>,
    topics: Topics,
}

impl Cluster {
    /// Nothing is contacted yet.
    pub fn new(settings: ClusterSettings) -> Self {
        let (idle, brokers, topics) = (Mutex::default(), Mutex::default(), Topics::default());
        Self { shared: Arc::new(Shared { settings, idle, brokers, topics }) }
    }

    /// A connection to this broker: one that lies idle, or a new one. Where that cannot be made, those that lie idle are dropped.
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
        let mut idle = self.idle();
        let kept = idle.entry(connection.address().to_owned()).or_default();
        // Those that lay longest stand first: the one that was used last is lent next.
        kept.retain(|kept| !kept.lay_idle(MOST_IDLE));
        if kept.len() < MOST_KEPT {
            kept.push(connection);
        }
    }

    fn take_idle(&self, address: &str) -> Option<Connection> {
        self.idle().get_mut(address)?.pop()
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<String, Vec<Connection>>> {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn brokers(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.brokers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks any broker that answers; the request is made in the version that it speaks, from `least` to `most`. Returns the answer, with the
    /// address. Fails with what the first one said that refused, else the last.
    async fn ask_any<R: Request>(
        &self,
        doing: &'static str,
        (least, most): (i16, i16),
        request: impl Fn(i16) -> R,
        deadline: Instant,
    ) -> Result<(R::Response, String), WireError> {
        let mut addresses = self.brokers().clone();
        let named = self.shared.settings.bootstrap.iter().filter(|named| !addresses.contains(named));
        let named: Vec<String> = named.cloned().collect();
        addresses.extend(named);
        let mut failed: Option<WireError> = None;
        for address in &addresses {
            let until = deadline.min(Instant::now() + ASK);
            match self.ask_one(doing, (least, most), &request, address, until).await {
                Ok(answer) => {
                    self.prefer(address);
                    return Ok((answer, address.clone()));
                }
                Err(error) => {
                    // What else lies idle there is as likely to be dead.
                    self.idle().remove(address);
                    failed = Some(failed.filter(WireError::is_refusal).unwrap_or(error));
                }
            }
        }
        Err(failed.unwrap_or_else(|| WireError::Refused {
            doing,
            address: String::new(),
            reason: "kafka.bootstrap_servers names no broker".into(),
        }))
    }

    async fn ask_one<R: Request>(
        &self,
        doing: &'static str,
        (least, most): (i16, i16),
        request: &impl Fn(i16) -> R,
        address: &str,
        until: Instant,
    ) -> Result<R::Response, WireError> {
        let mut connection = self.connection(address, until).await?;
        let version = connection.version::<R>(doing, least, most)?;
        let answer = connection.ask_version(doing, &request(version), version, until).await?;
        self.give_back(connection);
        Ok(answer)
    }

    /// Asks this broker first from here on.
    fn prefer(&self, address: &str) {
        let mut brokers = self.brokers();
        if let Some(at) = brokers.iter().position(|known| known == address) {
            brokers[..=at].rotate_right(1);
        }
    }

    /// The brokers as they are now; who answered last stays first.
    fn know(&self, addresses: &BTreeMap<i32, String>) {
        let mut brokers = self.brokers();
        brokers.retain(|known| addresses.values().any(|address| address == known));
        for address in addresses.values() {
            if !brokers.contains(address) {
                brokers.push(address.clone());
            }
        }
    }

    /// The address of a coordinator, as any broker says.
    pub async fn coordinator(&self, of: Coordinator, key: &str, deadline: Instant) -> Result<String, WireError> {
        const DOING: &str = "finding a coordinator";
        let key_type = match of {
            Coordinator::Group => 0,
            Coordinator::Transaction => 1,
        };
        let key = StrBytes::from_string(key.to_owned());
        let request = |version| {
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            match version >= 4 {
                true => request.with_coordinator_keys(vec![key.clone()]),
                false => request.with_key(key.clone()),
            }
        };
        let (answer, at) = self.ask_any(DOING, (1, 4), request, deadline).await?;
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

/// A topic's name as requests hold it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// `host:port`, an IPv6 address in brackets.
fn address_of(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
