//! How large a round may be. It is bounded in bytes and in time, whatever `fanout.round_rows` says:
//!
//! - while campaigns share: a reader sees nothing of a small campaign before all earlier transactions in the same partitions have ended. So nobody's
//!   round may take long while others come;
//! - always: a round is one Kafka transaction, which the broker ends after a minute. On a slow link it must not hold more than gets through.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::round_capacity::RoundCapacity;
use crate::ports::broker::transaction_time;

/// How long a round may take while other campaigns wait, or come.
const SHARED_ROUND: Duration = Duration::from_millis(50);
/// A campaign that was received less than this ago is recent: others may follow.
pub const RECENT_CAMPAIGN_WINDOW: Duration = Duration::from_secs(2);

/// Most bytes of a round, as messages and rows: with usual drafts more than the twenty thousand that are the default of `fanout.round_rows`.
pub const ROUND_BYTES: usize = 24 << 20;
/// Bytes of the smallest round that is shared, where the link carries them: two thousand usual drafts.
const MIN_SHARED: usize = 2 << 20;
/// Bytes of the smallest round that a slow link makes: more than any draft has. A smaller one would spend its time on round trips alone.
const MIN_PUBLISHED: usize = 256 << 10;
/// A round of less for each of its campaigns measures what a campaign costs, not the throughput.
const MIN_OF_A_CAMPAIGN: usize = 100 << 10;
/// A publication that took at least this long changes the measured rate at once; a shorter one may be a hiccup.
const SLOW: Duration = Duration::from_secs(1);

/// How many bytes of drafts a lane can record and publish in a second.
#[derive(Debug, Clone, Copy)]
pub struct RoundSizing {
    /// Bytes a second that are read, copied and recorded.
    record_bytes_per_s: f64,
    /// Bytes a second that are published.
    publish_bytes_per_s: f64,
    /// How many seconds a publication takes that holds next to nothing.
    min_publish_s: f64,
}

/// How long the publication of any round may take: well below the time that its transaction has.
fn longest_publication() -> f64 {
    transaction_time().as_secs_f64() / 6.0
}

impl Default for RoundSizing {
    fn default() -> Self {
        Self { record_bytes_per_s: 50e6, publish_bytes_per_s: 100e6, min_publish_s: 0.01 }
    }
}

impl RoundSizing {
    /// Returns the sizing with which a lane's next owner begins: from the most bytes of a round, which its former owners stored where the link was slow.
    pub fn from_stored(round_bytes: Option<i64>) -> Self {
        let stored = round_bytes.map(|bytes| bytes as f64 / longest_publication());
        Self { publish_bytes_per_s: stored.unwrap_or(Self::default().publish_bytes_per_s), ..Self::default() }
    }

    /// Returns the sizing after a round of this size, with drafts of this many campaigns, was recorded.
    pub fn after_recorded(self, bytes: usize, campaigns: usize, took: Duration) -> Self {
        // A round with room left measures the round trips, and one of small campaigns what each of them costs: neither is the throughput.
        if bytes < self.shared_bytes() / 10 * 8 || bytes < campaigns * MIN_OF_A_CAMPAIGN {
            return self;
        }
        let measured = bytes as f64 / took.as_secs_f64().max(0.001);
        Self { record_bytes_per_s: 0.7 * self.record_bytes_per_s + 0.3 * measured, ..self }
    }

    /// Returns the sizing after a round of this size was published. The time that even an empty round takes does not count.
    pub fn after_published(self, bytes: usize, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        let min_publish_s = (self.min_publish_s * 1.05).min(seconds).max(0.001);
        let measured = bytes as f64 / (seconds - min_publish_s).max(0.001);
        let publish_bytes_per_s = if took >= SLOW && measured < self.publish_bytes_per_s {
            measured
        } else if bytes < MIN_PUBLISHED / 2 {
            self.publish_bytes_per_s
        } else {
            0.7 * self.publish_bytes_per_s + 0.3 * measured.min(10.0 * self.publish_bytes_per_s)
        };
        Self { publish_bytes_per_s, min_publish_s, ..self }
    }

    /// Returns the sizing after a round of this size was not delivered in the time that a transaction has.
    pub fn after_undelivered(self, bytes: usize, within: Duration) -> Self {
        let publish_bytes_per_s = (bytes as f64 / within.as_secs_f64().max(0.001)).min(self.publish_bytes_per_s);
        Self { publish_bytes_per_s, ..self }
    }

    /// Returns the most bytes of a round that is shared. Below some size it would spend its time on round trips alone.
    pub fn shared_bytes(self) -> usize {
        let seconds = SHARED_ROUND.as_secs_f64();
        let recorded = ((self.record_bytes_per_s * seconds) as usize).max(MIN_SHARED);
        let published = ((self.publish_bytes_per_s * seconds) as usize).max(MIN_PUBLISHED);
        recorded.min(published).min(ROUND_BYTES)
    }

    /// Returns the most bytes of a round of a campaign that is alone.
    pub fn most_bytes(self) -> usize {
        ((self.publish_bytes_per_s * longest_publication()) as usize).clamp(MIN_PUBLISHED, ROUND_BYTES)
    }

    /// Returns what the next owner of the lane is to know: the most bytes of a round, where the link is slow.
    pub fn to_store(self) -> Option<i64> {
        let most = self.most_bytes();
        (most < ROUND_BYTES).then_some(most as i64)
    }

