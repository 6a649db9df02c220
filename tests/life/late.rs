//! Anyone who favours a restaurant while its campaign runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::life::ear::Ear;
use crate::life::scene::{
    LONG, OpenTransaction, await_other_owner, await_row, await_running, await_state, await_told, clients, number,
    slow_stage, stage, update,
};
use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, Service, Stage};

/// A claim of 2 s; a busy machine gets more.
const TOLD_WITHIN: f64 = 8.0;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The newcomer's draft, when it was heard after `since`.
#[track_caller]
fn told_after(ear: &Ear, campaign: &Campaign, client: &str, since: f64) -> f64 {
    let id = &campaign.adv_campaign_id;
    let heard = crate::support::wait_for(&format!("{client} is told of {id}"), LONG, || {
        ear.of(id).into_iter().find(|heard| heard.client == client)
    });
    heard.at - since
}

/// A campaign of five subscribers, all of them told, while its service runs.
fn complete_campaign() -> (Stage, Ear, Service, Campaign) {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let (ear, service) = (Ear::at(&stage), stage.start());
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    await_state(&stage, "offer", "complete");
    (stage, ear, service, campaign)
}

fn unsubscribe(stage: &Stage, client: &str) {
    stage.subscribers.execute(&format!("delete from public.subscribers_restaurants where client_id = '{client}'"));
}

