//! What arrives in one lane, or from an operator, about a campaign of another.

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::intake::Tally;
use dinnerbell_core::model::number::{Lane, Offset, Seconds};

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Sent, offer, open_lanes, version};

pub async fn an_update_through_another_lane_waits_for_the_owner_who_applies_it<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    let first = offer(env, "a").await;
    owner.start(&first).await;
    let update = version(&first, Seconds::new(2));
    let taken = other.take(&[Sent::Campaign(&update)]).await;
    assert_eq!(taken.tally, Tally { handed_over: 1, ..Tally::default() });
    assert_eq!((taken.changed.len(), taken.windows.len(), taken.started.len()), (0, 0, 0));
    assert_eq!((env.campaign("a").await.revision, env.unapplied().await), (1, 1));
    assert_eq!(owner.ledger.poll(&[owner.own, other.own]).await.unwrap().changes, [Lane::new(0)]);

    let applied = owner.ledger.apply_changes(owner.own).await.unwrap();
    assert_eq!(applied.tally, Tally::default(), "the lane that received it counted it");
    assert_eq!(applied.changed, ["a"]);
    assert_eq!((applied.windows, applied.more_changes), (vec![("a".to_owned(), update.window)], false));
    let row = env.campaign("a").await;
    assert_eq!((row.lane, row.revision, row.content.as_deref()), (Lane::new(0), 2, Some("a, version 2")));
    assert_eq!(env.unapplied().await, 0);
    assert!(owner.ledger.poll(&[owner.own, other.own]).await.unwrap().changes.is_empty());
    assert_eq!(env.lane(Lane::new(0)).await.tally, Tally { campaigns: 1, ..Tally::default() });
    let again = owner.ledger.apply_changes(owner.own).await.unwrap();
    assert!(again.changed.is_empty(), "it is applied once");
}

pub async fn the_lane_that_records_a_campaign_first_owns_it<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    let a = offer(env, "a").await;
    let (one, two) = ([Sent::Campaign(&a)], [Sent::Campaign(&a)]);
    let (one, two) = tokio::join!(owner.take(&one), other.take(&two));
    let lane = env.campaign("a").await.lane;
    let (first, second) = if lane == Lane::new(0) { (one, two) } else { (two, one) };
    assert_eq!((first.tally.campaigns, first.started.len()), (1, 1));
    assert_eq!((second.tally.handed_over, second.started.len()), (1, 0));
    let (owner, applied) = if lane == Lane::new(0) { (&owner, "lane 0") } else { (&other, "lane 1") };
    let taken = owner.ledger.apply_changes(owner.own).await.unwrap();
    assert!(taken.changed.is_empty(), "{applied}: a copy changes nothing");
    assert_eq!((env.unapplied().await, env.campaign("a").await.revision), (0, 1));
}

pub async fn a_tombstone_that_comes_first_owns_the_id<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    owner.take(&[Sent::Tombstone("a")]).await;
    let a = offer(env, "a").await;
    let taken = other.take(&[Sent::Campaign(&a)]).await;
    assert_eq!((taken.tally.handed_over, taken.started.len()), (1, 0));
    let applied = owner.ledger.apply_changes(owner.own).await.unwrap();
    assert!(applied.changed.is_empty() && applied.started.is_empty());
    let row = env.campaign("a").await;
    assert_eq!((row.lane, row.state.as_str(), row.revision, env.unapplied().await), (Lane::new(0), "cancelled", 1, 0));
}

pub async fn a_cancellation_through_another_lane_is_applied_by_the_owner<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    owner.start(&offer(env, "a").await).await;
    let taken = other.take(&[Sent::Tombstone("a")]).await;
    assert_eq!((taken.tally.handed_over, taken.tally.cancellations), (1, 0));
    assert_eq!(env.campaign("a").await.state, "active");
    let applied = owner.ledger.apply_changes(owner.own).await.unwrap();
    assert_eq!((applied.changed, applied.windows), (vec!["a".to_owned()], vec![("a".to_owned(), Window::NEVER)]));
    assert_eq!(env.campaign("a").await.state, "cancelled");
}

