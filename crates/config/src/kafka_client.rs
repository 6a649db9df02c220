//! `[kafka.client]`: librdkafka's own settings, checked, and the configuration that every client of ours starts from.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::BaseProducer;

use super::{Kafka, Sasl, oauthbearer};
use dinnerbell_core::model::draft::LARGEST_MESSAGE;
use dinnerbell_net::foreign::without_secrets;

/// Which kind of client: some settings of librdkafka apply to one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It reads.
    Consumer,
    /// It writes.
    Producer,
}

/// Why nothing can be said about how messages are gathered.
const BATCHES: &str =
    "a round's messages are gathered by the service itself, in batches as large as the topic takes, and sent at once";

/// Settings that are refused, and why. A name that ends with a dot stands for all that begin with it.
const REFUSED: &[(&str, &str)] = &[
    ("transactional.id", "it names the lane: fencing rests on it"),
    (
        "transaction.timeout.ms",
        "it is 60 s: long enough for a full round, short enough for the readers that wait for it",
    ),
    ("isolation.level", "campaigns are read with read_committed"),
    ("enable.", "what is to be switched on or off is a part of the promises"),
    ("acks", "a draft is published when all replicas in sync have it"),
    ("request.required.acks", "a draft is published when all replicas in sync have it"),
    ("partitioner", "drafts are partitioned by key as the Java client does it"),
    ("client.rack", "the end of a partition is what its leader says, and a follower may be behind"),
    ("auto.offset.reset", "the position is the ledger's, never a default"),
    ("auto.commit.", "nothing is committed automatically: offsets are part of a round"),
    ("offset.store.", "nothing is committed automatically: offsets are part of a round"),
    ("group.id", "use kafka.group_id"),
    ("group.", "the group only assigns lanes, cooperatively, to members that come and go"),
    ("partition.assignment.strategy", "lanes are assigned cooperatively (cooperative-sticky)"),
    ("allow.auto.create.topics", "a missing topic is an error, never created by accident"),
    ("max.in.flight", "the order of a round's messages rests on it"),
    ("max.in.flight.requests.per.connection", "the order of a round's messages rests on it"),
    ("queuing.strategy", "the order of a round's messages rests on it"),
    ("message.send.max.retries", "a delivery is tried until its transaction ends"),
    ("retries", "a delivery is tried until its transaction ends"),
    ("message.timeout.ms", "a delivery is tried until its transaction ends"),
    ("delivery.timeout.ms", "a delivery is tried until its transaction ends"),
    ("delivery.report.only.error", "what is known of a delivery rests on it"),
    ("linger.ms", BATCHES),
    ("queue.buffering.", BATCHES),
    ("batch.", BATCHES),
    ("sticky.partitioning.linger.ms", BATCHES),
    ("request.timeout.ms", "a delivery is tried until its transaction ends"),
    ("ssl.providers", "a lane's producer uses the providers of OpenSSL's own configuration"),
    ("ssl.engine.", "a lane's producer uses no engines of OpenSSL: they are gone from its version 4"),
    (
        "client.dns.lookup",
        "brokers are addressed by the names that they are given: certificates are checked against these",
    ),
    ("topic.blacklist", "the topics are those of kafka.topics"),
    ("test.", "it puts a simulated cluster in the place of yours"),
    ("bootstrap.servers", "use kafka.bootstrap_servers"),
    ("metadata.broker.list", "use kafka.bootstrap_servers"),
    ("security.protocol", "use kafka.security_protocol"),
    ("sasl.username", "use kafka.username"),
    ("sasl.password", "use kafka.password or kafka.password_file"),
    ("sasl.", "use kafka.sasl_mechanism: SCRAM-SHA-512, SCRAM-SHA-256, PLAIN or OAUTHBEARER"),
    ("ssl.ca.location", "use kafka.ca_file"),
    ("ssl.ca.pem", "use kafka.ca_file"),
    ("log_level", "use the environment variable DINNERBELL_LOG, as librdkafka=debug"),
    ("log.queue", "logs go where those of the service go"),
];

