//! Reads the JSON of a record, field by field, without a copy.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{FIRST_MILLISECONDS, RecordError, fields};

use fields::{FIELDS, Given};

/// In the parser's words; but a number that no double can hold is valid JSON.
pub(super) fn syntax_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.starts_with("number out of range") {
        true => "a number too large (it looks like milliseconds) or written with an exponent".to_owned(),
        false => format!("not valid JSON: {text}"),
    }
}

/// What is plainly no JSON object gets a reason in words of its own, since each of these has a cause of its own.
pub(super) fn refuse_what_is_no_object(value: &[u8]) -> Result<(), RecordError> {
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
pub(super) fn framing(value: &[u8]) -> Option<String> {
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

/// Where the parser is: a syntax error names the field it is in or behind.
#[derive(Default, Clone, Copy)]
pub(super) enum ParserPosition {
    #[default]
    Before,
    In(usize),
    After(usize),
}

/// The eight fields as they are read. The visitor takes whatever is in them. So a wrong type is a broken rule among others, and only broken JSON
/// is an error of the parser.
#[derive(Default)]
pub(super) struct Reading<'a> {
    pub(super) slots: [Given<'a>; 8],
    pub(super) position: ParserPosition,
}

impl Reading<'_> {
    pub(super) fn unreadable(&self, what: &str) -> RecordError {
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
pub(super) struct FieldName;

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

/// Reads whatever value is in one of the eight fields.
pub(super) struct FieldValue;

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

/// The field, as it is written, in which a well-formed JSON object is nested deeper than `most`, the object itself counted.
pub(super) fn nested_deeper(json: &[u8], most: usize) -> Option<&[u8]> {
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