#[test]
fn newcomers_are_told_within_seconds_and_once_of_every_campaign_of_their_restaurant() {
    let stage = stage(2);
    stage.subscribers.subscribe("pizzeria", 5);
    let (ear, service) = (Ear::at(&stage), stage.start());
    let campaigns = ["one", "two", "three"].map(|id| Campaign::now(id, "pizzeria"));
    for (campaign, lane) in campaigns.iter().zip([0, 0, 1]) {
        stage.send_to(lane, campaign);
    }
    campaigns.iter().for_each(|campaign| drop(await_state(&stage, &campaign.adv_campaign_id, "complete")));

    for client in ["newcomer", "hesitant"] {
        stage.subscribers.subscribe_clients("pizzeria", &[client]);
        let since = now();
        if client == "hesitant" {
            // Inserted, deleted and inserted again: one draft all the same.
            told_after(&ear, &campaigns[0], client, since);
            unsubscribe(&stage, client);
            stage.subscribers.subscribe_clients("pizzeria", &[client]);
        }
        for campaign in &campaigns {
            let took = told_after(&ear, campaign, client, since);
            println!("a newcomer was told of {} after {took:.2} s", campaign.adv_campaign_id);
            assert!(took < TOLD_WITHIN, "{client} was told after {took} s");
        }
    }
    // The tail scan comes round again after the second insert: a later newcomer shows that it did.
    stage.subscribers.subscribe_clients("pizzeria", &["last"]);
    let all = clients(&stage, "pizzeria");
    let expected = Expected::from(campaigns.each_ref().map(|campaign| (campaign, &all)));
    stage.await_sinks(&expected, LONG);
    for campaign in &campaigns {
        assert_eq!(number(&stage, &campaign.adv_campaign_id, "late"), 3);
    }
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn while_the_main_pass_runs_newcomers_behind_it_are_told_and_those_who_leave_before_it_comes_are_not() {
    let stage = slow_stage(1);
    stage.subscribers.subscribe("pizzeria", 250);
    stage.subscribers.subscribe_clients("pizzeria", &["~leaves", "~stays"]);
    let (ear, service) = (Ear::at(&stage), stage.start());
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    await_told(&stage, "offer", 20);
    stage.subscribers.execute(
        "begin;
         insert into public.subscribers_restaurants (client_id, restaurant_id) values ('!behind', 'pizzeria'), ('~ahead', 'pizzeria');
         delete from public.subscribers_restaurants where client_id = '~leaves';
         commit",
    );
    let since = now();
    assert!(
        number(&stage, "offer", "told") < 220,
        "the machine is too slow for this test: the main pass is nearly over"
    );
    let took = told_after(&ear, &campaign, "!behind", since);
    println!("a newcomer behind the main pass was told after {took:.2} s");
    assert!(took < TOLD_WITHIN, "told after {took} s");
    assert_eq!(
        ear.of("offer").iter().filter(|heard| heard.client.starts_with('~')).count(),
        0,
        "the pass is not there"
    );
    await_state(&stage, "offer", "complete");
    let expected = Expected::from([(&campaign, clients(&stage, "pizzeria"))]);
    assert_eq!(expected.len(), 253);
    stage.await_sinks(&expected, LONG);
    assert_eq!(number(&stage, "offer", "late"), 1);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn thousands_of_newcomers_at_once_are_told_within_seconds() {
    let (stage, ear, service, campaign) = complete_campaign();
    stage.subscribers.subscribe("pizzeria", 9_000);
    let since = now();
    let heard = ear.wait_for("offer", 9_005, LONG);
    let last = heard.iter().map(|heard| heard.at).fold(0.0, f64::max) - since;
    println!("9,000 newcomers at once were told within {last:.1} s");
    assert!(last < 2.0 * TOLD_WITHIN, "the last of 9,000 newcomers was told after {last} s");
    let expected = Expected::from([(&campaign, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    assert_eq!(number(&stage, "offer", "late"), 9_000);
    service.stop();
    stage.assert_sinks(&expected);
}

/// The tail scan passes the ids that were given so far: somebody who comes last is told.
fn await_tail_scan(stage: &Stage, ear: &Ear, campaign: &Campaign, last: &str) {
    stage.subscribers.subscribe_clients("pizzeria", &[last]);
    told_after(ear, campaign, last, now());
}

#[test]
fn who_subscribes_in_a_transaction_that_commits_behind_later_ones_is_told_within_seconds() {
    let (stage, ear, service, campaign) = complete_campaign();
    let pass = number(&stage, "offer", "repass_at");
    let slow = ["slow", "slower", "slowest"].map(|client| {
        let row = format!("('{client}', 'pizzeria')");
        let insert = format!("insert into public.subscribers_restaurants (client_id, restaurant_id) values {row}");
        (client, OpenTransaction::begin(&stage.subscribers, &insert))
    });
    await_tail_scan(&stage, &ear, &campaign, "quick");

    for (client, transaction) in slow {
        await_tail_scan(&stage, &ear, &campaign, &format!("quicker than {client}"));
        transaction.commit();
        let took = told_after(&ear, &campaign, client, now());
        println!("who committed behind later ids was told after {took:.2} s");
        assert!(took < TOLD_WITHIN, "{client} was told after {took} s");
    }
    assert_eq!(number(&stage, "offer", "repass_at"), pass, "no pass came meanwhile");
    let expected = Expected::from([(&campaign, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    assert_eq!(number(&stage, "offer", "late"), 7);
    service.stop();
    stage.assert_sinks(&expected);
}

/// A newcomer by a change of a row whose id the tail scan has passed, which it does not look for.
fn change_behind_the_tail_scan(stage: &Stage, ear: &Ear, campaign: &Campaign, name: &str) {
    stage.subscribers.subscribe_clients("noodle bar", &[name]);
    await_tail_scan(stage, ear, campaign, &format!("quicker than {name}"));
    let table = "public.subscribers_restaurants";
    stage.subscribers.execute(&format!("update {table} set restaurant_id = 'pizzeria' where client_id = '{name}'"));
}

#[test]
fn a_favourite_changed_to_the_restaurant_is_caught_by_the_pass_after_an_update_and_the_one_before_the_end() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let before = clients(&stage, "pizzeria");
    let (ear, service) = (Ear::at(&stage), stage.start());
    await_running(&stage, 1);
    let end = epoch_seconds() + 45;
    let campaign = Campaign::now("offer", "pizzeria").lasting(end - 60, end);
    stage.send(&campaign);
    await_state(&stage, "offer", "complete");

    change_behind_the_tail_scan(&stage, &ear, &campaign, "one");
    // The pass half a minute before the end is for this one.
    told_after(&ear, &campaign, "one", now());
    await_row(&stage, "offer", "passed for the last time", |row| row["repass_at"].is_null());
    change_behind_the_tail_scan(&stage, &ear, &campaign, "two");
    let longer = update(&campaign).lasting(end - 60, end + 3_600);
    stage.send(&longer);
    told_after(&ear, &longer, "two", now());
    await_row(&stage, "offer", "rescanned", |row| row["repass_at"].as_i64() > Some(0));

    let mut expected = Expected::from([(&campaign, &before)]);
    expected.add(&campaign, ["one", "quicker than one", "quicker than two"]).add(&longer, ["two"]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn newcomers_of_an_outage_are_caught_by_the_pass_after_the_take_over_however_many_ids_came_since() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    await_state(&stage, "offer", "complete");
    service.kill();
    stage.subscribers.subscribe_clients("pizzeria", &["meanwhile"]);
    // More than the tail scan of a new owner reads again.
    stage.subscribers.subscribe("noodle bar", 3_000);
    let service = stage.start();
    let expected = Expected::from([(&campaign, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, Duration::from_secs(60));
    assert_eq!(number(&stage, "offer", "late"), 1);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn whom_the_tail_scan_missed_is_told_by_the_instance_that_takes_the_lane_over() {
    let (stage, ear, owner, campaign) = complete_campaign();
    let other = stage.start();
    change_behind_the_tail_scan(&stage, &ear, &campaign, "missed");
    // More than the tail scan of a new owner reads again.
    stage.subscribers.subscribe("noodle bar", 3_000);
    assert!(number(&stage, "offer", "repass_at") > epoch_seconds() + 120, "no other pass comes meanwhile");
    let pid = owner.pid();
    owner.kill();
    await_other_owner(&stage, pid);
    told_after(&ear, &campaign, "missed", now());
    let expected = Expected::from([(&campaign, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    other.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn whom_the_tail_scan_missed_is_told_by_the_pass_of_every_five_minutes() {
    let (stage, ear, service, campaign) = complete_campaign();
    let until_the_pass = || number(&stage, "offer", "repass_at") - epoch_seconds();
    assert!((200..=301).contains(&until_the_pass()), "five minutes after the page");
    change_behind_the_tail_scan(&stage, &ear, &campaign, "missed");
    assert!(ear.of("offer").iter().all(|heard| heard.client != "missed"), "the tail scan found it");
    // The five minutes are over: the ledger says when that is, and the service looks there five times a second.
    stage.feedback.execute("update dinnerbell.campaign set repass_at = extract(epoch from clock_timestamp())");
    let took = told_after(&ear, &campaign, "missed", now());
    println!("the pass that was due told whom the tail scan missed after {took:.2} s");
    await_row(&stage, "offer", "to be rescanned", |row| row["repass_at"].as_i64() > Some(epoch_seconds()));
    assert!((200..=301).contains(&until_the_pass()), "five minutes after the pass");
    let expected = Expected::from([(&campaign, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn the_pass_before_the_end_begins_the_earlier_the_larger_the_audience_is() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 10_000);
    let service = stage.start();
    await_running(&stage, 1);
    let end = epoch_seconds() + 200;
    let campaign = Campaign::now("offer", "pizzeria").lasting(end - 260, end);
    stage.send(&campaign);
    await_state(&stage, "offer", "complete");
    assert_eq!(number(&stage, "offer", "repass_at"), end - 30 - 2);
    service.stop();
}

#[test]
fn newcomers_whose_ids_restarted_below_those_that_were_seen_are_told_within_seconds() {
    let (stage, ear, service, campaign) = complete_campaign();
    let told = clients(&stage, "pizzeria");
    // The tail scan stands high above where the ids will begin.
    let ids = "alter sequence public.subscribers_restaurants_id_seq restart with";
    stage.subscribers.execute(&format!("{ids} 700000"));
    stage.subscribers.subscribe_clients("pizzeria", &["high"]);
    told_after(&ear, &campaign, "high", now());
    let again: Vec<&str> = told.iter().map(String::as_str).collect();
    stage.subscribers.execute("truncate public.subscribers_restaurants restart identity");
    stage.subscribers.subscribe_clients("pizzeria", &again);
    stage.subscribers.subscribe_clients("pizzeria", &["low"]);
    let took = told_after(&ear, &campaign, "low", now());
    assert!(took < 2.0 * TOLD_WITHIN, "told after {took} s");
    let mut all = told;
    all.extend(["high", "low"].map(str::to_owned));
    stage.await_sinks(&Expected::from([(&campaign, all)]), LONG);
    service.stop();
}
