//! `dinnerbell campaign list`

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::watch::{Frame, watch};
use crate::cli::failure::remark;
use crate::cli::{ConfigFile, Failure, Json, output, pause, time};
use crate::operator::audiences::Audiences;
use crate::operator::campaigns;
use crate::operator::campaigns::{Filter, NotTold, Summary};
use dinnerbell_core::model::number::Seconds;
use dinnerbell_core::text_table::{Fit, cut, or_dash, plain};
use dinnerbell_postgres::connect::Pool;

const EXAMPLES: &str = "\
Examples:
  dinnerbell campaign list --state active,scheduled
  dinnerbell campaign list --restaurant 123e4567-e89b-12d3-a456-426614174000 --since -24h --limit 10
  dinnerbell campaign list --search soup --owner 'Ivanov Ivan Ivanovich'
  dinnerbell campaign list --state active --watch
  dinnerbell campaign list --json | jq -r '.[] | select(.unsent > 0) | .adv_campaign_id'";

/// How much of an id a line of the table shows. A UUID is shorter, and longer ids must not push the figures off the screen.
const LONGEST_SHOWN: usize = 40;
/// What is cut where there is no room for all, and down to which width: the restaurant, then the campaign.
const FLEXIBLE: [(usize, usize); 2] = [(1, 8), (0, 12)];
/// What is left out where nothing stands in it: the rate, and when it will be complete.
const OPTIONAL: [usize; 2] = [6, 7];

/// List campaigns, those that were received last first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only those in this state; several are separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    state: Vec<StateFilter>,
    /// Only those of this restaurant
    #[arg(long, value_name = "ID")]
    restaurant: Option<String>,
    /// Only those of this owner
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// Only those that hold this text, in whatever case: in their id, restaurant, owner or content
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only those received then or later: RFC 3339, epoch seconds, or from now, as -24h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only those received before: RFC 3339, epoch seconds, or from now, as -1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only those that come after this campaign in the list: its next page
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Show it again each second until Ctrl-C; where standard output is no terminal, or with --json, a line for each campaign that changed
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateFilter {
    Scheduled,
    Active,
    Complete,
    Closed,
    Expired,
    Cancelled,
}

impl Arguments {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        let filter = self.filter()?;
        self.config.on_feedback(async |config, pool| {
            pause::note(&pool).await?;
            let audiences = Audiences::of(config);
            check_after(&pool, filter.after.as_deref()).await?;
            if self.watch {
                let json = self.json.json;
                return watch(json, async || frame(json, campaigns::list(&pool, &audiences, &filter).await?.campaigns))
                    .await;
            }
            let page = campaigns::list(&pool, &audiences, &filter).await?;
            self.json.print(page.campaigns.as_slice(), text)?;
            if let Some(next) = &page.next
                && (page.campaigns.len() as i64) < filter.limit
            {
                remark(&format_args!("there may be more among earlier campaigns: --after {}", plain(next)));
            }
            Ok(())
        })
    }

    fn filter(&self) -> Result<Filter, Failure> {
        let name = |state: &StateFilter| state.to_possible_value().map(|value| value.get_name().to_owned());
        Ok(Filter {
            states: self.state.iter().filter_map(name).collect(),
            restaurant_id: self.restaurant.clone(),
            owner: self.owner.clone(),
            search: self.search.clone(),
            since: time::since(self.since.as_deref())?,
            until: time::until(self.until.as_deref())?,
            after: self.after.clone(),
            limit: self.limit.into(),
        })
    }
}

/// A page begins behind a campaign that the ledger knows: any other would be an empty page.
pub(in crate::cli) async fn check_after(pool: &Pool, after: Option<&str>) -> Result<(), Failure> {
    match after {
        Some(after) if !campaigns::is_known(pool, after).await? => {
            Err(Failure::Failed(format!("--after: there is no campaign {}", plain(after))))
        }
        _ => Ok(()),
    }
}

