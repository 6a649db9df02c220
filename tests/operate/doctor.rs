//! `doctor` finds what is wrong and says how to mend it; with exactly the rights that it prints the service works.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use crate::operate::by_hand::{ByHand, json_of, status};
use crate::operate::feedback_table::assert_refused;
use crate::support::{Campaign, Expected, Security, ServiceConfig, Setting, Stage, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// Exit status, and the findings that are not well: (check, status, found, remedy).
fn doctor(stage: &Stage) -> (i32, Vec<(String, String, String, String)>) {
    let (status, report) = json_of(stage, &["doctor"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().expect("findings");
    let ill = findings.iter().filter(|finding| finding["status"] != "ok");
    let ill = ill.map(|f| (text(&f["check"]), text(&f["status"]), text(&f["found"]), text(&f["remedy"])));
    (status, ill.collect())
}

/// The doctor finds this, as an error or a warning, and its remedy holds the words.
#[track_caller]
fn assert_finds(stage: &Stage, check: &str, severity: &str, words: &str, remedy: &str) {
    let (status, ill) = doctor(stage);
    let found = ill.iter().find(|(name, of, found, _)| name == check && of == severity && found.contains(words));
    let found = found.unwrap_or_else(|| panic!("{check} {severity} {words:?} is not among {ill:#?}"));
    assert!(found.3.contains(remedy), "{found:?}");
    let errors = ill.iter().any(|(_, status, ..)| status == "error");
    assert_eq!(status, i32::from(errors));
}

fn migrated() -> Stage {
    let stage = Stage::new();
    stage.migrate();
    stage
}

#[test]
fn where_everything_is_well_nothing_is_an_error_and_every_check_is_there() {
    let stage = migrated();
    let (status, report) = json_of(&stage, &["doctor"]);
    assert_eq!(status, 0, "{report}");
    let findings = report["findings"].as_array().unwrap();
    for check in [
        "configuration",
        "feedback-connection",
        "feedback-tls",
        "feedback-server",
        "feedback-recovery",
        "feedback-durability",
        "feedback-encoding",
        "clock",
        "feedback-connections",
        "feedback-table",
        "feedback-rights",
        "feedback-index",
        "feedback-try",
        "ledger-try",
        "ledger-version",
        "ledger-rights",
        "ledger-belongs",
        "ledger-owners",
        "lanes",
        "subscribers-connection",
        "subscribers-table",
        "subscribers-rights",
        "subscribers-index",
        "ids-and-times",
        "kafka-connection",
        "kafka-topics",
        "kafka-held-back",
        "kafka-read",
        "kafka-group",
        "kafka-group-members",
        "kafka-transactions",
        "kafka-message-size",
        "kafka-retention",
        "kafka-isolation",
        "open-files",
    ] {
        let found = findings.iter().find(|finding| finding["check"] == check);
        assert!(found.is_some_and(|found| found["status"] != "error"), "{check}: {found:?}");
    }
    let text = stage.dinnerbell_ok(&["doctor"]);
    assert!(text.contains("\n0 errors, "), "{text}");
}

#[test]
fn what_is_wrong_in_the_databases_is_found() {
    let mut stage = Stage::new();
    assert_finds(&stage, "ledger-version", "error", "", "dinnerbell migrate");
    assert_finds(&stage, "feedback-index", "error", "missing", "dinnerbell migrate");
    assert_finds(&stage, "subscribers-index", "warning", "scan", "create index concurrently");
    stage.migrate();
    let sql = |sql: &str| stage.feedback.execute(sql);
    sql("select setval('public.subscribers_feedback_id_seq', 2147480000)");
    assert_finds(&stage, "ids-and-times", "warning", "subscribers_feedback.id", "int8");
    sql("alter table public.subscribers_feedback add column grade int4 not null");
    assert_finds(&stage, "feedback-table", "error", "grade", "default");
    sql("alter table public.subscribers_feedback drop column grade, alter column datetime_created type int4");
    assert_finds(&stage, "feedback-table", "error", "datetime_created", "feedback.table");
    sql(
        "alter table public.subscribers_feedback alter column datetime_created type int8, alter client_id type varchar(50)",
    );
    let remedy = "alter table public.subscribers_feedback alter column client_id type text";
    assert_finds(
        &stage,
        "feedback-table",
        "error",
        "column client_id of public.subscribers_feedback holds at most 50",
        remedy,
    );
    sql("alter table public.subscribers_restaurants rename column restaurant_id to restaurant");
    assert_finds(&stage, "subscribers-table", "error", "restaurant_id", "subscribers.table");
    stage.config.set("subscribers", "table", "public.nowhere");
    assert_finds(&stage, "subscribers-table", "error", "does not exist", "subscribers.table");
    let (_, report) = json_of(&stage, &["doctor"]);
    assert!(!report.to_string().contains("does not exist; correct"), "the remedy is said once: {report}");
}

#[test]
fn tables_that_a_crash_of_the_server_empties_are_an_error() {
    let stage = migrated();
    for table in ["public.subscribers_feedback", "dinnerbell.round_part"] {
        stage.feedback.execute(&format!("alter table {table} set unlogged"));
        let (status, report) = json_of(&stage, &["doctor"]);
        let said = report.to_string();
        let name = table.trim_start_matches("public.");
        assert!(status == 1 && said.contains(&format!("table {name} is unlogged")), "{report}");
        assert_finds(&stage, "feedback-try", "error", "unlogged", &format!("alter table {name} set logged"));
        stage.feedback.execute(&format!("alter table {name} set logged"));
    }
    let (status, report) = json_of(&stage, &["doctor"]);
    assert_eq!(status, 0, "{report}");
}

#[test]
fn what_hides_subscribers_or_makes_them_unusable_is_found() {
    let mut stage = migrated();
    stage.subscribers.subscribe_clients("pizzeria", &["", &"x".repeat(257), "a"]);
    assert_finds(&stage, "subscribers-ids", "warning", "2 rows have an id", "correct or delete");
    let role = unique("blind_");
    let password = stage.postgres.password.clone();
    let table = "public.subscribers_restaurants";
    stage.subscribers.execute(&format!(
        "create role {role} login password '{password}'; grant select on {table} to {role};
         alter table {table} enable row level security; create policy half on {table} using (client_id < 'm')"
    ));
    let superuser = stage.subscribers.url();
    stage.config.set("subscribers", "url", superuser.replace("postgres://postgres@", &format!("postgres://{role}@")));
    assert_finds(&stage, "subscribers-rights", "error", "row-level security hides rows", "bypassrls");
    stage.subscribers.execute(&format!("drop policy half on {table}; drop owned by {role}; drop role {role}"));

    stage.encode_subscribers("KOI8R");
    assert_refused(&stage, "its encoding is KOI8R", "a database whose encoding is UTF8, LATIN1 or SQL_ASCII");
    stage.encode_subscribers("SQL_ASCII");
    let insert =
        format!("insert into {table} (client_id, restaurant_id) values (E'\\xe9', 'r'), ('r', E'\\xe9') returning id");
    let first = stage.subscribers.text(&insert).lines().next().unwrap().to_owned();
    assert_finds(&stage, "subscribers-encoding", "warning", "SQL_ASCII", "UTF8");
    assert_finds(
        &stage,
        "subscribers-ids",
        "warning",
        &format!(
            "2 rows have an id that is empty, longer than 256 bytes or not UTF-8: nobody is told for them; the first: id {first}"
        ),
        "correct or delete",
    );
}

#[test]
fn what_stands_still_is_found() {
    let by_hand = ByHand::new();
    by_hand.execute(
        "update dinnerbell.lane set halted = 'kafka-ahead', halted_found = 'found', halted_remedy = 'resolve it'",
    );
    assert_finds(&by_hand.stage, "lanes", "error", "kafka-ahead", "resolve it");
    by_hand.stage.dinnerbell_ok(&["pause", "--reason", "wrong price"]);
    assert_finds(&by_hand.stage, "paused", "warning", "wrong price", "dinnerbell resume");
    by_hand.execute("update dinnerbell.service set group_id = 'another'");
    assert_finds(&by_hand.stage, "ledger-belongs", "error", "another", "");
}

#[test]
fn what_is_wrong_in_kafka_is_found() {
    let mut stage = migrated();
    let small = unique("small.");
    stage.kafka.create_topic(&small, 1, &[("max.message.bytes", "50000"), ("cleanup.policy", "compact")]);
    stage.config.set("kafka.topics", "notifications", small.as_str());
    assert_finds(&stage, "kafka-durability", "warning", "__transaction_state has one replica", "min.insync.replicas");
    assert_finds(&stage, "kafka-message-size", "error", "50000", "max.message.bytes");
    assert_finds(&stage, "kafka-retention", "warning", "compacted", "cleanup.policy=delete");
    stage.config.set("kafka.topics", "notifications", "nowhere");
    assert_finds(&stage, "kafka-topics", "error", "nowhere", "");
    stage.config.set("kafka", "bootstrap_servers", "127.0.0.1:1");
    assert_finds(&stage, "kafka-connection", "error", "127.0.0.1:1", "");
    stage.kafka.delete_topics(&[&small]);
}

#[test]
fn a_server_that_cannot_be_contacted_and_a_wrong_configuration_differ_in_the_status() {
    let mut stage = migrated();
    stage.config.set("feedback", "password", "wrong");
    assert_finds(&stage, "feedback-connection", "error", "password", "");
    stage.config.set("kafka", "start", "yesterday");
    assert_eq!(status(&stage.dinnerbell(&["doctor"])), 2);
}

/// Gives new users exactly the printed rights, on topics that nobody else may use: the service's to a role and the rig's user of Kafka, the
/// operators' to a login of their own. The service's role, and what an operator's commands are configured with.
fn grant(stage: &mut Stage) -> (String, ServiceConfig) {
    let (role, operator) = (unique("granted_"), unique("operator_"));
    let password = stage.postgres.password.clone();
    stage.feedback.execute(&format!(
        "create role {role} login password '{password}'; create role {operator} login password '{password}';
         revoke all on schema public from public"
    ));
    let scram = format!("SCRAM-SHA-512=[password={password}]");
    let user = ["--alter", "--add-config", &scram, "--entity-type", "users", "--entity-name", &operator];
    stage.kafka.tool("kafka.admin.ConfigCommand", &user);
    let mut operators = stage.config.clone();
    operators.set("kafka", "username", operator.as_str()).set("kafka", "password", password.as_str());
    for section in ["feedback", "subscribers"] {
        let url = |role: &str| stage.feedback.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
        operators.set(section, "url", url(&operator));
        let url = url(&role);
        stage.config.set(section, "url", url);
    }
    let script = stage.dinnerbell_ok(&["doctor", "--grants", "--operator", &operator]);
    let (sql, acls) = script.split_once("# Of Kafka").expect("both kinds of rights");
    stage.feedback.execute(sql);
    // Where nobody has a right everybody has: so somebody else has one first.
    let (ids, other) =
        (format!("{}/", stage.group), ["--add", "--allow-principal", "User:other", "--operation", "All"]);
    let topics = [&stage.campaigns, &stage.notifications, &stage.dead_letters].map(|topic| ["--topic", topic]);
    let others = ["--group", &stage.group, "--transactional-id", &ids, "--resource-pattern-type", "prefixed"];
    stage.kafka.give_rights(&[&[&other[..], topics.as_flattened(), &others].concat()]);
    let printed = acls.lines().filter_map(|line| line.strip_prefix("kafka-acls.sh --bootstrap-server "));
    let printed: Vec<Vec<&str>> = printed.map(|line| line.split(' ').skip(1).collect()).collect();
    // The one with the most kinds of words by Kafka's own tool: a JVM for each would take longer than all the rest.
    let (last, before) = printed.split_last().expect("rights in Kafka");
    stage.kafka.tool("org.apache.kafka.tools.AclCommand", last);
    stage.kafka.give_rights(&before.iter().map(Vec::as_slice).collect::<Vec<_>>());
    (role, operators)
}

#[test]
fn with_exactly_the_printed_rights_the_service_works_and_the_doctor_finds_no_error() {
    let mut stage = Stage::with(Setting { security: Security::SaslSsl, ..Setting::default() });
    stage.migrate();
    let (role, operators) = grant(&mut stage);
    let (status_of, ill) = doctor(&stage);
    assert_eq!(status_of, 0, "{ill:#?}");
    stage.subscribers.subscribe("pizzeria", 25);
    let service = stage.start();
    let campaign = Campaign::now("offer", "pizzeria");
    stage.send(&campaign);
    stage.kafka.produce(&stage.campaigns, Some(0), None, Some(b"not JSON"), &[]);
    let expected = Expected::from([(&campaign, stage.subscribers.clients_of("pizzeria"))]);
    stage.await_sinks(&expected, LONG);
    assert_eq!(stage.kafka.read_topic(&stage.dead_letters).len(), 1);
    service.stop();
    // The operators' commands, with their own rights alone.
    let services = std::mem::replace(&mut stage.config, operators);
    assert_eq!(json_of(&stage, &["verify"]).0, 0);
    assert_eq!(json_of(&stage, &["dead-letter", "replay", "--all"]).0, 0);
    for command in [&["campaign", "list"][..], &["lane", "list"], &["pause"], &["resume"], &["dead-letter", "list"]] {
        assert_eq!(json_of(&stage, command).0, 0, "{command:?}");
    }
    stage
        .feedback
        .execute("update dinnerbell.lane set halted = 'feedback-refused', halted_found = 'f', halted_remedy = 'r'");
    stage.dinnerbell_ok(&["lane", "resolve", "0", "--from-kafka"]);
    // Anyone who has the service's secret can neither ring for a restaurant nor read who was told.
    let letter = json_of(&stage, &["dead-letter", "list"]).1[0]["id"].to_string();
    stage.config = services;
    let (sending, reading) =
        (format!("writing to topic {}", stage.campaigns), format!("reading {}", stage.notifications));
    let replay = ["dead-letter", "replay", &letter, "--again"];
    for (command, refusal) in [(&replay[..], &sending), (&["verify"], &reading)] {
        let refused = stage.dinnerbell(command);
        let said = [refused.stdout, refused.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!refused.status.success() && said.contains(refusal), "{command:?}: {said}");
    }
    // And not one right less.
    for (right, check) in [
        ("insert on table public.subscribers_feedback", "feedback-rights"),
        ("usage on sequence public.subscribers_feedback_id_seq", "feedback-rights"),
        ("update on table dinnerbell.lane", "ledger-rights"),
        ("select on table public.subscribers_restaurants", "subscribers-rights"),
    ] {
        stage.feedback.execute(&format!("revoke {right} from {role}"));
        assert_finds(&stage, check, "error", "may not", "--grants");
        stage.feedback.execute(&format!("grant {right} to {role}"));
    }
}

#[test]
fn a_member_of_the_group_that_is_no_instance_is_named_with_the_lanes_that_it_keeps() {
    let stage = Stage::with(Setting { lanes: 2, ..Setting::default() });
    stage.migrate();
    let service = stage.start();
    let mut settings = stage.kafka.client();
    settings.set("group.id", &stage.group).set("client.id", "another tool").set("enable.auto.commit", "false");
    let foreign: BaseConsumer =
        settings.set("partition.assignment.strategy", "cooperative-sticky").create().expect("the settings are right");
    foreign.subscribe(&[&stage.campaigns]).expect("a topic");
    wait_until("it is assigned a lane", LONG, || {
        drop(foreign.poll(Duration::from_millis(100)));
        foreign.assignment().is_ok_and(|lanes| lanes.count() == 1)
    });
    let lane = foreign.assignment().expect("lanes").elements()[0].partition();
    let words = format!("partitions {lane} of {} to client another tool at ", stage.campaigns);
    assert_finds(&stage, "kafka-group-members", "error", &words, "end that client");
    drop(foreign);
    wait_until("nobody else is in the group", LONG, || {
        doctor(&stage).1.iter().all(|(check, ..)| check != "kafka-group-members")
    });
    service.stop();
}
