//! `--retry`: what the lane failed at is mended, and it tries again.

use crate::operator::resolve::outcome::{ResolveError, Resolved};
use crate::operator::resolve::request::Request;
use crate::operator::resolve::ways_out::way_out;
use dinnerbell_core::model::halt::NOTIFICATIONS_REPLACED;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::resolve::{LaneRow, retry};

/// Clears the halt. Refuses where the lane is not halted, or would find the same again.
pub(super) async fn try_again(pool: &Pool, request: &Request, standing: &LaneRow) -> Result<Resolved, ResolveError> {
    let lane = request.lane;
    let Some(name) = &standing.halted else {
        return Err(ResolveError::Refused(format!("lane {lane} is not halted: there is nothing to try again")));
    };
    if let Some(way) = way_out(name) {
        let way = if name == NOTIFICATIONS_REPLACED { way.to_owned() } else { format!("{lane} {way}") };
        return Err(ResolveError::Refused(format!(
            "lane {lane} is halted as {name}: it would find the same again; what resolves that is: dinnerbell lane resolve {way}"
        )));
    }
    let mut outcome = Resolved::begin(request.lane, request.dry_run, standing);
    outcome.found.push(format!("the lane is halted: {name}"));
    outcome.done.push("the halt is cleared; whoever owns the lane enters it again".to_owned());
    if !request.dry_run {
        retry(pool, lane, &request.by).await?;
    }
    Ok(outcome)
}
