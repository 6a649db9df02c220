//! `--retry`: what the lane failed at is mended, and it tries again.

use crate::operator::resolve::outcome::{ResolveError, Resolved};
use crate::operator::resolve::request::Request;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::resolve::{LaneRow, retry};

/// Clears the halt. Refuses where the lane is not halted, or would find the same again.
pub(super) async fn try_again(pool: &Pool, request: &Request, lane_row: &LaneRow) -> Result<Resolved, ResolveError> {
    let lane = request.lane;
    let Some(halt) = &lane_row.halted else {
        return Err(ResolveError::Refused(format!("lane {lane} is not halted: there is nothing to try again")));
    };
    if let Some(resolution) = halt.only_resolution() {
        return Err(ResolveError::Refused(format!(
            "lane {lane} is halted as {halt}: it would find the same again; what resolves that is: {}",
            resolution.command(lane)
        )));
    }
    let mut outcome = Resolved::begin(request.lane, request.dry_run, lane_row);
    outcome.found.push(format!("the lane is halted: {halt}"));
    outcome.done.push("the halt is cleared; the lane's owner takes it over again".to_owned());
    if !request.dry_run {
        retry(pool, lane, &request.by).await?;
    }
    Ok(outcome)
}
