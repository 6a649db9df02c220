//! Dead letters: listed, shown so that they harm no terminal, and replayed once.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::operate::by_hand::{ByHand, json_of, status};
use crate::support::{Campaign, Message, Stage, service, wait_until};

const LONG: Duration = Duration::from_secs(60);

fn letter(by_hand: &ByHand, lane: i32, offset: i64, field: &str, value: &str) -> i64 {
    by_hand.stage.feedback.number(&format!(
        "insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, key, value, header_names, header_values, reason, field)
         values (0, {lane}, {offset}, 'k{offset}', {value}, array['h', 'h', 'empty'], array['1'::bytea, 'two'::bytea, null],
         'it is wrong', {field}) returning id"
    ))
}

/// Records of the campaigns topic with their headers, as readers see them.
fn records(stage: &Stage) -> Vec<Message> {
    stage.kafka.read_topic(&stage.campaigns)
}

fn shown(by_hand: &ByHand, id: i64) -> Value {
    let (status, shown) = json_of(&by_hand.stage, &["dead-letter", "show", &id.to_string()]);
    assert_eq!(status, 0);
    shown
}

fn replay(by_hand: &ByHand, args: &[&str]) -> (i32, Value) {
    json_of(&by_hand.stage, &[&["dead-letter", "replay"], args].concat())
}

