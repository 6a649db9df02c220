//! Every halt on the real service: it is brought about, its printed remedy is followed to the letter, and the lane goes on.

use std::process::Command;
use std::time::Duration;

use dinnerbell_core::model::halt::HaltKind;
use serde_json::Value;

use crate::operate::by_hand::json_of;
use crate::support::database::psql_command;
use crate::support::{Campaign, Expected, Service, Setting, Stage, wait_for, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// A stage with one lane, small rounds, and a campaign of 25 that was told.
struct Told {
    stage: Stage,
    expected: Expected,
}

impl Told {
    fn new() -> Self {
        let mut told = Self { stage: Self::stage(), expected: Expected::default() };
        let service = told.stage.start();
        told.tell("first", 25);
        service.stop();
        told
    }

    fn stage() -> Stage {
        let mut stage = Stage::with(Setting::default());
        stage.config.set("fanout", "round_rows", 10);
        stage.config.set("kafka.client", "session.timeout.ms", 3_000).set(
            "kafka.client",
            "heartbeat.interval.ms",
            1_000,
        );
        stage.migrate();
        stage
    }

    /// Sends a campaign to so many new subscribers, without waiting.
    fn send(&mut self, name: &str, subscribers: u64) {
        self.stage.subscribers.subscribe(name, subscribers);
        let campaign = Campaign::now(name, name);
        self.expected.add(&campaign, self.stage.subscribers.clients_of(name));
        self.stage.send(&campaign);
    }

    /// Sends a campaign and waits until everybody is told.
    #[track_caller]
    fn tell(&mut self, name: &str, subscribers: u64) {
        self.send(name, subscribers);
        self.stage.await_sinks(&self.expected, LONG);
    }

    /// Waits for this halt, follows its remedy, and sees that the lane goes on and both sinks agree.
    #[track_caller]
    fn follow_remedy(&mut self, service: Service, name: &str) {
        self.run_remedy(name);
        self.stage.await_sinks(&self.expected, LONG);
        self.tell("afterwards", 12);
        let (status, report) = json_of(&self.stage, &["verify"]);
        assert_eq!(status, 0, "{report}");
        service.stop();
        let lanes = self.lanes();
        assert_eq!(lanes[0]["halted"], Value::Null);
        let overrules = self.stage.feedback.number("select count(*) from dinnerbell.lane where overrule");
        assert_eq!(overrules, 0, "what was overruled is forgotten");
    }

    /// Waits for this halt and runs the command that its remedy names.
    #[track_caller]
    fn run_remedy(&self, name: &str) {
        let halted = self.await_halt(name);
        let remedy = halted["remedy"].as_str().expect("text").to_owned();
        let found = halted["found"].as_str().expect("text");
        assert!(!found.contains('{'), "words, not what a debugger shows: {found}");
        let command = remedy.rsplit("dinnerbell ").next().expect("a remedy names a command");
        // To the letter: a remedy ends with its command.
        let args: Vec<&str> = command.split(' ').collect();
        println!("{name}: {remedy}");
        print!("{}", self.stage.dinnerbell_ok(&args));
    }

    #[track_caller]
    fn await_halt(&self, name: &str) -> Value {
        let halted = wait_for(&format!("the halt {name}"), LONG, || {
            self.lanes()[0].get("halted").filter(|halted| !halted.is_null()).cloned()
        });
        assert_eq!(halted["name"], name, "{halted}");
        halted
    }

    fn lanes(&self) -> Value {
        json_of(&self.stage, &["lane", "list"]).1
    }

    fn marks(&self) -> String {
        self.stage.kafka.committed(&self.stage.group, &self.stage.campaigns)[0].metadata.clone()
    }

    fn commit(&self, metadata: &str) {
        wait_until("the group has no members", LONG, || {
            let committed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.stage.kafka.commit(&self.stage.group, &self.stage.campaigns, 0, 1, metadata);
            }));
            committed.is_ok()
        });
    }

    /// What the feedback database holds now, to come back to.
    fn back_up(&self) -> Backup {
        let name = self.stage.feedback.name.clone();
        self.on_server(&format!("create database {name}_kept template {name}"));
        Backup { name }
    }

    fn restore(&self, backup: Backup) {
        let Backup { name } = backup;
        self.on_server(&format!("drop database {name} with (force)"));
        self.on_server(&format!("alter database {name}_kept rename to {name}"));
    }

    fn on_server(&self, sql: &str) {
        let mut psql: Command = psql_command(&self.stage.postgres, "postgres");
        wait_until(sql, LONG, || psql.args(["-c", sql]).output().expect("psql is there").status.success());
    }
}

