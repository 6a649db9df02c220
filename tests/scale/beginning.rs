//! Start, take-over and the way of a small campaign, with much that was sent before, and with nothing.

use std::time::{Duration, Instant};

use super::history::{past, told};
use crate::support::{Campaign, Setting, Stage, wait_until};

const CAMPAIGNS: u32 = 100_000;
/// Feedback rows of each.
const ROWS: u32 = 100;
const LANES: i32 = 2;
const SUBSCRIBERS: u64 = 100;
/// Of so many small campaigns, one after the other, the median counts.
const SMALL: usize = 41;
const WITHIN: Duration = Duration::from_secs(60);

/// How long a beginning takes. Each ends when the ledger knows that Kafka has the drafts.
#[derive(Debug)]
struct Measured {
    /// From the start of the process to a campaign told.
    start: Duration,
    /// From SIGTERM to one of two instances to a campaign told in each lane by the other.
    take_over: Duration,
    /// From the append of a small campaign to its drafts.
    small: Duration,
}

impl Measured {
    fn measure(stage: &Stage) -> Self {
        stage.send(&Campaign::now("first", "fresh"));
        let began = Instant::now();
        let leaving = stage.start();
        wait_until_told(stage, &["first"]);
        let start = began.elapsed();
        let staying = stage.start();
        let owners = "select count(distinct owner) from dinnerbell.lane";
        wait_until("each has a lane", WITHIN, || stage.feedback.number(owners) == i64::from(LANES));
        let mut latencies: Vec<_> = (0..SMALL).map(|number| small(stage, number)).collect();
        latencies.sort_unstable();
        let began = Instant::now();
        leaving.stop();
        for lane in 0..LANES {
            stage.send_to(lane, &Campaign::now(&format!("after-{lane}"), "fresh"));
        }
        wait_until_told(stage, &["after-0", "after-1"]);
        let take_over = began.elapsed();
        staying.stop();
        Self { start, take_over, small: latencies[SMALL / 2] }
    }
}

fn small(stage: &Stage, number: usize) -> Duration {
    let id = format!("small-{number}");
    let lane = i32::try_from(number).unwrap() % LANES;
    stage.send_to(lane, &Campaign::now(&id, "fresh"));
    let began = Instant::now();
    wait_until_told(stage, &[&id]);
    began.elapsed()
}

fn wait_until_told(stage: &Stage, campaigns: &[&str]) {
    let complete = format!(
        "select count(*) from dinnerbell.campaign where adv_campaign_id in ('{}') and state = 'complete' and told = {SUBSCRIBERS}",
        campaigns.join("', '")
    );
    let all = campaigns.len() as i64;
    wait_until("all are told", WITHIN, || stage.feedback.number(&complete) == all);
}

/// A service that ran before, and has sent so much.
fn stage_after(campaigns: u32) -> Stage {
    let stage = Stage::with(Setting { lanes: LANES, ..Setting::default() });
    stage.subscribers.subscribe("fresh", SUBSCRIBERS);
    stage.migrate();
    let service = stage.start();
    let entered = "select count(*) from dinnerbell.lane where owner is not null and published_seq is not null";
    wait_until("all lanes run", WITHIN, || stage.feedback.number(entered) == i64::from(LANES));
    service.stop();
    if campaigns > 0 {
        stage.feedback.execute(&past(campaigns));
        stage.feedback.execute(&told("past-", campaigns, ROWS));
    }
    // So that nothing of it goes on beside the measurement.
    stage.feedback.execute("vacuum analyze; checkpoint;");
    stage
}

#[test]
#[ignore = "takes some minutes and 4 GB; the machine must have nothing else to do"]
fn start_and_take_over_take_no_longer_with_ten_million_rows_in_place() {
    let nothing = Measured::measure(&stage_after(0));
    println!("nothing was sent before: {nothing:?}");
    let much = Measured::measure(&stage_after(CAMPAIGNS));
    println!("{CAMPAIGNS} campaigns and {} rows were: {much:?}", CAMPAIGNS * ROWS);
    let bound = |nothing: Duration| 2 * nothing + Duration::from_millis(500);
    assert!(much.start <= bound(nothing.start), "{nothing:?} {much:?}");
    assert!(much.take_over <= bound(nothing.take_over), "{nothing:?} {much:?}");
    assert!(much.small <= bound(nothing.small), "{nothing:?} {much:?}");
}
