//! Drafts whose messages Kafka lost: their rows are taken back, so that a later round tells those clients.

use tokio_postgres::types::Type;

use super::{NOW, PostgresLedger};
use crate::connect::{Parameter, Pool};
use crate::errors::PostgresError;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::Lane;
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
}

/// What becomes of each of these rows; one that is gone is left out.
pub async fn fates(pool: &Pool, rows: &[i64]) -> Result<Vec<(i64, Fate)>, PostgresError> {
    let sql = format!(
        "select f.id::int8, f.feedback is not null, c.lane, c.state in ('active', 'complete') and c.adv_campaign_datetime_end > {NOW} \
         from {} f join dinnerbell.campaign c using (adv_campaign_id) where f.id = any($1) order by f.id",
        pool.table().sql()
    );
    let found = pool.query(&sql, &[(&rows, Type::INT8_ARRAY)]).await?;
    let fate = |row: &tokio_postgres::Row| match (row.get(1), row.get(3)) {
        (true, _) => Fate::Answered,
        (false, true) => Fate::Open(row.get(2)),
        (false, false) => Fate::Over,
    };
    Ok(found.iter().map(|row| (row.get(0), fate(row))).collect())
}

impl PostgresLedger {
    /// Takes these rows of a lane's open campaigns back, in one transaction: the rows go, and the campaigns are to be passed again. How many
    /// went.
    pub async fn take_rows_back(&self, own: Ownership, rows: &[i64]) -> Result<u64, LedgerError> {
        let tx = self.begin(own).await?;
        tx.query_one("select 1 from dinnerbell.lane where lane = $1 for update", &[(&own.lane, Type::INT4)]).await?;
        let sql = format!(
            "with open as (select adv_campaign_id from dinnerbell.campaign where lane = $1 and state in ('active', 'complete') \
               and adv_campaign_datetime_end > {NOW} and adv_campaign_id in (select adv_campaign_id from {feedback} where id = any($2)) \
               order by adv_campaign_id for update), \
             gone as (delete from {feedback} f using open o where f.id = any($2) and f.feedback is null \
               and f.adv_campaign_id = o.adv_campaign_id returning f.adv_campaign_id), \
             counted as (select adv_campaign_id, count(*) as drafts from gone group by 1) \
             update dinnerbell.campaign c set told = c.told - g.drafts, late = least(c.late, c.told - g.drafts), repass_at = 0 \
             from counted g where c.adv_campaign_id = g.adv_campaign_id returning g.drafts",
            feedback = self.feedback()
        );
        let parameters: [Parameter<'_>; 2] = [(&own.lane, Type::INT4), (&rows, Type::INT8_ARRAY)];
        let counts = tx.query(&sql, &parameters).await?;
        tx.commit().await?;
        Ok(counts.iter().map(|row| row.get::<_, i64>(0).unsigned_abs()).sum())
    }
}
