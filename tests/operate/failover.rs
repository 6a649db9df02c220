//! A feedback database that fails over to an asynchronous standby, and loses its last commits, while the service runs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::operate::by_hand::json_of;
use crate::support::{Campaign, Expected, Service, Setting, Stage, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// Two lanes, and a service whose database can lose what it told.
struct FailOver {
    /// Before the stage: its log lies there, and is shown when a test fails.
    service: Service,
    stage: Stage,
    expected: Expected,
}

impl FailOver {
    fn new(names: &[&str]) -> Self {
        let stage = Stage::with(Setting { lanes: 2, own_postgres: true, ..Setting::default() });
        stage.migrate();
        // The favourites live in the same server, and are not what is lost.
        names.iter().for_each(|name| stage.subscribers.subscribe(name, 30));
        let service = stage.start();
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

    fn is_held(&self) -> bool {
        let answer = self.service.get("/readyz");
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
        self.service.stop();
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
    wait_until("lane 1 is entered again", LONG, || of.stage.feedback.number(compared) == 1);
    assert!(of.is_held(), "it waits for lane 0");
    of.stage.dinnerbell_ok(&["lane", "resolve", "0", "--from-kafka"]);
    of.settles_whole();
}
