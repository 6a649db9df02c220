use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::operate::by_hand::{ByHand, json_of};
use crate::support::database::psql_command;
use crate::support::{Campaign, Expected, Setting, Stage, wait_until};

/// Three drafts in round 1, published.
fn told() -> ByHand {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b", "c"]);
    by_hand.publish(1, &["a", "b", "c"]);
    by_hand
}

fn verified(by_hand: &ByHand) -> (i32, Value) {
    json_of(&by_hand.stage, &["verify"])
}

/// `verify` exits 1 and counts just this.
#[track_caller]
fn assert_differs(by_hand: &ByHand, count: &str, expected: u64) {
    let (status, report) = verified(by_hand);
    assert_eq!((status, &report["result"]), (1, &json!("different")));
    assert_eq!(report["differences"][count], json!(expected), "{report}");
    let total: u64 = report["differences"].as_object().expect("counts").values().filter_map(Value::as_u64).sum();
    assert_eq!(total, expected, "{report}");
    let named = report["examples"].as_array().expect("examples").iter().all(|e| e["adv_campaign_id"].is_string());
    assert!(named || count == "no_drafts", "{report}");
}

#[test]
fn equal_sinks_are_equal() {
    let (status, report) = verified(&told());
    assert_eq!((status, &report["result"], &report["equal"]), (0, &json!("equal"), &json!(3)), "{report}");
    assert_eq!((&report["messages"], &report["rows"]), (&json!(3), &json!(3)));
}

#[test]
fn nothing_told_is_equal() {
    let (status, report) = verified(&ByHand::new());
    assert_eq!((status, &report["result"]), (0, &json!("equal")), "{report}");
}

#[test]
fn a_row_without_a_message_differs() {
    let by_hand = told();
    by_hand.row(&by_hand.campaign, "bb");
    assert_differs(&by_hand, "rows_without_message", 1);
}

/// What compaction took was told: of all messages of a client only the last stays.
#[test]
fn of_a_compacted_topic_nobody_is_told_once_more_until_its_remedy_was_applied() {
    let by_hand = told();
    by_hand.row(&by_hand.campaign, "d");
    let Stage { kafka, notifications, .. } = &by_hand.stage;
    kafka.set_topic(notifications, "cleanup.policy", "compact,delete");
    let refused = by_hand.stage.dinnerbell(&["verify", "--republish"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&format!("topic {notifications} is compacted")), "{said}");
    assert!(said.contains(&format!("--alter --topic {notifications} --add-config cleanup.policy=delete")), "{said}");
    assert_eq!(by_hand.stage.row_count(), 4, "its row stays");
    kafka.set_topic(notifications, "cleanup.policy", "delete");
    let (status, report) = json_of(&by_hand.stage, &["verify", "--republish", "--dry-run"]);
    assert_eq!((status, &report["republished"]["dry_run"]), (0, &json!(true)), "it is refused no more: {report}");
}

#[test]
fn a_message_without_a_row_differs() {
    let by_hand = told();
    by_hand.execute("delete from public.subscribers_feedback where client_id = 'b'");
    assert_differs(&by_hand, "messages_without_row", 1);
}

#[test]
fn a_message_without_our_header_for_a_campaign_of_ours_differs() {
    let by_hand = told();
    by_hand.message(&by_hand.campaign, "d", None);
    assert_differs(&by_hand, "messages_without_row", 1);
}

#[test]
fn another_field_differs() {
    let by_hand = told();
    by_hand.execute("update public.subscribers_feedback set adv_campaign_owner = 'Petrov' where client_id = 'b'");
    assert_differs(&by_hand, "fields_differ", 1);
}

#[test]
fn a_draft_that_is_in_the_topic_twice_differs() {
    let by_hand = told();
    by_hand.message(&by_hand.campaign, "b", Some(1));
    assert_differs(&by_hand, "messages_repeated", 1);
}

#[test]
fn a_row_that_is_there_twice_differs() {
    let by_hand = told();
    by_hand.execute(
        "do $$ declare name text; begin for name in select indexname from pg_indexes where tablename = 'subscribers_feedback'
         and indexdef like '%UNIQUE%' and indexname <> 'id_pk' loop execute 'drop index public.' || quote_ident(name); end loop; end $$",
    );
    by_hand.row(&by_hand.campaign, "b");
    assert_differs(&by_hand, "rows_repeated", 1);
}

