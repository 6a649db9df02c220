//! What stands still, and what ends that: halts, holds, pauses.

use dinnerbell_core::model::halt::{CommitLoss, Halt, HaltKind};
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::model::ownership::Suspension;
use dinnerbell_core::ports::ledger::LedgerError;

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Owner, Sent, offer, open_lane, open_lanes};

fn halt(name: &str) -> Halt {
    Halt { kind: name.into(), found: "what was found".to_owned(), remedy: "what to do".to_owned() }
}

const GOES: Suspension = Suspension { paused: false, held: false };
const HELD: Suspension = Suspension { paused: false, held: true };

pub async fn a_halt_is_kept_until_it_is_resolved<E: Environment>(env: &E) {
    let owner = open_lane(env).await;
    let (own, comparison) = (owner.own, owner.comparison.clone());
    let resolved = async || owner.ledger.resolved(own, &comparison).await.unwrap();
    assert!(resolved().await, "there is no halt");
    owner.ledger.halt(own, halt("topic-replaced")).await.unwrap();
    assert!(!resolved().await);
    assert_eq!(env.lane(Lane::new(0)).await.halt, Some(halt("topic-replaced")));
    owner.ledger.halt(own, halt("mark-missing")).await.unwrap();
    let acquired = env.another().await.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    assert_eq!(acquired.halt, Some(halt("mark-missing")), "anyone who enters it finds the last one");
    assert!(resolved().await, "the lane is not as it was taken over");
    let owner = Owner { own: acquired.ownership, ..owner.clone() };
    let resolved = async || owner.ledger.resolved(owner.own, &comparison).await.unwrap();
    assert!(!resolved().await);
    assert!(owner.ledger.resolved(owner.own, "another comparison").await.unwrap());
    env.retry(Lane::new(0)).await;
    assert!(resolved().await);
    assert!(!owner.ledger.still_mine(owner.own).await.unwrap(), "it is taken over again");
    assert_eq!(owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap().halt, None);
    env.retry(Lane::new(0)).await;
    let acquired = owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    env.retry(Lane::new(0)).await;
    assert!(owner.ledger.still_mine(acquired.ownership).await.unwrap(), "there was nothing to resolve");
}

pub async fn a_lane_that_lost_commits_holds_all_until_every_lane_was_compared<E: Environment>(env: &E) {
    for kind in HaltKind::matching(|kind| kind.commit_loss() == CommitLoss::Certain) {
        let name = kind.name();
        let (owner, other) = open_lanes(env).await;
        let ledger = &owner.ledger;
        assert_eq!(ledger.suspension().await.unwrap(), GOES, "{name}");
        ledger.halt(owner.own, halt(name)).await.unwrap();
        assert_eq!(ledger.suspension().await.unwrap(), HELD, "{name}");
        let all = [owner.own, other.own];
        assert_eq!(
            ledger.poll(&all).await.unwrap().lost_lanes,
            [0, 1].map(Lane::new),
            "{name}: all are to be taken over again"
        );
        assert!(ledger.still_mine(other.own).await.unwrap());
        other.ledger.halt(other.own, halt(name)).await.unwrap();
        env.retry(Lane::new(0)).await;
        env.retry(Lane::new(1)).await;
        let (one, two) =
            (Owner::enter(env.ledger(), Lane::new(0)).await, Owner::enter(env.another().await, Lane::new(1)).await);
        assert!(one.comparison != owner.comparison && one.comparison == two.comparison, "{name}: one for both halts");
        assert!(!ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap().compared);
        let one = Owner::enter(env.ledger(), Lane::new(0)).await;
        one.ledger.note_compared(one.own, &one.comparison, 2).await.unwrap();
        assert_eq!(ledger.suspension().await.unwrap(), HELD, "{name}: the other lane is not");
        assert_eq!(ledger.poll(&[one.own, two.own]).await.unwrap().lost_lanes, [Lane::new(1)], "{name}");
        two.ledger.note_compared(two.own, &two.comparison, 2).await.unwrap();
        assert_eq!(ledger.suspension().await.unwrap(), GOES, "{name}");
        assert!(ledger.poll(&[one.own, two.own]).await.unwrap().lost_lanes.is_empty());
        assert!(ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap().compared);
    }
}

