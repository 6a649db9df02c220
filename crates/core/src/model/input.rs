//! Bytes become a campaign, a cancellation or a dead letter.
//!
//! Pure: no clock, no configuration. What the letter of the input rules leaves open is decided here:
//!
//! - a string is blank when it is empty or holds nothing but Unicode white space;
//! - a time is written in digits only: `1.0`, `1e3` and `-0` are refused;
//! - an unknown field's value may be nested [`DEEPEST`] deep, the enclosing object not counted, and need only be well-formed JSON:
//!   its numbers may have any size, and its strings are not decoded;
//! - all broken rules of a record are reported at once, so that its sender mends them once.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::campaign::{Campaign, Window};
use crate::model::limits::{LARGEST_RECORD, LONGEST_CONTENT, LONGEST_NAME};
use crate::model::number::Seconds;
use crate::model::record::OmittedParts;

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

/// In the parser's words; but a number that no double can hold is valid JSON.
fn syntax_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.starts_with("number out of range") {
        true => "a number too large (it looks like milliseconds) or written with an exponent".to_owned(),
        false => format!("not valid JSON: {text}"),
    }
}

/// What is plainly no JSON object gets a reason in words of its own, since each of these has a cause of its own.
fn refuse_what_is_no_object(value: &[u8]) -> Result<(), RecordError> {
    const BYTE_ORDER_MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];
    if value.is_empty() {
        let text = "the value is empty; it must be a JSON object (a cancellation has a null value, not an empty one)";
        return Err(RecordError::of_record(text));
    }
    if BYTE_ORDER_MARKS.iter().any(|mark| value.starts_with(mark)) {
        let text = "the value begins with a byte order mark; it must be a JSON object in UTF-8 without one";
        return Err(RecordError::of_record(text));
    }
    if let Some(framing) = framing(value) {
        return Err(RecordError::of_record(format!("the value must be a JSON object in UTF-8; it {framing}")));
    }
    let found = match value.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) {
        Some(b'{') => return Ok(()),
        None => "blank",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'n') if value.trim_ascii() == b"null" => "the text null (a cancellation has a null value, not this text)",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(_) => "something else",
    };
    Err(RecordError::of_record(format!("the value must be a JSON object in UTF-8; it is {found}")))
}

/// What a sender's serializer put around the object, or made of it, and what to do; as a sentence's end.
fn framing(value: &[u8]) -> Option<String> {
    let plain = "send the JSON itself, with a plain string or byte serializer";
    let text = match value {
        // Whatever the schema's language is: five bytes come before it.
        [0, one, two, three, four, rest @ ..] if !rest.is_empty() => {
            let schema = u32::from_be_bytes([*one, *two, *three, *four]);
            if value[1] == b'{' && value[2] == 0 {
                "is UTF-16; encode it in UTF-8".to_owned()
            } else {
                let of =
                    if rest.trim_ascii_start().first() == Some(&b'{') { "" } else { ", probably Avro or Protobuf" };
                format!(
                    "begins like a record of a Schema Registry serializer (a zero byte and schema id {schema}{of}); {plain}, without \
                     the serializer's prefix"
                )
            }
        }
        [b'{', 0, ..] => "is UTF-16; encode it in UTF-8".to_owned(),
        [0xac, 0xed, 0, 5, ..] => format!("is an object of Java's serialization; {plain}"),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            "is compressed; send the JSON itself, and let the producer compress (compression.type)".to_owned()
        }
        [b'e', b'y', b'J' | b'A', ..] | [b'e', b'w', b'o' | b'0', ..] => format!("looks like Base64; {plain}"),
        [b'b', b'\'' | b'"', ..] => format!("is Python's notation of bytes, not the bytes; {plain}"),
        [b'<', ..] => "is XML or HTML".to_owned(),
        _ if value.trim_ascii_start().starts_with(b"\"{") => {
            format!("is a string that begins like an object: the JSON was encoded twice; {plain}")
        }
        _ => return None,
    };
    Some(text)
}

