//! Drafts whose messages Kafka lost: their rows are taken back, so that a later round tells those clients.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PostgresLedger;
use crate::connect::{Parameter, Pool};
use crate::errors::PostgresError;
use crate::number::{Number, number};
use crate::sql;
use crate::sql::fragments::NOW;
use dinnerbell_core::model::audit::{Action, Subject};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::LedgerError;

/// What becomes of a row without a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its campaign lasts: the client is told once more.
    Open(Lane),
    /// Its campaign is over: the row stays as it is.
    Over,
    /// Somebody answered in it, so its client was told.
    Answered,
    /// No round that the ledger still has recorded it: an earlier job may have told its client.
    Unrecorded,
}

/// What becomes of each of these rows; one that is gone is left out.
pub async fn fates(pool: &Pool, rows: &[i64]) -> Result<Vec<(i64, Fate)>, PostgresError> {
    let sql = format!(
        "select f.id::int8 as id, f.feedback is not null as answered, c.lane, \
           c.state in ('active', 'complete') and c.adv_campaign_datetime_end > {NOW} as open \
         from {} f join dinnerbell.campaign c on c.adv_campaign_id = f.adv_campaign_id collate \"C\" where f.id = any($1) order by f.id",
        pool.table().sql()
    );
    let ids: [Parameter<'_>; 1] = [(&rows, Type::INT8_ARRAY)];
    let found = pool.query(&sql, &ids).await?;
    let recorded = pool.query(&sql::RECORDED_ROWS.with([("feedback", &pool.table().sql())]), &ids).await?;
    let recorded: BTreeSet<i64> = recorded.iter().map(|row| row.get("id")).collect();
    let fate = |row: &Row| match (row.get("answered"), row.get("open")) {
        (true, _) => Fate::Answered,
        (false, false) => Fate::Over,
        (false, true) if !recorded.contains(&row.get("id")) => Fate::Unrecorded,
        (false, true) => Fate::Open(number(row, "lane")),
    };
    Ok(found.iter().map(|row| (row.get("id"), fate(row))).collect())
}

impl PostgresLedger {
    /// Takes these rows of a lane's open campaigns back, in one transaction: the rows go, and the campaigns are to be rescanned. How many
    /// went.
    pub async fn take_rows_back(&self, own: Ownership, rows: &[i64]) -> Result<u64, LedgerError> {
        let tx = self.begin(own).await?;
        tx.query_one("select 1 from dinnerbell.lane where lane = $1 for update", &[own.lane.parameter()]).await?;
        let sql = sql::TAKE_ROWS_BACK.with([("feedback", &self.feedback())]);
        let parameters: [Parameter<'_>; 2] = [own.lane.parameter(), (&rows, Type::INT8_ARRAY)];
        let counts = tx.query(&sql, &parameters).await?;
        let taken = counts.iter().map(|row| row.get::<_, i64>(0).unsigned_abs()).sum();
        let details = format!("{taken} drafts whose messages Kafka lost");
        self.note_order(&tx, Action::Republished, Subject::Lane(own.lane), &details).await?;
        tx.commit().await?;
        Ok(taken)
    }
}
