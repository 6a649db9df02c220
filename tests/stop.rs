//! SIGTERM ends an instance with status 0 within ten seconds, whatever stands still meanwhile.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Campaign, Expected, Security, Service, Setting, Stage, wait_until};

const LONG: Duration = Duration::from_secs(90);
/// What is promised.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// An instance with rounds in flight is stopped while servers of its own stand still.
fn stop_while_they_stand_still(kafka: bool, postgres: bool) {
    let mut stage = Stage::with(Setting { own_kafka: kafka, own_postgres: postgres, ..Setting::default() });
    stage.config.set("fanout", "round_rows", 10);
    stage.migrate();
    stage.subscribers.subscribe("crowd", 5_000);
    let mut service = stage.start();
    stage.send(&Campaign::now("two-for-one", "crowd"));
    wait_until("rounds are under way", LONG, || stage.row_count() > 20);
    if kafka {
        stage.kafka.freeze();
    }
    if postgres {
        stage.postgres.freeze();
    }
    let took = stop(&mut service);
    if kafka {
        stage.kafka.thaw();
    }
    if postgres {
        stage.postgres.thaw();
    }
    assert!(took < STOPS_WITHIN, "it took {took:?}: {}", service.log());
}

/// SIGTERM; it must exit 0. Returns how long that took.
fn stop(service: &mut Service) -> Duration {
    let began = Instant::now();
    service.signal(Signal::TERM);
    let status = service.wait(LONG);
    assert_eq!(status.code(), Some(0), "{status}: {}", service.log());
    began.elapsed()
}

/// As with the log on a disk that is full.
#[test]
fn an_instance_whose_log_cannot_be_written_tells_everybody_and_stops() {
    let stage = Stage::new();
    stage.migrate();
    stage.subscribers.subscribe("crowd", 10);
    let mut service = stage.start_logging_to(Path::new("/dev/full"));
    let campaign = Campaign::now("two-for-one", "crowd");
    stage.send(&campaign);
    stage.await_sinks(&Expected::from([(&campaign, stage.subscribers.clients_of("crowd"))]), LONG);
    stop(&mut service);
}

#[test]
fn an_instance_stops_within_ten_seconds_while_kafka_stands_still() {
    stop_while_they_stand_still(true, false);
}

#[test]
fn an_instance_stops_within_ten_seconds_while_postgresql_stands_still() {
    stop_while_they_stand_still(false, true);
}

#[test]
#[ignore = "twenty seconds"]
fn an_instance_stops_within_ten_seconds_while_everything_stands_still() {
    stop_while_they_stand_still(true, true);
}

/// librdkafka before 2.14.2 can follow a null pointer when a member leaves whose coordinator is away.
#[test]
#[ignore = "three minutes"]
fn of_fifty_instances_that_stop_while_their_coordinator_is_away_none_crashes() {
    let stage = Stage::with(Setting { own_kafka: true, lanes: 4, security: Security::SaslSsl, ..Setting::default() });
    stage.migrate();
    for time in 0..5 {
        let mut instances: Vec<Service> = (0..10).map(|_| stage.start()).collect();
        instances.iter().for_each(|instance| instance.wait_for_log("assigned", LONG));
        match time % 2 {
            0 => stage.kafka.kill(),
            _ => stage.kafka.freeze(),
        }
        // Some at once, others when they noticed that the coordinator is away, and some when their session has ended.
        let gone = Instant::now();
        for (number, instance) in instances.iter().enumerate() {
            let after = Duration::from_millis(1_300) * u32::try_from(number).unwrap();
            wait_until("its moment has come", LONG, || gone.elapsed() >= after);
            instance.signal(Signal::TERM);
        }
        for instance in &mut instances {
            let status = instance.wait(LONG);
            assert_eq!(status.code(), Some(0), "{status}: {}", instance.log());
        }
        stage.kafka.thaw();
        stage.kafka.start();
    }
}
