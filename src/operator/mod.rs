//! What operators ask and decide, beside the running service. Everything here reads and writes the ledger as the service does, and may be used while
//! it runs.

pub mod adopt;
pub mod audiences;
pub mod audit;
pub mod campaigns;
pub mod cancel;
pub mod csv;
pub mod dead_letters;
pub mod hold;
pub mod lanes;
pub mod not_told;
pub mod pause;
pub mod preview;
pub mod replay;
pub mod republish;
pub mod resolve;
pub mod told;

use uuid::Uuid;

use dinnerbell_config as config;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::table_identity;
use dinnerbell_postgres::table_identity::of_another_table;

/// The ledger, when the service of this configuration has claimed it.
#[derive(Debug, Clone)]
pub struct OwnLedger {
    /// The ledger's id.
    pub ledger: Uuid,
    cluster_id: String,
}

impl OwnLedger {
    /// Whether it is this cluster's: another one holds other messages under the same names. What is wrong otherwise is the error.
    pub fn check_cluster(&self, cluster_id: &str) -> Result<(), String> {
        match self.cluster_id == cluster_id {
            true => Ok(()),
            false => Err(format!(
                "the ledger belongs to the kafka cluster {}, and kafka.bootstrap_servers leads to {cluster_id}: correct the configuration",
                self.cluster_id
            )),
        }
    }
}

/// Who claimed the ledger, if anybody did. It must be the service of this configuration; what is wrong otherwise is the inner error.
pub async fn find_own_ledger(
    pool: &Pool,
    kafka: &config::Kafka,
) -> Result<Result<Option<OwnLedger>, String>, PostgresError> {
    let sql = "select ledger, cluster_id, group_id, campaigns_topic, notifications_topic from dinnerbell.service";
    let rows = pool.query(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(Ok(None)) };
    let topics = &kafka.topics;
    let keys = [
        ("group_id", &kafka.group_id),
        ("topics.campaigns", &topics.campaigns),
        ("topics.notifications", &topics.notifications),
    ];
    for (column, (key, configured)) in (2..).zip(keys) {
        let found: &str = row.get(column);
        if found != configured {
            return Ok(Err(format!(
                "the ledger belongs to the service whose kafka.{key} is {found}, and this configuration says {configured}: correct the \
                 configuration"
            )));
        }
    }
    if let Err(another) = table_identity::check(pool).await? {
        return Ok(Err(of_another_table(&another)));
    }
    Ok(Ok(Some(OwnLedger { ledger: row.get(0), cluster_id: row.get(1) })))
}

/// Behind which entry the next page of a list begins; none where this page, which is not full, is the last one.
pub fn next_page<T, K>(page: &[T], limit: i64, key: impl FnOnce(&T) -> K) -> Option<K> {
    page.last().filter(|_| page.len() as i64 == limit).map(key)
}
