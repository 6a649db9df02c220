//! `dinnerbell lane resolve`

use clap::builder::TypedValueParser;
use clap::{ArgGroup, Args, ValueEnum};
use indicatif::ProgressBar;

use crate::cli::{ConfigFile, Failure, Json, block_on, operator, time};
use crate::operator::resolve::{
    FromKafka, Position, Request, Resolution, Resolved, accept_topic, resolve, resolve_all,
};
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::recovery::decide::Assumed;
use dinnerbell_core::text_table::plain;

const EXAMPLES: &str = "\
Examples:
  dinnerbell lane list                              what halted, and the remedy
  dinnerbell lane resolve 3 --retry
  dinnerbell lane resolve 3 --restart-at earliest
  dinnerbell lane resolve 3 --from-kafka --dry-run
  dinnerbell lane resolve --all --from-kafka        after a database lost its last commits
  dinnerbell lane resolve --all --accept-topic      after the notifications topic was recreated";

/// Resolve the halt of a lane, as its remedy says
///
/// The service may run meanwhile: it notices within a second and goes on.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("how").required(true).args(["retry", "restart_at", "from_kafka", "accept_rows", "tell_again", "accept_topic"]))]
#[command(group = ArgGroup::new("for_all").args(["from_kafka", "accept_topic"]))]
pub struct Arguments {
    /// The lane: a partition of the campaigns topic
    #[arg(value_name = "LANE", value_parser = clap::value_parser!(i32).range(0..).map(Lane::new), required_unless_present = "all")]
    lane: Option<Lane>,
    /// All lanes that lost commits or contradict Kafka; with --accept-topic, all lanes halted by the replaced topic
    #[arg(long, requires = "for_all", conflicts_with = "lane")]
    all: bool,
    /// Try again, after the cause was fixed
    #[arg(long)]
    retry: bool,
    /// The campaigns topic was trimmed or recreated: go on at earliest, latest or an offset
    #[arg(long, value_name = "POSITION", value_parser = position)]
    restart_at: Option<Position>,
    /// Ledger and Kafka contradict each other: repair the ledger and the feedback table from the output topic
    #[arg(long)]
    from_kafka: bool,
    /// Rows of a round that is not published yet were changed or removed: the round becomes what its rows are now
    #[arg(long)]
    accept_rows: bool,
    /// Rows of campaigns that run were removed: tell those clients again
    #[arg(long)]
    tell_again: bool,
    /// The notifications topic was recreated: the ledger takes the one that is there
    #[arg(long, requires = "all")]
    accept_topic: bool,
    /// Read only messages of drafts formed then or later: RFC 3339, epoch seconds, or from now, as -24h
    #[arg(long, value_name = "TIME", requires = "from_kafka", allow_hyphen_values = true)]
    since: Option<String>,
    /// State whether the last round was published, if the output topic no longer shows it
    #[arg(long, value_enum, requires = "from_kafka")]
    assume: Option<Assume>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Assume {
    /// Nobody is told twice; some may never be told
    Published,
    /// It is published now, as far as its campaigns still run
    Unpublished,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let (dry_run, by) = (self.dry_run, operator("lane resolve"));
        if self.accept_topic {
            let config = self.config.load()?;
            let resolved = block_on(async { Ok(accept_topic(&config, dry_run, &by).await?) })?;
            return self.json.print(resolved.as_slice(), |lanes| all(lanes, "is halted as notifications-replaced"));
        }
        let resolution = self.resolution()?;
        let config = self.config.load()?;
        // Drawn on standard error, and only on a terminal.
        let progress = ProgressBar::new(0);
        let (lane, resolution) = match (self.lane, resolution) {
            (None, Resolution::FromKafka(from_kafka)) => {
                let resolved = block_on(async { Ok(resolve_all(&config, from_kafka, dry_run, &by, &progress).await?) });
                progress.finish_and_clear();
                return self.json.print(resolved?.as_slice(), |lanes| all(lanes, "lost commits or contradicts Kafka"));
            }
            (lane, resolution) => (lane.unwrap_or_default(), resolution),
        };
        let request = Request { lane, resolution, dry_run, by };
        let resolved = block_on(async { Ok(resolve(&config, &request, &progress).await?) });
        progress.finish_and_clear();
        let resolved = resolved?;
        self.json.print(&resolved, text)
    }

    fn resolution(&self) -> Result<Resolution, Failure> {
        if let Some(position) = self.restart_at {
            return Ok(Resolution::RestartAt(position));
        }
        if self.retry {
            return Ok(Resolution::Retry);
        }
        if self.tell_again {
            return Ok(Resolution::TellAgain);
        }
        if self.accept_rows {
            return Ok(Resolution::AcceptRows);
        }
        let since = time::since(self.since.as_deref())?;
        let assumed = self.assume.map(|assume| match assume {
            Assume::Published => Assumed::Published,
            Assume::Unpublished => Assumed::Unpublished,
        });
        Ok(Resolution::FromKafka(FromKafka { since, assumed }))
    }
}

fn position(text: &str) -> Result<Position, String> {
    match text {
        "earliest" => Ok(Position::Earliest),
        "latest" => Ok(Position::Latest),
        offset => match offset.parse() {
            Ok(offset) if offset >= Offset::FIRST => Ok(Position::Offset(offset)),
            _ => Err("must be earliest, latest or an offset".to_owned()),
        },
    }
}

fn all(resolved: &[Resolved], what: &str) -> String {
    match resolved.is_empty() {
        true => format!("no lane {what}\n"),
        false => resolved.iter().map(text).collect(),
    }
}

fn text(resolved: &Resolved) -> String {
    let mut text = format!("lane {}\n", resolved.lane);
    let verb = if resolved.dry_run { "would" } else { "done" };
    let found = resolved.found.iter().map(|line| ("found", line));
    for (what, line) in found.chain(resolved.done.iter().map(|line| (verb, line))) {
        text.push_str(&format!("  {what:6} {}\n", plain(line)));
    }
    if resolved.dry_run {
        text.push_str("nothing was changed\n");
    }
    text
}
