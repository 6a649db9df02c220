//! Mistakes in the configuration: all of them are found before the first is reported.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at this line.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// Nowhere: it is the default.
    Default,
}

impl Origin {
    /// What a relative path given here is relative to: the folder of the file, or the current folder.
    pub fn resolve(&self, path: &str) -> PathBuf {
        match self {
            Self::File { path: file, .. } => file.parent().unwrap_or(Path::new("")).join(path),
            Self::Environment(_) | Self::Default => PathBuf::from(path),
        }
    }

    /// Whether two values were given in the same layer; of different layers the later wins.
    pub fn same_layer(&self, other: &Self) -> bool {
        matches!((self, other), (Self::File { .. }, Self::File { .. }) | (Self::Environment(_), Self::Environment(_)))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One mistake: the key, where it was given, and what would be right. It never holds the value of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, as `kafka.topics.campaigns`; empty where no key can be named.
    pub key: String,
    /// Where it was given; none where it is missing.
    pub origin: Option<Origin>,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Mistake {
    /// A mistake in a key.
    pub fn new(key: &str, origin: Option<&Origin>, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), origin: origin.cloned(), problem: problem.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, self.key.is_empty()) {
            (Some(origin), false) => write!(f, "{} ({origin}): ", self.key)?,
            (Some(origin), true) => write!(f, "{origin}: ")?,
            (None, false) => write!(f, "{}: ", self.key)?,
            (None, true) => {}
        }
        f.write_str(&self.problem)
    }
}

/// Every mistake of a configuration, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<Mistake>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "a mistake in the configuration: {one}"),
            all => {
                write!(f, "{} mistakes in the configuration:", all.len())?;
                all.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}