#[test]
fn a_message_of_our_round_that_is_no_draft_differs() {
    let by_hand = told();
    let round = format!("{}/0/1", by_hand.stage.campaigns);
    let source = format!("/dinnerbell/{}", by_hand.stage.group);
    let headers: [(&str, &[u8]); 2] = [("ce_source", source.as_bytes()), ("dinnerbell_round", round.as_bytes())];
    by_hand.stage.kafka.produce(&by_hand.stage.notifications, None, Some(b"b"), Some(b"{}"), &headers);
    assert_differs(&by_hand, "no_drafts", 1);
}

#[test]
fn a_recorded_round_is_pending_until_kafkas_mark_says_it_is_published() {
    let by_hand = told();
    by_hand.record(2, &["d", "e"]);
    let (status, report) = verified(&by_hand);
    assert_eq!((status, &report["pending"], &report["equal"]), (0, &json!(2), &json!(3)), "{report}");
    // Kafka committed it, and one of its messages is not there.
    by_hand.message(&by_hand.campaign, "d", Some(2));
    by_hand.mark(2, 0, 102);
    assert_differs(&by_hand, "rows_without_message", 1);
}

#[test]
fn rows_and_messages_of_an_earlier_job_are_foreign() {
    let by_hand = told();
    let earlier = Campaign::now("earlier", "pizzeria");
    by_hand.row(&earlier, "a");
    by_hand.message(&earlier, "b", None);
    by_hand.receive(&Campaign::now("never told", "pizzeria"));
    by_hand.row(&Campaign::now("never told", "pizzeria"), "a");
    by_hand.row(&by_hand.campaign, "bb");
    by_hand.execute("update dinnerbell.round_part set already_told = '{bb}'");
    let stage = &by_hand.stage;
    stage.kafka.produce(&stage.notifications, None, None, Some(b"not ours"), &[]);
    let (status, report) = verified(&by_hand);
    assert_eq!((status, &report["foreign_rows"], &report["foreign_messages"]), (0, &json!(3), &json!(2)), "{report}");
}

#[test]
fn rows_of_an_earlier_job_that_no_page_holds_are_foreign_and_nobody_is_told_again_for_them() {
    let by_hand = told();
    // Behind the last subscriber, and of a campaign whose restaurant had nobody before a newcomer was told.
    by_hand.row(&by_hand.campaign, "x");
    let empty = Campaign::now("nobody at first", "noodle bar");
    by_hand.receive(&empty);
    by_hand.row(&empty, "x");
    by_hand.row(&empty, "newcomer");
    by_hand.execute(
        "update dinnerbell.campaign set told = 1, late = 1, last_page_seq = 1 where adv_campaign_id = 'nobody at first';
         insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, last_page, late, drafts, checksum)
         values (0, 1, 1, 'nobody at first', 1, false, false, '{newcomer}', 1, 0)",
    );
    by_hand.message(&empty, "newcomer", Some(1));
    let (status, report) = verified(&by_hand);
    assert_eq!((status, &report["equal"], &report["foreign_rows"]), (0, &json!(4), &json!(2)), "{report}");

    // Who was told late, and whose message is lost, differs; and a round that was pruned may have told them.
    by_hand.row(&by_hand.campaign, "z");
    by_hand.execute(
        "update dinnerbell.campaign set told = told + 1, late = 1 where adv_campaign_id = 'offer';
         update dinnerbell.round_part set late = '{z}', drafts = 4 where adv_campaign_id = 'offer'",
    );
    assert_differs(&by_hand, "rows_without_message", 1);
    by_hand.execute("update dinnerbell.round_part set late = '{}' where adv_campaign_id = 'offer'");
    assert_differs(&by_hand, "rows_without_message", 2);
    by_hand.execute("update dinnerbell.round_part set late = '{z}' where adv_campaign_id = 'offer'; update dinnerbell.campaign set late = 2");
    let (_, report) = json_of(&by_hand.stage, &["verify", "--republish"]);
    let counted = json!({"dry_run": false, "drafts": 1, "over": 0, "answered": 0, "unrecorded": 2});
    assert_eq!(report["republished"], counted, "the one that a round recorded: {report}");
    assert_eq!(by_hand.clients(), ["a", "b", "c", "newcomer", "x", "x"]);
}

