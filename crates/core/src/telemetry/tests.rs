use std::time::Duration;

use futures_util::FutureExt;

use super::*;
use crate::lane::error::LaneError;
use crate::model::halt::Halt;
use crate::model::input::{DecodedRecord, RecordError};
use crate::model::intake::{IntakeBatch, IntakeOutcome, Tally};
use crate::model::number::{Lane, Millis, Offset, Seq};
use crate::model::ownership::Suspension;
use crate::model::record::Record;
use crate::ports::ledger::LedgerError;
use crate::telemetry::lanes::LaneView;

fn all_there(telemetry: &Telemetry) {
    for need in Need::ALL {
        telemetry.has(need);
    }
}

fn halt(found: &str) -> Halt {
    Halt { kind: "duplicate-row".into(), found: found.to_owned(), remedy: "mend it".to_owned() }
}

fn sample(telemetry: &Telemetry, name: &str) -> Option<String> {
    let exposition = telemetry.exposition(Format::OpenMetrics).unwrap();
    exposition.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned()))
}

#[track_caller]
fn assert_samples(telemetry: &Telemetry, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(sample(telemetry, name).as_deref(), Some(*value), "{name}");
    }
}

fn arrived(offset: i64, decoded: DecodedRecord) -> (Record, DecodedRecord) {
    (
        Record {
            offset: Offset::new(offset),
            timestamp: Millis::new(1_000),
            key: None,
            value: None,
            headers: Vec::new(),
            omitted: None,
        },
        decoded,
    )
}

fn dead_letter(field: Option<&'static str>) -> DecodedRecord {
    DecodedRecord::DeadLetter(RecordError { field, reason: "wrong".to_owned() })
}

