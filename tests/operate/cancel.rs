//! `campaign cancel`: before, while and after a campaign is told, with an instance and without one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::operate::by_hand::{json_of, status};
use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, Stage, wait_until};

/// A machine that is busy is given time.
const WITHIN: Duration = Duration::from_secs(60);

fn told(stage: &Stage, id: &str) -> i64 {
    stage.feedback.number(&format!("select told from dinnerbell.campaign where adv_campaign_id = '{id}'"))
}

fn is_known(stage: &Stage, id: &str) -> bool {
    stage.feedback.number(&format!("select count(*) from dinnerbell.campaign where adv_campaign_id = '{id}'")) == 1
}

fn is_complete(stage: &Stage, id: &str) -> bool {
    let sql = "select count(*) from dinnerbell.campaign where state = 'complete' and adv_campaign_id";
    stage.feedback.number(&format!("{sql} = '{id}'")) == 1
}

/// Cancels with the default time-out.
#[track_caller]
fn cancelled(stage: &Stage, id: &str) -> Value {
    let (status, cancelled) = json_of(stage, &["campaign", "cancel", id]);
    assert_eq!(status, 0, "{cancelled}");
    cancelled
}

#[test]
fn a_cancel_while_a_campaign_is_told_stops_it_and_says_how_many_had_been_told() {
    let mut stage = Stage::new();
    stage.subscribers.subscribe("pizzeria", 20_000);
    stage.config.set("fanout", "rate_limit", 200);
    stage.migrate();
    let service = stage.start();
    stage.send(&Campaign::now("slow", "pizzeria"));
    wait_until("some are told", WITHIN, || stage.row_count() > 0);
    let cancelled = cancelled(&stage, "slow");
    assert_eq!((&cancelled["state_before"], &cancelled["state"]), (&json!("active"), &json!("cancelled")));
    assert_eq!((&cancelled["in_effect"], &cancelled["waits_for"]), (&json!(true), &Value::Null));
    let by_then = cancelled["told"].as_i64().expect("a number");
    assert!((1..20_000).contains(&by_then), "{cancelled}");
    wait_until("the others are counted", WITHIN, || {
        let (_, shown) = json_of(&stage, &["campaign", "show", "slow"]);
        shown["not_told"] == json!([{ "why": "cancelled", "clients": 20_000 - by_then }])
    });
    // Anyone who is told in this second is told of another campaign.
    stage.subscribers.subscribe("noodle bar", 5);
    let next = Campaign::now("next", "noodle bar");
    stage.send(&next);
    wait_until("the next campaign is complete", WITHIN, || is_complete(&stage, "next"));
    service.stop();
    assert_eq!(told(&stage, "slow"), by_then);
    assert_eq!(i64::try_from(stage.row_count()).unwrap(), by_then + 5);
    assert_eq!(i64::try_from(stage.messages().len()).unwrap(), by_then + 5);
}

#[test]
fn a_campaign_can_be_cancelled_before_it_starts_after_it_is_complete_and_twice() {
    let stage = Stage::new();
    stage.subscribers.subscribe("pizzeria", 3);
    stage.migrate();
    let service = stage.start();
    let now = epoch_seconds();
    let done = Campaign::now("done", "pizzeria");
    stage.send(&done);
    stage.send(&Campaign::now("later", "pizzeria").lasting(now + 3000, now + 3600));
    stage.send(&Campaign::now("past", "pizzeria").lasting(now - 3600, now - 60));
    wait_until("all are known", WITHIN, || is_complete(&stage, "done") && is_known(&stage, "past"));

    let later = cancelled(&stage, "later");
    assert_eq!((&later["state_before"], &later["told"]), (&json!("scheduled"), &json!(0)));
    let text = stage.dinnerbell_ok(&["campaign", "cancel", "done"]);
    assert!(text.contains("campaign done is cancelled: 3 told"), "{text}");
    let again = cancelled(&stage, "done");
    assert_eq!((&again["state_before"], &again["told"]), (&json!("cancelled"), &json!(3)));
    let changes = stage.feedback.number("select count(*) from dinnerbell.change where adv_campaign_id = 'done'");
    assert_eq!(changes, 1, "a second cancel records nothing");
    let past = cancelled(&stage, "past");
    assert_eq!((&past["state_before"], &past["state"]), (&json!("expired"), &json!("cancelled")));

    stage.subscribers.subscribe_clients("pizzeria", &["too late"]);
    service.stop();
    let before: Vec<String> =
        stage.subscribers.clients_of("pizzeria").into_iter().filter(|c| c != "too late").collect();
    stage.assert_sinks(&Expected::from([(&done, before)]));
}

/// A campaign whose round is recorded and not published, and no instance.
fn recorded_and_not_published() -> Stage {
    let stage = Stage::new();
    stage.subscribers.subscribe("pizzeria", 50);
    stage.migrate();
    let mut service = stage.start_failing("round.sealed@1=abort");
    stage.send(&Campaign::now("offer", "pizzeria"));
    service.wait_for_abort(WITHIN);
    assert_eq!(stage.row_count(), 50, "a round is recorded and not published");
    stage
}

