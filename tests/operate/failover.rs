//! A feedback database that fails over to an asynchronous standby, and loses its last commits, while the service runs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::operate::by_hand::json_of;
use crate::support::database::psql_command;
use crate::support::{Campaign, Expected, Service, Setting, Stage, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// Two lanes, and a service whose database can lose what it told.
struct FailOver {
    /// None while no instance runs. Before the stage: its log lies there, and is shown when a test fails.
    service: Option<Service>,
    stage: Stage,
    expected: Expected,
}

impl FailOver {
    fn new(names: &[&str]) -> Self {
        let stage = Stage::with(Setting { lanes: 2, own_postgres: true, ..Setting::default() });
        stage.migrate();
        // The favourites live in the same server, and are not what is lost.
        names.iter().for_each(|name| stage.subscribers.subscribe(name, 30));
        let service = Some(stage.start());
        let mut fail_over = Self { stage, service, expected: Expected::default() };
        fail_over.tell(0, &fail_over.campaign("kept"));
        fail_over
    }

    fn campaign(&self, name: &str) -> Campaign {
        Campaign::now(name, name)
    }

    /// Sends a campaign to a lane, and waits until everybody is told.
    #[track_caller]
    fn tell(&mut self, lane: i32, campaign: &Campaign) {
        self.expected.add(campaign, self.stage.subscribers.clients_of(&campaign.restaurant_id));
        self.stage.send_to(lane, campaign);
        self.stage.await_sinks(&self.expected, LONG);
    }

    /// The lane knows all records that were sent to it.
    #[track_caller]
    fn await_position(&self, lane: i32, position: i64) {
        let of_lane = format!("select position from dinnerbell.lane where lane = {lane}");
        wait_until("the record is taken in", LONG, || self.stage.feedback.number(&of_lane) == position);
    }

    #[track_caller]
    fn await_halts(&self, halts: &[Value]) {
        wait_until(&format!("the halts {halts:?}"), LONG, || self.halts() == halts);
    }

    fn halts(&self) -> Vec<Value> {
        let lanes = json_of(&self.stage, &["lane", "list"]).1;
        lanes.as_array().expect("a list").iter().map(|lane| lane["halted"]["name"].clone()).collect()
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("an instance runs")
    }

    /// What a list says of the hold; empty where nothing is held.
    fn said(&self) -> String {
        String::from_utf8_lossy(&self.stage.dinnerbell(&["lane", "list"]).stderr).into_owned()
    }

    /// What `doctor` finds of the hold.
    fn held(&self) -> Value {
        let (_, doctor) = json_of(&self.stage, &["doctor"]);
        let findings = doctor["findings"].as_array().expect("a list");
        findings.iter().find(|finding| finding["check"] == "held").expect("a check").clone()
    }

    /// The feedback database is restarted while no instance runs.
    fn restart_without_instance(&mut self) {
        self.service.take().expect("an instance runs").stop();
        self.stage.postgres.stop();
        self.stage.postgres.start();
    }

    /// Runs the command with which the remedy of the hold ends.
    #[track_caller]
    fn run_remedy(&self) -> String {
        let remedy = self.held()["remedy"].as_str().expect("text").to_owned();
        let command = remedy.rsplit("dinnerbell ").next().expect("a remedy names a command").to_owned();
        self.stage.dinnerbell_ok(&command.split(' ').collect::<Vec<_>>())
    }

    fn is_held(&self) -> bool {
        let answer = self.service().get("/readyz");
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        serde_json::from_str::<Value>(body).expect("JSON")["held"].as_bool().expect("a boolean")
    }

    /// Everything is told once, what comes now too, and nothing is held.
    #[track_caller]
    fn settles_whole(mut self) {
        self.stage.await_sinks(&self.expected, LONG);
        self.tell(1, &self.campaign("afterwards"));
        assert!(!self.is_held());
        let (status, report) = json_of(&self.stage, &["verify"]);
        assert_eq!((status, &report["result"]), (0, &json!("equal")), "{report}");
        self.service.take().expect("an instance runs").stop();
    }
}

#[test]
fn a_lane_that_has_nothing_to_do_notices_a_fail_over_and_one_command_puts_all_lanes_back() {
    let mut of = FailOver::new(&["kept", "lost", "afterwards"]);
    of.stage.postgres.fall_behind();
    let lost = of.campaign("lost");
    of.tell(0, &lost);
    // The ledger knows the round to be published: nothing is left to do in lane 0.
    let published = "select count(*) from dinnerbell.lane where lane = 0 and published_seq = seq";
    wait_until("lane 0 is at rest", LONG, || of.stage.feedback.number(published) == 1);
    of.stage.postgres.promote();
    let answers = Instant::now();
    of.await_halts(&[json!("kafka-ahead"), Value::Null]);
    assert!(answers.elapsed() < Duration::from_secs(10), "it was noticed after {:?}", answers.elapsed());
    assert!(of.is_held());
    // A copy that comes through the other lane is not taken in: the ledger does not know that everybody was told.
    of.stage.send_to(1, &lost);
    let listed = of.stage.dinnerbell(&["lane", "list"]);
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(said.contains("commits are missing in 0") && said.contains("lane resolve --all --from-kafka"), "{said}");
    let (_, doctor) = json_of(&of.stage, &["doctor"]);
    let held = doctor["findings"].as_array().expect("a list").iter().find(|finding| finding["check"] == "held");
    assert_eq!(held.expect("a check")["status"], "error", "{doctor}");
    let all = ["lane", "resolve", "--all", "--from-kafka"];
    let (status, would) = json_of(&of.stage, &[&all[..], &["--dry-run"]].concat());
    assert_eq!((status, would[0]["lane"].as_i64(), would[0]["rows_restored"].as_i64()), (0, Some(0), Some(0)));
    assert_eq!(of.halts()[0], "kafka-ahead", "a dry run changes nothing");
    let (status, done) = json_of(&of.stage, &all);
    assert_eq!((status, done.as_array().map(Vec::len), done[0]["rows_restored"].as_i64()), (0, Some(1), Some(30)));
    of.settles_whole();
}

#[test]
fn a_database_that_was_restored_halts_its_lanes_though_the_group_is_gone_too() {
    let mut of = FailOver::new(&["kept", "lost", "afterwards"]);
    let published = "select count(*) from dinnerbell.lane where lane = 0 and published_seq = seq";
    wait_until("lane 0 is at rest", LONG, || of.stage.feedback.number(published) == 1);
    of.stage.postgres.fall_behind();
    of.tell(0, &of.campaign("lost"));
    of.service.take().expect("an instance runs").stop();
    of.stage.postgres.promote();
    of.stage.kafka.delete_group(&of.stage.group);
    of.service = Some(of.stage.start());
    // Lane 1 told nobody, as its ledger knows: that may be an older state of it.
    of.await_halts(&[json!("mark-missing"), json!("mark-missing")]);
    assert!(of.is_held(), "what the lane told may be new to another one");
    of.stage.dinnerbell_ok(&["lane", "resolve", "--all", "--from-kafka"]);
    of.settles_whole();
}

/// The tables of the ledger that a backup puts back, in the order in which they are emptied.
const TABLES: [&str; 4] = ["round_part", "round", "campaign", "lane"];

/// The ledger and the rows go back to where they stood before the campaign "lost", by these statements, which empty them;
/// while the service runs, or when it is stopped.
fn put_back(of: &mut FailOver, empty: &str, is_stopped: bool) -> Campaign {
    let published = "select count(*) from dinnerbell.lane where lane = 0 and published_seq = seq";
    wait_until("lane 0 is at rest", LONG, || of.stage.feedback.number(published) == 1);
    let all = |what: &dyn Fn(&str) -> String| TABLES.map(what).join("; ");
    of.stage.feedback.execute(&all(&|table| format!("create table backup_{table} as table dinnerbell.{table}")));
    of.stage.feedback.execute("create table backup_rows as table public.subscribers_feedback");
    let lost = of.campaign("lost");
    of.tell(0, &lost);
    if is_stopped {
        of.service.take().expect("an instance runs").stop();
    }
    let restore = TABLES.iter().rev().map(|table| format!("insert into dinnerbell.{table} table backup_{table}"));
    let restore = restore.collect::<Vec<_>>().join("; ");
    let rows = "insert into public.subscribers_feedback table backup_rows";
    of.stage.feedback.execute(&format!("begin; {empty}; {restore}; {rows}; commit"));
    lost
}

const TRUNCATED: &str = "truncate dinnerbell.round_part, dinnerbell.round, dinnerbell.campaign, dinnerbell.lane, public.subscribers_feedback";
/// The tables stay the same files.
const DELETED: &str = "delete from dinnerbell.round_part; delete from dinnerbell.round; delete from dinnerbell.campaign; \
                       delete from dinnerbell.lane; delete from public.subscribers_feedback";

#[test]
fn a_ledger_that_was_emptied_and_filled_from_a_backup_holds_all_lanes() {
    for empty in [TRUNCATED, DELETED] {
        let mut of = FailOver::new(&["kept", "lost", "afterwards"]);
        put_back(&mut of, empty, false);
        of.await_halts(&[json!("kafka-ahead"), Value::Null]);
        assert!(of.is_held());
        of.stage.dinnerbell_ok(&["lane", "resolve", "--all", "--from-kafka"]);
        of.settles_whole();
    }
}

#[test]
fn a_ledger_that_was_filled_from_a_backup_while_no_instance_ran_takes_nothing_in_before_all_lanes_are_compared() {
    let mut of = FailOver::new(&["kept", "lost", "afterwards"]);
    let before = of.stage.feedback.number("select position from dinnerbell.lane where lane = 1");
    let lost = put_back(&mut of, DELETED, true);
    assert!(of.said().contains("not taken over by any instance since: 0, 1"), "{}", of.said());
    let lanes = json_of(&of.stage, &["lane", "list"]).1;
    assert_eq!([&lanes[0]["state"], &lanes[1]["state"]], [&json!("held"), &json!("held")], "{lanes}");
    // A copy that comes through the other lane would be new to the ledger, and would be told again.
    of.stage.send_to(1, &lost);
    of.service = Some(of.stage.start());
    of.await_halts(&[json!("kafka-ahead"), Value::Null]);
    assert!(of.is_held());
    assert_eq!(of.stage.feedback.number("select position from dinnerbell.lane where lane = 1"), before);
    of.stage.dinnerbell_ok(&["lane", "resolve", "--all", "--from-kafka"]);
    of.settles_whole();
}

#[test]
fn a_campaign_of_two_lanes_is_told_once_though_the_lane_of_its_copy_is_put_back_first() {
    let mut of = FailOver::new(&["kept", "lost", "other", "afterwards"]);
    of.stage.postgres.fall_behind();
    let lost = of.campaign("lost");
    of.tell(0, &lost);
    let before = of.stage.feedback.number("select position from dinnerbell.lane where lane = 1");
    of.stage.send_to(1, &lost);
    of.await_position(1, before + 1);
    of.tell(1, &of.campaign("other"));
    of.stage.postgres.promote();
    of.await_halts(&[json!("kafka-ahead"), json!("kafka-ahead")]);
    of.stage.dinnerbell_ok(&["lane", "resolve", "1", "--from-kafka"]);
    of.await_halts(&[json!("kafka-ahead"), Value::Null]);
    let compared = "select count(*) from dinnerbell.lane where compared = (select max(compared) from dinnerbell.lane where lane = 1) and lane = 1 \
                    and entered_at > resolved_at";
    wait_until("lane 1 is taken over again", LONG, || of.stage.feedback.number(compared) == 1);
    assert!(of.is_held(), "it waits for lane 0");
    of.stage.dinnerbell_ok(&["lane", "resolve", "0", "--from-kafka"]);
    of.settles_whole();
}

#[test]
fn a_hold_that_no_instance_can_end_names_its_remedy_which_ends_it_without_one() {
    let mut of = FailOver::new(&["kept", "afterwards"]);
    of.restart_without_instance();
    let said = of.said();
    assert!(said.contains("not taken over by any instance since: 0, 1"), "{said}");
    let all = ["lane", "resolve", "--all", "--from-kafka"];
    let (status, would) = json_of(&of.stage, &[&all[..], &["--dry-run"]].concat());
    assert_eq!((status, would.as_array().map(Vec::len)), (0, Some(2)), "{would}");
    assert_eq!(of.said(), said, "a dry run changes nothing");
    let (status, done) = json_of(&of.stage, &all);
    assert_eq!((status, done.as_array().map(Vec::len)), (0, Some(2)), "{done}");
    assert_eq!(of.said(), "");
    of.service = Some(of.stage.start());
    of.settles_whole();
}

#[test]
fn a_lane_that_is_halted_by_what_something_else_committed_holds_the_others_until_the_remedy_of_the_hold_is_followed() {
    let mut of = FailOver::new(&["kept", "waits", "afterwards"]);
    of.restart_without_instance();
    wait_until("the group has no members", LONG, || {
        let commit = || of.stage.kafka.commit(&of.stage.group, &of.stage.campaigns, 1, 0, "by another tool");
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(commit)).is_ok()
    });
    of.service = Some(of.stage.start());
    of.await_halts(&[Value::Null, json!("foreign-offset")]);
    let waits = of.campaign("waits");
    of.expected.add(&waits, of.stage.subscribers.clients_of("waits"));
    of.stage.send_to(0, &waits);
    // It is said where an operator looks: who probes the instance, and who reads its log.
    let named = "halted as foreign-offset, so that commits may be missing: 1; ";
    wait_until("the instance says what holds", LONG, || of.service().get("/readyz").contains(named));
    assert!(of.service().get("/readyz").contains("lane resolve --all --from-kafka"));
    assert!(of.service().log().contains(named));
    assert!(of.is_held());
    of.run_remedy();
    of.settles_whole();
}

