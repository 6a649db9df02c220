//! `dinnerbell lane list`: the lanes, their positions, and what halts them.

use clap::Args;

use crate::cli::{ConfigFile, Json};

/// List the lanes with their position, last round and state; a halted one with the command that resolves it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell lane list --json")]
pub struct Arguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// How to print them.
    #[command(flatten)]
    pub json: Json,
}
