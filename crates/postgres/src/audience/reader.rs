//! The statements of pages are sent, and their rows read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::statements::{begin_sql, cannot_be_told};
use super::unusable::NAMED;
use crate::connect::{Connection, Parameter, Pool, place};
use crate::errors::{PostgresError, TIME_LIMIT, deadline};
use crate::legible::{Legible, is_illegible};
use crate::read_ahead::ReadAhead;
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::page::{Page, PageRequest};

/// How long the restaurants are remembered whose pages are read so, and of how many.
const REMEMBERED: Duration = Duration::from_secs(600);
const MAX_REMEMBERED: usize = 1_000;

/// Pages of one statement.
const PAGES_PER_STATEMENT: usize = 100;
// Clients and numbers are read by their columns' places: there are as many rows as clients, and a name is looked for in each row again.
/// The client of a page that is read by itself.
const CLIENT: usize = 0;
/// What comes after a [`place`].
const OF_PLACE: usize = 1;

pub(super) struct Inner {
    pub(super) pool: Pool,
    pub(super) begin: String,
    /// For pages that are read client by client.
    pub(super) begin_slow: String,
    pub(super) page: String,
    pub(super) page_by_client: String,
    /// Restaurants whose pages took too long, and when.
    pub(super) crowded: Mutex<BTreeMap<String, Instant>>,
    pub(super) pages: String,
    pub(super) skipped: String,
    /// Only where rows can are in the table that cannot be read.
    pub(super) illegible: Option<String>,
    pub(super) legible: Legible,
    /// Whether rows that cannot be told were named in the log.
    pub(super) named: AtomicBool,
    pub(super) time_limit: Duration,
    /// Only where no index serves.
    pub(super) ahead: Option<ReadAhead>,
}

impl Inner {
    /// For a page with all its statements. The server ends a slow statement by itself; this is for one that says nothing at all.
    fn whole(&self) -> Duration {
        self.time_limit + TIME_LIMIT
    }

    /// One question in a transaction of its own, in which the server refuses to hide rows; one round trip.
    pub(super) async fn ask(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PostgresError> {
        self.pool.ask(&begin_sql(false, TIME_LIMIT), sql, parameters).await
    }

    /// Whether the encoding of the table's database can write a text.
    pub(super) async fn can_write(&self, text: &str) -> Result<bool, PostgresError> {
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

    pub(super) fn name(&self, ids: &[i64]) {
        let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
        tracing::warn!(
            "{}: table {} has rows for which nobody can be told, since an id in them is empty, longer than 256 bytes or not UTF-8; they are \
             skipped and counted: id {}; `dinnerbell doctor` finds the others",
            self.pool.address(),
            self.pool.table(),
            ids.join(", "),
        );
    }

    pub(super) async fn read_all(&self, wanted: &[PageRequest<'_>]) -> Result<Vec<Page>, PostgresError> {
        let mut pages = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(PAGES_PER_STATEMENT) {
            pages.append(&mut self.read(some).await?);
        }
        Ok(pages)
    }

    pub(super) async fn read(&self, wanted: &[PageRequest<'_>]) -> Result<Vec<Page>, PostgresError> {
        // The rows of a page by itself are in its order, and need no place.
        let sql = if wanted.len() == 1 { &self.page } else { &self.pages };
        self.read_with(wanted, &self.begin, sql).await
    }

    /// A page for which the index is entered again behind each client, however many rows one has. It costs more where each client has one row, but
    /// never much more than the page is long.
    pub(super) async fn read_by_client(&self, wanted: PageRequest<'_>) -> Result<Page, PostgresError> {
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
    pub(super) fn is_crowded(&self, restaurant_id: &str) -> bool {
        let crowded = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        crowded.get(restaurant_id).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    pub(super) fn note_crowded(&self, restaurant_id: &str) {
        tracing::warn!(
            restaurant_id,
            "{}: a page of this restaurant's audience took too long and is read client by client: some of its clients stand in table {} \
             very often",
            self.pool.address(),
            self.pool.table().sql()
        );
        let mut crowded = self.crowded.lock().unwrap_or_else(PoisonError::into_inner);
        crowded.retain(|_, at| at.elapsed() < REMEMBERED);
        if crowded.len() < MAX_REMEMBERED {
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
            let (place, column) = if alone { (0, CLIENT) } else { (place(row), OF_PLACE) };
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

    /// A number for each thing; 0 for one of which the answer says nothing.
    async fn count(
        &self,
        connection: &Connection,
        sql: &str,
        parameters: Vec<Parameter<'_>>,
        things: usize,
    ) -> Result<Vec<u64>, PostgresError> {
        let mut counted = vec![0; things];
        let take = |row: &Row| {
            let number: i64 = row.try_get(OF_PLACE).map_err(|error| connection.explain(&error))?;
            counted[place(row)] = u64::try_from(number).unwrap_or(0);
            Ok(())
        };
        connection.for_each(sql, parameters, self.whole(), take).await?;
        Ok(counted)
    }
}
