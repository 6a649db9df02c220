//! Guesses of a token are slowed: a few wrong ones in a row, then one every few seconds. Nobody is locked out by what others do: each
//! address has its own measure, and the measure of all together only shortens those of addresses that were wrong before.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Wrong tokens in a row that an address has free.
const FREE: u32 = 5;
/// How long one more takes to become free.
const AGAIN: Duration = Duration::from_secs(6);
/// The same, of all addresses together.
const FREE_OF_ALL: u32 = 100;
const AGAIN_OF_ALL: Duration = Duration::from_millis(500);
/// Most addresses that are remembered.
const MAX_ADDRESSES: usize = 1024;

/// Wrong tokens so far.
#[derive(Debug, Default)]
pub struct Attempts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: Measure,
    of: HashMap<IpAddr, Measure>,
}

/// How many wrong ones count: one less with each span that has passed.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    wrong: u32,
    since: Option<Instant>,
}

impl Measure {
    fn now(&self, now: Instant, again: Duration) -> u32 {
        let Some(since) = self.since else { return 0 };
        let passed = now.saturating_duration_since(since).as_millis() / again.as_millis().max(1);
        self.wrong.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX))
    }

    fn add(&mut self, now: Instant, again: Duration) {
        *self = Self { wrong: self.now(now, again).saturating_add(1), since: Some(now) };
    }
}

impl Attempts {
    /// Whether an address may try; else after how long it may.
    pub fn may_try(&self, address: IpAddr) -> Result<(), Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let own = state.of.get(&block(address)).map_or(0, |measure| measure.now(now, AGAIN));
        let free = if state.all.now(now, AGAIN_OF_ALL) >= FREE_OF_ALL { 1 } else { FREE };
        if own < free { Ok(()) } else { Err(AGAIN * (own - free + 1)) }
    }

    /// It was wrong.
    pub fn was_wrong(&self, address: IpAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.all.add(now, AGAIN_OF_ALL);
        let address = block(address);
        if state.of.len() >= MAX_ADDRESSES && !state.of.contains_key(&address) {
            state.of.retain(|_, measure| measure.now(now, AGAIN) > 0);
            let oldest = state.of.iter().min_by_key(|(_, measure)| measure.since).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| state.of.len() >= MAX_ADDRESSES) {
                state.of.remove(&oldest);
            }
        }
        state.of.entry(address).or_default().add(now, AGAIN);
    }
}

/// Anyone who has one address of IPv6 has a whole block of them.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_guesses_waits_and_others_do_not() {
        let attempts = Attempts::default();
        for _ in 0..FREE {
            assert_eq!(attempts.may_try(address(1)), Ok(()));
            attempts.was_wrong(address(1));
        }
        assert_eq!(attempts.may_try(address(1)), Err(AGAIN));
        assert_eq!(attempts.may_try(address(2)), Ok(()));
        tokio::time::advance(AGAIN).await;
        assert_eq!(attempts.may_try(address(1)), Ok(()), "one is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_that_guess_together_have_one_try_each_and_bounded_memory() {
        let attempts = Attempts::default();
        for last in 0..5000_u32 {
            attempts.was_wrong(IpAddr::from(last.to_be_bytes()));
        }
        assert!(attempts.state.lock().unwrap().of.len() <= MAX_ADDRESSES);
        attempts.was_wrong(address(1));
        assert!(attempts.may_try(address(1)).is_err());
        assert_eq!(attempts.may_try(address(2)), Ok(()), "who was never wrong is not kept from signing in");
    }

    #[test]
    fn addresses_of_one_block_of_ipv6_count_as_one() {
        let parse = |text: &str| block(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }
}
