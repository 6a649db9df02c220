//! The campaigns topic is another one than it was.

use std::time::Duration;

use crate::life::scene::{LONG, await_other_owner, await_running, counted, stage};
use crate::support::kafka_proxy::LIST_OFFSETS;
use crate::support::{Campaign, Expected, KafkaProxy, Stage, wait_for, wait_until};

/// Waits until the first lane is halted; by which name, and what was found.
#[track_caller]
fn await_halt(stage: &Stage) -> (String, String) {
    wait_for("the lane is halted", LONG, || {
        let rows = stage.feedback.query("select halted, halted_found from dinnerbell.lane where halted is not null");
        let row = rows.first()?;
        Some((row["halted"].as_str()?.to_owned(), row["halted_found"].as_str()?.to_owned()))
    })
}

/// Sends so many campaigns for one subscriber each.
fn send(stage: &Stage, name: &str, campaigns: u32, expected: &mut Expected) {
    for number in 0..campaigns {
        let id = format!("{name}-{number}");
        let campaign = Campaign::now(&id, "r");
        expected.add(&campaign, stage.subscribers.clients_of("r"));
        stage.send(&campaign);
    }
}

#[test]
fn of_a_topic_that_was_created_again_and_filled_past_the_position_at_once_nothing_is_taken_in_before_an_operator_decides()
 {
    let stage = stage(1);
    stage.subscribers.subscribe("r", 1);
    let service = stage.start();
    await_running(&stage, 1);
    let mut expected = Expected::default();
    send(&stage, "old", 3, &mut expected);
    stage.await_sinks(&expected, LONG);
    let known = stage.feedback.text("select topic_id from dinnerbell.lane").trim().to_owned();

    // Frozen, it fetches next when all is there.
    service.freeze();
    stage.kafka.delete_topics(&[&stage.campaigns]);
    stage.kafka.create_topic(&stage.campaigns, 1, &[]);
    let new = (0..10).map(|number| Campaign::now(&format!("new-{number}"), "r"));
    let new: Vec<Campaign> = new.collect();
    for campaign in &new {
        expected.add(campaign, stage.subscribers.clients_of("r"));
    }
    let lines: Vec<String> = new.iter().map(Campaign::json).collect();
    stage.kafka.produce_lines(&stage.campaigns, 0, &lines.join("\n"));
    service.thaw();

    let (name, found) = await_halt(&stage);
    assert_eq!(name, "topic-replaced", "{found}");
    assert!(found.contains(&known), "the topic that was read is named: {found}");
    assert_eq!(
        (counted(&stage, "records"), counted(&stage, "position")),
        (3, 3),
        "nothing of the new topic is taken in"
    );

    stage.dinnerbell_ok(&["lane", "resolve", "0", "--restart-at", "earliest"]);
    stage.await_sinks(&expected, LONG);
    wait_until("the lane knows the new topic", LONG, || {
        stage.feedback.number("select count(*) from dinnerbell.lane where topic_id is not null") == 1
    });
    assert_ne!(stage.feedback.text("select topic_id from dinnerbell.lane").trim(), known);
    service.stop();
}

#[test]
fn a_topic_whose_brokers_lost_records_is_not_called_another_one() {
    let stage = stage(1);
    stage.subscribers.subscribe("r", 1);
    let mut expected = Expected::default();
    let service = stage.start();
    send(&stage, "old", 1, &mut expected);
    stage.await_sinks(&expected, LONG);
    service.stop();
    // As an unclean election leaves it: another record stands where one was read.
    stage.feedback.execute("update dinnerbell.lane set last_hash = last_hash # 1");
    let service = stage.start();
    let (name, found) = await_halt(&stage);
    assert_eq!(name, "input-truncated", "{found}");
    assert!(found.contains("its id is the same") && !found.contains("again"), "{found}");
    service.stop();
}

/// A broker that was just frozen or cut off tells where the topic ended then.
#[test]
fn an_end_of_the_past_halts_no_lane() {
    let mut stage = stage(1);
    let proxy = KafkaProxy::before(&stage.kafka.plaintext);
    stage.config.set("kafka", "bootstrap_servers", proxy.address.to_string());
    stage.subscribers.subscribe("r", 1);
    let mut expected = Expected::default();
    proxy.watch(LIST_OFFSETS);
    let service = stage.start();
    await_running(&stage, 1);
    proxy.learns_nothing(true);
    send(&stage, "old", 1, &mut expected);
    stage.await_sinks(&expected, LONG);
    service.stop();
    proxy.learns_nothing(true);
    let service = stage.start();
    // The first two are the ends of the topic, before the lane is acquired; then it is doubted.
    wait_until("the end is asked for again", LONG, || proxy.old_answers() >= 6);
    proxy.learns_nothing(false);
    send(&stage, "new", 1, &mut expected);
    stage.await_sinks(&expected, LONG);
    let log = service.stop();
    assert!(!log.contains("input-truncated"), "{log}");
}

