//! Who may write for a lane.

use std::sync::Arc;

use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Offset, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::round::Sealed;
use dinnerbell_core::ports::ledger::LedgerError;

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Owner, Sent, assert_not_mine, content, content_with, late, offer, open_lane, open_lanes, page};

pub async fn a_new_lane_begins_with_round_zero_where_it_is_told_to<E: Environment>(env: &E) {
    let acquired = env.ledger().acquire(Lane::new(0), Some(Offset::new(7))).await.unwrap();
    assert_eq!((acquired.position, acquired.head, acquired.previous), (Offset::new(7), RoundVersion::default(), None));
    assert_eq!((acquired.published, &acquired.topic_id, &acquired.halt), (None, &None, &None));
    assert_eq!((acquired.last_record, acquired.mark_overruled, acquired.round_bytes), (None, false, None));
    assert!(!acquired.compared, "nobody compared it with Kafka");
    let again = env.another().await.acquire(Lane::new(0), Some(Offset::new(99))).await.unwrap();
    assert_eq!((again.position, again.ledger), (Offset::new(7), acquired.ledger), "it begins once");
    assert_eq!(again.ownership.epoch, acquired.ownership.epoch.next());
    assert_eq!((again.ownership.lane, again.ownership.lock_key), (Lane::new(0), acquired.ownership.lock_key));
    let stored = env.ledger().stored_round(again.ownership).await.unwrap();
    assert_eq!((stored.version, stored.position, stored.drafts), (RoundVersion::default(), Offset::new(7), 0));
}

pub async fn a_lane_that_is_entered_again_shows_what_its_last_owner_left<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    let first = owner.record(vec![page(&running, &["anna"], false)]).await;
    owner.published().await;
    let running = owner.running("a").await;
    let second = content_with(vec![page(&running, &["bob"], false)], Vec::new(), Some(4_096));
    owner.try_record(&second).await.unwrap();
    owner.ledger.note_topic(owner.own, "topic-1").await.unwrap();
    let last = owner.batch(&[Sent::Tombstone("b"), Sent::Junk("no campaign")]).last_fingerprint();
    owner.take(&[Sent::Tombstone("b"), Sent::Junk("no campaign")]).await;

    let acquired = env.another().await.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    assert_eq!((acquired.head, acquired.previous, acquired.published), (owner.head, Some(first), Some(Seq::new(1))));
    assert_eq!((acquired.position, acquired.last_record), (Offset::new(3), last));
    assert_eq!((acquired.topic_id.as_deref(), acquired.round_bytes), (Some("topic-1"), Some(4_096)));
    assert!(acquired.compared && acquired.comparison == owner.comparison);
    let lane = env.lane(Lane::new(0)).await;
    assert_eq!(
        (lane.seq, lane.published, lane.position, lane.last_record),
        (Seq::new(2), Some(Seq::new(1)), Offset::new(3), last)
    );
}

