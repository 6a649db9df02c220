//! `dinnerbell campaign ...`

pub mod cancel;
pub mod list;
pub mod not_told;
pub mod preview;
pub mod send;
pub mod show;
pub mod told;
mod watch;

use clap::{Args, Subcommand};

use super::Failure;

/// Send, preview, list, show and cancel campaigns; say who was told
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell campaign list --json")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a campaign from flags or a file and put it on the campaigns topic
    Send(Box<send::Arguments>),
    /// Say who would be told, how long that takes, and what is wrong, before a campaign is sent
    Preview(preview::Arguments),
    /// List campaigns, those that were received last first
    List(list::Arguments),
    /// Show all that is known of one campaign
    Show(show::Arguments),
    /// Say whether a client was told of a campaign, when and how, or why not
    Told(told::Arguments),
    /// List who was not told of a campaign, each with the reason
    NotTold(not_told::Arguments),
    /// Cancel a campaign, for ever, and wait until nobody is told any more
    Cancel(cancel::Arguments),
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        match self.command {
            Command::Send(arguments) => arguments.execute(),
            Command::Preview(arguments) => arguments.execute(),
            Command::List(arguments) => arguments.execute(),
            Command::Show(arguments) => arguments.execute(),
            Command::Told(arguments) => arguments.execute(),
            Command::NotTold(arguments) => arguments.execute(),
            Command::Cancel(arguments) => arguments.execute(),
        }
    }
}
