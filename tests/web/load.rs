//! What the page costs: with many campaigns in place, and with many who look.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::client::{Browser, OPERATOR, stage};
use crate::scale::history::{past, told};
use crate::support::wait::wait_until;
use crate::support::{Campaign, Stage};

const SOON: Duration = Duration::from_secs(60);
/// How long a page may take to be answered by a machine that does nothing else.
const QUICK: Duration = Duration::from_millis(100);
/// How long it may take at best where many tests run side by side, of code that is hardly optimised.
const BUSY: Duration = Duration::from_millis(1_500);
/// For so long a page is asked for again until it is answered quickly.
const TRIED_FOR: Duration = Duration::from_secs(5);
/// For how long what is read is counted.
const MEASURED: Duration = Duration::from_secs(6);

#[test]
fn each_page_is_answered_at_once_with_ten_thousand_campaigns_in_place() {
    pages_take_at_best(BUSY);
}

#[test]
#[ignore = "measures, on a machine that does nothing else"]
fn each_page_is_answered_within_a_tenth_of_a_second_with_ten_thousand_campaigns_in_place() {
    pages_take_at_best(QUICK);
}

/// Asks for each page until it was answered quickly, or for some seconds; the best of its times may be no longer than this.
#[track_caller]
fn pages_take_at_best(most: Duration) {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 100);
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", OPERATOR);
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    wait_until("everybody is told", SOON, || stage.row_count() == 100);
    stage.feedback.execute(&(past(10_000) + &told("past-", 10_000, 3) + "analyze;"));
    let pages = [
        "/",
        "/campaigns",
        "/campaigns?search=past-77",
        "/campaigns?state=closed&after=past-5000",
        "/campaigns/two-for-one",
        "/campaigns/two-for-one?client=a1",
        "/campaigns/past-7",
        "/clients/a1",
        "/lanes",
        "/dead-letters",
        "/preview",
        "/check",
        "/audit",
    ];
    let mut found = Vec::new();
    for page in pages {
        let mut best = Duration::MAX;
        let began = Instant::now();
        while best > QUICK && began.elapsed() < TRIED_FOR {
            let asked = Instant::now();
            let answer = browser.get(page);
            best = best.min(asked.elapsed());
            assert_eq!(answer.status, 200, "{page}: {}", answer.body);
        }
        found.push((page, best));
    }
    let slow: Vec<_> = found.iter().filter(|(_, best)| *best > most).collect();
    println!("{found:?}");
    assert!(slow.is_empty(), "{slow:?}");
    service.stop();
}

/// Transactions in the stage's database so far.
fn transactions(stage: &Stage) -> i64 {
    stage.feedback.number("select xact_commit from pg_stat_database where datname = current_database()")
}

/// Event streams of the first page, each of which was told something before the next one was asked for.
fn viewers(browser: &Browser, number: usize) -> Vec<TcpStream> {
    let viewer = |_| {
        let mut stream = browser.open("/events");
        stream.set_read_timeout(Some(SOON)).expect("a time-out can be set");
        let (mut seen, mut piece) = (Vec::new(), [0; 65_536]);
        while !String::from_utf8_lossy(&seen).contains("data: ") {
            let read = stream.read(&mut piece).expect("it is told in time");
            assert!(read > 0, "the stream ended");
            seen.extend_from_slice(&piece[..read]);
        }
        stream
    };
    (0..number).map(viewer).collect()
}

/// Transactions a second while so many look. Nobody else uses the database, and it is not asked meanwhile.
fn cost(stage: &Stage, browser: &Browser, number: usize) -> f64 {
    let streams = viewers(browser, number);
    let (before, began) = (transactions(stage), Instant::now());
    wait_until("they have looked for a while", SOON, || began.elapsed() > MEASURED);
    let read = transactions(stage) - before;
    drop(streams);
    read as f64 / began.elapsed().as_secs_f64()
}

#[test]
fn two_hundred_who_look_cost_what_one_costs() {
    let stage = stage();
    stage.subscribers.subscribe("pizzeria", 10);
    stage.migrate();
    let service = stage.start();
    let browser = Browser::signed_in(&service, "Olga", OPERATOR);
    stage.send(&Campaign::now("two-for-one", "pizzeria"));
    wait_until("everybody is told", SOON, || stage.row_count() == 10);
    let (one, many) = (cost(&stage, &browser, 1), cost(&stage, &browser, 200));
    println!("transactions a second: {one:.1} for one, {many:.1} for two hundred");
    assert!(many < one * 2.0, "{many:.1} transactions a second for two hundred, {one:.1} for one");
    service.stop();
}
