//! What every lane of an instance shares.

use std::sync::Arc;

use crate::guard::Guards;
use crate::instance::change_feed::ChangeFeed;
use crate::instance::dead_letter_topic::DeadLetterTopic;
use crate::instance::memory_budget::MemoryBudget;
use crate::instance::pause::PauseWatch;
use crate::instance::rate_limiter::RateLimiter;
use crate::instance::round_sizing::RecentCampaigns;
use crate::telemetry::Telemetry;

/// What every lane of an instance shares: the outside world behind its traits, and the limits.
pub struct LaneContext<B, L, A, C> {
    /// Kafka.
    pub broker: B,
    /// The ledger.
    pub ledger: L,
    /// The subscribers.
    pub audience: A,
    /// The clock that decides whether a window is open.
    pub clock: C,
    /// Names and limits.
    pub limits: Limits,
    /// Memory for drafts in flight, all lanes together.
    pub memory: Arc<MemoryBudget>,
    /// The rate limit.
    pub rate: RateLimiter,
    /// Whether all sending is paused or held.
    pub pause: PauseWatch,
    /// What is polled on behalf of all lanes.
    pub change_feed: ChangeFeed,
    /// Which campaigns came last.
    pub recent_campaigns: RecentCampaigns,
    /// The topic of dead letters.
    pub dead_letter_topic: DeadLetterTopic,
    /// What the operator sees.
    pub telemetry: Arc<Telemetry>,
    /// What keeps the promises; a test may take some out.
    pub guards: Guards,
}

/// Most rows of a page that is read beside the rounds: nobody reserves memory for it.
const MAX_ROWS_BESIDE: usize = 2_000;

/// Names and limits of an instance.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The group, part of each draft's source.
    pub group_id: String,
    /// Most drafts in one round.
    pub round_rows: usize,
    /// Whether those are told who subscribe while a campaign runs.
    pub late_subscribers: bool,
}

impl Limits {
    /// Returns the most rows of a page that is read beside the rounds.
    pub fn rows_beside(&self) -> usize {
        self.round_rows.min(MAX_ROWS_BESIDE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_beside_the_rounds_is_small_however_large_rounds_may_be() {
        let rows_beside =
            |round_rows| Limits { group_id: String::new(), round_rows, late_subscribers: true }.rows_beside();
        assert_eq!([10, 20_000, 1_000_000].map(rows_beside), [10, 2_000, 2_000]);
    }
}
