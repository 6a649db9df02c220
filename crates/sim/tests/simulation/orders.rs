//! The same campaign through several lanes: every interleaving that keeps each lane's order ends the same.

use std::collections::BTreeSet;
use std::time::Duration;

use dinnerbell_core::model::campaign::{Campaign, CampaignState, Window};
use dinnerbell_core::model::number::{Lane, Micros, Millis, Seconds};
use dinnerbell_sim::faults::Harm;
use dinnerbell_sim::random::Random;
use dinnerbell_sim::world::{FIRST_SECOND, World};
use tokio::time::sleep;

use crate::instance::{Process, Settings};

const LANES: i32 = 2;
/// Longer than an owner takes to notice what another lane received.
const NOTICED: Duration = Duration::from_millis(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    FirstCopy,
    Duplicate,
    Update,
    OlderUpdate,
    Tombstone,
}

fn version(kind: Kind) -> Option<Campaign> {
    let (content, created, end) = match kind {
        Kind::FirstCopy | Kind::Duplicate => ("first", 10, 4_000),
        Kind::Update => ("update", 20, 5_000),
        Kind::OlderUpdate => ("older", 5, 3_000),
        Kind::Tombstone => return None,
    };
    Some(Campaign {
        restaurant_id: "r0".into(),
        adv_campaign_id: "c".into(),
        adv_campaign_content: content.into(),
        adv_campaign_owner: "owner".into(),
        adv_campaign_owner_contact: "contact".into(),
        window: Window { start: FIRST_SECOND - 10, end: FIRST_SECOND + end },
        datetime_created: Seconds::new(created),
    })
}

fn append(world: &World, lane: Lane, kind: Kind) {
    let value = version(kind).map(|campaign| dinnerbell_core::model::input::encode(&campaign));
    world.state().kafka.append(lane, Millis::new(0), Some(b"c".to_vec()), value, 0);
    world.wake_readers();
}

/// How it ended: the state, the campaign unless it is cancelled, and how many records were counted.
#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Clone)]
struct Ended {
    state: &'static str,
    content: Option<(String, Seconds, Seconds)>,
    records: i64,
}

/// The records arrive in this order, each so long after the one before.
fn arrive(order: &[(Lane, Kind)], apart: Duration) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without drivers can be built").block_on(async {
        let world = World::new(7, LANES);
        world.state().harm = Harm { latency: 3, ..Harm::default() };
        world.state().subscribers.insert("k", "r0", Micros::default(), 0);
        let mut processes: Vec<Process> = Lane::all(LANES)
            .map(|lane| Process::new(world.clone(), lane.get() as usize, Settings { round_rows: 5, rate: 0 }))
            .collect();
        for (lane, process) in processes.iter_mut().enumerate() {
            process.start();
            process.held.send_replace(BTreeSet::from([Lane::new(lane as i32)]));
        }
        sleep(NOTICED).await;
        for (lane, kind) in order {
            append(&world, *lane, *kind);
            sleep(apart).await;
        }
        sleep(Duration::from_secs(10)).await;
        let state = world.state();
        assert!(state.broken.is_empty(), "{order:?}: {:?}", state.broken);
        let row = &state.database.campaigns["c"];
        let campaign = row.campaign.as_ref().filter(|_| row.state != CampaignState::Cancelled);
        let shown = |campaign: &std::sync::Arc<Campaign>| {
            (campaign.adv_campaign_content.clone(), campaign.window.start, campaign.window.end)
        };
        let records = state.database.lanes.values().map(|lane| lane.tally.records()).sum();
        let unapplied = state.database.changes.iter().filter(|change| change.applied != 1).count();
        assert_eq!(unapplied, 0, "{order:?}");
        Ended { state: row.state.name(), content: campaign.map(shown), records }
    })
}

/// Every way to interleave the lanes.
fn interleavings(lanes: &[Vec<Kind>]) -> Vec<Vec<(Lane, Kind)>> {
    if lanes.iter().all(Vec::is_empty) {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for lane in (0..lanes.len()).filter(|&lane| !lanes[lane].is_empty()) {
        let mut rest = lanes.to_vec();
        let first = rest[lane].remove(0);
        for mut order in interleavings(&rest) {
            order.insert(0, (Lane::new(lane as i32), first));
            all.push(order);
        }
    }
    all
}

/// Every interleaving of these lanes ends the same.
fn all_end_alike(lanes: &[Vec<Kind>], apart: Duration) {
    let ends: BTreeSet<Ended> = interleavings(lanes).iter().map(|order| arrive(order, apart)).collect();
    assert_eq!(ends.len(), 1, "{lanes:?}, {apart:?} apart: {ends:?}");
}

/// Each kind once, spread over the lanes in any way.
fn spread(kinds: &[Kind], random: &mut Random) -> Vec<Vec<Kind>> {
    let mut lanes = vec![Vec::new(); LANES as usize];
    let mut left = kinds.to_vec();
    while !left.is_empty() {
        let kind = left.remove(random.below(left.len() as u64) as usize);
        lanes[random.below(LANES as u64) as usize].push(kind);
    }
    lanes
}

const WITHOUT_TOMBSTONE: [Kind; 4] = [Kind::FirstCopy, Kind::Duplicate, Kind::Update, Kind::OlderUpdate];

#[test]
fn every_interleaving_of_lanes_ends_in_the_same_state_content_and_window() {
    let mut random = Random::new(1);
    for round in 0..12 {
        let mut kinds = WITHOUT_TOMBSTONE.to_vec();
        if round % 2 == 0 {
            kinds.push(Kind::Tombstone);
        }
        let lanes = spread(&kinds, &mut random);
        all_end_alike(&lanes, *random.pick(&[Duration::ZERO, Duration::from_millis(4), NOTICED]));
    }
}
