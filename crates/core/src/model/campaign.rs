//! A campaign: one short-lived offer of one restaurant, as received.

use crate::model::number::Seconds;

/// `[start, end)`: the time in which drafts of a campaign may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first second in which publication may begin.
    pub start: Seconds,
    /// The first second in which it may not begin any more.
    pub end: Seconds,
}

impl Window {
    /// All time.
    pub const ALWAYS: Self = Self { start: Seconds::MIN, end: Seconds::MAX };
    /// No time at all: that of a campaign that is cancelled.
    pub const NEVER: Self = Self { start: Seconds::MAX, end: Seconds::MIN };

    /// Whether publication may begin: from the start on, and before the end. A campaign is open when it is not cancelled and this is so; the
    /// ledger's SQL asks the same in one place too.
    pub fn is_open(self, now: Seconds) -> bool {
        self.start <= now && now < self.end
    }

    /// The time in which both are open.
    pub fn and(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// The eight fields of an input record that keeps every rule of the input.
///
/// Made by [`crate::model::input::decode`] and read back from the ledger; two campaigns are identical when all fields are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Campaign {
    /// Whose offer it is.
    pub restaurant_id: String,
    /// Identifies the campaign.
    pub adv_campaign_id: String,
    /// The text of the offer, at most 16 KiB.
    pub adv_campaign_content: String,
    /// Who answers for it.
    pub adv_campaign_owner: String,
    /// How to reach them.
    pub adv_campaign_owner_contact: String,
    /// When it may be told.
    pub window: Window,
    /// The sender's version: a newer one updates the campaign.
    pub datetime_created: Seconds,
}

/// A campaign's state, as the ledger holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CampaignState {
    /// Received, or updated, before its start.
    Scheduled,
    /// Its start passed, its main pass is not finished.
    Active,
    /// The last page of its main pass is published; late subscribers are served until the end.
    Complete,
    /// Its end passed after completion.
    Closed,
    /// Its end passed before completion.
    Expired,
    /// For ever.
    Cancelled,
}

impl CampaignState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Scheduled, Self::Active, Self::Complete, Self::Closed, Self::Expired, Self::Cancelled];

    /// The state as it is written in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Active => "active",
            Self::Complete => "complete",
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state that a window means, for a campaign that is not cancelled.
    pub fn of(window: Window, main_pass_done: bool, now: Seconds) -> Self {
        match (now < window.start, now < window.end, main_pass_done) {
            (true, true, _) => Self::Scheduled,
            (false, true, false) => Self::Active,
            (false, true, true) => Self::Complete,
            (_, false, true) => Self::Closed,
            (_, false, false) => Self::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::campaign::*;

    #[test]
    fn a_window_is_open_from_its_start_to_the_second_before_its_end() {
        let window = Window { start: Seconds::new(10), end: Seconds::new(20) };
        assert_eq!([9, 10, 19, 20].map(|now| window.is_open(Seconds::new(now))), [false, true, true, false]);
        assert!(Window::ALWAYS.is_open(Seconds::new(15)) && !Window::NEVER.is_open(Seconds::new(15)));
    }

    #[test]
    fn two_windows_are_open_while_both_are() {
        let window = Window { start: Seconds::new(10), end: Seconds::new(20) };
        assert_eq!(
            window.and(Window { start: Seconds::new(15), end: Seconds::new(30) }),
            Window { start: Seconds::new(15), end: Seconds::new(20) }
        );
        assert_eq!(window.and(Window::ALWAYS), window);
        assert!(!(10..20).map(Seconds::new).any(|now| window.and(Window::NEVER).is_open(now)));
    }
}
