//! Several who may answer: one that is silent holds up no other.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

/// Asks the first. The next one is asked as well when one failed, or after so long without an answer. Returns the first good answer; who has not answered
/// by then is dropped. Fails with all failures, in the order in which they came.
pub async fn first_answer<I, T, E, F>(
    all: impl IntoIterator<Item = I>,
    patience: Duration,
    ask: impl Fn(I) -> F,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut others = all.into_iter().fuse();
    let mut asked = FuturesUnordered::new();
    let mut failed = Vec::new();
    loop {
        asked.extend(others.next().map(&ask));
        match timeout(patience, asked.next()).await {
            Ok(Some(Ok(answer))) => return Ok(answer),
            Ok(Some(Err(error))) => failed.push(error),
            Ok(None) => return Err(failed),
            // Nobody answered in time: the next one is asked beside them.
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    async fn after(seconds: u64, answer: Result<u64, u64>) -> Result<u64, u64> {
        sleep(Duration::from_secs(seconds)).await;
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_silent_holds_up_no_other_one() {
        let began = Instant::now();
        let answer = first_answer([1000, 2000, 0], PATIENCE, |seconds| after(seconds, Ok(seconds))).await;
        assert_eq!(answer, Ok(0));
        assert_eq!(began.elapsed(), 2 * PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_is_asked_as_soon_as_one_fails_and_all_failures_are_told() {
        let began = Instant::now();
        let answer = first_answer([0, 0, 0], PATIENCE, |seconds| after(seconds, Err(seconds))).await;
        assert_eq!((answer, began.elapsed()), (Err(vec![0, 0, 0]), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_answers_late_is_still_heard() {
        let began = Instant::now();
        let answer = first_answer([3, 1000], PATIENCE, |seconds| after(seconds, Ok(seconds))).await;
        assert_eq!((answer, began.elapsed()), (Ok(3), Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_to_ask_is_a_failure() {
        assert_eq!(first_answer([], PATIENCE, |seconds| after(seconds, Ok(seconds))).await, Err(vec![]));
    }
}
