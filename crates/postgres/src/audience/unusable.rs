//! Rows of the subscribers for which nobody can be told.

use std::time::Duration;

use super::statements::{begin_sql, cannot_be_told};
use crate::connect::Pool;
use crate::errors::PostgresError;
use crate::legible::Legible;
use crate::sql;

/// Rows that are named where they cannot be told.
pub(super) const NAMED: usize = 5;

/// Rows of the subscribers for which nobody can be told.
pub struct Unusable {
    /// How many rows.
    pub rows: i64,
    /// The first ids.
    pub ids: String,
}

/// Looks through the whole table for them, for so long at most.
pub async fn unusable(pool: &Pool, legible: &Legible, time_limit: Duration) -> Result<Unusable, PostgresError> {
    let restaurant = legible.condition("restaurant_id").map(|condition| format!(" or not ({condition})"));
    let sql = sql::UNUSABLE.with([
        ("subscribers", &pool.table().sql()),
        ("cannot_be_told", &cannot_be_told(legible)),
        ("or_illegible", &restaurant.unwrap_or_default()),
        ("named", &NAMED.to_string()),
    ]);
    let tx = pool.begin_with(&begin_sql(false, time_limit)).await?;
    let row = tx.query_one(&sql, &[]).await?;
    tx.commit().await?;
    Ok(Unusable { rows: row.get("rows"), ids: row.get("ids") })
}
