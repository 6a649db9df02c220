//! `dinnerbell bench` at small sizes: its figures are sane, it leaves nothing behind, and it says which rights it lacks.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::service::{self, Service};
use crate::support::{Security, Setting, Stage, unique, wait_until};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::Signal;
use serde_json::Value;

/// How long a small run may take on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(240);

/// How long a bench that finds a refusal may take: less than a call that waits for an answer would.
const SOON: Duration = Duration::from_secs(25);

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// The stage's configuration, and a prefix that no other bench has.
fn bench(stage: &Stage, prefix: &str, arguments: &[&str]) -> std::process::Command {
    let config = stage.config.write(stage.dir.path());
    let mut command = service::command(stage.dir.path(), &["bench", "--prefix", prefix, "--partitions", "2"]);
    command.arg("-c").arg(config).args(arguments);
    command
}

/// Topics, groups and databases whose names begin so.
fn left_behind(stage: &Stage, prefix: &str) -> BTreeSet<String> {
    let asking: BaseConsumer = stage.kafka.client().create().unwrap();
    let (topics, groups) =
        (asking.fetch_metadata(None, ANSWER).unwrap(), asking.fetch_group_list(None, ANSWER).unwrap());
    let databases = stage.feedback.text("select datname from pg_database");
    let topics = topics.topics().iter().map(|topic| topic.name());
    let groups = groups.groups().iter().map(|group| group.name());
    let begins = |name: &&str| name.replace('-', "_").starts_with(&prefix.replace('-', "_"));
    topics.chain(groups).chain(databases.lines()).filter(begins).map(str::to_owned).collect()
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("{path} is no number in {value:#}"))
}

/// The paths of all values; elements of a list share one.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                paths(value, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, &format!("{path}[]"), found)),
        _ => _ = found.insert(path.to_owned()),
    }
}

/// The paths that docs/bench-json.md describes.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../docs/bench-json.md");
    let rows: Vec<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | ")).collect();
    let (usage, fields): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(name, _)| {
        let first = name.split(['[', '.']).next().unwrap_or_default();
        ["peak_memory_bytes", "cpu_seconds", "machine_busy", "in_flight_share", "rounds", "lane_failures", "steps"]
            .contains(&first)
    });
    let mut documented = BTreeSet::new();
    for (path, rest) in fields {
        let parts: Vec<&str> = match rest.split(" |").next() {
            Some("spread") => vec!["median", "min", "max"],
            Some("quantiles") => vec!["p50_ms", "p95_ms", "p99_ms", "max_ms"],
            Some("usage") => usage.iter().map(|(name, _)| *name).collect(),
            _ => {
                documented.insert(path.to_owned());
                continue;
            }
        };
        documented.extend(parts.iter().map(|part| format!("{path}.{part}")));
    }
    documented
}

