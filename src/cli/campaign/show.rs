//! `dinnerbell campaign show`

use clap::Args;

use super::list::{json_line, line, moment, rate, reasons, state};
use super::watch::{Frame, watch};
use crate::cli::{ConfigFile, Failure, Json, pause};
use crate::operator::audiences::Audiences;
use crate::operator::campaigns;
use crate::operator::campaigns::Details;
use dinnerbell_core::text_table::{or_dash, plain};

const EXAMPLES: &str = "\
Examples:
  dinnerbell campaign show 123e4567-e89b-12d3-a456-426614174003
  dinnerbell campaign show 123e4567-e89b-12d3-a456-426614174003 --watch";

/// Show all that is known of one campaign
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The campaign's id
    #[arg(value_name = "CAMPAIGN")]
    id: String,
    /// Show it again each second until Ctrl-C; where standard output is no terminal, or with --json, a line for each change
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        self.config.on_feedback(async |config, pool| {
            pause::note(&pool).await?;
            let audiences = Audiences::of(config);
            let show = async || campaigns::show(&pool, &audiences, &self.id).await?.ok_or_else(|| unknown(&self.id));
            if self.watch {
                let json = self.json.json;
                return watch(json, async || frame(json, show().await?)).await;
            }
            let campaign = show().await?;
            self.json.print(&campaign, text)
        })
    }
}

pub(super) fn unknown(id: &str) -> Failure {
    Failure::Failed(format!(
        "there is no campaign {}: `dinnerbell campaign list` shows those that arrived; what could not become one is a dead letter",
        plain(id)
    ))
}

/// A campaign as it is watched.
fn frame(json: bool, campaign: Details) -> Result<Frame, Failure> {
    let screen = text(&campaign);
    let line = if json { json_line(&campaign)? } else { line(&campaign.summary) };
    Ok(Frame { screen, lines: vec![(campaign.summary.adv_campaign_id, line)] })
}

fn text(campaign: &Details) -> String {
    let summary = &campaign.summary;
    let lines = [
        ("campaign", summary.adv_campaign_id.clone()),
        ("restaurant", or_dash(summary.restaurant_id.as_ref())),
        ("state", state(summary)),
        ("told", format!("{}, {} of them late subscribers", summary.told, summary.late)),
        ("not told", reasons(&summary.not_told)),
        ("rate", summary.rate.map_or_else(|| "-".to_owned(), |_| format!("{} drafts a second", rate(summary.rate)))),
        ("left", summary.remaining.map_or_else(|| "-".to_owned(), |left| format!("about {left}"))),
        ("complete at", or_dash(summary.expected_completion_at.as_ref())),
        (
            "locked",
            format!(
                "{} rows of withdrawn drafts that somebody's open transaction has locked; they go later",
                campaign.locked
            ),
        ),
        ("kept", format!("{} rows of withdrawn drafts that somebody answered in", campaign.kept)),
        ("start", moment(summary.adv_campaign_datetime_start)),
        ("end", moment(summary.adv_campaign_datetime_end)),
        ("content", or_dash(campaign.adv_campaign_content.as_ref())),
        ("owner", or_dash(campaign.adv_campaign_owner.as_ref())),
        ("contact", or_dash(campaign.adv_campaign_owner_contact.as_ref())),
        ("created", moment(campaign.datetime_created)),
        ("revision", campaign.revision.to_string()),
        ("lane", format!("{}, offset {}", campaign.lane, or_dash(campaign.received_offset))),
        ("received", campaign.received_at.clone()),
        ("audience", or_dash(summary.audience_as_of.as_ref())),
        ("first draft", or_dash(summary.first_draft_at.as_ref())),
        ("last draft", or_dash(summary.last_draft_at.as_ref())),
        ("cancelled", or_dash(campaign.cancelled_at.as_ref())),
    ];
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:11}  {}\n", plain(value))).collect();
    for moment in &campaign.timeline {
        let times = moment.times.map(|times| format!(", {times} times")).unwrap_or_default();
        let what = moment.what.replace('_', " ");
        text.push_str(&format!("{:11}  {} {what}{times}\n", "timeline", or_dash(moment.at.as_ref())));
    }
    text
}