struct Backup {
    name: String,
}

/// The test of this halt, here or in `resolve.rs`.
fn test_of(kind: &HaltKind) -> &'static str {
    match kind {
        HaltKind::FeedbackRefused => "a_feedback_table_that_refuses",
        HaltKind::KafkaRefused => "a_topic_of_drafts_that_takes_small_messages_only",
        HaltKind::SubscribersRefused => "a_subscribers_table_that_is_gone",
        HaltKind::DuplicateRow => "rows_that_somebody_else_writes",
        HaltKind::RoundDamaged => "a_round_whose_rows_were_removed_and_are_restored",
        HaltKind::TopicReplaced => "a_topic_that_was_recreated",
        HaltKind::InputTruncated => "a_topic_whose_brokers_lost_records",
        HaltKind::InputTrimmed => "input_that_was_deleted_unread",
        HaltKind::NotificationsReplaced => "a_topic_of_drafts_that_was_recreated",
        HaltKind::FeedbackTableReplaced => "a_feedback_table_that_was_replaced_and_comes_back",
        HaltKind::RowsRemoved => "feedback_rows_that_were_removed_and_come_back",
        HaltKind::KafkaAhead => "kafka_ahead_after_a_restored_backup",
        HaltKind::KafkaBehind | HaltKind::ForeignOffset => "a_foreign_offset_and_a_mark_that_went_back",
        HaltKind::MarkMissing => "mark_missing_of_a_round_that_was_not_published",
        HaltKind::OtherContent => "other_content_of_the_same_round",
        HaltKind::OtherLedger => "another_ledger_after_a_database_that_was_lost",
        HaltKind::BeingResolved | HaltKind::InputUnreadable | HaltKind::Other(_) => "a_retry_clears_the_halt",
    }
}

#[test]
fn every_halt_has_a_test_that_names_it() {
    let sources = [include_str!("remedies.rs"), include_str!("resolve.rs")];
    let other = HaltKind::Other("of-a-later-version".to_owned());
    for kind in HaltKind::ALL.iter().chain([&other]) {
        let begins = format!("#[test]\nfn {}() {{", test_of(kind));
        let body = sources.iter().find_map(|source| source.split_once(&begins));
        let body = body.and_then(|(_, rest)| rest.split_once("\n}\n")).map(|(body, _)| body);
        let body = body.unwrap_or_else(|| panic!("there is no test {}", test_of(kind)));
        assert!(body.contains(&format!("\"{kind}\"")), "{} does not name {kind}", test_of(kind));
    }
}

#[test]
fn kafka_ahead_after_a_restored_backup() {
    let mut told = Told::new();
    let backup = told.back_up();
    let service = told.stage.start();
    told.tell("lost", 33);
    service.stop();
    // The favourites live in the same database, and are not what was lost.
    let clients = told.stage.subscribers.clients_of("lost");
    told.restore(backup);
    told.stage.subscribers.subscribe_clients("lost", &clients.iter().map(String::as_str).collect::<Vec<_>>());
    let service = told.stage.start();
    told.follow_remedy(service, "kafka-ahead");
    let (_, shown) = json_of(&told.stage, &["campaign", "show", "lost"]);
    assert_eq!((&shown["told"], &shown["state"]), (&33.into(), &"complete".into()), "{shown}");
}

#[test]
fn another_ledger_after_a_database_that_was_lost() {
    let mut told = Told::new();
    let clients = told.stage.subscribers.clients_of("first");
    told.stage.feedback.execute("drop schema dinnerbell cascade; drop table public.subscribers_feedback");
    told.stage.dinnerbell_ok(&["migrate", "--create-tables"]);
    assert_eq!(clients.len(), 25);
    let service = told.stage.start();
    told.follow_remedy(service, "other-ledger");
}

