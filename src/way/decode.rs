//! Bytes become a campaign, a cancellation or a dead letter.

use crate::campaign::Campaign;

/// What a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// A campaign that keeps every rule.
    Campaign(Campaign),
    /// A tombstone: the campaign of this id shall not be told any more.
    Cancellation {
        /// The key of the record.
        adv_campaign_id: String,
    },
    /// It cannot become a campaign.
    DeadLetter(Reason),
}

/// Why a record cannot become a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The field that breaks a rule, where it is one field.
    pub field: Option<&'static str>,
    /// What is wrong and what would be right; names the field.
    pub reason: String,
}

/// Decodes one record.
pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Arrival {
    let _ = (key, value);
    Arrival::DeadLetter(Reason { field: None, reason: String::new() })
}
