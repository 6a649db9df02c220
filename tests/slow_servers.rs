//! A slow server slows the service and never grows it: a large campaign waits in the database, not in memory, and goes on at full
//! speed as soon as the server does.

use std::time::{Duration, Instant};

use crate::support::{Campaign, Expected, Proxy, Service, Stage, unique, wait_until};

/// Eight rounds.
const SUBSCRIBERS: usize = 80_000;
const ROUND_ROWS: i64 = 10_000;
/// What is recorded while a server is slow. With so many rows, two rounds at least are in both sinks.
const SLOWLY: usize = 30_000;
/// What is promised with one lane.
const MAX_MEMORY_KB: u64 = 128_000_000 / 1024;
/// How long things may take on a busy machine.
const LONG: Duration = Duration::from_secs(90);

/// The service with a campaign to send, and what is expected of it.
fn prepared(stage: &mut Stage) -> (Campaign, Expected) {
    stage.config.set("fanout", "round_rows", ROUND_ROWS);
    stage.migrate();
    stage.subscribers.subscribe("crowd", SUBSCRIBERS as u64);
    let campaign = Campaign::now("large", "crowd");
    let expected = Expected::from([(&campaign, stage.subscribers.clients_of("crowd"))]);
    (campaign, expected)
}

/// Sends the campaign, and waits until the slow part of it is recorded. Returns how long that took.
fn send_and_wait(stage: &Stage, service: &mut Service, campaign: &Campaign) -> Duration {
    let began = Instant::now();
    stage.send(campaign);
    wait_until("some rounds are recorded slowly", LONG, || {
        assert!(service.runs(), "{}", service.log());
        stage.row_count() >= SLOWLY
    });
    assert!(stage.row_count() < SUBSCRIBERS, "the server was not slow");
    began.elapsed()
}

#[test]
#[ignore = "takes a minute: a link so slow that rounds time out"]
fn rounds_that_a_slow_link_does_not_carry_in_time_are_planned_smaller_and_told_once() {
    const BYTES_PER_SECOND: u64 = 40_000;
    const CROWD: u64 = 20_000;
    let mut stage = Stage::new();
    let client = unique("slow-");
    stage.config.set("kafka.client", "client.id", client.as_str());
    stage.migrate();
    stage.subscribers.subscribe("crowd", CROWD);
    let campaign = Campaign::now("large", "crowd");
    let expected = Expected::from([(&campaign, stage.subscribers.clients_of("crowd"))]);
    let whose = ["--alter", "--entity-type", "clients", "--entity-name", &format!("{client}-producer")];
    let quota = |change: &[&str]| stage.kafka.tool("kafka.admin.ConfigCommand", &[&whose, change].concat());
    quota(&["--add-config", &format!("producer_byte_rate={BYTES_PER_SECOND}")]);
    let mut service = stage.start_with(&[("DINNERBELL_TRANSACTION_SECONDS", "6")]);
    stage.send(&campaign);
    service.wait_for_log("its drafts are planned in smaller rounds", LONG);
    let log = service.log();
    assert!(log.contains("bytes was not delivered in 6 s"), "it says what it met: {log}");
    assert!(!log.contains("another instance took"), "{log}");
    let published = || stage.feedback.number("select coalesce(max(published_seq), 0) from dinnerbell.lane");
    let before = published();
    wait_until("smaller rounds get through", LONG, || {
        assert!(service.runs(), "{}", service.log());
        published() > before + 2
    });
    let smaller = stage.feedback.number("select max(drafts) from dinnerbell.round where seq > 1");
    assert!((1..10_000).contains(&smaller), "{smaller} drafts");
    let kept = stage.feedback.number("select count(round_bytes) from dinnerbell.lane");
    assert_eq!(kept, 1, "the next owner of the lane is to know");
    quota(&["--delete-config", "producer_byte_rate"]);
    stage.await_sinks(&expected, 2 * LONG);
    service.stop();
}

fn assert_bounded(service: &Service) {
    let peak = service.peak_memory_kb();
    assert!(peak <= MAX_MEMORY_KB, "{peak} kB were resident, at most {MAX_MEMORY_KB} are promised");
}

