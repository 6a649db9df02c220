//! Orders are kept: each once, with who gave it, and only if it was carried out.

use serde_json::{Value, json};

use crate::operate::by_hand::{ByHand, json_of};
use crate::operate::documented::assert_documented;
use dinnerbell_postgres::sql::fragments::COMPARISON;

fn orders(by_hand: &ByHand, args: &[&str]) -> Vec<Value> {
    let (status, orders) = json_of(&by_hand.stage, &[&["audit"], args].concat());
    assert_eq!(status, 0);
    orders.as_array().expect("a list").clone()
}

fn halt(by_hand: &ByHand, name: &str) {
    by_hand.execute(&format!(
        "update dinnerbell.lane set halted = '{name}', halted_found = 'f', halted_remedy = 'r', halted_at = clock_timestamp()"
    ));
}

fn letter(by_hand: &ByHand) -> String {
    let sql = "insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, value, reason) values (0, 0, 1, '{}', 'r') returning id";
    by_hand.stage.feedback.number(sql).to_string()
}

/// A lane whose partition is gone.
fn orphan(by_hand: &ByHand) {
    by_hand.execute(
        "insert into dinnerbell.lane (lane, lock_key, position, seq, published_seq) values (5, 4712, 10, 4, 4);
         insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created) values (5, 4, 0, 0, 10, 0)",
    );
    by_hand.execute(&format!(
        "update dinnerbell.lane set written = null, compared = (select {COMPARISON} from dinnerbell.service)"
    ));
}

/// An order, what makes it possible, and what is kept of it: what, on which subject, with which id.
type Case = (fn(&ByHand) -> Vec<String>, [Option<&'static str>; 3]);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Every order of the command line, in an order in which each has something to do.
const CASES: [Case; 11] = [
    (|_| words(&["pause", "--reason", "wrong price"]), [Some("paused"), Some("service"), None]),
    (|_| words(&["resume"]), [Some("resumed"), Some("service"), None]),
    (
        |_| words(&["campaign", "cancel", "offer", "--timeout", "0"]),
        [Some("cancelled"), Some("campaign"), Some("offer")],
    ),
    (
        |by_hand| {
            halt(by_hand, "kafka-refused");
            words(&["lane", "resolve", "0", "--retry"])
        },
        [Some("resolved"), Some("lane"), Some("0")],
    ),
    (
        |by_hand| {
            halt(by_hand, "input-trimmed");
            words(&["lane", "resolve", "0", "--restart-at", "earliest"])
        },
        [Some("resolved"), Some("lane"), Some("0")],
    ),
    (
        |by_hand| {
            halt(by_hand, "rows-removed");
            words(&["lane", "resolve", "0", "--tell-again"])
        },
        [Some("resolved"), Some("lane"), Some("0")],
    ),
    (
        |by_hand| {
            by_hand.record(1, &["a", "b"]);
            halt(by_hand, "round-damaged");
            words(&["lane", "resolve", "0", "--accept-rows"])
        },
        [Some("resolved"), Some("lane"), Some("0")],
    ),
    (
        |by_hand| {
            halt(by_hand, "mark-missing");
            words(&["lane", "resolve", "--all", "--from-kafka"])
        },
        [Some("resolved"), Some("lane"), Some("0")],
    ),
    (
        |by_hand| {
            halt(by_hand, "notifications-replaced");
            words(&["lane", "resolve", "--all", "--accept-topic"])
        },
        [Some("resolved"), Some("lanes"), None],
    ),
    (
        |by_hand| {
            orphan(by_hand);
            words(&["lane", "adopt", "5", "--into", "0"])
        },
        [Some("adopted"), Some("lane"), Some("5")],
    ),
    (
        |by_hand| vec!["dead-letter".into(), "replay".into(), letter(by_hand)],
        [Some("replayed"), Some("dead_letters"), None],
    ),
];

#[test]
fn each_order_is_kept_once_with_who_gave_it_and_on_what() {
    let by_hand = ByHand::new();
    for (number, (prepare, [what, subject, id])) in CASES.into_iter().enumerate() {
        let args = prepare(&by_hand);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let said = by_hand.stage.dinnerbell(&args).stderr;
        let kept = orders(&by_hand, &[]);
        assert_eq!(kept.len(), number + 1, "{args:?} is kept once: {}: {kept:#?}", String::from_utf8_lossy(&said));
        let order = &kept[0];
        assert_documented(order, &["audit"]);
        assert_eq!([order["what"].as_str(), order["subject"].as_str()], [what, subject], "{args:?}: {order}");
        assert!(id.is_none() || order["subject_id"].as_str() == id, "{args:?}: {order}");
        assert_eq!(order["origin"], json!("command line"));
        assert!(order["who"].as_str().is_some_and(|who| !who.is_empty() && !who.contains(',')), "{order}");
    }
    assert_eq!(orders(&by_hand, &[]).last().expect("the pause")["details"], json!("wrong price"));
}

#[test]
fn an_order_that_cannot_be_kept_is_not_carried_out() {
    let by_hand = ByHand::new();
    by_hand.execute("alter table dinnerbell.audit add constraint nobody check (who = '')");
    let state = || {
        let tables = ["service", "lane", "campaign", "change", "dead_letter", "round"];
        // A command that takes a lane moves its epoch before anything is ordered, and a claim of a command that fails is released.
        let rows = |table: &&str| {
            by_hand.stage.feedback.query(&format!("select to_jsonb(t) - '{{epoch,owner,entered_at,lock_key,halted,halted_found,halted_at,halted_remedy,resolved_at,resolved_by,compared,feedback_table,feedback_oid,service_oid,written,comparison}}'::text[] as row from dinnerbell.{table} t order by 1::text"))
        };
        tables.iter().map(rows).collect::<Vec<_>>()
    };
    for (prepare, _) in CASES {
        let args = prepare(&by_hand);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (before, halted) = (state(), by_hand.lane()["halted"].clone());
        let refused = by_hand.stage.dinnerbell(&args);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        if args != ["resume"] {
            assert!(refused.status.code() == Some(1), "{args:?}: {said}");
        }
        assert_eq!((state(), &by_hand.lane()["halted"]), (before, &halted), "{args:?} changes nothing: {said}");
    }
}

#[test]
fn what_changes_nothing_is_no_order_and_pages_go_on_behind_the_last_one() {
    let by_hand = ByHand::new();
    for args in
        [&["resume"][..], &["pause"], &["pause"], &["lane", "resolve", "0", "--retry"], &["resume"], &["resume"]]
    {
        by_hand.stage.dinnerbell(args);
    }
    halt(&by_hand, "kafka-refused");
    by_hand.stage.dinnerbell(&["lane", "resolve", "0", "--retry", "--dry-run"]);
    let what = |args: &[&str]| -> Vec<String> {
        orders(&by_hand, args).iter().map(|order| order["what"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(what(&[]), ["resumed", "paused"]);
    let last = orders(&by_hand, &["--limit", "1"])[0]["id"].to_string();
    assert_eq!(what(&["--after", &last]), ["paused"]);
    assert_eq!(what(&["--who", "nobody of this name"]), [""; 0]);
    by_hand.execute("update dinnerbell.audit set at = at - interval '2 days' where what = 'paused'");
    assert_eq!(what(&["--since", "-24h"]), ["resumed"]);
    let text = by_hand.stage.dinnerbell_ok(&["audit"]);
    assert!(text.starts_with("ID") && text.lines().count() == 3, "{text}");
}
