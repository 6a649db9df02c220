//! What goes on now: campaigns that run, those that come next, and those that ended lately.

use dinnerbell_core::model::number::Seconds;
use serde::Serialize;
use tokio_postgres::types::Type;

use super::{Summary, estimate, select, summary, summary_columns};
use dinnerbell_postgres::audience_size::AudienceSize;
use dinnerbell_postgres::clock::CLOCK_MICROS;
use dinnerbell_postgres::connect::{Parameter, Pool};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::number::Number;

/// How long ago a campaign may have ended to be shown.
pub const LATELY: i64 = 24 * 3600;

/// What goes on now.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// By the feedback database's clock.
    pub now: Seconds,
    /// Those whose audience is being told, those that end first in front.
    pub active: Group,
    /// Those whose audience was told, and who tell newcomers until their end.
    pub complete: Group,
    /// Those that start next.
    pub scheduled: Group,
    /// Those that ended in the last 24 hours, or are cancelled and would not have ended before; the latest end in front.
    pub ended: Group,
}

/// Campaigns that have something in common.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Group {
    /// The first of them.
    pub campaigns: Vec<Summary>,
    /// How many there are in all.
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

/// Looks at the ledger; `size` tells how much is left to those that run, where it is known. At most `most` campaigns of each group.
pub async fn overview(pool: &Pool, size: Option<&AudienceSize>, most: i64) -> Result<Overview, PostgresError> {
    let counts = format!(
        "select {CLOCK_MICROS} / 1000000, \
         (select count(*) from dinnerbell.campaign where state = 'active'), \
         (select count(*) from dinnerbell.campaign where state in ('active', 'complete')), \
         (select count(*) from dinnerbell.campaign where state = 'scheduled'), \
         (select count(*) from dinnerbell.campaign where {})",
        ended("extract(epoch from clock_timestamp())::int8")
    );
    let counts = pool.query(&counts, &[]).await?;
    let count = |column: usize| counts.first().map_or(0, |row| row.get::<_, i64>(column));
    let now = Seconds::new(count(0));
    let mut active =
        group(pool, &first("active", "adv_campaign_datetime_end"), &[(&most, Type::INT8)], count(1)).await?;
    active.campaigns.sort_by(|a, b| {
        (a.adv_campaign_datetime_end, &a.adv_campaign_id).cmp(&(b.adv_campaign_datetime_end, &b.adv_campaign_id))
    });
    if let Some(size) = size {
        estimate(size, active.campaigns.iter_mut()).await;
    }
    let count_of_complete = count(2) - count(1);
    let mut complete =
        group(pool, &first("complete", "adv_campaign_datetime_end"), &[(&most, Type::INT8)], count_of_complete).await?;
    complete.campaigns.sort_by(|a, b| {
        (a.adv_campaign_datetime_end, &a.adv_campaign_id).cmp(&(b.adv_campaign_datetime_end, &b.adv_campaign_id))
    });
    let mut scheduled =
        group(pool, &first("scheduled", "adv_campaign_datetime_start"), &[(&most, Type::INT8)], count(3)).await?;
    scheduled.campaigns.sort_by(|a, b| {
        (a.adv_campaign_datetime_start, &a.adv_campaign_id).cmp(&(b.adv_campaign_datetime_start, &b.adv_campaign_id))
    });
    let which = format!("{} order by adv_campaign_datetime_end desc limit $1", ended("$2"));
    let mut over = group(pool, &which, &[(&most, Type::INT8), now.parameter()], count(4)).await?;
    over.campaigns.sort_by(|a, b| {
        (b.adv_campaign_datetime_end, &b.adv_campaign_id).cmp(&(a.adv_campaign_datetime_end, &a.adv_campaign_id))
    });
    Ok(Overview { now, active, complete, scheduled, ended: over })
}

fn ended(now: &str) -> String {
    format!("state in ('closed', 'expired', 'cancelled') and adv_campaign_datetime_end >= {now} - {LATELY}")
}

async fn group(pool: &Pool, which: &str, parameters: &[Parameter<'_>], count: i64) -> Result<Group, PostgresError> {
    let rows = pool.query(&select(&summary_columns(), which), parameters).await?;
    Ok(Group { campaigns: rows.iter().map(summary).collect(), count })
}
