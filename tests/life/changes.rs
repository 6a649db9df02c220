//! Updates, duplicates, conflicts and cancellations: through the campaign's lane, another lane, or an operator.

use std::time::Duration;

use serde_json::{Value, json};

use crate::life::ear::Ear;
use crate::life::scene::{
    LONG, await_row, await_running, await_state, await_told, await_unsent, cancel, cancel_by_operator, clients,
    counted, expect_versions, known, number, pause, reasons, slow_stage, stage, told_by, unmigrated, update,
    wait_for_second,
};
use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, Setting, Stage, wait_until};

/// How a cancellation is ordered.
type Order = fn(&Stage, &Campaign);

/// Takes some seconds at the slow pace.
const SLOW: u64 = 150;

fn await_revision(stage: &Stage, id: &str, revision: i64) -> Value {
    await_row(stage, id, "updated", |row| row["revision"].as_i64() >= Some(revision))
}

fn new_content_reaches_those_not_yet_told_through_lane(lane: i32) {
    let stage = slow_stage(2);
    stage.subscribers.subscribe("pizzeria", SLOW);
    let service = stage.start();
    let old = Campaign::now("offer", "pizzeria");
    stage.send_to(0, &old);
    await_told(&stage, "offer", 20);
    let new = update(&old);
    stage.send_to(lane, &new);
    let told = await_revision(&stage, "offer", 2)["told"].as_i64().unwrap();
    await_state(&stage, "offer", "complete");
    let with_old_content = told_by(&stage, &old).len() as i64;
    assert!(with_old_content <= told, "{with_old_content} got the old content, {told} were told before the update");
    let expected = expect_versions(&stage, &old, &new);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn an_update_reaches_those_who_are_not_yet_told() {
    new_content_reaches_those_not_yet_told_through_lane(0);
}

#[test]
fn an_update_through_another_lane_reaches_those_who_are_not_yet_told() {
    new_content_reaches_those_not_yet_told_through_lane(1);
}

#[test]
fn an_end_that_is_moved_takes_effect_within_one_round_in_both_directions() {
    let stage = slow_stage(2);
    stage.subscribers.subscribe("pizzeria", SLOW);
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    let start = campaign.adv_campaign_datetime_start;
    stage.send_to(0, &campaign);
    await_told(&stage, "offer", 20);
    let ended = update(&campaign).lasting(start, epoch_seconds() - 1);
    stage.send_to(1, &ended);
    let told = await_revision(&stage, "offer", 2)["told"].as_i64().unwrap();
    // What was recorded when the update came is withdrawn or was being published.
    let row = await_state(&stage, "offer", "expired");
    assert!((told - 10..=told).contains(&row["told"].as_i64().unwrap()), "told {told} before the update, then {row}");
    let unsent = await_unsent(&stage, "offer");
    assert_eq!(unsent + number(&stage, "offer", "told"), SLOW as i64);

    let longer = update(&ended).lasting(start, epoch_seconds() + 3_600);
    stage.send_to(1, &longer);
    let row = await_state(&stage, "offer", "complete");
    assert_eq!((&row["told"], &row["unsent"]), (&json!(SLOW), &Value::Null));
    let expected = expect_versions(&stage, &campaign, &longer);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_cancellation_stops_a_campaign_half_way_whoever_orders_it() {
    let stage = slow_stage(2);
    let service = stage.start();
    let orders: [(&str, Order); 3] = [
        ("tombstone in its lane", |stage, campaign| cancel(stage, 0, campaign)),
        ("tombstone in another lane", |stage, campaign| cancel(stage, 1, campaign)),
        ("operator", cancel_by_operator),
    ];
    let mut expected = Expected::default();
    for (id, order) in orders {
        stage.subscribers.subscribe(id, SLOW);
        let campaign = Campaign::now(id, id);
        stage.send_to(0, &campaign);
        await_told(&stage, id, 20);
        order(&stage, &campaign);
        await_state(&stage, id, "cancelled");
        // What was recorded and not begun is withdrawn at the takeover.
        wait_until("the lanes are at rest", LONG, || stage.unrest().is_none());
        let told = number(&stage, id, "told") as usize;
        assert!((10..SLOW as usize).contains(&told), "{id}: {told} were told");
        assert_eq!(await_unsent(&stage, id), (SLOW as usize - told) as i64, "{id}: the others were not told");
        expected.add(&campaign, &clients(&stage, id)[..told]);
    }
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
    assert_eq!(counted(&stage, "cancellations"), 1);
    assert_eq!(counted(&stage, "handed_over"), 1);
}

#[test]
fn an_idle_owner_notices_what_another_lane_received_within_a_quarter_of_a_second() {
    let stage = stage(2);
    let service = stage.start();
    let campaigns: Vec<_> = (0..8).map(|n| Campaign::now(&format!("offer-{n}"), "nobody's")).collect();
    campaigns.iter().for_each(|campaign| stage.send_to(0, campaign));
    campaigns.iter().for_each(|campaign| drop(await_state(&stage, &campaign.adv_campaign_id, "complete")));
    for campaign in &campaigns {
        cancel(&stage, 1, campaign);
        await_state(&stage, &campaign.adv_campaign_id, "cancelled");
    }
    let took = "select max((extract(epoch from judged_at - arrived_at) * 1000)::int8) from dinnerbell.change";
    let longest = stage.feedback.number(took);
    println!("changes noticed within {longest} ms");
    assert!(longest < 2_000, "a change was applied after {longest} ms");
    service.stop();
}

#[test]
fn a_tombstone_for_an_unknown_campaign_cancels_what_comes_later() {
    let stage = stage(2);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    cancel(&stage, 0, &campaign);
    let row = await_state(&stage, "offer", "cancelled");
    assert_eq!((&row["restaurant_id"], &row["told"]), (&Value::Null, &json!(0)));
    stage.send_to(0, &campaign);
    stage.send_to(1, &update(&campaign));
    wait_until("both are ignored", LONG, || {
        counted(&stage, "older_updates") == 1
            && stage.feedback.number("select count(*) from dinnerbell.change where judged_as = 'ignored'") == 1
    });
    assert_eq!(known(&stage, "offer").unwrap()["state"], "cancelled");
    service.stop();
    stage.assert_sinks(&Expected::default());
}

#[test]
fn a_complete_campaign_can_be_cancelled_and_stays_so() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let all = clients(&stage, "pizzeria");
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    await_state(&stage, "offer", "complete");
    cancel(&stage, 0, &campaign);
    await_state(&stage, "offer", "cancelled");
    assert_eq!(await_unsent(&stage, "offer"), 0);
    stage.subscribers.subscribe_clients("pizzeria", &["too late"]);
    // Neither an update nor a newcomer changes anything; who waits for the tail scan sees it pass by another campaign.
    stage.send(&update(&campaign));
    stage.subscribers.subscribe("noodle bar", 1);
    let other = Campaign::now("other", "noodle bar");
    stage.send(&other);
    await_state(&stage, "other", "complete");
    stage.subscribers.subscribe_clients("noodle bar", &["late"]);
    let mut expected = Expected::from([(&campaign, &all)]);
    expected.add(&other, clients(&stage, "noodle bar"));
    stage.await_sinks(&expected, LONG);
    let row = known(&stage, "offer").unwrap();
    assert_eq!((&row["state"], &row["told"], &row["unsent"]), (&json!("cancelled"), &json!(5), &json!(0)));
    assert_eq!(counted(&stage, "older_updates"), 1);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_campaign_that_waits_expired_or_was_closed_can_be_cancelled_for_ever() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    await_running(&stage, 1);
    let now = epoch_seconds();
    let closed = Campaign::now("closed", "pizzeria").lasting(now - 60, now + 15);
    let expired = Campaign::now("expired", "pizzeria").lasting(now - 60, now - 1);
    let scheduled = Campaign::now("scheduled", "pizzeria").lasting(now + 25, now + 3_600);
    for campaign in [&closed, &expired, &scheduled] {
        stage.send(campaign);
    }
    for id in ["scheduled", "expired", "closed"] {
        await_state(&stage, id, id);
    }
    let longer = |of: &Campaign| update(of).lasting(now - 60, now + 3_600);
    for campaign in [&closed, &expired, &scheduled] {
        cancel(&stage, 0, campaign);
        stage.send(&longer(campaign));
    }
    wait_until("all is applied", LONG, || counted(&stage, "older_updates") == 3);
    wait_for_second(now + 26);
    for id in ["closed", "expired", "scheduled"] {
        assert_eq!(known(&stage, id).unwrap()["state"], "cancelled");
    }
    let expected = Expected::from([(&closed, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_start_that_is_moved_into_the_future_holds_an_active_campaign_up_until_then() {
    let stage = slow_stage(1);
    stage.subscribers.subscribe("pizzeria", SLOW);
    let (ear, service) = (Ear::at(&stage), stage.start());
    let old = Campaign::now("offer", "pizzeria");
    stage.send(&old);
    await_told(&stage, "offer", 20);
    let start = epoch_seconds() + 5;
    let new = update(&old).lasting(start, start + 3_600);
    stage.send(&new);
    await_state(&stage, "offer", "scheduled");
    assert!(epoch_seconds() <= start, "the machine is too slow for this test");
    await_state(&stage, "offer", "complete");
    let expected = expect_versions(&stage, &old, &new);
    stage.await_sinks(&expected, LONG);
    let with_new_content = told_by(&stage, &new);
    for heard in ear.wait_for("offer", SLOW as usize, LONG) {
        let too_early = with_new_content.contains(&heard.client) && heard.produced < start as f64;
        assert!(!too_early, "{} was told at {}, before the new start {start}", heard.client, heard.produced);
    }
    service.stop();
    stage.assert_sinks(&expected);
}

/// Somebody pauses all sending, corrects the window and resumes; a round of the campaign is recorded, and waits to be published.
#[test]
fn a_start_that_is_corrected_during_a_pause_takes_back_what_was_recorded_before() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 50);
    let mut service = stage.start_failing("round.sealed@1=abort");
    let wrong = Campaign::now("offer", "pizzeria");
    stage.send(&wrong);
    service.wait_for_abort(LONG);
    assert_eq!(stage.row_count(), 50, "a round is recorded and not published");
    pause(&stage, true);
    let service = stage.start();
    service.wait_for_log("\"running\"", LONG);
    let start = epoch_seconds() + 3_600;
    let later = update(&wrong).lasting(start, start + 3_600);
    stage.send(&later);
    await_state(&stage, "offer", "scheduled");

    pause(&stage, false);
    await_row(&stage, "offer", "taken back", |row| row["told"] == 0);
    stage.await_sinks(&Expected::default(), LONG);
    let row = known(&stage, "offer").unwrap();
    assert_eq!((&row["state"], &row["unsent"]), (&json!("scheduled"), &Value::Null));

    let now = update(&later).lasting(start - 3_700, start);
    stage.send(&now);
    await_state(&stage, "offer", "complete");
    let expected = Expected::from([(&now, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_complete_campaign_goes_through_scheduled_complete_closed_and_back_as_its_window_is_moved() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let first_clients = clients(&stage, "pizzeria");
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    await_state(&stage, "offer", "complete");

    let start = epoch_seconds() + 8;
    let again = update(&campaign).lasting(start, start + 3_600);
    stage.send(&again);
    await_state(&stage, "offer", "scheduled");
    stage.subscribers.subscribe_clients("pizzeria", &["meanwhile"]);
    let mut expected = Expected::from([(&campaign, &first_clients)]);
    expected.add(&again, ["meanwhile"]);
    stage.await_sinks(&expected, LONG);
    assert!(epoch_seconds() >= start);
    await_state(&stage, "offer", "complete");

    let ended = update(&again).lasting(start, start + 1);
    stage.send(&ended);
    await_state(&stage, "offer", "closed");
    assert_eq!(await_unsent(&stage, "offer"), 0);
    stage.subscribers.subscribe_clients("pizzeria", &["after the end"]);
    let longer = update(&ended).lasting(start, start + 3_600);
    stage.send(&longer);
    await_state(&stage, "offer", "complete");
    expected.add(&longer, ["after the end"]);
    stage.await_sinks(&expected, LONG);
    let row = known(&stage, "offer").unwrap();
    assert_eq!((&row["told"], &row["late"], &row["unsent"]), (&json!(7), &json!(2), &Value::Null));
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn an_update_does_not_call_a_campaign_complete_whose_last_page_waits_to_be_published() {
    let stage = unmigrated(Setting { own_kafka: true, ..Setting::default() }, |stage| {
        // The lane stays assigned while Kafka stands still.
        stage.config.set("kafka.client", "session.timeout.ms", 60_000);
    });
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    await_running(&stage, 1);
    pause(&stage, true);
    service.wait_for_log("an operator paused all sending", LONG);
    let offer = Campaign::now("offer", "pizzeria");
    stage.send(&offer);
    await_state(&stage, "offer", "active");
    stage.kafka.freeze();
    pause(&stage, false);
    await_told(&stage, "offer", 5);
    let newer = update(&offer);
    let value = newer.json().replace('\'', "''");
    stage.feedback.execute(&format!(
        "insert into dinnerbell.change (adv_campaign_id, value, arrived_by) values ('offer', convert_to('{value}', 'UTF8'), 'a test')"
    ));
    let row = await_revision(&stage, "offer", 2);
    assert_eq!(row["state"], "active", "nobody has heard of it yet");
    stage.kafka.thaw();
    await_state(&stage, "offer", "complete");
    let expected = Expected::from([(&offer, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn duplicates_and_older_versions_are_ignored_and_contradictions_are_dead_letters_in_any_lane() {
    let stage = stage(2);
    stage.subscribers.subscribe("pizzeria", 5);
    stage.subscribers.subscribe("noodle bar", 5);
    let service = stage.start();
    let offer = Campaign::now("offer", "pizzeria");
    let newest = update(&update(&offer));
    stage.send_to(0, &newest);
    await_state(&stage, "offer", "complete");
    let other_content = Campaign { adv_campaign_content: "something else".to_owned(), ..newest.clone() };
    let elsewhere = |of: Campaign| Campaign { restaurant_id: "noodle bar".to_owned(), ..of };
    for lane in 0..2 {
        stage.send_to(lane, &newest); // a duplicate
        stage.send_to(lane, &offer); // older
        stage.send_to(lane, &elsewhere(update(&offer))); // older, and of another restaurant
        stage.send_to(lane, &other_content); // the same version with other content
        stage.send_to(lane, &elsewhere(update(&newest))); // newer, and of another restaurant
    }
    wait_until("everything is applied", LONG, || {
        counted(&stage, "records") == 11
            && stage.feedback.number("select count(*) from dinnerbell.change where judged_as is not null") == 5
    });
    let counts = |column| counted(&stage, column);
    assert_eq!((counts("campaigns"), counts("duplicates"), counts("older_updates")), (1, 1, 2));
    assert_eq!((counts("dead_letters"), counts("handed_over"), counts("updates")), (2, 5, 0));
    let applied = "select count(*) from dinnerbell.change where judged_as = ";
    let judged_as = |what: &str| stage.feedback.number(&format!("{applied}'{what}'"));
    assert_eq!((judged_as("ignored"), judged_as("dead letter")), (3, 2));
    let mut reasons = reasons(&stage);
    reasons.sort();
    let begin: Vec<_> = reasons.iter().map(|reason| reason.split(':').next().unwrap()).collect();
    assert_eq!(begin, ["datetime_created", "datetime_created", "restaurant_id", "restaurant_id"]);
    wait_until("each is published once", Duration::from_secs(60), || {
        stage.kafka.read_topic(&stage.dead_letters).len() == 4
    });
    let expected = Expected::from([(&newest, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}
