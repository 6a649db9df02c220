use serde_json::{Value, json};

use crate::by_hand::{ByHand, json_of, status};
use crate::support::Campaign;

#[test]
fn campaigns_are_listed_newest_first_in_pages_and_by_state() {
    let by_hand = ByHand::new();
    let stage = &by_hand.stage;
    for id in ["second", "third"] {
        by_hand.receive(&Campaign::now(id, "noodle bar"));
    }
    by_hand.execute(
        "update dinnerbell.campaign set state = 'expired', unsent = 12, told = 3 where adv_campaign_id = 'second'",
    );
    by_hand.execute(
        "insert into dinnerbell.campaign (adv_campaign_id, lane, state, cancelled_at) values ('never came', 0, 'cancelled', clock_timestamp())",
    );
    let ids = |args: &[&str]| -> Vec<String> {
        let (status, list) = json_of(stage, &[&["campaign", "list"], args].concat());
        assert_eq!(status, 0);
        let list = list.as_array().expect("a list").clone();
        list.iter().map(|campaign| campaign["adv_campaign_id"].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(ids(&[]), ["never came", "third", "second", "offer"]);
    assert_eq!(ids(&["--limit", "2"]), ["never came", "third"]);
    assert_eq!(ids(&["--after", "third"]), ["second", "offer"]);
    assert_eq!(ids(&["--state", "expired"]), ["second"]);
    assert_eq!(ids(&["--restaurant", "noodle bar", "--state", "active"]), ["third"]);
    assert_eq!(status(&stage.dinnerbell(&["campaign", "list", "--after", "nobody"])), 1);

    let (_, list) = json_of(stage, &["campaign", "list", "--state", "expired"]);
    let expired = &list[0];
    assert_eq!((&expired["told"], &expired["unsent"], &expired["late"]), (&json!(3), &json!(12), &json!(0)));
    for field in
        ["restaurant_id", "state", "adv_campaign_datetime_start", "adv_campaign_datetime_end", "audience_as_of"]
    {
        assert!(expired.get(field).is_some(), "{field} is missing in {expired}");
    }
    let table = stage.dinnerbell_ok(&["campaign", "list"]);
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(table.starts_with("CAMPAIGN"), "{table}");
}

#[test]
fn a_campaign_is_shown_with_all_that_is_known_of_it() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b"]);
    let (status, shown) = json_of(&by_hand.stage, &["campaign", "show", "offer"]);
    assert_eq!(status, 0);
    assert_eq!(shown["told"], json!(2));
    assert_eq!(shown["adv_campaign_content"], json!(by_hand.campaign.adv_campaign_content));
    for field in [
        "lane",
        "revision",
        "skipped",
        "kept",
        "received_at",
        "first_draft_at",
        "last_draft_at",
        "unsent",
        "audience_as_of",
    ] {
        assert!(shown.get(field).is_some(), "{field} is missing in {shown}");
    }
    // The content holds a line break, which must not break the table.
    let text = by_hand.stage.dinnerbell_ok(&["campaign", "show", "offer"]);
    assert!(text.lines().all(|line| line.contains("  ")), "{text}");
}

#[test]
fn a_campaign_that_is_not_there_exits_1_and_says_where_to_look() {
    let by_hand = ByHand::new();
    let output = by_hand.stage.dinnerbell(&["campaign", "show", "nobody"]);
    assert_eq!(status(&output), 1);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("there is no campaign nobody") && errors.contains("campaign list"), "{errors}");
}

#[test]
fn lanes_are_listed_with_their_halt_and_its_remedy() {
    let by_hand = ByHand::new();
    let (status, lanes) = json_of(&by_hand.stage, &["lane", "list"]);
    assert_eq!((status, &lanes[0]["halted"]), (0, &Value::Null));
    by_hand.execute(
        "update dinnerbell.lane set halted = 'kafka-refused', halted_found = 'no room', halted_remedy = 'make room',
         halted_at = clock_timestamp()",
    );
    let (_, lanes) = json_of(&by_hand.stage, &["lane", "list"]);
    let halted = &lanes[0]["halted"];
    assert_eq!((&halted["name"], &halted["remedy"]), (&json!("kafka-refused"), &json!("make room")));
    assert_eq!(lanes[0]["counts"]["records"], json!(0));
    let text = by_hand.stage.dinnerbell_ok(&["lane", "list"]);
    assert!(text.contains("make room"), "{text}");
}
