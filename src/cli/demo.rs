//! `dinnerbell demo`: the whole service on one machine.

use clap::Args;

/// Run the whole service on this machine, in a temporary folder that is gone when it ends; needs PostgreSQL's programs
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dinnerbell demo\n  dinnerbell demo --once")]
pub struct Arguments {
    /// Stop when the first campaigns are done; exit status 0 only if both sinks agree
    #[arg(long)]
    pub once: bool,
}