/// A lane with something for every call to do: a round with a letter that is not known to be published, a campaign that is over, one to be
/// rescanned, and a change to apply.
async fn busy_lane<E: Environment>(env: &E) -> Owner<E::Ledger> {
    let (mut owner, mut other) = open_lanes(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    let late_one = owner.start(&offer(env, "b").await).await;
    let ended = offer(env, "over").await;
    owner.start(&ended).await;
    owner.take(&[Sent::Junk("no campaign")]).await;
    let waiting = owner.ledger.due(owner.own, 10).await.unwrap().dead_letters;
    let mut open = owner.ledger.open_round(owner.own).await.unwrap();
    let letters = open.dead_letters(&[waiting[0].id]).await.unwrap();
    open.abandon().await.unwrap();
    let parts = vec![page(&running, &["anna"], true), late(&late_one, &["bob"])];
    owner.try_record(&content_with(parts, letters, None)).await.unwrap();
    env.move_window("a", super::owner::over(env).await).await;
    env.move_window("over", super::owner::over(env).await).await;
    other.take(&[Sent::Tombstone("b")]).await;
    owner
}

/// Every call of an owner that a lane has no more, after which everything stands as before.
async fn every_call_refuses<E: Environment>(env: &E, owner: &Owner<E::Ledger>, own: Ownership) {
    let (ledger, head) = (&owner.ledger, owner.head);
    let before = env.everything().await;
    assert!(!ledger.still_mine(own).await.unwrap());
    assert_not_mine("note_topic", ledger.note_topic(own, "another").await);
    assert_not_mine("stored_round", ledger.stored_round(own).await);
    assert_not_mine("withdraw", ledger.withdraw(own, head).await);
    assert_not_mine("withdraw_whole", ledger.withdraw_whole(own, head, Some(1)).await);
    assert_not_mine("set_dead_letters_aside", ledger.set_dead_letters_aside(own, head).await);
    assert_not_mine("due", ledger.due(own, 10).await);
    let arrived = offer(env, "new").await;
    assert_not_mine("intake", ledger.intake(own, owner.batch(&[Sent::Campaign(&arrived)])).await);
    assert_not_mine("apply_changes", ledger.apply_changes(own).await);
    assert_not_mine("open_round", ledger.open_round(own).await.map(drop));
    assert_not_mine("note_published", ledger.note_published(own, head.seq).await);
    assert_not_mine("note_rescanned", ledger.note_rescanned(own, &[("a".to_owned(), 1)]).await);
    assert_not_mine("count_rows", ledger.count_rows(own, "a").await);
    assert_not_mine("note_compared", ledger.note_compared(own, "another", 1).await);
    assert_not_mine("note_unsent", ledger.note_unsent(own, "over", 3).await);
    let halt = Halt { kind: "kafka-ahead".into(), found: "found".into(), remedy: "remedy".into() };
    assert_not_mine("halt", ledger.halt(own, halt).await);
    assert!(ledger.resolved(own, &owner.comparison).await.unwrap(), "it is to be taken over again");
    assert_eq!(ledger.poll(&[own]).await.unwrap().lost_lanes, [own.lane]);
    assert_eq!(env.everything().await, before, "nothing changed");
}

pub async fn a_later_owner_makes_every_call_of_the_former_one_refuse_and_change_nothing<E: Environment>(env: &E) {
    let owner = busy_lane(env).await;
    assert!(owner.ledger.still_mine(owner.own).await.unwrap());
    assert!(owner.ledger.poll(&[owner.own]).await.unwrap().lost_lanes.is_empty());
    env.another().await.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    every_call_refuses(env, &owner, owner.own).await;
}

pub async fn another_server_makes_every_call_refuse_and_change_nothing<E: Environment>(env: &E) {
    let owner = busy_lane(env).await;
    let own = Ownership { server_started_at: owner.own.server_started_at - 1, ..owner.own };
    every_call_refuses(env, &owner, own).await;
    assert!(owner.ledger.still_mine(owner.own).await.unwrap(), "nobody took it");
}

pub async fn a_round_that_a_former_owner_left_open_is_ended_and_never_sealed<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    let content = content(vec![page(&running, &["anna"], true)]);
    let open = owner.copy(&content).await.unwrap();
    let mut next = Owner::enter(env.another().await, Lane::new(0)).await;
    let sealed = open.seal(owner.next(&content), Arc::clone(&content)).await;
    assert!(matches!(sealed, Err(LedgerError::Transient(_) | LedgerError::NotMine(_))), "{sealed:?}");
    assert_eq!(env.rows("a").await, [""; 0], "its rows are gone with it");
    let sealed = next.try_record(&content).await.unwrap();
    assert!(matches!(sealed, Sealed::Recorded { .. }), "{sealed:?}");
    assert_eq!(env.rows("a").await, ["anna"]);
}

pub async fn ownership_of_one_lane_is_none_of_another<E: Environment>(env: &E) {
    let (owner, other) = open_lanes(env).await;
    Owner::enter(env.ledger(), Lane::new(1)).await;
    assert!(owner.ledger.still_mine(owner.own).await.unwrap());
    assert!(!other.ledger.still_mine(other.own).await.unwrap());
    assert_eq!(owner.ledger.poll(&[owner.own, other.own]).await.unwrap().lost_lanes, [Lane::new(1)]);
}
