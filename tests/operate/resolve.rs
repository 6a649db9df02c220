//! `lane resolve` on states that are made by hand.

use serde_json::{Value, json};

use crate::operate::by_hand::{ByHand, json_of, status};

const FROM_KAFKA: [&str; 4] = ["lane", "resolve", "0", "--from-kafka"];

fn halt(by_hand: &ByHand, name: &str) {
    by_hand.execute(&format!(
        "update dinnerbell.lane set halted = '{name}', halted_found = 'f', halted_remedy = 'r', halted_at = clock_timestamp()"
    ));
}

/// Resolves from Kafka: a dry run changes nothing, the real one does, and both sinks agree afterwards.
#[track_caller]
fn resolved(by_hand: &ByHand) -> Value {
    let before = (by_hand.lane(), by_hand.clients(), by_hand.ledger_campaign());
    let (status, _) = json_of(&by_hand.stage, &[&FROM_KAFKA[..], &["--dry-run"]].concat());
    assert_eq!(status, 0);
    assert_eq!((by_hand.lane(), by_hand.clients(), by_hand.ledger_campaign()), before, "a dry run changes nothing");
    let (status, report) = json_of(&by_hand.stage, &FROM_KAFKA);
    assert_eq!(status, 0);
    let lane = by_hand.lane();
    assert_eq!(lane["halted"], Value::Null);
    assert!(lane["resolved_by"].is_string() && lane["resolved_at"].is_string());
    assert!(lane["epoch"].as_i64() > before.0["epoch"].as_i64(), "the lane's owner takes it over again");
    report
}

#[track_caller]
fn assert_verified(by_hand: &ByHand) {
    let (status, report) = json_of(&by_hand.stage, &["verify"]);
    assert_eq!((status, &report["result"]), (0, &json!("equal")), "{report}");
}

#[test]
fn a_retry_clears_the_halt() {
    let by_hand = ByHand::new();
    for name in ["feedback-refused", "being-resolved", "input-unreadable", "of-a-later-version"] {
        halt(&by_hand, name);
        let (status, report) = json_of(&by_hand.stage, &["lane", "resolve", "0", "--retry", "--dry-run"]);
        assert_eq!((status, &by_hand.lane()["halted"]), (0, &json!(name)), "{report}");
        let (status, _) = json_of(&by_hand.stage, &["lane", "resolve", "0", "--retry"]);
        assert_eq!((status, &by_hand.lane()["halted"]), (0, &Value::Null));
    }
    let again = by_hand.stage.dinnerbell(&["lane", "resolve", "0", "--retry"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(1) && said.contains("lane 0 is not halted"), "there is nothing to do: {said}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let by_hand = ByHand::new();
    let status_of = |args: &[&str]| status(&by_hand.stage.dinnerbell(&[&["lane", "resolve"], args].concat()));
    assert_eq!(status_of(&["0"]), 2, "how");
    assert_eq!(status_of(&["0", "--retry", "--from-kafka"]), 2, "one way");
    assert_eq!(status_of(&["0", "--restart-at", "now"]), 2, "no position");
    assert_eq!(status_of(&["7", "--retry"]), 1, "no such lane");
    assert_eq!(status_of(&["0", "--restart-at", "latest"]), 1, "the lane is not halted");
    halt(&by_hand, "kafka-ahead");
    assert_eq!(status_of(&["0", "--restart-at", "latest"]), 1, "that halt is not about the position");
    let retried = || {
        let refused = by_hand.stage.dinnerbell(&["lane", "resolve", "0", "--retry"]);
        assert_eq!(status(&refused), 1, "that halt would come again");
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };
    let said = retried();
    assert!(said.contains("dinnerbell lane resolve 0 --from-kafka"), "{said}");
    halt(&by_hand, "input-trimmed");
    let said = retried();
    assert!(said.contains("dinnerbell lane resolve 0 --restart-at earliest"), "{said}");
    assert_eq!(status_of(&["0", "--restart-at", "5"]), 1, "the topic holds no such offset");
    assert_eq!(status_of(&["0", "--restart-at", "earliest"]), 0);
}

#[test]
fn a_database_that_lost_commits_gets_its_rows_campaigns_and_round_back() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b"]);
    by_hand.publish(1, &["a", "b"]);
    // Rounds 2 and 3 are in Kafka alone, and so is a campaign.
    by_hand.message(&by_hand.campaign, "c", Some(2));
    let lost = crate::support::Campaign::now("lost", "noodle bar");
    by_hand.message(&lost, "a", Some(3));
    by_hand.message(&lost, "b", Some(3));
    by_hand.mark(3, 0, 1234);
    halt(&by_hand, "kafka-ahead");
    let report = resolved(&by_hand);
    assert_eq!((&report["rows_restored"], &report["campaigns_restored"]), (&json!(3), &json!(1)), "{report}");
    assert_eq!(by_hand.clients(), ["a", "a", "b", "b", "c"]);
    let lane = by_hand.lane();
    assert_eq!((&lane["seq"], &lane["published_seq"], &lane["overrule"]), (&json!(3), &json!(3), &json!(false)));
    let round = by_hand.stage.feedback.query("select checksum from dinnerbell.round where seq = 3").remove(0);
    assert_eq!(round["checksum"], json!(1234), "the mark's own: both sides are equal");
    let known = by_hand.ledger_campaign();
    assert_eq!(
        (&known["told"], &known["cursor"]),
        (&json!(3), &json!("b")),
        "the main pass goes on where the ledger stood"
    );
    let (_, shown) = json_of(&by_hand.stage, &["campaign", "show", "lost"]);
    assert_eq!((&shown["told"], &shown["state"]), (&json!(2), &json!("active")), "{shown}");
    assert_verified(&by_hand);
    // Once more is no harm.
    let report = resolved(&by_hand);
    assert_eq!(report["rows_restored"], json!(0));
}

#[test]
fn without_a_mark_a_round_whose_drafts_are_in_the_topic_is_published() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b"]);
    for client in ["a", "b"] {
        by_hand.message(&by_hand.campaign, client, Some(1));
    }
    halt(&by_hand, "mark-missing");
    resolved(&by_hand);
    let lane = by_hand.lane();
    assert_eq!((&lane["seq"], &lane["published_seq"], &lane["overrule"]), (&json!(1), &json!(1), &json!(false)));
    assert_verified(&by_hand);
}

