//! How far the ids and times of the two tables are from the end of their types: `serial4` ends at 2^31 - 1, seconds in an `int4` in January
//! 2038. [`read`] is the one reading: the service shows it as metrics and warns in its log, `dinnerbell doctor` prints it.

use crate::connect::Pool;
use crate::errors::PostgresError;
use crate::{needs, sequence};
use dinnerbell_core::model::headroom::{Headroom, Resource};

/// Reads how much is left in both tables. What has no end that it could tell (an id that no sequence gives, a column of another type) is
/// left out.
pub async fn read(feedback: &Pool, subscribers: &Pool) -> Result<Vec<Headroom>, PostgresError> {
    let mut found = Vec::with_capacity(3);
    found.extend(ids(feedback, Resource::FeedbackIds).await?);
    found.extend(times(feedback).await?);
    found.extend(ids(subscribers, Resource::SubscriberIds).await?);
    Ok(found)
}

/// The sequence behind `id`; where it may not be read, the highest id.
async fn ids(pool: &Pool, of: Resource) -> Result<Option<Headroom>, PostgresError> {
    let Some(sequence) = sequence::of_ids(pool).await? else { return Ok(None) };
    // None where nothing was given out yet, and where the sequence may not be read.
    let last = match sequence.last {
        Some(last) => last,
        None => {
            let sql = format!("select coalesce(max(id), 0)::int8 from {}", pool.table().sql());
            pool.query(&sql, &[]).await?.first().map_or(0, |row| row.get(0))
        }
    };
    let column = format!("{}.id", pool.table());
    Ok(Some(Headroom { of, column, column_type: sequence.column_type, last, end: sequence.end }))
}

/// The second that `trigger_datetime_created` ends with.
async fn times(pool: &Pool) -> Result<Option<Headroom>, PostgresError> {
    let tx = pool.begin("").await?;
    let kind = needs::trigger_kind(&tx, &pool.table().sql()).await?;
    let now = tx.query_one("select floor(extract(epoch from clock_timestamp()))::int8", &[]).await?;
    tx.commit().await?;
    Ok(kind.and_then(|column_type| {
        let end = needs::last_number(&column_type)?;
        let column = format!("{}.trigger_datetime_created", pool.table());
        Some(Headroom { of: Resource::DraftTimes, column, column_type, last: now.get(0), end })
    }))
}
