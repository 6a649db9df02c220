//! The configuration as text: every key there is, and what is in force.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::kafka_client;
use super::keys::{CLIENT, Fallback, KEYS, Key, KeyKind};
use super::postgres_url::ConnectionString;
use super::settings::{Given, Settings};

/// What stands for a secret.
const MASK: &str = "***";

/// Every key with its meaning and its default, as a TOML file to start from.
pub fn reference() -> String {
    let mut text = String::from(
        "# Every key of dinnerbell. A line that begins with # shows the default or an example; the others must be given.\n\
         # Each key is also an environment variable, named beside it, which stands over the file.\n",
    );
    let mut section = "";
    for key in KEYS {
        let own = if key.name == CLIENT { CLIENT } else { key.section() };
        if own != section {
            section = own;
            let _ = write!(text, "\n[{section}]\n");
        }
        for line in wrap(&format!("{}{}", key.doc, fallback_words(key)), 110) {
            let _ = writeln!(text, "# {line}");
        }
        let line =
            if key.name == CLIENT { key.example.to_owned() } else { format!("{} = {}", key.word(), key.example) };
        let mark = if key.fallback == Fallback::Required { "" } else { "#" };
        let variable =
            if key.name == CLIENT { "DINNERBELL_KAFKA__CLIENT__LINGER_MS".to_owned() } else { key.variable() };
        let _ = writeln!(text, "{mark}{line}  # {variable}");
    }
    text
}

/// Every key as JSON.
pub fn reference_json() -> Value {
    let rows = KEYS.iter().map(|key| {
        json!({
            "key": key.name,
            "variable": key.variable(),
            "takes": takes(key.kind),
            "required": key.fallback == Fallback::Required,
            "default": match key.fallback { Fallback::Default(text) => json!(text), _ => Value::Null },
            "example": key.example,
            "meaning": key.doc,
        })
    });
    rows.collect()
}

/// What is in force, as TOML, each value with its origin; secrets are masked.
pub fn show(settings: &Settings) -> String {
    let mut text = String::new();
    if let Some(file) = &settings.file {
        let _ = writeln!(text, "# read from {}, then the environment", file.display());
    }
    let mut section = "";
    for (key, given) in KEYS.iter().map(|key| (key, settings.get(key.name))) {
        let own = if key.name == CLIENT { CLIENT } else { key.section() };
        if own != section && (key.name != CLIENT || !settings.client().is_empty()) {
            section = own;
            let _ = writeln!(text, "{}[{section}]", if text.is_empty() { "" } else { "\n" });
        }
        if key.kind == KeyKind::ClientSettings {
            for (setting, given) in settings.client() {
                let value = toml_text(&Value::from(kafka_client::shown(setting, &given.text)));
                let _ = writeln!(text, "{} = {value}  # {}", toml_text(&Value::from(setting.as_str())), given.origin);
            }
        } else if let Some(value) = value(key, given) {
            let origin = given.map_or_else(|| "default".to_owned(), |given| given.origin.to_string());
            let _ = writeln!(text, "{} = {}  # {origin}", key.word(), toml_text(&value));
        }
    }
    text
}

/// What is in force, as JSON; secrets are masked.
pub fn show_json(settings: &Settings) -> Value {
    let mut sections = Map::new();
    for key in KEYS {
        let value = match key.kind {
            KeyKind::ClientSettings => settings
                .client()
                .iter()
                .map(|(setting, given)| (setting.clone(), Value::from(kafka_client::shown(setting, &given.text))))
                .collect::<Map<_, _>>()
                .into(),
            _ => value(key, settings.get(key.name)).unwrap_or(Value::Null),
        };
        let mut table = &mut sections;
        for word in key.section().split('.') {
            let inner = table.entry(word).or_insert_with(|| Map::new().into());
            table = inner.as_object_mut().expect("a section holds keys and no key is a section");
        }
        table.insert(key.word().to_owned(), value);
    }
    sections.into()
}

/// The value of a key as it may be printed; none where it has none.
fn value(key: &Key, given: Option<&Given>) -> Option<Value> {
    let text = match (given, key.fallback) {
        (Some(given), _) => given.text.as_str(),
        (None, Fallback::Default(text)) => text,
        (None, _) => return None,
    };
    Some(match key.kind {
        KeyKind::Secret => MASK.into(),
        KeyKind::PostgresUrl => match ConnectionString::parse(text) {
            Ok(parsed) => parsed.masked(text).into(),
            Err(_) => MASK.into(),
        },
        KeyKind::Integer(..) => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        KeyKind::Boolean => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    })
}

/// JSON's scalars are spelt as TOML's.
fn toml_text(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        other => other.to_string(),
    }
}

fn fallback_words(key: &Key) -> String {
    match key.fallback {
        Fallback::Required => " Required.".to_owned(),
        Fallback::Default(text) => format!(" Default: {text}."),
        Fallback::Nothing => String::new(),
    }
}

fn takes(kind: KeyKind) -> String {
    match kind {
        KeyKind::Text => "text".to_owned(),
        KeyKind::Secret => "secret text".to_owned(),
        KeyKind::SecretFile => "path of a file that holds a secret".to_owned(),
        KeyKind::Certificates | KeyKind::PrivateKey => "path of a PEM file".to_owned(),
        KeyKind::PostgresUrl => "connection string of Postgres".to_owned(),
        KeyKind::Table => "schema.table".to_owned(),
        KeyKind::Choice(words) => format!("one of {}", words.join(", ")),
        KeyKind::Integer(least, most) => format!("whole number from {least} to {most}"),
        KeyKind::Boolean => "true or false".to_owned(),
        KeyKind::Size(..) => "bytes, or with KiB, MiB or GiB".to_owned(),
        KeyKind::Days(..) => "span of time, as 90d".to_owned(),
        KeyKind::Address => "address:port".to_owned(),
        KeyKind::Start => "earliest, latest or an RFC 3339 time".to_owned(),
        KeyKind::ClientSettings => "settings of librdkafka".to_owned(),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            let line = &mut lines[last];
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}
