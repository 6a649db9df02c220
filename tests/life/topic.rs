//! The campaigns topic is another one than it was.

use crate::life::scene::{LONG, await_running, counted, stage};
use crate::support::{Campaign, Expected, Stage, wait_for, wait_until};

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
fn of_a_topic_that_was_created_anew_and_filled_past_the_position_at_once_nothing_is_taken_in_before_an_operator_decides()
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
    assert!(found.contains("its id is the same") && !found.contains("anew"), "{found}");
    service.stop();
}
