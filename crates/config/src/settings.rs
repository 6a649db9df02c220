//! What was given, before it is checked: the file, then the environment over it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, CLIENT, Key, KeyKind, PREFIX};
use super::mistake::{Mistake, Origin};

/// Looked for in this order where no file is named.
const FILES: [&str; 2] = ["dinnerbell.toml", "/etc/dinnerbell/dinnerbell.toml"];

/// Variables of ours that are no keys. One says how the logs are written. The others work in a binary for tests: where the process is to stop, which
/// guards it goes without, how long a transaction may be open.
const OTHER_VARIABLES: &[&str] = if cfg!(feature = "fail-points") {
    &[
        "DINNERBELL_LOG",
        "DINNERBELL_LOG_FORMAT",
        "DINNERBELL_FAIL_POINT",
        "DINNERBELL_WITHOUT",
        "DINNERBELL_TRANSACTION_SECONDS",
    ]
} else {
    &["DINNERBELL_LOG", "DINNERBELL_LOG_FORMAT"]
};

/// A value as it was given.
#[derive(Clone)]
pub struct Given {
    /// The value as text: the environment knows nothing else.
    pub text: String,
    /// Whether it was a string; a file says so, in the environment everything is one.
    pub is_string: bool,
    /// Where it stands: in the file, or in the environment.
    pub origin: Origin,
}

/// What was given, and the mistakes found while gathering it. It may hold secrets, so it cannot be printed.
pub struct Settings {
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    values: BTreeMap<&'static str, Given>,
    client: BTreeMap<String, Given>,
    mistakes: Vec<Mistake>,
    unread: bool,
}

impl Settings {
    /// Reads the file (`-c`, else the first of the usual ones that exists), then the environment; later wins.
    pub fn gather(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Self {
        let file = match file {
            Some(file) => Some(file.to_path_buf()),
            None => FILES.iter().map(PathBuf::from).find(|path| path.exists()),
        };
        let mut settings = Self {
            file: file.clone(),
            values: BTreeMap::new(),
            client: BTreeMap::new(),
            mistakes: Vec::new(),
            unread: false,
        };
        if let Some(path) = file {
            settings.read_file(&path);
            settings.unread = !settings.mistakes.is_empty() && settings.values.is_empty();
        }
        let mut environment: Vec<_> = environment.filter(|(variable, _)| variable.starts_with(PREFIX)).collect();
        environment.sort_unstable();
        for (variable, value) in environment {
            settings.read_variable(variable, value);
        }
        settings
    }

    /// What was given for a key.
    pub fn get(&self, name: &str) -> Option<&Given> {
        self.values.get(name)
    }

    /// What was given in `[kafka.client]`, by the names of librdkafka.
    pub fn client(&self) -> &BTreeMap<String, Given> {
        &self.client
    }

    /// The mistakes found so far.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Whether the file could not be read at all: then nobody knows what is missing.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    fn read_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let problem = format!("cannot read the configuration file {}: {error}", path.display());
                return self.mistakes.push(Mistake::new("", None, problem));
            }
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        let file = File { path, text: &text };
        // The error's own display shows the line, which may hold a secret.
        self.mistakes.extend(errors.iter().map(|error| {
            let origin = file.origin(error.span().map_or(0, |span| span.start));
            Mistake::new("", Some(&origin), format!("not TOML: {}", harmless(error.message())))
        }));
        if errors.is_empty() {
            self.read_table(&file, "", table.get_ref());
        }
    }

    fn read_table(&mut self, file: &File<'_>, section: &str, table: &DeTable<'_>) {
        for (word, value) in table {
            let name =
                if section.is_empty() { word.get_ref().to_string() } else { format!("{section}.{}", word.get_ref()) };
            let origin = file.origin(word.span().start);
            match value.get_ref() {
                DeValue::Table(inner) if name == CLIENT => self.read_client(file, "", inner),
                DeValue::Table(inner) if keys::is_section(&name) => self.read_table(file, &name, inner),
                _ if keys::is_section(&name) || name == CLIENT => {
                    self.mistakes.push(Mistake::new(&name, Some(&origin), format!("is a section: write [{name}]")));
                }
                DeValue::Table(_) if Key::find(&name).is_none() => {
                    let nearest = keys::nearest_section(&name).map(|near| format!("; the nearest is [{near}]"));
                    let problem = format!("there is no such section{}", nearest.unwrap_or_default());
                    self.mistakes.push(Mistake::new(&name, Some(&origin), problem));
                }
                _ => match Key::find(&name) {
                    Some(key) => self.read_value(key, value, origin),
                    None => self.unknown(&name, &origin, keys::nearest(&name)),
                },
            }
        }
    }

    fn read_value(&mut self, key: &'static Key, value: &Spanned<DeValue<'_>>, origin: Origin) {
        match scalar(value.get_ref()) {
            Some((text, is_string)) => {
                self.values.insert(key.name, Given { text, is_string, origin });
            }
            None => {
                let problem = format!("must be a single value, not {}", value.get_ref().type_str());
                self.mistakes.push(Mistake::new(key.name, Some(&origin), problem));
            }
        }
    }

    /// librdkafka's names have dots, which TOML reads as tables unless they stand in quotes: both are understood.
    fn read_client(&mut self, file: &File<'_>, before: &str, table: &DeTable<'_>) {
        for (word, value) in table {
            let setting =
                if before.is_empty() { word.get_ref().to_string() } else { format!("{before}.{}", word.get_ref()) };
            let origin = file.origin(word.span().start);
            match (value.get_ref(), scalar(value.get_ref())) {
                (DeValue::Table(inner), _) => self.read_client(file, &setting, inner),
                (_, Some((text, is_string))) => {
                    self.client.insert(setting, Given { text, is_string, origin });
                }
                (other, None) => {
                    let problem = format!("must be a string, a number or a boolean, not {}", other.type_str());
                    self.mistakes.push(Mistake::new(&format!("{CLIENT}.{setting}"), Some(&origin), problem));
                }
            }
        }
    }

    fn read_variable(&mut self, variable: String, text: String) {
        let Some(rest) = variable.strip_prefix(PREFIX) else { return };
        if OTHER_VARIABLES.contains(&variable.as_str()) || is_service_link(rest) {
            return;
        }
        let name = rest.replace("__", ".").to_lowercase();
        let origin = Origin::Environment(variable.clone());
        if text.contains('\u{FFFD}') {
            return self.mistakes.push(Mistake::new(&name, Some(&origin), "is not UTF-8"));
        }
        let given = Given { text, is_string: true, origin };
        if let Some(setting) = name.strip_prefix("kafka.client.") {
            let setting = setting.replace('_', ".");
            let setting = setting.strip_suffix(".file").map_or(setting.clone(), |secret| format!("{secret}_file"));
            self.client.insert(setting, given);
        } else if let Some(key) = Key::find(&name).filter(|key| key.kind != KeyKind::ClientSettings) {
            if let Some(twin) = key.twin()
                && self.values.get(twin.name).is_some_and(|other| !other.origin.same_layer(&given.origin))
            {
                self.values.remove(twin.name);
            }
            self.values.insert(key.name, given);
        } else if keys::is_section(&name) || name == CLIENT {
            self.mistakes.push(Mistake::new(&name, Some(&given.origin), "is a section: name a key in it after __"));
        } else {
            self.unknown(&name, &given.origin, &keys::variable(keys::nearest(&name)));
        }
    }

    fn unknown(&mut self, name: &str, origin: &Origin, nearest: &str) {
        self.mistakes.push(Mistake::new(name, Some(origin), format!("there is no such key; the nearest is {nearest}")));
    }
}

