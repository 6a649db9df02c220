//! Campaigns as the ledger knows them, and how those that run are getting on.

mod list;
pub mod overview;
mod timeline;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use utoipa::ToSchema;

use dinnerbell_postgres::ledger::told::OverTime;
pub use list::{Page, list};
use timeline::Known;
pub use timeline::{Moment, Told};

use crate::operator::audiences::Audiences;
use dinnerbell_core::model::not_told::NotToldReason;
use dinnerbell_core::model::number::{Lane, Micros, Offset, Seconds};
use dinnerbell_postgres::audience_size::AudienceSize;
use dinnerbell_postgres::clock::CLOCK_MICROS;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::number::number;
use dinnerbell_postgres::sql;
use dinnerbell_postgres::sql::fragments::micros;

/// How long the audiences that are left may be estimated, all campaigns of a list together: beyond that they are not known.
const ESTIMATES: Duration = Duration::from_secs(2);

/// Which campaigns are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those in one of these states; in any, where there is none.
    pub states: Vec<String>,
    /// Only those of this restaurant.
    pub restaurant_id: Option<String>,
    /// Only those of this owner.
    pub owner: Option<String>,
    /// Only those that hold this text, in whatever case: in their id, restaurant, owner or content.
    pub search: Option<String>,
    /// Only those received then or later.
    pub since: Option<Seconds>,
    /// Only those received before.
    pub until: Option<Seconds>,
    /// Only those that come after this one in the list.
    pub after: Option<String>,
    /// The most campaigns of a page.
    pub limit: i64,
}

/// A campaign in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Campaign)]
pub struct Summary {
    /// Its id.
    pub adv_campaign_id: String,
    /// The restaurant; null for one that was cancelled before it arrived, as are all its other fields.
    pub restaurant_id: Option<String>,
    /// scheduled, active, complete, closed, expired or cancelled.
    pub state: String,
    /// Drafts recorded, late ones included.
    pub told: i64,
    /// Those of late subscribers among them.
    pub late: i64,
    /// Whether its main pass is over, or its end has passed, and nobody was told.
    pub reached_nobody: bool,
    /// Who was not told when the end passed, or it was cancelled; null before that, and until it is counted.
    pub unsent: Option<i64>,
    /// Who was not told, and why.
    pub not_told: Vec<NotTold>,
    /// When it begins.
    #[schema(value_type = Option<i64>)]
    pub adv_campaign_datetime_start: Option<Seconds>,
    /// When it ends.
    #[schema(value_type = Option<i64>)]
    pub adv_campaign_datetime_end: Option<Seconds>,
    /// When its audience was last read.
    pub audience_as_of: Option<String>,
    /// When its first draft was recorded.
    pub first_draft_at: Option<String>,
    /// When its last draft was recorded.
    pub last_draft_at: Option<String>,
    /// Drafts a second in the last ten seconds, or since its first draft; null unless it is active.
    pub rate: Option<f64>,
    /// About how many of its audience its main pass has not come to; null where that is not known.
    pub remaining: Option<i64>,
    /// When it is complete, if it goes on at this rate; null where that is not known.
    pub expected_completion_at: Option<String>,
    #[serde(skip)]
    running: Option<Pass>,
}

/// Those of an audience who were not told for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NotTold {
    /// The reason.
    #[schema(value_type = String)]
    pub why: NotToldReason,
    /// How many; null where nobody counted, or not yet.
    pub clients: Option<i64>,
}

/// How far the main pass of an active campaign is.
#[derive(Debug, Clone)]
struct Pass {
    cursor: Option<String>,
    over: bool,
    /// Clients that stand before the cursor.
    covered: i64,
    /// The database's clock, in microseconds.
    now: Micros,
}

/// All that is known of a campaign.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = CampaignDetails)]
pub struct Details {
    /// As in the list.
    #[serde(flatten)]
    pub summary: Summary,
    /// The text of the offer.
    pub adv_campaign_content: Option<String>,
    /// Who answers for it.
    pub adv_campaign_owner: Option<String>,
    /// How to reach them.
    pub adv_campaign_owner_contact: Option<String>,
    /// The sender's version.
    #[schema(value_type = Option<i64>)]
    pub datetime_created: Option<Seconds>,
    /// The lane that owns it.
    #[schema(value_type = i32)]
    pub lane: Lane,
    /// + 1 with each update.
    pub revision: i32,
    /// Client ids that are empty, too long or no UTF-8.
    pub skipped: i64,
    /// Rows of withdrawn drafts that stay because somebody answered in them.
    pub kept: i64,
    /// Rows of withdrawn drafts that somebody's open transaction has locked: they go when they are free.
    pub locked: i64,
    /// When it was received.
    pub received_at: String,
    /// At which offset of its lane.
    #[schema(value_type = Option<i64>)]
    pub received_offset: Option<Offset>,
    /// When it was cancelled.
    pub cancelled_at: Option<String>,
    /// What happened to it, and what will: in the order of time; what has no time comes last.
    pub timeline: Vec<Moment>,
    /// When its drafts were recorded, in at most this number of equal parts of the time from the first to the last; parts without drafts are left out.
    pub told_over_time: Vec<Told>,
}