#[test]
fn a_lane_whose_lock_another_role_holds_is_named_with_the_backend_that_is_to_be_ended() {
    let mut of = FailOver::new(&["kept", "afterwards"]);
    of.restart_without_instance();
    let (role, password) = (unique("ours_"), of.stage.postgres.password.clone());
    of.stage.feedback.execute(&format!(
        "create role {role} login password '{password}'; grant usage on schema dinnerbell to {role};
         grant all on all tables in schema public, dinnerbell to {role}; grant all on all sequences in schema public, dinnerbell to {role}"
    ));
    let url = of.stage.feedback.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    of.stage.config.set("feedback", "url", url.clone()).set("subscribers", "url", url);
    let key = of.stage.feedback.number("select lock_key from dinnerbell.lane where lane = 1");
    let mut psql = psql_command(&of.stage.postgres, &of.stage.feedback.name);
    let mut holder =
        psql.args(["-c", &format!("select pg_advisory_lock({key}), pg_sleep(600)")]).spawn().expect("psql is there");
    wait_until("the lock is held", LONG, || {
        of.stage
            .feedback
            .number("select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 1")
            > 0
    });
    of.service = Some(of.stage.start());
    wait_until("the other lane is compared", LONG, || {
        let said = of.said();
        said.contains("of role postgres holds the lock of 1") && !said.contains(": 0")
    });
    let remedy = of.held()["remedy"].as_str().expect("text").to_owned();
    let (_, ends) = remedy.split_once("select pg_terminate_backend(").expect("a statement");
    let pid = ends.split_once(')').expect("its end").0;
    of.stage.feedback.execute(&format!("select pg_terminate_backend({pid})"));
    let command = remedy.rsplit("dinnerbell ").next().expect("a remedy names a command");
    of.stage.dinnerbell_ok(&command.split(' ').collect::<Vec<_>>());
    holder.wait().expect("it ended");
    of.settles_whole();
}
