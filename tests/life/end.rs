//! The end: half-way through, before a recorded round is published, after completion.

use serde_json::json;

use crate::life::ear::Ear;
use crate::life::scene::{
    LONG, await_row, await_running, await_state, await_told, await_unsent, clients, known, number, pause, slow_stage,
    stage, unmigrated, update, wait_for_second,
};
use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, Setting, Stage, sinks, wait_until};

#[test]
fn a_campaign_whose_end_passes_half_way_stops_within_a_round_and_counts_who_was_not_told() {
    let stage = slow_stage(1);
    stage.subscribers.subscribe("pizzeria", 400);
    let (ear, service) = (Ear::at(&stage), stage.start());
    await_running(&stage, 1);
    let end = epoch_seconds() + 5;
    let campaign = Campaign::now("short", "pizzeria").lasting(end - 60, end);
    stage.send(&campaign);
    await_told(&stage, "short", 10);
    let row = await_state(&stage, "short", "expired");
    let told = row["told"].as_i64().unwrap();
    assert!((10..400).contains(&told), "{told} were told");
    assert_eq!(await_unsent(&stage, "short"), 400 - told);
    let expected = Expected::from([(&campaign, &clients(&stage, "pizzeria")[..told as usize])]);
    stage.await_sinks(&expected, LONG);
    for heard in ear.wait_for("short", told as usize, LONG) {
        // A publication that was begun before the end may take a moment.
        assert!(heard.produced < end as f64 + 1.0, "a draft was produced at {}, the end was {end}", heard.produced);
    }
    service.stop();
    stage.assert_sinks(&expected);
}

/// Small rounds, and a service that dies when it has recorded the given round.
pub fn killed_after_round(stage: &Stage, round: u64, campaign: &Campaign) {
    let mut service = stage.start_failing(&format!("round.sealed@{round}=abort"));
    stage.send(campaign);
    service.wait_for_abort(LONG);
    let end = campaign.adv_campaign_datetime_end;
    assert!(
        epoch_seconds() < end,
        "the machine is too slow for this test: the campaign ended before its round {round}"
    );
    wait_for_second(end);
}

#[test]
fn a_round_that_could_not_be_published_in_time_is_withdrawn_but_for_answers_and_an_extended_end_tells_the_rest() {
    let stage = unmigrated(Setting::default(), |stage| {
        stage.config.set("fanout", "round_rows", 10);
        // Whom the tail scan finds would have a part of the second round, though a later page has them.
        stage.config.set("fanout", "late_subscribers", false);
    });
    stage.subscribers.subscribe("pizzeria", 45);
    let all = clients(&stage, "pizzeria");
    let end = epoch_seconds() + 10;
    let campaign = Campaign::now("short", "pizzeria").lasting(end - 60, end);
    killed_after_round(&stage, 2, &campaign);
    assert_eq!(stage.row_count(), 20);
    let answered = &all[12];
    stage
        .feedback
        .execute(&format!("update public.subscribers_feedback set feedback = 'tasty' where client_id = '{answered}'"));

    let service = stage.start();
    // The answered row has no message, and counts as one who has a draft.
    assert_eq!(await_unsent(&stage, "short"), 34);
    let row = await_state(&stage, "short", "expired");
    assert_eq!((&row["told"], &row["kept"]), (&json!(10), &json!(1)));
    let messages = stage.messages();
    assert_eq!((stage.row_count(), messages.len()), (11, 10));
    stage.dinnerbell_ok(&["verify"]);

    let longer = update(&campaign).lasting(end - 60, end + 3_600);
    stage.send(&longer);
    await_state(&stage, "short", "complete");
    let told_later = all[10..].iter().filter(|client| *client != answered);
    let mut expected = Expected::from([(&campaign, &all[..10])]);
    expected.add(&longer, told_later);
    let difference = || {
        let mut rows = sinks::rows(&stage.feedback);
        rows.retain(|row| row.draft.client != *answered);
        expected.difference(&rows, &sinks::drafts(&stage.messages()))
    };
    assert_eq!(difference(), None);
    assert_eq!((stage.row_count(), number(&stage, "short", "told")), (45, 44));
    stage.dinnerbell_ok(&["verify"]);
    service.stop();
    assert_eq!(difference(), None);
}

