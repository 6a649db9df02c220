//! Bytes become a campaign, a cancellation or a dead letter.
//!
//! Pure: no clock, no configuration. What the letter of the input rules leaves open is decided here:
//!
//! - a string is blank when it is empty or holds nothing but Unicode white space;
//! - a time is written in digits only: `1.0`, `1e3` and `-0` are refused;
//! - an unknown field's value may be nested [`DEEPEST`] deep, the enclosing object not counted, and need only be well-formed JSON:
//!   its numbers may have any size, and its strings are not decoded;
//! - all broken rules of a record are reported at once, so that its sender mends them once.

mod fields;
mod json;

use serde::de::DeserializeSeed;

use crate::model::campaign::Campaign;
use crate::model::limits::{LARGEST_RECORD, LONGEST_NAME};
use crate::model::record::OmittedParts;

use fields::{END, FIELDS, Rule, START, check_fields, check_text};
pub use fields::{field_names, longest};
use json::{Reading, nested_deeper, refuse_what_is_no_object, syntax_error};

/// The first time that is taken for milliseconds: 10^11 seconds are the year 5138.
pub const FIRST_MILLISECONDS: i64 = 100_000_000_000;
/// How deep the value of an unknown field may be nested.
pub const DEEPEST: usize = 128;
/// How much of an unknown field's name a reason repeats, in characters.
const LONGEST_REPEATED: usize = 64;

/// What a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodedRecord {
    /// A campaign that keeps every rule.
    Campaign(Campaign),
    /// A tombstone: the campaign of this id shall not be told any more.
    Cancellation {
        /// The key of the record.
        adv_campaign_id: String,
    },
    /// It cannot become a campaign.
    DeadLetter(RecordError),
}

/// Why a record cannot become a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// The field that breaks a rule, where it is one field.
    pub field: Option<&'static str>,
    /// What is wrong and what would be right; names the field. Never repeats more of the record than a number.
    pub reason: String,
}

impl RecordError {
    fn of_record(reason: impl Into<String>) -> Self {
        Self { field: None, reason: reason.into() }
    }
}

/// The value of a record that [`decode`] makes this campaign of.
pub fn encode(campaign: &Campaign) -> Vec<u8> {
    let fields = serde_json::json!({
        "restaurant_id": campaign.restaurant_id,
        "adv_campaign_id": campaign.adv_campaign_id,
        "adv_campaign_content": campaign.adv_campaign_content,
        "adv_campaign_owner": campaign.adv_campaign_owner,
        "adv_campaign_owner_contact": campaign.adv_campaign_owner_contact,
        (START): campaign.window.start,
        (END): campaign.window.end,
        "datetime_created": campaign.datetime_created,
    });
    fields.to_string().into_bytes()
}

/// Decodes one record.
pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> DecodedRecord {
    let decoded = match value {
        Some(value) => campaign(value).map(DecodedRecord::Campaign).map_err(merged),
        None => cancelled_id(key).map(|adv_campaign_id| DecodedRecord::Cancellation { adv_campaign_id }),
    };
    decoded.unwrap_or_else(DecodedRecord::DeadLetter)
}

/// What a record is of which something was left out: it cannot become a campaign.
pub fn incomplete(omitted: &OmittedParts) -> DecodedRecord {
    DecodedRecord::DeadLetter(RecordError::of_record(&omitted.reason))
}

/// The campaign that a tombstone names.
fn cancelled_id(key: Option<&[u8]>) -> Result<String, RecordError> {
    let wrong = |what: String| {
        RecordError::of_record(format!(
            "the key of a cancellation (a null value) must be an adv_campaign_id, {}; it {what}",
            Rule::Text(LONGEST_NAME)
        ))
    };
    let key = key.ok_or_else(|| wrong("is null".into()))?;
    let id = str::from_utf8(key).map_err(|error| wrong(format!("is not UTF-8 at byte {}", error.valid_up_to())))?;
    check_text(id, LONGEST_NAME).map_err(wrong)?;
    Ok(id.to_owned())
}

/// The campaign that a value holds, or each rule that it breaks: [`decode`] makes one reason of them.
pub fn campaign(value: &[u8]) -> Result<Campaign, Vec<RecordError>> {
    if value.len() > LARGEST_RECORD {
        let text = format!("the value takes {} bytes, and a record may take {LARGEST_RECORD}", value.len());
        return Err(vec![RecordError::of_record(text)]);
    }
    refuse_what_is_no_object(value).map_err(|reason| vec![reason])?;
    let utf8 = str::from_utf8(value);
    let mut reading = Reading::default();
    let mut deserializer = serde_json::Deserializer::from_slice(value);
    let syntax = (&mut reading).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    // Not UTF-8 comes first: the parser would call it a wrong code point, and skips strings of unknown fields unread.
    if let Err(error) = utf8 {
        return Err(vec![reading.unreadable(&format!("not UTF-8 at byte {}", error.valid_up_to()))]);
    }
    if let Err(error) = syntax {
        return Err(vec![reading.unreadable(&syntax_error(&error))]);
    }
    let campaign = check_fields(reading.slots)?;
    // The eight fields are plain by now, so it can only be an unknown one. The parser skips without recursion.
    if let Some(name) = nested_deeper(value, DEEPEST + 1) {
        // Whatever somebody sends: only so much of it is repeated.
        let name: String = String::from_utf8_lossy(name).chars().take(LONGEST_REPEATED).collect();
        let text = format!("the unknown field {name:?} is nested more than {DEEPEST} deep; leave it out");
        return Err(vec![RecordError::of_record(text)]);
    }
    Ok(campaign)
}

/// What is wrong with the id of a restaurant, by the rule of the input.
pub fn restaurant(id: &str) -> Result<(), RecordError> {
    let (name, rule) = FIELDS[0];
    let broken = |what: String| RecordError { field: Some(name), reason: format!("{name} must be {rule}; it {what}") };
    check_text(id, LONGEST_NAME).map_err(broken)
}

/// Several broken rules as the reason of one dead letter.
fn merged(reasons: Vec<RecordError>) -> RecordError {
    let first = reasons.first().and_then(|reason| reason.field);
    let field = first.filter(|_| reasons.iter().all(|reason| reason.field == first));
    let texts: Vec<String> = reasons.into_iter().map(|reason| reason.reason).collect();
    RecordError { field, reason: texts.join(". ") }
}

#[cfg(test)]
mod tests;
