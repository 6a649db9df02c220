//! What others ask of the indexes; nothing is changed.

use super::index::{Ensured, Wanted};
use super::{Event, Job, of_before};
use crate::connect::Pool;
use crate::errors::PostgresError;

/// What keeps each (campaign, client) once in the feedback table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedbackIndex {
    /// An index for all rows.
    Once(String),
    /// An index for rows above an id: those below repeat each other.
    OnceFrom {
        /// Its name.
        name: String,
        /// The id.
        id: i64,
    },
    /// An index that finds rows, and keeps nothing out.
    Plain(String),
    /// Nothing.
    Missing,
}

fn ignore_events(_: Event<'_>) {}

/// Looks which index keeps each (campaign, client) once; changes nothing.
pub async fn feedback_index(pool: &Pool) -> Result<FeedbackIndex, PostgresError> {
    let job = Job { pool: pool.clone(), tell: &ignore_events };
    let wanted = job.unique_index().await?.unwrap_or_else(|_| Wanted::once());
    match job.find(&wanted).await? {
        Some(Ensured::There(name)) => return Ok(FeedbackIndex::Once(name)),
        Some(Ensured::ThereFrom { name, id }) => return Ok(FeedbackIndex::OnceFrom { name, id }),
        Some(Ensured::Duplicates) | None => {}
    }
    Ok(match job.find(&Wanted::told()).await? {
        Some(Ensured::There(name)) => FeedbackIndex::Plain(name),
        _ => FeedbackIndex::Missing,
    })
}

/// The indexes of an earlier version on the feedback table, each with what is to be done about it. Changes nothing.
pub async fn feedback_indexes_of_before(pool: &Pool) -> Result<Vec<String>, PostgresError> {
    let job = Job { pool: pool.clone(), tell: &ignore_events };
    let is_partitioned = job.relkind().await?.as_deref() == Some("p");
    let names = job.of_before().await?;
    Ok(names.iter().map(|name| of_before(name, job.table(), is_partitioned)).collect())
}

/// The statements for the indexes of the subscribers table that are not there; of a view, none. Changes nothing.
pub async fn missing_subscriber_indexes(pool: &Pool) -> Result<Vec<String>, PostgresError> {
    let job = Job { pool: pool.clone(), tell: &ignore_events };
    let mut missing = Vec::new();
    if !matches!(job.relkind().await?.as_deref(), Some("r" | "p")) {
        return Ok(missing);
    }
    for wanted in [Wanted::audience(), Wanted::skipped()] {
        if job.find(&wanted).await?.is_none() {
            missing.push(wanted.statement(job.table()));
        }
    }
    Ok(missing)
}

/// How many (campaign, client) pairs have more than one row. Reads the whole table.
pub async fn count_duplicates(pool: &Pool) -> Result<i64, PostgresError> {
    Job { pool: pool.clone(), tell: &ignore_events }.count_duplicates().await
}
