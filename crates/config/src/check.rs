//! What was given becomes, once, values that are ready to use; every mistake is found before the first is reported.

mod http;
mod log_in;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openssl::pkey::PKey;
use openssl::x509::X509;

use super::keys::{CLIENT, Fallback, Key, KeyKind};
use super::mistake::{Mistake, Origin};
use super::postgres_url::{self, ConnectionString};
use super::settings::{Given, Settings};
use super::{
    Config, ConfigErrors, Database, Fanout, Kafka, PostgresTls, Retention, Secret, Topics, kafka_client, oauthbearer,
    secret, values,
};

/// Checks everything that was given.
pub fn check(settings: &Settings) -> Result<Config, ConfigErrors> {
    let mut reader = Reader { settings, mistakes: settings.mistakes().to_vec() };
    let (kafka, subscribers, feedback) = (reader.kafka(), reader.database("subscribers"), reader.database("feedback"));
    let (fanout, retention, http) = (reader.fanout(), reader.retention(), reader.http());
    let feedback = feedback.map(|mut feedback| {
        postgres_url::prefer_writable(&mut feedback.connection);
        feedback
    });
    match (kafka, subscribers, feedback, fanout, retention, http) {
        (Some(kafka), Some(subscribers), Some(feedback), Some(fanout), Some(retention), Some(http))
            if reader.mistakes.is_empty() =>
        {
            Ok(Config { kafka, subscribers, feedback, fanout, retention, http })
        }
        _ => {
            // As they stand in the file, then those of the environment, then what is missing.
            reader.mistakes.sort_by_key(|mistake| match mistake.origin {
                Some(Origin::File { line, .. }) => (0, line),
                Some(_) => (1, 0),
                None => (2, 0),
            });
            Err(ConfigErrors(reader.mistakes))
        }
    }
}

