//! Configuration: raw TOML and environment become, once, values that are ready to use.
//!
//! [`keys`] is the one table of every key; [`settings`] gathers what was given (the file, the environment over it); [`check`] turns
//! that into a [`Config`] or into all its mistakes; [`show`] prints it without secrets.

pub mod address;
pub mod check;
pub mod http;
pub mod kafka_client;
pub mod keys;
pub mod mistake;
pub mod oauthbearer;
pub mod postgres_url;
pub mod secret;
pub mod settings;
pub mod show;
pub mod values;

#[cfg(test)]
mod tests;

use dinnerbell_core::model::number::Seconds;
use dinnerbell_token::Tokens;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use http::{Http, HttpTls, Token};
pub use kafka_client::Role;
pub use mistake::{ConfigErrors, Mistake};
pub use secret::Secret;
pub use settings::Settings;

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The Kafka cluster.
    pub kafka: Kafka,
    /// The database and table of the subscribers.
    pub subscribers: Database,
    /// The database and table of the feedback; the ledger is in it too.
    pub feedback: Database,
    /// How drafts are fanned out.
    pub fanout: Fanout,
    /// How long what is over is kept.
    pub retention: Retention,
    /// The HTTP endpoints.
    pub http: Http,
}

impl Config {
    /// How many connections to databases one instance has at most.
    pub fn database_connections(&self) -> usize {
        self.feedback.max_connections + self.subscribers.max_connections
    }
}

/// Loads the configuration: the file (`-c`, else dinnerbell.toml here, else /etc/dinnerbell/dinnerbell.toml, else none), then the
/// environment over it.
pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
    check::check(&Settings::gather(file, environment))
}

/// The environment of this process; what is not UTF-8 becomes a mistake when it is ours.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// `[kafka]`
#[derive(Clone)]
pub struct Kafka {
    /// `host:port`, comma separated.
    pub bootstrap_servers: String,
    /// PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
    pub security_protocol: String,
    /// Where the protocol is one of SASL.
    pub sasl: Option<Sasl>,
    /// PEM file of the private CA.
    pub ca_file: Option<PathBuf>,
    /// The consumer group; also names the transactional ids.
    pub group_id: String,
    /// Where a new lane begins.
    pub start: Start,
    /// The topics.
    pub topics: Topics,
    /// Further librdkafka settings, those that the promises rest on excluded.
    pub client: BTreeMap<String, String>,
}

/// How to log in to Kafka.
#[derive(Debug, Clone)]
pub enum Sasl {
    /// By a password.
    Password {
        /// SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN.
        mechanism: String,
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// By OAUTHBEARER: all clients made of this configuration, and of clones of it, share the tokens.
    Token(Tokens),
}

impl Kafka {
    /// The tokens with which to log in, where it is done by tokens.
    pub fn tokens(&self) -> Option<&Tokens> {
        match &self.sasl {
            Some(Sasl::Token(tokens)) => Some(tokens),
            _ => None,
        }
    }
}

/// Where a new lane begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// At the next record to come.
    Latest,
    /// At the first record of this time or later.
    At(Seconds),
}

/// `[kafka.topics]`
#[derive(Debug, Clone)]
pub struct Topics {
    /// Where campaigns arrive.
    pub campaigns: String,
    /// Where drafts go.
    pub notifications: String,
    /// Where dead letters go, besides the ledger.
    pub dead_letters: Option<String>,
}

/// `[subscribers]` or `[feedback]`
#[derive(Debug, Clone)]
pub struct Database {
    /// As libpq spells it, without sslmode, sslrootcert, sslcert, sslkey; the password is in it, so it is never printed.
    pub connection: tokio_postgres::Config,
    /// How the connection is secured.
    pub tls: PostgresTls,
    /// The table.
    pub table: TableName,
    /// Most transactions at once.
    pub max_connections: usize,
}

/// How a connection to Postgres is secured, as libpq's sslmode says it.
#[derive(Debug, Clone)]
pub struct PostgresTls {
    /// disable, prefer, require, verify-ca or verify-full.
    pub mode: SslMode,
    /// PEM file of the CA; none means the system's.
    pub root_cert: Option<PathBuf>,
    /// Client certificate and key, PEM files.
    pub client_cert: Option<(PathBuf, PathBuf)>,
}

/// libpq's sslmode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it.
    Prefer,
    /// TLS, any certificate (with a root certificate given: as verify-ca, like libpq).
    Require,
    /// TLS, certificate of a known CA.
    VerifyCa,
    /// TLS, certificate of a known CA for this host.
    VerifyFull,
}

/// `schema.table`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// Quoted for SQL.
    pub fn sql(&self) -> String {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// As an operator writes it in the configuration.
impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// `[fanout]`
#[derive(Debug, Clone)]
pub struct Fanout {
    /// Most drafts in one round.
    pub round_rows: usize,
    /// Whether those are told who subscribe while a campaign runs.
    pub late_subscribers: bool,
    /// Drafts a second for the whole instance; 0 is no limit.
    pub rate_limit: u64,
    /// Bytes for drafts in flight, all lanes together.
    pub memory_limit: usize,
}

/// `[retention]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rounds, and changes that were applied.
    pub rounds: Duration,
    /// Dead letters.
    pub dead_letters: Duration,
    /// Campaigns past their end.
    pub campaigns: Duration,
    /// Orders: who gave which.
    pub audit: Duration,
}