#[test]
fn without_a_mark_a_round_whose_drafts_are_not_in_the_topic_is_left_to_be_published() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b"]);
    halt(&by_hand, "mark-missing");
    resolved(&by_hand);
    let lane = by_hand.lane();
    assert_eq!((&lane["seq"], &lane["published_seq"], &lane["overrule"]), (&json!(1), &json!(0), &json!(true)));
    assert_eq!(by_hand.clients(), ["a", "b"]);
    assert_verified(&by_hand);
}

#[test]
fn what_was_withdrawn_before_the_loss_is_taken_back_and_told_later() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a"]);
    by_hand.publish(1, &["a"]);
    by_hand.record(2, &["b", "c", "d"]);
    // Kafka holds round 2 without c and d, revision 1; somebody answered in d's row.
    by_hand.message(&by_hand.campaign, "b", Some(2));
    by_hand.mark(2, 1, 55);
    by_hand.execute("update public.subscribers_feedback set feedback = 'yes' where client_id = 'd'");
    halt(&by_hand, "other-content");
    let report = resolved(&by_hand);
    assert_eq!((&report["rows_removed"], &report["rows_kept"]), (&json!(1), &json!(1)), "{report}");
    assert_eq!(by_hand.clients(), ["a", "b", "d"]);
    let campaign = by_hand.ledger_campaign();
    assert_eq!((&campaign["told"], &campaign["kept"], &campaign["cursor"]), (&json!(2), &json!(1), &json!("a")));
    assert_eq!((&by_hand.lane()["published_seq"], &by_hand.lane()["overrule"]), (&json!(2), &json!(false)));
    assert_verified(&by_hand);
}

/// Nobody knows whether round 2 was published: the topic and the mark are gone.
fn undecided() -> ByHand {
    let by_hand = ByHand::new();
    let clients = ["a", "b", "c", "d", "e", "f"];
    by_hand.record(1, &clients);
    by_hand.publish(1, &clients);
    by_hand.record(2, &["g", "h"]);
    for partition in [0, 1] {
        let (_, high) = by_hand.stage.kafka.watermarks(&by_hand.stage.notifications, partition, "read_committed");
        by_hand.stage.kafka.delete_records(&by_hand.stage.notifications, partition, high);
    }
    by_hand.stage.kafka.delete_group(&by_hand.stage.group);
    by_hand
}

#[test]
fn what_the_topic_no_longer_holds_is_the_operators_decision() {
    let by_hand = undecided();
    let output = by_hand.stage.dinnerbell(&FROM_KAFKA);
    assert_eq!(status(&output), 1);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("--assume published") && errors.contains("--assume unpublished"), "{errors}");
    assert_eq!(by_hand.lane()["halted"], Value::Null, "a lane that was not halted goes on");
    let (status, _) = json_of(&by_hand.stage, &[&FROM_KAFKA[..], &["--assume", "published"]].concat());
    assert_eq!((status, &by_hand.lane()["published_seq"]), (0, &json!(2)));
    assert_eq!(by_hand.clients().len(), 8, "rows stay");
}