/// What a field must be.
#[derive(Clone, Copy)]
enum Rule {
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
const FIELDS: [(&str, Rule); 8] = [
    ("restaurant_id", Rule::Text(LONGEST_NAME)),
    ("adv_campaign_id", Rule::Text(LONGEST_NAME)),
    ("adv_campaign_content", Rule::Text(LONGEST_CONTENT)),
    ("adv_campaign_owner", Rule::Text(LONGEST_NAME)),
    ("adv_campaign_owner_contact", Rule::Text(LONGEST_NAME)),
    (START, Rule::Time),
    (END, Rule::Time),
    ("datetime_created", Rule::Time),
];
const START: &str = "adv_campaign_datetime_start";
const END: &str = "adv_campaign_datetime_end";

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

/// What stands in a field.
#[derive(Default)]
enum Given<'a> {
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Integer(u64),
    Wrong(&'static str),
    Twice,
}

/// Where the parser is: a syntax error names the field it stands in or behind.
#[derive(Default, Clone, Copy)]
enum ParserPosition {
    #[default]
    Before,
    In(usize),
    After(usize),
}

/// The eight fields as they are read. The visitor takes whatever stands in them. So a wrong type is a broken rule among others, and only broken JSON
/// is an error of the parser.
#[derive(Default)]
struct Reading<'a> {
    slots: [Given<'a>; 8],
    position: ParserPosition,
}

impl Reading<'_> {
    fn unreadable(&self, what: &str) -> RecordError {
        match self.position {
            ParserPosition::Before => RecordError::of_record(format!("the value is {what}")),
            ParserPosition::After(field) => {
                RecordError::of_record(format!("the value is {what} (after {})", FIELDS[field].0))
            }
            ParserPosition::In(field) => {
                let (name, rule) = FIELDS[field];
                RecordError { field: Some(name), reason: format!("{name} must be {rule}; it is {what}") }
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reading<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Reading<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(FieldName)? {
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.position = ParserPosition::In(field);
            if matches!(self.slots[field], Given::Nothing) {
                self.slots[field] = map.next_value_seed(FieldValue)?;
            } else {
                map.next_value::<IgnoredAny>()?;
                self.slots[field] = Given::Twice;
            }
            self.position = ParserPosition::After(field);
        }
        Ok(())
    }
}

/// Reads a name: which of the eight fields it is, if any. Escapes are decoded before the comparison.
struct FieldName;

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(FIELDS.iter().position(|(field, _)| *field == name))
    }
}

/// Reads whatever value stands in one of the eight fields.
struct FieldValue;

impl<'de> DeserializeSeed<'de> for FieldValue {
    type Value = Given<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Given<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldValue {
    type Value = Given<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Given<'de>, E> {
        Ok(Given::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Given<'de>, E> {
        Ok(Given::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Given<'de>, E> {
        Ok(Given::Integer(number))
    }

    /// The parser calls this for negative integers only.
    fn visit_i64<E: Error>(self, number: i64) -> Result<Given<'de>, E> {
        Ok(u64::try_from(number).map_or(Given::Wrong("is a negative number"), Given::Integer))
    }

    /// Fractions, exponents, -0, and integers beyond 64 bits: the parser does not tell them apart.
    fn visit_f64<E: Error>(self, number: f64) -> Result<Given<'de>, E> {
        #[expect(clippy::cast_precision_loss, reason = "10^11 is exact in a double")]
        let first_milliseconds = FIRST_MILLISECONDS as f64;
        Ok(Given::Wrong(if number >= first_milliseconds {
            "is a number too large (it looks like milliseconds) or written with a fraction or an exponent"
        } else {
            "is a number with a fraction or an exponent, or a negative one"
        }))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Given<'de>, E> {
        Ok(Given::Wrong("is true or false"))
    }

    fn visit_unit<E: Error>(self) -> Result<Given<'de>, E> {
        Ok(Given::Wrong("is null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Given<'de>, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Given::Wrong("is an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Given<'de>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given::Wrong("is an object"))
    }
}

/// Several broken rules as the reason of one dead letter.
fn merged(reasons: Vec<RecordError>) -> RecordError {
    let first = reasons.first().and_then(|reason| reason.field);
    let field = first.filter(|_| reasons.iter().all(|reason| reason.field == first));
    let texts: Vec<String> = reasons.into_iter().map(|reason| reason.reason).collect();
    RecordError { field, reason: texts.join(". ") }
}

/// What breaks a rule, field by field.
#[derive(Default)]
struct Broken(Vec<RecordError>);

impl Broken {
    fn report(&mut self, field: usize, what: &str) {
        let (name, rule) = FIELDS[field];
        self.0.push(RecordError { field: Some(name), reason: format!("{name} must be {rule}; it {what}") });
    }

    /// The text of a field; empty where it breaks a rule.
    fn text(&mut self, field: usize, given: Given<'_>) -> String {
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
    fn time(&mut self, field: usize, given: Given<'_>) -> Option<Seconds> {
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
    fn missing_or_wrong(&self) -> &'static str {
        match self {
            Self::Nothing => "is missing",
            Self::Twice => "is given more than once",
            Self::Wrong(what) => what,
            Self::Text(_) | Self::Integer(_) => "has the wrong type",
        }
    }
}

fn check_text(text: &str, most: usize) -> Result<(), String> {
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

fn check_fields(slots: [Given<'_>; 8]) -> Result<Campaign, Vec<RecordError>> {
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

/// The field, as it is written, in which a well-formed JSON object is nested deeper than `most`, the object itself counted.
fn nested_deeper(json: &[u8], most: usize) -> Option<&[u8]> {
    // Without that many brackets it cannot be, and nearly no campaign holds them: the exact look is for the others.
    if json.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= most {
        return None;
    }
    let (mut depth, mut in_string) = (0_usize, false);
    // The last string of the outermost object: before a bracket that is the name of its field.
    let (mut begun, mut name) = (0, &json[..0]);
    let mut bytes = json.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                match (depth, in_string) {
                    (1, false) => begun = at + 1,
                    (1, true) => name = &json[begun..at],
                    _ => {}
                }
                in_string = !in_string;
            }
            b'\\' if in_string => drop(bytes.next()),
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > most {
            return Some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests;
