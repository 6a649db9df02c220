//! The eight fields of a campaign, and the rules that each keeps.

use std::borrow::Cow;
use std::fmt;

use super::{FIRST_MILLISECONDS, RecordError};
use crate::model::campaign::{Campaign, Window};
use crate::model::limits::{LONGEST_CONTENT, LONGEST_NAME};
use crate::model::number::Seconds;

/// What a field must be.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Text of bounded length, in bytes.
    Text(usize),
    /// Epoch seconds.
    Time,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(most) => write!(f, "a string, not blank, without NUL, of at most {most} bytes"),
            Self::Time => {
                let last = FIRST_MILLISECONDS - 1;
                write!(f, "seconds since the epoch, an integer from 0 to {last} without fraction or exponent")
            }
        }
    }
}

/// The eight fields with their rules, in the order of the feedback table.
pub(super) const FIELDS: [(&str, Rule); 8] = [
    ("restaurant_id", Rule::Text(LONGEST_NAME)),
    ("adv_campaign_id", Rule::Text(LONGEST_NAME)),
    ("adv_campaign_content", Rule::Text(LONGEST_CONTENT)),
    ("adv_campaign_owner", Rule::Text(LONGEST_NAME)),
    ("adv_campaign_owner_contact", Rule::Text(LONGEST_NAME)),
    (START, Rule::Time),
    (END, Rule::Time),
    ("datetime_created", Rule::Time),
];

pub(super) const START: &str = "adv_campaign_datetime_start";

pub(super) const END: &str = "adv_campaign_datetime_end";

/// The names of the eight fields.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, _)| *name)
}

/// Most bytes of a field that holds text, and so most characters.
pub fn longest(field: &str) -> Option<usize> {
    FIELDS.iter().find_map(|(name, rule)| match rule {
        Rule::Text(most) if *name == field => Some(*most),
        _ => None,
    })
}

/// What is in a field.
#[derive(Default)]
pub(super) enum Given<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Integer(u64),
    Wrong(&'static str),
    Twice,
}

/// What breaks a rule, field by field.
#[derive(Default)]
pub(super) struct Broken(pub(super) Vec<RecordError>);

impl Broken {
    pub(super) fn report(&mut self, field: usize, what: &str) {
        let (name, rule) = FIELDS[field];
        self.0.push(RecordError { field: Some(name), reason: format!("{name} must be {rule}; it {what}") });
    }

    /// The text of a field; empty where it breaks a rule.
    pub(super) fn text(&mut self, field: usize, given: Given<'_>) -> String {
        let Rule::Text(most) = FIELDS[field].1 else { unreachable!("FIELDS says which fields are text") };
        let checked = match given {
            Given::Text(text) => check_text(&text, most).map(|()| text.into_owned()),
            Given::Integer(_) => Err("is a number".to_owned()),
            other => Err(other.missing_or_wrong().to_owned()),
        };
        checked.unwrap_or_else(|what| {
            self.report(field, &what);
            String::new()
        })
    }

    /// The time of a field; none where it breaks a rule.
    pub(super) fn time(&mut self, field: usize, given: Given<'_>) -> Option<Seconds> {
        let checked = match given {
            Given::Integer(number) => i64::try_from(number)
                .ok()
                .filter(|seconds| *seconds < FIRST_MILLISECONDS)
                .map(Seconds::new)
                .ok_or("is too large: it looks like milliseconds"),
            Given::Text(_) => Err("is a string"),
            other => Err(other.missing_or_wrong()),
        };
        checked.map_err(|what| self.report(field, what)).ok()
    }
}

impl Given<'_> {
    pub(super) fn missing_or_wrong(&self) -> &'static str {
        match self {
            Self::Nothing => "is missing",
            Self::Twice => "is given more than once",
            Self::Wrong(what) => what,
            Self::Text(_) | Self::Integer(_) => "has the wrong type",
        }
    }
}

pub(super) fn check_text(text: &str, most: usize) -> Result<(), String> {
    if text.len() > most {
        Err(format!("has {} bytes", text.len()))
    } else if text.contains('\0') {
        Err("holds a NUL".to_owned())
    } else if text.chars().all(char::is_whitespace) {
        Err("is blank".to_owned())
    } else {
        Ok(())
    }
}

pub(super) fn check_fields(slots: [Given<'_>; 8]) -> Result<Campaign, Vec<RecordError>> {
    let mut broken = Broken::default();
    let [restaurant, id, content, owner, contact, start, end, created] = slots;
    let (restaurant_id, adv_campaign_id) = (broken.text(0, restaurant), broken.text(1, id));
    let adv_campaign_content = broken.text(2, content);
    let (adv_campaign_owner, adv_campaign_owner_contact) = (broken.text(3, owner), broken.text(4, contact));
    let (start, end, created) = (broken.time(5, start), broken.time(6, end), broken.time(7, created));
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        let reason = format!("{END} must be later than {START}; it is {end}, the start {start}");
        broken.0.push(RecordError { field: Some(END), reason });
    }
    match (start, end, created) {
        (Some(start), Some(end), Some(datetime_created)) if broken.0.is_empty() => Ok(Campaign {
            restaurant_id,
            adv_campaign_id,
            adv_campaign_content,
            adv_campaign_owner,
            adv_campaign_owner_contact,
            window: Window { start, end },
            datetime_created,
        }),
        _ => Err(broken.0),
    }
}
