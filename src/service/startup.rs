//! Waiting for what may come: with backoff and jitter, saying on the board what is waited for.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::backoff::jitter;
use crate::shutdown::stopped;
use crate::telemetry::{Board, Need};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The outcome of one attempt.
pub enum Trial<T, E> {
    /// It worked.
    Done(T),
    /// It may work later.
    Again(String),
    /// It will not work.
    Refused(E),
}

/// Why the waiting ended without success.
#[derive(Debug)]
pub enum Stopped<E> {
    /// The service is to stop.
    Asked,
    /// The server refused.
    Refused(E),
}

/// Tries until it works, is refused, or the service is to stop.
pub async fn patiently<T, E, F: Future<Output = Trial<T, E>>>(
    board: &Board,
    need: Need,
    stop: &mut watch::Receiver<bool>,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Stopped<E>> {
    let mut pause = FIRST_PAUSE;
    loop {
        let tried = tokio::select! {
            biased;
            () = stopped(stop) => return Err(Stopped::Asked),
            tried = attempt() => tried,
        };
        match tried {
            Trial::Done(done) => {
                board.has(need);
                return Ok(done);
            }
            Trial::Refused(error) => return Err(Stopped::Refused(error)),
            Trial::Again(why) => board.waits_for(need, why),
        }
        let jittered = pause.mul_f64(jitter());
        if timeout(jittered, stopped(stop)).await.is_ok() {
            return Err(Stopped::Asked);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
