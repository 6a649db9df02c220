//! The pause on the real service: nothing is published while it is on, intake goes on, and what waited is told once afterwards.

use std::time::Duration;

use serde_json::{Value, json};

use crate::operate::by_hand::{ByHand, json_of, status};
use crate::support::{Campaign, Expected, Stage, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// A stage whose rounds hold ten drafts.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.config.set("fanout", "round_rows", 10);
    stage.migrate();
    stage
}

/// Sends a campaign to so many new subscribers, without waiting.
fn send(stage: &Stage, expected: &mut Expected, name: &str, subscribers: u64) {
    stage.subscribers.subscribe(name, subscribers);
    let campaign = Campaign::now(name, name);
    expected.add(&campaign, stage.subscribers.clients_of(name));
    stage.send(&campaign);
}

/// Waits until a campaign was received.
fn wait_for_intake(stage: &Stage, campaign: &str) {
    let sql = format!("select count(*) from dinnerbell.campaign where adv_campaign_id = '{campaign}'");
    wait_until("the campaign is received", LONG, || stage.feedback.number(&sql) == 1);
}

fn pause(stage: &Stage) -> Value {
    let (status, paused) = json_of(stage, &["pause", "--reason", "wrong price"]);
    assert_eq!((status, &paused["paused"]), (0, &json!(true)));
    paused
}

fn resume(stage: &Stage) {
    assert_eq!(json_of(stage, &["resume"]).0, 0);
}

