//! Records behind a sender's open transaction: nobody can read them, and every instrument says so.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::support::{Campaign, Expected, Service, Setting, Stage, wait_until};

/// It is looked up every five seconds, and said after ten; the machine may be busy.
const SAID_WITHIN: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(30);

fn readiness(service: &Service) -> Value {
    let answer = service.get("/readyz");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head ends");
    serde_json::from_str(body).expect("it is JSON")
}

#[test]
fn records_that_a_senders_open_transaction_holds_back_are_said_to_wait_and_taken_in_when_it_ends() {
    let stage = Stage::with(Setting { lanes: 1, ..Setting::default() });
    stage.subscribers.subscribe("deli", 3);
    stage.migrate();
    let service = stage.start();
    wait_until("it is ready", SAID_WITHIN, || readiness(&service)["ready"] == true);
    let mut settings = stage.kafka.client();
    settings.set("transactional.id", format!("{}-sender", stage.group));
    let sender: BaseProducer = settings.create().expect("the settings are right");
    sender.init_transactions(WAIT).expect("the broker answers");
    sender.begin_transaction().expect("it is initialised");
    let campaign = Campaign::now("held", "deli");
    let value = campaign.json();
    sender.send(BaseRecord::to(&stage.campaigns).partition(0).key("k").payload(&value)).expect("there is room");
    sender.flush(WAIT).expect("the broker takes it");
    let behind = Campaign::now("behind", "deli");
    stage.send_to(0, &behind);
    let warned = |service: &Service| {
        let said = readiness(service);
        assert_eq!(said["ready"], true, "{said}");
        let warnings = said["warnings"].as_array().expect("it is a list").clone();
        warnings.iter().any(|warning| {
            let warning = warning.as_str().expect("it is text");
            warning.starts_with("lane 0: 2 records wait for a sender's open transaction since ")
        })
    };
    wait_until("it is said", SAID_WITHIN, || warned(&service));
    let metrics = service.get("/metrics");
    assert!(metrics.contains("\ndinnerbell_lane_held_back_records{lane=\"0\"} 2\n"), "{metrics}");
    assert!(metrics.contains("\ndinnerbell_lane_lag_records{lane=\"0\"} 2\n"), "{metrics}");
    assert!(metrics.contains("\ndinnerbell_lanes 1\n"), "{metrics}");
    let doctor = stage.dinnerbell(&["doctor"]);
    let found = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success() && found.contains("2 in partition 0 from offset 0 on"), "{found}");
    sender.commit_transaction(WAIT).expect("the broker answers");
    let clients = stage.subscribers.clients_of("deli");
    let mut expected = Expected::from([(&campaign, clients.clone())]);
    expected.add(&behind, clients);
    stage.await_sinks(&expected, WAIT);
    wait_until("nothing is held back any more", SAID_WITHIN, || {
        readiness(&service)["warnings"] == Value::Array(vec![])
    });
    let log = service.stop();
    assert_eq!(log.matches("wait for a sender's open transaction").count(), 1, "{log}");
}
