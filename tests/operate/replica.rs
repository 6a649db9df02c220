//! The subscribers are read from a replica that stops: an audience without newcomers looks just like that.

use std::time::Duration;

use serde_json::Value;

use crate::operate::by_hand::json_of;
use crate::support::database::psql_command;
use crate::support::{PostgresServer, Setting, Stage, wait_until};

const LONG: Duration = Duration::from_secs(90);

/// What doctor says of the subscribers as a replica: its status, and what was found.
fn found(stage: &Stage) -> (String, String) {
    let report = json_of(stage, &["doctor"]).1;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = report["findings"].as_array().expect("findings");
    let one = all.iter().find(|one| one["check"] == "subscribers-recovery").expect("it is looked at");
    (text(&one["status"]), text(&one["found"]))
}

#[track_caller]
fn assert_found(stage: &Stage, status: &str, words: &str) {
    let (is, said) = found(stage);
    assert!(is == status && said.contains(words), "{status} {words:?} is not {is} {said}");
}

fn on(server: &PostgresServer, stage: &Stage, sql: &str) {
    let mut psql = psql_command(server, &stage.subscribers.name);
    assert!(psql.args(["-c", sql]).status().expect("psql starts").success(), "{sql}");
}

#[test]
fn a_replica_that_receives_or_replays_nothing_is_warned_of_and_one_whose_primary_is_idle_is_not() {
    let mut stage = Stage::with(Setting { own_postgres: true, ..Setting::default() });
    stage.migrate();
    let follower = stage.postgres.follower();
    let url = stage.subscribers.url().replace(&format!(":{}/", stage.postgres.port), &format!(":{}/", follower.port));
    stage.config.set("subscribers", "url", url);
    wait_until("it follows", LONG, || found(&stage) == ("ok".to_owned(), "it is a replica, 0.0 s behind".to_owned()));
    let service = stage.start();
    service.wait_for_log("running", LONG);
    let warns = |words: &str| service.get("/readyz").contains(words);

    on(&follower, &stage, "select pg_wal_replay_pause()");
    stage.subscribers.subscribe("pizzeria", 5);
    assert_found(&stage, "warning", "its replay is paused: who subscribed since 20");
    wait_until("the instance warns", LONG, || {
        warns("the subscribers database: it is a replica, and its replay is paused")
    });
    assert!(service.get("/metrics").contains("\ndinnerbell_subscribers_replica_lag_seconds "));
    on(&follower, &stage, "select pg_wal_replay_resume()");
    wait_until("it is over", LONG, || !warns("replica"));
    assert_found(&stage, "ok", "it is a replica, 0.0 s behind");

    on(&follower, &stage, "alter system set primary_conninfo = ''");
    on(&follower, &stage, "select pg_reload_conf()");
    wait_until("it is cut off", LONG, || found(&stage).1.contains("it receives nothing from its primary"));
    assert_found(&stage, "warning", "who subscribed since 20");
    let log = service.stop();
    assert_eq!(log.matches("its replay is paused").count(), 1, "{log}");
}
