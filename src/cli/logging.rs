//! The log: standard error, so that what a command prints stays clean.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Failure;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people
    Text,
    /// One JSON object a line, for collectors
    Json,
}

/// What is in the log where DINNERBELL_LOG does not say otherwise. librdkafka repeats itself while a broker is away: the service
/// says once what it waits for.
pub const DEFAULT: &str = "info,librdkafka=off,rdkafka=off,tokio_postgres=warn,refinery_core=warn";

/// The same for a command that has something to show of its own. What was found of servers that are its own or under test is left out.
pub const QUIET: &str = "warn,librdkafka=off,rdkafka=off,dinnerbell_core::model::finding=error";

/// Starts the log with what `default` says, unless DINNERBELL_LOG says otherwise. RUST_LOG is left to other programs.
pub fn start(format: Format, default: &str) -> Result<(), Failure> {
    let chosen = std::env::var("DINNERBELL_LOG").ok().filter(|chosen| !chosen.trim().is_empty());
    let filter = EnvFilter::try_new(chosen.as_deref().unwrap_or(default)).map_err(|error| {
        Failure::Usage(format!(
            "DINNERBELL_LOG must be a level, or levels by target, as info or dinnerbell=debug: {error}"
        ))
    })?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Else it says on standard error that a line could not be written there, and a full disk would end the service by a panic.
    let builder = builder.log_internal_errors(false);
    let started = match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::Usage(format!("the log was started twice: {error}")))
}
