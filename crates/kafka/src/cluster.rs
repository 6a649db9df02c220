//! How our own client (`dinnerbell_wire`) reaches the cluster, by the same configuration as those of librdkafka.

use std::fs;
use std::time::Duration;

use dinnerbell_config as config;
use dinnerbell_core::ports::broker::{BrokerError, transaction_time};
use dinnerbell_wire::cluster::{Cluster, ClusterSettings, MOST_IDLE};
use dinnerbell_wire::dial::{Dial, Family};
use dinnerbell_wire::security::{Sasl, Security, Tls, TlsSettings};

/// The cluster of a configuration; nothing is contacted. Fails where a file cannot be used.
pub fn cluster(kafka: &config::Kafka) -> Result<Cluster, BrokerError> {
    let tls = match kafka.security_protocol.ends_with("SSL") {
        true => Some(tls(kafka).map_err(|reason| BrokerError::Refused(format!("preparing TLS to Kafka: {reason}")))?),
        false => None,
    };
    let sasl = kafka.sasl.as_ref().map(|sasl| match sasl {
        config::Sasl::Password { mechanism, username, password } => Sasl::Password {
            mechanism: mechanism.clone(),
            username: username.clone(),
            password: password.reveal().to_owned(),
        },
        config::Sasl::Token(tokens) => Sasl::Token(tokens.clone()),
    });
    let name = kafka.client.get("client.id").map_or("dinnerbell", String::as_str);
    let bootstrap = kafka.bootstrap_servers.split(',').map(str::trim).filter(|server| !server.is_empty());
    Ok(Cluster::new(ClusterSettings {
        bootstrap: bootstrap.map(with_port).collect(),
        client_id: format!("{name}-producer"),
        security: Security { tls, sasl },
        longest_use: transaction_time(),
        most_idle: most_idle(kafka),
        dial: dial(kafka),
    }))
}

/// For how long a connection may lie idle; zero means for ever, as it does to librdkafka.
fn most_idle(kafka: &config::Kafka) -> Duration {
    match kafka.client.get("connections.max.idle.ms").and_then(|millis| millis.trim().parse().ok()) {
        None => MOST_IDLE,
        Some(0) => Duration::MAX,
        Some(millis) => Duration::from_millis(millis),
    }
}

fn dial(kafka: &config::Kafka) -> Dial {
    let chosen = |name: &str| kafka.client.get(name).map(String::as_str);
    Dial {
        family: match chosen("broker.address.family") {
            Some("v4") => Family::V4,
            Some("v6") => Family::V6,
            _ => Family::Any,
        },
        keepalive: !matches!(chosen("socket.keepalive.enable"), Some("false" | "f" | "0")),
    }
}

/// Where no port is named, it is Kafka's own.
fn with_port(server: &str) -> String {
    let host = server.rsplit_once("://").map_or(server, |(_, host)| host);
    let port = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    if port.is_some() { host.to_owned() } else { format!("{host}:9092") }
}

fn tls(kafka: &config::Kafka) -> Result<Tls, String> {
    let setting = |name: &str| kafka.client.get(name).cloned();
    let pem = |text: &str, file: &str| match (setting(text), setting(file)) {
        (Some(text), _) => Ok(Some(text.into_bytes())),
        (None, Some(file)) => read(&file).map(Some),
        (None, None) => Ok(None),
    };
    let roots = kafka.ca_file.as_ref().map(|file| read(&file.to_string_lossy())).transpose()?;
    let key_store = setting("ssl.keystore.location").map(|file| read(&file)).transpose()?;
    let key = pem("ssl.key.pem", "ssl.key.location")?;
    Tls::new(&TlsSettings {
        roots,
        certificates: pem("ssl.certificate.pem", "ssl.certificate.location")?,
        key: key.map(|key| (key, setting("ssl.key.password"))),
        key_store: key_store.map(|file| (file, setting("ssl.keystore.password").unwrap_or_default())),
        revoked: setting("ssl.crl.location"),
        ciphers: setting("ssl.cipher.suites"),
        curves: setting("ssl.curves.list"),
        signatures: setting("ssl.sigalgs.list"),
        any_name: setting("ssl.endpoint.identification.algorithm").is_some_and(|name| name == "none"),
    })
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{file}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(client: &[(&str, &str)]) -> config::Kafka {
        let topics = config::Topics { campaigns: "in".into(), notifications: "out".into(), dead_letters: None };
        config::Kafka {
            bootstrap_servers: "localhost:9092".into(),
            security_protocol: "PLAINTEXT".into(),
            sasl: None,
            ca_file: None,
            group_id: "dinnerbell".into(),
            start: config::Start::Earliest,
            topics,
            client: client.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn a_lanes_producer_obeys_the_settings_of_connections() {
        let unset = kafka(&[]);
        assert_eq!((most_idle(&unset), dial(&unset).family, dial(&unset).keepalive), (MOST_IDLE, Family::Any, true));
        let set = kafka(&[
            ("connections.max.idle.ms", "45000"),
            ("broker.address.family", "v4"),
            ("socket.keepalive.enable", "false"),
        ]);
        let idle = Duration::from_secs(45);
        assert_eq!((most_idle(&set), dial(&set).family, dial(&set).keepalive), (idle, Family::V4, false));
        assert_eq!(most_idle(&kafka(&[("connections.max.idle.ms", "0")])), Duration::MAX);
    }
}