/// The withdrawal of what ended first takes so long that the end of another campaign of the round passes meanwhile.
#[test]
#[ignore = "waits for two ends: 25 s"]
fn an_end_that_passes_while_another_campaigns_drafts_are_withdrawn_is_kept_too() {
    const WITHDRAWAL: i64 = 4;
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    stage.subscribers.subscribe("noodle bar", 50);
    let mut service = stage.start_failing("round.sealed@1=abort");
    await_running(&stage, 1);
    pause(&stage, true);
    service.wait_for_log("an operator paused all sending", LONG);
    let end = epoch_seconds() + 15;
    let first = Campaign::now("first", "pizzeria").lasting(end - 60, end);
    let second = Campaign::now("second", "noodle bar").lasting(end - 60, end + WITHDRAWAL - 1);
    for campaign in [&first, &second] {
        stage.send(campaign);
        await_state(&stage, &campaign.adv_campaign_id, "active");
    }
    pause(&stage, false);
    service.wait_for_abort(LONG);
    assert_eq!(stage.row_count(), 55, "both are in the round that is recorded");
    pause(&stage, true);
    stage.feedback.execute(&format!(
        "create function public.slow() returns trigger language plpgsql as 'begin perform pg_sleep({WITHDRAWAL}); return null; end';
         create constraint trigger slow after update on dinnerbell.campaign deferrable initially deferred for each row
           when (new.adv_campaign_id = 'first' and new.told = 0) execute function public.slow()",
    ));
    let service = stage.start();
    service.wait_for_log("\"running\"", LONG);
    assert!(epoch_seconds() < end, "the machine is too slow for this test");
    wait_for_second(end);
    pause(&stage, false);
    for (id, unsent) in [("first", 5), ("second", 50)] {
        assert_eq!(await_unsent(&stage, id), unsent);
        assert_eq!(known(&stage, id).unwrap()["state"], "expired");
    }
    stage.await_sinks(&Expected::default(), LONG);
    service.stop();
    stage.assert_sinks(&Expected::default());
}

