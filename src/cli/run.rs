//! `dinnerbell run`: the service.

use clap::Args;

use super::ConfigFile;

/// Run the service until SIGTERM or Ctrl-C; a second one ends it at once
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell run -c dinnerbell.toml")]
pub struct Arguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
}
