//! A giant does not hold up a small one, and the pace is kept.

use std::collections::BTreeMap;

use crate::life::ear::Ear;
use crate::life::scene::{LONG, await_state, await_told, cancel, clients, number, pause, unmigrated};
use crate::support::{Campaign, Expected, Setting, sinks, wait_until};

#[test]
fn every_campaigns_first_page_goes_before_anyones_second_also_when_more_wait_than_memory_holds() {
    const SMALL: usize = 1_150;
    let stage = unmigrated(Setting::default(), |stage| {
        stage.config.set("fanout", "round_rows", 5_000);
    });
    stage.subscribers.subscribe("giant", 8_000);
    stage.subscribers.subscribe("small", 1);
    pause(stage_claimed(&stage), true);
    let service = stage.start();
    let giant = Campaign::now("giant", "giant");
    // The giant is the most urgent of all, so that it has its first page first.
    let giant = giant.clone().lasting(giant.adv_campaign_datetime_start, giant.adv_campaign_datetime_end - 600);
    stage.send(&giant);
    let small: Vec<_> = (0..SMALL).map(|n| Campaign::now(&format!("small-{n}"), "small")).collect();
    let records: String = small.iter().map(|small| format!("{}\n", small.json())).collect();
    stage.kafka.produce_lines(&stage.campaigns, 0, &records);
    wait_until("all are taken in", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.campaign where state = 'active'") == SMALL as i64 + 1
    });
    pause(&stage, false);
    let mut expected = Expected::from([(&giant, clients(&stage, "giant"))]);
    let client = clients(&stage, "small");
    for small in &small {
        expected.add(small, &client);
    }
    stage.await_sinks(&expected, LONG);
    let pages =
        "with page as (select adv_campaign_id, seq, row_number() over (partition by adv_campaign_id order by seq) as n
                 from dinnerbell.round_part where has_page)";
    let last_first = stage.feedback.number(&format!("{pages} select max(seq) from page where n = 1"));
    let first_second = stage.feedback.number(&format!("{pages} select min(seq) from page where n = 2"));
    assert!(
        last_first <= first_second,
        "a second page went in round {first_second}, a first one in round {last_first}"
    );
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_small_campaign_is_told_soon_while_a_giant_one_runs_in_its_lane() {
    let stage = unmigrated(Setting::default(), |stage| {
        stage.config.set("fanout", "round_rows", 1_000);
    });
    stage.subscribers.subscribe("giant", 200_000);
    stage.subscribers.subscribe("small", 50);
    let (ear, service) = (Ear::at(&stage), stage.start());
    let giant = Campaign::now("giant", "giant");
    stage.send(&giant);
    await_told(&stage, "giant", 2_000);
    let mut expected = Expected::default();
    for n in 0..5 {
        let small = Campaign::now(&format!("small-{n}"), "small");
        stage.send(&small);
        let since = std::time::Instant::now();
        ear.wait_for(&small.adv_campaign_id, 50, LONG);
        let took = since.elapsed().as_secs_f64();
        println!("a small campaign was told within {took:.2} s while a giant one ran");
        assert!(took < 8.0, "the small campaign took {took} s");
        expected.add(&small, clients(&stage, "small"));
    }
    assert!(number(&stage, "giant", "told") < 200_000, "the giant was done before the small ones were");
    cancel(&stage, 0, &giant);
    await_state(&stage, "giant", "cancelled");
    wait_until("the lane is at rest", LONG, || stage.unrest().is_none());
    let told = number(&stage, "giant", "told");
    let first = "select client_id from public.subscribers_restaurants where restaurant_id = 'giant'";
    let first = stage.subscribers.text(&format!("{first} order by client_id collate \"C\" limit {told}"));
    expected.add(&giant, first.lines());
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn the_rate_limit_holds_for_the_whole_instance_and_for_newcomers_too() {
    const LIMIT: usize = 100;
    let stage = unmigrated(Setting { lanes: 2, ..Setting::default() }, |stage| {
        stage.config.set("fanout", "rate_limit", LIMIT as i64);
    });
    stage.subscribers.subscribe("pizzeria", 200);
    let service = stage.start();
    let (one, other) = (Campaign::now("one", "pizzeria"), Campaign::now("other", "pizzeria"));
    stage.send_to(0, &one);
    stage.send_to(1, &other);
    ["one", "other"].iter().for_each(|id| drop(await_state(&stage, id, "complete")));
    stage.subscribers.subscribe("pizzeria", 200);
    let all = clients(&stage, "pizzeria");
    let expected = Expected::from([(&one, &all), (&other, &all)]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    stage.assert_sinks(&expected);
    let mut seconds = BTreeMap::<i64, usize>::new();
    sinks::rows(&stage.feedback).iter().for_each(|row| *seconds.entry(row.formed).or_default() += 1);
    println!("drafts formed in each second: {:?}", seconds.values().collect::<Vec<_>>());
    assert!(seconds.values().all(|drafts| *drafts <= 2 * LIMIT), "more than the limit and a burst: {seconds:?}");
    let (first, last) = (seconds.keys().next().unwrap(), seconds.keys().last().unwrap());
    let most = LIMIT * (last - first + 2) as usize;
    assert!(expected.len() <= most, "{} drafts in {} seconds", expected.len(), last - first + 1);
}

/// The ledger is claimed by a first instance: only then can it be paused.
fn stage_claimed(stage: &crate::support::Stage) -> &crate::support::Stage {
    let service = stage.start();
    crate::life::scene::await_running(stage, 1);
    service.stop();
    stage
}
