//! Tries until it works: with backoff and jitter, saying on the telemetry what is waited for.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use dinnerbell_core::backoff::Backoff;
use dinnerbell_core::ports::failure::{Failure, FailureKind};
use dinnerbell_core::shutdown::stopped;
use dinnerbell_core::telemetry::{Need, Telemetry};

/// Between two attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// The outcome of one attempt.
pub type Attempt<T> = Result<T, Unready>;

/// Why an attempt did not work.
#[derive(Debug)]
pub enum Unready {
    /// It may work later.
    Transient(String),
    /// It will not work.
    Refused(String),
}

impl<E: Failure> From<E> for Unready {
    fn from(error: E) -> Self {
        match error.failure_kind() {
            FailureKind::Refused => Self::Refused(error.to_string()),
            FailureKind::Transient | FailureKind::LaneLost => Self::Transient(error.to_string()),
        }
    }
}

/// Why the waiting ended without success.
#[derive(Debug)]
pub enum NotStarted {
    /// The service is to stop.
    Stopped,
    /// A server refused, for this reason.
    Refused(String),
}

/// Tries until it works, is refused, or the service is to stop.
pub async fn retry_until_ready<T, F: Future<Output = Attempt<T>>>(
    telemetry: &Telemetry,
    need: Need,
    stop: &mut watch::Receiver<bool>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, NotStarted> {
    let mut backoff = PAUSES;
    loop {
        let tried = tokio::select! {
            biased;
            () = stopped(stop) => return Err(NotStarted::Stopped),
            tried = attempt() => tried,
        };
        match tried {
            Ok(done) => {
                telemetry.has(need);
                return Ok(done);
            }
            Err(Unready::Refused(error)) => return Err(NotStarted::Refused(error)),
            Err(Unready::Transient(why)) => telemetry.waits_for(need, why),
        }
        if timeout(backoff.failed(), stopped(stop)).await.is_ok() {
            return Err(NotStarted::Stopped);
        }
    }
}
