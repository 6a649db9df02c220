//! `dinnerbell client show`

use clap::Args;

use crate::cli::campaign::list::check_after;
use crate::cli::{ConfigFile, Failure, Json, output};
use crate::operator::audiences::Audiences;
use crate::operator::told::{Answer, ClientHistory, history};
use dinnerbell_core::text_table::{Fit, cut, or_dash, plain};

const HELP: &str = "\
Only the campaigns that were received last are looked at, by indexes: neither table has one by client. The last line says how far back that was, and how to
go on.

Examples:
  dinnerbell client show 223e4567-e89b-12d3-a456-426614174000
  dinnerbell client show 223e4567-e89b-12d3-a456-426614174000 --last 20000 --json | jq '.campaigns[] | select(.told | not)'";

/// How much of an id a line of the table shows.
const LONGEST_SHOWN: usize = 36;

/// What is cut where there is no room for all: the restaurant, how, then the campaign.
const FLEXIBLE: [(usize, usize); 3] = [(1, 8), (4, 40), (0, 12)];

/// Show the last campaigns of a client: of the restaurants that they favour, and those that told them
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Arguments {
    /// The client's id
    #[arg(value_name = "CLIENT", allow_hyphen_values = true)]
    id: String,
    /// How many campaigns to look at, those that were received last first
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    last: u32,
    /// Look at those that come after this campaign in `campaign list`: the next page
    #[arg(long, value_name = "CAMPAIGN")]
    after: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let Self { id, last, after, .. } = &self;
        let shown = self.config.on_feedback(async |config, pool| {
            check_after(&pool, after.as_deref()).await?;
            Ok(history(config, &Audiences::of(config), pool, id, after.as_deref(), *last as usize).await?)
        })?;
        self.json.print(&shown, text)
    }
}

fn text(history: &ClientHistory) -> String {
    let cells = |answer: &Answer| {
        [
            cut(&answer.adv_campaign_id, LONGEST_SHOWN),
            cut(&or_dash(answer.restaurant_id.as_ref()), LONGEST_SHOWN),
            answer.state.clone(),
            if answer.told { "yes" } else { "no" }.to_owned(),
            answer.explanation.clone(),
        ]
    };
    let fit = Fit { width: output::width(), flexible: &FLEXIBLE, optional: &[] };
    let head = ["CAMPAIGN", "RESTAURANT", "STATE", "TOLD", "HOW, OR WHY NOT"];
    let mut text = fit.table(head, history.campaigns.iter().map(cells));
    let looked_at = &history.looked_at;
    text.push_str(&format!(
        "{} campaigns were looked at, received since {}{}\n",
        looked_at.campaigns,
        or_dash(looked_at.since.as_ref()),
        looked_at.next.as_ref().map(|next| format!("; earlier ones: --after {}", plain(next))).unwrap_or_default()
    ));
    text
}