#[test]
fn dead_letters_are_listed_latest_first_in_pages_and_by_what_is_wrong() {
    let by_hand = ByHand::new();
    let (one, two) = (letter(&by_hand, 0, 1, "'restaurant_id'", "'{}'"), letter(&by_hand, 0, 2, "null", "'[]'"));
    let three = letter(&by_hand, 3, 3, "'restaurant_id'", "null");
    let ids = |args: &[&str]| -> Vec<i64> {
        let (status, list) = json_of(&by_hand.stage, &[&["dead-letter", "list"], args].concat());
        assert_eq!(status, 0);
        list.as_array().unwrap().iter().map(|letter| letter["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&[]), [three, two, one]);
    assert_eq!(ids(&["--limit", "1", "--before", &three.to_string()]), [two]);
    assert_eq!(ids(&["--reason-field", "restaurant_id", "--lane", "0"]), [one]);
    assert_eq!(ids(&["--reason-field", "record"]), [two]);
    by_hand.execute(&format!(
        "update dinnerbell.dead_letter set arrived_at = clock_timestamp() - interval '2 hours', replayed_at = clock_timestamp() where id = {one}"
    ));
    assert_eq!(ids(&["--since", "-1h"]), [three, two]);
    assert_eq!(ids(&["--not-replayed"]), [three, two]);
    let (_, list) = json_of(&by_hand.stage, &["dead-letter", "list", "--limit", "1"]);
    for field in [
        "id",
        "lane",
        "offset",
        "arrived_at",
        "field",
        "reason",
        "key_bytes",
        "value_bytes",
        "publishing_lane",
        "round",
        "replayed_at",
        "replayed_by",
        "in_doubt_since",
        "in_doubt_by",
    ] {
        assert!(list[0].get(field).is_some(), "{field} is missing in {list}");
    }
    assert_eq!(list[0]["value_bytes"], Value::Null);
    assert!(by_hand.stage.dinnerbell_ok(&["dead-letter", "list"]).starts_with("ID"));
}

#[test]
fn a_dead_letter_is_shown_with_escapes_where_bytes_are_no_text() {
    let by_hand = ByHand::new();
    let id = letter(&by_hand, 0, 7, "null", "'\\xff001b5b324a'::bytea");
    by_hand.execute("update dinnerbell.dead_letter set header_values[2] = '\\xff00'");
    let text = by_hand.stage.dinnerbell_ok(&["dead-letter", "show", &id.to_string()]);
    assert!(text.contains(r"\xff\u{0}\u{1b}[2J") && !text.contains('\u{1b}') && text.contains("k7"), "{text}");
    let shown = shown(&by_hand, id);
    assert_eq!((&shown["key"]["text"], &shown["value"]["hex"]), (&json!("k7"), &json!("ff001b5b324a")));
    assert_eq!((&shown["headers"][1]["value"]["hex"], &shown["headers"][2]["value"]), (&json!("ff00"), &Value::Null));
    let output = by_hand.stage.dinnerbell(&["dead-letter", "show", &id.to_string(), "--value"]);
    assert_eq!(output.stdout, b"\xff\x00\x1b[2J");
    let none = by_hand.stage.dinnerbell(&["dead-letter", "show", "999999"]);
    assert_eq!(status(&none), 1);
}

#[test]
fn an_original_is_sent_once_with_its_key_value_and_headers_and_who_did_it_is_kept() {
    let by_hand = ByHand::new();
    let (one, two) = (letter(&by_hand, 0, 1, "null", "'not JSON'"), letter(&by_hand, 9, 2, "null", "null"));
    let (one_text, two_text) = (one.to_string(), two.to_string());
    let (status, dry) = replay(&by_hand, &["--all", "--dry-run"]);
    assert_eq!((status, &dry["replayed"]), (0, &json!([one, two])));
    assert!(records(&by_hand.stage).is_empty(), "a dry run sends nothing");
    let (status, first) = replay(&by_hand, &[&one_text, &two_text]);
    assert_eq!((status, &first["replayed"]), (0, &json!([one, two])), "{first}");
    let (status, second) = replay(&by_hand, &[&one_text, &two_text]);
    assert_eq!((status, &second["already_replayed"]), (0, &json!([one, two])));
    assert_eq!(replay(&by_hand, &["--all"]).1["replayed"], json!([]));
    let sent = records(&by_hand.stage);
    assert_eq!(sent.len(), 2);
    assert_eq!((sent[0].key.as_deref(), sent[0].value.as_deref()), (Some("k1"), Some("not JSON")));
    assert_eq!((sent[1].key.as_deref(), &sent[1].value), (Some("k2"), &None));
    let names: Vec<_> = sent[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["h", "h", "empty"]);
    assert_eq!(sent[0].headers[0].1.as_deref(), Some("1"));
    let kept = shown(&by_hand, one);
    assert!(kept["replayed_at"].is_string() && kept["in_doubt_since"].is_null(), "{kept}");
    assert!(kept["replayed_by"].as_str().is_some_and(|by| by.ends_with("dead-letter replay")), "{kept}");
    let (status, again) = replay(&by_hand, &[&one_text, "--again"]);
    assert_eq!((status, &again["replayed"], records(&by_hand.stage).len()), (0, &json!([one]), 3));
}

/// Runs a replay that a fail point kills.
fn killed_replay(by_hand: &ByHand, point: &str, id: i64) -> Output {
    let stage = &by_hand.stage;
    let config = stage.config.write(stage.dir.path());
    let mut command = service::command(stage.dir.path(), &["dead-letter", "replay", &id.to_string()]);
    command.arg("-c").arg(config).env("DINNERBELL_FAIL_POINT", format!("{point}@1=abort"));
    service::run(command, LONG)
}

#[test]
fn a_replay_that_is_killed_leaves_its_letters_in_doubt_until_somebody_decides() {
    for (point, sent) in [("replay.claimed", 0), ("replay.sent", 1)] {
        let by_hand = ByHand::new();
        let id = letter(&by_hand, 0, 1, "null", "'not JSON'");
        assert!(!killed_replay(&by_hand, point, id).status.success());
        let doubtful = shown(&by_hand, id);
        assert!(doubtful["in_doubt_since"].is_string() && doubtful["replayed_at"].is_null(), "{doubtful}");
        let text = by_hand.stage.dinnerbell_ok(&["dead-letter", "list"]);
        assert!(text.contains("in doubt"), "{text}");
        let (status, refused) = replay(&by_hand, &[&id.to_string()]);
        assert_eq!((status, &refused["in_doubt"]), (1, &json!([id])), "nothing is guessed");
        assert_eq!(replay(&by_hand, &["--all"]).1["in_doubt"], json!([id]));
        assert_eq!(records(&by_hand.stage).len(), sent, "{point}");
        let (status, again) = replay(&by_hand, &[&id.to_string(), "--again"]);
        assert_eq!((status, &again["replayed"]), (0, &json!([id])));
        assert!(shown(&by_hand, id)["in_doubt_since"].is_null());
        assert_eq!(records(&by_hand.stage).len(), sent + 1);
    }
}

#[test]
fn what_cannot_be_replayed_is_said_and_exits_1() {
    let by_hand = ByHand::new();
    let id = letter(&by_hand, 0, 1, "null", "'x'");
    by_hand.execute("update dinnerbell.dead_letter set header_names[1] = '(unreadable)'");
    let (status_of, said) = replay(&by_hand, &[&id.to_string(), "4711"]);
    assert_eq!((status_of, &said["unreadable_headers"], &said["unknown"]), (1, &json!([id]), &json!([4711])));
    let usage = |args: &[&str]| status(&by_hand.stage.dinnerbell(&[&["dead-letter", "replay"], args].concat()));
    assert_eq!(usage(&[]), 2);
    assert_eq!(usage(&["1", "--all"]), 2);
    assert_eq!(usage(&["--all", "--again"]), 2);
    assert_eq!(usage(&["--all", "--since", "yesterday"]), 2);
}

#[test]
fn a_record_that_the_service_refused_is_refused_again_and_counted_once_more() {
    let stage = Stage::new();
    stage.migrate();
    let service = stage.start();
    stage.kafka.produce(&stage.campaigns, Some(0), Some(b"first_message"), Some(b"not JSON"), &[("h", b"v")]);
    stage.send(&Campaign::now("offer", "pizzeria"));
    let letters = || stage.feedback.number("select count(*) from dinnerbell.dead_letter");
    wait_until("it is a dead letter", LONG, || letters() == 1);
    let (status, replayed) = json_of(&stage, &["dead-letter", "replay", "--all"]);
    assert_eq!((status, replayed["replayed"].as_array().map(Vec::len)), (0, Some(1)), "{replayed}");
    wait_until("it came again", LONG, || letters() == 2);
    let (_, left) = json_of(&stage, &["dead-letter", "list", "--not-replayed"]);
    assert_eq!(left.as_array().map(Vec::len), Some(1), "the copy is a letter of its own: {left}");
    service.stop();
}
