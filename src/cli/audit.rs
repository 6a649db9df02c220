//! `dinnerbell audit`

use clap::Args;

use super::{ConfigFile, Failure, Json, output, time};
use crate::operator::audit;
use crate::operator::audit::{Entry, Filter};
use dinnerbell_core::text_table::{Fit, or_dash};

const EXAMPLES: &str = "\
Examples:
  dinnerbell audit --since -24h
  dinnerbell audit --who ivan --limit 10
  dinnerbell audit --json | jq -r '.[] | select(.what == \"cancelled\") | .subject_id'";

/// What is cut where there is no room for all: the details, the machine, on what, who.
const FLEXIBLE: [(usize, usize); 4] = [(5, 12), (6, 12), (4, 16), (2, 12)];

/// List orders: who gave which, when, and from where; the latest first
///
/// Each is kept in the transaction that carries it out. What changes nothing, as a second pause, is no order. No client is named.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only those given then or later: RFC 3339, epoch seconds, or from now, as -24h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only those of somebody of this name
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only those that come after this one in the list: its next page
    #[arg(long, value_name = "ID")]
    after: Option<i64>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let Self { who, after, limit, .. } = self;
        let filter = Filter { since: time::since(self.since.as_deref())?, who, after, limit: limit.into() };
        let orders = self.config.on_feedback(async |_, pool| Ok(audit::list(&pool, &filter).await?))?;
        self.json.print(orders.as_slice(), text)
    }
}

fn text(orders: &[Entry]) -> String {
    let cells = |order: &Entry| {
        [
            order.id.to_string(),
            or_dash(order.at.as_ref()),
            order.who.clone(),
            order.what.replace('_', " "),
            about(order),
            order.details.clone(),
            format!("{}, {}", order.origin, order.host),
        ]
    };
    let fit = Fit { width: output::width(), flexible: &FLEXIBLE, optional: &[] };
    fit.table(["ID", "AT", "WHO", "WHAT", "ON", "DETAILS", "FROM"], orders.iter().map(cells))
}

fn about(order: &Entry) -> String {
    let kind = order.subject.replace('_', " ");
    order.subject_id.as_ref().map_or_else(|| kind.clone(), |id| format!("{kind} {id}"))
}
