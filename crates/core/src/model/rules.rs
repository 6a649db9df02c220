//! What a record does to a campaign that is known, decided purely:
//!
//! | known of the campaign | the campaign that arrived is | effect |
//! | --- | --- | --- |
//! | cancelled | a campaign | ignored as older |
//! | the same eight fields | the same | duplicate |
//! | another restaurant | not older | dead letter |
//! | another version | newer (`datetime_created`) | update |
//! | another version | of the same `datetime_created` | dead letter |
//! | another version | older | older update, ignored |
//! | anything | a tombstone | cancellation |

use crate::model::campaign::Campaign;
use crate::model::input::{DecodedRecord, RecordError};

/// What is known of a campaign when something about it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It was cancelled.
    Cancelled,
    /// Its current version.
    Campaign(Campaign),
}

/// What a record does to a known campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordEffect {
    /// The campaign gets the new content and window.
    Update,
    /// Ignored, counted.
    Older,
    /// Ignored, counted.
    Duplicate,
    /// The campaign is cancelled.
    Cancel,
    /// It contradicts what is known.
    Conflict(RecordError),
}

/// Applies the rules to what arrived about a known campaign. Returns its effect.
pub fn apply_rules(known: &Known, arrived: &DecodedRecord) -> RecordEffect {
    let campaign = match arrived {
        DecodedRecord::Campaign(campaign) => campaign,
        DecodedRecord::Cancellation { .. } => return RecordEffect::Cancel,
        DecodedRecord::DeadLetter(reason) => return RecordEffect::Conflict(reason.clone()),
    };
    let Known::Campaign(known) = known else { return RecordEffect::Older };
    if known == campaign {
        return RecordEffect::Duplicate;
    }
    if campaign.datetime_created < known.datetime_created {
        return RecordEffect::Older;
    }
    if campaign.restaurant_id != known.restaurant_id {
        return RecordEffect::Conflict(RecordError {
            field: Some("restaurant_id"),
            reason: "restaurant_id: the campaign belongs to another restaurant; give the new offer an adv_campaign_id of its own".to_owned(),
        });
    }
    if campaign.datetime_created == known.datetime_created {
        return RecordEffect::Conflict(RecordError {
            field: Some("datetime_created"),
            reason: "datetime_created: the same as that of an earlier version with other content; an update needs a newer datetime_created"
                .to_owned(),
        });
    }
    RecordEffect::Update
}
