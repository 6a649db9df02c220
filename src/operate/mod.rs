//! What operators ask and decide, beside the running service: everything here reads and writes the ledger as the service does, and
//! may be used while it runs.

pub mod campaigns;
pub mod decide;
pub mod found;
pub mod lanes;
pub mod resolve;

use uuid::Uuid;

use crate::config;
use crate::postgres::connect::Pool;
use crate::postgres::errors::PostgresError;

/// Which ledger it is, if one was claimed. It must be the one of this configuration; what is wrong otherwise is the inner error.
pub async fn ledger_of(pool: &Pool, kafka: &config::Kafka) -> Result<Result<Option<Uuid>, String>, PostgresError> {
    let sql = "select ledger, group_id, campaigns_topic, notifications_topic from dinnerbell.service";
    let rows = pool.query(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(Ok(None)) };
    let topics = &kafka.topics;
    let keys = [
        ("group_id", &kafka.group_id),
        ("topics.campaigns", &topics.campaigns),
        ("topics.notifications", &topics.notifications),
    ];
    for (column, (key, configured)) in (1..).zip(keys) {
        let found: &str = row.get(column);
        if found != configured {
            return Ok(Err(format!(
                "the ledger belongs to the service whose kafka.{key} is {found}, and this configuration says {configured}: correct the \
                 configuration"
            )));
        }
    }
    Ok(Ok(Some(row.get(0))))
}