#[test]
fn an_instance_is_ready_when_everything_is_there_even_without_a_lane() {
    let telemetry = Telemetry::default();
    let missing = telemetry.readiness().missing;
    assert_eq!(missing.len(), Need::ALL.len(), "{missing:?}");
    assert_eq!(missing[0], "feedback: not there yet");
    all_there(&telemetry);
    assert_eq!(telemetry.readiness(), Readiness { ready: true, ..Readiness::default() });
    telemetry.waits_for(Need::Kafka, "localhost:9092 does not answer");
    assert_eq!(telemetry.readiness().missing, ["kafka: localhost:9092 does not answer"]);
    telemetry.has(Need::Kafka);
    telemetry.suspended(Suspension { paused: true, held: false });
    assert!(telemetry.readiness().ready && telemetry.readiness().paused, "an order of the operator's is no fault");
    telemetry.stopping();
    assert_eq!(telemetry.readiness().missing, ["the service is stopping"]);
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_a_fault_once_it_lasts_longer_than_a_way_in() {
    let telemetry = Telemetry::default();
    all_there(&telemetry);
    telemetry.suspended(Suspension { paused: false, held: true });
    assert!(telemetry.readiness().ready && telemetry.readiness().held, "every fail-over has one");
    tokio::time::advance(Duration::from_secs(6)).await;
    telemetry.suspended(Suspension { paused: true, held: true });
    tokio::time::advance(Duration::from_secs(6)).await;
    let missing = telemetry.readiness().missing;
    assert!(missing.len() == 1 && missing[0].starts_with("held for 12 s: "), "{missing:?}");
    telemetry.suspended(Suspension::default());
    assert!(telemetry.readiness().ready && !telemetry.readiness().held);
}

#[test]
fn a_halt_is_named_in_the_log_once_until_the_lane_has_run() {
    let mut view = LaneView::new();
    let mut is_named = |states: &[LaneState]| states.iter().map(|state| view.is_news(state)).collect::<Vec<_>>();
    let (one, other) = (LaneState::Halted(halt("one")), LaneState::Halted(halt("another")));
    assert_eq!(is_named(&[one.clone(), LaneState::TakingOver, one.clone()]), [true, true, false]);
    assert_eq!(is_named(&[other, one.clone(), LaneState::Running, one]), [true, true, true, true]);
}

#[test]
fn a_lane_that_failed_is_missing_until_it_runs_again_and_has_published() {
    let telemetry = Telemetry::default();
    all_there(&telemetry);
    telemetry.set_lane(Lane::new(0), LaneState::TakingOver);
    assert!(telemetry.readiness().ready, "a takeover is no fault");
    telemetry.lane_failed(Lane::new(0), &LaneError::ClockUnread, Duration::from_secs(1));
    assert!(telemetry.readiness().missing[0].starts_with("lane 0: waiting: the feedback database's clock"));
    telemetry.set_lane(Lane::new(0), LaneState::TakingOver);
    assert!(telemetry.readiness().missing[0].starts_with("lane 0: entering: the feedback database's clock"));
    telemetry.set_lane(Lane::new(0), LaneState::Running);
    assert!(telemetry.readiness().missing[0].starts_with("lane 0: running: the feedback database's clock"));
    telemetry.well(Lane::new(0));
    assert!(telemetry.readiness().ready);
    assert_samples(
        &telemetry,
        &[
            ("dinnerbell_ready", "1"),
            ("dinnerbell_lane_failures_total{cause=\"clock\"}", "1"),
            ("dinnerbell_lane_state{lane=\"0\",state=\"running\"}", "1"),
            ("dinnerbell_lane_state{lane=\"0\",state=\"waiting\"}", "0"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_does_not_get_in_is_missing_after_a_while() {
    let telemetry = Telemetry::default();
    all_there(&telemetry);
    telemetry.set_lane(Lane::new(3), LaneState::TakingOver);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert!(telemetry.readiness().ready);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(telemetry.readiness().missing, ["lane 3: entering for 10 s"]);
}

#[test]
fn a_halted_lane_shows_its_name_and_remedy_but_no_client() {
    let telemetry = Telemetry::default();
    all_there(&telemetry);
    telemetry
        .set_lane(Lane::new(1), LaneState::Halted(halt("Key (adv_campaign_id, client_id)=(c-1, u-1) already exists")));
    let readiness = telemetry.readiness();
    assert_eq!(readiness.missing, ["lane 1: halted: duplicate-row"]);
    let report = serde_json::to_value(&readiness.lanes[0]).unwrap();
    assert_eq!(report["remedy"], "mend it");
    assert_eq!(report["error"], "Key (adv_campaign_id, client_id)=(...) already exists");
    assert_samples(&telemetry, &[("dinnerbell_halted_lanes", "1"), ("dinnerbell_ready", "0")]);
}

#[test]
fn a_lane_that_was_left_leaves_no_series_behind() {
    let telemetry = Telemetry::default();
    telemetry.set_lane(Lane::new(2), LaneState::Running);
    telemetry.observe_lag(Lane::new(2), Some(Lag { records: 1, seconds: 1.0 }));
    assert_samples(&telemetry, &[("dinnerbell_lane_lag_records{lane=\"2\"}", "1")]);
    telemetry.left(Lane::new(2));
    assert!(!telemetry.exposition(Format::OpenMetrics).unwrap().contains("lane=\"2\""));
    telemetry.observe_lag(Lane::new(2), Some(Lag { records: 1, seconds: 1.0 }));
    assert!(
        !telemetry.exposition(Format::OpenMetrics).unwrap().contains("lane=\"2\""),
        "a late answer does not bring it back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_poll_loop_that_stands_still_is_told_from_one_that_has_not_begun_or_has_ended() {
    let telemetry = Telemetry::default();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(telemetry.stands_still(), None);
    telemetry.polled();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(telemetry.stands_still(), None);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(telemetry.stands_still(), Some(Duration::from_secs(10)));
    telemetry.stopping();
    assert_eq!(telemetry.stands_still(), None);
}

#[test]
fn the_records_of_an_intake_are_counted_by_what_they_ended_as_and_add_up() {
    let telemetry = Telemetry::default();
    let tally = Tally { campaigns: 2, duplicates: 1, dead_letters: 4, ..Tally::default() };
    let records = vec![
        arrived(0, dead_letter(Some("restaurant_id"))),
        arrived(1, dead_letter(None)),
        arrived(2, dead_letter(Some("restaurant_id"))),
    ];
    let batch = IntakeBatch { from: Offset::new(0), to: Offset::new(7), records };
    telemetry.took_in(
        Lane::new(0),
        &IntakeOutcome { tally, ..IntakeOutcome::default() },
        &batch,
        Duration::from_millis(3),
    );
    assert_samples(
        &telemetry,
        &[
            ("dinnerbell_records_total{outcome=\"campaign\"}", "2"),
            ("dinnerbell_records_total{outcome=\"duplicate\"}", "1"),
            ("dinnerbell_records_total{outcome=\"update\"}", "0"),
            ("dinnerbell_records_total{outcome=\"dead_letter\"}", "4"),
            ("dinnerbell_dead_letters_total{reason_field=\"restaurant_id\"}", "2"),
            ("dinnerbell_dead_letters_total{reason_field=\"record\"}", "1"),
            ("dinnerbell_dead_letters_total{reason_field=\"conflict\"}", "1"),
            ("dinnerbell_step_duration_seconds_count{step=\"intake\"}", "1"),
        ],
    );
    let total: u64 = telemetry
        .exposition(Format::OpenMetrics)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("dinnerbell_records_total{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(total, tally.records().unsigned_abs());
}

#[test]
fn changes_of_other_lanes_are_not_counted_as_records_a_second_time() {
    let telemetry = Telemetry::default();
    let tally = Tally { updates: 1, dead_letters: 1, ..Tally::default() };
    telemetry.applied_changes(Lane::new(0), &IntakeOutcome { tally, ..IntakeOutcome::default() });
    assert_samples(
        &telemetry,
        &[
            ("dinnerbell_records_total{outcome=\"update\"}", "0"),
            ("dinnerbell_changes_total{outcome=\"update\"}", "1"),
            ("dinnerbell_dead_letters_total{reason_field=\"conflict\"}", "1"),
        ],
    );
}

#[test]
fn memory_in_flight_is_what_was_taken_of_it() {
    let telemetry = Telemetry::default();
    let memory = Arc::new(MemoryBudget::new(64 << 10));
    telemetry.watch_memory(Arc::clone(&memory));
    let held = memory.for_publication(16 << 10).now_or_never().unwrap();
    let taken = ("dinnerbell_memory_in_flight_bytes", "16384");
    assert_samples(&telemetry, &[taken, ("dinnerbell_memory_limit_bytes", "65536")]);
    drop(held);
    assert_samples(&telemetry, &[("dinnerbell_memory_in_flight_bytes", "0")]);
}

#[test]
fn each_failure_has_a_cause_that_was_registered() {
    let telemetry = Telemetry::default();
    let before = telemetry.exposition(Format::OpenMetrics).unwrap().lines().count();
    let errors = [
        LaneError::NotAssigned,
        LaneError::ClockUnread,
        LaneError::TakenOver,
        LaneError::NotOpen { seq: Seq::new(1) },
        LaneError::Paused { seq: Seq::new(1) },
        LaneError::Ledger(LedgerError::Transient(String::new())),
        LaneError::Ledger(LedgerError::NotMine(String::new())),
        LaneError::Broker(crate::ports::broker::BrokerError::Fenced),
        LaneError::Audience(crate::ports::audience::AudienceError::Transient(String::new())),
        LaneError::Halt(halt("")),
    ];
    for error in &errors {
        telemetry.lane_warns(Lane::new(0), error);
    }
    assert_eq!(telemetry.exposition(Format::OpenMetrics).unwrap().lines().count(), before);
}
