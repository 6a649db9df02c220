//! How to reach Postgres, as libpq spells it: a URL or `key=value` words.
//!
//! Both are taken apart here: tokio-postgres knows neither verify-full nor files of certificates. Its messages may also repeat a piece of a password
//! that was not encoded. Nothing that is said here repeats what was given, but for the names of parameters that are known.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use tokio_postgres::config::{Config, TargetSessionAttrs};

use super::mistake::Origin;
use super::{PostgresTls, SslMode};

/// What stands in a connection string.
pub struct ConnectionString {
    parameters: BTreeMap<String, String>,
    secrets: Vec<Range<usize>>,
}

/// Parameters that tokio-postgres understands as libpq does.
const PASSED_ON: [&str; 11] = [
    "user",
    "password",
    "dbname",
    "options",
    "host",
    "hostaddr",
    "port",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
];

/// Parameters that are understood here.
const OURS: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "ssl", "gssencmode"];

/// Parameters that `dinnerbell_postgres` sets itself: a takeover waits for no connection through which nothing passes.
const FIXED: [&str; 8] = [
    "application_name",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "keepalives_retries",
    "tcp_user_timeout",
];

/// Said wherever an unencoded character is the likely reason.
const ENCODE: &str =
    "in the user and password of a URL write % as %25, @ as %40, : as %3A, / as %2F, ? as %3F, # as %23";

impl ConnectionString {
    /// Takes a connection string apart.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let mut parsed = Self { parameters: BTreeMap::new(), secrets: Vec::new() };
        match url {
            Some(rest) => parsed.read_url(rest, text.len() - rest.len())?,
            None => parsed.read_words(text)?,
        }
        Ok(parsed)
    }

    /// The text with stars for what is secret in it.
    pub fn masked(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for secret in self.secrets.iter().rev() {
            masked.replace_range(secret.clone(), "***");
        }
        masked
    }

    /// Whether a password is given.
    pub fn has_password(&self) -> bool {
        self.parameters.contains_key("password")
    }

    fn read_url(&mut self, rest: &str, offset: usize) -> Result<(), String> {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        // An @ further on may stand behind a password that holds a slash or a question mark. What looks like a host is then a part of the password.
        if tail.contains('@') {
            return Err(format!("cannot be taken apart: {ENCODE}"));
        }
        let (credentials, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(credentials, hosts)| (Some(credentials), hosts));
        if let Some(credentials) = credentials {
            let (user, password) = credentials.split_once(':').map_or((credentials, None), |(u, p)| (u, Some(p)));
            self.put("user", decode(user)?);
            if let Some(password) = password {
                let start = offset + user.len() + 1;
                self.secrets.push(start..start + password.len());
                self.put("password", decode(password)?);
            }
        }
        self.read_hosts(hosts)?;
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        self.put("dbname", decode(path.strip_prefix('/').unwrap_or(path))?);
        self.read_query(query, offset + rest.len() - query.len())
    }

    fn read_hosts(&mut self, text: &str) -> Result<(), String> {
        let wrong = || format!("a port of the URL is no number: {ENCODE}");
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for server in text.split(',') {
            let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or(rest)),
                None => server.split_once(':').unwrap_or((server, "")),
            };
            if !port.is_empty() && port.parse::<u16>().is_err() {
                return Err(wrong());
            }
            hosts.push(decode(host)?);
            ports.push(port);
        }
        self.put("host", hosts.join(","));
        if ports.iter().any(|port| !port.is_empty()) {
            self.put("port", ports.join(","));
        }
        Ok(())
    }

    fn read_query(&mut self, query: &str, mut offset: usize) -> Result<(), String> {
        for pair in query.split('&').filter(|_| !query.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or("a parameter after the ? lacks its = sign")?;
            let name = decode(name)?;
            if name.contains("password") {
                self.secrets.push(offset + pair.len() - value.len()..offset + pair.len());
            }
            self.put(&name, decode(value)?);
            offset += pair.len() + 1;
        }
        Ok(())
    }

    /// `host=localhost password='it''s'`: values in single quotes or without, a backslash before a quote or a backslash.
    fn read_words(&mut self, text: &str) -> Result<(), String> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (name, after) = rest
                .split_once('=')
                .filter(|(name, _)| !name.trim_end().contains(char::is_whitespace) && !name.contains('\''))
                .ok_or("must be a URL, postgres://user@host/database, or words of the form key=value, a value with blanks in single quotes")?;
            let after = after.trim_start();
            let (value, used) = word(after)?;
            let name = name.trim_end();
            if name.contains("password") {
                let start = text.len() - after.len();
                self.secrets.push(start..start + used);
            }
            self.put(name, value);
            rest = after[used..].trim_start();
        }
        Ok(())
    }

    /// The last of a name wins, as in libpq; an empty value is none.
    fn put(&mut self, name: &str, value: String) {
        if value.is_empty() {
            self.parameters.remove(name);
        } else {
            self.parameters.insert(name.to_owned(), value);
        }
    }

    /// What tokio-postgres and TLS make of it, or everything that is wrong with it.
    pub fn resolve(&self, origin: &Origin) -> Result<(Config, PostgresTls), Vec<String>> {
        let mut problems = Vec::new();
        for name in self.parameters.keys().map(String::as_str) {
            if let Some(fixed) = FIXED.iter().find(|fixed| **fixed == name) {
                problems.push(format!("the parameter {fixed} is the service's own: leave it out"));
            } else if !PASSED_ON.contains(&name) && !OURS.contains(&name) {
                problems.push(unknown(name));
            }
        }
        if !self.parameters.contains_key("host") && !self.parameters.contains_key("hostaddr") {
            problems.push("names no host: postgres://user@host/database".to_owned());
        }
        if !self.parameters.contains_key("dbname") {
            problems.push("names no database: postgres://user@host/database".to_owned());
        }
        let config = self.config(&mut problems);
        let tls = self.tls(origin, &mut problems);
        if problems.is_empty() { Ok((config, tls)) } else { Err(problems) }
    }

    fn config(&self, problems: &mut Vec<String>) -> Config {
        let mut words = String::new();
        for (name, value) in PASSED_ON.iter().filter_map(|name| Some((*name, self.parameters.get(*name)?))) {
            let quoted = format!("{name}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'"));
            match quoted.parse::<Config>() {
                Ok(_) => words.push_str(&quoted),
                Err(_) => problems.push(format!("the parameter {name} has a value that it does not take")),
            }
        }
        words.parse().expect("each word was parsed by itself")
    }

    fn tls(&self, origin: &Origin, problems: &mut Vec<String>) -> PostgresTls {
        let get = |name: &str| self.parameters.get(name).map(String::as_str);
        let system = get("sslrootcert") == Some("system");
        let rooted = get("sslrootcert").is_some();
        let mode = match (get("sslmode"), get("ssl")) {
            (None, Some("true")) => SslMode::Require,
            // Anyone who names a certificate wants it to be asked for: with libpq's default, plain text would do too.
            (None, None) if rooted => SslMode::VerifyFull,
            (None, None) => SslMode::Prefer,
            (Some("disable"), None) => SslMode::Disable,
            // Allow asks for TLS only after a refusal; to ask at once is as well, and one attempt less.
            (Some("allow" | "prefer"), None) => SslMode::Prefer,
            (Some("require"), None) => SslMode::Require,
            (Some("verify-ca"), None) => SslMode::VerifyCa,
            (Some("verify-full"), None) => SslMode::VerifyFull,
            (_, None) => {
                problems.push("sslmode must be disable, allow, prefer, require, verify-ca or verify-full".to_owned());
                SslMode::Prefer
            }
            (_, Some(_)) => {
                problems.push("ssl takes only true, and not beside sslmode: write sslmode=require".to_owned());
                SslMode::Prefer
            }
        };
        if system && mode != SslMode::VerifyFull {
            problems.push("sslrootcert=system needs sslmode=verify-full".to_owned());
        }
        if mode == SslMode::Prefer && rooted {
            let why = "sslrootcert is of no use with sslmode=prefer or allow: who breaks the handshake gets plain text; write sslmode=verify-full";
            problems.push(why.to_owned());
        }
        if get("gssencmode").is_some_and(|mode| mode != "disable" && mode != "prefer") {
            problems.push("gssencmode=require is not possible: GSSAPI is not spoken here".to_owned());
        }
        let path = |name: &str| get(name).map(|path| origin.resolve(path));
        let client_cert = match (path("sslcert"), path("sslkey")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                problems.push("sslcert and sslkey belong together: give both or none".to_owned());
                None
            }
        };
        let root_cert: Option<PathBuf> = path("sslrootcert").filter(|_| !system);
        PostgresTls { mode, root_cert, client_cert }
    }
}

