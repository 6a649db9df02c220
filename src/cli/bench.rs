//! `dinnerbell bench`: this machine's own limits, and this service against them.

use clap::Args;

use super::{ConfigFile, Json};

/// Measure what Postgres and Kafka themselves can take, and this service against it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell bench -c dinnerbell.toml --subscribers 200000 --json")]
pub struct Arguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// How many subscribers the large campaign has
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub subscribers: u32,
    /// How to print the figures.
    #[command(flatten)]
    pub json: Json,
}
