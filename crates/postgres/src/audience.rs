//! The subscribers table: pages of distinct clients in the order of `client_id COLLATE "C"`.

mod reader;
mod statements;
mod unusable;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

pub(crate) use statements::{begin_sql, has_index, skipped_sql};
pub use unusable::{Unusable, unusable};

use reader::Inner;
use statements::{illegible_of_each_sql, page_by_client_sql, page_sql, pages_sql, skipped_of_each_sql};
use unusable::NAMED;

use crate::connect::{Parameter, Pool};
use crate::errors::{PostgresError, TIME_LIMIT};
use crate::legible::{Legible, is_illegible};
use crate::predicate::short_enough;
use crate::read_ahead::ReadAhead;
use dinnerbell_core::model::late::{Added, Subscription};
use dinnerbell_core::model::page::{Page, PageRequest, Unread};
use dinnerbell_core::ports::audience::{Audience, AudienceError};

/// How long a page may take where each is a scan of the whole table.
const TIME_LIMIT_WITHOUT_INDEX: Duration = Duration::from_secs(60);

/// How long a page may take that an index serves; one that takes longer is read client by client.
const SOON: Duration = Duration::from_secs(2);
/// How long the largest id may take: less than until the connection is given up.
const NEWEST: Duration = Duration::from_secs(4);
/// Pages that are read side by side where each is a statement.
const CONCURRENT_PAGES: usize = 4;
/// The real [`Audience`]. Needs SELECT on the one table; a read-only replica or a pooler in transaction mode will do.
#[derive(Clone)]
pub struct PostgresAudience {
    inner: Arc<Inner>,
}

impl PostgresAudience {
    /// The audience in the table of this pool; looks once whether there is an index that can serve it.
    pub async fn open(pool: Pool) -> Result<Self, AudienceError> {
        Self::open_with(pool, SOON, TIME_LIMIT).await
    }

