//! How large a round may be while campaigns share: a reader of the drafts' topic sees nothing of a small campaign before the transactions
//! that began earlier in its partitions have ended, whichever lane they are of. So nobody's round may take long while others come.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a round may take while other campaigns wait, or come.
const SHARED_ROUND: Duration = Duration::from_millis(100);
/// For how long after a campaign was received others are expected.
pub const OTHERS_COME: Duration = Duration::from_secs(2);

/// Drafts of the smallest round that is shared.
const LEAST_SHARED: usize = 2_000;

/// How many drafts a lane gets through in a second.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    drafts_a_second: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { drafts_a_second: 50_000.0 }
    }
}

impl Pace {
    /// The pace after a round of so many drafts, of so many campaigns.
    pub fn after(self, drafts: usize, campaigns: usize, took: Duration) -> Self {
        // A round with room left measures the round trips, and one of small campaigns what each of them costs: neither is the pace.
        if drafts * 10 < self.shared_rows() * 8 || drafts < campaigns * 100 {
            return self;
        }
        let measured = drafts as f64 / took.as_secs_f64().max(0.001);
        Self { drafts_a_second: 0.7 * self.drafts_a_second + 0.3 * measured }
    }

    /// Most drafts of a round that is shared. Below some size it would spend its time on round trips alone.
    pub fn shared_rows(self) -> usize {
        ((self.drafts_a_second * SHARED_ROUND.as_secs_f64()) as usize).max(LEAST_SHARED)
    }
}

/// The campaigns that came last, in whichever lane of the instance.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Two: of one campaign and any other, one is among them.
    last: Mutex<[Option<(String, Instant)>; 2]>,
}

impl Arrivals {
    /// A campaign may be told from now on.
    pub fn note(&self, adv_campaign_id: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last[0].as_ref().is_none_or(|(id, _)| id != adv_campaign_id) {
            last.swap(0, 1);
        }
        last[0] = Some((adv_campaign_id.to_owned(), Instant::now()));
    }

    /// Whether another campaign than this one came a short while ago.
    pub fn another_than(&self, adv_campaign_id: &str) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().flatten().any(|(id, at)| id != adv_campaign_id && at.elapsed() < OTHERS_COME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_campaign_has_company_for_a_while_after_another_one_came() {
        let arrivals = Arrivals::default();
        arrivals.note("giant");
        arrivals.note("giant");
        assert!(!arrivals.another_than("giant"), "it came twice");
        arrivals.note("small");
        arrivals.note("giant");
        assert!(arrivals.another_than("giant") && arrivals.another_than("small"));
        tokio::time::advance(OTHERS_COME).await;
        assert!(!arrivals.another_than("giant"));
    }

    #[test]
    fn a_shared_round_follows_the_pace_of_large_rounds() {
        let pace = Pace::default();
        assert_eq!(pace.shared_rows(), 5_000);
        assert_eq!(pace.after(10, 1, Duration::from_secs(1)).shared_rows(), 5_000, "round trips");
        assert_eq!(pace.after(5_000, 500, Duration::from_secs(1)).shared_rows(), 5_000, "small campaigns");
        let slow = (0..20).fold(pace, |pace, _| pace.after(5_000, 2, Duration::from_secs(5)));
        assert_eq!(slow.shared_rows(), 2_000);
        let again = (0..20).fold(slow, |pace, _| pace.after(pace.shared_rows(), 2, Duration::from_millis(40)));
        assert!(again.shared_rows() > 4_000, "a slow hour is forgotten: {again:?}");
    }
}
