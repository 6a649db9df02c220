//! The subscribers table: pages of distinct clients in the order of `client_id COLLATE "C"`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::connect::{Connection, Parameter, Pool, place};
use crate::errors::{PATIENCE, PostgresError, deadline};
use crate::legible::{Legible, is_illegible};
use crate::predicate::{short_enough, too_long};
use crate::read_ahead::{PAGES, ReadAhead};
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::late::{Added, Subscription};
use dinnerbell_core::model::limits::LONGEST_CLIENT_ID;
use dinnerbell_core::model::page::{Page, PageRequest, Unread};
use dinnerbell_core::ports::audience::{Audience, AudienceError};

/// How long a page may take where each is a scan of the whole table.
const PATIENCE_WITHOUT_INDEX: Duration = Duration::from_secs(60);

/// How long a page may take that an index serves; one that takes longer is read client by client.
const SOON: Duration = Duration::from_secs(2);
/// How long the restaurants are remembered whose pages are read so, and of how many.
const REMEMBERED: Duration = Duration::from_secs(600);
const MOST_REMEMBERED: usize = 1_000;

/// Pages of one statement.
const AT_ONCE: usize = 100;
/// Pages that are read side by side where each is a statement.
const SIDE_BY_SIDE: usize = 4;
/// Rows that are named in the log where they cannot be told.
const NAMED: usize = 5;

/// The real [`Audience`]. Needs SELECT on the one table; a read-only replica or a pooler in transaction mode will do.
#[derive(Clone)]
pub struct PostgresAudience {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    begin: String,
    /// For pages that are read client by client.
    begin_slow: String,
    page: String,
    page_by_client: String,
    /// Restaurants whose pages took too long, and when.
    crowded: Mutex<BTreeMap<String, Instant>>,
    pages: String,
    skipped: String,
    /// Only where rows can stand in the table that cannot be read.
    illegible: Option<String>,
    legible: Legible,
    /// Whether rows that cannot be told were named in the log.
    named: AtomicBool,
    patience: Duration,
    /// Only where no index serves.
    ahead: Option<ReadAhead>,
}

impl PostgresAudience {
    /// The audience in the table of this pool; looks once whether there is an index that can serve it.
    pub async fn open(pool: Pool) -> Result<Self, AudienceError> {
        Self::open_with(pool, SOON, PATIENCE).await
    }

    /// The same; a page of an index that takes longer than `soon` is read client by client, and then given up after `patience`.
    pub async fn open_with(pool: Pool, soon: Duration, patience: Duration) -> Result<Self, AudienceError> {
        let indexed = has_index(&pool).await?;
        let legible = Legible::of(&pool).await?;
        let table = pool.table().sql();
        if !legible.is_whole() {
            tracing::warn!("{}: {}", pool.address(), legible.warning());
        }
        if !indexed {
            tracing::warn!(
                "{}: table {table} has no index on (restaurant_id, client_id COLLATE \"C\"): each page is a scan of it; \
                 run `dinnerbell migrate`, which makes it or prints the SQL for the table's owner",
                pool.address(),
            );
        }
        let patience = if indexed { patience } else { PATIENCE_WITHOUT_INDEX };
        let inner = Inner {
            begin: begin_sql(indexed, if indexed { soon } else { patience }),
            begin_slow: begin_sql(indexed, patience),
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
            patience,
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
        let until = Instant::now() + 2 * self.inner.patience;
        let pages: Vec<BoxFuture<'_, _>> = wanted.iter().map(|one| self.in_time(*one, until).boxed()).collect();
        stream::iter(pages).buffered(SIDE_BY_SIDE).try_collect().await
    }

    async fn newest(&self) -> Result<i64, AudienceError> {
        let sql = format!("select coalesce(max(id), 0)::int8 from {}", self.inner.pool.table().sql());
        let rows = self.inner.ask(&sql, &[]).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    async fn added(&self, after: i64, most: usize) -> Result<Added, AudienceError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.favourites("id > $1", "order by id limit $2", &[(&after, Type::INT8), (&most, Type::INT8)]).await
    }

    async fn of_ids(&self, ids: &[i64]) -> Result<Vec<Subscription>, AudienceError> {
        Ok(self.favourites("id = any($1)", "", &[(&ids, Type::INT8_ARRAY)]).await?.favourites)
    }
}

/// Whether the server ended a statement that took too long.
fn is_overdue(error: &PostgresError) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED)
}

