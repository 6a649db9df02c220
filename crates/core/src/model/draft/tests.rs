use proptest::prelude::*;
use serde_json::Value;

use crate::model::campaign::Window;
use crate::model::draft::*;
use crate::model::input::{DecodedRecord, decode};
use crate::model::number::Seconds;

const TRIGGER: Seconds = Seconds::new(1_700_000_000);
const CLIENT: &str = "223e4567-e89b-12d3-a456-426614174000";
/// Clients that a JSON string or a COPY row could trip over.
const ODD_CLIENTS: [&str; 7] = ["a\"b\\c/", "\u{1}\t\n\u{1f}\u{7f}", "клиент", "😀\u{2028}", "{}", "", " "];

fn sample() -> Campaign {
    match decode(None, Some(include_bytes!("../../../../../samples/campaign.json"))) {
        DecodedRecord::Campaign(campaign) => campaign,
        other => panic!("the sample is a campaign, not {other:?}"),
    }
}

fn template() -> DraftTemplate {
    DraftTemplate::new(Arc::new(sample()), TRIGGER, "dinnerbell").unwrap()
}

#[test]
fn what_a_draft_takes_is_known_about_before_it_is_encoded() {
    let texts = ["plain", "\u{1}\u{2}\u{3}", "\"quoted\"\n\\", "клиент 😀\u{7f}"];
    for content in texts.map(|text| text.repeat(500)) {
        let campaign = Campaign { adv_campaign_content: content.clone(), ..sample() };
        let (expected, texts) = (campaign.draft_size(), super::texts(&campaign).map(str::len).iter().sum());
        let size = DraftTemplate::new(Arc::new(campaign), TRIGGER, "dinnerbell").unwrap().size();
        assert!(expected.abs_diff(size) < 200, "{expected} were expected, and it is {size}");
        assert!(largest_draft(texts) + 200 > size);
    }
}

fn message(template: &DraftTemplate, client: &str) -> String {
    let mut out = b"before ".to_vec();
    template.message_value(client, &mut out);
    String::from_utf8(out).unwrap().strip_prefix("before ").expect("it is appended").to_owned()
}

/// A parser of COPY's binary format that shares nothing with the writer: rows of columns.
fn parse_copy(mut bytes: &[u8]) -> Vec<Vec<Option<Vec<u8>>>> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    fn number(bytes: &mut &[u8], count: usize) -> u32 {
        take(bytes, count).iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }
    assert_eq!(take(&mut bytes, 11), [0x50, 0x47, 0x43, 0x4f, 0x50, 0x59, 0x0a, 0xff, 0x0d, 0x0a, 0x00]);
    assert_eq!((number(&mut bytes, 4), number(&mut bytes, 4)), (0, 0), "no flags, no extension");
    let mut rows = Vec::new();
    loop {
        let columns = number(&mut bytes, 2);
        if columns == 0xffff {
            assert!(bytes.is_empty(), "nothing behind the trailer");
            return rows;
        }
        let column = |_| {
            let length = number(&mut bytes, 4);
            (length != u32::MAX).then(|| take(&mut bytes, length as usize).to_vec())
        };
        rows.push((0..columns).map(column).collect());
    }
}

/// The columns of each row but `feedback`, which is the last, and null.
fn copy(template: &DraftTemplate, column: TriggerType, clients: &[&str]) -> Vec<Vec<Vec<u8>>> {
    let mut out = BytesMut::from(&COPY_HEADER[..]);
    let rows = template.rows(column).expect("the year is 2023");
    clients.iter().for_each(|client| rows.append(client, &mut out));
    out.extend_from_slice(&COPY_TRAILER);
    let mut rows = parse_copy(&out);
    rows.iter_mut().for_each(|row| assert_eq!(row.pop(), Some(None), "feedback is null"));
    rows.into_iter().map(|row| row.into_iter().map(|column| column.expect("not null")).collect()).collect()
}