#[test]
fn without_an_instance_a_cancel_is_recorded_and_comes_before_anybody_is_told() {
    let stage = recorded_and_not_published();

    let output = stage.dinnerbell(&["campaign", "cancel", "offer"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(status(&output), 0);
    assert!(text.contains("no instance of the service runs"), "{text}");
    let (status_again, again) = json_of(&stage, &["campaign", "cancel", "offer", "--timeout", "0"]);
    assert_eq!((status_again, &again["in_effect"]), (1, &json!(false)), "{again}");
    assert_eq!(
        stage.feedback.number("select count(*) from dinnerbell.change"),
        1,
        "the same change is not recorded twice"
    );

    let service = stage.start();
    stage.await_sinks(&Expected::default(), WITHIN);
    let cancelled = cancelled(&stage, "offer");
    assert_eq!((&cancelled["in_effect"], &cancelled["told"]), (&json!(true), &json!(0)));
    service.stop();
    stage.assert_sinks(&Expected::default());
}

/// Somebody stops everything by a script, while no instance runs: far more than one transaction applies.
#[test]
fn the_last_of_many_cancels_comes_before_anybody_is_told_too() {
    let stage = recorded_and_not_published();
    stage.feedback.execute(
        "insert into dinnerbell.campaign (adv_campaign_id, lane, state, restaurant_id, adv_campaign_content, adv_campaign_owner,
           adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created)
         select 'another ' || n, 0, 'active', 'nobody''s', 'c', 'o', 'o', adv_campaign_datetime_start, adv_campaign_datetime_end, 1
           from dinnerbell.campaign cross join generate_series(1, 1200) as n where adv_campaign_id = 'offer';
         insert into dinnerbell.change (adv_campaign_id, key, arrived_by)
         select id, convert_to(id, 'UTF8'), 'a script' from (select 'another ' || n as id from generate_series(1, 1200) as n) as others;
         insert into dinnerbell.change (adv_campaign_id, key, arrived_by) values ('offer', convert_to('offer', 'UTF8'), 'a script')",
    );
    let service = stage.start();
    wait_until("all are applied", WITHIN, || {
        stage.feedback.number("select count(*) from dinnerbell.change where judged_as = 'cancellation'") == 1_201
    });
    stage.await_sinks(&Expected::default(), WITHIN);
    assert_eq!(told(&stage, "offer"), 0);
    service.stop();
    stage.assert_sinks(&Expected::default());
}

#[test]
fn an_unknown_campaign_is_most_likely_misspelt() {
    let stage = Stage::new();
    stage.migrate();
    let output = stage.dinnerbell(&["campaign", "cancel", "nobody"]);
    assert_eq!(status(&output), 1);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("there is no campaign nobody") && errors.contains("campaign list"), "{errors}");
    assert_eq!(stage.feedback.number("select count(*) from dinnerbell.campaign"), 0);
}

#[test]
fn a_halted_lane_is_named_where_it_holds_up_a_cancel() {
    let by_hand = crate::operate::by_hand::ByHand::new();
    by_hand.execute("update dinnerbell.lane set halted = 'kafka-refused', halted_at = clock_timestamp()");
    let output = by_hand.stage.dinnerbell(&["campaign", "cancel", "offer", "--timeout", "20"]);
    assert_eq!(status(&output), 1);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("lane 0 is halted (kafka-refused)") && errors.contains("recorded"), "{errors}");
}

/// A hold, as after a fail-over. Records that arrive wait for its end; what an operator orders does not.
#[test]
fn a_cancel_takes_effect_while_all_is_held_and_records_wait() {
    let stage = Stage::new();
    stage.subscribers.subscribe("pizzeria", 5);
    stage.migrate();
    let service = stage.start();
    stage.send(&Campaign::now("offer", "pizzeria"));
    wait_until("it is complete", WITHIN, || is_complete(&stage, "offer"));
    stage.feedback.execute("update dinnerbell.service set compared = ''");
    wait_until("all is held", WITHIN, || service.get("/metrics").contains("\ndinnerbell_held 1\n"));
    let waits = Campaign::now("waits", "pizzeria");
    stage.send(&waits);
    let lag = "\ndinnerbell_lane_lag_records{lane=\"0\"} 1\n";
    wait_until("a record waits", WITHIN, || service.get("/metrics").contains(lag));
    assert_eq!(cancelled(&stage, "offer")["state"], "cancelled");
    assert!(!is_known(&stage, "waits"));
    stage.feedback.execute("update dinnerbell.service set compared = (select min(compared) from dinnerbell.lane)");
    wait_until("it is told", WITHIN, || is_complete(&stage, "waits"));
    service.stop();
}
