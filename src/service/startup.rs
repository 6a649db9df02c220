//! Waiting for what may come: with backoff and jitter, saying on the telemetry what is waited for.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use dinnerbell_core::backoff::Backoff;
use dinnerbell_core::shutdown::stopped;
use dinnerbell_core::telemetry::{Need, Telemetry};

/// Between two attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// The outcome of one attempt.
pub enum Attempt<T, E> {
    /// It worked.
    Done(T),
    /// It may work later.
    Again(String),
    /// It will not work.
    Refused(E),
}

/// Why the waiting ended without success.
#[derive(Debug)]
pub enum GaveUp<E> {
    /// The service is to stop.
    Asked,
    /// The server refused.
    Refused(E),
}

/// Tries until it works, is refused, or the service is to stop.
pub async fn retry_until_ready<T, E, F: Future<Output = Attempt<T, E>>>(
    telemetry: &Telemetry,
    need: Need,
    stop: &mut watch::Receiver<bool>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, GaveUp<E>> {
    let mut backoff = PAUSES;
    loop {
        let tried = tokio::select! {
            biased;
            () = stopped(stop) => return Err(GaveUp::Asked),
            tried = attempt() => tried,
        };
        match tried {
            Attempt::Done(done) => {
                telemetry.has(need);
                return Ok(done);
            }
            Attempt::Refused(error) => return Err(GaveUp::Refused(error)),
            Attempt::Again(why) => telemetry.waits_for(need, why),
        }
        if timeout(backoff.failed(), stopped(stop)).await.is_ok() {
            return Err(GaveUp::Asked);
        }
    }
}
