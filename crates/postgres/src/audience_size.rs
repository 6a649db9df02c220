//! Audiences for those who ask before, while and after a campaign is told: how large they are, and who is in them. All is asked in steps, so that
//! neither memory nor a statement's time grows with the audience.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::audience::{begin_sql, has_index, skipped_sql};
use crate::connect::{Parameter, Pool, Transaction, place};
use crate::errors::{PostgresError, TIME_LIMIT};
use crate::legible::Legible;
use crate::predicate::short_enough;
use crate::sql;
use dinnerbell_core::ports::audience::AudienceError;

/// Clients that one statement counts.
const STEP: i64 = 200_000;
/// How long a count may take where nothing but a scan of the table serves it.
const TIME_LIMIT_WITHOUT_INDEX: Duration = Duration::from_secs(600);
/// How long an estimate may take: it is one of many.
const TIME_LIMIT_FOR_ESTIMATE: Duration = Duration::from_secs(1);
/// The most that are counted for an estimate; beyond that, statistics must do.
const COUNTED: i64 = 50_000;

/// Counts in the subscribers table of this pool; reads only.
pub struct AudienceSize {
    pool: Pool,
    indexed: bool,
    legible: Legible,
}

impl AudienceSize {
    /// Looks once whether there is an index that can serve a count.
    pub async fn open(pool: Pool) -> Result<Self, PostgresError> {
        let indexed = has_index(&pool).await?;
        let legible = Legible::of(&pool).await?;
        Ok(Self { pool, indexed, legible })
    }

    /// Whether an index serves pages of an audience.
    pub fn is_indexed(&self) -> bool {
        self.indexed
    }