    /// The same; a page of an index that takes longer than `soon` is read client by client, and then given up after `time_limit`.
    pub async fn open_with(pool: Pool, soon: Duration, time_limit: Duration) -> Result<Self, AudienceError> {
        let indexed = has_index(&pool).await?;
        let legible = Legible::of(&pool).await?;
        let table = pool.table().sql();
        if let Some(warning) = legible.warning() {
            tracing::warn!("{}: {warning}", pool.address());
        }
        if !indexed {
            tracing::warn!(
                "{}: table {table} has no index on (restaurant_id, client_id COLLATE \"C\"): each page is a scan of it; \
                 run `dinnerbell migrate`, which makes it or prints the SQL for the table's owner",
                pool.address(),
            );
        }
        let time_limit = if indexed { time_limit } else { TIME_LIMIT_WITHOUT_INDEX };
        let inner = Inner {
            begin: begin_sql(indexed, if indexed { soon } else { time_limit }),
            begin_slow: begin_sql(indexed, time_limit),
            page: page_sql(
                &table,
                &legible,
                ["($1::text[])[1]", "($2::text[])[1]", "($3::int8[])[1]", "($4::text[])[1]"],
            ),
            page_by_client: page_by_client_sql(&table, &legible),
            crowded: Mutex::default(),
            pages: pages_sql(&table, &legible),
            skipped: skipped_of_each_sql(&table),
            illegible: illegible_of_each_sql(&table, &legible),
            legible,
            named: AtomicBool::new(false),
            time_limit,
            ahead: (!indexed).then(ReadAhead::default),
            pool,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The pool of the subscribers database.
    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }
}

impl Audience for PostgresAudience {
    async fn pages(&self, wanted: &[PageRequest<'_>]) -> Result<Vec<Result<Page, Unread>>, AudienceError> {
        let together = wanted.len() > 1 && !wanted.iter().any(|one| self.inner.is_crowded(one.restaurant_id));
        if self.inner.ahead.is_none() && together {
            match self.inner.read_all(wanted).await {
                Ok(pages) => return Ok(pages.into_iter().map(Ok).collect()),
                // One by one it shows whose.
                Err(error) if is_illegible(&error) || is_overdue(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Two that take as long as a page may: further ones are not to wait behind them.
        let until = Instant::now() + 2 * self.inner.time_limit;
        let pages: Vec<BoxFuture<'_, _>> = wanted.iter().map(|one| self.in_time(*one, until).boxed()).collect();
        stream::iter(pages).buffered(CONCURRENT_PAGES).try_collect().await
    }

    async fn newest(&self) -> Result<i64, AudienceError> {
        Ok(newest(&self.inner.pool).await?)
    }

    async fn added(&self, after: i64, most: usize) -> Result<Added, AudienceError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.favourites("id > $1", "order by id limit $2", &[(&after, Type::INT8), (&most, Type::INT8)]).await
    }

    async fn of_ids(&self, ids: &[i64]) -> Result<Vec<Subscription>, AudienceError> {
        Ok(self.favourites("id = any($1)", "", &[(&ids, Type::INT8_ARRAY)]).await?.favourites)
    }
}

/// The table's largest id, 0 for an empty one. Where it is not found in [`NEWEST`] the server says so, before the connection is given up.
async fn newest(pool: &Pool) -> Result<i64, PostgresError> {
    let sql = format!("select coalesce(max(id), 0)::int8 from {}", pool.table().sql());
    let rows = pool.ask(&begin_sql(false, NEWEST), &sql, &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// How long it takes to find the largest id; none where that is longer than a tail scan waits for it.
pub async fn time_of_newest(pool: &Pool) -> Result<Option<Duration>, PostgresError> {
    let asked = Instant::now();
    match newest(pool).await {
        Ok(_) => Ok(Some(asked.elapsed())),
        Err(error) if is_overdue(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the server ended a statement that took too long.
fn is_overdue(error: &PostgresError) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED)
}

impl PostgresAudience {
    /// The favourites whose ids are wanted. Where no draft can be made of a row, only its id is read: its texts may be of any length, or illegible.
    async fn favourites(
        &self,
        wanted: &str,
        order: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Added, AudienceError> {
        let Inner { pool, legible, .. } = &*self.inner;
        let can_be_told = format!(
            "client_id <> '' and {}{}{}",
            short_enough("restaurant_id"),
            legible.and("client_id"),
            legible.and("restaurant_id")
        );
        let sql = format!(
            "select id::int8 as id, case when {can_be_told} then client_id::text end as client_id, \
             case when {can_be_told} then restaurant_id::text end as restaurant_id \
             from {} where {wanted} {order}",
            pool.table().sql(),
        );
        let rows = self.inner.ask(&sql, parameters).await?;
        let favourite = |row: &Row| {
            let (client_id, restaurant_id): (Option<String>, Option<String>) =
                (row.get("client_id"), row.get("restaurant_id"));
            Some(Subscription { id: row.get("id"), client_id: client_id?, restaurant_id: restaurant_id? })
        };
        let is_skipped = |row: &&Row| row.get::<_, Option<&str>>("client_id").is_none();
        let skipped: Vec<i64> = rows.iter().filter(is_skipped).map(|row| row.get("id")).take(NAMED).collect();
        if !skipped.is_empty() && !self.inner.named.swap(true, Ordering::Relaxed) {
            self.inner.name(&skipped);
        }
        Ok(Added {
            favourites: rows.iter().filter_map(favourite).collect(),
            ids: rows.iter().map(|row| row.get("id")).collect(),
        })
    }

    /// A page, if there is still time to begin it.
    async fn in_time(&self, wanted: PageRequest<'_>, until: Instant) -> Result<Result<Page, Unread>, AudienceError> {
        if Instant::now() >= until {
            return Ok(Err(Unread::NotAsked));
        }
        match self.one(wanted).await {
            Ok(page) => Ok(Ok(page)),
            Err(error) if is_overdue(&error) => Ok(Err(Unread::Overdue(error.to_string()))),
            Err(error) => Err(error.into()),
        }
    }

    async fn one(&self, wanted: PageRequest<'_>) -> Result<Page, PostgresError> {
        let Some(ahead) = &self.inner.ahead else { return self.read_one(wanted).await };
        if let Some(page) = ahead.take(wanted) {
            return Ok(page);
        }
        let reading = ahead.reading(wanted.rows);
        let read = self.read_one(PageRequest { rows: reading.rows, ..wanted }).await?;
        Ok(ahead.keep(wanted, read, reading))
    }

    async fn read_one(&self, wanted: PageRequest<'_>) -> Result<Page, PostgresError> {
        let indexed = self.inner.ahead.is_none();
        let read = match indexed && self.inner.is_crowded(wanted.restaurant_id) {
            true => self.inner.read_by_client(wanted).await,
            false => match self.inner.read(&[wanted]).await {
                Err(error) if indexed && is_overdue(&error) => {
                    self.inner.note_crowded(wanted.restaurant_id);
                    self.inner.read_by_client(wanted).await
                }
                read => read.map(|mut pages| pages.pop().expect("one page was wanted")),
            },
        };
        match read {
            // Such a restaurant's id is in no row of a database whose encoding cannot write it: nobody favours it.
            Err(error) if is_illegible(&error) && !self.inner.can_write(wanted.restaurant_id).await? => {
                Ok(Page { last: true, ..Page::default() })
            }
            read => read,
        }
    }
}
