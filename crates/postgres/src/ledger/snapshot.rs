//! What `verify` reads: one snapshot of the ledger and the feedback table, so that all of it is of one moment.

use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::rounds;
use crate::connect::{Parameter, Pool, Transaction, begin_at};
use crate::draft_row;
use crate::errors::PostgresError;
use crate::number::{Number, number};
use dinnerbell_core::model::number::{Lane, Seconds, Seq};
use dinnerbell_core::recovery::found::FoundDraft;

// Rows of drafts are read by their columns' places: there may be many millions, and a name is looked for in each row again.
const ID: usize = 0;
const ANSWERED: usize = 1;
const DRAFT: usize = 2;
const CAMPAIGN: usize = 0;
const CLIENT: usize = 1;

/// Feedback table and ledger as of one moment.
pub struct Snapshot {
    tx: Transaction,
    feedback: String,
}

/// How far a lane is.
#[derive(Debug, Clone)]
pub struct LaneHead {
    /// The lane.
    pub lane: Lane,
    /// The last recorded round.
    pub seq: Seq,
    /// The last round known to be committed in Kafka.
    pub published: Option<Seq>,
    /// The name of its halt.
    pub halted: Option<String>,
}

/// What a campaign counts.
#[derive(Debug, Clone, Copy)]
pub struct CampaignCounts<'a> {
    /// Drafts recorded.
    pub told: i64,
    /// Rows of withdrawn drafts that were kept because somebody had answered.
    pub kept: i64,
    /// Drafts of those who were late.
    pub late: i64,
    /// The last client whom the pages hold.
    pub cursor: Option<&'a str>,
}

impl<'a> CampaignCounts<'a> {
    fn of(row: &'a Row) -> Self {
        Self { told: row.get("told"), kept: row.get("kept"), late: row.get("late"), cursor: row.get("cursor") }
    }
}

impl Snapshot {
    /// Takes the snapshot.
    pub async fn take(pool: &Pool) -> Result<Self, PostgresError> {
        let begin = begin_at("repeatable read, read only", "set local idle_in_transaction_session_timeout = 0");
        let tx = pool.begin_with(&begin).await?;
        Ok(Self { tx, feedback: pool.table().sql() })
    }

    /// Every lane.
    pub async fn lanes(&self) -> Result<Vec<LaneHead>, PostgresError> {
        let sql = "select lane, seq, published_seq, halted from dinnerbell.lane order by lane";
        let rows = self.tx.query(sql, &[]).await?;
        let head = |row: &Row| LaneHead {
            lane: number(row, "lane"),
            seq: number(row, "seq"),
            published: number(row, "published_seq"),
            halted: row.get("halted"),
        };
        Ok(rows.iter().map(head).collect())
    }

    /// Every campaign: its id, and what it counts.
    pub async fn campaigns<E: From<PostgresError>>(
        &self,
        mut take: impl FnMut(&str, CampaignCounts<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "select adv_campaign_id, told, kept, late, cursor from dinnerbell.campaign";
        self.each(sql, Vec::new(), |row| take(row.get(CAMPAIGN), CampaignCounts::of(row))).await
    }

    /// Campaign and client of everybody who was told late, as far as the ledger still has the rounds.
    pub async fn told_late<E: From<PostgresError>>(
        &self,
        mut take: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "select adv_campaign_id, unnest(late) from dinnerbell.round_part where late <> '{}'";
        self.each(sql, Vec::new(), |row| take(row.get(CAMPAIGN), row.get(CLIENT))).await
    }

    /// Campaign and client of every draft that a recorded round holds.
    pub async fn round<E: From<PostgresError>>(
        &self,
        lane: Lane,
        seq: Seq,
        mut take: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = rounds::of_parts("p.id", "client_id", &self.feedback, "");
        let round: Vec<Parameter<'_>> = vec![lane.parameter(), seq.parameter()];
        self.each(&sql, round, |row| take(row.get(CAMPAIGN), row.get(CLIENT))).await
    }

    /// Campaign and client of every row of a withdrawn draft that was locked, and is still to be withdrawn.
    pub async fn locked_rows<E: From<PostgresError>>(
        &self,
        mut take: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "select adv_campaign_id, client_id from dinnerbell.locked_row";
        self.each(sql, Vec::new(), |row| take(row.get(CAMPAIGN), row.get(CLIENT))).await
    }

    /// Campaign and client of every row that was there before the page on which the client stands was read.
    pub async fn told_before<E: From<PostgresError>>(
        &self,
        mut take: impl FnMut(&str, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "select adv_campaign_id, unnest(already_told) from dinnerbell.round_part where already_told <> '{}'";
        self.each(sql, Vec::new(), |row| take(row.get(CAMPAIGN), row.get(CLIENT))).await
    }

    /// Every feedback row: its id, whether somebody answered in it, and the draft.
    pub async fn rows<E: From<PostgresError>>(
        &self,
        since: Option<Seconds>,
        mut take: impl FnMut(i64, bool, FoundDraft<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = draft_row::COLUMNS;
        let mut sql = format!("select f.id::int8, f.feedback is not null, {columns} from {} f", self.feedback);
        let mut parameters: Vec<Parameter<'_>> = Vec::new();
        if let Some(since) = &since {
            sql.push_str(" where f.trigger_datetime_created >= $1");
            parameters.push(since.parameter());
        }
        self.each(&sql, parameters, |row| take(row.get(ID), row.get(ANSWERED), draft_row::read(row, DRAFT))).await
    }

    /// About how many rows the table holds; 0 where the server does not know.
    pub async fn estimate(&self) -> Result<u64, PostgresError> {
        let sql =
            "select coalesce(sum(greatest(c.reltuples, 0)), 0)::int8 from pg_class c where c.oid = to_regclass($1)";
        let row = self.tx.query_one(sql, &[(&self.feedback, Type::TEXT)]).await?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// Hands each row over as it comes. There is no deadline: a table that is read from end to end may show its first row late.
    async fn each<E: From<PostgresError>>(
        &self,
        sql: &str,
        parameters: Vec<Parameter<'_>>,
        mut take: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<(), E> {
        // After an error the transaction is dropped, and its connection with it.
        let explain = |error| self.tx.explain(&error);
        let mut rows = std::pin::pin!(self.tx.client().query_typed_raw(sql, parameters).await.map_err(explain)?);
        while let Some(row) = rows.try_next().await.map_err(explain)? {
            take(&row)?;
        }
        Ok(())
    }

    /// Lets the snapshot go.
    pub async fn release(self) -> Result<(), PostgresError> {
        self.tx.commit().await
    }
}

/// Campaign and client of these feedback rows, those that are still there.
pub async fn rows_by_id(pool: &Pool, ids: &[i64]) -> Result<Vec<(i64, String, String)>, PostgresError> {
    let sql =
        format!("select id::int8 as id, adv_campaign_id, client_id from {} where id = any($1)", pool.table().sql());
    let rows = pool.query(&sql, &[(&ids, Type::INT8_ARRAY)]).await?;
    Ok(rows.iter().map(|row| (row.get("id"), row.get("adv_campaign_id"), row.get("client_id"))).collect())
}
