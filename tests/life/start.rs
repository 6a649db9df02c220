//! Campaigns that start later, and those whose start passed while nobody was there.

use std::time::Duration;

use crate::life::ear::Ear;
use crate::life::scene::{
    LONG, await_other_owner, await_running, await_state, await_unsent, clients, stage, wait_for_second,
};
use crate::support::campaign::epoch_seconds;
use crate::support::{Campaign, Expected, Service, Stage, wait_until};

const SUBSCRIBERS: u64 = 20;

/// A claim of 100 ms; a busy machine gets more.
const STARTS_WITHIN: f64 = 2.0;

/// The first owner takes three campaigns in, and is gone before they start; the next owner starts them on time.
fn starts_on_time_when_the_first_owner(goes: fn(Service), how: &str) {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", SUBSCRIBERS);
    // The database's clock is the one that counts; the reader's is this machine's. Both are the same here.
    let apart = stage.feedback.text("select extract(epoch from clock_timestamp())").trim().parse::<f64>().unwrap()
        - epoch_seconds() as f64;
    assert!((-0.5..2.0).contains(&apart), "the clocks are {apart} s apart");
    let ear = Ear::at(&stage);
    let expected = [12, 30, 60].into_iter().find_map(|lead| try_to_start(&stage, &ear, lead, goes, how));
    let expected = expected.expect("another instance owned the lane before the start");
    stage.assert_sinks(&expected);
}

/// None if the machine was too slow: the lane changed hands only after the start.
fn try_to_start(stage: &Stage, ear: &Ear, lead: i64, goes: fn(Service), how: &str) -> Option<Expected> {
    let first = stage.start();
    let start = epoch_seconds() + lead;
    let campaigns: Vec<_> = (0..3)
        .map(|n| Campaign::now(&format!("later-{lead}-{n}"), "pizzeria").lasting(start + n, start + 3_600))
        .collect();
    campaigns.iter().for_each(|campaign| stage.send(campaign));
    let taken_in = || stage.feedback.text("select count(*) from dinnerbell.campaign").trim() == "3";
    wait_until("the campaigns are taken in", LONG, taken_in);
    let (second, pid) = (stage.start(), first.pid());
    goes(first);
    await_other_owner(stage, pid);
    if epoch_seconds() >= start - 1 {
        second.stop();
        stage.feedback.execute("delete from dinnerbell.campaign; delete from public.subscribers_feedback");
        return None;
    }
    let mut expected = Expected::default();
    for campaign in &campaigns {
        let heard = ear.wait_for(&campaign.adv_campaign_id, SUBSCRIBERS as usize, LONG);
        let starts = campaign.adv_campaign_datetime_start as f64;
        let first = heard.iter().map(|heard| heard.at - starts).fold(f64::MAX, f64::min);
        println!("first owner {how}: first draft readable {:.0} ms after the start", first * 1e3);
        assert!((0.0..STARTS_WITHIN).contains(&first), "the first draft was readable {first} s after the start");
        expected.add(campaign, clients(stage, "pizzeria"));
    }
    stage.await_sinks(&expected, LONG);
    second.stop();
    Some(expected)
}

#[test]
fn a_later_campaign_starts_on_time_though_its_first_owner_was_killed() {
    starts_on_time_when_the_first_owner(Service::kill, "killed");
}

#[test]
fn a_later_campaign_starts_on_time_though_its_first_owner_was_stopped() {
    starts_on_time_when_the_first_owner(|first| drop(first.stop()), "stopped");
}

#[test]
fn after_an_outage_a_campaign_starts_late_inside_its_window_and_expires_past_its_end() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", SUBSCRIBERS);
    let service = stage.start();
    let start = epoch_seconds() + 6;
    let inside = Campaign::now("inside", "pizzeria").lasting(start, start + 3_600);
    let past = Campaign::now("past", "pizzeria").lasting(start, start + 2);
    [&inside, &past].iter().for_each(|campaign| stage.send(campaign));
    ["inside", "past"].iter().for_each(|id| drop(await_state(&stage, id, "scheduled")));
    service.kill();
    let unseen = Campaign::now("ended before it arrived", "pizzeria").lasting(start - 60, start);
    stage.send(&unseen);
    wait_for_second(start + 2);

    let service = stage.start();
    let expected = Expected::from([(&inside, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    for id in ["past", "ended before it arrived"] {
        assert_eq!(await_unsent(&stage, id), SUBSCRIBERS as i64);
        let row = await_state(&stage, id, "expired");
        assert_eq!(row["told"], 0);
    }
    await_state(&stage, "inside", "complete");
    service.stop();
    stage.assert_sinks(&expected);
}

/// Transactions of the database and seconds of CPU of the service, each within ten seconds of idleness.
fn idle(stage: &Stage, service: &Service) -> (i64, f64) {
    let transactions = || {
        let name = &stage.feedback.name;
        stage.feedback.number(&format!("select xact_commit from pg_stat_database where datname = '{name}'"))
    };
    let (before, cpu) = (transactions(), cpu_seconds(service.pid()));
    std::thread::sleep(Duration::from_secs(10)); // what is measured is what happens meanwhile
    (transactions() - before, cpu_seconds(service.pid()) - cpu)
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may hold anything: user and system time are the 12th and 13th word, in hundredths of a second.
    let words: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (words[11].parse::<f64>().unwrap() + words[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
fn ten_thousand_waiting_campaigns_cost_an_idle_instance_nothing() {
    let stage = stage(1);
    let service = stage.start();
    await_running(&stage, 1);
    let (transactions, cpu) = idle(&stage, &service);
    let start = epoch_seconds() + 3_600;
    let later = |n: i64| Campaign::now(&format!("later-{n}"), "pizzeria").lasting(start + n, start + 3_600 + n);
    let records: String = (0..10_000).map(|n| later(n).json() + "\n").collect();
    stage.kafka.produce_lines(&stage.campaigns, 0, &records);
    wait_until("all wait", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.campaign where state = 'scheduled'") == 10_000
    });
    wait_until("the position is reported", LONG, || {
        let committed = stage.kafka.committed(&stage.group, &stage.campaigns);
        committed.iter().any(|committed| committed.offset == 10_000)
    });
    let (transactions_with, cpu_with) = idle(&stage, &service);
    println!(
        "idle for 10 s: {transactions} transactions and {cpu:.2} s of CPU; with 10,000 waiting campaigns {transactions_with} and {cpu_with:.2} s"
    );
    assert!(transactions_with * 10 <= transactions * 11 + 50, "{transactions} transactions became {transactions_with}");
    assert!(cpu_with <= cpu * 2.0 + 0.5, "{cpu} s of CPU became {cpu_with} s");
    service.stop();
}