pub async fn an_operators_cancel_is_applied_by_the_owner<E: Environment>(env: &E) {
    let (mut owner, other) = open_lanes(env).await;
    owner.start(&offer(env, "a").await).await;
    env.cancel("a").await;
    assert_eq!(owner.ledger.poll(&[owner.own, other.own]).await.unwrap().changes, [Lane::new(0)]);
    let applied = owner.ledger.apply_changes(owner.own).await.unwrap();
    assert_eq!((applied.changed.len(), env.unapplied().await), (1, 0));
    let row = env.campaign("a").await;
    assert_eq!((row.state.as_str(), row.revision), ("cancelled", 2));
}

pub async fn changes_are_applied_in_the_order_of_their_versions<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    let first = offer(env, "a").await;
    owner.start(&first).await;
    let (second, third) = (version(&first, Seconds::new(2)), version(&first, Seconds::new(3)));
    other.take(&[Sent::Campaign(&third), Sent::Campaign(&second)]).await;
    owner.ledger.apply_changes(owner.own).await.unwrap();
    let row = env.campaign("a").await;
    assert_eq!((row.revision, row.content.as_deref()), (3, Some("a, version 3")), "each counts as one");

    let fourth = version(&first, Seconds::new(4));
    other.take(&[Sent::Tombstone("a"), Sent::Campaign(&fourth)]).await;
    owner.ledger.apply_changes(owner.own).await.unwrap();
    let row = env.campaign("a").await;
    assert_eq!((row.state.as_str(), row.content.as_deref()), ("cancelled", Some("a, version 4")));
}

pub async fn a_change_that_conflicts_is_a_dead_letter_of_the_owner<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    let first = offer(env, "a").await;
    owner.start(&first).await;
    other.take(&[Sent::Tombstone("x")]).await;
    let elsewhere = Campaign { restaurant_id: "sushi".to_owned(), ..version(&first, Seconds::new(2)) };
    other.take(&[Sent::Campaign(&elsewhere)]).await;
    let applied = owner.ledger.apply_changes(owner.own).await.unwrap();
    assert_eq!((applied.dead_letters.len(), applied.changed.len(), env.unapplied().await), (1, 0, 0));
    assert!(other.ledger.due(other.own, 1).await.unwrap().dead_letters.is_empty());
    let due = owner.ledger.due(owner.own, 1).await.unwrap();
    assert_eq!(due.dead_letters, applied.dead_letters);
    let mut open = owner.ledger.open_round(owner.own).await.unwrap();
    let letter = open.dead_letters(&[due.dead_letters[0].id]).await.unwrap().remove(0);
    open.abandon().await.unwrap();
    assert_eq!(
        (letter.lane, letter.offset, letter.field.as_deref()),
        (Lane::new(1), Offset::new(1), Some("restaurant_id"))
    );
}

pub async fn nobody_but_the_owner_applies<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    let first = offer(env, "a").await;
    owner.start(&first).await;
    let update = version(&first, Seconds::new(2));
    other.take(&[Sent::Campaign(&update)]).await;
    let applied = other.ledger.apply_changes(other.own).await.unwrap();
    assert!(applied.changed.is_empty());
    assert_eq!((env.campaign("a").await.revision, env.unapplied().await), (1, 1));
}

pub async fn changes_are_applied_while_all_is_held<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    owner.start(&offer(env, "a").await).await;
    other.take(&[Sent::Tombstone("a")]).await;
    let halt = Halt { kind: "kafka-ahead".into(), found: "found".into(), remedy: "remedy".into() };
    other.ledger.halt(other.own, halt).await.unwrap();
    assert!(owner.ledger.suspension().await.unwrap().held);
    owner.ledger.apply_changes(owner.own).await.unwrap();
    assert_eq!(env.campaign("a").await.state, "cancelled", "a cancel takes effect");
}
