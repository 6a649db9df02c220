//! `dinnerbell verify`: compares both sinks, draft by draft.

use clap::Args;

use super::{ConfigFile, Json};

/// Compare the notifications topic and the feedback table, draft by draft
///
/// Exit status: 0 equal, 1 different, 3 could not compare.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell verify -c dinnerbell.toml --json")]
pub struct Arguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// How to print the outcome.
    #[command(flatten)]
    pub json: Json,
}
