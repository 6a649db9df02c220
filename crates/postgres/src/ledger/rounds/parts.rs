//! The parts of a recorded round, and the feedback rows that they stand for.

use std::collections::BTreeMap;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::connect::{Connection, Parameter, Transaction};
use crate::errors::PostgresError;
use crate::number::{Number, number};
use crate::sql;
use crate::sql::fragments::{PARTS_WITH_DRAFTS, late_by_name, late_ones, on_the_page};
use dinnerbell_core::model::campaign::Window;
use dinnerbell_core::model::number::{Lane, Seq};

/// Deletes the rows of some parts, but for those in which somebody answered: how many, with their part.
pub(in crate::ledger) async fn delete_rows(
    tx: &Connection,
    feedback: &str,
    lane: Lane,
    seq: Seq,
    parts: &[i32],
) -> Result<Vec<(i32, i64)>, PostgresError> {
    let delete = |of: &str, condition: &str| {
        sql::DELETE_ROWS_OF_PARTS.with([("feedback", feedback), ("of", of), ("condition", condition)])
    };
    let round: [Parameter<'_>; 3] = [lane.parameter(), seq.parameter(), (&parts, Type::INT4_ARRAY)];
    let (pages, late) = (delete(PARTS_WITH_DRAFTS, &on_the_page()), delete(&late_ones(), &late_by_name("p.client")));
    let (pages, late) = futures_util::try_join!(tx.query(&pages, &round), tx.query(&late, &round))?;
    Ok(pages.iter().chain(&late).map(|row| (row.get("part"), row.get("rows"))).collect())
}

/// Puts the counts and cursors of some parts' campaigns back to where they stood before the round. Of each part this many rows are kept.
pub(super) async fn set_parts_back(
    tx: &Transaction,
    lane: Lane,
    seq: Seq,
    kept: &BTreeMap<i32, i64>,
) -> Result<(), PostgresError> {
    let numbers: Vec<i32> = kept.keys().copied().collect();
    let kept: Vec<i64> = kept.values().copied().collect();
    let emptied = "update dinnerbell.round_part set drafts = 0, checksum = 0, has_page = false, late = '{}' \
                   where lane = $1 and seq = $2 and part = any($3)";
    let round: [Parameter<'_>; 4] =
        [lane.parameter(), seq.parameter(), (&numbers, Type::INT4_ARRAY), (&kept, Type::INT8_ARRAY)];
    futures_util::try_join!(tx.execute(sql::SET_PARTS_BACK.text(), &round), tx.execute(emptied, &round[..3]))?;
    Ok(())
}

/// Asks for feedback rows of round `$2` of lane `$1`, a number of each part: columns of the part, `p`, and of the rows.
pub(in crate::ledger) fn of_parts(part: &str, columns: &str, feedback: &str, limit: &str) -> String {
    sql::ROWS_OF_PARTS.with([("part", part), ("columns", columns), ("feedback", feedback), ("limit", limit)])
}

/// A part of a stored round, with the outcome of its campaign.
pub(in crate::ledger) struct StoredPart {
    pub(in crate::ledger) part: i32,
    pub(in crate::ledger) id: String,
    pub(in crate::ledger) has_page: bool,
    pub(in crate::ledger) after: Option<String>,
    pub(in crate::ledger) skipped: i64,
    pub(in crate::ledger) late: Vec<String>,
    pub(in crate::ledger) drafts: i64,
    pub(in crate::ledger) checksum: i64,
    pub(in crate::ledger) open: bool,
    pub(in crate::ledger) window: Window,
}

impl StoredPart {
    fn of(row: &Row) -> Self {
        let times = (number(row, "adv_campaign_datetime_start"), number(row, "adv_campaign_datetime_end"));
        let window = match (row.get("cancelled"), times) {
            (false, (Some(start), Some(end))) => Window { start, end },
            _ => Window::NEVER,
        };
        Self {
            part: row.get("part"),
            id: row.get("adv_campaign_id"),
            has_page: row.get("has_page"),
            after: row.get("after_client"),
            skipped: row.get("skipped"),
            late: row.get("late"),
            drafts: row.get("drafts"),
            checksum: row.get("checksum"),
            open: row.get("open"),
            window,
        }
    }
}

/// The parts of a recorded round.
pub(in crate::ledger) async fn parts(tx: &Connection, lane: Lane, seq: Seq) -> Result<Vec<StoredPart>, PostgresError> {
    let rows = tx.query(sql::PARTS.text(), &[lane.parameter(), seq.parameter()]).await?;
    Ok(rows.iter().map(StoredPart::of).collect())
}
