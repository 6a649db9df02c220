//! Dead letters whose topic is missing, refuses or is compacted: drafts go out, letters wait beside the rounds, and each is published once.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::life::scene::{LONG, await_running, await_state, clients, counted, reasons, stage, unmigrated};
use crate::operate::by_hand::json_of;
use crate::support::{Campaign, Expected, Message, Security, Service, Setting, Stage, wait_until};

/// Within this a campaign is told, whatever its letters' topic is. Left to the client library it would be half a minute.
const SOON: Duration = Duration::from_secs(20);

/// How long hundreds of megabytes may take on a busy machine.
const VERY_LONG: Duration = Duration::from_secs(240);
/// What is promised with one lane.
const MAX_MEMORY_KB: u64 = 128_000_000 / 1024;

/// A running lane that has published one letter.
fn published_one(subscribers: u64) -> (Stage, Service) {
    published_one_by(Security::Plaintext, subscribers)
}

fn published_one_by(security: Security, subscribers: u64) -> (Stage, Service) {
    let stage = stage_by(security, 1);
    stage.subscribers.subscribe("pizzeria", subscribers);
    let service = stage.start();
    await_running(&stage, 1);
    send_bad(&stage, None);
    await_letters(&stage, 1);
    (stage, service)
}

fn send_bad(stage: &Stage, key: Option<&[u8]>) {
    stage.kafka.produce(&stage.campaigns, Some(0), key, Some(b"not JSON"), &[("h", b"v")]);
}

fn stage_by(security: Security, lanes: i32) -> Stage {
    unmigrated(Setting { lanes, security, ..Setting::default() }, |_| {})
}

fn set(stage: &Stage, topic: &str, setting: &str) {
    let whose = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", setting];
    stage.kafka.tool("kafka.admin.ConfigCommand", &whose);
}

/// Waits until so many letters can be read, each once, and returns them.
#[track_caller]
fn await_letters(stage: &Stage, many: usize) -> Vec<Message> {
    await_letters_for(stage, many, LONG)
}

#[track_caller]
fn await_letters_for(stage: &Stage, many: usize, within: Duration) -> Vec<Message> {
    let mut letters = Vec::new();
    wait_until("the letters are published", within, || {
        letters = stage.kafka.read_topic(&stage.dead_letters);
        letters.len() >= many
    });
    let place = |letter: &Message| {
        ["partition", "offset"].map(|of| letter.header(&format!("dinnerbell_{of}")).map(str::to_owned))
    };
    let offsets: BTreeSet<_> = letters.iter().map(place).collect();
    assert_eq!((letters.len(), offsets.len()), (many, many), "each is published once: {letters:?}");
    letters
}

/// Sends records to the first lane in one compressed batch.
fn send_batch(stage: &Stage, codec: &str, values: &[String]) {
    send_to(stage, 0, codec, "10000", values);
}

/// Sends records to a lane, so many in one compressed batch.
fn send_to(stage: &Stage, lane: i32, codec: &str, in_one: &str, values: &[String]) {
    let mut settings = stage.kafka.client();
    settings
        .set("compression.codec", codec)
        .set("message.max.bytes", "900000000")
        .set("linger.ms", "200")
        .set("batch.size", "100000000");
    settings.set("batch.num.messages", in_one);
    let producer: BaseProducer = settings.create().unwrap();
    for value in values {
        producer.send(BaseRecord::to(&stage.campaigns).partition(lane).key("k").payload(value)).unwrap();
    }
    producer.flush(LONG).unwrap();
}

fn readyz(service: &Service) -> String {
    service.get("/readyz")
}

