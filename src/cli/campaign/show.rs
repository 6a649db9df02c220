//! `dinnerbell campaign show`

use clap::Args;

use super::list::moment;
use crate::cli::output::{or_dash, plain};
use crate::cli::{ConfigFile, Failure, Json, block_on, output};
use crate::operate::campaigns::{self, Details};
use crate::postgres::connect::Pool;

/// Show all that is known of one campaign
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dinnerbell campaign show 123e4567-e89b-12d3-a456-426614174003")]
pub struct Arguments {
    /// The campaign's id
    #[arg(value_name = "CAMPAIGN")]
    id: String,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Does what is asked.
    pub fn execute(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let campaign = block_on(async {
            let pool = Pool::open(&config.feedback, "feedback")?;
            Ok(campaigns::show(&pool, &self.id).await?)
        })?;
        let Some(campaign) = campaign else {
            return Err(Failure::Failed(format!(
                "there is no campaign {}: `dinnerbell campaign list` shows those that arrived; what could not become one is a dead letter",
                plain(&self.id)
            )));
        };
        if self.json.json { output::print_json(&campaign) } else { output::print(&text(campaign)) }
    }
}

fn text(campaign: Details) -> String {
    let summary = campaign.summary.clone();
    let lines = [
        ("campaign", summary.adv_campaign_id.clone()),
        ("restaurant", or_dash(summary.restaurant_id.as_ref())),
        ("state", summary.state.clone()),
        ("told", format!("{}, {} of them late subscribers", summary.told, summary.late)),
        ("unsent", or_dash(summary.unsent)),
        ("skipped", format!("{} client ids that are empty or too long", campaign.skipped)),
        ("kept", format!("{} rows of withdrawn drafts that somebody answered in", campaign.kept)),
        ("start", moment(summary.adv_campaign_datetime_start)),
        ("end", moment(summary.adv_campaign_datetime_end)),
        ("content", or_dash(campaign.adv_campaign_content)),
        ("owner", or_dash(campaign.adv_campaign_owner)),
        ("contact", or_dash(campaign.adv_campaign_owner_contact)),
        ("created", moment(campaign.datetime_created)),
        ("revision", campaign.revision.to_string()),
        ("lane", format!("{}, offset {}", campaign.lane, or_dash(campaign.received_offset))),
        ("received", campaign.received_at),
        ("audience", or_dash(summary.audience_as_of.as_ref())),
        ("first draft", or_dash(campaign.first_draft_at)),
        ("last draft", or_dash(campaign.last_draft_at)),
        ("cancelled", or_dash(campaign.cancelled_at)),
    ];
    lines.iter().map(|(name, value)| format!("{name:11}  {}\n", plain(value))).collect()
}