/// A file, to tell the line of a place in it.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, byte: usize) -> Origin {
        let before = &self.text.as_bytes()[..byte.min(self.text.len())];
        Origin::File { path: self.path.to_path_buf(), line: 1 + before.iter().filter(|b| **b == b'\n').count() }
    }
}

/// A value as text, and whether it was a string; none for arrays and tables.
fn scalar(value: &DeValue<'_>) -> Option<(String, bool)> {
    match value {
        DeValue::String(text) => Some((text.to_string(), true)),
        DeValue::Integer(number) => {
            let text = number.as_str().to_owned();
            Some((i128::from_str_radix(&text, number.radix()).map_or(text, |number| number.to_string()), false))
        }
        DeValue::Float(number) => Some((number.as_str().to_owned(), false)),
        DeValue::Boolean(boolean) => Some((boolean.to_string(), false)),
        DeValue::Datetime(time) => Some((time.to_string(), false)),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The parser's messages name what was expected and, in quotes, at times what was found, which may be a piece of a secret.
fn harmless(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let mut quoted = false;
    let mut text = String::with_capacity(first.len());
    for part in first.split('`') {
        text.push_str(if quoted { "`...`" } else { part });
        quoted = !quoted;
    }
    text
}

/// Kubernetes puts the addresses of a service named `dinnerbell` into the environment of its pods, as `DINNERBELL_SERVICE_HOST` and
/// `DINNERBELL_PORT_8080_TCP_ADDR`. They are not ours, and not our user's mistake.
fn is_service_link(rest: &str) -> bool {
    if rest.contains("__") {
        return false;
    }
    let rest = format!("_{rest}");
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || rest.ends_with("_PORT")
        || rest.split_once("_PORT_").is_some_and(|(_, port)| port.starts_with(|c: char| c.is_ascii_digit()))
}
