//! How many drafts an instance forms in a second: `fanout.rate_limit`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A bucket of drafts that fills at the configured rate and holds at most one second's worth.
#[derive(Debug)]
pub struct RateLimiter {
    a_second: u64,
    bucket: Mutex<(f64, Instant)>,
    /// Lanes take in the order in which they came: one that needs much and is quick would have it all.
    turn: tokio::sync::Mutex<()>,
}

impl RateLimiter {
    /// Drafts a second; 0 is no limit.
    pub fn new(a_second: u64) -> Self {
        Self { a_second, bucket: Mutex::new((0.0, Instant::now())), turn: tokio::sync::Mutex::default() }
    }

    /// Waits until a tenth of a second's drafts may be formed, or all that are wanted, so that rounds do not become tiny. Returns how many it took,
    /// at most `wanted`.
    pub async fn take(&self, wanted: usize) -> usize {
        if self.a_second == 0 {
            return wanted;
        }
        let _turn = self.turn.lock().await;
        loop {
            let missing = match self.try_take(wanted) {
                Ok(tokens) => return tokens,
                Err(missing) => missing,
            };
            sleep(missing).await;
        }
    }

    /// Gives back the tokens that were not used. Late drafts may be more than were planned: those tokens are owed then.
    pub fn refund_unused(&self, tokens: usize, used: usize) {
        if self.a_second > 0 {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.0 = (bucket.0 + tokens as f64 - used as f64).min(self.a_second as f64);
        }
    }

    fn try_take(&self, wanted: usize) -> Result<usize, Duration> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let rate = self.a_second as f64;
        bucket.0 = (bucket.0 + now.duration_since(bucket.1).as_secs_f64() * rate).min(rate);
        bucket.1 = now;
        let least = (rate / 10.0).min(wanted as f64).max(1.0);
        if bucket.0 < least {
            return Err(Duration::from_secs_f64((least - bucket.0) / rate) + Duration::from_millis(1));
        }
        let tokens = (bucket.0 as usize).min(wanted);
        bucket.0 -= tokens as f64;
        Ok(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_gets_more_than_its_drafts_and_one_burst() {
        let rate = RateLimiter::new(100);
        let began = Instant::now();
        let mut tokens = 0;
        while began.elapsed() < Duration::from_secs(10) {
            tokens += rate.take(1_000).await;
        }
        assert!((990..=1_101).contains(&tokens), "{tokens}");
    }

    /// What two lanes get that want more than there is, each working so long on a round.
    async fn shares(works: [u64; 2]) -> [usize; 2] {
        let rate = RateLimiter::new(1_000);
        let until = Instant::now() + Duration::from_secs(10);
        let lane = async |works| {
            let mut tokens = 0;
            while Instant::now() < until {
                tokens += rate.take(20_000).await;
                sleep(Duration::from_millis(works)).await;
            }
            tokens
        };
        let (one, other) = tokio::join!(lane(works[0]), lane(works[1]));
        [one, other]
    }

    #[tokio::test(start_paused = true)]
    async fn two_lanes_that_want_more_than_there_is_get_alike_however_long_a_round_takes_them() {
        for works in (0..20).flat_map(|one| (0..20).map(move |other| [7 * one, 7 * other])) {
            let [one, other] = shares(works).await;
            assert!(one < 3 * other && other < 3 * one, "{works:?} ms: {one} and {other}");
        }
    }

    #[tokio::test]
    async fn without_a_limit_everything_is_given() {
        assert_eq!(RateLimiter::new(0).take(7).await, 7);
    }
}