/// An idle lane looks every five seconds, and a busy one with each round.
const NOTICED: Duration = Duration::from_secs(15);

fn recreate(stage: &Stage, topic: &str) {
    stage.kafka.delete_topics(&[topic]);
    stage.kafka.create_topic(topic, 1, &[]);
}

#[test]
fn nothing_is_written_to_a_topic_of_drafts_that_was_created_again_before_an_operator_decides() {
    let stage = stage(1);
    stage.subscribers.subscribe("r", 3);
    let service = stage.start();
    await_running(&stage, 1);
    let mut expected = Expected::default();
    send(&stage, "old", 1, &mut expected);
    stage.await_sinks(&expected, LONG);

    // Frozen, it comes to its next round when the topic is there again.
    service.freeze();
    recreate(&stage, &stage.notifications);
    send(&stage, "new", 1, &mut expected);
    service.thaw();

    let (name, found) = await_halt(&stage);
    assert_eq!(name, "notifications-replaced", "{found}");
    assert_eq!(stage.messages().len(), 0, "the round that follows is not written to the new topic");
    let refused = stage.dinnerbell(&["lane", "resolve", "0", "--retry"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("dinnerbell lane resolve --all --accept-topic"), "{said}");

    stage.dinnerbell_ok(&["verify", "--republish"]);
    stage.dinnerbell_ok(&["lane", "resolve", "--all", "--accept-topic"]);
    stage.await_sinks(&expected, LONG);
    let known = "select count(*) from dinnerbell.service where notifications_id is not null";
    wait_until("the ledger knows the new topic", LONG, || stage.feedback.number(known) == 1);
    service.stop();
}

#[test]
fn a_lane_with_nothing_to_do_notices_that_a_topic_which_it_writes_to_was_recreated() {
    let stage = stage(2);
    stage.subscribers.subscribe("r", 2);
    let service = stage.start();
    await_running(&stage, 2);
    let mut expected = Expected::default();
    send(&stage, "old", 1, &mut expected);
    stage.await_sinks(&expected, LONG);
    stage.kafka.produce(&stage.campaigns, Some(0), None, Some(b"not JSON"), &[]);
    wait_until("the letter is published", LONG, || stage.kafka.read_topic(&stage.dead_letters).len() == 1);

    // Of dead letters nothing is lost: they are in the ledger, and new ones go on.
    recreate(&stage, &stage.dead_letters);
    service.wait_for_log("the topic of dead letters was recreated", NOTICED);
    stage.kafka.produce(&stage.campaigns, Some(1), None, Some(b"not JSON either"), &[]);
    wait_until("the next letter is published", LONG, || stage.kafka.read_topic(&stage.dead_letters).len() == 1);
    let doctor = stage.dinnerbell(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("1 dead letters that were published before are not in it any more"), "{said}");
    let halted = "select count(*) from dinnerbell.lane where halted is not null";
    assert_eq!(stage.feedback.number(halted), 0, "letters hold up nobody");

    recreate(&stage, &stage.notifications);
    wait_until("both lanes are halted", NOTICED, || {
        stage.feedback.number("select count(*) from dinnerbell.lane where halted = 'notifications-replaced'") == 2
    });
    stage.dinnerbell_ok(&["lane", "resolve", "--all", "--accept-topic", "--dry-run"]);
    assert_eq!(stage.feedback.number(halted), 2, "it was only asked what would be done");
    stage.dinnerbell_ok(&["lane", "resolve", "--all", "--accept-topic"]);
    let mut after = Expected::default();
    send(&stage, "new", 1, &mut after);
    wait_until("the next campaign is told in the new topic", LONG, || stage.messages().len() == after.len());
    service.stop();
}

/// Its owner of then cannot know whose the topic is that comes.
#[test]
fn a_lane_that_was_taken_over_while_the_topic_of_drafts_was_gone_halts_when_one_comes() {
    let stage = stage(1);
    stage.subscribers.subscribe("r", 2);
    let first = stage.start();
    await_running(&stage, 1);
    let mut expected = Expected::default();
    send(&stage, "old", 1, &mut expected);
    stage.await_sinks(&expected, LONG);
    let (second, pid) = (stage.start(), first.pid());
    wait_until("the second is ready", LONG, || second.get("/metrics").contains("\ndinnerbell_ready 1\n"));
    stage.kafka.delete_topics(&[&stage.notifications]);
    first.stop();
    await_other_owner(&stage, pid);
    let running = "dinnerbell_lane_state{lane=\"0\",state=\"running\"} 1\n";
    wait_until("the lane runs", LONG, || second.get("/metrics").contains(running));

    stage.kafka.create_topic(&stage.notifications, 1, &[]);
    let (name, found) = await_halt(&stage);
    assert_eq!(name, "notifications-replaced", "{found}");
    second.stop();
}
