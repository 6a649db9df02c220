//! The pause: all sending stops within a second for every instance, and goes on as if nothing had been.

use std::time::Duration;

use crate::life::ear::Ear;
use crate::life::scene::{
    LONG, await_row, await_running, await_state, await_told, await_unsent, cancel, clients, number, pause, slow_stage,
    stage, unmigrated,
};
use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, Setting, Stage};

/// A second, and what a busy machine takes for the round in flight.
const STOPS_WITHIN: Duration = Duration::from_secs(3);
/// Long enough for a slow pace to show.
const WATCHED: Duration = Duration::from_secs(3);

/// Nothing is told while nobody may send.
#[track_caller]
fn nothing_is_told(stage: &Stage, ear: &Ear) -> (i64, usize) {
    let count = || (stage.feedback.number("select sum(told) from dinnerbell.campaign"), heard(ear));
    let before = count();
    std::thread::sleep(WATCHED); // at the slow pace a hundred would be told meanwhile
    assert_eq!(count(), before, "drafts were sent though all sending is paused");
    before
}

fn heard(ear: &Ear) -> usize {
    ["one", "other", "meanwhile"].iter().map(|id| ear.of(id).len()).sum()
}

#[test]
fn a_pause_stops_every_instance_survives_restarts_and_intake_goes_on() {
    let stage = slow_stage(2);
    stage.subscribers.subscribe("pizzeria", 200);
    let ear = Ear::at(&stage);
    let (first, second) = (stage.start(), stage.start());
    await_running(&stage, 2);
    let (one, other) = (Campaign::now("one", "pizzeria"), Campaign::now("other", "pizzeria"));
    stage.send_to(0, &one);
    stage.send_to(1, &other);
    for id in ["one", "other"] {
        await_told(&stage, id, 10);
    }

    pause(&stage, true);
    std::thread::sleep(STOPS_WITHIN); // the claim: after a second nothing is sent
    let (told, _) = nothing_is_told(&stage, &ear);
    assert!(told < 400);
    let meanwhile = Campaign::now("meanwhile", "pizzeria");
    stage.send_to(1, &meanwhile);
    await_state(&stage, "meanwhile", "active");

    first.kill();
    second.stop();
    let (first, second) = (stage.start(), stage.start());
    let scheduled = Campaign::now("after the restart", "nobody's");
    stage.send_to(0, &scheduled);
    await_state(&stage, "after the restart", "active");
    nothing_is_told(&stage, &ear);
    assert_eq!(number(&stage, "meanwhile", "told"), 0);

    pause(&stage, false);
    let all = clients(&stage, "pizzeria");
    let expected = Expected::from([(&one, &all), (&other, &all), (&meanwhile, &all)]);
    stage.await_sinks(&expected, LONG);
    first.stop();
    second.stop();
    stage.assert_sinks(&expected);
}

/// Both were complete before: those who came after the pause are told nothing of the one that ends, nor of the one that is cancelled.
#[test]
fn who_comes_while_sending_is_paused_and_is_not_told_any_more_is_counted() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    await_running(&stage, 1);
    let now = epoch_seconds();
    let short = Campaign::now("short", "pizzeria").lasting(now - 60, now + 15);
    let long = Campaign::now("long", "pizzeria");
    for campaign in [&short, &long] {
        stage.send(campaign);
        await_state(&stage, &campaign.adv_campaign_id, "complete");
    }
    let expected = Expected::from([&short, &long].map(|campaign| (campaign, clients(&stage, "pizzeria"))));
    pause(&stage, true);
    std::thread::sleep(STOPS_WITHIN); // the claim: after a second nothing is sent
    stage.subscribers.subscribe_clients("pizzeria", &["late", "later"]);
    cancel(&stage, 0, &long);
    assert_eq!(await_unsent(&stage, "long"), 2);
    await_state(&stage, "short", "closed");
    assert_eq!(await_unsent(&stage, "short"), 2);
    pause(&stage, false);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn while_sending_is_paused_campaigns_start_and_end_by_the_clock() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    await_running(&stage, 1);
    pause(&stage, true);
    let start = epoch_seconds() + 3;
    let short = Campaign::now("short", "pizzeria").lasting(start, start + 2);
    let long = Campaign::now("long", "pizzeria").lasting(start, start + 3_600);
    [&short, &long].iter().for_each(|campaign| stage.send(campaign));
    await_state(&stage, "long", "scheduled");
    await_state(&stage, "long", "active");
    assert_eq!(await_unsent(&stage, "short"), 5);
    await_row(&stage, "short", "expired", |row| row["state"] == "expired" && row["told"] == 0);
    pause(&stage, false);
    let expected = Expected::from([(&long, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_lane_entered_while_sending_is_paused_takes_in_though_its_last_round_waits_to_be_published() {
    let stage = unmigrated(Setting::default(), |stage| {
        stage.config.set("fanout", "round_rows", 10);
    });
    stage.subscribers.subscribe("pizzeria", 45);
    let mut service = stage.start_failing("round.sealed@2=abort");
    await_running(&stage, 1);
    let (offer, meanwhile) = (Campaign::now("offer", "pizzeria"), Campaign::now("meanwhile", "pizzeria"));
    stage.send(&offer);
    service.wait_for_abort(LONG);
    pause(&stage, true);
    let service = stage.start();
    stage.send(&meanwhile);
    cancel(&stage, 0, &offer);
    await_state(&stage, "meanwhile", "active");
    // Cancelled before its publication was begun, the recorded round will be withdrawn.
    await_state(&stage, "offer", "cancelled");
    assert_eq!((stage.row_count(), stage.messages().len()), (20, 10));

    pause(&stage, false);
    let all = clients(&stage, "pizzeria");
    let expected = Expected::from([(&offer, &all[..10]), (&meanwhile, &all[..])]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}
