//! `--accept-rows`: the last round, not yet published, becomes what is left of its rows.

use crate::operator::resolve::access::writer;
use crate::operator::resolve::outcome::{ResolveError, Resolved};
use crate::operator::resolve::request::Request;
use dinnerbell_config::Config;
use dinnerbell_core::model::halt::{HaltKind, HaltResolution};
use dinnerbell_core::ports::ledger::LaneLedger;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::resolve::LaneRow;

/// Makes the round what its rows are. Refuses where the lane is not halted for it.
pub(super) async fn accept_rows(
    config: &Config,
    pool: &Pool,
    request: &Request,
    lane_row: &LaneRow,
) -> Result<Resolved, ResolveError> {
    let (lane, seq) = (request.lane, lane_row.head.seq);
    if !lane_row.is_resolved_by(HaltResolution::AcceptRows) || lane_row.published == Some(seq) {
        return Err(ResolveError::Refused(format!(
            "lane {lane} is not halted as {} with a round that is still to be published",
            HaltKind::RoundDamaged
        )));
    }
    let mut outcome = Resolved::begin(request.lane, request.dry_run, lane_row);
    outcome.found.push(format!("rows of round {seq} were changed or removed before it was published"));
    if request.dry_run {
        outcome.done.push(format!("round {seq} becomes what its rows are now"));
        return Ok(outcome);
    }
    let writer = writer(config, pool, &request.by).await?;
    let own = writer.acquire(lane, None).await?.ownership;
    let (held, holds) = writer.accept_rows(own, lane_row, &request.by.to_string()).await?;
    outcome.done.push(format!(
        "round {seq} held {held} drafts and holds the {holds} whose rows are there; a later round tells the others, as far as their \
         campaigns run"
    ));
    Ok(outcome)
}