#[test]
fn a_late_draft_that_could_not_be_published_in_time_is_withdrawn_and_told_when_the_end_is_put_off() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let first = clients(&stage, "pizzeria");
    let mut service = stage.start_failing("round.sealed@2=abort");
    await_running(&stage, 1);
    let end = epoch_seconds() + 10;
    let campaign = Campaign::now("short", "pizzeria").lasting(end - 60, end);
    stage.send(&campaign);
    await_state(&stage, "short", "complete");
    stage.subscribers.subscribe_clients("pizzeria", &["a newcomer"]);
    service.wait_for_abort(LONG);
    assert!(epoch_seconds() < end, "the machine is too slow for this test: the campaign ended too soon");
    assert_eq!(stage.row_count(), 6);
    wait_for_second(end);

    let service = stage.start();
    assert_eq!(await_unsent(&stage, "short"), 1);
    let row = await_state(&stage, "short", "closed");
    assert_eq!((&row["told"], &row["late"]), (&json!(5), &json!(0)));
    stage.await_sinks(&Expected::from([(&campaign, &first)]), LONG);

    let longer = update(&campaign).lasting(end - 60, end + 3_600);
    stage.send(&longer);
    await_state(&stage, "short", "complete");
    let mut expected = Expected::from([(&campaign, &first)]);
    expected.add(&longer, ["a newcomer"]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_withdrawn_late_draft_of_an_unfinished_campaign_leaves_it_expired_not_closed() {
    let stage = unmigrated(Setting::default(), |stage| {
        stage.config.set("fanout", "round_rows", 60).set("fanout", "rate_limit", 300);
    });
    stage.subscribers.subscribe("pizzeria", 2_000);
    stage.subscribers.subscribe("noodle bar", 20_000);
    let mut service = stage.start_failing("round.sealed@80=abort");
    await_running(&stage, 1);
    let unfinished = Campaign::now("unfinished", "pizzeria");
    stage.send(&unfinished);
    await_told(&stage, "unfinished", 10);
    // It has less time to spare, and takes all pages from now on.
    let urgent = Campaign::now("urgent", "noodle bar");
    stage.send(&urgent.clone().lasting(urgent.adv_campaign_datetime_start, urgent.adv_campaign_datetime_end - 600));
    await_told(&stage, "urgent", 10);
    stage.subscribers.execute(
        "insert into public.subscribers_restaurants (client_id, restaurant_id)
         select '!' || n, 'pizzeria' from generate_series(1, 8000) n",
    );
    service.wait_for_abort(LONG);
    let late = "select count(*) from dinnerbell.round_part join dinnerbell.lane using (lane, seq)
                where adv_campaign_id = 'unfinished' and not has_page and late <> '{}'";
    assert_eq!(stage.feedback.number(late), 1, "the last round was to hold a late draft of it, and no page");
    // As if its end had passed meanwhile: an hour is not waited for.
    stage.feedback.execute(
        "update dinnerbell.campaign set adv_campaign_datetime_end = extract(epoch from clock_timestamp())::int8 - 1
         where adv_campaign_id = 'unfinished'",
    );

    let service = stage.start();
    let unsent = await_unsent(&stage, "unfinished");
    let row = await_state(&stage, "unfinished", "expired");
    assert_eq!(row["told"].as_i64().unwrap() + unsent, 10_000);
    pause(&stage, true);
    wait_until("the lane is at rest", LONG, || stage.unrest().is_none() && stage.row_count() == stage.messages().len());
    service.stop();
    stage.dinnerbell_ok(&["verify"]);
}

/// A round at a step before its publication stands still until its campaign is over.
fn held_up_until_the_end(point: &str) {
    let stage = unmigrated(Setting::default(), |stage| {
        // The frozen instance stays a member of its group.
        stage.config.set("kafka.client", "session.timeout.ms", 30_000).set("fanout", "round_rows", 10);
    });
    stage.subscribers.subscribe("pizzeria", 45);
    let (ear, service) = (Ear::at(&stage), stage.start_failing(&format!("{point}@2=freeze")));
    await_running(&stage, 1);
    let end = epoch_seconds() + 5;
    let campaign = Campaign::now("short", "pizzeria").lasting(end - 60, end);
    stage.send(&campaign);
    service.wait_for_freeze(LONG);
    assert!(epoch_seconds() < end, "the machine is too slow for this test: the campaign ended before its second round");
    wait_for_second(end + 1);
    service.thaw();
    assert_eq!(await_unsent(&stage, "short"), 35);
    assert_eq!(await_state(&stage, "short", "expired")["told"], 10);
    let expected = Expected::from([(&campaign, &clients(&stage, "pizzeria")[..10])]);
    stage.await_sinks(&expected, LONG);
    let heard = ear.wait_for("short", 10, LONG);
    // A round is copied while the one before it is published: that one may have been begun before the end and held up half-way.
    assert!(point == "round.copied" || heard.iter().all(|heard| heard.produced < end as f64));
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn an_end_that_passes_while_a_round_is_copied_is_seen_when_it_is_recorded() {
    held_up_until_the_end("round.copied");
}

#[test]
fn an_end_that_passes_when_a_round_is_recorded_is_seen_before_it_is_published() {
    held_up_until_the_end("round.sealed");
}

#[test]
fn a_complete_campaign_is_closed_by_its_end_and_none_of_it_is_unsent() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let service = stage.start();
    await_running(&stage, 1);
    let end = epoch_seconds() + 5;
    let campaign = Campaign::now("short", "pizzeria").lasting(end - 60, end);
    stage.send(&campaign);
    await_state(&stage, "short", "complete");
    assert!(epoch_seconds() <= end);
    let row = await_state(&stage, "short", "closed");
    assert!(epoch_seconds() >= end);
    assert_eq!((&row["told"], await_unsent(&stage, "short")), (&json!(5), 0));
    stage.subscribers.subscribe_clients("pizzeria", &["too late"]);
    let other = Campaign::now("other", "pizzeria");
    stage.send(&other);
    let all = clients(&stage, "pizzeria");
    let told: Vec<_> = all.iter().filter(|client| *client != "too late").collect();
    let expected = Expected::from([(&campaign, told), (&other, all.iter().collect())]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn however_many_end_at_once_all_are_counted() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 7);
    let now = epoch_seconds();
    for n in 0..35 {
        stage.send(&Campaign::now(&format!("ended-{n}"), "pizzeria").lasting(now - 60, now - 1));
    }
    let service = stage.start();
    wait_until("all are counted", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.campaign where state = 'expired' and unsent = 7") == 35
    });
    await_row(&stage, "ended-0", "expired", |row| row["told"] == 0);
    service.stop();
    stage.assert_sinks(&Expected::default());
}
