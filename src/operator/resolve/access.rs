//! How a resolution reaches the cluster and the ledger.

use crate::operator::OwnLedger;
use crate::operator::resolve::outcome::ResolveError;
use dinnerbell_config::Config;
use dinnerbell_core::model::audit::Orderer;
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_postgres::clock::PostgresClock;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::ledger::PostgresLedger;

/// How often a mending is begun again, when an owner took the lane over meanwhile.
pub(in crate::operator) const MAX_ATTEMPTS: u32 = 4;

/// The cluster of the ledger.
pub(in crate::operator) async fn connect(config: &Config, own_ledger: &OwnLedger) -> Result<KafkaBroker, ResolveError> {
    let broker = KafkaBroker::connect(&config.kafka).await?;
    own_ledger.check_cluster(broker.cluster_id()).map_err(ResolveError::Refused)?;
    Ok(broker)
}

/// The ledger, for an owner that only resolves.
pub(in crate::operator) async fn writer(
    config: &Config,
    pool: &Pool,
    by: &Orderer,
) -> Result<PostgresLedger, ResolveError> {
    let clock = PostgresClock::start(pool.clone()).await?;
    Ok(PostgresLedger::of_operator(pool.clone(), clock, by.clone(), config.kafka.group_id.clone()))
}
