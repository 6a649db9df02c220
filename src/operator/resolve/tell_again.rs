//! `--tell-again`: rows of campaigns that run were removed, and those clients are told again.

use crate::operator::resolve::access::writer;
use crate::operator::resolve::outcome::{ResolveError, Resolved};
use crate::operator::resolve::request::Request;
use dinnerbell_config::Config;
use dinnerbell_core::model::halt::{HaltKind, HaltResolution};
use dinnerbell_core::model::late::RowCounts;
use dinnerbell_core::ports::ledger::LaneLedger;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::resolve::LaneRow;

/// Has the clients told again who have no row. Refuses where the lane is not halted for it.
pub(super) async fn tell_again(
    config: &Config,
    pool: &Pool,
    request: &Request,
    lane_row: &LaneRow,
) -> Result<Resolved, ResolveError> {
    let lane = request.lane;
    if !lane_row.is_resolved_by(HaltResolution::TellAgain) {
        return Err(ResolveError::Refused(format!(
            "lane {lane} is not halted as {}: nobody is to be told again",
            HaltKind::RowsRemoved
        )));
    }
    let writer = writer(config, pool, &request.by).await?;
    let mut outcome = Resolved::begin(request.lane, request.dry_run, lane_row);
    let removed = writer.removed(lane).await?;
    for (id, RowCounts { told, rows }) in &removed {
        outcome.found.push(format!("campaign {id} has told {told}, and has {rows} rows"));
    }
    outcome.done.push("those of them who favour the restaurant and have no row are told again".to_owned());
    if !request.dry_run {
        let own = writer.acquire(lane, None).await?.ownership;
        writer.tell_again(own, &removed, &request.by.to_string()).await?;
    }
    Ok(outcome)
}
