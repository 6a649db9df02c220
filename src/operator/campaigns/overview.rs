//! What goes on now: campaigns that run, those that come next, and those that ended lately.

use serde::Serialize;
use tokio::time::timeout;
use tokio_postgres::types::Type;

use super::{ESTIMATES, Summary, expect_completion, select, summary, summary_columns};
use crate::operator::audiences::Audiences;
use dinnerbell_core::model::number::Seconds;
use dinnerbell_postgres::clock::CLOCK_MICROS;
use dinnerbell_postgres::connect::{Parameter, Pool};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::number::Number;

/// How long ago a campaign may have ended to be shown.
pub const LATELY: i64 = 24 * 3600;
/// Campaigns of a group are counted up to this number, and one more, which says that there are others.
pub const COUNTED: i64 = 10_000;

/// What goes on now.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// By the feedback database's clock.
    pub now: Seconds,
    /// Campaigns whose audience is being told, the first to end in front.
    pub active: Group,
    /// Campaigns whose audience was told, and that tell newcomers until their end; the first to end in front.
    pub complete: Group,
    /// Campaigns that wait for their start, the first to start in front.
    pub scheduled: Group,
    /// Campaigns that ended in the last 24 hours, and cancelled ones that would not have ended before; the latest end in front.
    pub ended: Group,
}

/// Campaigns that have something in common.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Group {
    /// The first of them.
    pub campaigns: Vec<Summary>,
    /// How many there are in all; of those that wait or ended, one more than [`COUNTED`] where there are more.
    pub count: i64,
}

/// The first of each lane, and of them the first: an index of each lane serves that, however many there are.
fn first(state: &str, by: &str) -> String {
    format!(
        "adv_campaign_id in (select c.adv_campaign_id from dinnerbell.lane l cross join lateral (\
           select adv_campaign_id, {by} as moment from dinnerbell.campaign where lane = l.lane and state = '{state}' \
           order by {by} limit $1) c order by c.moment limit $1)"
    )
}

/// Looks at the ledger; `audiences` tell how much is left to those that run, where it is known. At most `most` campaigns of each group.
pub async fn overview(pool: &Pool, audiences: &Audiences, most: i64) -> Result<Overview, PostgresError> {
    let counts = format!(
        "select {CLOCK_MICROS} / 1000000, (select count(*) from dinnerbell.campaign where state = 'active'), \
         (select count(*) from dinnerbell.campaign where state in ('active', 'complete')), {}",
        counted("state = 'scheduled'")
    );
    let counts = pool.query(&counts, &[]).await?;
    let count = |column: usize| counts.first().map_or(0, |row| row.get::<_, i64>(column));
    let (now, active, open, scheduled) = (Seconds::new(count(0)), count(1), count(2), count(3));
    // The time is a parameter: an index serves no condition on a clock that runs.
    let over = pool.query(&format!("select {}", counted(&ended("$1"))), &[now.parameter()]).await?;
    let over = over.first().map_or(0, |row| row.get(0));
    let limit: &[Parameter<'_>] = &[(&most, Type::INT8)];
    let end = |campaign: &Summary| (campaign.adv_campaign_datetime_end, campaign.adv_campaign_id.clone());
    let start = |campaign: &Summary| (campaign.adv_campaign_datetime_start, campaign.adv_campaign_id.clone());
    let mut active = group(pool, &first("active", "adv_campaign_datetime_end"), limit, active).await?;
    active.campaigns.sort_by_key(end);
    // What is not known in time is left open.
    let _ = timeout(ESTIMATES, expect_completion(audiences, active.campaigns.iter_mut())).await;
    let mut complete = group(pool, &first("complete", "adv_campaign_datetime_end"), limit, open - active.count).await?;
    complete.campaigns.sort_by_key(end);
    let mut scheduled = group(pool, &first("scheduled", "adv_campaign_datetime_start"), limit, scheduled).await?;
    scheduled.campaigns.sort_by_key(start);
    let latest = format!("{} order by adv_campaign_datetime_end desc limit $1", ended("$2"));
    let mut ended = group(pool, &latest, &[(&most, Type::INT8), now.parameter()], over).await?;
    ended.campaigns.sort_by_key(|campaign| std::cmp::Reverse(end(campaign)));
    Ok(Overview { now, active, complete, scheduled, ended })
}

/// How many there are, up to [`COUNTED`] and one more.
fn counted(which: &str) -> String {
    format!("(select count(*) from (select from dinnerbell.campaign where {which} limit {COUNTED} + 1) c)")
}

fn ended(now: &str) -> String {
    format!("state in ('closed', 'expired', 'cancelled') and adv_campaign_datetime_end >= {now} - {LATELY}")
}

async fn group(pool: &Pool, which: &str, parameters: &[Parameter<'_>], count: i64) -> Result<Group, PostgresError> {
    let rows = pool.query(&select(&summary_columns(), which), parameters).await?;
    Ok(Group { campaigns: rows.iter().map(summary).collect(), count })
}