#[test]
fn a_foreign_offset_and_a_mark_that_went_back() {
    let mut told = Told::new();
    let old = told.marks();
    let service = told.stage.start();
    told.tell("second", 33);
    service.stop();
    told.commit("by another tool");
    let service = told.stage.start();
    told.run_remedy("foreign-offset");
    told.tell("third", 10);
    service.stop();
    told.commit(&old);
    let service = told.stage.start();
    told.follow_remedy(service, "kafka-behind");
}

#[test]
fn other_content_of_the_same_round() {
    let mut told = Told::new();
    told.stage
        .feedback
        .execute("update dinnerbell.round r set checksum = 1 from dinnerbell.lane l where r.seq = l.seq");
    let service = told.stage.start();
    told.follow_remedy(service, "other-content");
}

/// Records a round and dies before it is published, or before the ledger knows.
fn killed_at(point: &str) -> Told {
    let mut told = Told { stage: Told::stage(), expected: Expected::default() };
    let mut service = told.stage.start_failing(&format!("{point}=abort"));
    told.send("first", 8);
    service.wait_for_abort(LONG);
    wait_until("the group has no members", LONG, || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| told.stage.kafka.delete_group(&told.stage.group)))
            .is_ok()
    });
    told
}

#[test]
fn mark_missing_of_a_round_that_was_not_published() {
    let mut told = killed_at("round.sealed@1");
    let service = told.stage.start();
    told.follow_remedy(service, "mark-missing");
}

#[test]
fn mark_missing_of_a_round_that_was_published() {
    // A lane's first act is a round without drafts, which is only published.
    let mut told = killed_at("publish.committed@2");
    let service = told.stage.start();
    told.follow_remedy(service, "mark-missing");
}

#[test]
fn a_topic_that_was_recreated() {
    let mut told = Told::new();
    told.stage.kafka.delete_topics(&[&told.stage.campaigns]);
    told.stage.kafka.create_topic(&told.stage.campaigns, 1, &[]);
    let service = told.stage.start();
    told.follow_remedy(service, "topic-replaced");
}

#[test]
fn a_topic_of_drafts_that_was_recreated() {
    let mut told = Told::new();
    told.stage.kafka.delete_topics(&[&told.stage.notifications]);
    told.stage.kafka.create_topic(&told.stage.notifications, 1, &[]);
    let service = told.stage.start();
    told.await_halt("notifications-replaced");
    told.stage.dinnerbell_ok(&["verify", "--republish"]);
    told.follow_remedy(service, "notifications-replaced");
}

#[test]
fn input_that_was_deleted_unread() {
    let mut told = Told::new();
    for _ in 0..3 {
        told.stage.kafka.produce(&told.stage.campaigns, Some(0), None, Some(b"nobody reads this"), &[]);
    }
    let (_, high) = told.stage.kafka.watermarks(&told.stage.campaigns, 0, "read_committed");
    told.stage.kafka.delete_records(&told.stage.campaigns, 0, high);
    let service = told.stage.start();
    told.follow_remedy(service, "input-trimmed");
}

/// A round of eight drafts is recorded and not published, and two of its rows are moved to the table `removed`.
fn damaged() -> Told {
    let mut told = Told { stage: Told::stage(), expected: Expected::default() };
    let mut service = told.stage.start_failing("round.sealed@1=abort");
    told.send("first", 8);
    service.wait_for_abort(LONG);
    told.stage.feedback.execute(
        "create table removed as select * from public.subscribers_feedback order by client_id limit 2;
         delete from public.subscribers_feedback where id in (select id from removed)",
    );
    told
}

#[test]
fn a_round_whose_rows_were_removed_and_are_restored() {
    let mut told = damaged();
    let service = told.stage.start();
    told.await_halt("round-damaged");
    told.stage.feedback.execute("insert into public.subscribers_feedback select * from removed");
    told.follow_remedy(service, "round-damaged");
}