#[test]
fn a_slow_postgresql_slows_the_service_and_does_not_grow_it() {
    /// A row is longer than 250 bytes.
    const BYTES_PER_SECOND: u64 = 2_000_000;
    let mut stage = Stage::new();
    let (campaign, expected) = prepared(&mut stage);
    let proxy = Proxy::before(stage.postgres.port);
    let way = format!("127.0.0.1:{}", stage.postgres.port);
    stage.config.set("feedback", "url", stage.feedback.url().replace(&way, &proxy.address.to_string()));
    let mut service = stage.start();
    service.wait_for_log("\"running\"", LONG);
    proxy.narrow(BYTES_PER_SECOND);
    let took = send_and_wait(&stage, &mut service, &campaign);
    let least = Duration::from_secs((SLOWLY as u64 * 250).div_euclid(BYTES_PER_SECOND));
    assert!(took >= least, "{SLOWLY} rows took {took:?}: the way was not narrow");
    assert_bounded(&service);
    proxy.narrow(0);
    stage.await_sinks(&expected, LONG);
    assert_bounded(&service);
    service.stop();
}

/// A database in another zone: each round trip takes long. What arrives is recorded in a constant number of them, and no step of the lane ends
/// another one.
#[test]
fn a_far_postgresql_slows_the_service_in_proportion_and_does_nothing_else() {
    const ROUND_TRIP: Duration = Duration::from_millis(50);
    const JUNK: usize = 3_000;
    let mut stage = Stage::new();
    stage.config.set("fanout", "round_rows", 1_000).set("fanout", "rate_limit", 2_000);
    stage.migrate();
    stage.subscribers.subscribe("crowd", 120_000);
    stage.subscribers.subscribe("few", 10);
    let proxy = Proxy::before(stage.postgres.port);
    let way = format!("127.0.0.1:{}", stage.postgres.port);
    stage.config.set("feedback", "url", stage.feedback.url().replace(&way, &proxy.address.to_string()));
    let service = stage.start();
    service.wait_for_log("\"running\"", LONG);
    stage.send(&Campaign::now("giant", "crowd"));
    let told = |id: &str| {
        stage.feedback.number(&format!(
            "select coalesce((select told from dinnerbell.campaign where adv_campaign_id = '{id}'), 0)"
        ))
    };
    wait_until("the giant is told", LONG, || told("giant") > 0);
    proxy.lengthen(ROUND_TRIP);
    let before = stage.feedback.query("select epoch, position from dinnerbell.lane").remove(0);
    stage.kafka.produce_lines(&stage.campaigns, 0, &"no campaign\n".repeat(JUNK));
    stage.send(&Campaign::now("good", "few"));
    let (began, told_before) = (Instant::now(), told("giant"));
    wait_until("the good one among the junk is told", LONG, || told("good") == 10);
    let took = began.elapsed();
    println!("the good campaign was told after {took:?}; the giant got {} on the way", told("giant") - told_before);
    assert!(told("giant") > told_before, "the giant goes on meanwhile");
    assert!(took < Duration::from_secs(15), "{took:?}");
    wait_until("the rest is taken in", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.dead_letter") == JUNK as i64
    });
    let after = stage.feedback.query("select epoch, position from dinnerbell.lane").remove(0);
    assert_eq!(after["epoch"], before["epoch"], "the lane was taken over again: {}", service.log());
    service.kill();
}

#[test]
fn a_slow_kafka_slows_the_service_and_does_not_grow_it() {
    /// The broker holds back what would come faster, after a burst of ten seconds' worth.
    const BYTES_PER_SECOND: u64 = 150_000;
    let mut stage = Stage::new();
    let (campaign, expected) = prepared(&mut stage);
    let client = unique("slow-");
    stage.config.set("kafka.client", "client.id", client.as_str());
    let quota = |change: &[&str]| {
        let whose = ["--alter", "--entity-type", "clients", "--entity-name", &format!("{client}-producer")];
        stage.kafka.tool("kafka.admin.ConfigCommand", &[&whose, change].concat());
    };
    quota(&["--add-config", &format!("producer_byte_rate={BYTES_PER_SECOND}")]);
    let mut service = stage.start();
    let took = send_and_wait(&stage, &mut service, &campaign);
    assert!(took >= Duration::from_secs(3), "{SLOWLY} rows took {took:?}: the broker was not slow");
    assert_bounded(&service);
    quota(&["--delete-config", "producer_byte_rate"]);
    stage.await_sinks(&expected, LONG);
    assert_bounded(&service);
    service.stop();
}