/// Settings that only consumers know; producers would warn about them.
const CONSUMER_ONLY: &[&str] = &[
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "queued.min.messages",
    "queued.max.messages.kbytes",
    "fetch.wait.max.ms",
    "fetch.queue.backoff.ms",
    "fetch.message.max.bytes",
    "fetch.error.backoff.ms",
    "coordinator.query.interval.ms",
    "max.poll.interval.ms",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "check.crcs",
    "consume.callback.max.messages",
];

/// Settings that only producers know.
const PRODUCER_ONLY: &[&str] = &["compression.codec", "compression.level"];

/// Settings that both know: all that are worth to be suggested for a misspelt name.
const COMMON: &[&str] = &[
    "client.id",
    "message.max.bytes",
    "message.copy.max.bytes",
    "receive.message.max.bytes",
    "metadata.recovery.strategy",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.max.age.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.sparse",
    "topic.metadata.propagation.max.ms",
    "debug",
    "socket.timeout.ms",
    "socket.send.buffer.bytes",
    "socket.receive.buffer.bytes",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.max.fails",
    "socket.connection.setup.timeout.ms",
    "connections.max.idle.ms",
    "broker.address.ttl",
    "broker.address.family",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "statistics.interval.ms",
    "log.connection.close",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.crl.location",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.endpoint.identification.algorithm",
    "api.version.request.timeout.ms",
];

/// Two names for one setting: kept under the second, so that a setting of the user's never competes with one of ours.
const ALIASES: &[(&str, &str)] = &[
    ("compression.type", "compression.codec"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
];

/// The one name of a setting.
pub fn canonical(setting: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == setting).map_or(setting, |(_, name)| name)
}

/// Settings whose values are words: librdkafka takes them in any case, and with spaces around.
const WORDS: &[&str] =
    &["compression.codec", "broker.address.family", "socket.keepalive.enable", "ssl.endpoint.identification.algorithm"];

/// The value of a setting as every client of ours reads it.
pub fn normal(setting: &str, value: String) -> String {
    if WORDS.contains(&setting) { value.trim().to_ascii_lowercase() } else { value }
}

/// Whether the value of a setting may not be printed.
pub fn is_secret(setting: &str) -> bool {
    setting.contains("password")
        || setting.contains("secret")
        || setting.contains("passphrase")
        || setting.ends_with("key.pem")
}

/// Whether a setting may be given as `NAME_file`, and of which setting the file holds the value.
pub fn secret_of_file(setting: &str) -> Option<&str> {
    setting.strip_suffix("_file").filter(|setting| is_secret(setting))
}

/// Checks one setting: its name against the promises, name and value against librdkafka.
pub fn check(setting: &str, value: &str) -> Result<(), String> {
    if oauthbearer::NAMES.contains(&setting) {
        return oauthbearer::check(setting, value);
    }
    let refused = oauthbearer::REFUSED
        .iter()
        .chain(REFUSED)
        .find(|(name, _)| setting == *name || name.ends_with('.') && setting.starts_with(name));
    if let Some((_, reason)) = refused {
        return Err(format!("cannot be set here: {reason}"));
    }
    if setting == "message.max.bytes" && value.trim().parse().is_ok_and(|most| (1..LARGEST_MESSAGE).contains(&most)) {
        return Err(format!("must be at least {LARGEST_MESSAGE}, or the largest drafts cannot be sent"));
    }
    match ClientConfig::new().set(setting, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, problem, ..)) if problem.contains("No such configuration property") => {
            Err(format!("librdkafka has no such setting; the nearest is {}", nearest(setting)))
        }
        Err(_) if is_secret(setting) => Err("is refused by librdkafka".to_owned()),
        Err(KafkaError::ClientConfig(_, problem, ..)) => {
            Err(format!("is refused by librdkafka: {}", problem.trim_end()))
        }
        Err(_) => Err("must hold no NUL character".to_owned()),
    }
}

