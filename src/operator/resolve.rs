//! `dinnerbell lane resolve`: mends what halted a lane, as its remedy says. Each resolution has a file of its own.

mod accept_rows;
mod accept_topic;
mod access;
mod all;
mod case;
mod compare;
mod from_kafka;
mod outcome;
mod report;
mod request;
mod restart_at;
mod retry;
mod spool;
mod tell_again;
mod topic;

use indicatif::ProgressBar;

use crate::operator::find_own_ledger;
use dinnerbell_config::Config;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::resolve::lane_row;
use from_kafka::LedgerRepair;

pub use accept_topic::accept_topic;
pub(super) use access::{MAX_ATTEMPTS, connect, writer};
pub use all::resolve_all;
pub(super) use outcome::unknown;
pub use outcome::{ResolveError, Resolved};
pub use request::{FromKafka, Position, Request, Resolution};

/// Resolves a lane.
pub async fn resolve(config: &Config, request: &Request, progress: &ProgressBar) -> Result<Resolved, ResolveError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let claimed = find_own_ledger(&pool, &config.kafka).await?.map_err(ResolveError::Refused)?;
    let lane = request.lane;
    let (Some(own_ledger), Some(found)) = (claimed, lane_row(&pool, lane).await?) else {
        return Err(unknown(lane));
    };
    match request.resolution {
        Resolution::Retry => retry::try_again(&pool, request, &found).await,
        Resolution::TellAgain => tell_again::tell_again(config, &pool, request, &found).await,
        Resolution::AcceptRows => accept_rows::accept_rows(config, &pool, request, &found).await,
        Resolution::RestartAt(position) => {
            restart_at::move_to(config, &pool, &own_ledger, request, &found, position).await
        }
        Resolution::FromKafka(resolution) => {
            let broker = connect(config, &own_ledger).await?;
            let (ledger, dry_run, by) = (own_ledger.ledger, request.dry_run, &request.by);
            let writer = writer(config, &pool, by).await?;
            let repair = LedgerRepair { config, pool, broker, writer, ledger, resolution, dry_run, by, progress };
            repair.run(vec![(lane, found)], Vec::new()).await.pop().map_or_else(|| Err(unknown(lane)), |(_, done)| done)
        }
    }
}
