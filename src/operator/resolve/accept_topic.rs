//! `--all --accept-topic`: the notifications topic was recreated, and the ledger takes the one that is there.

use crate::operator::find_own_ledger;
use crate::operator::resolve::outcome::{ResolveError, Resolved, unknown};
use dinnerbell_config::Config;
use dinnerbell_core::model::audit::Orderer;
use dinnerbell_core::model::halt::HaltKind;
use dinnerbell_core::model::number::Lane;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::output_topics;
use dinnerbell_postgres::ledger::resolve::lane_row;

/// The ledger takes the output topic that is there, and every lane that is halted because of it goes on.
pub async fn accept_topic(config: &Config, dry_run: bool, by: &Orderer) -> Result<Vec<Resolved>, ResolveError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    if find_own_ledger(&pool, &config.kafka).await?.map_err(ResolveError::Refused)?.is_none() {
        return Err(unknown(Lane::new(0)));
    }
    let mut resolutions = Vec::new();
    for lane in output_topics::replaced(&pool).await? {
        let Some(found) = lane_row(&pool, lane).await? else { continue };
        let mut outcome = Resolved::begin(lane, dry_run, &found);
        outcome.found.push(format!("the lane is halted: {}", HaltKind::NotificationsReplaced));
        outcome.done.push(format!("its drafts go to topic {} as it is now", config.kafka.topics.notifications));
        resolutions.push(outcome);
    }
    if !dry_run && !resolutions.is_empty() {
        output_topics::accept(&pool, by).await?;
    }
    Ok(resolutions)
}
