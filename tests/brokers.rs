//! Three brokers that replicate everything: leaders and coordinators move, brokers are ended, killed, frozen and woken again, replicas are too
//! few. Two instances publish campaigns meanwhile. After each, both sinks hold exactly the expected drafts, and no lane is halted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::kafka_server::Broker;

mod chaos;
mod scene;

use scene::{LONG, Load, Scene};

/// Many small rounds: some are under way at each moment.
const LOAD: Load = Load { clients: 200, round_rows: 20, pause: Duration::ZERO };
/// How long rounds may stand still in any lane, though a broker is away: Kafka notices after six seconds.
const WITHOUT_IT: Duration = Duration::from_secs(60);
/// Longer than a broker's session.
const FROZEN: Duration = Duration::from_secs(12);

/// How a broker goes away.
#[derive(Debug, Clone, Copy)]
enum Away {
    Ended,
    Killed,
    /// It is woken again as a leader of the past that still talks.
    Frozen,
}

impl Away {
    fn take(self, broker: &Broker) {
        match self {
            Self::Ended => broker.stop(),
            Self::Killed => broker.kill(),
            Self::Frozen => broker.freeze(),
        }
    }

    fn bring_back(self, kafka: &crate::support::KafkaServer, broker: &Broker) {
        match self {
            Self::Ended | Self::Killed => kafka.start(),
            Self::Frozen => broker.thaw(),
        }
    }
}

/// Takes a broker away: every lane goes on without it. It comes back: all is told, once.
fn take_away(scene: &mut Scene, id: i32, away: Away) {
    let what = format!("broker {id} {away:?}");
    scene.every_lane_goes_on(&format!("before {what}"), LONG);
    let kafka = scene.stage.kafka.clone();
    let broker = broker(&kafka, id);
    away.take(broker);
    if matches!(away, Away::Frozen) {
        scene.busy_for(FROZEN);
    }
    scene.every_lane_goes_on(&what, WITHOUT_IT);
    away.bring_back(&kafka, broker);
    scene.assert_recovers(&what);
}

fn broker(kafka: &crate::support::KafkaServer, id: i32) -> &Broker {
    kafka.brokers.iter().find(|broker| broker.id == id).expect("there are three")
}

/// Who leads the partitions of a topic moves, twice.
fn move_leaders(scene: &mut Scene, topic: &str) {
    for _ in 0..2 {
        let moved = scene.stage.kafka.move_leaders(topic);
        assert!(moved > 0, "no leader of {topic} moved");
        scene.every_lane_goes_on(&format!("{moved} leaders of {topic} moved"), WITHOUT_IT);
    }
    scene.assert_recovers(&format!("leaders of {topic} moved"));
}

/// The topics whose leaders a lane has to do with: the leaders of the last two are the coordinators.
fn topics(scene: &Scene) -> [String; 4] {
    let (campaigns, notifications) = (scene.stage.campaigns.clone(), scene.stage.notifications.clone());
    [notifications, campaigns, "__consumer_offsets".into(), "__transaction_state".into()]
}

#[test]
fn leaders_move_and_brokers_go_away_in_turn_and_everybody_is_told_once() {
    let mut scene = Scene::new(LOAD);
    for topic in topics(&scene) {
        scene.stage.kafka.move_leaders(&topic);
    }
    scene.assert_recovers("all leaders moved");
    take_away(&mut scene, 1, Away::Killed);
    take_away(&mut scene, 2, Away::Frozen);
    scene.end();
}

/// Kafka has another leader after six seconds. Whoever waited for the whole transaction would wait for a minute.
#[test]
#[ignore = "takes minutes: make prove"]
fn a_leader_that_freezes_in_the_middle_of_transactions_costs_no_minute() {
    const SOONER: Duration = Duration::from_secs(45);
    let mut scene = Scene::new(LOAD);
    let kafka = scene.stage.kafka.clone();
    let [notifications, campaigns, offsets, transactions] = topics(&scene);
    kafka.let_lead(&notifications, 2);
    [campaigns, offsets, transactions].iter().for_each(|topic| kafka.let_lead(topic, 1));
    scene.every_lane_goes_on("before the leader freezes", LONG);
    broker(&kafka, 2).freeze();
    scene.every_lane_goes_on("the leader is frozen", SOONER);
    broker(&kafka, 2).thaw();
    scene.assert_recovers("the leader of the past is awake");
    scene.end();
}

#[test]
#[ignore = "takes minutes: make prove"]
fn leaders_of_each_topic_and_both_coordinators_move_and_everybody_is_told_once() {
    let mut scene = Scene::new(LOAD);
    for topic in topics(&scene) {
        move_leaders(&mut scene, &topic);
    }
    scene.end();
}

