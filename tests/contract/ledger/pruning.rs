//! What is long over goes, and what may still be needed stays. Everything counts as long over here.

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Sent, offer, open_lane, open_lanes, over, page, version};
use super::rounds::{drafts, read_back};
use dinnerbell_core::model::number::{Lane, Offset, Seconds};

pub async fn what_the_last_two_rounds_hold_stays<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let mut ended = Vec::new();
    for id in ["a", "b", "c"] {
        let running = owner.start(&offer(env, id).await).await;
        owner.record(vec![page(&running, &["anna"], true)]).await;
        ended.push(id);
    }
    let first_two = owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    owner.own = first_two.ownership;
    for id in ended {
        env.move_window(id, over(env).await).await;
    }
    owner.ledger.due(owner.own, 10).await.unwrap();
    env.prune().await;
    let acquired = owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    assert_eq!((acquired.head, acquired.previous), (owner.head, first_two.previous), "both are still known");
    owner.own = acquired.ownership;
    assert_eq!(drafts(&read_back::<E>(&owner).await), [("c", vec!["anna"])]);
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    assert_eq!((env.campaign("c").await.told, env.campaign("b").await.state.as_str()), (0, "closed"));
    let again = offer(env, "a").await;
    assert_eq!(owner.take(&[Sent::Campaign(&again)]).await.tally.campaigns, 1, "it is gone, and comes again");
    assert_eq!(env.campaign("a").await.revision, 1);
}

pub async fn a_campaign_with_a_change_to_apply_stays<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    let first = offer(env, "a").await;
    for campaign in [&first, &offer(env, "b").await] {
        owner.start(campaign).await;
        env.move_window(&campaign.adv_campaign_id, over(env).await).await;
    }
    owner.ledger.due(owner.own, 10).await.unwrap();
    let update = version(&first, Seconds::new(2));
    other.take(&[Sent::Campaign(&update)]).await;
    env.prune().await;
    let taken = owner.take(&[Sent::Tombstone("b")]).await;
    assert_eq!((taken.tally.cancellations, env.campaign("b").await.content), (1, None), "nobody knew it any more");
    owner.ledger.apply_changes(owner.own).await.unwrap();
    let a = env.campaign("a").await;
    assert_eq!((a.state.as_str(), a.revision), ("active", 2));
    env.prune().await;
    assert_eq!(env.campaign("a").await, a, "it is open");
}
