//! The feedback table as people have it: with defaults, triggers, constraints, ids and types that nobody foresaw. What cannot work is refused at
//! the start and found by `doctor`, with what mends it; what turns up while a lane runs halts it by its cause.

use std::time::Duration;

use serde_json::Value;

use crate::operate::by_hand::json_of;
use crate::support::{Campaign, Expected, Stage, service, wait_for};

const LONG: Duration = Duration::from_secs(60);
const TABLE: &str = "public.subscribers_feedback";
const OPT_OUT: &str = "create function public.leave_out() returns trigger language plpgsql as
    $$begin if new.client_id like '%opted-out%' then return null; end if; return new; end$$;
    create trigger opt_out before insert on public.subscribers_feedback for each row execute function public.leave_out();";

fn migrated() -> Stage {
    let mut stage = Stage::new();
    stage.config.set("kafka.client", "session.timeout.ms", 3_000).set("kafka.client", "heartbeat.interval.ms", 1_000);
    stage.migrate();
    stage
}

/// What doctor says that is not well, and what it says of the start: an error in the one is a refusal in the other.
#[track_caller]
pub fn assert_refused(stage: &Stage, words: &str, remedy: &str) {
    let (status, report) = json_of(stage, &["doctor"]);
    let findings = report["findings"].as_array().expect("findings");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let errors = findings.iter().filter(|finding| finding["status"] == "error");
    let found = errors.map(|f| format!("{}\nremedy: {}", text(&f["found"]), text(&f["remedy"])));
    let found: Vec<String> = found.collect();
    let named = found.iter().find(|found| found.contains(words) && found.contains(remedy));
    assert!(named.is_some(), "{words:?} with {remedy:?} is not among {found:#?}");
    assert_eq!(status, 1);
    let mut command = service::command(stage.dir.path(), &["run"]);
    command.arg("-c").arg(stage.config.write(stage.dir.path()));
    let output = service::run(command, LONG);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let last = errors.lines().last().unwrap_or_default();
    assert!(
        last.contains(words) && last.contains(remedy),
        "{words:?} with {remedy:?} is not in the last line of {errors}"
    );
}

#[track_caller]
fn assert_no_error(stage: &Stage) {
    let (status, report) = json_of(stage, &["doctor"]);
    assert_eq!(status, 0, "{report:#}");
}

/// The first lane's halt of this name.
#[track_caller]
fn await_halt(stage: &Stage, name: &str) -> Value {
    let halted = wait_for(&format!("the halt {name}"), LONG, || {
        json_of(stage, &["lane", "list"]).1[0].get("halted").filter(|halted| !halted.is_null()).cloned()
    });
    assert_eq!(halted["name"], name, "{halted}");
    halted
}

fn text<'a>(halted: &'a Value, field: &str) -> &'a str {
    halted[field].as_str().expect("text")
}

#[test]
fn a_default_of_feedback_is_not_taken_for_an_answer() {
    let stage = migrated();
    stage.feedback.execute(&format!("alter table {TABLE} alter column feedback set default ''"));
    assert_no_error(&stage);
    stage.subscribers.subscribe("pizzeria", 12);
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    stage.await_sinks(&Expected::from([(&campaign, stage.subscribers.clients_of("pizzeria"))]), LONG);
    service.stop();
    assert_eq!(stage.feedback.number(&format!("select count(*) from {TABLE} where feedback is not null")), 0);
}

#[test]
fn the_column_of_2038_is_widened_under_a_running_service_and_before_a_start() {
    let stage = migrated();
    stage.subscribers.subscribe("pizzeria", 12);
    let mut expected = Expected::default();
    let mut tell = |id: &str| {
        let campaign = Campaign::now(id, "pizzeria");
        stage.send(&campaign);
        expected.add(&campaign, stage.subscribers.clients_of("pizzeria"));
        stage.await_sinks(&expected, LONG);
    };
    let service = stage.start();
    tell("before");
    stage.feedback.execute(&format!("alter table {TABLE} alter column trigger_datetime_created type int8"));
    tell("after");
    service.stop();
    assert_no_error(&stage);
    let service = stage.start();
    tell("from the start");
    // And back: a DBA who changes his mind.
    stage.feedback.execute(&format!("alter table {TABLE} alter column trigger_datetime_created type int4"));
    tell("back again");
    service.stop();
    assert_eq!(json_of(&stage, &["verify"]).0, 0);
}

