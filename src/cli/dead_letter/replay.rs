//! `dinnerbell dead-letter replay`

use clap::{ArgGroup, Args};

use super::FilterArguments;
use crate::cli::{ConfigFile, Failure, Json, block_on, operator};
use crate::operator::replay;
use crate::operator::replay::{Replayed, Request, Which};

const EXAMPLES: &str = "\
Examples:
  dinnerbell dead-letter replay 4711 4712
  dinnerbell dead-letter replay --all --since -2h --reason-field restaurant_id --dry-run
  dinnerbell dead-letter replay 4711 --again      it is in doubt, and not in the topic; or once more by intention";

/// Send the originals of dead letters to the campaigns topic once more, each once
///
/// Key, value and headers as they arrived, to the partition in which they arrived. Who replayed a letter and when is kept; one that was replayed
/// is left alone. If this command dies half-way, at most one batch stays in doubt: it is shown so, and left alone too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub struct Arguments {
    /// Their ids, as `dead-letter list` shows them
    #[arg(value_name = "ID", conflicts_with_all = ["lane", "reason_field", "since"])]
    ids: Vec<i64>,
    /// All that were not replayed yet, or those among them that the filters find
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArguments,
    /// Also those that were replayed before or are in doubt
    #[arg(long, conflicts_with = "all")]
    again: bool,
    /// Only say what would be sent
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let which = match self.all {
            true => Which::All(self.filter.filter(true)?),
            false => Which::Ids(self.ids),
        };
        let config = self.config.load()?;
        let request = Request { which, again: self.again, dry_run: self.dry_run, by: operator("dead-letter replay") };
        let replayed = block_on(async {
            replay::replay(&config, request).await.map_err(|error| Failure::Failed(error.to_string()))
        })?;
        self.json.print(&replayed, text)?;
        if replayed.is_done() { Ok(()) } else { Err(Failure::Reported(1)) }
    }
}

fn text(replayed: &Replayed) -> String {
    let sent = if replayed.dry_run { "would be sent" } else { "sent" };
    let mut text = format!("{sent}: {}\n", replayed.replayed.len());
    let ids = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
    for (letters, what) in [
        (&replayed.already_replayed, "replayed before; --again sends them once more"),
        (&replayed.in_doubt, "in doubt: look for them in the topic; those that are not there: --again"),
        (&replayed.unreadable_headers, "a header's name is not UTF-8, so the original cannot be sent from here"),
        (
            &replayed.not_kept,
            "the record was too large to be kept, or could not be read: its sender has to send it again",
        ),
        (&replayed.unknown, "no such dead letter"),
    ] {
        if !letters.is_empty() {
            text.push_str(&format!("{}: {what}\n", ids(letters)));
        }
    }
    if let Some(error) = &replayed.error {
        text.push_str(&format!("stopped: {error}\n"));
    }
    text
}