/// With several hosts the feedback database is the one that can be written, unless the user says otherwise.
pub fn prefer_writable(config: &mut Config) {
    if config.get_hosts().len().max(config.get_hostaddrs().len()) > 1
        && config.get_target_session_attrs() == TargetSessionAttrs::Any
    {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
}

/// An unknown name may be a piece of a password with a blank or a question mark in it, so it is not repeated.
fn unknown(name: &str) -> String {
    let near = |known: &&str| strsim::damerau_levenshtein(name, known) <= 2;
    let known = PASSED_ON.iter().chain(&OURS);
    match known.clone().copied().find(near) {
        Some(known) => format!("has a parameter that does not exist; the nearest is {known}"),
        None => format!(
            "has a parameter that is not known here; known are {}",
            known.copied().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// One value of `key=value`, and how much of the text it takes.
fn word(text: &str) -> Result<(String, usize), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, at + 1)),
            blank if !quoted && blank.is_whitespace() => return Ok((value, at)),
            other => value.push(other),
        }
    }
    if quoted { Err("a value lacks its closing single quote".to_owned()) } else { Ok((value, text.len())) }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let byte = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|byte| *byte != 0);
        bytes.push(byte.ok_or_else(|| format!("has a % that is not followed by two hexadecimal digits: {ENCODE}"))?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 after its %XX are decoded".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::*;

    fn origin() -> Origin {
        Origin::File { path: PathBuf::from("/etc/dinnerbell/dinnerbell.toml"), line: 1 }
    }

    fn resolve(text: &str) -> Result<(Config, PostgresTls), Vec<String>> {
        ConnectionString::parse(text).map_err(|problem| vec![problem])?.resolve(&origin())
    }

    #[test]
    fn a_url_is_read_as_libpq_reads_it() {
        let (config, tls) =
            resolve("postgres://us%40er:p%2Fa%25ss@replica:6432/de?sslmode=verify-full&sslrootcert=CA.pem").unwrap();
        assert_eq!(config.get_user(), Some("us@er"));
        assert_eq!(config.get_password(), Some("p/a%ss".as_bytes()));
        assert_eq!(config.get_hosts(), [Host::Tcp("replica".to_owned())]);
        assert_eq!(config.get_ports(), [6432]);
        assert_eq!(config.get_dbname(), Some("de"));
        assert_eq!(tls.mode, SslMode::VerifyFull);
        assert_eq!(tls.root_cert, Some(PathBuf::from("/etc/dinnerbell/CA.pem")));
    }

    #[test]
    fn several_hosts_addresses_and_sockets_are_understood() {
        let (mut config, tls) = resolve("postgresql://u@a:1,b,[::1]:3/d").unwrap();
        assert_eq!(config.get_hosts().len(), 3);
        assert_eq!(config.get_ports(), [1, 5432, 3]);
        assert_eq!(tls.mode, SslMode::Prefer);
        prefer_writable(&mut config);
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);

        let (config, _) = resolve("postgres:///d?host=/run/postgresql&port=5433").unwrap();
        assert_eq!(config.get_hosts(), [Host::Unix(PathBuf::from("/run/postgresql"))]);
        assert_eq!(config.get_ports(), [5433]);
        let (config, _) = resolve("postgres://%2Frun%2Fpostgresql/d").unwrap();
        assert_eq!(config.get_hosts(), [Host::Unix(PathBuf::from("/run/postgresql"))]);
    }

    #[test]
    fn words_are_read_as_libpq_reads_them() {
        let (config, tls) = resolve(r"host = h user=u  dbname='my db' password='it\'s \\' sslmode=require").unwrap();
        assert_eq!(config.get_dbname(), Some("my db"));
        assert_eq!(config.get_password(), Some(r"it's \".as_bytes()));
        let (_, allowed) = resolve("postgres://h/d?sslmode=allow").unwrap();
        let (_, rooted) = resolve("postgres://h/d?sslrootcert=CA.pem").unwrap();
        assert_eq!(rooted.mode, SslMode::VerifyFull, "a certificate that is given is used");
        assert_eq!(allowed.mode, SslMode::Prefer);
        assert_eq!(tls.mode, SslMode::Require);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        for (text, words) in [
            ("mysql://h/d", "must be a URL"),
            ("postgres://h", "names no database"),
            ("postgres:///d", "names no host"),
            ("postgres://h:port/d", "no number"),
            ("postgres://h/d?sslmode=always", "verify-full"),
            ("postgres://h/d?sslmod=require", "the nearest is sslmode"),
            ("postgres://h/d?service=x", "known are"),
            ("postgres://h/d?sslcert=c.pem", "sslkey"),
            ("postgres://h/d?sslrootcert=system&sslmode=require", "verify-full"),
            ("postgres://h/d?sslrootcert=CA.pem&sslmode=prefer", "who breaks the handshake gets plain text"),
            ("postgres://h/d?connect_timeout=5", "connect_timeout is the service's own"),
            ("postgres://h/d?channel_binding=maybe", "channel_binding"),
            ("postgres://h/d?gssencmode=require", "GSSAPI"),
            ("postgres://u:100%@h/d", "%25"),
            ("host=h dbname='d", "closing single quote"),
        ] {
            let problems = resolve(text).map(|_| ()).expect_err(text);
            assert!(problems.iter().any(|problem| problem.contains(words)), "{text}: {problems:?}");
        }
    }

    #[test]
    fn a_password_is_masked_wherever_it_stands() {
        for text in [
            "postgres://u:s3cret@h/d",
            "postgres://h/d?user=u&password=s3cret&sslmode=disable",
            "postgres://h/d?p%61ssword=s3cret",
            "host=h password=s3cret dbname=d",
            "host=h dbname=d password = 's3cret'",
            "postgres://u:s3cret@x@h/d",
        ] {
            let masked = ConnectionString::parse(text).unwrap().masked(text);
            assert!(!masked.contains("s3cret") && masked.contains("***"), "{masked}");
        }
    }

    #[test]
    fn a_password_that_was_not_encoded_is_refused_without_repeating_it() {
        for text in [
            "postgres://u:s3/cret@h/d",
            "postgres://u:12/s3cret@h/d",
            "postgres://u:s3?cret=1@h/d",
            "postgres://u:12?s3cret=1@h/d",
            "host=h dbname=d password=a s3cret=b",
            "host=h dbname=d password=a s3cret",
        ] {
            let problems = resolve(text).map(|_| ()).expect_err(text);
            assert!(!format!("{problems:?}").contains("s3"), "{problems:?}");
        }
    }
}
