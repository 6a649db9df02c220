//! Why nothing was measured.

use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_postgres::errors::PostgresError;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Something could not be set up, measured or cleared away.
    #[error("{0}")]
    Failed(String),
    /// Rights are missing: each with what grants it.
    #[error("rights are missing:\n  {}", .0.join("\n  "))]
    Rights(Vec<String>),
    /// It was told to stop.
    #[error("stopped before everything was measured")]
    Stopped,
}

impl From<PostgresError> for BenchError {
    fn from(error: PostgresError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<BrokerError> for BenchError {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs work that blocks, and whose failure is worth an error.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> Result<T, BenchError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| BenchError::Failed(format!("a thread of the bench ended early: {error}")))?
}
