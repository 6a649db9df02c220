//! `dinnerbell dead-letter list`

use clap::Args;

use super::FilterArguments;
use crate::cli::{ConfigFile, Failure, Json, output};
use crate::operator::dead_letters;
use crate::operator::dead_letters::Summary;
use dinnerbell_core::text_table::{Fit, or_dash};

const EXAMPLES: &str = "\
Examples:
  dinnerbell dead-letter list --since -24h --not-replayed
  dinnerbell dead-letter list --reason-field adv_campaign_datetime_end --before 4711
  dinnerbell dead-letter list --json | jq -r '.[] | select(.in_doubt_since) | .id'";

/// What is cut where there is no room for all: the reason, which `dead-letter show` has whole.
const FLEXIBLE: [(usize, usize); 2] = [(7, 20), (6, 8)];

/// List dead letters, the latest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Only those that were not replayed, those in doubt included
    #[arg(long)]
    not_replayed: bool,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only those below this id: the next page
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let filter = self.filter.filter(self.not_replayed)?;
        let letters = self.config.on_feedback(async |_, pool| {
            Ok(dead_letters::list(&pool, &filter, self.before, self.limit.into()).await?)
        })?;
        if self.json.json {
            return output::print_json(&letters);
        }
        let head = ["ID", "LANE", "OFFSET", "ARRIVED", "BYTES", "REPLAYED", "FIELD", "REASON"];
        let fit = Fit { width: output::width(), flexible: &FLEXIBLE, optional: &[5] };
        output::print(&fit.table(head, letters.into_iter().map(cells)))
    }
}

/// A time without its fractions.
fn to_the_second(time: String) -> String {
    time.split_once('.').map_or(time.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn cells(letter: Summary) -> [String; 8] {
    let replayed = match (&letter.in_doubt_since, &letter.replayed_at) {
        (Some(_), _) => "in doubt".to_owned(),
        (None, at) => or_dash(at.as_ref()),
    };
    [
        letter.id.to_string(),
        letter.lane.to_string(),
        letter.offset.to_string(),
        or_dash(letter.arrived_at.map(to_the_second)),
        or_dash(letter.value_bytes),
        replayed,
        or_dash(letter.field),
        letter.reason,
    ]
}