fn nearest(setting: &str) -> &'static str {
    let known = COMMON.iter().chain(CONSUMER_ONLY).chain(PRODUCER_ONLY);
    known.min_by_key(|name| strsim::damerau_levenshtein(setting, name)).copied().unwrap_or_default()
}

impl Kafka {
    /// The settings of one kind of client: our defaults; over them the user's settings, as far as this kind knows them; over them
    /// where the cluster is and how to log in, and what the promises rest on. The last two can never be the user's: those names are
    /// refused when the configuration is checked.
    pub fn client_config_for(&self, role: Role, defaults: &[(&str, &str)], promises: &[(&str, &str)]) -> ClientConfig {
        let foreign = match role {
            Role::Consumer => PRODUCER_ONLY,
            Role::Producer => CONSUMER_ONLY,
        };
        let mut config = ClientConfig::new();
        config.set("client.id", "dinnerbell");
        for (name, value) in defaults {
            config.set(canonical(name), *value);
        }
        for (name, value) in self.client.iter().filter(|(name, _)| !foreign.contains(&name.as_str())) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers).set("security.protocol", &self.security_protocol);
        if let Some(ca_file) = &self.ca_file {
            config.set("ssl.ca.location", ca_file.to_string_lossy());
        }
        match &self.sasl {
            Some(Sasl::Password { mechanism, username, password }) => {
                config
                    .set("sasl.mechanism", mechanism)
                    .set("sasl.username", username)
                    .set("sasl.password", password.reveal());
            }
            Some(Sasl::Token(_)) => drop(config.set("sasl.mechanism", oauthbearer::MECHANISM)),
            None => {}
        }
        for (name, value) in promises {
            config.set(canonical(name), *value);
        }
        config
    }

    /// Lets librdkafka judge the settings together, and read the files they name, by making clients that know no cluster.
    pub(super) fn try_clients(&self) -> Result<(), String> {
        let codec = self.client.get("compression.codec").map_or("lz4", String::as_str);
        let level = self.client.get("compression.level").filter(|level| level.trim() != "-1");
        if level.is_some() && !["gzip", "zstd"].contains(&codec) {
            return Err(format!("{codec} has no levels here: leave compression.level out, or take zstd or gzip"));
        }
        let without_cluster = |role, promises| {
            let mut config = self.client_config_for(role, &[("session.timeout.ms", "10000")], promises);
            config.remove("bootstrap.servers").set_log_level(RDKafkaLogLevel::Emerg);
            config
        };
        let transactional = [("transactional.id", "config-check"), ("transaction.timeout.ms", "60000")];
        let producer: KafkaResult<BaseProducer> = without_cluster(Role::Producer, &transactional).create();
        let consumer: KafkaResult<BaseConsumer> =
            without_cluster(Role::Consumer, &[("group.id", "config-check")]).create();
        match (producer, consumer) {
            (Err(KafkaError::ClientCreation(problem)), _) | (_, Err(KafkaError::ClientCreation(problem))) => {
                Err(problem)
            }
            (Err(error), _) | (_, Err(error)) => Err(format!("{error}")),
            (Ok(_), Ok(_)) => Ok(()),
        }
    }
}

/// The password is a [`super::Secret`]; the settings of librdkafka may hold others, so that their values are masked here.
impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&String, &String)| (name.clone(), shown(name, value));
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("security_protocol", &self.security_protocol)
            .field("sasl", &self.sasl)
            .field("ca_file", &self.ca_file)
            .field("group_id", &self.group_id)
            .field("start", &self.start)
            .field("topics", &self.topics)
            .field("client", &self.client.iter().map(shown).collect::<BTreeMap<_, _>>())
            .finish()
    }
}

/// The value of a setting as it may be printed: of an address what is no secret.
pub fn shown(setting: &str, value: &str) -> String {
    match setting {
        setting if is_secret(setting) => "***".to_owned(),
        setting if setting.ends_with(".url") => without_secrets(value),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
