//! `dinnerbell lane ...`

pub mod adopt;
pub mod list;
pub mod resolve;

use clap::{Args, Subcommand};

use super::Failure;

/// List lanes, resolve what halted one, and adopt what a lane without a partition left
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell lane list")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List lanes: who owns them, how far they are, what halted them and what to do
    List(list::Arguments),
    /// Mend what halted a lane, as its remedy says
    Resolve(resolve::Arguments),
    /// Let another lane go on with the campaigns of a lane whose partition is gone
    Adopt(adopt::Arguments),
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        match self.command {
            Command::List(arguments) => arguments.execute(),
            Command::Resolve(arguments) => arguments.execute(),
            Command::Adopt(arguments) => arguments.execute(),
        }
    }
}
