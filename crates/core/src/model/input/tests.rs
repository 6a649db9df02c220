use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::model::campaign::Window;
use crate::model::input::*;
use crate::model::limits::LONGEST_CONTENT;
use crate::model::number::Seconds;

const SAMPLE: &str = include_str!("../../../../../samples/campaign.json");

fn sample() -> Map<String, Value> {
    serde_json::from_str(SAMPLE).unwrap()
}

fn with(field: &str, value: Value) -> String {
    let mut fields = sample();
    fields.insert(field.to_owned(), value);
    Value::Object(fields).to_string()
}

/// The sample with the value of a field replaced by raw text.
fn with_raw(field: &str, raw: &str) -> String {
    with(field, json!("\u{1}here\u{1}")).replace(r#""\u0001here\u0001""#, raw)
}

fn with_start_raw(raw: &str) -> String {
    with_raw(START, raw)
}

/// The sample with text put in before its closing brace.
fn with_tail(tail: &str) -> String {
    let sample = SAMPLE.trim_end().strip_suffix('}').unwrap();
    format!("{sample}{tail}}}")
}

fn read(value: impl AsRef<[u8]>) -> DecodedRecord {
    decode(Some(b"first_message"), Some(value.as_ref()))
}

fn refused(value: impl AsRef<[u8]>) -> RecordError {
    match read(value) {
        DecodedRecord::DeadLetter(reason) => {
            assert!(!reason.reason.is_empty() && reason.reason.len() < 2_000, "{reason:?}");
            reason
        }
        other => panic!("accepted: {other:?}"),
    }
}

#[test]
fn what_is_encoded_is_decoded_as_the_same_campaign() {
    let DecodedRecord::Campaign(campaign) = decode(None, Some(SAMPLE.as_bytes())) else {
        panic!("the sample is a campaign")
    };
    assert_eq!(decode(None, Some(&encode(&campaign))), DecodedRecord::Campaign(campaign));
}

#[test]
fn what_a_serializer_put_around_the_object_is_named_with_what_to_do() {
    let framed = |prefix: &[u8]| [prefix, SAMPLE.as_bytes()].concat();
    let utf16 = |bytes: fn(u16) -> [u8; 2]| SAMPLE.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let cases: [(Vec<u8>, &str); 14] = [
        (framed(b"\0\0\0\x04\xd2"), "Schema Registry serializer (a zero byte and schema id 1234)"),
        (framed(b"\0\0\0\0\x01\n"), "schema id 1)"),
        (b"\0\0\0\0\x07\x02H\x06abc".to_vec(), "schema id 7, probably Avro or Protobuf)"),
        (framed(b"\xac\xed\0\x05t\0\x10"), "Java's serialization"),
        (b"\x1f\x8b\x08\0".to_vec(), "compression.type"),
        (b"\x28\xb5\x2f\xfd\x04".to_vec(), "compression.type"),
        (b"eyJyZXN0YXVyYW50X2lkIjoxfQ==".to_vec(), "Base64"),
        (b"ewogICJyZXN0YXVyYW50X2lkIjoxfQ==".to_vec(), "Base64"),
        (json!(SAMPLE).to_string().into_bytes(), "encoded twice"),
        (b" \"{}\"".to_vec(), "encoded twice"),
        (b"b'{}'".to_vec(), "Python"),
        (b"<xml/>".to_vec(), "XML"),
        (utf16(u16::to_le_bytes), "UTF-16"),
        (utf16(u16::to_be_bytes), "UTF-16"),
    ];
    for (value, says) in cases {
        let reason = refused(&value);
        assert!(reason.reason.contains(says), "{says}: {reason:?}");
        assert_eq!(reason.field, None);
    }
}

fn accepted(value: impl AsRef<[u8]>) -> Campaign {
    match read(value) {
        DecodedRecord::Campaign(campaign) => campaign,
        other => panic!("not a campaign: {other:?}"),
    }
}

#[track_caller]
fn refused_for(value: impl AsRef<[u8]>, field: &str, says: &str) {
    let RecordError { field: named, reason } = refused(value);
    assert_eq!(named, Some(field), "{reason}");
    assert!(reason.starts_with(field) && reason.contains(says), "{reason}");
}

#[track_caller]
fn refused_as_a_whole(value: impl AsRef<[u8]>, says: &str) {
    let RecordError { field, reason } = refused(value);
    assert_eq!(field, None, "{reason}");
    assert!(reason.contains(says), "{reason}");
}

#[test]
fn the_sample_becomes_its_campaign() {
    let expected = Campaign {
        restaurant_id: "123e4567-e89b-12d3-a456-426614174000".into(),
        adv_campaign_id: "123e4567-e89b-12d3-a456-426614174003".into(),
        adv_campaign_content: "first campaign".into(),
        adv_campaign_owner: "Ivanov Ivan Ivanovich".into(),
        adv_campaign_owner_contact: "iiivanov@restaurant.ru".into(),
        window: Window { start: Seconds::new(1_678_615_562), end: Seconds::new(2_659_207_116) },
        datetime_created: Seconds::new(1_678_879_362),
    };
    assert_eq!(accepted(SAMPLE), expected);
    assert_eq!(decode(None, Some(SAMPLE.as_bytes())), DecodedRecord::Campaign(expected), "any key, none included");
}

#[test]
fn white_space_around_the_object_and_escapes_in_it_change_nothing() {
    let escaped =
        SAMPLE.replace("restaurant_id", "\\u0072estaurant_id").replace("first campaign", "\\u0066irst campaign");
    assert_eq!(accepted(format!(" \r\n\t{escaped}\n ")), accepted(SAMPLE));
    assert_eq!(accepted(with_raw("adv_campaign_owner", r#""\ud83d\ude00 \"ё\"""#)).adv_campaign_owner, "😀 \"ё\"");
}

#[test]
fn each_field_must_be_there_once_and_of_its_type() {
    for (field, rule) in FIELDS {
        let mut fields = sample();
        let value = fields.remove(field).unwrap();
        refused_for(Value::Object(fields).to_string(), field, "is missing");
        refused_for(with_tail(&format!(r#","{field}":{value}"#)), field, "is given more than once");
        refused_for(with_tail(&format!(r#","{field}":1,"{field}":[[2]]"#)), field, "is given more than once");
        let escaped = format!("\\u{:04x}{}", field.as_bytes()[0], &field[1..]);
        refused_for(with_tail(&format!(r#","{escaped}":{value}"#)), field, "is given more than once");

        refused_for(with(field, Value::Null), field, "is null");
        refused_for(with(field, json!(true)), field, "is true or false");
        refused_for(with(field, json!([value.clone()])), field, "is an array");
        refused_for(with(field, json!({ field: value })), field, "is an object");
        refused_for(with(field, json!(-1)), field, "is a negative number");
        refused_for(with(field, json!(1.5)), field, "fraction");
        refused_for(with_raw(field, "1e999"), field, "an exponent");
        for lone in ["\\ud800", "\\ud800x", "\\ud800\\n", "\\ud800\\u0041", "\\udc00"] {
            refused_for(with_raw(field, &format!("\"a{lone}\"")), field, "not valid JSON");
        }
        refused_for(with_raw(field, &"[".repeat(1_000_000)), field, "not valid JSON");
        refused_for(with_raw(field, &format!("{}{}", "[".repeat(200), "]".repeat(200))), field, "is an array");
        match rule {
            Rule::Text(_) => refused_for(with(field, json!(7)), field, "is a number"),
            Rule::Time => refused_for(with(field, json!("1678615562")), field, "is a string"),
        }
    }
}

#[test]
fn all_broken_rules_are_reported_at_once_and_then_no_single_field_is_named() {
    let RecordError { field, reason } = refused("{}");
    assert_eq!(field, None);
    for (field, _) in FIELDS {
        assert!(reason.contains(&format!("{field} must be")), "{reason}");
    }
}

#[test]
fn a_string_is_refused_when_it_is_blank_holds_nul_or_is_too_long() {
    for (field, rule) in FIELDS {
        let Rule::Text(most) = rule else { continue };
        for blank in ["", " ", "\t\n\r", "\u{a0}\u{2003}\u{3000}\u{85}"] {
            refused_for(with(field, json!(blank)), field, "is blank");
        }
        refused_for(with(field, json!("a\0b")), field, "holds a NUL");
        accepted(with(field, json!("x".repeat(most))));
        accepted(with(field, json!("ё".repeat(most / 2))));
        refused_for(with(field, json!("x".repeat(most + 1))), field, &format!("has {} bytes", most + 1));
        let bytes = format!("has {} bytes", most + 2);
        refused_for(with(field, json!("ё".repeat(most / 2 + 1))), field, &bytes);
        refused_for(with_raw(field, "\"a\nb\""), field, "control character");
    }
}

#[test]
fn a_time_is_digits_only_and_not_in_milliseconds() {
    for start in ["0", "1", "1678615562"] {
        assert_eq!(accepted(with_start_raw(start)).window.start, Seconds::new(start.parse::<i64>().unwrap()));
    }
    assert_eq!(accepted(with(END, json!(FIRST_MILLISECONDS - 1))).window.end, Seconds::new(FIRST_MILLISECONDS - 1));
    for text in ["1.0", "1e3", "1E3", "0.5", "1678615562.0", "-0", "-0.0", "0e0", "-1.5"] {
        refused_for(with_start_raw(text), START, "fraction or an exponent");
    }
    let large = ["100000000000", "1678615562000", "18446744073709551615", "18446744073709551616", "1e11", "1e300"];
    for text in large {
        refused_for(with_start_raw(text), START, "looks like milliseconds");
    }
    refused_for(with_start_raw(&"9".repeat(300)), START, "looks like milliseconds");
    // No double holds it, but it is JSON.
    let reason = refused(with_start_raw(&"9".repeat(400))).reason;
    assert!(reason.contains("looks like milliseconds") && !reason.contains("not valid JSON"), "{reason}");
    for text in ["-1", "-9223372036854775808"] {
        refused_for(with_start_raw(text), START, "is a negative number");
    }
    for text in ["-9223372036854775809", "-1e30"] {
        refused_for(with_start_raw(text), START, "or a negative one");
    }
    for text in ["01", "+1", "1.", ".5", "NaN", "Infinity", "1e", "-"] {
        refused_for(with_start_raw(text), START, "not valid JSON");
    }
    for text in ["0x10", "1_000", "1 000"] {
        refused_as_a_whole(with_start_raw(text), "after adv_campaign_datetime_start");
    }
}

#[test]
fn the_end_must_be_later_than_the_start() {
    assert_eq!(accepted(with(END, json!(1_678_615_563))).window.end, Seconds::new(1_678_615_563));
    for end in [1_678_615_562, 1_678_615_561, 0] {
        refused_for(with(END, json!(end)), END, "must be later than adv_campaign_datetime_start");
    }
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    let values =
        ["null", "1e999", "-0", "123456789012345678901234567890", "{\"a\":1,\"a\":2}", "\"\\ud800\"", "[[],{}]"];
    for value in values {
        let tail = format!(r#","client_id":{value},"client_id":{value},"":{value},"Restaurant_id":{value}"#);
        assert_eq!(accepted(with_tail(&tail)), accepted(SAMPLE), "{value}");
    }
    let long = format!(r#","{}":{}"#, "n".repeat(100_000), "9".repeat(100_000));
    assert_eq!(accepted(with_tail(&long)), accepted(SAMPLE));
}

#[test]
fn an_unknown_field_may_be_nested_128_deep_and_no_deeper() {
    let arrays = |deep: usize| with_tail(&format!(r#","x":{}{}"#, "[".repeat(deep), "]".repeat(deep)));
    let objects = |deep: usize| with_tail(&format!(r#","x":{}1{}"#, "{\"y\":".repeat(deep), "}".repeat(deep)));
    for deep in [1, 127, 128] {
        accepted(arrays(deep));
        accepted(objects(deep));
    }
    for deep in [129, 1_000, 100_000] {
        refused_as_a_whole(arrays(deep), "the unknown field \"x\" is nested more than 128 deep");
        refused_as_a_whole(objects(deep), "the unknown field \"x\" is nested more than 128 deep");
    }
    let wide = with_tail(&format!(r#","x":[{}1]"#, "[1],".repeat(1_000)));
    let in_strings = with_tail(&format!(r#","x":"\"{}\\","y":[]"#, "[{".repeat(1_000)));
    accepted(wide);
    accepted(in_strings);
    refused_as_a_whole("[".repeat(400_000), "an array");
}

#[test]
fn what_is_no_object_is_called_by_its_name() {
    let cases: [(&[u8], &str); 11] = [
        (b"", "is empty"),
        (b" \n", "is blank"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\0}\0", "byte order mark"),
        (b"null", "null value"),
        (b"[]", "an array"),
        (b"\"{}\"", "a string"),
        (b"-1", "a number"),
        (b"\0", "something else"),
        (b"{", "not valid JSON"),
        (b"{}}", "not valid JSON"),
    ];
    for (value, says) in cases {
        refused_as_a_whole(value, says);
    }
}

#[test]
fn broken_json_is_refused_and_the_place_named() {
    refused_as_a_whole(format!("{SAMPLE}{SAMPLE}"), "trailing characters");
    refused_as_a_whole(format!("{SAMPLE}\0"), "trailing characters");
    refused_as_a_whole(with_tail(","), "after datetime_created");
    refused_as_a_whole(with_tail(r#","x":'y'"#), "not valid JSON");
    refused_as_a_whole(with_tail(r#","x":1 // a comment"#), "not valid JSON");
    refused_as_a_whole(with_tail(r#","\ud800":1"#), "hex escape");
    refused_as_a_whole(with_raw("adv_campaign_owner", r#""a"b""#), "after adv_campaign_owner");
    for end in 1..SAMPLE.trim_end().len() {
        refused(&SAMPLE[..end]);
    }
}

#[test]
fn what_is_not_utf_8_is_refused_and_the_field_named() {
    let replace = |text: &str, byte: u8| {
        let mut value = SAMPLE.as_bytes().to_vec();
        let at = SAMPLE.find(text).unwrap();
        value[at] = byte;
        value
    };
    refused_for(replace("Ivanov", 0xff), "adv_campaign_owner", "not UTF-8 at byte");
    refused_as_a_whole(replace("adv_campaign_owner", 0xc3), "not UTF-8 at byte");
    let mut value = with_tail(r#","x":"?""#).into_bytes();
    *value.iter_mut().rfind(|byte| **byte == b'?').unwrap() = 0x80;
    refused_as_a_whole(value, "not UTF-8 at byte");
}

#[test]
fn a_tombstone_cancels_the_campaign_that_its_key_names() {
    for key in ["123e4567", " padded ", "кампания", &"x".repeat(256)] {
        let cancelled = DecodedRecord::Cancellation { adv_campaign_id: key.to_owned() };
        assert_eq!(decode(Some(key.as_bytes()), None), cancelled);
    }
}

#[test]
fn a_tombstone_without_a_valid_id_is_a_dead_letter() {
    let long = [b'x'; 257];
    let cases: [(Option<&[u8]>, &str); 6] = [
        (None, "it is null"),
        (Some(b""), "it is blank"),
        (Some(" \u{a0}".as_bytes()), "it is blank"),
        (Some(b"a\0"), "it holds a NUL"),
        (Some(b"a\xff"), "it is not UTF-8 at byte 1"),
        (Some(&long), "it has 257 bytes"),
    ];
    for (key, says) in cases {
        let DecodedRecord::DeadLetter(RecordError { field, reason }) = decode(key, None) else {
            panic!("accepted {key:?}")
        };
        assert_eq!(field, None);
        assert!(reason.contains("the key") && reason.contains("adv_campaign_id") && reason.contains(says), "{reason}");
    }
}

fn texts(most: usize) -> impl Strategy<Value = String> {
    any::<String>().prop_map(move |text| {
        let mut text = text.replace('\0', "0");
        let end = (0..=most - 1).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end.min(text.len()));
        text.push('x');
        text
    })
}

fn campaigns() -> impl Strategy<Value = Campaign> {
    let names = (texts(LONGEST_NAME), texts(LONGEST_NAME), texts(LONGEST_NAME), texts(LONGEST_NAME));
    let window = (0..FIRST_MILLISECONDS - 1).prop_flat_map(|start| {
        (start + 1..FIRST_MILLISECONDS)
            .prop_map(move |end| Window { start: Seconds::new(start), end: Seconds::new(end) })
    });
    (names, texts(LONGEST_CONTENT), window, 0..FIRST_MILLISECONDS).prop_map(|(names, content, window, created)| {
        let (restaurant_id, adv_campaign_id, adv_campaign_owner, adv_campaign_owner_contact) = names;
        Campaign {
            restaurant_id,
            adv_campaign_id,
            adv_campaign_content: content,
            adv_campaign_owner,
            adv_campaign_owner_contact,
            window,
            datetime_created: Seconds::new(created),
        }
    })
}

/// The eight fields as JSON values.
fn fields(campaign: &Campaign) -> Vec<(&'static str, Value)> {
    let values = [
        json!(campaign.restaurant_id),
        json!(campaign.adv_campaign_id),
        json!(campaign.adv_campaign_content),
        json!(campaign.adv_campaign_owner),
        json!(campaign.adv_campaign_owner_contact),
        json!(campaign.window.start),
        json!(campaign.window.end),
        json!(campaign.datetime_created),
    ];
    FIELDS.iter().map(|(name, _)| *name).zip(values).collect()
}

/// An object of fields in the order given; every character beyond ASCII escaped if asked for.
fn object(fields: &[(&str, Value)], escape: bool) -> String {
    let members: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    let text = format!("{{{}}}", members.join(","));
    if !escape {
        return text;
    }
    let mut escaped = String::new();
    for char in text.chars() {
        if char.is_ascii() {
            escaped.push(char);
        } else {
            char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        }
    }
    escaped
}

/// Values that break some rule for some field, and others that break none.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        (0..20_000_usize).prop_map(|length| Value::from("z".repeat(length))),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_valid_campaign_comes_back_as_it_was_sent(
        campaign in campaigns(),
        order in Just((0..10).collect::<Vec<usize>>()).prop_shuffle(),
        unknown in any_value(),
        escape in any::<bool>(),
    ) {
        let mut all = fields(&campaign);
        all.extend([("client_id", unknown.clone()), ("client_id", unknown)]);
        let shuffled: Vec<_> = order.into_iter().map(|index| all[index].clone()).collect();
        prop_assert_eq!(read(object(&shuffled, escape)), DecodedRecord::Campaign(campaign));
    }

    #[test]
    fn no_bytes_make_it_panic(
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
    ) {
        decode(key.as_deref(), value.as_deref());
    }

    #[test]
    fn a_single_changed_byte_makes_it_another_campaign_or_a_dead_letter(at in 0..SAMPLE.len(), byte in any::<u8>()) {
        let mut value = SAMPLE.as_bytes().to_vec();
        value[at] = byte;
        let cancels = matches!(read(value), DecodedRecord::Cancellation { .. });
        prop_assert!(!cancels);
    }

    #[test]
    fn a_single_changed_field_is_taken_as_it_is_or_named(campaign in campaigns(), index in 0..8_usize, value in any_value()) {
        let mut changed = fields(&campaign);
        changed[index].1 = value.clone();
        let name = changed[index].0;
        match read(object(&changed, false)) {
            DecodedRecord::Campaign(taken) => prop_assert_eq!(&fields(&taken)[index].1, &value),
            DecodedRecord::DeadLetter(RecordError { field, reason }) => {
                prop_assert!(reason.contains(name) && reason.len() < 500, "{}", reason);
                let crossed = name == START && field == Some(END);
                prop_assert!(field == Some(name) || crossed, "{:?}: {}", field, reason);
            }
            DecodedRecord::Cancellation { .. } => prop_assert!(false, "a value cancels nothing"),
        }
    }
}