/// Sends a bad record and a campaign behind it, and waits until the campaign is told though the letter cannot be published.
#[track_caller]
fn told_beside_letters(stage: &Stage, service: &Service, id: &str) -> Expected {
    send_bad(stage, None);
    let offer = Campaign::now(id, "pizzeria");
    stage.send(&offer);
    send_bad(stage, Some(b"first_message"));
    let told = clients(stage, "pizzeria");
    // The lane is not at rest meanwhile: it tries the letters now and then.
    wait_until("the campaign is told", SOON, || stage.messages().len() == told.len());
    let expected = Expected::from([(&offer, told)]);
    // For a moment after each try the lane is being taken over.
    wait_until("the operator sees that letters wait and hold up nobody", LONG, || {
        let (answer, metrics) = (readyz(service), service.get("/metrics"));
        answer.starts_with("HTTP/1.1 200")
            && answer.contains("dead letters wait")
            && metrics.contains("dinnerbell_dead_letter_topic_refuses 1")
            && metrics.contains("dinnerbell_waiting_dead_letters{lane=\"0\"} 2")
    });
    expected
}

#[track_caller]
fn never_halted(stage: &Stage) {
    let lane = stage.feedback.query("select halted from dinnerbell.lane where lane = 0");
    assert_eq!(lane[0]["halted"], json!(null));
}

