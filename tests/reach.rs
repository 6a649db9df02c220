//! An instance that cannot reach a server is not ready, though it has no lane left that could fail, and becomes ready again by itself.

use std::time::Duration;

use crate::support::{Campaign, Expected, Security, Service, Setting, Stage, wait_for, wait_until};

/// A server is missed after ten seconds; what is asked may take five, and the machine may be busy.
const LONG: Duration = Duration::from_secs(90);

/// What `/readyz` says is missing, and whether there is a lane; none while it is ready.
fn missing(service: &Service) -> Option<(Vec<String>, bool)> {
    let answer = service.get("/readyz");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head ends");
    let said: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
    let missing = said["missing"].as_array().expect("it is a list");
    let missing: Vec<String> = missing.iter().map(|why| why.as_str().expect("it is text").to_owned()).collect();
    let ready = head.starts_with("HTTP/1.1 200");
    assert_eq!(ready, missing.is_empty(), "{answer}");
    (!ready).then(|| (missing, said["lanes"].as_array().is_some_and(|lanes| !lanes.is_empty())))
}

#[track_caller]
fn wait_until_ready(service: &Service) {
    wait_until("it is ready", LONG, || missing(service).is_none());
}

/// Waits until it says that a server cannot be reached since a time.
#[track_caller]
fn wait_until_missed(service: &Service, need: &str) {
    let beginning = format!("{need}: cannot be reached since ");
    wait_until(&format!("{need} is missed"), LONG, || {
        missing(service).is_some_and(|(missing, _)| missing.iter().any(|why| why.starts_with(&beginning)))
    });
    assert!(service.get("/metrics").contains("\ndinnerbell_ready 0\n"));
    assert!(service.get("/healthz").starts_with("HTTP/1.1 200"), "to start the process again would not help");
}

#[test]
fn an_instance_whose_broker_died_is_not_ready_until_it_is_back_even_without_a_lane() {
    let stage = Stage::with(Setting { own_kafka: true, ..Setting::default() });
    stage.subscribers.subscribe("deli", 10);
    stage.migrate();
    let service = stage.start();
    wait_until_ready(&service);
    let idle = stage.start();
    wait_until_ready(&idle);
    stage.kafka.kill();
    wait_until_missed(&service, "kafka");
    wait_until_missed(&idle, "kafka");
    let without_lanes = wait_for("the lane is given up", LONG, || missing(&service).filter(|(_, lanes)| !lanes));
    assert!(without_lanes.0.iter().any(|why| why.starts_with("group: ")), "{without_lanes:?}");
    stage.kafka.start();
    wait_until_ready(&service);
    wait_until_ready(&idle);
    let campaign = Campaign::now("after", "deli");
    stage.send(&campaign);
    let expected = Expected::from([(&campaign, stage.subscribers.clients_of("deli"))]);
    stage.await_sinks(&expected, LONG);
    idle.stop();
    service.stop();
}

#[test]
fn an_instance_whose_database_stands_still_is_not_ready_until_it_goes_on() {
    let stage = Stage::with(Setting { own_postgres: true, two_databases: true, ..Setting::default() });
    stage.migrate();
    let service = stage.start();
    wait_until_ready(&service);
    let idle = stage.start();
    wait_until_ready(&idle);
    stage.postgres.freeze();
    for instance in [&service, &idle] {
        wait_until_missed(instance, "feedback");
        wait_until_missed(instance, "subscribers");
    }
    stage.postgres.thaw();
    wait_until_ready(&service);
    wait_until_ready(&idle);
    idle.stop();
    service.stop();
}

/// A commit that the server made, and does not answer before a standby has it too.
#[test]
fn an_instance_whose_commits_wait_for_a_standby_says_so_and_goes_on_without_it() {
    let stage = Stage::with(Setting { own_postgres: true, ..Setting::default() });
    stage.subscribers.subscribe("deli", 10);
    stage.migrate();
    let service = stage.start();
    wait_until_ready(&service);
    stage.feedback.execute("alter system set synchronous_standby_names = 'nobody'");
    stage.feedback.execute("select pg_reload_conf()");
    let campaign = Campaign::now("two-for-one", "deli");
    stage.send(&campaign);
    service.wait_for_log("its commit waits for a standby (synchronous_standby_names = 'nobody'); bring the", LONG);
    stage.feedback.execute("alter system reset synchronous_standby_names");
    stage.feedback.execute("select pg_reload_conf()");
    stage.await_sinks(&Expected::from([(&campaign, stage.subscribers.clients_of("deli"))]), LONG);
    wait_until_ready(&service);
    service.stop();
}

/// Its last round may not be written: the lane is taken over again, and looks as if it ran in between.
#[test]
fn an_instance_whose_lane_cannot_publish_is_not_ready_until_it_can() {
    let stage = Stage::with(Setting { security: Security::SaslSsl, ..Setting::default() });
    stage.subscribers.subscribe("deli", 10);
    stage.migrate();
    let service = stage.start();
    wait_until_ready(&service);
    stage.kafka.may_write(&stage.notifications, false);
    let campaign = Campaign::now("after", "deli");
    stage.send(&campaign);
    wait_until("the lane is missed", LONG, || missing(&service).is_some());
    wait_until("the lane was taken over again", LONG, || {
        let missing = missing(&service).expect("it is not ready before it has published").0;
        assert!(missing.iter().any(|why| why.starts_with("lane 0: ")), "{missing:?}");
        service.log().matches("lane is taken over again").count() >= 2
    });
    stage.kafka.may_write(&stage.notifications, true);
    wait_until("it is halted, or went on", LONG, || {
        missing(&service).is_none_or(|(missing, _)| missing.iter().any(|why| why.contains("halted")))
    });
    if missing(&service).is_some() {
        stage.dinnerbell_ok(&["lane", "resolve", "0", "--retry"]);
    }
    wait_until_ready(&service);
    let expected = Expected::from([(&campaign, stage.subscribers.clients_of("deli"))]);
    stage.await_sinks(&expected, LONG);
    service.stop();
}