fn int(column: &[u8]) -> i64 {
    match column.len() {
        4 => i32::from_be_bytes(column.try_into().unwrap()).into(),
        8 => i64::from_be_bytes(column.try_into().unwrap()),
        length => panic!("an integer of {length} bytes"),
    }
}

#[test]
fn the_message_of_the_sample_is_this_to_the_byte() {
    let expected = concat!(
        r#"{"restaurant_id":"123e4567-e89b-12d3-a456-426614174000","adv_campaign_id":"123e4567-e89b-12d3-a456-426614174003","#,
        r#""adv_campaign_content":"first campaign","adv_campaign_owner":"Ivanov Ivan Ivanovich","#,
        r#""adv_campaign_owner_contact":"iiivanov@restaurant.ru","adv_campaign_datetime_start":1678615562,"#,
        r#""adv_campaign_datetime_end":2659207116,"client_id":"223e4567-e89b-12d3-a456-426614174000","#,
        r#""datetime_created":1678879362,"trigger_datetime_created":1700000000}"#,
    );
    assert_eq!(message(&template(), CLIENT), expected);
}

#[test]
fn any_client_id_makes_a_valid_message() {
    for client in ODD_CLIENTS {
        let value: Value = serde_json::from_str(&message(&template(), client)).unwrap();
        assert_eq!(value["client_id"], client);
        assert_eq!(value.as_object().unwrap().len(), 10);
    }
}

#[test]
fn the_rows_of_the_sample_are_those_of_the_expected_table() {
    let expected = include_str!("../../../../../samples/expected_feedback.csv");
    let (header, lines) = expected.trim_end().split_once('\n').unwrap();
    let header = header.replace(",feedback", ",trigger_datetime_created").replace(',', ", ");
    assert_eq!(header, FEEDBACK_COLUMNS);

    let lines: Vec<Vec<&str>> = lines.lines().map(|line| line.split(',').collect()).collect();
    let clients: Vec<&str> = lines.iter().map(|line| line[8]).collect();
    let rows = [(TriggerType::Int4, 4), (TriggerType::Int8, 8)]
        .into_iter()
        .flat_map(|(column, width)| copy(&template(), column, &clients).into_iter().map(move |row| (row, width)));
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 16);
    for ((row, width), line) in rows.iter().zip(lines.iter().chain(&lines)) {
        assert_eq!(row.len(), FEEDBACK_COLUMNS.split(", ").count());
        let widths: Vec<usize> = [5, 6, 7, 9].map(|index: usize| row[index].len()).to_vec();
        assert_eq!(widths, [8, 8, 8, *width], "three int8, and what the column is");
        for index in [0, 1, 2, 3, 4, 8] {
            assert_eq!(row[index], line[index].as_bytes());
        }
        for index in [5, 6, 7] {
            assert_eq!(int(&row[index]).to_string(), line[index]);
        }
        assert_eq!(int(&row[9]), TRIGGER.get());
    }
}

#[test]
fn any_client_id_makes_a_valid_row() {
    let rows = copy(&template(), TriggerType::Int4, &ODD_CLIENTS);
    assert!(rows.iter().map(|row| row[8].as_slice()).eq(ODD_CLIENTS.map(str::as_bytes)));
}

#[test]
fn the_shared_headers_are_those_of_a_cloud_event() {
    let template = template();
    let headers: Vec<(&str, &str)> =
        template.headers().iter().map(|(name, value)| (*name, str::from_utf8(value).unwrap())).collect();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_type", "dinnerbell.draft.v1"),
        ("ce_source", "/dinnerbell/dinnerbell"),
        ("ce_time", "2023-11-14T22:13:20Z"),
        ("ce_expirytime", "2054-04-07T20:38:36Z"),
        ("content-type", "application/json"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn the_id_of_a_draft_is_a_name_based_uuid_of_campaign_and_client() {
    assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"dinnerbell"));
    // As Python's uuid.uuid5 has it.
    assert_eq!(&template().ce_id(CLIENT), b"32d17903-e5ce-5156-a992-abe38eee9f8a");
    let campaign = Campaign { adv_campaign_id: "кампания".into(), ..sample() };
    let template = DraftTemplate::new(Arc::new(campaign), TRIGGER, "dinnerbell").unwrap();
    assert_eq!(&template.ce_id("клиент"), b"519bf188-452a-5c57-8202-5126d41b0f6c");
}