#[test]
fn a_table_that_cannot_hold_drafts_as_they_are_written_is_refused_before_a_campaign_comes() {
    let stage = migrated();
    let sql = |sql: &str| stage.feedback.execute(&sql.replace("$table", TABLE));
    sql("alter table $table alter column feedback set not null");
    assert_refused(&stage, "column feedback", "alter column feedback drop not null");
    sql("alter table $table alter column feedback drop not null");

    sql("create function public.tidy() returns trigger language plpgsql as $$begin new.client_id := lower(trim(new.client_id)); return new; end$$;
         create trigger tidy before insert on $table for each row execute function public.tidy()");
    assert_refused(&stage, "trigger tidy", "disable trigger tidy");
    sql("drop trigger tidy on $table;
         create function public.answer() returns trigger language plpgsql as $$begin new.feedback := 'none yet'; return new; end$$;
         create trigger answer before insert on $table for each row execute function public.answer()");
    assert_refused(&stage, "changes feedback", "disable trigger answer");
    sql("drop trigger answer on $table;
         create function public.nothing() returns trigger language plpgsql as $$begin return null; end$$;
         create trigger nothing before insert on $table for each row execute function public.nothing()");
    assert_refused(&stage, "took 0 of 2 rows: trigger nothing leaves rows out", "disable trigger nothing");
    sql(
        "drop trigger nothing on $table; create trigger keep before delete on $table for each row execute function public.nothing()",
    );
    assert_refused(&stage, "0 of 2 drafts could be withdrawn: trigger keep keeps rows", "disable trigger keep");
    sql("drop trigger keep on $table; create rule keep as on delete to $table do instead nothing");
    assert_refused(&stage, "rule keep", "drop rule keep");
    sql(
        "drop rule keep on $table; alter table $table drop constraint id_pk; create publication everything for table $table",
    );
    assert_refused(&stage, "replica identity", "replica identity");
    sql("drop publication everything; create unique index one_campaign on $table (restaurant_id)");
    assert_refused(&stage, "one_campaign", "");
}

#[test]
fn row_level_security_and_triggers_of_the_ledger_are_refused_whatever_policies_allow() {
    let mut stage = migrated();
    let role = crate::support::unique("secured_");
    let password = stage.postgres.password.clone();
    stage.feedback.execute(&format!(
        "create role {role} login password '{password}'; grant all on all tables in schema public, dinnerbell to {role};
         grant all on all sequences in schema public, dinnerbell to {role}; grant usage on schema public, dinnerbell to {role};
         alter table {TABLE} enable row level security; create policy everything on {TABLE} using (true) with check (true)"
    ));
    for section in ["feedback", "subscribers"] {
        let url = stage.feedback.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
        stage.config.set(section, "url", url);
    }
    assert_refused(&stage, "row-level security", &format!("alter role {role} bypassrls"));
    stage.feedback.execute(&format!(
        "alter table {TABLE} disable row level security; alter table dinnerbell.change enable row level security"
    ));
    assert_refused(&stage, "dinnerbell.change", "disable row level security");
    stage.feedback.execute(
        "alter table dinnerbell.change disable row level security;
         create function public.nothing() returns trigger language plpgsql as $$begin return null; end$$;
         create trigger nothing before update on dinnerbell.round for each row execute function public.nothing()",
    );
    assert_refused(&stage, "dinnerbell.round", "dinnerbell.round");
    stage.feedback.execute("drop trigger nothing on dinnerbell.round");
    assert_no_error(&stage);
    stage.feedback.execute(&format!("drop owned by {role}; drop role {role}"));
}

#[test]
fn a_trigger_that_leaves_one_client_out_halts_the_lane_by_its_name_and_the_remedy_ends_it() {
    let stage = migrated();
    stage.feedback.execute(OPT_OUT);
    let (_, report) = json_of(&stage, &["doctor"]);
    assert!(report.to_string().contains("trigger opt_out"), "doctor names it: {report:#}");
    let service = stage.start();
    stage.subscribers.subscribe_clients("pizzeria", &["a", "b", "opted-out", "z"]);
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    let halted = await_halt(&stage, "feedback-refused");
    assert!(text(&halted, "found").contains("took 3 of 4 rows: trigger opt_out leaves rows out"), "{halted}");
    let (first, command) = text(&halted, "remedy").split_once(", then: dinnerbell ").expect("two steps");
    stage.feedback.execute(first);
    stage.dinnerbell_ok(&command.split(' ').collect::<Vec<_>>());
    stage.await_sinks(&Expected::from([(&campaign, ["a", "b", "opted-out", "z"])]), LONG);
    service.stop();
    assert_eq!(json_of(&stage, &["verify"]).0, 0);
}

#[test]
fn a_sequence_behind_the_ids_that_are_there_is_refused_at_the_start_and_named_by_a_halt_with_what_sets_it() {
    let stage = migrated();
    let fill = "insert into public.subscribers_feedback select i, 'r', 'c', 't', 'o', 'oc', 1, 2, 3, 'client ' || i, 4 \
                from generate_series(1, 50) i";
    stage.feedback.execute(fill);
    let set =
        r#"select setval('public.subscribers_feedback_id_seq', (select max(id) from "public"."subscribers_feedback"))"#;
    assert_refused(&stage, "its next id is 1, and 1 is there (the highest is 50)", set);
    stage.feedback.execute("select setval('public.subscribers_feedback_id_seq', 50)");
    assert_no_error(&stage);

    stage.subscribers.subscribe("pizzeria", 12);
    let told = |id: &str| {
        let sql = format!("select count(*) from public.subscribers_feedback where adv_campaign_id = '{id}'");
        wait_for("everybody is told", LONG, || (stage.feedback.number(&sql) == 12).then_some(()));
    };
    let service = stage.start();
    stage.send(&Campaign::now("first", "pizzeria"));
    told("first");
    // An import while the service runs.
    stage.feedback.execute("insert into public.subscribers_feedback select i, 'r', 'd', 't', 'o', 'oc', 1, 2, 3, 'client ' || i, 4 \
                            from generate_series(50, 200) i where i not in (select id from public.subscribers_feedback)");
    stage.send(&Campaign::now("second", "pizzeria"));
    let halted = await_halt(&stage, "feedback-refused");
    let (mend, command) = text(&halted, "remedy").split_once(", then: dinnerbell ").expect("two steps");
    stage.feedback.execute(mend.strip_prefix("as the owner of the sequence: ").expect("who may"));
    stage.dinnerbell_ok(&command.split(' ').collect::<Vec<_>>());
    told("second");
    service.stop();
}

#[test]
fn a_constraint_that_one_draft_breaks_is_named_with_the_campaigns_of_the_round_and_cancelling_the_one_ends_the_halt() {
    let stage = migrated();
    stage
        .feedback
        .execute(&format!("alter table {TABLE} add constraint no_minors check (client_id not like 'minor%')"));
    stage.subscribers.subscribe_clients("bar", &["adult", "minor of eight"]);
    stage.subscribers.subscribe_clients("pizzeria", &["anybody"]);
    let (bar, pizzeria) = (Campaign::now("happy hour", "bar"), Campaign::now("offer", "pizzeria"));
    // Both arrive before the first round, so that one round holds them.
    stage.send(&bar);
    stage.send(&pizzeria);
    let service = stage.start();
    let halted = await_halt(&stage, "feedback-refused");
    let (found, remedy) = (text(&halted, "found"), text(&halted, "remedy"));
    for word in ["no_minors", "the round is of campaign", "happy hour", "the database server's log"] {
        assert!(found.contains(word), "{word:?} is not in {found}");
    }
    assert!(!found.contains("minor of eight"), "a client's id is never shown: {found}");
    assert!(remedy.contains("dinnerbell campaign cancel ") && remedy.contains("drop constraint no_minors"), "{remedy}");
    let cancelled = stage.dinnerbell(&["campaign", "cancel", "happy hour", "--timeout", "1"]);
    println!("{}", String::from_utf8_lossy(&cancelled.stderr));
    stage.dinnerbell_ok(&["lane", "resolve", "0", "--retry"]);
    stage.await_sinks(&Expected::from([(&pizzeria, ["anybody"])]), LONG);
    service.stop();
    let (_, shown) = json_of(&stage, &["campaign", "show", "happy hour"]);
    assert_eq!((&shown["state"], &shown["told"]), (&"cancelled".into(), &0.into()), "{shown}");
}

#[test]
fn a_trigger_that_refuses_a_draft_only_at_the_commit_is_named_with_the_campaigns_of_the_round() {
    let stage = migrated();
    stage.feedback.execute(&format!(
        "create function no_minors() returns trigger language plpgsql as $$ begin
             if new.client_id like 'minor%' then raise exception 'none below eighteen'; end if;
             return new;
         end $$;
         create constraint trigger adults_only after insert on {TABLE} deferrable initially deferred
             for each row execute function no_minors()"
    ));
    stage.subscribers.subscribe_clients("bar", &["adult", "minor of eight"]);
    let bar = Campaign::now("happy hour", "bar");
    stage.send(&bar);
    let service = stage.start();
    let halted = await_halt(&stage, "feedback-refused");
    let (found, remedy) = (text(&halted, "found"), text(&halted, "remedy"));
    for word in ["none below eighteen", "the round is of campaign happy hour", "the database server's log"] {
        assert!(found.contains(word), "{word:?} is not in {found}");
    }
    assert!(
        remedy.contains("dinnerbell campaign cancel 'happy hour'), or let trigger adults_only take it"),
        "{remedy}"
    );
    let disable = remedy.split(", or ").find(|step| step.starts_with("alter table")).expect("how to disable it");
    stage.feedback.execute(disable.split(", then").next().unwrap());
    stage.dinnerbell_ok(&["lane", "resolve", "0", "--retry"]);
    stage.await_sinks(&Expected::from([(&bar, ["adult", "minor of eight"])]), LONG);
    service.stop();
}

#[test]
fn ids_with_a_collation_of_their_own_do_for_newcomers_takeovers_and_messages_that_kafka_lost() {
    let stage = migrated();
    stage.feedback.execute(&format!(
        "alter table {TABLE} alter column client_id type text collate \"POSIX\", alter column adv_campaign_id type text collate \"POSIX\""
    ));
    assert_no_error(&stage);
    stage.subscribers.subscribe("pizzeria", 12);
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    let expect = || Expected::from([(&campaign, stage.subscribers.clients_of("pizzeria"))]);
    stage.await_sinks(&expect(), LONG);
    service.stop();

    // Newcomers are recorded by an instance that dies, and read back by the next one.
    stage.subscribers.subscribe_clients("pizzeria", &["newcomer"]);
    let mut service = stage.start_failing("round.sealed@1=abort");
    service.wait_for_abort(LONG);
    let service = stage.start();
    stage.await_sinks(&expect(), LONG);
    service.stop();
    assert_eq!(json_of(&stage, &["verify"]).0, 0);

    stage.kafka.delete_topics(&[&stage.notifications]);
    stage.kafka.create_topic(&stage.notifications, 3, &[]);
    stage.feedback.execute("update dinnerbell.service set notifications_id = null");
    let service = stage.start();
    let (status, report) = json_of(&stage, &["verify", "--republish"]);
    assert_eq!((status, &report["republished"]["drafts"]), (0, &Value::from(13)), "{report}");
    stage.await_sinks(&expect(), LONG);
    service.stop();
}