#[test]
fn drafts_of_another_service_in_the_same_topic_are_foreign_whatever_campaigns_they_tell_of() {
    let by_hand = told();
    // Both read the same campaigns: one draft is of both, one of the other alone, and one of a campaign that only the other knows.
    for (campaign, client) in [(&by_hand.campaign, "b"), (&by_hand.campaign, "d"), (&Campaign::now("its", "bar"), "a")]
    {
        by_hand.message_to(None, "another", campaign, client, Some(1));
    }
    let (status, report) = verified(&by_hand);
    assert_eq!((status, &report["foreign_messages"], &report["equal"]), (0, &json!(3), &json!(3)), "{report}");
}

#[test]
fn partitions_that_are_added_while_it_runs_are_read_and_nobody_is_told_again_for_them() {
    let by_hand = ByHand::new();
    by_hand.record(1, &["a", "b", "c", "d"]);
    by_hand.publish(1, &["a", "b", "c"]);
    let Stage { kafka, feedback, notifications, group, .. } = &by_hand.stage;
    // It has read the topic, and waits for its snapshot.
    let table = "relation = 'dinnerbell.round_part'::regclass";
    let mut in_the_way = psql_command(feedback.server(), &feedback.name);
    in_the_way.args(["-c", "begin; lock table dinnerbell.round_part; select pg_sleep(60)"]);
    let mut in_the_way = in_the_way.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql starts");
    let locks = |which: &str| feedback.number(&format!("select count(*) from pg_locks where {which} and {table}"));
    wait_until("the table is locked", Duration::from_secs(30), || locks("granted") == 1);
    let verified = std::thread::scope(|scope| {
        let verifying = scope.spawn(|| json_of(&by_hand.stage, &["verify", "--republish"]));
        wait_until("it waits", Duration::from_secs(30), || locks("not granted") == 1);
        kafka.grow_topic(notifications, 3);
        wait_until("it has grown", Duration::from_secs(30), || kafka.partitions(notifications).len() == 3);
        by_hand.message_to(Some(2), group, &by_hand.campaign, "d", Some(1));
        feedback.query(&format!("select pg_terminate_backend(pid) from pg_locks where granted and {table}"));
        verifying.join().expect("it ends")
    });
    in_the_way.wait().expect("psql ends");
    let (status, report) = verified;
    assert_eq!((status, &report["equal"], &report["republished"]["drafts"]), (0, &json!(4), &json!(0)), "{report}");
    assert_eq!(by_hand.clients(), ["a", "b", "c", "d"]);
}

#[test]
fn a_withdrawn_row_that_somebody_answered_in_is_listed_and_equal() {
    let by_hand = told();
    by_hand.row(&by_hand.campaign, "d");
    by_hand.execute(
        "update public.subscribers_feedback set feedback = 'delicious' where client_id = 'd';
         update dinnerbell.campaign set kept = 1",
    );
    let (status, report) = verified(&by_hand);
    assert_eq!((status, &report["kept"]), (0, &json!(1)), "{report}");
    assert_eq!((&report["examples"][0]["finding"], &report["examples"][0]["client_id"]), (&json!("kept"), &json!("d")));
}

#[test]
fn a_trimmed_topic_cannot_be_compared_but_what_is_younger_can() {
    let by_hand = told();
    for partition in [0, 1] {
        let (_, high) = by_hand.stage.kafka.watermarks(&by_hand.stage.notifications, partition, "read_committed");
        by_hand.stage.kafka.delete_records(&by_hand.stage.notifications, partition, high);
    }
    let output = by_hand.stage.dinnerbell(&["verify"]);
    assert_eq!(output.status.code(), Some(3));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("--since"), "{errors}");
    // Rows whose messages may have been deleted cannot be called different.
    let (status, report) = json_of(&by_hand.stage, &["verify", "--since", "1"]);
    assert_eq!((status, &report["result"]), (3, &json!("not_compared")), "{report}");
    by_hand.execute("update public.subscribers_feedback set trigger_datetime_created = 1");
    let (status, report) = json_of(&by_hand.stage, &["verify", "--since", "now"]);
    assert_eq!((status, &report["result"]), (0, &json!("equal")), "{report}");
}

