//! The statements that are asked of the subscribers table.

use std::time::Duration;

use tokio_postgres::types::Type;

use crate::connect::{self, Pool};
use crate::errors::PostgresError;
use crate::legible::Legible;
use crate::sql;
use dinnerbell_core::model::limits::LONGEST_CLIENT_ID;

/// Where the index is, the planner is told to read it in its order. With old statistics, or after a while without vacuum, it would collect and sort
/// everybody after the cursor for each page.
///
/// Where row-level security hides rows from this role the server raises an error instead: an audience is never a part of itself in silence.
pub(crate) fn begin_sql(indexed: bool, time_limit: Duration) -> String {
    let in_order = "; set local enable_sort = off; set local enable_bitmapscan = off; set local enable_seqscan = off; set local jit = off";
    let limits = format!("set local row_security = off; set local statement_timeout = {}", time_limit.as_millis());
    connect::begin_sql(", read only", &(limits + if indexed { in_order } else { "" }))
}

pub(super) fn page_sql(table: &str, legible: &Legible, [restaurant, after, most, upto]: [&str; 4]) -> String {
    sql::PAGE.with([
        ("subscribers", table),
        ("and_legible", &legible.and("client_id")),
        ("restaurant", restaurant),
        ("after", after),
        ("most", most),
        ("upto", upto),
    ])
}

/// The same page, for which the index is entered again behind each client.
pub(super) fn page_by_client_sql(table: &str, legible: &Legible) -> String {
    let and_legible = legible.and("client_id");
    let next = |after| sql::NEXT_CLIENT.with([("subscribers", table), ("and_legible", &and_legible), ("after", after)]);
    sql::PAGE_BY_CLIENT.with([("first", &next("($2::text[])[1]")), ("next", &next("page.client"))])
}

/// Many pages, each read as one is.
pub(super) fn pages_sql(table: &str, legible: &Legible) -> String {
    sql::PAGES.with([("page", &page_sql(table, legible, ["w.restaurant", "w.behind", "w.most", "w.upto"]))])
}

/// Counts who is in no page.
pub(crate) fn skipped_sql(table: &str, restaurant: &str) -> String {
    sql::SKIPPED.with([("subscribers", table), ("restaurant", restaurant)])
}

/// The same for each of many.
pub(super) fn skipped_of_each_sql(table: &str) -> String {
    let skipped = skipped_sql(table, "w.restaurant");
    format!(
        "select w.place, ({skipped}) from unnest($1::text[]) with ordinality as w(restaurant, place) where w.restaurant is not null"
    )
}

/// Counts those of each of many ranges whose ids cannot be read.
pub(super) fn illegible_of_each_sql(table: &str, legible: &Legible) -> Option<String> {
    let condition = legible.condition("client_id")?;
    Some(sql::ILLEGIBLE_OF_EACH.with([("subscribers", table), ("legible", &condition)]))
}

/// Rows whose client nobody can tell.
pub(super) fn cannot_be_told(legible: &Legible) -> String {
    let illegible = legible.condition("client_id").map(|condition| format!(" or not ({condition})"));
    format!("(client_id = '' or octet_length(client_id) > {LONGEST_CLIENT_ID}{})", illegible.unwrap_or_default())
}

/// Whether a valid index begins with restaurant_id and client_id COLLATE "C", no matter who made it.
pub(crate) async fn has_index(pool: &Pool) -> Result<bool, PostgresError> {
    let rows = pool.query(sql::HAS_AUDIENCE_INDEX.text(), &[(&pool.table().sql(), Type::TEXT)]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}