#[test]
fn times_that_fit_into_no_row_or_header_are_refused() {
    let last = Seconds::new(i32::MAX.into());
    let new = |end, trigger| {
        let campaign = Campaign { window: Window { start: Seconds::new(0), end }, ..sample() };
        DraftTemplate::new(Arc::new(campaign), trigger, "dinnerbell").map(drop)
    };
    assert_eq!(new(Seconds::new(99_999_999_999), last), Ok(()));
    assert_eq!(new(Seconds::new(1), last + 1), Ok(()));
    let after = DraftTemplate::new(Arc::new(sample()), last + 1, "dinnerbell").unwrap();
    let refused = after.rows(TriggerType::Int4).map(drop).unwrap_err();
    assert_eq!(refused, TemplateError::TriggerOutOfRange(last + 1));
    assert!(refused.to_string().contains("2147483647") && refused.to_string().contains("int8"), "{refused}");
    assert_eq!(int(&copy(&after, TriggerType::Int8, &[CLIENT])[0][9]), (last + 1).get());
    for seconds in [i64::MAX, i64::MIN, 253_402_300_800, -100_000_000_000].map(Seconds::new) {
        let field = "adv_campaign_datetime_end";
        assert_eq!(new(seconds, Seconds::new(0)), Err(TemplateError::TimeOutOfRange { field, seconds }));
    }
}

#[test]
fn the_checksum_of_a_round_stays_what_it_was_in_earlier_versions() {
    // The ledger keeps these: a version that computed others would call every recorded round damaged.
    // (The figures are another implementation's, Python's xxhash.)
    assert_eq!(template().checksum(CLIENT), 0x0169_ce13_89b1_85de);
    assert_eq!(dead_letter_checksum(1), 0x7dd1_2f65_7440_b28d);
    assert_eq!(dead_letter_checksum(i64::MAX), 0xb85d_e719_8526_49be);
}

#[test]
fn every_field_of_a_draft_changes_its_checksum() {
    let mut campaigns = vec![sample(); 9];
    campaigns[1].restaurant_id.push('x');
    campaigns[2].adv_campaign_id.push('x');
    campaigns[3].adv_campaign_content.push('x');
    campaigns[4].adv_campaign_owner.push('x');
    campaigns[5].adv_campaign_owner_contact.push('x');
    campaigns[6].window.start = campaigns[6].window.start + 1;
    campaigns[7].window.end = campaigns[7].window.end + 1;
    campaigns[8].datetime_created = campaigns[8].datetime_created + 1;
    let checksum = |campaign: Campaign, trigger, client| {
        DraftTemplate::new(Arc::new(campaign), trigger, "dinnerbell").unwrap().checksum(client)
    };
    let mut sums: Vec<u64> = campaigns.into_iter().map(|campaign| checksum(campaign, TRIGGER, CLIENT)).collect();
    sums.push(checksum(sample(), TRIGGER + 1, CLIENT));
    sums.push(checksum(sample(), TRIGGER, "another"));
    let moved = Campaign { adv_campaign_owner: "Ivanov Ivan Ivanovichi".into(), ..sample() };
    let moved = Campaign { adv_campaign_owner_contact: "iivanov@restaurant.ru".into(), ..moved };
    sums.push(checksum(moved, TRIGGER, CLIENT));
    sums.push(dead_letter_checksum(1));
    sums.push(dead_letter_checksum(2));
    let count = sums.len();
    sums.sort_unstable();
    sums.dedup();
    assert_eq!(sums.len(), count);
}

