//! `dinnerbell migrate`: the ledger and the indexes.

use clap::Args;

use super::ConfigFile;

/// Make or bring up to date the ledger and the indexes; repeatable, and safe beside a running service
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dinnerbell migrate -c dinnerbell.toml\n  dinnerbell migrate --print-sql | less")]
pub struct Arguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Make the tables of subscribers and feedback too, where they are missing
    #[arg(long)]
    pub create_tables: bool,
    /// Print what would be executed, and execute nothing
    #[arg(long)]
    pub print_sql: bool,
}
