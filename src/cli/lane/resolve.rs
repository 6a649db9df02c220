//! `dinnerbell lane resolve`: mends a halted lane as its error says.

use clap::Args;

use crate::broker::Lane;
use crate::cli::{ConfigFile, Json};

/// Mend a halted lane, in the way that its error names
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dinnerbell lane resolve 3\n  dinnerbell lane resolve 3 --from-kafka")]
pub struct Arguments {
    /// The lane: a partition of the campaigns topic
    #[arg(value_name = "LANE", value_parser = clap::value_parser!(i32).range(0..))]
    pub lane: Lane,
    /// The database lost its last commits: rebuild them from the notifications topic
    #[arg(long)]
    pub from_kafka: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// How to print what was done.
    #[command(flatten)]
    pub json: Json,
}
