//! `--restart-at`: the lane goes on at another position of the campaigns topic.

use crate::operator::OwnLedger;
use crate::operator::resolve::access::connect;
use crate::operator::resolve::outcome::{ResolveError, Resolved};
use crate::operator::resolve::request::{Position, Request};
use dinnerbell_config::Config;
use dinnerbell_core::model::halt::{HaltKind, HaltResolution};
use dinnerbell_core::ports::broker::Broker;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::resolve::{LaneRow, restart_at};

/// Sets the position. Refuses where the lane's halt is about something else, and where the topic does not hold the offset.
pub(super) async fn move_to(
    config: &Config,
    pool: &Pool,
    own_ledger: &OwnLedger,
    request: &Request,
    lane_row: &LaneRow,
    position: Position,
) -> Result<Resolved, ResolveError> {
    let lane = request.lane;
    let refused = || {
        ResolveError::Refused(format!(
            "lane {lane} is {}: a position is set only where a lane is halted as {}, because what is skipped is lost and what is read again was \
             applied already",
            lane_row.halted.as_ref().map_or("not halted".to_owned(), |halt| format!("halted as {halt}")),
            any_of(&HaltKind::matching(|kind| kind.is_resolved_by(HaltResolution::RestartAt)))
        ))
    };
    if !lane_row.is_resolved_by(HaltResolution::RestartAt) {
        return Err(refused());
    }
    let broker = connect(config, own_ledger).await?;
    let (low, high) = broker.watermarks(lane).await?;
    let to = match position {
        Position::Earliest => low,
        Position::Latest => high,
        Position::Offset(offset) if (low..=high).contains(&offset) => offset,
        Position::Offset(offset) => {
            return Err(ResolveError::Refused(format!(
                "offset {offset} is not in the topic: partition {lane} holds {low} up to {high}"
            )));
        }
    };
    let mut outcome = Resolved::begin(request.lane, request.dry_run, lane_row);
    outcome
        .found
        .push(format!("the lane's position is {}; the topic holds offsets {low} up to {high}", lane_row.position));
    outcome.done.push(format!("the lane goes on at offset {to}; campaigns that are read again are known by their ids"));
    if !request.dry_run && !restart_at(pool, lane, to, &request.by).await? {
        return Err(refused());
    }
    Ok(outcome)
}

/// Their names: `one, another or a third`.
fn any_of(kinds: &[&HaltKind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    names.split_last().map_or_else(String::new, |(last, others)| format!("{} or {last}", others.join(", ")))
}
