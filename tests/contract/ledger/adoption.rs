//! What a lane held whose partition is gone goes to another one.

use super::capabilities::*;
use super::environment::{Environment, Moved};
use super::owner::{Owner, Sent, assert_not_mine, content_with, offer, open_lanes, page, version};
use super::rounds::read_back;
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};

/// Lane 1, which leaves: its first round, with a letter, tells `anna` and `bob` of campaign `a`; `b` waits; one letter and one change wait too.
async fn leaving<E: Environment>(env: &E) -> (Owner<E::Ledger>, Owner<E::Ledger>) {
    let (mut stays, mut leaves) = open_lanes(env).await;
    let a = offer(env, "a").await;
    let running = leaves.start(&a).await;
    leaves.start(&offer(env, "b").await).await;
    leaves.take(&[Sent::Junk("one"), Sent::Junk("two")]).await;
    let waiting = leaves.ledger.due(leaves.own, 1).await.unwrap().dead_letters;
    let mut open = leaves.ledger.open_round(leaves.own).await.unwrap();
    let letters = open.dead_letters(&[waiting[0].id]).await.unwrap();
    drop(open);
    let round = content_with(vec![page(&running, &["anna", "bob"], true)], letters, None);
    leaves.try_record(&round).await.unwrap();
    let update = version(&a, Seconds::new(2));
    stays.take(&[Sent::Campaign(&update)]).await;
    (stays, leaves)
}

pub async fn what_a_lane_held_is_told_by_the_lane_that_adopts_it<E: Environment>(env: &E) {
    let (stays, leaves) = leaving(env).await;
    let moved = env.adopt(leaves.own, leaves.head, true, Lane::new(0)).await.unwrap();
    assert_eq!(moved, Moved { campaigns: 2, changes: 1, dead_letters: 1, withdrawn: 0, kept: 0 });
    let a = env.campaign("a").await;
    assert_eq!((a.lane, a.state.as_str(), a.last_page_seq, a.told), (Lane::new(0), "complete", Some(Seq::new(-1)), 2));
    assert_eq!((env.campaign("b").await.lane, env.campaign("b").await.last_page_seq), (Lane::new(0), None));
    assert_eq!(env.lane(Lane::new(1)).await.published, Some(Seq::new(1)));
    for owner in [&stays, &leaves] {
        assert!(!owner.ledger.still_mine(owner.own).await.unwrap(), "both lanes are taken over again");
    }
    let mut stays = Owner::enter(env.ledger(), Lane::new(0)).await;
    let due = stays.ledger.due(stays.own, 10).await.unwrap();
    assert_eq!((due.running.len(), due.dead_letters.len()), (1, 1));
    let applied = stays.ledger.apply_changes(stays.own).await.unwrap();
    assert_eq!((applied.changed, env.campaign("a").await.state.as_str()), (vec!["a".to_owned()], "complete"));
    stays.record(vec![page(&due.running[0], &["carl"], true)]).await;
}

pub async fn what_a_last_round_held_that_was_never_published_is_taken_back<E: Environment>(env: &E) {
    let (_, leaves) = leaving(env).await;
    env.answer("a", "bob").await;
    let moved = env.adopt(leaves.own, leaves.head, false, Lane::new(0)).await.unwrap();
    assert_eq!(moved, Moved { campaigns: 2, changes: 1, dead_letters: 2, withdrawn: 2, kept: 1 });
    let a = env.campaign("a").await;
    assert_eq!((a.lane, a.state.as_str(), a.last_page_seq, a.cursor), (Lane::new(0), "active", None, None));
    assert_eq!((a.told, a.kept, env.rows("a").await), (0, 1, vec!["bob".to_owned()]));
    assert_eq!(env.lane(Lane::new(1)).await.published, Some(Seq::new(0)));
    let acquired = env.ledger().acquire(Lane::new(1), Some(Offset::FIRST)).await.unwrap();
    assert!(acquired.mark_overruled, "should its partition come back, its mark is written again");
    assert_eq!((acquired.head.seq, acquired.head.revision, acquired.head.checksum), (Seq::new(1), 1, 0));
    let back = Owner { own: acquired.ownership, ..leaves };
    let stored = read_back::<E>(&back).await;
    assert_eq!((stored.drafts, stored.dead_letters.len()), (0, 0));
}

pub async fn a_lane_that_was_entered_meanwhile_is_not_adopted<E: Environment>(env: &E) {
    let (_, leaves) = leaving(env).await;
    let own = env.ledger().acquire(Lane::new(1), Some(Offset::FIRST)).await.unwrap().ownership;
    let before = env.everything().await;
    assert_not_mine("adopt", env.adopt(leaves.own, leaves.head, true, Lane::new(0)).await);
    assert_not_mine("adopt into no lane", env.adopt(own, leaves.head, false, Lane::new(7)).await);
    assert_eq!(env.everything().await, before);
}
