//! The brokers of a cluster, as far as a lane's producer needs them: who leads a partition, who coordinates, and connections that are lent.
//!
//! A connection is lent to one transaction at a time and comes back when all its requests were answered. In doubt it is dropped, so that
//! what is sent late can reach no later transaction of the same connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dinnerbell_net::foreign::harmless;
use dinnerbell_net::hedge::first_answer;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::dial::Dial;
use crate::error::{WireError, check};
use crate::security::Security;

mod admin;
mod brokers;
mod pool;
#[cfg(test)]
mod tests;
mod topics;

use brokers::Brokers;
use pool::Pool;
pub use topics::Topic;
use topics::Topics;

/// How long one broker may take to answer a question that any of them can answer.
const ASK: Duration = Duration::from_secs(3);
/// After how long without an answer another broker is asked beside it.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long a connection may lie idle before it is used again, unless the operator says otherwise: load balancers forget one after 240 s.
pub const MOST_IDLE: Duration = Duration::from_secs(200);

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
    /// For how long a connection may lie idle before it is used again.
    pub most_idle: Duration,
    /// Which addresses of a broker are taken, and how.
    pub dial: Dial,
}

/// What coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coordinator {
    /// A group's offsets.
    Group,
    /// A transactional id.
    Transaction,
}

/// A coordinator that was found.
#[derive(Debug)]
pub struct Found {
    /// Where it is.
    pub address: String,
    /// The broker that says so.
    pub told_by: String,
}

/// A cluster, shared by all lanes of an instance.
#[derive(Debug, Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: ClusterSettings,
    pool: Pool,
    brokers: Mutex<Brokers>,
    topics: Topics,
}

impl Cluster {
    /// Nothing is contacted yet.
    pub fn new(settings: ClusterSettings) -> Self {
        let brokers = Mutex::new(Brokers::new(&settings.bootstrap));
        let (pool, topics) = (Pool::new(settings.most_idle), Topics::default());
        Self { shared: Arc::new(Shared { settings, pool, brokers, topics }) }
    }

    /// A connection to this broker: one that lies idle, or a new one. Where that cannot be made, those that lie idle are dropped.
    pub async fn connection(&self, address: &str, deadline: Instant) -> Result<Connection, WireError> {
        let Shared { settings, pool, .. } = &*self.shared;
        if let Some(connection) = pool.take(address, settings.longest_use) {
            return Ok(connection);
        }
        let ClusterSettings { client_id, security, dial, .. } = settings;
        let opened = Connection::open(address, client_id, security, *dial, deadline).await;
        opened.inspect_err(|_| pool.forget(address))
    }

    /// Takes a connection back. One with requests under way is dropped.
    pub fn give_back(&self, connection: Connection) {
        if connection.pending() == 0 {
            self.shared.pool.put(connection);
        }
    }

    /// What these brokers said led to a failure: others are asked first from here on. What lies idle unproved is dropped, for it may have died in silence.
    pub fn distrust<'a>(&self, told_by: impl IntoIterator<Item = &'a str>) {
        let mut brokers = self.brokers();
        told_by.into_iter().for_each(|address| brokers.demote(address));
        drop(brokers);
        self.shared.pool.drop_unproven();
    }

    fn brokers(&self) -> MutexGuard<'_, Brokers> {
        self.shared.brokers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks any broker that answers; the request is made in the version that it speaks, from `least` to `most`. One that is silent holds up no other.
    /// Returns the answer, with the address.
    async fn ask_any<R: Request>(
        &self,
        doing: &'static str,
        versions: (i16, i16),
        request: impl Fn(i16) -> R,
        deadline: Instant,
    ) -> Result<(R::Response, String), WireError> {
        let addresses = self.brokers().all();
        let request = &request;
        let ask = |address: String| async move {
            let until = deadline.min(Instant::now() + ASK);
            match self.ask_one(doing, versions, request, &address, until).await {
                Ok(answer) => Ok((answer, address)),
                Err(error) => {
                    // What else lies idle there is as likely to be dead.
                    self.shared.pool.forget(&address);
                    self.brokers().demote(&address);
                    Err(error)
                }
            }
        };
        match first_answer(addresses, PATIENCE, ask).await {
            Ok((answer, address)) => {
                self.brokers().prefer(&address);
                Ok((answer, address))
            }
            Err(failed) => Err(what_failed(doing, failed)),
        }
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

    /// Where a coordinator is, as any broker says. One that knows none is asked last from here on.
    pub async fn coordinator(&self, of: Coordinator, key: &str, deadline: Instant) -> Result<Found, WireError> {
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
        let (code, message, host, port) = match answer.coordinators.first() {
            Some(found) => (found.error_code, &found.error_message, &found.host, found.port),
            None => (answer.error_code, &answer.error_message, &answer.host, answer.port),
        };
        check(DOING, &at, code, message.as_deref()).inspect_err(|_| self.brokers().demote(&at))?;
        Ok(Found { address: address_of(host, port), told_by: at })
    }
}

/// Why nobody gave an answer. A refusal counts only where all refuse: another broker may take us when it is there again.
fn what_failed(doing: &'static str, failed: Vec<WireError>) -> WireError {
    let (refusals, mut others): (Vec<_>, Vec<_>) = failed.into_iter().partition(WireError::is_refusal);
    match (others.pop(), refusals.into_iter().next()) {
        (Some(other), Some(refusal)) => WireError::Broken {
            doing,
            address: refusal.address().to_owned(),
            reason: format!("{refusal}; and no other broker answers: {other}"),
        },
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => WireError::Refused {
            doing,
            address: String::new(),
            reason: "kafka.bootstrap_servers names no broker".into(),
        },
    }
}

/// A topic's name as requests hold it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// `host:port`, an IPv6 address in brackets.
fn address_of(host: &str, port: i32) -> String {
    // No name of a host is so long, or holds such characters: it is only told as one that cannot be resolved.
    let host = harmless(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