#[test]
#[ignore = "takes minutes: make prove"]
fn each_broker_is_ended_killed_and_frozen_in_turn_and_everybody_is_told_once() {
    let mut scene = Scene::new(LOAD);
    for away in [Away::Ended, Away::Killed, Away::Frozen] {
        for id in 1..=3 {
            take_away(&mut scene, id, away);
        }
    }
    scene.end();
}

/// The end of each partition of the notifications topic, open transactions and aborted ones included.
fn ends(scene: &Scene, partitions: std::ops::Range<i32>) -> Vec<i64> {
    let topic = &scene.stage.notifications;
    partitions.map(|partition| scene.stage.kafka.watermarks(topic, partition, "read_uncommitted").1).collect()
}

#[test]
#[ignore = "takes minutes: make prove"]
fn while_a_partition_has_too_few_replicas_in_sync_rounds_wait_and_fill_no_other_partition() {
    const STANDS: Duration = Duration::from_secs(25);
    let mut scene = Scene::new(LOAD);
    let kafka = scene.stage.kafka.clone();
    // The first partition needs the first broker, and the others do not.
    let kept = |partition| if partition == 0 { vec![2, 1] } else { vec![2, 3] };
    let orders: BTreeMap<i32, Vec<i32>> = (0..6).map(|partition| (partition, kept(partition))).collect();
    assert!(kafka.reassign(&scene.stage.notifications, &orders));
    let topic = scene.stage.notifications.clone();
    scene.busy_until("the partitions are where they shall be", LONG, |scene| {
        let places = scene.stage.kafka.places(&topic);
        places.iter().all(|(partition, place)| place.replicas == orders[partition] && place.in_sync.len() == 2)
    });
    broker(&kafka, 1).kill();
    scene.busy_for(FROZEN);
    let before = (ends(&scene, 0..6), scene.published());
    scene.busy_for(STANDS);
    assert_eq!(scene.published(), before.1, "rounds wait");
    let written: i64 = ends(&scene, 0..6).iter().zip(&before.0).map(|(now, before)| now - before).sum();
    println!("{written} records and markers of transactions that failed in {STANDS:?}");
    // What is aborted has a marker in each partition. The end of a transaction waits for the refusing partition too, and nobody begins another one.
    let of_one_round_each = i64::from(scene::LANES) * (LOAD.round_rows + 6);
    assert!(written <= of_one_round_each, "{written} records and markers of transactions that failed");
    kafka.start();
    scene.every_lane_goes_on("all replicas are there again", scene::RECOVERED_WITHIN);
    scene.assert_recovers("too few replicas in sync");
    scene.end();
}

#[test]
#[ignore = "takes minutes: make prove"]
fn while_two_brokers_are_away_nothing_goes_on_and_afterwards_everybody_is_told_once() {
    let mut scene = Scene::new(LOAD);
    let kafka = scene.stage.kafka.clone();
    for (first, second) in [(1, 2), (2, 3), (3, 1)] {
        scene.every_lane_goes_on(&format!("before brokers {first} and {second} go"), LONG);
        broker(&kafka, first).kill();
        broker(&kafka, second).kill();
        std::thread::sleep(FROZEN);
        let began = Instant::now();
        kafka.start();
        eprintln!("two brokers were started within {:?}", began.elapsed());
        scene.every_lane_goes_on("two brokers are there again", scene::RECOVERED_WITHIN);
        scene.assert_recovers("two brokers away");
    }
    scene.end();
}

#[test]
#[ignore = "takes minutes: make prove"]
fn while_a_topic_wants_all_three_replicas_and_one_is_away_rounds_wait_and_go_on_afterwards() {
    let mut scene = Scene::new(LOAD);
    let kafka = scene.stage.kafka.clone();
    kafka.set_topic(&scene.stage.notifications, "min.insync.replicas", "3");
    for away in [Away::Killed, Away::Frozen] {
        scene.every_lane_goes_on(&format!("before {away:?}"), LONG);
        away.take(broker(&kafka, 2));
        scene.busy_for(FROZEN);
        let before = scene.published();
        scene.busy_for(FROZEN);
        assert_eq!(scene.published(), before, "rounds wait");
        away.bring_back(&kafka, broker(&kafka, 2));
        scene.every_lane_goes_on("all replicas are there again", scene::RECOVERED_WITHIN);
        scene.assert_recovers("too few replicas in sync");
    }
    scene.end();
}
