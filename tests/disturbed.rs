//! Requests of a lane's producer and their answers are lost, late, or doubled, each kind in each way, while rounds are published: everybody is
//! told once.

use std::time::Duration;

use crate::support::kafka_proxy::{
    ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN, FIND_COORDINATOR, INIT_PRODUCER_ID, METADATA, OFFSET_FETCH,
    PRODUCE, TXN_OFFSET_COMMIT, WAYS, Way,
};
use crate::support::{Campaign, Expected, KafkaProxy, Setting, Stage, wait_until};

const LONG: Duration = Duration::from_secs(120);
/// Small rounds: many of them are on their way.
const ROUND_ROWS: i64 = 300;
/// The rounds of a campaign.
const ROUNDS: u64 = 60;

/// What every round sends, or every takeover does: the first, the second and the third of its kind from a moment on.
const OF_A_ROUND: [i16; 3] = [TXN_OFFSET_COMMIT, PRODUCE, END_TXN];
/// What a takeover sends: the end of a transaction is lost first.
const OF_A_TAKEOVER: [i16; 4] = [FIND_COORDINATOR, INIT_PRODUCER_ID, OFFSET_FETCH, METADATA];
/// What brokers without KIP-890 are sent.
const OF_A_ROUND_BEFORE: [i16; 2] = [ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN];

struct Disturbed {
    stage: Stage,
    proxy: KafkaProxy,
    expected: Expected,
    campaigns: usize,
}

impl Disturbed {
    fn new(mut stage: Stage) -> Self {
        let proxy = KafkaProxy::before(&stage.kafka.plaintext);
        stage.config.set("kafka", "bootstrap_servers", proxy.address.to_string());
        stage.config.set("fanout", "round_rows", ROUND_ROWS);
        stage.migrate();
        stage.subscribers.subscribe("crowd", ROUNDS * ROUND_ROWS.unsigned_abs());
        Self { stage, proxy, expected: Expected::default(), campaigns: 0 }
    }

    fn told(&self) -> i64 {
        self.stage.feedback.number("select coalesce(sum(told), 0) from dinnerbell.campaign")
    }

    /// Rings once more where the campaigns before are told.
    fn keep_busy(&mut self) {
        let each = i64::try_from(ROUNDS).unwrap() * ROUND_ROWS;
        if self.told() >= i64::try_from(self.campaigns).unwrap() * each {
            self.campaigns += 1;
            let campaign = Campaign::now(&format!("offer-{}", self.campaigns), "crowd");
            self.expected.add(&campaign, self.stage.subscribers.clients_of("crowd"));
            self.stage.send(&campaign);
        }
    }

    /// Lets it happen while rounds are published.
    fn meet(&mut self, kind: i16, after: usize, way: Way) {
        self.proxy.disturb(kind, after, way);
        wait_until(&format!("request {kind}, after {after}, {way:?} is met"), LONG, || {
            self.keep_busy();
            self.proxy.has_disturbed()
        });
    }

    /// Everything of a round, and of a takeover, in every way.
    fn meet_all(&mut self, of_a_round: &[i16]) {
        for way in WAYS {
            for kind in of_a_round {
                for after in 0..3 {
                    self.meet(*kind, after, way);
                }
            }
            for kind in OF_A_TAKEOVER {
                self.meet(END_TXN, 0, Way::AnswerLost);
                self.meet(kind, 0, way);
            }
        }
    }
}

fn stage() -> Stage {
    Stage::with(Setting { own_kafka: true, ..Setting::default() })
}

#[test]
fn whatever_request_or_answer_is_lost_late_or_doubled_everybody_is_told_once() {
    let mut disturbed = Disturbed::new(stage());
    let service = disturbed.stage.start();
    disturbed.meet_all(&OF_A_ROUND);
    disturbed.stage.await_sinks(&disturbed.expected, LONG);
    service.stop();
    disturbed.stage.assert_sinks(&disturbed.expected);
}

#[test]
fn so_it_is_with_brokers_whose_transactions_are_of_the_first_version() {
    let stage = stage();
    stage.kafka.tool("org.apache.kafka.tools.FeatureCommand", &["downgrade", "--feature", "transaction.version=1"]);
    let mut disturbed = Disturbed::new(stage);
    let service = disturbed.stage.start();
    disturbed.meet_all(&[&OF_A_ROUND[..], &OF_A_ROUND_BEFORE[..]].concat());
    disturbed.stage.await_sinks(&disturbed.expected, LONG);
    service.stop();
    disturbed.stage.assert_sinks(&disturbed.expected);
    wait_until("no transaction is open", LONG, || {
        disturbed.stage.kafka.held_back(&disturbed.stage.notifications).is_empty()
    });
}
