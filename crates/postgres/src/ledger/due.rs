//! What is due in a lane: campaigns that run, start and end, dead letters to publish, who is still to be counted; and what is open of some
//! restaurants, or to be passed again.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::{
    BY_ONE_INDEX, CAMPAIGN, IN_ORDER, LOCKED_BY, NOW, NOW_ONCE, OPEN, PostgresLedger, campaign, headers, of_restaurants,
};
use crate::connect::{Parameter, Transaction};
use dinnerbell_core::model::due::{ActiveCampaign, Due, MOST_LETTERS, Uncounted, WaitingLetter};
use dinnerbell_core::model::late::{LateFor, OpenCampaign};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::{DeadLetterMessage, Digest};
use dinnerbell_core::model::time::EpochSeconds;
use dinnerbell_core::ports::ledger::LedgerError;

/// Most ended campaigns that are loaded to be counted at once.
const MOST_UNCOUNTED: usize = 100;
impl PostgresLedger {
    pub(super) async fn read_due(&self, own: Ownership, most: usize) -> Result<Due, LedgerError> {
        let tx = self.begin(own).await?;
        futures_util::try_join!(async { Ok(tx.batch(BY_ONE_INDEX).await?) }, turn_states(&tx, own))?;
        let most = i64::try_from(most).unwrap_or(i64::MAX - 1);
        // The planner does not see the window: its index holds all that is open.
        let sql = format!(
            "select revision, cursor, {CAMPAIGN} from dinnerbell.campaign where lane = $1 and state = 'active' and last_page_seq is null \
             and coalesce({OPEN}, false) \
             order by cursor is not null, adv_campaign_datetime_end, adv_campaign_id limit $2 + 1"
        );
        let parameters: [Parameter<'_>; 2] = [(&own.lane, Type::INT4), (&most, Type::INT8)];
        let mut running: Vec<ActiveCampaign> = tx
            .query(&sql, &parameters)
            .await?
            .iter()
            .map(|row| ActiveCampaign {
                campaign: Arc::new(campaign(row, 2)),
                revision: row.get(0),
                cursor: row.get(1),
            })
            .collect();
        let more_running = running.len() as i64 > most;
        running.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        let mut uncounted = uncounted(&tx, own).await?;
        let more_uncounted = uncounted.len() > MOST_UNCOUNTED;
        uncounted.truncate(MOST_UNCOUNTED);
        let mut dead_letters = self.unpublished_dead_letters(&tx, own).await?;
        let more_dead_letters = dead_letters.len() > MOST_LETTERS;
        dead_letters.truncate(MOST_LETTERS);
        let due = Due {
            running,
            more_running,
            dead_letters,
            more_dead_letters,
            next_change: next_change(&tx, own).await?,
            uncounted,
            more_uncounted,
        };
        tx.commit().await?;
        Ok(due)
    }

    /// Open campaigns of the lane, of those that stand in `from`, which `which` picks by its parameters, from $2 on.
    pub(super) async fn read_open(
        &self,
        own: Ownership,
        from: &str,
        which: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<OpenCampaign>, LedgerError> {
        let sql = format!(
            "select revision, cursor, last_page_seq is not null, told + kept, {CAMPAIGN} from {from} where lane = $1 \
             and state in ('active', 'complete') and {OPEN} and {which}"
        );
        let lane: Parameter<'_> = (&own.lane, Type::INT4);
        let parameters: Vec<Parameter<'_>> = std::iter::once(lane).chain(parameters.iter().cloned()).collect();
        let rows = self.ask(&sql, &parameters).await?;
        let open = |row: &tokio_postgres::Row| OpenCampaign {
            running: ActiveCampaign { campaign: Arc::new(campaign(row, 4)), revision: row.get(0), cursor: row.get(1) },
            main_pass_over: row.get(2),
            told: row.get(3),
        };
        Ok(rows.iter().map(open).collect())
    }

    /// Open campaigns of these restaurants behind an id, ordered by restaurant and id, without their content.
    pub(super) async fn read_late_for(
        &self,
        own: Ownership,
        restaurants: &[String],
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<LateFor>, LedgerError> {
        let sql = format!(
            "select adv_campaign_id, restaurant_id, cursor, last_page_seq is not null, octet_length(restaurant_id) \
             + octet_length(adv_campaign_id) + octet_length(adv_campaign_content) + octet_length(adv_campaign_owner) \
             + octet_length(adv_campaign_owner_contact), told from {} where lane = $1 and state in ('active', 'complete') \
             and {OPEN} and ($3::text is null or adv_campaign_id collate \"C\" > $3) \
             order by restaurant_id collate \"C\", adv_campaign_id collate \"C\" limit $4",
            of_restaurants("$2")
        );
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 4] =
            [(&own.lane, Type::INT4), (&restaurants, Type::TEXT_ARRAY), (&after, Type::TEXT), (&most, Type::INT8)];
        let late_for = |row: &tokio_postgres::Row| LateFor {
            adv_campaign_id: row.get(0),
            restaurant_id: row.get(1),
            cursor: row.get(2),
            main_pass_over: row.get(3),
            texts: usize::try_from(row.get::<_, i32>(4)).unwrap_or(0),
            told: row.get(5),
        };
        Ok(self.ask(&sql, &parameters).await?.iter().map(late_for).collect())
    }

    async fn unpublished_dead_letters(
        &self,
        tx: &Transaction,
        own: Ownership,
    ) -> Result<Vec<WaitingLetter>, LedgerError> {
        if !self.shared.publishes_dead_letters {
            return Ok(Vec::new());
        }
        // A lane between bounds, and it comes first in the order: else statistics from before the first dead letter let the primary key be
        // walked, past all that ever were.
        let sql = format!(
            "select id, {LETTER_BYTES} from dinnerbell.dead_letter where lane between $1 and $1 and round_seq is null \
             order by lane, id limit $2 + 1"
        );
        let parameters: [Parameter<'_>; 2] = [(&own.lane, Type::INT4), (&(MOST_LETTERS as i64), Type::INT8)];
        let waiting = |row: &tokio_postgres::Row| WaitingLetter {
            id: row.get(0),
            bytes: usize::try_from(row.get::<_, i64>(1)).unwrap_or(usize::MAX),
        };
        Ok(tx.query(&sql, &parameters).await?.iter().map(waiting).collect())
    }
}

/// Whether a campaign's last page is recorded and not known to be published: `l` is its lane.
pub(super) const LAST_PAGE_UNPUBLISHED: &str =
    "(last_page_seq is not null and last_page_seq > coalesce(l.published_seq, -1))";

/// Scheduled campaigns whose start has come start, ended ones end; all are locked in the order of their ids, as everywhere. One whose last page
/// is recorded and not yet known to be published waits for that: it is active until then.
async fn turn_states(tx: &Transaction, own: Ownership) -> Result<(), LedgerError> {
    let starts = format!("state = 'scheduled' and adv_campaign_datetime_start <= {NOW_ONCE}");
    let ends = format!(
        "state in ('active', 'complete') and adv_campaign_datetime_end <= {NOW_ONCE} and not {LAST_PAGE_UNPUBLISHED}"
    );
    // Each is found by its own index: what is neither to start nor to end is not looked at. What is asked again is asked of the row as it is
    // when its lock was waited for.
    let ids =
        |which: &str| format!("array(select adv_campaign_id from dinnerbell.campaign where lane = l.lane and {which})");
    let sql = format!(
        "update dinnerbell.campaign c set state = case \
           when last_page_seq is null then case when adv_campaign_datetime_end <= {NOW} then 'expired' else 'active' end \
           when {LAST_PAGE_UNPUBLISHED} then 'active' \
           when adv_campaign_datetime_end <= {NOW} then 'closed' else 'complete' end \
         from (select c.adv_campaign_id as id, l.published_seq from \
             (select published_seq, {} || {} as ids from dinnerbell.lane l where lane = $1 offset 0) as l \
             join dinnerbell.campaign c on c.adv_campaign_id = any(l.ids) \
           where (c.{starts}) or (c.{ends}) order by {LOCKED_BY} for no key update of c) as l \
         where c.adv_campaign_id = l.id",
        ids(&starts),
        ids(&ends)
    );
    tx.execute(&sql, &[(&own.lane, Type::INT4)]).await?;
    Ok(())
}

/// The next start or end of a campaign: of each the first in its index's order.
async fn next_change(tx: &Transaction, own: Ownership) -> Result<Option<EpochSeconds>, LedgerError> {
    let sql = format!(
        "select least((select adv_campaign_datetime_start from dinnerbell.campaign where lane = $1 and state = 'scheduled' \
          order by adv_campaign_datetime_start limit 1), \
         (select adv_campaign_datetime_end from dinnerbell.campaign where lane = $1 and state in ('active', 'complete') \
          and adv_campaign_datetime_end > {NOW_ONCE} order by adv_campaign_datetime_end limit 1))"
    );
    let lane: [Parameter<'_>; 1] = [(&own.lane, Type::INT4)];
    // It is asked last in its transaction: nothing is sorted after it.
    let ((), row) = futures_util::try_join!(tx.batch(IN_ORDER), tx.query_one(&sql, &lane))?;
    Ok(row.get(0))
}

/// Campaigns that are over, and whose untold audience is counted in the background: as in the index of those that are not counted yet.
pub(super) const COUNTED: &str =
    "(state in ('expired', 'closed') or (state = 'cancelled' and restaurant_id is not null))";

async fn uncounted(tx: &Transaction, own: Ownership) -> Result<Vec<Uncounted>, LedgerError> {
    let sql = format!(
        "select state = 'cancelled', {CAMPAIGN} from dinnerbell.campaign where lane = $1 and unsent is null and {COUNTED} limit $2 + 1"
    );
    let rows = tx.query(&sql, &[(&own.lane, Type::INT4), (&(MOST_UNCOUNTED as i64), Type::INT8)]).await?;
    let uncounted =
        |row: &tokio_postgres::Row| Uncounted { campaign: Arc::new(campaign(row, 1)), cancelled: row.get(0) };
    Ok(rows.iter().map(uncounted).collect())
}

/// What a dead letter takes in a round, in bytes. None of it is read for that.
/// Those of earlier versions have no sum.
const LETTER_BYTES: &str = "coalesce(bytes, coalesce(octet_length(key), 0)::int8 + least(octet_length(value), 1048576) \
                            + (select coalesce(sum(octet_length(h)), 0) from unnest(header_values) h)::int8 + 1024, 1024)";

/// A dead letter's columns, as [`dead_letter`] reads them.
/// A value that is larger than any record may be was kept by an earlier version; it is only described.
pub(super) const DEAD_LETTER: &str = "select id, arrived_lane, record_offset, key, \
     case when octet_length(value) <= 1048576 then value end, header_names, header_values, reason, field, \
     coalesce(value_size, case when octet_length(value) > 1048576 then octet_length(value) end)::int8, \
     coalesce(value_sha256, case when octet_length(value) > 1048576 then sha256(value) end) from dinnerbell.dead_letter";

fn digest(size: Option<i64>, sha256: Option<Vec<u8>>) -> Option<Digest> {
    Some(Digest { size: size?, sha256: sha256? })
}

pub(super) fn dead_letter(row: &tokio_postgres::Row) -> DeadLetterMessage {
    DeadLetterMessage {
        id: row.get(0),
        lane: row.get(1),
        offset: row.get(2),
        key: row.get(3),
        value: row.get(4),
        headers: headers(row.get(5), row.get(6)),
        digest: digest(row.get(9), row.get(10)),
        reason: row.get(7),
        field: row.get(8),
    }
}
