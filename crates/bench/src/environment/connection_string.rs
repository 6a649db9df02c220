//! A database's configuration as a connection string, for the environment of the service.

use std::path::Path;

use tokio_postgres::config::{ChannelBinding, Host, SslNegotiation, TargetSessionAttrs};

use dinnerbell_config::{Database, SslMode};

/// A connection string that says what a database's configuration came to.
pub fn words(database: &Database) -> String {
    let Database { connection, tls, .. } = database;
    let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(","));
    let hosts = connection.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    });
    let path = |path: &Path| path.display().to_string();
    let mode = match tls.mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    };
    let certificate = tls.client_cert.as_ref();
    let binding = match connection.get_channel_binding() {
        ChannelBinding::Disable => Some("disable"),
        ChannelBinding::Require => Some("require"),
        _ => None,
    };
    let writable = connection.get_target_session_attrs() == TargetSessionAttrs::ReadWrite;
    let direct = connection.get_ssl_negotiation() == SslNegotiation::Direct;
    let words = [
        ("user", connection.get_user().map(str::to_owned)),
        ("password", connection.get_password().map(|password| String::from_utf8_lossy(password).into_owned())),
        ("dbname", connection.get_dbname().map(str::to_owned)),
        ("host", list(hosts.collect())),
        ("hostaddr", list(connection.get_hostaddrs().iter().map(ToString::to_string).collect())),
        ("port", list(connection.get_ports().iter().map(ToString::to_string).collect())),
        ("options", connection.get_options().map(str::to_owned)),
        ("target_session_attrs", writable.then(|| "read-write".to_owned())),
        ("channel_binding", binding.map(str::to_owned)),
        ("sslnegotiation", direct.then(|| "direct".to_owned())),
        ("sslmode", Some(mode.to_owned())),
        ("sslrootcert", tls.root_cert.as_deref().map(path)),
        ("sslcert", certificate.map(|(certificate, _)| path(certificate))),
        ("sslkey", certificate.map(|(_, key)| path(key))),
    ];
    let quoted = |value: String| value.replace('\\', "\\\\").replace('\'', "\\'");
    let words = words.into_iter().filter_map(|(name, value)| Some(format!("{name}='{}'", quoted(value?))));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_config::load;

    fn configured(url: &str) -> Database {
        let variables = [
            ("DINNERBELL_KAFKA__BOOTSTRAP_SERVERS", "localhost:9092"),
            ("DINNERBELL_KAFKA__TOPICS__CAMPAIGNS", "in"),
            ("DINNERBELL_KAFKA__TOPICS__NOTIFICATIONS", "out"),
            ("DINNERBELL_SUBSCRIBERS__URL", url),
            ("DINNERBELL_FEEDBACK__URL", url),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        // A file that is there and says nothing: none of the usual ones is looked for.
        load(Some(Path::new("/dev/null")), variables.into_iter()).unwrap().feedback
    }

    #[test]
    fn a_database_written_as_words_is_the_same_database() {
        for url in [
            r"host=h1,h2 port=5432,5433 user='o''neil' password='a \\ b\' c' dbname=d sslmode=disable"
                .replace("''", r"\'"),
            "postgres://bell:s%40cret@localhost:6432/de?sslmode=require&channel_binding=disable".to_owned(),
            "postgres://bell@%2Frun%2Fpostgresql/de?options=-c%20work_mem%3D8MB".to_owned(),
        ] {
            let given = configured(&url);
            let again = configured(&words(&given));
            assert_eq!(again.connection, given.connection, "{url}");
            assert_eq!(again.tls.mode, given.tls.mode, "{url}");
        }
    }
}