impl PostgresAudience {
    /// The favourites whose ids are wanted. Of a row for which no draft can be made the id alone is read: its texts may be of any length, and not
    /// to be read at all.
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
            "select id::int8, case when {can_be_told} then client_id::text end, case when {can_be_told} then restaurant_id::text end \
             from {} where {wanted} {order}",
            pool.table().sql(),
        );
        let rows = self.inner.ask(&sql, parameters).await?;
        let favourite = |row: &Row| {
            let (client_id, restaurant_id): (Option<String>, Option<String>) = (row.get(1), row.get(2));
            Some(Subscription { id: row.get(0), client_id: client_id?, restaurant_id: restaurant_id? })
        };
        let is_skipped = |row: &&Row| row.get::<_, Option<&str>>(1).is_none();
        let skipped: Vec<i64> = rows.iter().filter(is_skipped).map(|row| row.get(0)).take(NAMED).collect();
        if !skipped.is_empty() && !self.inner.named.swap(true, Ordering::Relaxed) {
            self.inner.name(&skipped);
        }
        Ok(Added {
            favourites: rows.iter().filter_map(favourite).collect(),
            ids: rows.iter().map(|row| row.get(0)).collect(),
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
        let many = PageRequest { rows: wanted.rows.saturating_mul(PAGES), ..wanted };
        let read = self.read_one(many).await?;
        Ok(ahead.keep(wanted, read))
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

impl Inner {
    /// For a page with all its statements. The server ends a slow statement by itself; this is for one that says nothing at all.
    fn whole(&self) -> Duration {
        self.patience + PATIENCE
    }

    /// One question in a transaction of its own, in which the server refuses to hide rows; one round trip.
    async fn ask(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        self.pool.ask(&begin_sql(false, PATIENCE), sql, parameters).await
    }

    /// Whether the encoding of the table's database can write a text.
    async fn can_write(&self, text: &str) -> Result<bool, PostgresError> {
        match self.pool.query("select octet_length($1)", &[(&text, Type::TEXT)]).await {
            Ok(_) => Ok(true),
            Err(error) if is_illegible(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Names rows of a restaurant that are skipped in the log, once. It is for operators alone, so an error is none of the lanes'.
    async fn name_skipped(&self, restaurant_id: &str) {
        if self.named.swap(true, Ordering::Relaxed) {
            return;
        }
        let sql = format!(
            "select id::int8 from {} where restaurant_id = $1 and {} limit {NAMED}",
            self.pool.table().sql(),
            cannot_be_told(&self.legible)
        );
        match self.ask(&sql, &[(&restaurant_id, Type::TEXT)]).await {
            Ok(rows) => self.name(&rows.iter().map(|row| row.get(0)).collect::<Vec<_>>()),
            Err(error) => tracing::warn!("rows of subscribers are skipped, and could not be named: {error}"),
        }
    }

    fn name(&self, ids: &[i64]) {
        let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
        tracing::warn!(
            "{}: table {} has rows for which nobody can be told, since an id in them is empty, longer than 256 bytes or not UTF-8; they are \
             skipped and counted: id {}; `dinnerbell doctor` finds the others",
            self.pool.address(),
            self.pool.table(),
            ids.join(", "),
        );
    }

    async fn read_all(&self, wanted: &[PageRequest<'_>]) -> Result<Vec<Page>, PostgresError> {
        let mut pages = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(AT_ONCE) {
            pages.append(&mut self.read(some).await?);
        }
        Ok(pages)
    }

    async fn read(&self, wanted: &[PageRequest<'_>]) -> Result<Vec<Page>, PostgresError> {
        // The rows of a page by itself are in its order, and need no place.
        let sql = if wanted.len() == 1 { &self.page } else { &self.pages };
        self.read_with(wanted, &self.begin, sql).await
    }

    /// A page for which the index is entered anew behind each client, however many rows one has: dearer where each has one, and never much dearer
    /// than the page is long.
    async fn read_by_client(&self, wanted: PageRequest<'_>) -> Result<Page, PostgresError> {
        let mut pages = self.read_with(&[wanted], &self.begin_slow, &self.page_by_client).await?;
        Ok(pages.pop().expect("one page was wanted"))
    }

    async fn read_with(&self, wanted: &[PageRequest<'_>], begin: &str, sql: &str) -> Result<Vec<Page>, PostgresError> {
        let connection = self.pool.get().await?;
        let statements = async {
            // Sent at once, answered in this order: one round trip.
            let (_, clients, mut skipped, _) = futures_util::try_join!(
                connection.batch_without_deadline(begin),
                self.clients(&connection, wanted, sql),
                self.skipped(&connection, wanted),
                async {
                    match self.illegible {
                        None => connection.batch_without_deadline("commit").await,
                        Some(_) => Ok(()),
                    }
                },
            )?;
            if let Some(sql) = &self.illegible {
                let (counted, _) = futures_util::try_join!(
                    self.illegible(&connection, sql, wanted, &clients),
                    connection.batch_without_deadline("commit"),
                )?;
                skipped.iter_mut().zip(counted).for_each(|(skipped, more)| *skipped += more);
            }
            let page = |((wanted, clients), skipped): ((&PageRequest<'_>, Clients), u64)| Page {
                last: clients.len() < wanted.rows,
                clients,
                skipped,
            };
            Ok::<_, PostgresError>(wanted.iter().zip(clients).zip(skipped).map(page).collect::<Vec<Page>>())
        };
        let pages = deadline(self.pool.address(), self.whole(), statements).await?;
        connection.release();
        if let Some((wanted, _)) = wanted.iter().zip(&pages).find(|(_, page)| page.skipped > 0) {
            self.name_skipped(wanted.restaurant_id).await;
        }
        Ok(pages)
    }

    /// Whether pages of a restaurant took too long a while ago.
    fn is_crowded(&self, restaurant_id: &str) -> bool {
        let crowded = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        crowded.get(restaurant_id).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn note_crowded(&self, restaurant_id: &str) {
        tracing::warn!(
            restaurant_id,
            "{}: a page of this restaurant's audience took too long and is read client by client: some of its clients stand in table {} \
             very often",
            self.pool.address(),
            self.pool.table().sql()
        );
        let mut crowded = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        crowded.retain(|_, at| at.elapsed() < REMEMBERED);
        if crowded.len() < MOST_REMEMBERED {
            crowded.insert(restaurant_id.to_owned(), Instant::now());
        }
    }

    async fn clients(
        &self,
        connection: &Connection,
        wanted: &[PageRequest<'_>],
        sql: &str,
    ) -> Result<Vec<Clients>, PostgresError> {
        let restaurants: Vec<&str> = wanted.iter().map(|one| one.restaurant_id).collect();
        let after: Vec<&str> = wanted.iter().map(|one| one.after.unwrap_or_default()).collect();
        let most: Vec<i64> = wanted.iter().map(|one| i64::try_from(one.rows).unwrap_or(i64::MAX)).collect();
        let upto: Vec<Option<&str>> = wanted.iter().map(|one| one.upto).collect();
        let parameters: Vec<Parameter<'_>> = vec![
            (&restaurants, Type::TEXT_ARRAY),
            (&after, Type::TEXT_ARRAY),
            (&most, Type::INT8_ARRAY),
            (&upto, Type::TEXT_ARRAY),
        ];
        let alone = wanted.len() == 1;
        let mut clients = vec![Clients::new(); wanted.len()];
        let take = |row: &Row| {
            let (place, column) = if alone { (0, 0) } else { (place(row), 1) };
            clients[place].push(row.try_get(column).map_err(|error| connection.explain(&error))?);
            Ok(())
        };
        connection.for_each(sql, parameters, self.whole(), take).await?;
        Ok(clients)
    }

    /// Only with first pages: those who are in no page.
    async fn skipped(&self, connection: &Connection, wanted: &[PageRequest<'_>]) -> Result<Vec<u64>, PostgresError> {
        let restaurants: Vec<Option<&str>> =
            wanted.iter().map(|one| one.after.is_none().then_some(one.restaurant_id)).collect();
        if restaurants.iter().all(Option::is_none) {
            return Ok(vec![0; wanted.len()]);
        }
        self.count(connection, &self.skipped, vec![(&restaurants, Type::TEXT_ARRAY)], wanted.len()).await
    }

    /// Those between the beginning and the end of each page whose ids cannot be read.
    async fn illegible(
        &self,
        connection: &Connection,
        sql: &str,
        wanted: &[PageRequest<'_>],
        pages: &[Clients],
    ) -> Result<Vec<u64>, PostgresError> {
        let restaurants: Vec<&str> = wanted.iter().map(|one| one.restaurant_id).collect();
        let after: Vec<&str> = wanted.iter().map(|one| one.after.unwrap_or_default()).collect();
        let end = |(one, page): (&PageRequest<'_>, &'_ Clients)| match page.len() < one.rows {
            true => one.upto.map(str::to_owned),
            false => page.last().map(str::to_owned),
        };
        let upto: Vec<Option<String>> = wanted.iter().zip(pages).map(end).collect();
        let parameters: Vec<Parameter<'_>> =
            vec![(&restaurants, Type::TEXT_ARRAY), (&after, Type::TEXT_ARRAY), (&upto, Type::TEXT_ARRAY)];
        self.count(connection, sql, parameters, wanted.len()).await
    }

    /// A number for each of so many things; 0 for one of which the answer says nothing.
    async fn count(
        &self,
        connection: &Connection,
        sql: &str,
        parameters: Vec<Parameter<'_>>,
        things: usize,
    ) -> Result<Vec<u64>, PostgresError> {
        let mut counted = vec![0; things];
        let take = |row: &Row| {
            let number: i64 = row.try_get(1).map_err(|error| connection.explain(&error))?;
            counted[place(row)] = u64::try_from(number).unwrap_or(0);
            Ok(())
        };
        connection.for_each(sql, parameters, self.whole(), take).await?;
        Ok(counted)
    }
}

/// Where the index is, the planner is told to read it in its order: with old statistics, or a table that was not vacuumed for a while, it
/// would collect and sort everybody behind the cursor for each page.
///
/// Where row-level security hides rows from this role the server raises an error instead: an audience is never a part of itself in silence.
pub(super) fn begin_sql(indexed: bool, patience: Duration) -> String {
    let in_order = "; set local enable_sort = off; set local enable_bitmapscan = off; set local enable_seqscan = off; set local jit = off";
    format!(
        "begin isolation level read committed read only; set local row_security = off; set local statement_timeout = {}{}",
        patience.as_millis(),
        if indexed { in_order } else { "" }
    )
}

/// DISTINCT costs nothing here: the index gives duplicates side by side, and LIMIT counts what is left. So a page is exactly as long
/// as was asked for, unless it is the last one, however often somebody favours a restaurant. The empty client id is never
/// above the cursor, which starts as the empty string.
fn page_sql(table: &str, legible: &Legible, [restaurant, after, most, upto]: [&str; 4]) -> String {
    format!(
        "select distinct client_id::text collate \"C\" as client from {table} \
         where restaurant_id = {restaurant} and client_id collate \"C\" > {after} \
         and ({upto}::text is null or client_id collate \"C\" <= {upto}) and {}{} \
         order by 1 limit {most}",
        short_enough("restaurant_id"),
        legible.and("client_id")
    )
}

/// The same page, for which the index is entered anew behind each client: rows that one client has beyond the first cost nothing.
fn page_by_client_sql(table: &str, legible: &Legible) -> String {
    let next = |after: &str| {
        format!(
            "select client_id::text collate \"C\" as client from {table} where restaurant_id = ($1::text[])[1] \
             and client_id collate \"C\" > {after} and (($4::text[])[1] is null or client_id collate \"C\" <= ($4::text[])[1]) \
             and {}{} order by client_id collate \"C\" limit 1",
            short_enough("restaurant_id"),
            legible.and("client_id")
        )
    };
    format!(
        "with recursive page (client, place) as (select first.client, 1::int8 from ({}) as first \
         union all select next.client, page.place + 1 from page cross join lateral ({}) as next where page.place < ($3::int8[])[1]) \
         select client from page",
        next("($2::text[])[1]"),
        next("page.client")
    )
}

/// Many pages, each read as one is: the limit keeps the planner from making one scan of them.
fn pages_sql(table: &str, legible: &Legible) -> String {
    format!(
        "select w.place, page.client from unnest($1::text[], $2::text[], $3::int8[], $4::text[]) with ordinality \
         as w(restaurant, behind, most, upto, place) cross join lateral ({}) as page order by 1, 2",
        page_sql(table, legible, ["w.restaurant", "w.behind", "w.most", "w.upto"])
    )
}

/// Counts who is in no page. Each half has its index.
pub(super) fn skipped_sql(table: &str, restaurant: &str) -> String {
    format!(
        "select (select count(distinct client_id) from {table} where restaurant_id = {restaurant} and {}) \
              + (select count(distinct client_id) from {table} where restaurant_id = {restaurant} and client_id collate \"C\" = '' and {})",
        too_long(),
        short_enough("restaurant_id")
    )
}

/// The same for each of many.
fn skipped_of_each_sql(table: &str) -> String {
    let skipped = skipped_sql(table, "w.restaurant");
    format!(
        "select w.place, ({skipped}) from unnest($1::text[]) with ordinality as w(restaurant, place) where w.restaurant is not null"
    )
}

/// Counts those of each of many ranges whose ids cannot be read.
fn illegible_of_each_sql(table: &str, legible: &Legible) -> Option<String> {
    let condition = legible.condition("client_id")?;
    Some(format!(
        "select w.place, (select count(distinct client_id) from {table} where restaurant_id = w.restaurant and client_id collate \"C\" > w.behind \
           and (w.upto is null or client_id collate \"C\" <= w.upto) and {} and not ({condition})) \
         from unnest($1::text[], $2::text[], $3::text[]) with ordinality as w(restaurant, behind, upto, place)",
        short_enough("restaurant_id")
    ))
}

/// Rows whose client nobody can tell.
pub(super) fn cannot_be_told(legible: &Legible) -> String {
    let illegible = legible.condition("client_id").map(|condition| format!(" or not ({condition})"));
    format!("(client_id = '' or octet_length(client_id) > {LONGEST_CLIENT_ID}{})", illegible.unwrap_or_default())
}

/// Rows of the subscribers for which nobody can be told.
pub struct Unusable {
    /// How many.
    pub rows: i64,
    /// The first ids.
    pub ids: String,
}

/// Looks through the whole table for them, for so long at most.
pub async fn unusable(pool: &Pool, legible: &Legible, patience: Duration) -> Result<Unusable, PostgresError> {
    let restaurant = legible.condition("restaurant_id").map(|condition| format!(" or not ({condition})"));
    let sql = format!(
        "with bad as materialized (select id::int8 as id from {} where {} or restaurant_id = '' or octet_length(restaurant_id) > {LONGEST_CLIENT_ID}{}) \
         select (select count(*) from bad), \
         coalesce((select string_agg(id::text, ', ') from (select id from bad order by id limit {NAMED}) as first), '')",
        pool.table().sql(),
        cannot_be_told(legible),
        restaurant.unwrap_or_default()
    );
    let tx = pool.begin_with(&begin_sql(false, patience)).await?;
    let row = tx.query_one(&sql, &[]).await?;
    tx.commit().await?;
    Ok(Unusable { rows: row.get(0), ids: row.get(1) })
}

/// Whether a valid index begins with restaurant_id and client_id COLLATE "C", whoever made it.
pub(super) async fn has_index(pool: &Pool) -> Result<bool, PostgresError> {
    let rows = pool
        .query(
            "select exists (select from pg_index i \
               join pg_attribute r on r.attrelid = i.indrelid and r.attnum = i.indkey[0] and r.attname = 'restaurant_id' \
               join pg_attribute c on c.attrelid = i.indrelid and c.attnum = i.indkey[1] and c.attname = 'client_id' \
               join pg_collation o on o.oid = i.indcollation[1] and o.collname in ('C', 'POSIX') \
               join pg_class k on k.oid = i.indexrelid join pg_am a on a.oid = k.relam and a.amname = 'btree' \
             where i.indrelid = to_regclass($1) and i.indisvalid)",
            &[(&pool.table().sql(), Type::TEXT)],
        )
        .await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
