//! What is due in a lane: campaigns that run, start and end, dead letters to publish, who is still to be counted; and what is open of some
//! restaurants, or to be rescanned.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{BY_ONE_INDEX, IN_ORDER, PostgresLedger, campaign, headers};
use crate::connect::{Parameter, Transaction};
use crate::number::{Number, number};
use crate::sql;
use crate::sql::fragments::{CAMPAIGN, COUNTED, LETTER_BYTES};
use dinnerbell_core::model::due::{Due, MAX_DEAD_LETTERS, RunningCampaign, Uncounted, WaitingDeadLetter};
use dinnerbell_core::model::late::{LateCheckCampaign, OpenCampaign};
use dinnerbell_core::model::number::Seconds;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::{DeadLetterMessage, Digest};
use dinnerbell_core::ports::ledger::LedgerError;

/// Most ended campaigns that are loaded to be counted at once.
const MAX_UNCOUNTED: usize = 100;

impl PostgresLedger {
    pub(super) async fn read_due(&self, own: Ownership, most: usize) -> Result<Due, LedgerError> {
        let tx = self.begin(own).await?;
        futures_util::try_join!(async { Ok(tx.batch(BY_ONE_INDEX).await?) }, turn_states(&tx, own))?;
        let most = i64::try_from(most).unwrap_or(i64::MAX - 1);
        let parameters: [Parameter<'_>; 2] = [own.lane.parameter(), (&most, Type::INT8)];
        let mut running: Vec<RunningCampaign> =
            tx.query(sql::RUNNING.text(), &parameters).await?.iter().map(active_campaign).collect();
        let more_running = running.len() as i64 > most;
        running.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        let mut uncounted = uncounted(&tx, own).await?;
        let more_uncounted = uncounted.len() > MAX_UNCOUNTED;
        uncounted.truncate(MAX_UNCOUNTED);
        let mut dead_letters = self.unpublished_dead_letters(&tx, own).await?;
        let more_dead_letters = dead_letters.len() > MAX_DEAD_LETTERS;
        dead_letters.truncate(MAX_DEAD_LETTERS);
        let due = Due {
            running,
            more_running,
            dead_letters,
            more_dead_letters,
            next_deadline: next_deadline(&tx, own).await?,
            uncounted,
            more_uncounted,
        };
        tx.commit().await?;
        Ok(due)
    }

    /// Open campaigns of the lane, of those that are in `from`, which `which` picks by its parameters, from $2 on.
    pub(super) async fn read_open(
        &self,
        own: Ownership,
        from: &str,
        which: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<OpenCampaign>, LedgerError> {
        let sql = sql::OPEN_OF_LANE.with([("from", from), ("which", which)]);
        let lane: Parameter<'_> = own.lane.parameter();
        let parameters: Vec<Parameter<'_>> = std::iter::once(lane).chain(parameters.iter().cloned()).collect();
        let rows = self.ask(&sql, &parameters).await?;
        let open = |row: &Row| OpenCampaign {
            running: active_campaign(row),
            main_pass_over: row.get("main_pass_over"),
            told: row.get("told_and_kept"),
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
    ) -> Result<Vec<LateCheckCampaign>, LedgerError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 4] =
            [own.lane.parameter(), (&restaurants, Type::TEXT_ARRAY), (&after, Type::TEXT), (&most, Type::INT8)];
        let late_for = |row: &Row| LateCheckCampaign {
            adv_campaign_id: row.get("adv_campaign_id"),
            restaurant_id: row.get("restaurant_id"),
            cursor: row.get("cursor"),
            main_pass_over: row.get("main_pass_over"),
            texts: usize::try_from(row.get::<_, i32>("texts")).unwrap_or(0),
            told: row.get("told"),
        };
        Ok(self.ask(sql::LATE_FOR.text(), &parameters).await?.iter().map(late_for).collect())
    }

    async fn unpublished_dead_letters(
        &self,
        tx: &Transaction,
        own: Ownership,
    ) -> Result<Vec<WaitingDeadLetter>, LedgerError> {
        if !self.shared.publishes_dead_letters {
            return Ok(Vec::new());
        }
        // The lane stands between bounds, and first in the order. Else statistics from before the first dead letter would have the primary key
        // walked, past all dead letters that ever were.
        let sql = format!(
            "select id, {LETTER_BYTES} as bytes from dinnerbell.dead_letter where lane between $1 and $1 and round_seq is null \
             order by lane, id limit $2 + 1"
        );
        let parameters: [Parameter<'_>; 2] = [own.lane.parameter(), (&(MAX_DEAD_LETTERS as i64), Type::INT8)];
        let waiting = |row: &Row| WaitingDeadLetter {
            id: row.get("id"),
            bytes: usize::try_from(row.get::<_, i64>("bytes")).unwrap_or(usize::MAX),
        };
        Ok(tx.query(&sql, &parameters).await?.iter().map(waiting).collect())
    }
}

/// Scheduled campaigns whose start has come start, ended ones end; all are locked in the order of their ids, as everywhere. One whose last page
/// is recorded and not yet known to be published waits for that: it is active until then.
async fn turn_states(tx: &Transaction, own: Ownership) -> Result<(), LedgerError> {
    tx.execute(sql::TURN_STATES.text(), &[own.lane.parameter()]).await?;
    Ok(())
}

/// The next start or end of a campaign: of each the first in its index's order.
async fn next_deadline(tx: &Transaction, own: Ownership) -> Result<Option<Seconds>, LedgerError> {
    let lane: [Parameter<'_>; 1] = [own.lane.parameter()];
    // It is asked last in its transaction: nothing is sorted after it.
    let ((), row) = futures_util::try_join!(tx.batch(IN_ORDER), tx.query_one(sql::NEXT_CHANGE.text(), &lane))?;
    Ok(number(&row, 0))
}

/// Campaigns that are over, and whose untold audience is to be counted.
async fn uncounted(tx: &Transaction, own: Ownership) -> Result<Vec<Uncounted>, LedgerError> {
    let sql = format!(
        "select state = 'cancelled' as cancelled, {CAMPAIGN} from dinnerbell.campaign where lane = $1 and unsent is null and {COUNTED} limit $2 + 1"
    );
    let rows = tx.query(&sql, &[own.lane.parameter(), (&(MAX_UNCOUNTED as i64), Type::INT8)]).await?;
    let uncounted = |row: &Row| Uncounted { campaign: Arc::new(campaign(row)), cancelled: row.get("cancelled") };
    Ok(rows.iter().map(uncounted).collect())
}

/// A campaign of the ledger with its revision and cursor.
pub(super) fn active_campaign(row: &Row) -> RunningCampaign {
    RunningCampaign { campaign: Arc::new(campaign(row)), revision: row.get("revision"), cursor: row.get("cursor") }
}

fn digest(size: Option<i64>, sha256: Option<Vec<u8>>) -> Option<Digest> {
    Some(Digest { size: size?, sha256: sha256? })
}

/// A row of `sql/dead_letters.sql`.
pub(super) fn dead_letter(row: &Row) -> DeadLetterMessage {
    DeadLetterMessage {
        id: row.get("id"),
        lane: number(row, "arrived_lane"),
        offset: number(row, "record_offset"),
        key: row.get("key"),
        value: row.get("value"),
        headers: headers(row.get("header_names"), row.get("header_values")),
        digest: digest(row.get("value_size"), row.get("value_sha256")),
        reason: row.get("reason"),
        field: row.get("field"),
    }
}
