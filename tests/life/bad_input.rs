//! Bad input: each with a clear result.

use serde_json::json;

use crate::life::scene::{LONG, await_state, clients, counted, known, reasons, stage, update};
use crate::support::{Campaign, Expected, wait_until};

#[test]
fn a_window_without_a_second_in_it_and_a_null_key_are_dead_letters_that_name_the_field() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    let offer = Campaign::now("offer", "pizzeria");
    let start = offer.adv_campaign_datetime_start;
    stage.send(&offer);
    await_state(&stage, "offer", "complete");
    stage.send(&Campaign::now("empty", "pizzeria").lasting(start, start));
    stage.send(&update(&offer).lasting(start, start - 1));
    stage.kafka.produce(&stage.campaigns, Some(0), None, None, &[]);
    wait_until("all are dead letters", LONG, || counted(&stage, "dead_letters") == 3);
    let reasons = reasons(&stage);
    for (reason, names) in reasons.iter().zip(["adv_campaign_datetime_end", "adv_campaign_datetime_end", "key"]) {
        assert!(reason.contains(names), "{names} is not named by {reason:?}");
    }
    let row = known(&stage, "offer").unwrap();
    assert_eq!((&row["state"], &row["revision"]), (&json!("complete"), &json!(1)));
    assert_eq!(known(&stage, "empty"), None);
    let expected = Expected::from([(&offer, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_campaign_of_nobody_is_complete_at_once_and_tells_whoever_comes() {
    let stage = stage(1);
    let service = stage.start();
    let offer = Campaign::now("offer", "nobody's");
    stage.send(&offer);
    let row = await_state(&stage, "offer", "complete");
    assert_eq!((&row["told"], &row["skipped"]), (&json!(0), &json!(0)));
    stage.subscribers.subscribe("nobody''s", 2);
    let expected = Expected::from([(&offer, clients(&stage, "nobody''s"))]);
    stage.await_sinks(&expected, LONG);
    let row = known(&stage, "offer").unwrap();
    assert_eq!((&row["told"], &row["late"]), (&json!(2), &json!(2)));
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn client_ids_that_are_empty_or_too_long_are_skipped_and_counted_and_block_nobody() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let bad = "insert into public.subscribers_restaurants (client_id, restaurant_id) values
               ('', 'pizzeria'), ('', 'pizzeria'), (repeat('x', 10000), 'pizzeria'), (repeat('y', 257), 'pizzeria')";
    stage.subscribers.execute(bad);
    let longest = "z".repeat(256);
    stage.subscribers.subscribe_clients("pizzeria", &[&longest]);
    let told: Vec<_> = clients(&stage, "pizzeria").into_iter().filter(|c| (1..=256).contains(&c.len())).collect();
    assert_eq!(told.len(), 6);
    let service = stage.start();
    let offer = Campaign::now("offer", "pizzeria");
    stage.send(&offer);
    let mut expected = Expected::from([(&offer, &told)]);
    stage.await_sinks(&expected, LONG);
    let row = await_state(&stage, "offer", "complete");
    assert_eq!((&row["told"], &row["skipped"]), (&json!(6), &json!(3)));
    // As newcomers they hold nobody up either.
    stage.subscribers.execute(bad);
    stage.subscribers.subscribe_clients("pizzeria", &["a good one"]);
    expected.add(&offer, ["a good one"]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}