#[test]
fn servers_that_cannot_be_reached_are_no_difference() {
    let mut by_hand = told();
    by_hand.stage.config.set("kafka", "bootstrap_servers", "127.0.0.1:1");
    assert_eq!(verified(&by_hand).0, 3);
    let ByHand { mut stage, .. } = told();
    stage.config.set("kafka.topics", "notifications", "elsewhere");
    assert_eq!(json_of(&stage, &["verify"]).0, 3, "another topic than the ledger's");
}

#[test]
fn any_number_of_rows_may_wait_for_a_round_to_be_published() {
    let by_hand = ByHand::new();
    by_hand.record_many(1, 150_000);
    let (status, report) = verified(&by_hand);
    assert_eq!((status, &report["result"], &report["pending"]), (0, &json!("equal"), &json!(150_000)), "{report}");
    by_hand.mark(1, 0, 101);
    let (status, report) = verified(&by_hand);
    assert_eq!((status, &report["pending"]), (1, &json!(0)), "Kafka says that it is published: {report}");
    assert_eq!(report["differences"]["rows_without_message"], json!(150_000), "{report}");
}

#[test]
fn clients_whose_messages_kafka_lost_are_told_once_more_while_their_campaign_lasts() {
    let stage = Stage::with(Setting::default());
    stage.migrate();
    stage.subscribers.subscribe("lost", 30);
    let service = stage.start();
    let campaign = Campaign::now("lost", "lost");
    stage.send(&campaign);
    let expected = Expected::from([(&campaign, stage.subscribers.clients_of("lost"))]);
    stage.await_sinks(&expected, Duration::from_secs(60));
    service.stop();
    // What Kafka lost, and one client who answered: that one was told.
    stage.kafka.delete_topics(&[&stage.notifications]);
    stage.kafka.create_topic(&stage.notifications, 3, &[]);
    // After an unclean election the topic is the same.
    stage.feedback.execute("update dinnerbell.service set notifications_id = null");
    stage.feedback.execute(
        "update public.subscribers_feedback set feedback = 'yes'
         where client_id = (select min(client_id) from public.subscribers_feedback)",
    );
    let service = stage.start();
    let republish = |more: &[&str]| json_of(&stage, &[&["verify", "--republish"], more].concat());
    let (status, would) = republish(&["--dry-run"]);
    let counted = json!({"dry_run": true, "drafts": 29, "over": 0, "answered": 1, "unrecorded": 0});
    assert_eq!((status, &would["republished"], stage.row_count()), (1, &counted, 30), "{would}");
    let (_, done) = republish(&[]);
    assert_eq!((&done["republished"]["drafts"], &done["republished"]["answered"]), (&json!(29), &json!(1)), "{done}");
    wait_until("they are told", Duration::from_secs(60), || stage.messages().len() >= 29 && stage.row_count() == 30);
    wait_until("the lane is at rest", Duration::from_secs(60), || stage.unrest().is_none());
    let (_, again) = republish(&[]);
    assert_eq!(
        again["republished"],
        json!({"dry_run": false, "drafts": 0, "over": 0, "answered": 1, "unrecorded": 0}),
        "{again}"
    );
    let messages = stage.messages();
    let told: BTreeSet<_> = messages.iter().map(|message| message.key.clone()).collect();
    assert_eq!((messages.len(), told.len()), (29, 29), "each once");
    service.stop();
    // Of a campaign that is over nobody is told.
    stage.kafka.delete_topics(&[&stage.notifications]);
    stage.kafka.create_topic(&stage.notifications, 3, &[]);
    stage.feedback.execute("update dinnerbell.campaign set state = 'closed'");
    let (_, over) = republish(&[]);
    assert_eq!(
        over["republished"],
        json!({"dry_run": false, "drafts": 0, "over": 29, "answered": 1, "unrecorded": 0}),
        "{over}"
    );
    assert_eq!(stage.row_count(), 30);
}