#[test]
fn a_round_whose_rows_were_removed_and_are_lost_tells_those_clients_later() {
    let told = damaged();
    let service = told.stage.start();
    let halted = told.await_halt("round-damaged");
    let remedy = halted["remedy"].as_str().expect("text");
    assert!(remedy.contains("dinnerbell lane resolve 0 --accept-rows; "), "{remedy}");
    told.stage.dinnerbell_ok(&["lane", "resolve", "0", "--accept-rows"]);
    told.stage.await_sinks(&told.expected, LONG);
    let (status, report) = json_of(&told.stage, &["verify"]);
    assert_eq!(status, 0, "{report}");
    let (_, shown) = json_of(&told.stage, &["campaign", "show", "first"]);
    assert_eq!(shown["told"], 8, "{shown}");
    service.stop();
}

#[test]
fn a_feedback_table_that_refuses() {
    let mut told = Told::new();
    told.stage
        .feedback
        .execute("alter table public.subscribers_feedback add constraint no_more check (adv_campaign_id <> 'second')");
    let service = told.stage.start();
    told.send("second", 5);
    told.await_halt("feedback-refused");
    told.stage.feedback.execute("alter table public.subscribers_feedback drop constraint no_more");
    told.follow_remedy(service, "feedback-refused");
}

#[test]
fn rows_that_somebody_else_writes() {
    let mut told = Told::new();
    let service = told.stage.start();
    // Beside each row of the campaign, a moment before it, another one for the same client.
    told.stage.feedback.execute(
        "create function twin() returns trigger language plpgsql as $$
         declare another public.subscribers_feedback := new;
         begin
           if pg_trigger_depth() = 1 and new.adv_campaign_id = 'second' then
             another.id := -new.id;
             insert into public.subscribers_feedback select another.*;
           end if;
           return new;
         end $$;
         create trigger twin before insert on public.subscribers_feedback for each row execute function twin()",
    );
    told.send("second", 5);
    told.await_halt("duplicate-row");
    told.stage.feedback.execute("drop trigger twin on public.subscribers_feedback");
    told.follow_remedy(service, "duplicate-row");
}

#[test]
fn a_topic_of_drafts_that_takes_small_messages_only() {
    let mut told = Told::new();
    let service = told.stage.start();
    told.tell("second", 5);
    told.stage.kafka.set_topic(&told.stage.notifications, "max.message.bytes", "100");
    told.send("third", 5);
    told.await_halt("kafka-refused");
    told.stage.kafka.set_topic(&told.stage.notifications, "max.message.bytes", "1048588");
    told.follow_remedy(service, "kafka-refused");
}

#[test]
fn a_topic_whose_brokers_lost_records() {
    let mut told = Told::new();
    told.stage.feedback.execute("update dinnerbell.lane set last_hash = last_hash # 1");
    let service = told.stage.start();
    told.follow_remedy(service, "input-truncated");
}

#[test]
fn a_feedback_table_that_was_replaced_and_comes_back() {
    let mut told = Told::new();
    let service = told.stage.start();
    told.tell("second", 5);
    let swap = "begin; alter table public.subscribers_feedback rename to elsewhere;
                create table public.subscribers_feedback (like public.elsewhere including all); commit";
    told.stage.feedback.execute(swap);
    told.await_halt("feedback-table-replaced");
    told.stage.feedback.execute(
        "begin; drop table public.subscribers_feedback; alter table public.elsewhere rename to subscribers_feedback; commit",
    );
    told.follow_remedy(service, "feedback-table-replaced");
}

#[test]
fn feedback_rows_that_were_removed_and_come_back() {
    let mut told = Told::new();
    told.stage.feedback.execute(
        "create table removed as select * from public.subscribers_feedback; truncate public.subscribers_feedback",
    );
    let service = told.stage.start();
    told.await_halt("rows-removed");
    told.stage.feedback.execute("insert into public.subscribers_feedback select * from removed");
    told.follow_remedy(service, "rows-removed");
}

#[test]
fn a_subscribers_table_that_is_gone() {
    let mut told = Told::new();
    let service = told.stage.start();
    told.tell("second", 5);
    told.stage.subscribers.subscribe("third", 5);
    told.stage.feedback.execute("alter table public.subscribers_restaurants rename to elsewhere");
    let campaign = Campaign::now("third", "third");
    told.stage.send(&campaign);
    told.await_halt("subscribers-refused");
    told.stage.feedback.execute("alter table public.elsewhere rename to subscribers_restaurants");
    told.expected.add(&campaign, told.stage.subscribers.clients_of("third"));
    told.follow_remedy(service, "subscribers-refused");
}