pub async fn nothing_is_taken_in_while_all_is_held<E: Environment>(env: &E) {
    let (mut owner, other) = open_lanes(env).await;
    other.ledger.halt(other.own, halt("kafka-ahead")).await.unwrap();
    let a = offer(env, "a").await;
    let before = env.everything().await;
    let refused = owner.try_take(&[Sent::Campaign(&a)]).await;
    assert!(matches!(refused, Err(LedgerError::OnHold)), "{refused:?}");
    let elsewhere = Owner { position: Offset::new(5), ..owner.clone() }.batch(&[Sent::Campaign(&a)]);
    let refused = owner.ledger.intake(owner.own, elsewhere).await;
    assert!(matches!(refused, Err(LedgerError::OnHold)), "{refused:?}");
    assert_eq!(env.everything().await, before);
    let (one, two) =
        (Owner::enter(env.ledger(), Lane::new(0)).await, Owner::enter(env.another().await, Lane::new(1)).await);
    for lane in [&one, &two] {
        lane.ledger.note_compared(lane.own, &lane.comparison, 2).await.unwrap();
    }
    one.clone().start(&a).await;
}

pub async fn another_comparison_ends_no_hold<E: Environment>(env: &E) {
    let (owner, other) = open_lanes(env).await;
    owner.ledger.halt(owner.own, halt("other-ledger")).await.unwrap();
    for lane in [&owner, &other] {
        lane.ledger.note_compared(lane.own, &lane.comparison, 2).await.unwrap();
    }
    assert_eq!(owner.ledger.suspension().await.unwrap(), HELD, "that comparison is over");
    let stands = owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    owner.ledger.note_compared(stands.ownership, &stands.comparison, 2).await.unwrap();
    assert_eq!(owner.ledger.suspension().await.unwrap(), HELD);
    owner.ledger.note_compared(stands.ownership, &stands.comparison, 1).await.unwrap();
    assert_eq!(owner.ledger.suspension().await.unwrap(), GOES, "of so many lanes it was the last");
}

pub async fn a_halt_of_another_kind_holds_nothing<E: Environment>(env: &E) {
    let (owner, mut other) = open_lanes(env).await;
    owner.ledger.halt(owner.own, halt("topic-replaced")).await.unwrap();
    assert_eq!(owner.ledger.suspension().await.unwrap(), GOES);
    assert!(owner.ledger.poll(&[owner.own, other.own]).await.unwrap().lost_lanes.is_empty());
    other.start(&offer(env, "a").await).await;
}

pub async fn a_pause_is_seen_and_ends<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    env.pause(true).await;
    assert_eq!(owner.ledger.suspension().await.unwrap(), Suspension { paused: true, held: false });
    owner.start(&offer(env, "a").await).await;
    owner.ledger.halt(owner.own, halt("kafka-ahead")).await.unwrap();
    assert_eq!(owner.ledger.suspension().await.unwrap(), Suspension { paused: true, held: true });
    env.pause(false).await;
    assert_eq!(owner.ledger.suspension().await.unwrap(), HELD, "the one ends without the other");
}

pub async fn a_ledger_that_was_never_compared_is_held<E: Environment>(env: &E) {
    let mut owner = Owner::enter(env.ledger(), Lane::new(0)).await;
    assert_eq!(owner.ledger.suspension().await.unwrap(), HELD);
    let a = offer(env, "a").await;
    assert!(matches!(owner.try_take(&[Sent::Campaign(&a)]).await, Err(LedgerError::OnHold)));
    owner.ledger.note_compared(owner.own, &owner.comparison, 1).await.unwrap();
    assert_eq!(owner.ledger.suspension().await.unwrap(), GOES);
    owner.start(&a).await;
}
