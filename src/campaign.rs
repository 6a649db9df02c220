//! A campaign: one short-lived offer of one restaurant, as received.

/// Seconds since the epoch, UTC.
pub type EpochSeconds = i64;

/// `[start, end)`: the time in which drafts of a campaign may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first second in which publication may begin.
    pub start: EpochSeconds,
    /// The first second in which it may not begin any more.
    pub end: EpochSeconds,
}

/// The eight fields of an input record that keeps every rule of the input.
///
/// Made by [`crate::way::decode::decode`] and read back from the ledger; two campaigns are identical when all fields are.
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
    pub datetime_created: EpochSeconds,
}
