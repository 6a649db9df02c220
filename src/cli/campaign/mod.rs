//! `dinnerbell campaign ...`

pub mod send;

use clap::{Args, Subcommand};

use super::Failure;

/// Send campaigns
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a campaign from flags or a file and put it on the campaigns topic
    Send(Box<send::Arguments>),
}

impl Arguments {
    /// Does what is asked.
    pub fn execute(self) -> Result<(), Failure> {
        match self.command {
            Command::Send(arguments) => arguments.execute(),
        }
    }
}