#[test]
fn while_their_topic_is_missing_letters_wait_and_drafts_do_not() {
    let (stage, service) = published_one(20);
    stage.kafka.delete_topics(&[&stage.dead_letters]);
    let expected = told_beside_letters(&stage, &service, "offer");
    stage.kafka.create_topic(&stage.dead_letters, 1, &[]);
    await_letters(&stage, 2);
    never_halted(&stage);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn while_their_topic_takes_no_writes_letters_wait_and_drafts_do_not() {
    let (stage, service) = published_one_by(Security::SaslSsl, 20);
    stage.kafka.may_write(&stage.dead_letters, false);
    let expected = told_beside_letters(&stage, &service, "offer");
    assert!(readyz(&service).contains("allow this user"), "the operator sees which right is missing");
    stage.kafka.may_write(&stage.dead_letters, true);
    await_letters(&stage, 3);
    never_halted(&stage);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_topic_of_letters_that_becomes_compacted_gets_a_key_for_each_and_keeps_all() {
    let (stage, service) = published_one(5);
    set(&stage, &stage.dead_letters, "cleanup.policy=compact");
    send_bad(&stage, None);
    let offer = Campaign::now("offer", "pizzeria");
    stage.send(&offer);
    send_bad(&stage, Some(b"first_message"));
    let expected = Expected::from([(&offer, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, SOON);
    let letters = await_letters(&stage, 3);
    let own = |letter: &Message| format!("{}/0/{}", stage.campaigns, letter.header("dinnerbell_offset").unwrap());
    for letter in &letters[1..] {
        assert_eq!(letter.key, Some(own(letter)));
    }
    let originals: Vec<_> = letters[1..].iter().map(|letter| letter.header("dinnerbell_key")).collect();
    assert!(originals.contains(&Some("first_message")), "{originals:?}");
    never_halted(&stage);
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_topic_of_letters_whose_limit_falls_gets_them_smaller_and_holds_up_nobody() {
    let (stage, service) = published_one(5);
    set(&stage, &stage.dead_letters, "max.message.bytes=4000");
    let noise: Vec<u8> = (0..60_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    stage.kafka.produce(&stage.campaigns, Some(0), None, Some(&noise), &[]);
    let offer = Campaign::now("offer", "pizzeria");
    stage.send(&offer);
    let expected = Expected::from([(&offer, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, SOON);
    let letters = await_letters(&stage, 2);
    assert_eq!((letters[1].value.as_deref(), letters[1].header("dinnerbell_size")), (None, Some("60000")));
    never_halted(&stage);
    service.stop();
    stage.assert_sinks(&expected);
}

/// An instance dies with a round recorded whose letters cannot be published, and the next one while it takes them out of the round.
#[test]
fn a_recorded_round_is_published_without_its_letters_by_whoever_finds_that_their_topic_takes_none() {
    let stage = stage_by(Security::SaslSsl, 1);
    stage.subscribers.subscribe("pizzeria", 20);
    let offer = Campaign::now("offer", "pizzeria");
    let mut first = stage.start_failing("publish.begun@2=abort");
    await_running(&stage, 1);
    send_bad(&stage, None);
    first.wait_for_abort(LONG);
    let held = "select count(*) from dinnerbell.dead_letter where round_seq is not null";
    assert_eq!(stage.feedback.number(held), 1, "a recorded round holds the letter");
    stage.kafka.may_write(&stage.dead_letters, false);
    stage.send(&offer);
    let mut second = stage.start_failing("dead_letters.set_aside@1=abort");
    second.wait_for_abort(LONG);
    assert_eq!(stage.feedback.number(held), 0, "it waits again");
    let third = stage.start();
    let expected = Expected::from([(&offer, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    stage.kafka.may_write(&stage.dead_letters, true);
    await_letters(&stage, 1);
    never_halted(&stage);
    third.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_batch_that_cannot_be_unpacked_becomes_dead_letters_and_what_stands_behind_it_is_read() {
    let mut stage = unmigrated(Setting::default(), |_| {});
    for (setting, bytes) in [("fetch.max.bytes", 1_000_000), ("receive.message.max.bytes", 2_000_000)] {
        stage.config.set("kafka.client", setting, bytes);
    }
    stage.subscribers.subscribe("pizzeria", 5);
    let blanks = format!("{{{}", " ".repeat(1_000_000));
    let (before, behind) = (Campaign::now("before", "pizzeria"), Campaign::now("behind", "pizzeria"));
    stage.send(&before);
    send_batch(&stage, "zstd", &[blanks.clone(), blanks.clone(), blanks]);
    stage.send(&behind);
    let service = stage.start();
    let told = clients(&stage, "pizzeria");
    let expected = Expected::from([(&before, told.clone()), (&behind, told)]);
    stage.await_sinks(&expected, LONG);
    let reasons = reasons(&stage);
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons.iter().all(|reason| reason.contains("cannot be unpacked")), "{reasons:?}");
    assert_eq!((counted(&stage, "dead_letters"), counted(&stage, "records")), (3, 5));
    let (status, replayed) = json_of(&stage, &["dead-letter", "replay", "--all"]);
    assert_eq!((status, replayed["not_kept"].as_array().map(Vec::len)), (1, Some(3)), "{replayed}");
    await_letters(&stage, 3);
    // A new owner knows the topic again, though its last record cannot be read.
    send_batch(&stage, "zstd", &[format!("{{{}", " ".repeat(5_000_000))]);
    wait_until("it is a dead letter", LONG, || counted(&stage, "dead_letters") == 4);
    service.stop();
    let service = stage.start();
    let last = Campaign::now("last", "pizzeria");
    stage.send(&last);
    let mut expected = expected;
    expected.add(&last, clients(&stage, "pizzeria"));
    stage.await_sinks(&expected, LONG);
    never_halted(&stage);
    service.stop();
}

/// Megabytes of blanks take a kilobyte on the wire. Nothing of them is kept but what they were.
#[test]
fn records_that_swell_become_dead_letters_and_take_no_memory() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    let offer = Campaign::now("offer", "pizzeria");
    let swollen = format!("{{{}", " ".repeat(20_000_000));
    for _ in 0..12 {
        send_batch(&stage, "gzip", std::slice::from_ref(&swollen));
    }
    stage.send(&offer);
    let service = stage.start();
    let expected = Expected::from([(&offer, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    let letters = await_letters(&stage, 12);
    assert_eq!((&letters[0].value, letters[0].header("dinnerbell_size")), (&None, Some("20000001")));
    assert_eq!(letters[0].header("dinnerbell_sha256").map(str::len), Some(64));
    let (_, listed) = json_of(&stage, &["dead-letter", "list", "--limit", "1"]);
    assert_eq!(listed[0]["value_bytes"], 20_000_001, "{listed}");
    let peak = service.peak_memory_kb();
    assert!(peak <= MAX_MEMORY_KB, "{peak} kB were resident");
    service.stop();
    stage.assert_sinks(&expected);
}

/// Three hundred records of a megabyte each that are no campaigns, read once, and found waiting by a new owner.
#[test]
#[ignore = "takes some 30 s; make prove"]
fn letters_of_a_megabyte_each_are_read_when_a_round_takes_them() {
    let stage = stage(1);
    stage.subscribers.subscribe("pizzeria", 5);
    send_to(&stage, 0, "gzip", "1", &vec![format!("[{}", " ".repeat(1_000_000)); 300]);
    let service = stage.start();
    await_letters_for(&stage, 300, VERY_LONG);
    let peak = service.peak_memory_kb();
    assert!(peak <= MAX_MEMORY_KB, "{peak} kB were resident");
    service.stop();
    stage.feedback.execute("update dinnerbell.dead_letter set round_seq = null");
    crate::life::scene::pause(&stage, true);
    let service = stage.start();
    await_running(&stage, 1);
    crate::life::scene::pause(&stage, false);
    wait_until("they are published once more", VERY_LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.dead_letter where round_seq is null") == 0
    });
    let peak = service.peak_memory_kb();
    assert!(peak <= MAX_MEMORY_KB, "{peak} kB were resident after the take-over");
    service.stop();
}

/// Two hundred changes of a megabyte each wait for a lane that nobody runs.
#[test]
#[ignore = "takes some 20 s; make prove"]
fn changes_of_a_megabyte_each_are_applied_in_portions() {
    let stage = stage(1);
    let offer = Campaign::now("offer", "nobody's");
    let service = stage.start();
    stage.send(&offer);
    await_state(&stage, "offer", "complete");
    service.stop();
    stage.feedback.execute(
        "insert into dinnerbell.change (adv_campaign_id, from_lane, record_offset, value)
         select 'offer', 0, g, convert_to('[' || repeat(' ', 1000000), 'UTF8') from generate_series(1, 200) g",
    );
    let service = stage.start();
    wait_until("all are applied", VERY_LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.change where judged_as = 'dead letter'") == 200
    });
    await_letters_for(&stage, 200, VERY_LONG);
    let peak = service.peak_memory_kb();
    assert!(peak <= MAX_MEMORY_KB, "{peak} kB were resident");
    service.stop();
}

/// The worst that compression lets through, in each of twelve lanes at once. What the client library unpacks of it comes on top.
#[test]
#[ignore = "takes some 40 s; make prove"]
fn twelve_lanes_of_swollen_records_and_large_letters_stay_small() {
    const LANES: i32 = 12;
    /// What is promised with twelve lanes, and what one batch of each takes unpacked.
    const MOST: u64 = (256_000_000 + 12 * 2_000_000) / 1024;
    let stage = stage(LANES);
    stage.subscribers.subscribe("pizzeria", 5);
    let offer = Campaign::now("offer", "pizzeria");
    let large = format!("[{}", " ".repeat(1_000_000));
    let swollen = format!("[{}", " ".repeat(2_000_000));
    for lane in 0..LANES {
        for value in [&large, &swollen] {
            send_to(&stage, lane, "gzip", "1", &vec![value.clone(); 25]);
        }
    }
    stage.send_to(LANES - 1, &offer);
    let service = stage.start();
    let expected = Expected::from([(&offer, clients(&stage, "pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    await_letters_for(&stage, 50 * LANES as usize, VERY_LONG);
    let peak = service.peak_memory_kb();
    assert!(peak <= MOST, "{peak} kB were resident");
    service.stop();
    stage.assert_sinks(&expected);
}

#[test]
fn a_topic_that_finds_every_timestamp_too_old_holds_up_no_draft() {
    let stage = stage_by(Security::Plaintext, 1);
    stage.subscribers.subscribe("pizzeria", 20);
    set(&stage, &stage.dead_letters, "message.timestamp.before.max.ms=0");
    let service = stage.start();
    await_running(&stage, 1);
    let expected = told_beside_letters(&stage, &service, "offer");
    set(&stage, &stage.dead_letters, "message.timestamp.before.max.ms=9223372036854775807");
    await_letters(&stage, 2);
    never_halted(&stage);
    service.stop();
    stage.assert_sinks(&expected);
}
