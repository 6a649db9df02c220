//! `dinnerbell campaign list`

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use crate::campaign::EpochSeconds;
use crate::cli::output::{or_dash, plain, table};
use crate::cli::{ConfigFile, Failure, Json, block_on, output};
use crate::operate::campaigns::{self, Filter, Summary};
use crate::postgres::connect::Pool;

const EXAMPLES: &str = "\
Examples:
  dinnerbell campaign list --state active
  dinnerbell campaign list --restaurant 123e4567-e89b-12d3-a456-426614174000 --limit 10
  dinnerbell campaign list --json | jq -r '.[] | select(.unsent > 0) | .adv_campaign_id'";

/// List campaigns, those that were received last first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only those in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only those of this restaurant
    #[arg(long, value_name = "ID")]
    restaurant: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only those that come after this campaign in the list: its next page
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Scheduled,
    Active,
    Complete,
    Closed,
    Expired,
    Cancelled,
}

impl Arguments {
    /// Does what is asked.
    pub fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let name = |state: State| state.to_possible_value().map(|value| value.get_name().to_owned());
        let filter = Filter {
            state: self.state.and_then(name),
            restaurant_id: self.restaurant,
            after: self.after,
            limit: self.limit.into(),
        };
        let campaigns = block_on(async {
            let pool = Pool::open(&config.feedback, "feedback")?;
            if let Some(after) = &filter.after
                && campaigns::show(&pool, after).await?.is_none()
            {
                return Err(Failure::Failed(format!("--after: there is no campaign {}", plain(after))));
            }
            Ok(campaigns::list(&pool, &filter).await?)
        })?;
        if self.json.json {
            return output::print_json(&campaigns);
        }
        let head = ["CAMPAIGN", "RESTAURANT", "STATE", "TOLD", "LATE", "UNSENT", "START", "END", "AUDIENCE AS OF"];
        output::print(&table(head, campaigns.into_iter().map(cells)))
    }
}

fn cells(campaign: Summary) -> [String; 9] {
    [
        campaign.adv_campaign_id,
        or_dash(campaign.restaurant_id),
        campaign.state,
        campaign.told.to_string(),
        campaign.late.to_string(),
        or_dash(campaign.unsent),
        moment(campaign.adv_campaign_datetime_start),
        moment(campaign.adv_campaign_datetime_end),
        or_dash(campaign.audience_as_of),
    ]
}

/// Epoch seconds as RFC 3339.
pub(super) fn moment(seconds: Option<EpochSeconds>) -> String {
    or_dash(
        seconds.map(|seconds| {
            Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
        }),
    )
}