/// Reads keys one after the other and collects the mistakes. A method returns none only where there is one.
struct Reader<'a> {
    settings: &'a Settings,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn kafka(&mut self) -> Option<Kafka> {
        let bootstrap_servers = self.parsed("kafka.bootstrap_servers", values::bootstrap_servers);
        let security_protocol = self.choice("kafka.security_protocol");
        let protocol = security_protocol.clone().unwrap_or_default();
        let (client, tokens) = self.client().unzip();
        let sasl = self.sasl(&protocol, tokens.as_ref());
        let ca_file = self.ca_file(&protocol);
        let group_id = self.parsed("kafka.group_id", values::group);
        let start = self.parsed("kafka.start", values::start);
        let topics = self.topics();
        let kafka = Kafka {
            bootstrap_servers: bootstrap_servers?,
            security_protocol: security_protocol?,
            sasl: sasl?,
            ca_file: ca_file?,
            group_id: group_id?,
            start: start?,
            topics: topics?,
            client: client?,
        };
        match kafka.try_clients() {
            Ok(()) => Some(kafka),
            Err(problem) => self.wrong(CLIENT, None, format!("these settings do not go together: {problem}")),
        }
    }

    fn ca_file(&mut self, protocol: &str) -> Option<Option<PathBuf>> {
        if matches!(protocol, "PLAINTEXT" | "SASL_PLAINTEXT") {
            self.needless("kafka.ca_file", "needs kafka.security_protocol = \"SASL_SSL\" (or SSL)");
        }
        let Some(given) = self.settings.get("kafka.ca_file") else { return Some(None) };
        let path = given.origin.resolve(&given.text);
        match certificates(&path) {
            Ok(()) => Some(Some(path)),
            Err(problem) => self.wrong("kafka.ca_file", Some(&given.origin), problem),
        }
    }

    fn topics(&mut self) -> Option<Topics> {
        let campaigns = self.parsed("kafka.topics.campaigns", values::topic);
        let notifications = self.parsed("kafka.topics.notifications", values::topic);
        let dead_letters = self.optional("kafka.topics.dead_letters", values::topic);
        let others = [
            ("kafka.topics.notifications", notifications.clone(), campaigns.clone(), "campaigns"),
            ("kafka.topics.dead_letters", dead_letters.clone().flatten(), campaigns.clone(), "campaigns"),
            ("kafka.topics.dead_letters", dead_letters.clone().flatten(), notifications.clone(), "notifications"),
        ];
        for (name, topic, other, word) in others {
            if topic.is_some() && topic == other {
                let origin = self.settings.get(name).map(|given| &given.origin);
                self.wrong::<()>(name, origin, format!("must not be the topic of kafka.topics.{word}"));
            }
        }
        Some(Topics { campaigns: campaigns?, notifications: notifications?, dead_letters: dead_letters? })
    }

    /// The settings of librdkafka, and those of OAUTHBEARER, which it never sees.
    fn client(&mut self) -> Option<(BTreeMap<String, String>, BTreeMap<String, String>)> {
        let mut client: BTreeMap<String, (String, &Origin)> = BTreeMap::new();
        let before = self.mistakes.len();
        for (setting, given) in self.settings.client() {
            let key = format!("{CLIENT}.{setting}");
            let (name, value) = match kafka_client::secret_of_file(setting) {
                None => (setting.as_str(), Ok(given.text.clone())),
                Some(name) => (name, secret::read(&given.origin.resolve(&given.text))),
            };
            // Paths start at the folder of the file here too.
            let value = match name.ends_with(".location") {
                true => value.map(|path| given.origin.resolve(&path).to_string_lossy().into_owned()),
                false => value,
            };
            let name = kafka_client::canonical(name);
            let value = value.map(|value| kafka_client::normal(name, value));
            let checked = value.and_then(|value| kafka_client::check(name, &value).map(|()| value));
            match (checked, client.get(name)) {
                (Err(problem), _) => self.wrong(&key, Some(&given.origin), problem).unwrap_or(()),
                (Ok(_), Some((_, other))) if other.same_layer(&given.origin) => {
                    let problem = format!("is given twice: {name} has two names, or a value and a file");
                    self.wrong(&key, Some(&given.origin), problem).unwrap_or(())
                }
                (Ok(_), Some((_, Origin::Environment(_)))) => {}
                (Ok(value), _) => drop(client.insert(name.to_owned(), (value, &given.origin))),
            }
        }
        let settings = client.into_iter().map(|(name, (value, _))| (name, value));
        let settings = settings.partition(|(name, _)| !oauthbearer::NAMES.contains(&name.as_str()));
        (self.mistakes.len() == before).then_some(settings)
    }

    fn database(&mut self, section: &str) -> Option<Database> {
        let table = self.parsed(&format!("{section}.table"), values::table);
        let max_connections = self.integer(&format!("{section}.max_connections"));
        let connection = self.connection(section);
        let (connection, tls) = connection?;
        Some(Database { connection, tls, table: table?, max_connections: usize::try_from(max_connections?).ok()? })
    }

    fn connection(&mut self, section: &str) -> Option<(tokio_postgres::Config, PostgresTls)> {
        let name = format!("{section}.url");
        let password = self.secret(&format!("{section}.password"), |text| Ok(text.to_owned()));
        let given = self.given(&name)?;
        let parsed = match ConnectionString::parse(&given.text) {
            Ok(parsed) => parsed,
            Err(problem) => return self.wrong(&name, Some(&given.origin), problem),
        };
        let (mut connection, tls) = match parsed.resolve(&given.origin) {
            Ok(resolved) => resolved,
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.wrong(&name, Some(&given.origin), problem).unwrap_or(()));
                return None;
            }
        };
        self.certificates_of(&name, &given.origin, &tls);
        if let Some((password, origin)) = password?.map(|password| (password, self.origin_of_secret(section))) {
            match origin {
                Some(origin) if parsed.has_password() && origin.same_layer(&given.origin) => {
                    let problem =
                        format!("holds a password, and {section}.password or password_file is given too: keep one");
                    return self.wrong(&name, Some(&given.origin), problem);
                }
                // The URL of the environment stands over the password of the file.
                Some(Origin::File { .. }) if parsed.has_password() => {}
                _ => drop(connection.password(password.reveal())),
            }
        }
        Some((connection, tls))
    }

    fn origin_of_secret(&self, section: &str) -> Option<&Origin> {
        ["password", "password_file"]
            .iter()
            .find_map(|word| self.settings.get(&format!("{section}.{word}")))
            .map(|given| &given.origin)
    }

    fn certificates_of(&mut self, name: &str, origin: &Origin, tls: &PostgresTls) {
        let root = tls.root_cert.as_ref().map(|path| ("sslrootcert", certificates(path)));
        let cert = tls.client_cert.as_ref().map(|(cert, _)| ("sslcert", certificates(cert)));
        let key = tls.client_cert.as_ref().map(|(_, key)| ("sslkey", private_key(key)));
        for (parameter, result) in [root, cert, key].into_iter().flatten() {
            if let Err(problem) = result {
                self.wrong::<()>(name, Some(origin), format!("{parameter} {problem}"));
            }
        }
    }

    fn fanout(&mut self) -> Option<Fanout> {
        let round_rows = self.integer("fanout.round_rows");
        let late_subscribers = self.boolean("fanout.late_subscribers");
        let rate_limit = self.integer("fanout.rate_limit");
        let memory_limit = self.size("fanout.memory_limit");
        Some(Fanout {
            round_rows: usize::try_from(round_rows?).ok()?,
            late_subscribers: late_subscribers?,
            rate_limit: u64::try_from(rate_limit?).ok()?,
            memory_limit: usize::try_from(memory_limit?).ok()?,
        })
    }

    /// What was given for a key, else its default; none after a mistake.
    fn given(&mut self, name: &str) -> Option<Given> {
        let key = Key::find(name).expect("only keys of the table are read");
        match (self.settings.get(name), key.fallback) {
            (Some(given), _) => Some(given.clone()),
            (None, Fallback::Default(text)) => {
                Some(Given { text: text.to_owned(), is_string: true, origin: Origin::Default })
            }
            (None, _) => {
                self.missing(name, &format!("is missing: give it, as {}", key.example));
                None
            }
        }
    }

    fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let given = self.given(name)?;
        match parse(&given.text) {
            Ok(value) => Some(value),
            Err(problem) => self.wrong(name, Some(&given.origin), problem),
        }
    }

    fn optional<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Option<T>> {
        match self.settings.get(name) {
            None => Some(None),
            Some(_) => self.parsed(name, parse).map(Some),
        }
    }

    fn choice(&mut self, name: &str) -> Option<String> {
        let Some(Key { kind: KeyKind::Choice(words), .. }) = Key::find(name) else {
            unreachable!("{name} is a choice")
        };
        self.parsed(name, |text| match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
            Some(word) => Ok((*word).to_owned()),
            None => Err(format!("must be one of {}", words.join(", "))),
        })
    }

    fn integer(&mut self, name: &str) -> Option<i64> {
        let Some(Key { kind: KeyKind::Integer(least, most), .. }) = Key::find(name) else {
            unreachable!("{name} is a whole number")
        };
        self.parsed(name, |text| match text.parse() {
            Ok(number) if (*least..=*most).contains(&number) => Ok(number),
            _ => Err(format!("must be a whole number from {least} to {most}")),
        })
    }

    fn boolean(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, |text| text.parse::<bool>().map_err(|_| "must be true or false".to_owned()))
    }

    fn size(&mut self, name: &str) -> Option<u64> {
        let Some(Key { kind: KeyKind::Size(least, most), .. }) = Key::find(name) else {
            unreachable!("{name} is a size")
        };
        self.parsed(name, |text| match values::size(text)? {
            bytes if (*least..=*most).contains(&bytes) => Ok(bytes),
            _ => Err(format!("must be from {} to {}", values::show_size(*least), values::show_size(*most))),
        })
    }

    fn retention(&mut self) -> Option<Retention> {
        let (rounds, dead_letters) = (self.days("retention.rounds"), self.days("retention.dead_letters"));
        let (campaigns, audit) = (self.days("retention.campaigns"), self.days("retention.audit"));
        Some(Retention { rounds: rounds?, dead_letters: dead_letters?, campaigns: campaigns?, audit: audit? })
    }

    fn days(&mut self, name: &str) -> Option<Duration> {
        let Some(Key { kind: KeyKind::Days(least, most), .. }) = Key::find(name) else {
            unreachable!("{name} is a span")
        };
        let days = |days: &i64| Duration::from_secs(days.unsigned_abs() * 86_400);
        self.parsed(name, |text| match values::span(text)? {
            span if (days(least)..=days(most)).contains(&span) => Ok(span),
            _ => Err(format!("must be from {least}d to {most}d")),
        })
    }

    /// A secret given as a value or as a file; of different layers the later won already.
    fn secret(&mut self, name: &str, parse: impl Fn(&str) -> Result<String, String>) -> Option<Option<Secret>> {
        let file_name = format!("{name}_file");
        let (key, given, value) = match (self.settings.get(name), self.settings.get(&file_name)) {
            (None, None) => return Some(None),
            (Some(given), Some(_)) => {
                let problem = format!("is given, and {file_name} too: keep one of them");
                return self.wrong(name, Some(&given.origin), problem);
            }
            (Some(given), None) if given.is_string => (name, given, Ok(given.text.clone())),
            (Some(given), None) => (name, given, Err("must be a string in quotes".to_owned())),
            (None, Some(given)) => (file_name.as_str(), given, secret::read(&given.origin.resolve(&given.text))),
        };
        match value.and_then(|value| parse(&value)) {
            Ok(value) => Some(Some(Secret::new(value))),
            Err(problem) => self.wrong(key, Some(&given.origin), problem),
        }
    }

    fn needless(&mut self, name: &str, problem: &str) {
        if let Some(given) = self.settings.get(name) {
            self.wrong::<()>(name, Some(&given.origin), problem);
        }
    }

    fn missing(&mut self, name: &str, problem: &str) {
        if self.settings.is_unread() {
            return;
        }
        let variable = super::keys::variable(name);
        self.wrong::<()>(name, None, format!("{problem} (or the environment variable {variable})"));
    }

    fn wrong<T>(&mut self, name: &str, origin: Option<&Origin>, problem: impl Into<String>) -> Option<T> {
        self.mistakes.push(Mistake::new(name, origin, problem));
        None
    }
}

fn not_blank(text: &str) -> Result<String, String> {
    match text.trim().is_empty() || text.contains(char::is_control) {
        false => Ok(text.to_owned()),
        true => Err("must not be blank, nor hold control characters".to_owned()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot be read from {}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<(), String> {
    match X509::stack_from_pem(&read(path)?) {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(format!("must name a file of PEM certificates; {} is none", path.display())),
    }
}

fn private_key(path: &Path) -> Result<(), String> {
    // Without the callback OpenSSL would ask the terminal for a passphrase.
    match PKey::private_key_from_pem_callback(&read(path)?, |_| Ok(0)) {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(format!("must name a PEM file of a private key without a passphrase; {} is none", path.display()))
        }
    }
}