#[test]
fn while_all_sending_is_paused_campaigns_are_received_and_nobody_is_told_through_restarts() {
    let (stage, mut expected) = (stage(), Expected::default());
    let service = stage.start();
    send(&stage, &mut expected, "before", 25);
    stage.await_sinks(&expected, LONG);
    pause(&stage);
    let told = expected.clone();
    send(&stage, &mut expected, "during", 25);
    wait_for_intake(&stage, "during");
    wait_until("it shows", LONG, || service.get("/metrics").contains("\ndinnerbell_paused 1\n"));
    let ready = service.get("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains(r#""paused":true"#), "{ready}");
    for list in [["lane", "list"], ["campaign", "list"], ["campaign", "show"]] {
        let mut args = list.to_vec();
        args.extend((list[1] == "show").then_some("during"));
        let output = stage.dinnerbell(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && said.contains("wrong price") && said.contains("dinnerbell resume"),
            "{said}"
        );
    }
    service.stop();
    let service = stage.start();
    send(&stage, &mut expected, "after a restart", 5);
    wait_for_intake(&stage, "after a restart");
    service.wait_for_log("an operator paused all sending", LONG);
    stage.assert_sinks(&told);
    resume(&stage);
    stage.await_sinks(&expected, LONG);
    service.stop();
}

#[test]
fn nothing_becomes_readable_after_the_pause_of_a_campaign_that_is_being_told() {
    let (mut stage, mut expected) = (stage(), Expected::default());
    stage.config.set("fanout", "rate_limit", 200);
    let service = stage.start();
    send(&stage, &mut expected, "giant", 20_000);
    wait_until("it is being told", LONG, || stage.messages().len() > 50);
    let paused = pause(&stage);
    let told = stage.messages().len();
    assert!(told < 20_000, "it was told before the pause");
    // Another campaign is received, and a restart happens, while nothing is told.
    send(&stage, &mut expected, "small", 3);
    wait_for_intake(&stage, "small");
    assert_eq!(stage.messages().len(), told, "{paused}");
    service.stop();
    assert_eq!(stage.messages().len(), told);
    // The pace was for the pause alone.
    stage.config.set("fanout", "rate_limit", 0).set("fanout", "round_rows", 5_000);
    let service = stage.start();
    service.wait_for_log("an operator paused all sending", LONG);
    resume(&stage);
    stage.await_sinks(&expected, LONG);
    service.stop();
}

#[test]
fn a_round_that_was_recorded_before_the_pause_waits_and_does_not_hold_up_intake_or_the_stop() {
    let (stage, mut expected) = (stage(), Expected::default());
    let mut service = stage.start_failing("round.sealed@1=abort");
    send(&stage, &mut expected, "recorded", 25);
    service.wait_for_abort(LONG);
    let paused = pause(&stage);
    assert_eq!((&paused["waiting"][0]["lane"], &paused["waiting"][0]["drafts"]), (&json!(0), &json!(10)), "{paused}");
    let service = stage.start();
    send(&stage, &mut expected, "during", 5);
    wait_for_intake(&stage, "during");
    assert_eq!(stage.messages().len(), 0);
    let log = service.stop();
    assert!(!log.contains("did not finish in time"), "{log}");
    assert_eq!(stage.messages().len(), 0);
    let service = stage.start();
    resume(&stage);
    stage.await_sinks(&expected, LONG);
    service.stop();
}

#[test]
fn an_instance_that_was_frozen_while_the_pause_was_ordered_begins_nothing_when_it_thaws() {
    let (stage, mut expected) = (stage(), Expected::default());
    let service = stage.start_failing("round.sealed@1=freeze");
    send(&stage, &mut expected, "frozen", 25);
    service.wait_for_freeze(LONG);
    pause(&stage);
    service.thaw();
    // It lives and receives; had it published what it held, that would have come first.
    send(&stage, &mut expected, "during", 5);
    wait_for_intake(&stage, "during");
    service.wait_for_log("an operator paused all sending", LONG);
    assert_eq!(stage.messages().len(), 0);
    resume(&stage);
    stage.await_sinks(&expected, LONG);
    service.stop();
}

#[test]
fn a_campaign_whose_end_passes_during_the_pause_is_not_told_any_more() {
    let (stage, mut expected) = (stage(), Expected::default());
    let service = stage.start();
    send(&stage, &mut expected, "before", 5);
    stage.await_sinks(&expected, LONG);
    pause(&stage);
    stage.subscribers.subscribe("short", 7);
    let short = Campaign::now("short", "short");
    let end = crate::support::campaign::epoch_seconds() + 2;
    stage.send(&short.clone().lasting(end - 10, end));
    let state =
        "select count(*) from dinnerbell.campaign where adv_campaign_id = 'short' and state = 'expired' and unsent = 7";
    wait_until("it expires on time, and who was not told is counted", LONG, || stage.feedback.number(state) == 1);
    resume(&stage);
    send(&stage, &mut expected, "afterwards", 5);
    stage.await_sinks(&expected, LONG);
    service.stop();
}

#[test]
fn pausing_and_resuming_twice_changes_nothing_and_says_who_was_first() {
    let by_hand = ByHand::new();
    let stage = &by_hand.stage;
    let (status_of, nothing) = json_of(stage, &["resume"]);
    assert_eq!((status_of, &nothing["changed"], &nothing["ended"]), (0, &json!(false), &Value::Null));
    let first = pause(stage);
    assert_eq!((&first["changed"], &first["reason"]), (&json!(true), &json!("wrong price")));
    assert!(first["by"].as_str().is_some_and(|by| by.ends_with("pause")) && first["since"].is_string(), "{first}");
    let (_, second) = json_of(stage, &["pause", "--reason", "another"]);
    assert_eq!((&second["changed"], &second["reason"]), (&json!(false), &json!("wrong price")));
    assert_eq!(second["since"], first["since"]);
    let (_, resumed) = json_of(stage, &["resume"]);
    assert_eq!((&resumed["changed"], &resumed["ended"]["since"]), (&json!(true), &first["since"]));
    assert!(resumed["resumed_at"].is_string() && resumed["resumed_by"].is_string());
    assert_eq!(json_of(stage, &["resume"]).1["changed"], json!(false));
}

#[test]
fn a_ledger_that_no_service_has_used_cannot_be_paused() {
    let stage = Stage::new();
    stage.migrate();
    let output = stage.dinnerbell(&["pause"]);
    assert_eq!(status(&output), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no service has used this ledger yet"));
}
