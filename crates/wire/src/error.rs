//! What goes wrong between us and a broker. Whatever it is, it ends the producer that met it.

use std::io;
use std::time::Duration;

use dinnerbell_net::foreign::harmless;
pub use kafka_protocol::ResponseError;
use kafka_protocol::error::ParseResponseErrorCode;
use tokio::time::Instant;

/// Why a broker did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WireError {
    /// The connection could not be made, or broke: whether the broker did what was under way is not known.
    #[error("{doing} at {address}: {reason}")]
    Broken {
        /// What was under way, as a fragment.
        doing: &'static str,
        /// The broker.
        address: String,
        /// What the system or the TLS library says.
        reason: String,
    },
    /// The name of a host says nothing to this machine.
    #[error("{doing} at {address}: {reason}")]
    Unresolved {
        /// What was under way.
        doing: &'static str,
        /// The broker.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// No answer came in time: whether the broker did it is not known.
    #[error("{doing} at {address} was not answered within {} ms", after.as_millis())]
    TimedOut {
        /// What was under way.
        doing: &'static str,
        /// The broker.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The broker answered with an error.
    #[error("{doing} at {address}: {code}{}", message.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Answered {
        /// What was asked.
        doing: &'static str,
        /// The broker.
        address: String,
        /// Kafka's error.
        code: ResponseError,
        /// The broker's own words, if it had any.
        message: Option<String>,
    },
    /// The broker, its certificate or its log-in refuses us, and will again.
    #[error("{doing} at {address}: {reason}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// The broker.
        address: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The broker does not speak a version that is needed.
    #[error(
        "{address} speaks {api} in versions {least} to {most}, and version {needed} is needed: the brokers must be Apache Kafka 2.5 or newer"
    )]
    Unsupported {
        /// The broker.
        address: String,
        /// The request.
        api: &'static str,
        /// Its first version there.
        least: i16,
        /// Its last version there.
        most: i16,
        /// What we speak.
        needed: i16,
    },
    /// The broker answered something that is no answer.
    #[error("{doing} at {address}: the answer cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        doing: &'static str,
        /// The broker.
        address: String,
        /// Why.
        reason: String,
    },
}

impl WireError {
    /// Whether the broker is such that it will refuse again.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unsupported { .. })
    }

    /// The broker that it is about.
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::Broken { address, .. }
            | Self::Unresolved { address, .. }
            | Self::TimedOut { address, .. }
            | Self::Answered { address, .. }
            | Self::Refused { address, .. }
            | Self::Unsupported { address, .. }
            | Self::Unreadable { address, .. } => address,
        }
    }

    /// Whether the brokers know no topic of that name.
    pub fn is_unknown_topic(&self) -> bool {
        self.code() == Some(ResponseError::UnknownTopicOrPartition)
    }

    /// Whether the broker says that this user lacks a right.
    pub fn is_missing_right(&self) -> bool {
        use ResponseError::{ClusterAuthorizationFailed, TopicAuthorizationFailed};
        self.code().is_some_and(|code| matches!(code, ClusterAuthorizationFailed | TopicAuthorizationFailed))
    }

    /// Kafka's error, where the broker answered with one.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Answered { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// An answer's error code as an error.
pub(crate) fn check(doing: &'static str, address: &str, code: i16, message: Option<&str>) -> Result<(), WireError> {
    match code.err() {
        None => Ok(()),
        Some(code) => {
            Err(WireError::Answered { doing, address: address.to_owned(), code, message: message.map(harmless) })
        }
    }
}

/// A connection broke.
pub(crate) fn broken(doing: &'static str, address: &str, error: &io::Error) -> WireError {
    WireError::Broken { doing, address: address.to_owned(), reason: error.to_string() }
}

/// A broker refuses the connection, or we refuse the broker.
pub(crate) fn refused(doing: &'static str, address: &str, reason: String) -> WireError {
    WireError::Refused { doing, address: address.to_owned(), reason }
}

/// Nothing came in time.
pub(crate) fn timed_out(doing: &'static str, address: &str, began: Instant) -> WireError {
    WireError::TimedOut { doing, address: address.to_owned(), after: began.elapsed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brokers_words_are_bounded_and_stay_in_their_line() {
        let words = format!("no\nERROR forged\u{1b}[2J{}", "a".repeat(100_000));
        let told = check("asking", "b:9092", 3, Some(&words)).unwrap_err().to_string();
        assert!(told.contains("(noERROR forged") && !told.contains(char::is_control) && told.len() < 1_000, "{told}");
    }
}
