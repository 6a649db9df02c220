//! Which lanes a member has, and where they start.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use dinnerbell_config::Start;
use dinnerbell_core::model::number::{Lane, Offset, Seconds};
use dinnerbell_core::ports::broker::Broker;

use super::{SOON, Scene, soon};

#[tokio::test(flavor = "multi_thread")]
async fn lanes_move_between_two_members_and_come_back() {
    let scene = Scene::new(4);
    let (one, two) = (scene.broker().await, scene.broker().await);
    let mut first = one.join().unwrap();
    let mut ours = first.assignments();
    timeout(SOON, ours.wait_for(|held| held.len() == 4)).await.unwrap().unwrap();
    assert!(one.still_assigned(Lane::new(3)).await);

    let mut second = two.join().unwrap();
    let mut theirs = second.assignments();
    timeout(SOON, theirs.wait_for(|held| held.len() == 2)).await.unwrap().unwrap();
    timeout(SOON, ours.wait_for(|held| held.len() == 2)).await.unwrap().unwrap();
    let moved = theirs.borrow().clone();
    assert!(ours.borrow().is_disjoint(&moved));
    for lane in moved {
        assert!(!one.still_assigned(lane).await);
        assert!(two.still_assigned(lane).await);
    }

    let began = Instant::now();
    second.leave(soon()).await;
    assert!(theirs.borrow().is_empty(), "leaving gives every lane back");
    timeout(SOON, ours.wait_for(|held| held.len() == 4)).await.unwrap().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "leaving is prompt, not a session time-out: {:?}",
        began.elapsed()
    );
    first.leave(soon()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_become_lanes() {
    let scene = Scene::new(1);
    let broker = scene.broker().await;
    let mut membership = broker.join().unwrap();
    let mut assigned = membership.assignments();
    timeout(SOON, assigned.wait_for(|held| held.len() == 1)).await.unwrap().unwrap();
    scene.server.grow_topic(scene.campaigns(), 3);
    timeout(SOON, assigned.wait_for(|held| held.len() == 3)).await.unwrap().unwrap();
    assert_eq!(broker.lanes().await.unwrap(), 3);
    membership.leave(soon()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn start_offsets_are_resolved_for_every_lane() {
    let scene = Scene::new(3);
    scene.send(Lane::new(0), [b"a".to_vec(), b"b".to_vec()]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let between = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    scene.send(Lane::new(0), [b"c".to_vec()]);
    scene.send(Lane::new(1), [b"d".to_vec()]);
    let broker = scene.broker().await;
    let offsets =
        async |start| broker.start_offsets(start).await.unwrap().into_values().map(Offset::get).collect::<Vec<_>>();
    assert_eq!(offsets(Start::Earliest).await, [0, 0, 0]);
    assert_eq!(offsets(Start::Latest).await, [3, 1, 0]);
    assert_eq!(offsets(Start::At(Seconds::new(i64::try_from(between).unwrap()))).await, [2, 0, 0]);
    assert_eq!(offsets(Start::At(Seconds::new(4_000_000_000))).await, [3, 1, 0]);
}
