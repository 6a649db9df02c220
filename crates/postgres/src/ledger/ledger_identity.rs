//! Whose ledger it is.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{PostgresLedger, acquire};
use crate::table_identity;
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::ports::ledger::LedgerError;

/// Which service the ledger belongs to. A service that is configured otherwise refuses to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// The id of the Kafka cluster.
    pub cluster_id: String,
    /// The consumer group.
    pub group_id: String,
    /// The topic of the campaigns.
    pub campaigns_topic: String,
    /// The topic of the drafts.
    pub notifications_topic: String,
    /// The feedback table; none where an earlier version claimed the ledger.
    pub feedback_table: Option<String>,
}

impl LedgerIdentity {
    fn of(row: &Row) -> Self {
        Self {
            cluster_id: row.get("cluster_id"),
            group_id: row.get("group_id"),
            campaigns_topic: row.get("campaigns_topic"),
            notifications_topic: row.get("notifications_topic"),
            feedback_table: row.get("feedback_table"),
        }
    }

    /// What a service configured so has to do with this ledger: nothing, for this reason, or none if the ledger is its own.
    pub fn differs(&self, configured: &Self) -> Option<String> {
        let settings = [
            ("kafka.group_id is", &self.group_id, &configured.group_id),
            ("kafka.topics.campaigns is", &self.campaigns_topic, &configured.campaigns_topic),
            ("kafka.topics.notifications is", &self.notifications_topic, &configured.notifications_topic),
            ("kafka.bootstrap_servers lead to the cluster", &self.cluster_id, &configured.cluster_id),
        ];
        let differing = settings.iter().filter(|(_, found, configured)| found != configured);
        let differing: Vec<String> =
            differing.map(|(setting, found, configured)| format!("{setting} {found}, here {configured}")).collect();
        (!differing.is_empty()).then(|| {
            format!(
                "the ledger in feedback.url belongs to another service: its {}; correct the configuration, or give this service a \
                 feedback database of its own",
                differing.join("; its ")
            )
        })
    }
}

impl PostgresLedger {
    /// Whose ledger this is, if it was claimed.
    pub async fn identity(&self) -> Result<Option<(Uuid, LedgerIdentity)>, LedgerError> {
        let sql = "select ledger, cluster_id, group_id, campaigns_topic, notifications_topic, feedback_table from dinnerbell.service";
        let rows = self.pool.query(sql, &[]).await?;
        Ok(rows.first().map(|row| (row.get("ledger"), LedgerIdentity::of(row))))
    }

    /// Claims an unclaimed ledger, with the positions at which its lanes begin, in one transaction. Anyone who comes second finds the
    /// first one's claim.
    pub async fn claim(&self, to: &LedgerIdentity, beginnings: &[(Lane, Offset)]) -> Result<(), LedgerError> {
        let tx = self.pool.begin("set local lock_timeout = '2s'").await?;
        // Held from its beginning: whatever lanes there were in an earlier ledger are compared first.
        let sql = "insert into dinnerbell.service (ledger, cluster_id, group_id, campaigns_topic, notifications_topic, feedback_table, \
                   compared) values ($1, $2, $3, $4, $5, $6, '') on conflict do nothing";
        let inserted = tx
            .execute(
                sql,
                &[
                    (&Uuid::new_v4(), Type::UUID),
                    (&to.cluster_id, Type::TEXT),
                    (&to.group_id, Type::TEXT),
                    (&to.campaigns_topic, Type::TEXT),
                    (&to.notifications_topic, Type::TEXT),
                    (&to.feedback_table, Type::TEXT),
                ],
            )
            .await?;
        if inserted == 1 {
            for (lane, position) in beginnings {
                acquire::create_lane(&tx, *lane, *position).await?;
            }
            table_identity::note(&tx, self.pool.table()).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Whether the feedback table is the ledger's. An earlier version noted none: then it is noted now.
    pub async fn knows_its_table(&self) -> Result<Result<(), table_identity::OtherTable>, LedgerError> {
        let tx = self.pool.begin("").await?;
        table_identity::note(&tx, self.pool.table()).await?;
        tx.commit().await?;
        Ok(table_identity::check(&self.pool).await?)
    }
}
