//! `dinnerbell client ...`

pub mod show;

use clap::{Args, Subcommand};

use super::Failure;

/// Show what a client was told
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell client show 223e4567-e89b-12d3-a456-426614174000")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the last campaigns of a client: told when and how, or why not
    Show(show::Arguments),
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        match self.command {
            Command::Show(arguments) => arguments.execute(),
        }
    }
}
