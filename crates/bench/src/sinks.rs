//! Counts what both sinks hold, as their readers see it: what was measured must have been the whole work.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{BenchError, blocking};
use super::progress::STANDSTILL;
use crate::environment::Stage;
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_kafka::notifications::Notifications;

/// How often rows are counted while they are waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Both sinks hold exactly this number of drafts.
pub async fn hold(stage: &Stage<'_>, drafts: usize) -> Result<(), BenchError> {
    let (rows, messages) = (rows(stage).await?, messages(stage).await?);
    if (rows, messages) == (drafts, drafts) {
        return Ok(());
    }
    Err(BenchError::Failed(format!(
        "the service told {drafts} drafts, but the table holds {rows} rows and the topic {messages} messages: nothing that was measured counts"
    )))
}

/// Waits until the table holds this number of rows.
pub async fn reach(stage: &Stage<'_>, drafts: usize) -> Result<(), BenchError> {
    let (mut last, mut seen) = (Instant::now(), 0);
    loop {
        let rows = rows(stage).await?;
        if rows >= drafts {
            return Ok(());
        }
        if rows > seen {
            (last, seen) = (Instant::now(), rows);
        } else if last.elapsed() > STANDSTILL {
            return Err(BenchError::Failed(format!("the service stands still at {rows} of {drafts} rows")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn rows(stage: &Stage<'_>) -> Result<usize, BenchError> {
    let connection = stage.pool.get().await?;
    let sql = format!("select count(*) from {}", stage.pool.table().sql());
    let rows = connection.simple_without_deadline(&sql).await?;
    connection.release();
    Ok(rows.first().and_then(|row| row.get(0)?.parse().ok()).unwrap_or(0))
}

async fn messages(stage: &Stage<'_>) -> Result<usize, BenchError> {
    let kafka = stage.config.kafka.clone();
    blocking(move || {
        let notifications = Notifications::open(&kafka)?;
        let extent = notifications.extent()?;
        let mut messages = 0;
        notifications.read(&extent.low, &extent.high, |_| {
            messages += 1;
            Ok::<(), BrokerError>(())
        })?;
        Ok(messages)
    })
    .await
}
