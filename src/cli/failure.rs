//! How a command ends when it did not do what was asked, and the exit status that says so.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use crate::operator::resolve::ResolveError;
use crate::operator::told::ToldError;
use dinnerbell_config::ConfigErrors;
use dinnerbell_postgres::errors::PostgresError;

/// Why a command failed. The exit statuses are a contract: supervisors and scripts rely on them.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Usage: found before anything was contacted.
    #[error("{0}")]
    Usage(String),
    /// Configuration: found before anything was contacted.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A server was contacted and refused or failed, or a port was taken, or output could not be written.
    #[error("{0}")]
    Failed(String),
    /// The two sinks were compared and differ.
    #[error("{0}")]
    Different(String),
    /// The two sinks could not be compared.
    #[error("{0}")]
    NotCompared(String),
    /// A call that must return did not: a supervisor starts the service again.
    #[error("{0}")]
    Watchdog(String),
    /// A second signal asked for the end at once.
    #[error("stopped at once by signal {0}")]
    Signal(u8),
    /// It failed, and all that is to be said was printed already.
    #[error("")]
    Reported(u8),
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<ToldError> for Failure {
    fn from(error: ToldError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<PostgresError> for Failure {
    fn from(error: PostgresError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Failure {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Different(_) => 1,
            Self::Usage(_) | Self::Config(_) => 2,
            Self::NotCompared(_) => 3,
            Self::Watchdog(_) => 70,
            Self::Signal(signal) => 128_u8.saturating_add(*signal),
            Self::Reported(status) => *status,
        }
    }

    /// Prints it, once, where it is handled, and returns the exit status.
    pub fn report(self) -> ExitCode {
        if !matches!(self, Self::Reported(_)) {
            remark(&self);
        }
        ExitCode::from(self.status())
    }
}

/// Says something on standard error, beside what a command prints.
pub fn remark(said: &impl fmt::Display) {
    // Nobody is left to be told that standard error is closed, or its disk full.
    let _ = writeln!(std::io::stderr(), "dinnerbell: {said}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_the_status_of_the_contract() {
        for (failure, status) in [
            (Failure::Failed(String::new()), 1),
            (Failure::Different(String::new()), 1),
            (Failure::Usage(String::new()), 2),
            (Failure::Config(ConfigErrors(Vec::new())), 2),
            (Failure::NotCompared(String::new()), 3),
            (Failure::Watchdog(String::new()), 70),
            (Failure::Signal(15), 143),
        ] {
            assert_eq!(failure.status(), status, "{failure:?}");
        }
    }
}