#[test]
fn a_batch_sums_its_drafts_in_any_order() {
    let template = Arc::new(template());
    let batch =
        |clients: &[&str]| DraftBatch { template: Arc::clone(&template), clients: clients.iter().copied().collect() };
    assert_eq!(batch(&[]).checksum(), 0);
    assert_eq!(batch(&["a", "b", "c"]).checksum(), batch(&["c", "a", "b"]).checksum());
    assert_eq!(batch(&["a", "b"]).checksum(), batch(&["a"]).checksum().wrapping_add(batch(&["b"]).checksum()));
    assert_ne!(batch(&["a", "a"]).checksum(), batch(&["b", "b"]).checksum(), "no exclusive or: pairs do not cancel");
    assert_ne!(batch(&["ab", "c"]).checksum(), batch(&["a", "bc"]).checksum());
}

#[test]
fn a_list_of_clients_gives_them_back_in_order() {
    let mut clients = Clients::new();
    assert!(clients.is_empty());
    assert_eq!((clients.len(), clients.last(), clients.size()), (0, None, 0));
    for client in ["b", "", "клиент", "a"] {
        clients.push(client);
    }
    assert_eq!((clients.len(), clients.last()), (4, Some("a")));
    assert_eq!(clients.iter().collect::<Vec<_>>(), ["b", "", "клиент", "a"]);
    assert_eq!(clients.iter().len(), 4);
    assert_eq!(clients.size(), 14 + 4 * 4);
    assert_eq!(clients, ["b", "", "клиент", "a"].into_iter().collect());
    assert_ne!(clients, ["b", "клиент", "", "a"].into_iter().collect());
}

/// The message as a struct in the order that readers rely on.
#[derive(Serialize)]
struct Message<'a> {
    restaurant_id: &'a str,
    adv_campaign_id: &'a str,
    adv_campaign_content: &'a str,
    adv_campaign_owner: &'a str,
    adv_campaign_owner_contact: &'a str,
    adv_campaign_datetime_start: i64,
    adv_campaign_datetime_end: i64,
    client_id: &'a str,
    datetime_created: i64,
    trigger_datetime_created: i64,
}

proptest! {
    #[test]
    fn any_draft_is_the_same_in_message_row_and_id(
        text in any::<[String; 5]>(),
        start in 0..50_000_000_000_i64,
        length in 1..50_000_000_000_i64,
        created in 0..100_000_000_000_i64,
        trigger in 0..=i64::from(i32::MAX),
        client in any::<String>(),
    ) {
        let [restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact] = &text;
        let expected = Message {
            restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact,
            adv_campaign_datetime_start: start,
            adv_campaign_datetime_end: start + length,
            client_id: &client,
            datetime_created: created,
            trigger_datetime_created: trigger,
        };
        let campaign = Campaign {
            restaurant_id: restaurant_id.clone(),
            adv_campaign_id: adv_campaign_id.clone(),
            adv_campaign_content: adv_campaign_content.clone(),
            adv_campaign_owner: adv_campaign_owner.clone(),
            adv_campaign_owner_contact: adv_campaign_owner_contact.clone(),
            window: Window { start: Seconds::new(start), end: Seconds::new(start + length) },
            datetime_created: Seconds::new(created),
        };
        let template = DraftTemplate::new(Arc::new(campaign), Seconds::new(trigger), "group").unwrap();
        prop_assert_eq!(message(&template, &client), serde_json::to_string(&expected).unwrap());

        let rows = copy(&template, TriggerType::Int8, &[&client]);
        let row = &rows[0];
        for (column, text) in row.iter().zip(&text) {
            prop_assert_eq!(column, text.as_bytes());
        }
        let ints: Vec<i64> = [5, 6, 7, 9].map(|index| int(&row[index])).to_vec();
        prop_assert_eq!(ints, vec![start, start + length, created, trigger]);
        prop_assert_eq!(&row[8], client.as_bytes());

        let name = format!("{adv_campaign_id}\0{client}");
        let id = Uuid::new_v5(&Uuid::new_v5(&Uuid::NAMESPACE_URL, b"dinnerbell"), name.as_bytes());
        let ce_id = template.ce_id(&client);
        prop_assert_eq!(str::from_utf8(&ce_id).unwrap(), id.to_string());
    }
}
