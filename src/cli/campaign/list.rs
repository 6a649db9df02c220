//! `dinnerbell campaign list`: the campaigns that the ledger knows.

use clap::Args;

use crate::cli::{ConfigFile, Json};

/// List campaigns with their state and how many were told, the latest first
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell campaign list --state active --json")]
pub struct Arguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Only those in this state
    #[arg(long, value_name = "STATE", value_parser = ["scheduled", "active", "complete", "closed", "expired", "cancelled"])]
    pub state: Option<String>,
    /// Most campaigns to list
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// How to print them.
    #[command(flatten)]
    pub json: Json,
}
