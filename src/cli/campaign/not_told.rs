//! `dinnerbell campaign not-told`

use std::collections::BTreeMap;

use clap::Args;
use indicatif::ProgressBar;

use super::show::unknown;
use crate::cli::failure::remark;
use crate::cli::{ConfigFile, Failure, output};
use crate::operator::csv;
use crate::operator::not_told::{NotToldClient, Walk};
use dinnerbell_core::model::not_told::NotToldReason;
use dinnerbell_core::text_table::plain;

const HELP: &str = "\
The audience is what the subscribers' table holds now. The lines are as many as `unsent` of `campaign show` says, and one more for each unusable id, where the
audience did not change since.

Examples:
  dinnerbell campaign not-told 123e4567-e89b-12d3-a456-426614174003
  dinnerbell campaign not-told 123e4567-e89b-12d3-a456-426614174003 --csv > not-told.csv
  dinnerbell campaign not-told 123e4567-e89b-12d3-a456-426614174003 --json | jq -r '.[] | select(.reason == \"ended\") | .client_id'";

/// List who was not told of a campaign, each with the reason
///
/// Lines come as they are found, and memory does not grow with the audience. In CSV a cell that a spreadsheet would take for a formula gets an apostrophe
/// before it; JSON has the ids as they are.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// The campaign's id
    #[arg(value_name = "CAMPAIGN")]
    id: String,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How many at most; all where it is left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only those behind this client in the order of ids: the next page
    #[arg(long, value_name = "CLIENT", allow_hyphen_values = true)]
    after: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Csv,
    Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let form = match (self.csv, self.json) {
            (true, _) => Form::Csv,
            (_, true) => Form::Json,
            _ => Form::Text,
        };
        let progress = output::spinner();
        let printed = self.config.on_feedback(async |config, pool| {
            let begun = Walk::begin(config, pool, &self.id, self.after.clone()).await?;
            let walk = begun.ok_or_else(|| unknown(&self.id))?;
            print(walk, form, self.limit.unwrap_or(u64::MAX), &progress).await
        });
        progress.finish_and_clear();
        let printed = printed?;
        if form == Form::Text {
            remark(&printed.summary());
        }
        Ok(())
    }
}

/// What was printed.
#[derive(Debug, Default)]
struct Printed {
    lines: u64,
    reasons: BTreeMap<NotToldReason, u64>,
    compared: usize,
    /// More may follow behind this client.
    after: Option<String>,
}

impl Printed {
    fn summary(&self) -> String {
        let reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, clients)| format!("{clients} {}", reason.name().replace('_', " ")))
            .collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
        let more = self.after.as_ref().map(|after| format!("; those behind: --after {}", plain(after)));
        format!(
            "{} were not told{reasons}; {} of the audience were compared{}",
            self.lines,
            self.compared,
            more.unwrap_or_default()
        )
    }
}

/// Prints each page as it comes, up to a number of lines.
async fn print(mut walk: Walk, form: Form, limit: u64, progress: &ProgressBar) -> Result<Printed, Failure> {
    let mut printed = Printed::default();
    output::print(match form {
        Form::Text => "",
        Form::Csv => "client_id,reason\r\n",
        Form::Json => "[",
    })?;
    'pages: while let Some(page) = walk.step().await? {
        printed.compared += page.compared;
        let mut lines = String::new();
        for client in &page.clients {
            if printed.lines == limit {
                progress.suspend(|| output::print(&lines))?;
                break 'pages;
            }
            lines.push_str(&line(client, form, printed.lines == 0)?);
            printed.lines += 1;
            *printed.reasons.entry(client.reason).or_default() += 1;
            printed.after = Some(client.client_id.clone());
        }
        progress.suspend(|| output::print(&lines))?;
        progress.set_message(format!("{} compared, {} not told", printed.compared, printed.lines));
        progress.tick();
        if page.next.is_none() {
            printed.after = None;
        }
    }
    if form == Form::Json {
        output::print(if printed.lines == 0 { "]\n" } else { "\n]\n" })?;
    }
    Ok(printed)
}

fn line(client: &NotToldClient, form: Form, is_first: bool) -> Result<String, Failure> {
    Ok(match form {
        Form::Text => format!("{:<16}  {}\n", client.reason.name().replace('_', " "), plain(&client.client_id)),
        Form::Csv => csv::line([&client.client_id, client.reason.name()]),
        Form::Json => {
            let object = super::list::json_line(client)?;
            format!("{}\n  {object}", if is_first { "" } else { "," })
        }
    })
}
