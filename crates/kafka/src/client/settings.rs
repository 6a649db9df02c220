//! The settings of each kind of client.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use dinnerbell_config as config;
use dinnerbell_config::kafka_client::Role;

/// What every client of ours sets unless the operator chooses otherwise.
pub(super) const DEFAULTS: &[(&str, &str)] = &[
    ("topic.metadata.refresh.interval.ms", "10000"),
    // A broker that comes back is found soon.
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
];

/// The settings of one client: `defaults` are what the operator may choose otherwise, `promises` are not.
pub fn settings(
    kafka: &config::Kafka,
    role: Role,
    name: &str,
    defaults: &[(&str, &str)],
    promises: &[(&str, &str)],
) -> ClientConfig {
    let promises = [promises, &[("allow.auto.create.topics", "false")]].concat();
    let mut settings = kafka.client_config_for(role, &[DEFAULTS, defaults].concat(), &promises);
    let id = settings.get("client.id").unwrap_or("dinnerbell").to_owned();
    settings.set("client.id", format!("{id}-{name}"));
    let debug = tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG);
    settings.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    settings
}

/// Which records a client that asks sees the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions.
    ReadCommitted,
    /// Those of open transactions too.
    ReadUncommitted,
}

/// The settings of a client that asks in the group's name and never joins it.
pub fn asking_settings(kafka: &config::Kafka, name: &str, isolation: Isolation) -> ClientConfig {
    let level = match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    let promises = [("group.id", kafka.group_id.as_str()), ("enable.auto.commit", "false"), ("isolation.level", level)];
    settings(kafka, Role::Consumer, name, &[], &promises)
}

/// Lets a client say which ids its topics have: librdkafka knows them, and tells nobody but its log.
///
/// Since Kafka 3.1 a fetch names the topic by its id, and the line is logged before a fetch names another one. So no record of a recreated topic
/// comes before the line that says so.
pub fn tell_topic_ids(settings: &mut ClientConfig) {
    let logged = matches!(settings.log_level, RDKafkaLogLevel::Debug);
    let asked = settings.get("debug").filter(|_| logged).map(str::to_owned);
    settings.set("debug", asked.map_or("metadata".to_owned(), |asked| format!("{asked},metadata")));
    settings.set_log_level(RDKafkaLogLevel::Debug);
}