/// The columns of a summary.
fn summary_columns() -> String {
    format!(
        "adv_campaign_id, restaurant_id, state, told, late, unsent, adv_campaign_datetime_start, adv_campaign_datetime_end, {}, {}, {}, \
         skipped, last_page_seq is not null, cursor, {CLOCK_MICROS}, \
         case when state = 'active' and first_draft_at is not null then (coalesce(drafts, 0) / \
           least(10, greatest(1, extract(epoch from clock_timestamp() - first_draft_at))))::float8 end",
        micros("audience_as_of"),
        micros("first_draft_at"),
        micros("last_draft_at"),
    )
}

/// How many columns a summary has.
const SUMMARY_COLUMNS: usize = 16;

/// Campaigns that `which` picks, with the drafts of the last ten seconds where they are active. Only a lane's latest rounds are looked at.
fn select(columns: &str, which: &str) -> String {
    select_from(columns, &format!("select * from dinnerbell.campaign where {which}"))
}

fn select_from(columns: &str, page: &str) -> String {
    sql::CAMPAIGN_SUMMARIES.with([("columns", columns), ("page", page)])
}

/// One campaign.
pub async fn show(pool: &Pool, audiences: &Audiences, adv_campaign_id: &str) -> Result<Option<Details>, PostgresError> {
    let columns = format!(
        "{}, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, datetime_created, lane, revision, kept, {}, \
         received_offset, {}, {}, {}, (select count(*) from dinnerbell.locked_row w where w.adv_campaign_id = page.adv_campaign_id)",
        summary_columns(),
        micros("received_at"),
        micros("cancelled_at"),
        micros("updated_at"),
        micros("completed_at"),
    );
    let rows = pool.query(&select(&columns, "adv_campaign_id = $1"), &[(&adv_campaign_id, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let rounds = timeline::rounds(pool, adv_campaign_id).await?;
    let mut details = details(row, &rounds);
    expect_completion(audiences, std::iter::once(&mut details.summary)).await;
    Ok(Some(details))
}

/// Whether there is such a campaign.
pub async fn is_known(pool: &Pool, adv_campaign_id: &str) -> Result<bool, PostgresError> {
    let sql = "select 1 from dinnerbell.campaign where adv_campaign_id = $1";
    Ok(!pool.query(sql, &[(&adv_campaign_id, Type::TEXT)]).await?.is_empty())
}

fn details(row: &Row, rounds: &OverTime) -> Details {
    let column = |place: usize| SUMMARY_COLUMNS + place;
    let known = Known {
        received: row.get(column(7)),
        updated: row.get(column(10)),
        completed: row.get(column(11)),
        cancelled: row.get(column(9)),
        first_draft: row.get(9),
        last_draft: row.get(10),
        start: row.get(6),
        end: row.get(7),
        revision: row.get(column(5)),
    };
    Details {
        summary: summary(row),
        adv_campaign_content: row.get(column(0)),
        adv_campaign_owner: row.get(column(1)),
        adv_campaign_owner_contact: row.get(column(2)),
        datetime_created: number(row, column(3)),
        lane: number(row, column(4)),
        revision: row.get(column(5)),
        skipped: row.get(11),
        kept: row.get(column(6)),
        received_at: time(row.get(column(7))).unwrap_or_default(),
        received_offset: number(row, column(8)),
        cancelled_at: time(row.get(column(9))),
        locked: row.get(column(12)),
        timeline: timeline::of(&known, rounds),
        told_over_time: timeline::spans(rounds),
    }
}

fn summary(row: &Row) -> Summary {
    let (told, late, unsent, skipped): (i64, i64, Option<i64>, i64) = (row.get(3), row.get(4), row.get(5), row.get(11));
    let (restaurant_id, state, main_pass_over): (Option<String>, String, bool) = (row.get(1), row.get(2), row.get(12));
    let rate: Option<f64> = row.get(15);
    let pass =
        || Pass { cursor: row.get(13), over: main_pass_over, covered: told - late + skipped, now: number(row, 14) };
    Summary {
        adv_campaign_id: row.get(0),
        reached_nobody: reached_nobody(&state, main_pass_over, told),
        not_told: not_told(&state, restaurant_id.is_some(), unsent, skipped),
        restaurant_id,
        running: rate.map(|_| pass()),
        state,
        told,
        late,
        unsent,
        adv_campaign_datetime_start: number(row, 6),
        adv_campaign_datetime_end: number(row, 7),
        audience_as_of: time(row.get(8)),
        first_draft_at: time(row.get(9)),
        last_draft_at: time(row.get(10)),
        rate,
        remaining: None,
        expected_completion_at: None,
    }
}

/// One that goes on, or was cancelled half-way, may reach somebody yet, or might have.
fn reached_nobody(state: &str, main_pass_over: bool, told: i64) -> bool {
    told == 0 && (main_pass_over || matches!(state, "closed" | "expired"))
}

/// One that was cancelled before it arrived had no audience.
fn not_told(state: &str, has_arrived: bool, unsent: Option<i64>, skipped: i64) -> Vec<NotTold> {
    let mut not_told = Vec::new();
    match state {
        "expired" | "closed" if unsent != Some(0) => {
            not_told.push(NotTold { why: NotToldReason::Ended, clients: unsent })
        }
        "cancelled" if has_arrived && unsent != Some(0) => {
            not_told.push(NotTold { why: NotToldReason::Cancelled, clients: unsent })
        }
        _ => {}
    }
    if skipped > 0 {
        not_told.push(NotTold { why: NotToldReason::UnusableId, clients: Some(skipped) });
    }
    not_told
}

/// Estimates how much of the audience is left to those that run, and so when they are complete. Where the subscribers cannot be asked, that is
/// not known, and the list is none the worse.
async fn expect_completion(audiences: &Audiences, campaigns: impl Iterator<Item = &mut Summary>) {
    let running: Vec<&mut Summary> = campaigns.filter(|campaign| campaign.running.is_some()).collect();
    if running.is_empty() {
        return;
    }
    if let Some(size) = audiences.size().await {
        estimate(size, running.into_iter()).await;
    }
}

async fn estimate(size: &AudienceSize, campaigns: impl Iterator<Item = &mut Summary>) {
    let began = Instant::now();
    for campaign in campaigns {
        let (Some(pass), Some(restaurant_id)) = (campaign.running.take(), &campaign.restaurant_id) else { continue };
        campaign.remaining = match pass.over {
            true => Some(0),
            false if began.elapsed() > ESTIMATES => None,
            false => size.remaining(restaurant_id, pass.cursor.as_deref(), pass.covered).await,
        };
        campaign.expected_completion_at = completion(pass.now, campaign.remaining, campaign.rate);
    }
}

/// When `remaining` drafts are formed at `rate` from `now` on, as RFC 3339 to the second.
fn completion(now: Micros, remaining: Option<i64>, rate: Option<f64>) -> Option<String> {
    let (remaining, rate) = (remaining?, rate.filter(|rate| *rate > 0.0)?);
    #[expect(clippy::cast_possible_truncation, reason = "a float becomes the nearest integer that there is")]
    let seconds = (remaining as f64 / rate).ceil() as i64;
    let at = Timestamp::from_second(now.seconds().get().saturating_add(seconds)).ok()?;
    Some(at.to_string())
}

/// Microseconds since the epoch as RFC 3339.
pub(super) fn time(micros: Option<i64>) -> Option<String> {
    micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()).map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_is_expected_only_where_rate_and_rest_are_known() {
        assert_eq!(completion(Micros::default(), Some(90), Some(10.0)).as_deref(), Some("1970-01-01T00:00:09Z"));
        assert_eq!(completion(Micros::default(), Some(91), Some(10.0)).as_deref(), Some("1970-01-01T00:00:10Z"));
        assert_eq!(completion(Micros::default(), Some(90), Some(0.0)), None);
        assert_eq!(completion(Micros::default(), None, Some(10.0)), None);
        assert_eq!(completion(Micros::default(), Some(i64::MAX), Some(0.1)), None, "beyond the calendar");
    }

    #[test]
    fn who_reached_nobody_is_known_when_the_main_pass_or_the_campaign_is_over() {
        assert!(reached_nobody("complete", true, 0) && reached_nobody("closed", true, 0));
        assert!(reached_nobody("expired", false, 0), "it ended before anybody was told");
        assert!(!reached_nobody("complete", true, 1), "a newcomer was told");
        assert!(!reached_nobody("active", false, 0) && !reached_nobody("scheduled", false, 0));
        assert!(!reached_nobody("cancelled", false, 0));
    }

    #[test]
    fn each_of_those_not_told_has_a_reason() {
        let ended = |clients| NotTold { why: NotToldReason::Ended, clients };
        assert_eq!(not_told("expired", true, Some(3), 0), [ended(Some(3))]);
        assert_eq!(not_told("expired", true, None, 0), [ended(None)], "not counted yet");
        assert_eq!(not_told("closed", true, Some(0), 0), []);
        assert_eq!(not_told("cancelled", true, Some(0), 0), [], "its main pass was over");
        assert_eq!(not_told("cancelled", false, None, 0), [], "it never arrived");
        let cancelled = NotTold { why: NotToldReason::Cancelled, clients: Some(3) };
        let unusable = NotTold { why: NotToldReason::UnusableId, clients: Some(2) };
        assert_eq!(not_told("cancelled", true, Some(3), 2), [cancelled, unusable]);
        assert_eq!(not_told("active", true, None, 0), []);
    }
}