    /// Returns what the next round may hold, of this many rows at most.
    pub fn capacity(self, rows: usize, is_shared: bool) -> RoundCapacity {
        RoundCapacity {
            rows,
            bytes: if is_shared { self.shared_bytes().min(self.most_bytes()) } else { self.most_bytes() },
        }
    }
}

/// Returns whether a round of this size can be made smaller at all.
pub fn can_be_smaller(bytes: usize) -> bool {
    bytes > MIN_PUBLISHED
}

/// The campaigns that came last, in whichever lane of the instance.
#[derive(Debug, Default)]
pub struct RecentCampaigns {
    /// Two: of one campaign and any other, one is among them.
    last: Mutex<[Option<(String, Instant)>; 2]>,
}

impl RecentCampaigns {
    /// A campaign may be told from now on.
    pub fn add(&self, adv_campaign_id: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last[0].as_ref().is_none_or(|(id, _)| id != adv_campaign_id) {
            last.swap(0, 1);
        }
        last[0] = Some((adv_campaign_id.to_owned(), Instant::now()));
    }

    /// Whether another campaign than this one came a short while ago.
    pub fn another_than(&self, adv_campaign_id: &str) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().flatten().any(|(id, at)| id != adv_campaign_id && at.elapsed() < RECENT_CAMPAIGN_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_campaign_has_company_for_a_while_after_another_one_came() {
        let recent_campaigns = RecentCampaigns::default();
        recent_campaigns.add("giant");
        recent_campaigns.add("giant");
        assert!(!recent_campaigns.another_than("giant"), "it came twice");
        recent_campaigns.add("small");
        recent_campaigns.add("giant");
        assert!(recent_campaigns.another_than("giant") && recent_campaigns.another_than("small"));
        tokio::time::advance(RECENT_CAMPAIGN_WINDOW).await;
        assert!(!recent_campaigns.another_than("giant"));
    }

    #[test]
    fn a_shared_round_follows_the_throughput_of_large_rounds() {
        let sizing = RoundSizing::default();
        assert_eq!(sizing.shared_bytes(), 2_500_000);
        assert_eq!(sizing.after_recorded(10_000, 1, Duration::from_secs(1)).shared_bytes(), 2_500_000, "round trips");
        let small = sizing.after_recorded(5_000_000, 500, Duration::from_secs(1));
        assert_eq!(small.shared_bytes(), 2_500_000, "small campaigns");
        let slow = (0..20).fold(sizing, |sizing, _| sizing.after_recorded(5_000_000, 2, Duration::from_secs(5)));
        assert_eq!(slow.shared_bytes(), MIN_SHARED);
        let again =
            (0..20).fold(slow, |sizing, _| sizing.after_recorded(sizing.shared_bytes(), 2, Duration::from_millis(40)));
        assert!(again.shared_bytes() > 2_300_000, "a slow hour is forgotten: {again:?}");
    }

    /// How long a publication takes on a link with this throughput, in bytes a second; `any` is what an empty one takes.
    fn over(bytes: usize, link: f64, any: f64) -> Duration {
        Duration::from_secs_f64(any + bytes as f64 / link)
    }

    #[test]
    fn a_slow_link_makes_rounds_that_it_carries_within_ten_seconds_and_a_faster_one_larger_ones_again() {
        let mut sizing = RoundSizing::default();
        assert_eq!(sizing.most_bytes(), ROUND_BYTES);
        assert_eq!(sizing.to_store(), None);
        sizing = sizing.after_published(ROUND_BYTES, over(ROUND_BYTES, 500e3, 0.02));
        let most = sizing.most_bytes();
        assert!(over(most, 500e3, 0.02) < Duration::from_secs(11) && most > 4_000_000, "{sizing:?}");
        assert_eq!(RoundSizing::from_stored(sizing.to_store()).most_bytes(), most);
        assert!(over(sizing.capacity(20_000, true).bytes, 500e3, 0.02) < Duration::from_secs(1), "while others wait");
        for _ in 0..20 {
            sizing = sizing.after_published(sizing.most_bytes(), over(sizing.most_bytes(), 50e6, 0.02));
        }
        assert_eq!((sizing.most_bytes(), sizing.to_store()), (ROUND_BYTES, None));
    }

    #[test]
    fn a_broker_that_answers_late_is_no_slow_link() {
        let late = |sizing: RoundSizing, bytes: usize| sizing.after_published(bytes, over(bytes, 100e6, 0.3));
        let mut sizing = RoundSizing::default();
        for _ in 0..200 {
            sizing = late(sizing, sizing.shared_bytes());
        }
        assert!(sizing.shared_bytes() >= MIN_SHARED, "{sizing:?}");
    }

    #[test]
    fn what_was_not_delivered_in_time_is_planned_smaller_until_it_cannot_be() {
        let mut sizing = RoundSizing::default();
        let (mut bytes, mut times) = (ROUND_BYTES, 0);
        while can_be_smaller(bytes) {
            sizing = sizing.after_undelivered(bytes, Duration::from_secs(60));
            assert!(sizing.most_bytes() <= bytes / 5 || sizing.most_bytes() == MIN_PUBLISHED);
            (bytes, times) = (sizing.most_bytes(), times + 1);
        }
        assert!(times <= 4, "{times}");
    }
}
