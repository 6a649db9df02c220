//! The topics that are written to, as the ledger knows them: one cluster's, so that all lanes have them in common.

use tokio_postgres::types::Type;

use super::{PostgresLedger, audit};
use crate::connect::{Parameter, Pool};
use crate::errors::PostgresError;
use crate::number::number;
use crate::sql;
use crate::sql::fragments::{CLEARED, NEXT_EPOCH};
use dinnerbell_core::model::audit::{Action, Orderer, Subject};
use dinnerbell_core::model::halt::HaltKind;
use dinnerbell_core::model::number::{Lane, Seconds};
use dinnerbell_core::model::output_topics::{OutputTopicIds, is_another};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::LedgerError;

/// What is known of the topics that are written to.
#[derive(Debug, Clone, Default)]
pub struct KnownOutputTopics {
    /// Their ids.
    pub ids: OutputTopicIds,
    /// When the ledger took another topic of drafts: what was published before is not in it.
    pub notifications_replaced: Option<Seconds>,
    /// When the topic of dead letters was last found to be another one, as text.
    pub dead_letters_replaced: Option<String>,
    /// How many letters that were published before are in the ledger, and in that topic no more.
    pub letters_before: i64,
}

impl KnownOutputTopics {
    /// After which moment all drafts that were formed are in the topic that is there, as far as ids tell; none where that was always so.
    pub fn drafts_begin(&self, now: &OutputTopicIds) -> Option<Seconds> {
        match is_another(self.ids.notifications.as_deref(), now.notifications.as_deref()) {
            true => Some(Seconds::MAX),
            false => self.notifications_replaced,
        }
    }
}

impl PostgresLedger {
    pub(super) async fn note_output_ids(&self, own: Ownership, ids: &OutputTopicIds) -> Result<bool, LedgerError> {
        let tx = self.begin(own).await?;
        let ids: [Parameter<'_>; 2] = [(&ids.notifications, Type::TEXT), (&ids.dead_letters, Type::TEXT)];
        let replaced = tx.query(sql::NOTE_OUTPUTS.text(), &ids).await?.first().is_some_and(|row| row.get(0));
        tx.commit().await?;
        Ok(replaced)
    }
}

/// What the ledger knows of the topics that are written to.
pub async fn known(pool: &Pool) -> Result<KnownOutputTopics, PostgresError> {
    let rows = pool.query(sql::KNOWN_OUTPUTS.text(), &[]).await?;
    Ok(rows.first().map_or_else(KnownOutputTopics::default, |row| KnownOutputTopics {
        ids: OutputTopicIds { notifications: row.get("notifications_id"), dead_letters: row.get("dead_letters_id") },
        notifications_replaced: number(row, "notifications_replaced"),
        dead_letters_replaced: row.get("dead_letters_replaced"),
        letters_before: row.get("letters_before"),
    }))
}

/// Lanes that are halted because the topic of the drafts is another one.
pub async fn replaced(pool: &Pool) -> Result<Vec<Lane>, PostgresError> {
    let sql = "select lane from dinnerbell.lane where halted = $1 order by lane";
    let rows = pool.query(sql, &[(&HaltKind::NotificationsReplaced.name(), Type::TEXT)]).await?;
    Ok(rows.iter().map(|row| number(row, 0)).collect())
}

/// Lets the ledger take the topic of the drafts that is there, and clears the halts that are about it. Every lane is taken over again: one that is just
/// being compared with the topic that was known would halt afterwards.
pub async fn accept(pool: &Pool, by: &Orderer) -> Result<(), PostgresError> {
    let tx = pool.begin("set local lock_timeout = '5s'").await?;
    tx.batch("select 1 from dinnerbell.lane order by lane for update").await?;
    tx.batch("update dinnerbell.service set notifications_id = null, notifications_replaced_at = clock_timestamp()")
        .await?;
    let others = format!("update dinnerbell.lane set {NEXT_EPOCH} where halted is distinct from $1");
    tx.execute(&others, &[(&HaltKind::NotificationsReplaced.name(), Type::TEXT)]).await?;
    let sql = format!("update dinnerbell.lane set {CLEARED}, resolved_by = $2 where halted = $1");
    tx.execute(&sql, &[(&HaltKind::NotificationsReplaced.name(), Type::TEXT), (&by.to_string(), Type::TEXT)]).await?;
    audit::note(&tx, by, Action::Resolved, Subject::Lanes, "--accept-topic").await?;
    tx.commit().await
}
