//! The ledger takes another feedback table. Clients without a row there look untold, so the rows of all campaigns that are not over must be in it.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{Job, SHORT_LOCK};
use crate::connect::{Parameter, Transaction, place};
use crate::errors::PostgresError;
use crate::ledger::{audit, rows};
use crate::sql;
use crate::sql::fragments::{CLEARED, NEXT_EPOCH};
use crate::table_identity;
use crate::table_identity::{OtherTable, of_another_table};
use dinnerbell_core::model::audit::{Action, Orderer, Subject};
use dinnerbell_core::model::draft::FEEDBACK_COLUMNS;
use dinnerbell_core::model::halt::HaltKind;
use dinnerbell_core::model::late::RowCounts;

/// Campaigns whose rows are compared in one statement, and how long that may take.
const BATCH_SIZE: usize = 1_000;
const COMPARE: Duration = Duration::from_secs(3_600);

/// Whether the ledger shall take another feedback table than it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopt {
    /// It keeps the one that it knows.
    No,
    /// It takes the one of the configuration.
    Yes {
        /// Though rows of campaigns that are not over are missing in it.
        without_rows: bool,
        /// Who orders it; kept in the ledger.
        by: Orderer,
    },
}

impl Job<'_> {
    /// The feedback table is the ledger's, or it shall become it: then what is different is returned.
    pub(super) async fn knows_its_table(&self, adopt: &Adopt) -> Result<Option<OtherTable>, PostgresError> {
        let tx = self.pool.begin("").await?;
        table_identity::note(&tx, self.table()).await?;
        tx.commit().await?;
        match (table_identity::check(&self.pool).await?, adopt) {
            (Ok(()), _) => Ok(None),
            (Err(another), Adopt::Yes { .. }) => Ok(Some(another)),
            (Err(another), Adopt::No) => Err(self.refuse(&of_another_table(&another))),
        }
    }

    /// Takes the table, clears the halts that are about it, and lets every lane be taken over again. No lane records a round meanwhile.
    pub(super) async fn adopt(
        &self,
        another: &OtherTable,
        without_rows: bool,
        by: &Orderer,
    ) -> Result<(), PostgresError> {
        let take = async || {
            let tx = self.pool.begin(SHORT_LOCK).await?;
            tx.batch("select 1 from dinnerbell.lane order by lane for update").await?;
            self.nothing_is_sent(&tx).await?;
            if !without_rows {
                self.holds_all_rows(&tx, another).await?;
            }
            let table = self.table();
            let sql = "update dinnerbell.service set feedback_table = $1, feedback_oid = to_regclass($2)::oid, service_oid = tableoid";
            let names: [Parameter<'_>; 2] = [(&table.to_string(), Type::TEXT), (&table.sql(), Type::TEXT)];
            tx.execute(sql, &names).await?;
            let halt: Parameter<'_> = (&HaltKind::FeedbackTableReplaced.name(), Type::TEXT);
            let others = format!("update dinnerbell.lane set {NEXT_EPOCH} where halted is distinct from $1");
            tx.execute(&others, std::slice::from_ref(&halt)).await?;
            let sql = format!("update dinnerbell.lane set {CLEARED}, resolved_by = $2 where halted = $1");
            tx.execute(&sql, &[halt, (&by.to_string(), Type::TEXT)]).await?;
            let (name, details) = (table.to_string(), if without_rows { "--without-rows" } else { "" });
            audit::note(&tx, by, Action::Adopted, Subject::FeedbackTable(&name), details).await?;
            tx.commit().await
        };
        self.when_the_lock_is_free("the ledger's lanes", take).await?;
        self.done(&format!("the ledger's feedback table is {} from now on", self.table()));
        Ok(())
    }

    /// Fails unless all sending is paused, or every lane is halted: no row may be added while rows are copied.
    async fn nothing_is_sent(&self, tx: &Transaction) -> Result<(), PostgresError> {
        let sql = "select exists (select from dinnerbell.service where paused_at is not null) \
                   or not exists (select from dinnerbell.lane where halted is null)";
        match tx.query_one(sql, &[]).await?.get(0) {
            true => Ok(()),
            false => Err(self.refuse(
                "the ledger takes another feedback table only while nothing is sent; run `dinnerbell pause` before, and `dinnerbell resume` afterwards",
            )),
        }
    }

    /// The rows of all campaigns that are not over are in the table. While the known table is there each of its rows is looked for; otherwise rows
    /// are counted, and a few may be gone.
    async fn holds_all_rows(&self, tx: &Transaction, another: &OtherTable) -> Result<(), PostgresError> {
        let not_over = tx.query(sql::NOT_OVER.text(), &[]).await?;
        let not_over: Vec<(String, i64)> = not_over.iter().map(|row| (row.get(0), row.get("told"))).collect();
        let lacking = match &another.now {
            Some(_) if another.is_only_renamed() => Vec::new(),
            Some(known) => self.lacking(tx, known, &not_over).await?,
            None => self.removed(tx, not_over).await?,
        };
        match lacking.first() {
            None => Ok(()),
            Some(first) => Err(self.refuse(&self.lacks_rows(first, lacking.len(), another))),
        }
    }

    /// The campaigns of which the known table has rows that the other one lacks.
    async fn lacking(
        &self,
        tx: &Transaction,
        known: &str,
        campaigns: &[(String, i64)],
    ) -> Result<Vec<(String, RowCounts)>, PostgresError> {
        let sql = sql::LACKING_ROWS.with([("from", known), ("to", &self.table().sql())]);
        let mut lacking = Vec::new();
        for some in campaigns.chunks(BATCH_SIZE) {
            let ids: Vec<&str> = some.iter().map(|(id, _)| id.as_str()).collect();
            let take = |row: &Row| {
                let ((id, told), rows) = (&some[place(row)], row.get::<_, i64>("rows"));
                lacking.push((id.clone(), RowCounts { told: *told.max(&rows), rows: *told.max(&rows) - rows }));
                Ok(())
            };
            tx.for_each(&sql, vec![(&ids, Type::TEXT_ARRAY)], COMPARE, take).await?;
        }
        Ok(lacking)
    }

    /// The campaigns of which enough rows are gone that somebody would be told again.
    async fn removed(
        &self,
        tx: &Transaction,
        campaigns: Vec<(String, i64)>,
    ) -> Result<Vec<(String, RowCounts)>, PostgresError> {
        let mut removed = Vec::new();
        for (id, told) in campaigns {
            let counted = RowCounts { told, rows: rows::count(tx, &self.table().sql(), &id, told).await? };
            if counted.indicates_bulk_removal() {
                removed.push((id, counted));
            }
        }
        Ok(removed)
    }

    fn lacks_rows(&self, (id, counted): &(String, RowCounts), campaigns: usize, another: &OtherTable) -> String {
        let RowCounts { told, rows } = counted;
        let table = self.table();
        let what = format!(
            "table {table} lacks rows of {campaigns} campaigns that are not over: of {id} {told} clients were told, and {rows} rows are there"
        );
        let copy = match &another.now {
            Some(now) => format!(
                "copy them, and run the same command again: insert into {to} ({FEEDBACK_COLUMNS}, feedback) select {FEEDBACK_COLUMNS}, feedback \
                 from {now} old where adv_campaign_id collate \"C\" in (select adv_campaign_id from dinnerbell.campaign where state in ('scheduled', \
                 'active', 'complete') or unsent is null) and not exists (select from {to} new where new.adv_campaign_id collate \"C\" = old.adv_campaign_id \
                 and new.client_id collate \"C\" = old.client_id)",
                to = table.sql()
            ),
            None => "put them back from a backup, and run the same command again".to_owned(),
        };
        format!(
            "{what}; {copy}; or add --without-rows: a lane that would tell those clients again halts, and asks what is right"
        )
    }

    fn refuse(&self, what: &str) -> PostgresError {
        PostgresError::refused(format!("{}: {what}", self.pool.address()))
    }
}
