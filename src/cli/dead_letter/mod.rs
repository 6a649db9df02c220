//! `dinnerbell dead-letter ...`

pub mod list;
pub mod replay;
pub mod show;

use clap::builder::TypedValueParser;
use clap::{Args, Subcommand};

use super::Failure;
use crate::cli::time;
use crate::operator::dead_letters::{Filter, WHOLE_RECORD};
use dinnerbell_core::model::input::field_names;
use dinnerbell_core::model::number::Lane;

/// List, show and replay what could not become a campaign
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters, the latest first
    List(list::Arguments),
    /// Show one with its key, value and headers
    Show(show::Arguments),
    /// Send originals to the campaigns topic once more
    Replay(replay::Arguments),
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        match self.command {
            Command::List(arguments) => arguments.execute(),
            Command::Show(arguments) => arguments.execute(),
            Command::Replay(arguments) => arguments.execute(),
        }
    }
}

/// Which of them.
#[derive(Debug, Clone, Args)]
pub struct FilterArguments {
    /// Only those that arrived in this lane
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..).map(Lane::new))]
    lane: Option<Lane>,
    /// Only those that break a rule of this field; `record`: of no single field
    #[arg(long, value_name = "FIELD")]
    reason_field: Option<String>,
    /// Only those that arrived then or later: RFC 3339, epoch seconds, or from now, as -24h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
}

impl FilterArguments {
    fn filter(&self, not_replayed: bool) -> Result<Filter, Failure> {
        let since = time::since(self.since.as_deref())?;
        if let Some(field) = &self.reason_field
            && !field_names().chain([WHOLE_RECORD]).any(|name| name == field)
        {
            let names: Vec<_> = field_names().chain([WHOLE_RECORD]).collect();
            return Err(Failure::Usage(format!("--reason-field must be one of {}", names.join(", "))));
        }
        Ok(Filter { lane: self.lane, reason_field: self.reason_field.clone(), since, not_replayed })
    }
}
