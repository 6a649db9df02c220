//! House-keeping of the ledger: what is long over goes, a little at a time.
//!
//! A step is one short transaction that takes at most [`STEP`] rows, leaves alone what somebody else has locked, and waits for nothing: so any
//! number of instances may do it at once, and no lane is held up. Never taken: what is not published, the last two rounds of a lane and what
//! they hold, and what `verify` needs to tell an earlier job's rows from lost drafts, as long as the ledger knows their campaign.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::BY_INDEX;
use crate::connect::{Parameter, Pool};
use crate::errors::PostgresError;
use dinnerbell_config::Retention;
use dinnerbell_core::model::retention::Prunable;

/// Most rows of one step.
pub const STEP: u64 = 200;
/// How long a tombstone for a campaign that never came is kept, in seconds: thirty days.
const TOMBSTONES: i64 = 30 * 86_400;

/// One step; how many rows it took. Fewer than [`STEP`]: there is no more for now. Where dead letters go to a topic, those that were not
/// published yet are kept at any age.
pub async fn prune(
    pool: &Pool,
    what: Prunable,
    retention: &Retention,
    publishes_dead_letters: bool,
) -> Result<u64, PostgresError> {
    let step = i64::try_from(STEP).unwrap_or(i64::MAX);
    let seconds = |kept: Duration| i64::try_from(kept.as_secs()).unwrap_or(i64::MAX);
    let kept = match what {
        Prunable::Rounds | Prunable::Changes => seconds(retention.rounds),
        Prunable::DeadLetters => seconds(retention.dead_letters),
        Prunable::Campaigns => seconds(retention.campaigns),
        Prunable::Tombstones => TOMBSTONES,
    };
    let mut parameters: Vec<Parameter<'_>> = vec![(&kept, Type::INT8), (&step, Type::INT8)];
    let sql = match what {
        Prunable::Rounds => ROUNDS,
        Prunable::Changes => CHANGES,
        Prunable::DeadLetters => {
            parameters.push((&publishes_dead_letters, Type::BOOL));
            DEAD_LETTERS
        }
        Prunable::Campaigns => CAMPAIGNS,
        Prunable::Tombstones => CANCELLED,
    };
    let locals = format!("set local lock_timeout = '100ms'; set local synchronous_commit = off; {BY_INDEX}");
    let tx = pool.begin(&locals).await?;
    let row = tx.query_one(sql, &parameters).await?;
    let gone: i64 = row.get(0);
    tx.commit().await?;
    Ok(gone.unsigned_abs())
}

/// A part that says who had a row before stays until its campaign goes.
const ROUNDS: &str = "with old as (select r.lane, r.seq from dinnerbell.round r join dinnerbell.lane l using (lane) \
       where r.recorded_at < (select clock_timestamp() - make_interval(secs => $1)) and r.seq < l.seq - 1 and r.seq <= l.published_seq \
       order by r.recorded_at limit $2 for update of r skip locked), \
     parts as (delete from dinnerbell.round_part p using old where p.lane = old.lane and p.seq = old.seq and p.already_told = '{}'), \
     gone as (delete from dinnerbell.round r using old where r.lane = old.lane and r.seq = old.seq returning 1) \
     select count(*) from gone";

const CHANGES: &str = "with old as (select id from dinnerbell.change where judged_as is not null \
       and judged_at < (select clock_timestamp() - make_interval(secs => $1)) order by judged_at limit $2 for update skip locked), \
     gone as (delete from dinnerbell.change c using old where c.id = old.id returning 1) select count(*) from gone";

const DEAD_LETTERS: &str = "with old as (select d.id from dinnerbell.dead_letter d left join dinnerbell.lane l using (lane) \
       where d.arrived_at < (select clock_timestamp() - make_interval(secs => $1)) \
       and case when d.round_seq is null then not $3 else d.round_seq < l.seq - 1 and d.round_seq <= l.published_seq end \
       order by d.arrived_at limit $2 for update of d skip locked), \
     gone as (delete from dinnerbell.dead_letter d using old where d.id = old.id returning 1) select count(*) from gone";

/// A cancelled one is kept as long as a tombstone, at least. One that a lane's last rounds hold is needed to publish them again.
const CAMPAIGNS: &str = "with old as (select c.adv_campaign_id from dinnerbell.campaign c \
       where c.state in ('closed', 'expired', 'cancelled') \
       and c.adv_campaign_datetime_end < (select floor(extract(epoch from clock_timestamp()))::int8 - $1) \
       and (c.cancelled_at is null or c.cancelled_at < (select clock_timestamp() - make_interval(secs => $1))) \
       and not exists (select from dinnerbell.change ch where ch.adv_campaign_id = c.adv_campaign_id and ch.judged_as is null) \
       and not exists (select from dinnerbell.lane l join dinnerbell.round_part p on p.lane = l.lane and p.seq >= l.seq - 1 \
                       where p.adv_campaign_id = c.adv_campaign_id) \
       order by c.adv_campaign_datetime_end limit $2 for update of c skip locked), \
     parts as (delete from dinnerbell.round_part p using old where p.adv_campaign_id = old.adv_campaign_id and p.already_told <> '{}'), \
     gone as (delete from dinnerbell.campaign c using old where c.adv_campaign_id = old.adv_campaign_id returning 1) \
     select count(*) from gone";

const CANCELLED: &str = "with old as (select c.adv_campaign_id from dinnerbell.campaign c where c.restaurant_id is null \
       and c.state = 'cancelled' and c.cancelled_at < (select clock_timestamp() - make_interval(secs => $1)) \
       and not exists (select from dinnerbell.change ch where ch.adv_campaign_id = c.adv_campaign_id and ch.judged_as is null) \
       order by c.cancelled_at limit $2 for update of c skip locked), \
     gone as (delete from dinnerbell.campaign c using old where c.adv_campaign_id = old.adv_campaign_id returning 1) \
     select count(*) from gone";
