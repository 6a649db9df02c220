//! `dinnerbell verify`

use clap::Args;
use indicatif::ProgressBar;

use super::{ConfigFile, Failure, Json, block_on, operator, time};
use crate::operator::republish::Republished;
use crate::verify::{Example, Outcome, Report, VerifyError, verify};
use dinnerbell_core::text_table::{or_dash, plain};

const HELP: &str = "\
Exit status: 0 both hold the same drafts, 1 they differ, 3 they could not be compared.

Examples:
  dinnerbell verify
  dinnerbell verify --since=-24h --json | jq .differences
  dinnerbell verify --republish --dry-run           after an unclean election of the notifications topic";

/// Compare the output topic and the feedback table, draft by draft
///
/// It may run beside the service: rows of a round that is recorded and not yet published count as pending. Needs some 50 bytes of
/// temporary files (TMPDIR) for each row and each message.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// Only drafts formed then or later: RFC 3339, epoch seconds, or from now, as -24h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Tell clients again whose row has no message because Kafka lost it, while their campaigns last
    #[arg(long)]
    republish: bool,
    /// With --republish: only say what would be done
    #[arg(long, requires = "republish")]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let since = time::since(self.since.as_deref())?;
        let config = self.config.load()?;
        // Drawn on standard error, and only on a terminal.
        let progress = ProgressBar::new(0);
        let compared = block_on(async {
            let not_compared = |error: VerifyError| Failure::NotCompared(error.to_string());
            let mut report = verify(&config, since, &progress).await.map_err(not_compared)?;
            if self.republish {
                report.republish(&config, self.dry_run, &operator("verify")).await.map_err(not_compared)?;
            }
            if let Err(error) = report.keep(&config, &operator("verify")).await {
                tracing::warn!(%error, "the outcome could not be kept: the page does not show it");
            }
            Ok(report)
        });
        progress.finish_and_clear();
        let report = compared?;
        self.json.print(&report, text)?;
        match report.result {
            Outcome::Equal => Ok(()),
            Outcome::Different if report.is_mended() => Ok(()),
            Outcome::Different => Err(Failure::Different(format!(
                "{} and {} differ in {} places",
                report.topic,
                report.table,
                report.differences.total()
            ))),
            Outcome::NotCompared => Err(Failure::NotCompared(report.reason.unwrap_or_default())),
        }
    }
}

fn text(report: &Report) -> String {
    let differences = &report.differences;
    let counts = [
        (report.equal, "drafts are in both, equal"),
        (report.pending, "rows are pending: their round is recorded and not yet published"),
        (report.kept, "rows of withdrawn drafts were kept, because somebody answered in them"),
        (
            report.locked,
            "rows of withdrawn drafts are locked by somebody's open transaction, and go when they are free: see `dinnerbell lane list`",
        ),
        (report.foreign_rows, "rows were there before the service: an earlier job's"),
        (report.foreign_messages, "messages are not the service's"),
        (differences.rows_without_message, "rows have no message"),
        (differences.messages_without_row, "messages have no row"),
        (differences.fields_differ, "drafts differ in a field or in their key"),
        (differences.messages_repeated, "messages are repeats"),
        (differences.rows_repeated, "rows are repeats"),
        (differences.no_drafts, "messages of our rounds are no drafts"),
    ];
    let mut text =
        format!("{} messages in {}, {} rows in {}\n", report.messages, report.topic, report.rows, report.table);
    for (count, what) in counts {
        if count > 0 || what.ends_with("equal") {
            text.push_str(&format!("{count:>12}  {what}\n"));
        }
    }
    report.examples.iter().for_each(|example| text.push_str(&line(example)));
    if let Some(Republished { dry_run, drafts, over, answered, unrecorded }) = &report.republished {
        let are = if *dry_run { "would be" } else { "are" };
        text.push_str(&format!(
            "{drafts} clients {are} told once more; rows stay of {over} whose campaign is over, of {answered} who answered, \
             and of {unrecorded} whom no round that the ledger still has told\n"
        ));
    }
    for lane in &report.halted_lanes {
        text.push_str(&format!("lane {lane} is halted: see `dinnerbell lane list`\n"));
    }
    text
}

fn line(example: &Example) -> String {
    let name = serde_json::to_value(example.finding).ok();
    let name = name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().replace('_', " ");
    let place = match (example.row, example.partition.zip(example.offset)) {
        (Some(row), _) => format!("row {row}"),
        (None, Some((partition, offset))) => format!("partition {partition}, offset {offset}"),
        (None, None) => String::new(),
    };
    let campaign = plain(&or_dash(example.adv_campaign_id.as_ref()));
    let client = plain(&or_dash(example.client_id.as_ref()));
    format!("  {name}: campaign {campaign}, client {client}, {place}\n")
}