#[test]
fn all_scenarios_give_sane_figures_as_documented_and_leave_nothing_behind() {
    let stage = Stage::new();
    let prefix = unique("bench-");
    let sizes = "--audience 300,3000 --rate 10 --seconds 1 --lanes 2 --size 5 --giant 20000 --lane-counts 1,2 --lane-size 50 \
                 --backlog 60 --backlog-size 5 --moves 2 --kills 1 --peer-audience 2500 --json";
    let sizes: Vec<&str> = sizes.split_whitespace().collect();
    let output = service::run(bench(&stage, &prefix, &sizes), WITHIN);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bench ended with {}: {errors}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (index, audience) in [300.0, 3000.0].into_iter().enumerate() {
        let of = |path: &str| number(&report, &format!("/fanout/sizes/{index}{path}"));
        assert_eq!(of("/audience"), audience);
        let (roofline, took) = (of("/runs/0/roofline/seconds"), of("/runs/0/service/seconds"));
        assert!(roofline > 0.0 && took > 0.0);
        assert!((of("/ratio/median") - roofline / took).abs() < 1e-9);
        assert!((of("/drafts_per_second/median") - audience / took).abs() < 1e-6);
        assert!(of("/peak_memory_bytes/median") > 1e6);
        assert!(of("/runs/0/service/rounds") >= 1.0);
        let steps = report.pointer(&format!("/fanout/sizes/{index}/runs/0/service/steps")).and_then(Value::as_array);
        let copy = steps.unwrap().iter().find(|step| step["step"] == "copy").unwrap();
        assert!(number(copy, "/times") >= 1.0 && number(copy, "/seconds") > 0.0, "{copy}");
    }
    assert!(number(&report, "/fanout/memory_ratio") > 0.0);
    let of = |path: &str| number(&report, &format!("/latency{path}"));
    assert_eq!((of("/runs/0/campaigns"), of("/runs/0/rows_after_messages")), (10.0, 0.0));
    assert!(0.0 < of("/p50_ms/median") && of("/p50_ms/median") <= of("/p99_ms/median"));
    let of = |path: &str| number(&report, &format!("/mixed{path}"));
    assert!(of("/runs/0/campaigns") >= 1.0 && of("/runs/0/rows_after_messages") == 0.0);
    assert!(0.0 < of("/p50_ms/median") && of("/p50_ms/median") <= of("/p99_ms/median"));
    assert!((of("/giant_drafts_per_second/median") - 20_000.0 / of("/runs/0/giant_seconds")).abs() < 1e-6);
    let of = |path: &str| number(&report, &format!("/lanes{path}"));
    assert_eq!((of("/counts/0/lanes"), of("/counts/1/lanes")), (1.0, 2.0));
    assert!((of("/counts/1/drafts_per_second/median") - 1_200.0 / of("/counts/1/runs/0/seconds")).abs() < 1e-6);
    let of = |path: &str| number(&report, &format!("/catch_up{path}"));
    assert!(of("/runs/0/start_seconds") < of("/runs/0/seconds"));
    assert!((of("/campaigns_per_second/median") - 60.0 / of("/runs/0/seconds")).abs() < 1e-6);
    let of = |path: &str| number(&report, &format!("/take_over{path}"));
    // The first of two lanes goes to the other instance, comes back to a new one, and goes once more when that is killed.
    assert!(of("/from_assignment/times") >= 3.0 && of("/from_kill/times") >= 1.0, "{report:#}");
    assert!(of("/from_kill/p50_ms") > 5_000.0, "the session's time-out is in it: {report:#}");
    let of = |path: &str| number(&report, &format!("/peer{path}"));
    assert!((of("/ratio/median") - of("/runs/0/seconds") / of("/runs/0/service/seconds")).abs() < 1e-9);
    let mut printed = BTreeSet::new();
    paths(&report, "", &mut printed);
    assert_eq!(printed, documented());
    assert_eq!(left_behind(&stage, &prefix), BTreeSet::new());
}

#[test]
fn an_interrupted_bench_leaves_nothing_behind() {
    let stage = Stage::new();
    let prefix = unique("bench-");
    let endless = ["--scenario", "latency", "--rate", "5", "--seconds", "600", "--size", "3"];
    let mut running = Service::spawn(bench(&stage, &prefix, &endless), stage.dir.path());
    let database = prefix.replace('-', "_");
    let measures =
        format!("select count(*) from pg_stat_activity where datname = '{database}' and query like '%count(*)%'");
    wait_until("the bench measures", WITHIN, || {
        assert!(running.runs(), "{}", running.log());
        stage.feedback.number(&measures) > 0
    });
    running.signal(Signal::INT);
    let status = running.wait(Duration::from_secs(60));
    assert_eq!((status.code(), left_behind(&stage, &prefix)), (Some(1), BTreeSet::new()), "{}", running.log());
    assert!(running.log().contains("stopped before everything was measured"), "{}", running.log());
}

#[test]
fn a_refused_login_of_kafka_is_named_at_once_and_nothing_is_left_behind() {
    let mut stage = Stage::with(Setting { security: Security::SaslSsl, ..Setting::default() });
    stage.config.set("kafka", "password", "wrong");
    let prefix = unique("bench-");
    let output = service::run(bench(&stage, &prefix, &["--scenario", "latency"]), SOON);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("kafka.password_file"), "{errors}");
    assert_eq!(left_behind(&stage, &prefix), BTreeSet::new());
}

#[test]
fn a_role_without_rights_is_told_which_and_may_name_a_database() {
    let mut stage = Stage::new();
    let (prefix, role) = (unique("bench-"), unique("role_"));
    stage.feedback.execute(&format!("create role {role} login password 'x'"));
    stage.config.set("feedback", "url", stage.feedback.url().replace("postgres@", &format!("{role}@")));
    stage.config.set("feedback", "password", "x");
    let small = ["--scenario", "latency", "--rate", "5", "--seconds", "1", "--lanes", "1", "--size", "3"];
    let output = service::run(bench(&stage, &prefix, &small), WITHIN);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains(&format!("alter role \"{role}\" createdb")), "{errors}");
    assert!(errors.contains("--database"), "{errors}");

    stage.feedback.execute(&format!("grant create on database {} to {role}", stage.feedback.name));
    let named = [&small[..], &["--database", &stage.feedback.name]].concat();
    let output = service::run(bench(&stage, &prefix, &named), WITHIN);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bench ended with {}: {errors}", output.status);
    let schemas = "select count(*) from pg_namespace where nspname like 'dinnerbell%'";
    assert_eq!(stage.feedback.number(schemas), 0);
    stage.feedback.execute(&format!("drop owned by {role}; drop role {role};"));
}
