//! `campaign preview`: no instance runs, and Kafka is not asked.

use serde_json::{Value, json};

use crate::operate::by_hand::{ByHand, json_of, status};
use crate::operate::documented::assert_documented;
use crate::support::{Campaign, Setting, Stage};

/// A stage whose Kafka cannot be reached, with the campaign in a file.
fn stage(two_databases: bool) -> Stage {
    let mut stage = Stage::with(Setting { two_databases, ..Setting::default() });
    stage.migrate();
    stage.config.set("kafka", "bootstrap_servers", "127.0.0.1:1");
    stage
}

fn file(stage: &Stage, text: &str) -> String {
    let path = stage.dir.path().join("campaign.json");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn preview(stage: &Stage, text: &str) -> (i32, Value) {
    let (status, preview) = json_of(stage, &["campaign", "preview", "--file", &file(stage, text)]);
    assert_documented(&preview, &["campaign preview"]);
    (status, preview)
}

#[test]
fn a_restaurants_audience_is_counted_once_each_and_named_in_part() {
    let mut stage = stage(true);
    stage.subscribers.subscribe_clients("pizzeria", &["c", "a", "b", "a", "", &"x".repeat(257)]);
    stage.config.set("fanout", "rate_limit", 2);
    let (status, preview) = json_of(&stage, &["campaign", "preview", "--restaurant", "pizzeria", "--sample", "2"]);
    assert_documented(&preview, &["campaign preview"]);
    assert_eq!((status, &preview["audience"], &preview["skipped"]), (0, &json!(3), &json!(2)));
    assert_eq!((&preview["will_be_told"], &preview["sample"]), (&json!(3), &json!(["a", "b"])));
    assert_eq!((&preview["pace"], &preview["pace_from"]), (&json!(2.0), &json!("rate_limit")));
    assert_eq!(preview["seconds"], json!(1.5));
    let text = stage.dinnerbell_ok(&["campaign", "preview", "--restaurant", "pizzeria"]);
    assert!(text.contains("2 drafts a second, by fanout.rate_limit") && text.contains("takes         1.5 s"), "{text}");
    let text = stage.dinnerbell_ok(&["campaign", "preview", "--restaurant", "nobody's"]);
    assert!(text.contains("nobody favours this restaurant"), "{text}");
}

#[test]
fn every_mistake_of_a_file_is_told_without_asking_anybody() {
    let stage = stage(false);
    let (status, refused) = preview(&stage, r#"{"restaurant_id": "", "adv_campaign_id": 7}"#);
    assert_eq!((status, &refused["counts_as"], &refused["audience"]), (2, &json!("dead_letter"), &Value::Null));
    assert_eq!(refused["mistakes"].as_array().unwrap().len(), 8, "one for each field: {refused}");
    let output = stage.dinnerbell(&["campaign", "preview", "--file", &file(&stage, "[]")]);
    assert_eq!(crate::operate::by_hand::status(&output), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("must be a JSON object"));
    assert_eq!(crate::operate::by_hand::status(&stage.dinnerbell(&["campaign", "preview"])), 2);
}

#[test]
fn what_is_known_of_the_campaign_is_told() {
    let mut by_hand = ByHand::new();
    by_hand.stage.config.set("kafka", "bootstrap_servers", "127.0.0.1:1");
    by_hand.stage.subscribers.subscribe_clients("pizzeria", &["a", "b", "c", "d"]);
    by_hand.record(1, &["a", "b"]);
    by_hand.row(&by_hand.campaign, "left since");
    let (stage, known) = (&by_hand.stage, by_hand.campaign.clone());
    let counts_as = |campaign: &Campaign| {
        let (status, preview) = preview(stage, &campaign.json());
        (status, preview["counts_as"].as_str().unwrap().to_owned(), preview["will_be_told"].as_i64().unwrap())
    };
    assert_eq!(counts_as(&known), (0, "duplicate".to_owned(), 2));
    let mut update = known.clone();
    update.datetime_created += 1;
    assert_eq!(counts_as(&update), (0, "update".to_owned(), 2));
    let (_, previewed) = preview(stage, &update.json());
    assert_eq!((&previewed["already_told"], &previewed["sample"]), (&json!(2), &json!(["c", "d"])));
    let over = update.clone().lasting(100, 200);
    assert_eq!(counts_as(&over), (0, "update".to_owned(), 0));
    let mut older = known.clone();
    older.datetime_created -= 1;
    older.adv_campaign_content.push('!');
    assert_eq!(counts_as(&older), (0, "older_update".to_owned(), 2));
    let mut conflict = update.clone();
    conflict.restaurant_id = "noodle bar".to_owned();
    assert_eq!(counts_as(&conflict), (2, "dead_letter".to_owned(), 0));
    let fresh = Campaign::now("fresh", "pizzeria");
    assert_eq!(counts_as(&fresh), (0, "campaign".to_owned(), 4));
    by_hand.execute("update dinnerbell.campaign set state = 'cancelled'");
    assert_eq!(counts_as(&update), (0, "older_update".to_owned(), 0));
}

#[test]
fn without_a_limit_the_pace_is_that_of_recent_rounds() {
    let by_hand = ByHand::new();
    let asked = || json_of(&by_hand.stage, &["campaign", "preview", "--restaurant", "pizzeria"]).1;
    assert_eq!((&asked()["pace"], &asked()["pace_from"]), (&Value::Null, &json!("unlimited")));
    for seq in 1..=3 {
        by_hand.record(seq, &[&format!("client {seq}")]);
    }
    by_hand.execute(
        "update dinnerbell.round set drafts = 5000, recorded_at = '2026-01-01'::timestamptz + seq * interval '0.5 s'",
    );
    let measured = asked();
    assert_eq!((&measured["pace"], &measured["pace_from"]), (&json!(10_000.0), &json!("recent_rounds")));
}

#[test]
fn a_server_that_is_away_is_no_mistake_of_the_campaign() {
    let mut stage = stage(false);
    stage.config.set("subscribers", "url", "postgres://nobody@127.0.0.1:1/x");
    let output = stage.dinnerbell(&["campaign", "preview", "--restaurant", "pizzeria"]);
    assert_eq!(status(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("subscribers"));
}