fn text(campaigns: &[Summary]) -> String {
    let head = ["CAMPAIGN", "RESTAURANT", "STATE", "TOLD", "LATE", "NOT TOLD", "RATE", "COMPLETE AT", "START", "END"];
    let fit = Fit { width: output::width(), flexible: &FLEXIBLE, optional: &OPTIONAL };
    fit.table(head, campaigns.iter().map(cells))
}

fn cells(campaign: &Summary) -> [String; 10] {
    [
        cut(&campaign.adv_campaign_id, LONGEST_SHOWN),
        cut(&or_dash(campaign.restaurant_id.as_ref()), LONGEST_SHOWN),
        state(campaign),
        campaign.told.to_string(),
        campaign.late.to_string(),
        reasons(&campaign.not_told),
        rate(campaign.rate),
        or_dash(campaign.expected_completion_at.as_ref().and_then(|at| at.parse().ok()).map(short)),
        short_moment(campaign.adv_campaign_datetime_start),
        short_moment(campaign.adv_campaign_datetime_end),
    ]
}

/// The state; marked where nobody was told.
pub(super) fn state(campaign: &Summary) -> String {
    let marked = if campaign.reached_nobody { " (nobody)" } else { "" };
    format!("{}{marked}", campaign.state)
}

/// A list as it is watched.
fn frame(json: bool, campaigns: Vec<Summary>) -> Result<Frame, Failure> {
    let screen = text(&campaigns);
    let line = |campaign: Summary| {
        let line = if json { json_line(&campaign)? } else { line(&campaign) };
        Ok((campaign.adv_campaign_id, line))
    };
    Ok(Frame { screen, lines: campaigns.into_iter().map(line).collect::<Result<_, Failure>>()? })
}

/// A campaign on one line, for logs.
pub(super) fn line(campaign: &Summary) -> String {
    let Summary { adv_campaign_id, told, late, .. } = campaign;
    let mut line = format!("{} {}: {told} told, {late} of them late", plain(adv_campaign_id), state(campaign));
    if !campaign.not_told.is_empty() {
        line.push_str(&format!(", not told: {}", reasons(&campaign.not_told)));
    }
    if campaign.rate.is_some() {
        line.push_str(&format!(", {} a second", rate(campaign.rate)));
    }
    if let Some(at) = &campaign.expected_completion_at {
        line.push_str(&format!(", about {} left, complete at {at}", or_dash(campaign.remaining)));
    }
    line
}

/// A value as JSON on one line.
pub(super) fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Failed(format!("cannot print this as JSON: {error}")))
}

/// Who was not told, and why.
pub(super) fn reasons(not_told: &[NotTold]) -> String {
    let reason = |not_told: &NotTold| {
        let why = not_told.why.name().replace('_', " ");
        format!("{} {why}", not_told.clients.map_or_else(|| "?".to_owned(), |clients| clients.to_string()))
    };
    if not_told.is_empty() { "-".to_owned() } else { not_told.iter().map(reason).collect::<Vec<_>>().join(", ") }
}

pub(super) fn rate(rate: Option<f64>) -> String {
    or_dash(rate.map(|rate| format!("{rate:.0}")))
}

/// Epoch seconds as they stand in a table.
fn short_moment(seconds: Option<Seconds>) -> String {
    let moment = |seconds: Seconds| Timestamp::from_second(seconds.get()).map_or_else(|_| seconds.to_string(), short);
    or_dash(seconds.map(moment))
}

/// A time of UTC as it stands in a table: the year only where it is not this one.
fn short(time: Timestamp) -> String {
    let utc = |time| TimeZone::UTC.to_datetime(time);
    let form = if utc(time).year() == utc(Timestamp::now()).year() { "%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    utc(time).strftime(form).to_string()
}

/// Epoch seconds as RFC 3339.
pub(super) fn moment(seconds: Option<Seconds>) -> String {
    or_dash(seconds.map(|seconds| {
        Timestamp::from_second(seconds.get()).map_or_else(|_| seconds.to_string(), |time| time.to_string())
    }))
}