#[test]
fn a_row_that_says_something_else_than_its_message_is_corrected() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b"]);
    by_hand.publish(1, &["a", "b"]);
    // The draft of b was withdrawn, the campaign updated, and b told again by round 2: the database lost all that.
    let updated = crate::support::Campaign {
        adv_campaign_content: "newer".to_owned(),
        datetime_created: by_hand.campaign.datetime_created + 1,
        ..by_hand.campaign.clone()
    };
    by_hand.execute("delete from dinnerbell.round_part where seq = 1");
    by_hand.stage.kafka.delete_topics(&[&by_hand.stage.notifications]);
    by_hand.stage.kafka.create_topic(&by_hand.stage.notifications, 2, &[]);
    by_hand.message(&by_hand.campaign, "a", Some(1));
    by_hand.message(&updated, "b", Some(2));
    by_hand.mark(2, 0, 77);
    by_hand.execute("update public.subscribers_feedback set feedback = 'yes' where client_id = 'b'");
    halt(&by_hand, "kafka-ahead");
    let report = resolved(&by_hand);
    assert_eq!((&report["rows_restored"], &report["rows_corrected"]), (&json!(0), &json!(1)), "{report}");
    let row = by_hand.stage.feedback.query("select * from public.subscribers_feedback where client_id = 'b'").remove(0);
    assert_eq!((&row["adv_campaign_content"], &row["feedback"]), (&json!("newer"), &json!("yes")));
    assert_eq!(by_hand.clients(), ["a", "b"]);
    assert_verified(&by_hand);
}

/// Whatever is done to a lane's row, this is done with it.
fn at_each_update(by_hand: &ByHand, body: &str) {
    by_hand.execute(&format!(
        "create function public.meanwhile() returns trigger language plpgsql as $$ begin {body} return new; end $$;
         create trigger meanwhile before update on dinnerbell.lane for each row execute function public.meanwhile()"
    ));
}

#[test]
fn drafts_of_another_service_in_the_same_topic_give_nobody_a_row() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a"]);
    by_hand.publish(1, &["a"]);
    let its = crate::support::Campaign::now("its", "noodle bar");
    for (campaign, client) in [(&by_hand.campaign, "b"), (&its, "a")] {
        by_hand.message_to(None, "another", campaign, client, Some(1));
    }
    let report = resolved(&by_hand);
    assert_eq!((&report["rows_restored"], &report["campaigns_restored"]), (&json!(0), &json!(0)), "{report}");
    assert_eq!(by_hand.clients(), ["a"]);
}

#[test]
fn of_all_lanes_one_that_cannot_be_mended_is_named_and_the_others_are_mended() {
    let by_hand = ByHand::with_lanes(3);
    halt(&by_hand, "mark-missing");
    // A command that ended early.
    by_hand.execute("update dinnerbell.lane set halted = 'being-resolved' where lane = 2");
    at_each_update(&by_hand, "if new.lane = 0 then raise exception 'not this one'; end if;");
    let output = by_hand.stage.dinnerbell(&["lane", "resolve", "--all", "--from-kafka"]);
    assert_eq!(status(&output), 1);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("lane 0: ") && errors.contains("not this one"), "{errors}");
    let halts = by_hand.stage.feedback.query("select halted from dinnerbell.lane order by lane");
    let halts: Vec<&Value> = halts.iter().map(|lane| &lane["halted"]).collect();
    assert_eq!(halts, [&json!("mark-missing"), &Value::Null, &Value::Null]);
}

#[test]
fn a_lane_that_cannot_be_mended_goes_on_if_this_command_made_it_stand_still_and_only_then() {
    let by_hand = undecided();
    halt(&by_hand, "mark-missing");
    // Its halt is cleared between the first look and the command's own halt.
    at_each_update(
        &by_hand,
        "if old.halted = 'mark-missing' then new.halted = null; new.halted_found = null; new.halted_remedy = null;
         new.halted_at = null; end if;",
    );
    assert_eq!(status(&by_hand.stage.dinnerbell(&FROM_KAFKA)), 1);
    assert_eq!(by_hand.lane()["halted"], Value::Null, "nobody is at it any more");
    by_hand.execute("drop function public.meanwhile cascade");
    // Another command halts it in between, and is still at it.
    at_each_update(
        &by_hand,
        "if old.owner is distinct from new.owner and new.halted is null then new.halted = 'being-resolved';
         new.halted_found = 'f'; new.halted_remedy = 'r'; new.halted_at = now(); end if;",
    );
    by_hand.execute("update dinnerbell.lane set owner = null");
    by_hand.execute(
        "update dinnerbell.lane set halted = null, halted_found = null, halted_remedy = null, halted_at = null",
    );
    assert_eq!(status(&by_hand.stage.dinnerbell(&FROM_KAFKA)), 1);
    assert_eq!(by_hand.lane()["halted"], json!("being-resolved"));
}