    /// Who favours the restaurant: distinct clients, those with empty and too long ids left out. `progress` learns how far it is.
    pub async fn clients(&self, restaurant_id: &str, mut progress: impl FnMut(i64)) -> Result<i64, AudienceError> {
        // Without an index each statement is a scan: one must do.
        let step = if self.indexed { STEP } else { i64::MAX };
        let sql = format!("select count(*), max(c collate \"C\") from ({}) as t (c)", self.behind());
        let (mut counted, mut after) = (0, String::new());
        loop {
            let parameters: [Parameter<'_>; 3] =
                [(&restaurant_id, Type::TEXT), (&after, Type::TEXT), (&step, Type::INT8)];
            let found = self.read(&sql, &parameters, |row| (row.get(0), row.get(1))).await?;
            let (more, last): (i64, Option<String>) = found.into_iter().next().unwrap_or_default();
            counted += more;
            progress(counted);
            match last {
                Some(last) if more == step => after = last,
                _ => return Ok(counted),
            }
        }
    }

    /// The clients of the restaurant behind `after`, in order, at most `most`.
    pub async fn page(&self, restaurant_id: &str, after: &str, most: i64) -> Result<Vec<String>, AudienceError> {
        let parameters: [Parameter<'_>; 3] = [(&restaurant_id, Type::TEXT), (&after, Type::TEXT), (&most, Type::INT8)];
        Ok(self.read(&self.behind(), &parameters, |row| row.get(0)).await?)
    }

    /// How many client ids of the restaurant's favourites are empty, too long or no UTF-8.
    pub async fn skipped(&self, restaurant_id: &str) -> Result<i64, AudienceError> {
        let table = self.pool.table().sql();
        let illegible = self.legible.condition("client_id").map_or_else(String::new, |condition| {
            format!(
                " + (select count(distinct client_id) from {table} where restaurant_id = $1 and {} and not ({condition}))",
                short_enough("restaurant_id")
            )
        });
        let sql = format!("select ({}{illegible})::int8", skipped_sql(&table, "$1"));
        let skipped = self.read(&sql, &[(&restaurant_id, Type::TEXT)], |row| row.get(0)).await?;
        Ok(skipped.into_iter().next().unwrap_or_default())
    }

    /// Which of these restaurants the client favours, by their place in the list. Without an index one scan answers for all.
    pub async fn favoured_by(&self, restaurants: &[&str], client_id: &str) -> Result<Vec<usize>, AudienceError> {
        let table = self.pool.table().sql();
        let sql = if self.indexed { sql::FAVOURED_BY.with([("subscribers", &table)]) } else { scan_for(&table) };
        let parameters: [Parameter<'_>; 2] = [(&restaurants, Type::TEXT_ARRAY), (&client_id, Type::TEXT)];
        Ok(self.read(&sql, &parameters, place).await?)
    }

    /// The ids of the restaurant's favourites that are in no page, as far as they can be read: the first bytes of those that are too long, and the
    /// empty one. At most `most`.
    pub async fn unusable(&self, restaurant_id: &str, most: i64) -> Result<Vec<String>, AudienceError> {
        let (table, legible) = (self.pool.table().sql(), self.legible.and("client_id"));
        let sql = sql::UNUSABLE_OF_RESTAURANT.with([("subscribers", &table), ("and_legible", &legible)]);
        let parameters: [Parameter<'_>; 2] = [(&restaurant_id, Type::TEXT), (&most, Type::INT8)];
        Ok(self.read(&sql, &parameters, |row| row.get(0)).await?)
    }

    /// How many of these clients favour the restaurant.
    pub async fn among(&self, restaurant_id: &str, clients: &[&str]) -> Result<i64, AudienceError> {
        // A lookup in the index for each of them; the plain equality would be another collation's.
        let sql = format!(
            "select count(*) from unnest($2::text[]) as told (c) where exists (select from {} \
             where restaurant_id = $1 and client_id collate \"C\" = told.c collate \"C\" and {})",
            self.pool.table().sql(),
            short_enough("restaurant_id")
        );
        let parameters: [Parameter<'_>; 2] = [(&restaurant_id, Type::TEXT), (&clients, Type::TEXT_ARRAY)];
        let among = self.read(&sql, &parameters, |row| row.get(0)).await?;
        Ok(among.into_iter().next().unwrap_or_default())
    }

    /// Returns about how many clients come after `after`: the last 50,000 are counted; of more, the table's statistics say how many favour the
    /// restaurant in all, and `covered` of them come before. None where neither is known within a second.
    pub async fn remaining(&self, restaurant_id: &str, after: Option<&str>, covered: i64) -> Option<i64> {
        match self.try_remaining(restaurant_id, after, covered).await {
            Ok(remaining) => remaining,
            Err(error) => {
                tracing::debug!("the audience left is not known: {error}");
                None
            }
        }
    }

    async fn try_remaining(
        &self,
        restaurant_id: &str,
        after: Option<&str>,
        covered: i64,
    ) -> Result<Option<i64>, PostgresError> {
        let tx = self.begin(TIME_LIMIT_FOR_ESTIMATE).await?;
        if self.indexed {
            let sql = format!("select count(*) from ({}) as t", self.behind());
            let after = after.unwrap_or_default();
            let most = COUNTED + 1;
            let parameters: [Parameter<'_>; 3] =
                [(&restaurant_id, Type::TEXT), (&after, Type::TEXT), (&most, Type::INT8)];
            let counted: i64 = tx.query_one(&sql, &parameters).await?.get(0);
            if counted <= COUNTED {
                tx.commit().await?;
                return Ok(Some(counted));
            }
        }
        let total = self.by_statistics(&tx, restaurant_id).await?;
        tx.commit().await?;
        let least = if self.indexed { COUNTED } else { 0 };
        Ok(total.map(|total| (total - covered).max(least)))
    }

    /// How many favour the restaurant, as the planner believes; none where the table was never analysed.
    async fn by_statistics(&self, tx: &Transaction, restaurant_id: &str) -> Result<Option<i64>, PostgresError> {
        let table = self.pool.table().sql();
        let sql = "select exists (select from pg_stats s join pg_namespace n on n.nspname = s.schemaname \
                   join pg_class c on c.relnamespace = n.oid and c.relname = s.tablename \
                   where c.oid = to_regclass($1) and s.attname = 'restaurant_id')";
        if !tx.query_one(sql, &[(&table, Type::TEXT)]).await?.get::<_, bool>(0) {
            return Ok(None);
        }
        let sql = format!("explain (format json) select from {table} where restaurant_id = $1");
        let plan: Value = tx.query_one(&sql, &[(&restaurant_id, Type::TEXT)]).await?.get(0);
        #[expect(clippy::cast_possible_truncation, reason = "rows of a table are far below 2^63")]
        let rows = plan[0]["Plan"]["Plan Rows"].as_f64().map(|rows| rows as i64);
        Ok(rows)
    }

    /// The distinct clients of restaurant $1 behind $2, in order, at most $3.
    fn behind(&self) -> String {
        format!(
            "select distinct client_id::text collate \"C\" from {} where restaurant_id = $1 and client_id collate \"C\" > $2 and {}{} \
             order by 1 limit $3",
            self.pool.table().sql(),
            short_enough("restaurant_id"),
            self.legible.and("client_id")
        )
    }

    /// Reads what a statement finds, in a transaction of its own. The server ends the statement by its own time-out: ours is for one that says nothing.
    async fn read<T>(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        value: impl Fn(&Row) -> T,
    ) -> Result<Vec<T>, PostgresError> {
        let time_limit = if self.indexed { TIME_LIMIT } else { TIME_LIMIT_WITHOUT_INDEX };
        let tx = self.begin(time_limit).await?;
        let mut found = Vec::new();
        let take = |row: &Row| {
            found.push(value(row));
            Ok(())
        };
        tx.for_each(sql, parameters.to_vec(), time_limit + TIME_LIMIT, take).await?;
        tx.commit().await?;
        Ok(found)
    }

    async fn begin(&self, time_limit: Duration) -> Result<Transaction, PostgresError> {
        self.pool.begin_with(&begin_sql(self.indexed, time_limit)).await
    }
}

/// One scan for the restaurants of a client, where no index serves.
fn scan_for(table: &str) -> String {
    format!(
        "select distinct w.place from unnest($1::text[]) with ordinality as w(restaurant, place) \
         join {table} s on s.restaurant_id = w.restaurant where s.client_id collate \"C\" = $2"
    )
}
