//! `dinnerbell campaign show`: all that the ledger knows of one campaign.

use clap::Args;

use crate::cli::{ConfigFile, Json};

/// Show all that the ledger knows of one campaign
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell campaign show 123e4567-e89b-12d3-a456-426614174003")]
pub struct Arguments {
    /// The campaign's id
    #[arg(value_name = "ID")]
    pub adv_campaign_id: String,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// How to print it.
    #[command(flatten)]
    pub json: Json,
}
