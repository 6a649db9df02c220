//! A giant does not hold up a small one, and the pace is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::life::ear::Ear;
use crate::life::scene::{LONG, await_state, await_told, cancel, clients, counted, number, pause, unmigrated};
use crate::support::{Campaign, Expected, Setting, Stage, sinks, wait_until};

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

/// A sender that does not stop: a newer version of one campaign a hundred times a second.
struct Updates {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Updates {
    fn of(stage: &Stage, campaign: &Campaign) -> Self {
        let producer: BaseProducer = stage.kafka.client().set("linger.ms", "0").create().unwrap();
        let (topic, campaign, ended) = (stage.campaigns.clone(), campaign.clone(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                let versions = (0..).take_while(|_| !ended.load(Ordering::Relaxed));
                for value in versions.map(|number| version(&campaign, number).json()) {
                    let record = BaseRecord::to(&topic).partition(0).key(&campaign.adv_campaign_id).payload(&value);
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                    producer.poll(Duration::from_millis(10));
                }
                producer.flush(LONG).unwrap();
            }
        });
        Self { ended, thread }
    }

    fn stop(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn version(of: &Campaign, number: i64) -> Campaign {
    let content = format!("version {number}");
    Campaign { datetime_created: of.datetime_created + number, adv_campaign_content: content, ..of.clone() }
}

#[test]
fn a_campaign_that_is_updated_a_hundred_times_a_second_holds_up_nobody_and_is_told_itself() {
    const CROWD: usize = 20_000;
    const SOON: Duration = Duration::from_secs(5);
    let stage = unmigrated(Setting::default(), |_| {});
    stage.subscribers.subscribe("giant", CROWD as u64);
    stage.subscribers.subscribe("small", 10);
    let (ear, service) = (Ear::at(&stage), stage.start());
    let giant = Campaign::now("giant", "giant");
    let updates = Updates::of(&stage, &giant);
    wait_until("updates are taken in", LONG, || counted(&stage, "updates") >= 50);
    let small: Vec<_> = (0..3).map(|number| Campaign::now(&format!("small-{number}"), "small")).collect();
    for small in &small {
        stage.send(small);
        ear.wait_for(&small.adv_campaign_id, 10, SOON);
    }
    await_told(&stage, "giant", CROWD as i64);
    updates.stop();
    // Whichever version each of the crowd was told: everybody once, in both sinks.
    let rows = sinks::rows(&stage.feedback).into_iter().map(|row| row.draft);
    let told: Vec<_> = rows.filter(|draft| draft.campaign == "giant").collect();
    let distinct: BTreeSet<_> = told.iter().map(|draft| &draft.client).collect();
    assert!(distinct.iter().eq(clients(&stage, "giant").iter().collect::<BTreeSet<_>>().iter()), "{}", distinct.len());
    let mut expected = Expected::default();
    for draft in &told {
        expected.add(&version(&giant, draft.created - giant.datetime_created), [&draft.client]);
    }
    for small in &small {
        expected.add(small, clients(&stage, "small"));
    }
    stage.await_sinks(&expected, LONG);
    service.stop();
}

#[test]
fn newcomers_of_a_restaurant_with_many_campaigns_are_told_once_of_each_in_rounds_no_larger_than_others() {
    const CAMPAIGNS: usize = 100;
    const NEWCOMERS: u64 = 200;
    const ROUND_ROWS: i64 = 1_000;
    let stage = unmigrated(Setting::default(), |stage| {
        stage.config.set("fanout", "round_rows", ROUND_ROWS);
    });
    stage.subscribers.subscribe("pizzeria", 1);
    let service = stage.start();
    let all: Vec<_> = (0..CAMPAIGNS).map(|n| Campaign::now(&format!("offer-{n}"), "pizzeria")).collect();
    let records: String = all.iter().map(|campaign| format!("{}\n", campaign.json())).collect();
    stage.kafka.produce_lines(&stage.campaigns, 0, &records);
    wait_until("all are complete", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.campaign where state = 'complete'") == CAMPAIGNS as i64
    });
    stage.subscribers.subscribe("pizzeria", NEWCOMERS);
    let mut expected = Expected::default();
    let clients = clients(&stage, "pizzeria");
    for campaign in &all {
        expected.add(campaign, &clients);
    }
    stage.await_sinks(&expected, LONG);
    service.stop();
    let largest = stage.feedback.number("select max(drafts) from dinnerbell.round");
    assert!(largest <= ROUND_ROWS, "a round had {largest} drafts");
    assert!(largest > ROUND_ROWS / 2, "{largest} drafts were the most of a round: they are not told one by one");
}

#[test]
fn a_campaign_with_large_drafts_has_rounds_of_fewer_and_does_not_hold_up_a_small_one() {
    const CROWD: u64 = 1_500;
    let stage = unmigrated(Setting::default(), |_| {});
    stage.subscribers.subscribe("giant", CROWD);
    stage.subscribers.subscribe("small", 10);
    let (ear, service) = (Ear::at(&stage), stage.start());
    // Each of these characters takes six bytes in JSON: a draft has a hundred thousand, and they are hard to compress.
    let characters = (0..16_384_u32).map(|n| char::from((n.wrapping_mul(2_654_435_761) >> 16) as u8 % 31 + 1));
    let giant = Campaign { adv_campaign_content: characters.collect(), ..Campaign::now("giant", "giant") };
    stage.send(&giant);
    await_told(&stage, "giant", 1);
    let small = Campaign::now("small", "small");
    stage.send(&small);
    ear.wait_for("small", 10, LONG);
    assert!(number(&stage, "giant", "told") < CROWD as i64, "the giant was done before the small one");
    let expected = Expected::from([(&giant, clients(&stage, "giant")), (&small, clients(&stage, "small"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
    let largest = stage.feedback.number("select max(drafts) from dinnerbell.round");
    assert!(largest <= 240, "{largest} drafts of a hundred thousand bytes were one transaction");
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
