//! The campaigns of a lane: what is due and open, and what is noted of them.

use tokio_postgres::types::Type;

use super::{PostgresLedger, rows};
use crate::connect::Parameter;
use crate::number::Number;
use crate::sql;
use crate::sql::fragments::{COUNTED, NOW_ONCE, RESCAN_IS_DUE, of_restaurants};
use dinnerbell_core::model::due::Due;
use dinnerbell_core::model::late::{LateCheckCampaign, OpenCampaign, RowCounts};
use dinnerbell_core::model::number::Seconds;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::{CampaignLedger, LedgerError};

impl CampaignLedger for PostgresLedger {
    async fn due(&self, own: Ownership, most: usize) -> Result<Due, LedgerError> {
        self.read_due(own, most).await
    }

    async fn open_campaigns_of(
        &self,
        own: Ownership,
        restaurants: &[String],
    ) -> Result<Vec<OpenCampaign>, LedgerError> {
        let mut open = self.read_open(own, &of_restaurants("$2"), "true", &[(&restaurants, Type::TEXT_ARRAY)]).await?;
        open.sort_by(|one, other| one.running.id().cmp(other.running.id()));
        Ok(open)
    }

    async fn late_campaigns(
        &self,
        own: Ownership,
        restaurants: &[String],
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<LateCheckCampaign>, LedgerError> {
        self.read_late_for(own, restaurants, after, most).await
    }

    async fn open_campaigns_after(
        &self,
        own: Ownership,
        after: Option<&(Seconds, String)>,
        most: usize,
    ) -> Result<Vec<OpenCampaign>, LedgerError> {
        let (end, id) = after.map_or((None, None), |(end, id)| (Some(*end), Some(id.as_str())));
        let which = "(cursor is not null or last_page_seq is not null) and adv_campaign_datetime_end >= coalesce($2::int8, 0) \
                     and ($2::int8 is null or (adv_campaign_datetime_end, adv_campaign_id) > ($2, $3)) \
                     order by adv_campaign_datetime_end, adv_campaign_id limit $4";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 3] = [end.parameter(), (&id, Type::TEXT), (&most, Type::INT8)];
        self.read_open(own, "dinnerbell.campaign", which, &parameters).await
    }

    async fn due_rescan(&self, own: Ownership, beside: &[&str], most: usize) -> Result<Vec<OpenCampaign>, LedgerError> {
        let which = format!(
            "repass_at <= {NOW_ONCE} and {RESCAN_IS_DUE} and adv_campaign_id <> all ($2) order by repass_at limit $3"
        );
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 2] = [(&beside, Type::TEXT_ARRAY), (&most, Type::INT8)];
        self.read_open(own, "dinnerbell.campaign", &which, &parameters).await
    }

    async fn count_rows(&self, own: Ownership, id: &str) -> Result<RowCounts, LedgerError> {
        let tx = self.begin(own).await?;
        let sql = "select told + kept from dinnerbell.campaign where adv_campaign_id = $1";
        let row = tx.query_opt(sql, &[(&id, Type::TEXT)]).await?;
        tx.commit().await?;
        let told = row.map_or(0, |row| row.get(0));
        let tx = self.pool.begin("").await?;
        let rows = rows::count(&tx, &self.feedback(), id, told).await?;
        tx.commit().await?;
        Ok(RowCounts { told, rows })
    }

    async fn note_rescanned(&self, own: Ownership, rescanned: &[(String, i32)]) -> Result<(), LedgerError> {
        let (ids, revisions): (Vec<&str>, Vec<i32>) =
            rescanned.iter().map(|(id, revision)| (id.as_str(), *revision)).unzip();
        let tx = self.begin(own).await?;
        // A round's seal locks campaigns in two statements.
        let _exclusive = self.lock_lane(own.lane).await;
        tx.execute(sql::NOTE_RESCANNED.text(), &[(&ids, Type::TEXT_ARRAY), (&revisions, Type::INT4_ARRAY)]).await?;
        Ok(tx.commit().await?)
    }

    async fn note_unsent(&self, own: Ownership, id: &str, unsent: u64) -> Result<bool, LedgerError> {
        let tx = self.begin(own).await?;
        let unpublished = "select exists (select from dinnerbell.lane l join dinnerbell.round_part p using (lane, seq) where lane = $1 \
                           and seq > coalesce(published_seq, -1) and adv_campaign_id = $2 and p.drafts > 0)";
        let row = tx.query_one(unpublished, &[own.lane.parameter(), (&id, Type::TEXT)]).await?;
        let settled = !row.get::<_, bool>(0);
        if settled {
            let sql = format!("update dinnerbell.campaign set unsent = $2 where adv_campaign_id = $1 and {}", COUNTED);
            let unsent = i64::try_from(unsent).unwrap_or(i64::MAX);
            tx.execute(&sql, &[(&id, Type::TEXT), (&unsent, Type::INT8)]).await?;
        }
        tx.commit().await?;
        Ok(settled)
    }
}
