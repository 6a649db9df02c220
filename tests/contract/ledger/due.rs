//! What a lane has to do, by the clock.

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::due::Due;
use dinnerbell_core::model::number::Seconds;

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Owner, Sent, offer, open_lane, over, page, version};

fn running(due: &Due) -> Vec<&str> {
    due.running.iter().map(|running| running.id()).collect()
}

async fn due<E: Environment>(owner: &Owner<E::Ledger>) -> Due {
    owner.ledger.due(owner.own, 10).await.unwrap()
}

/// Campaigns whose untold audience is not counted, and whether each was cancelled.
fn uncounted(due: &Due) -> Vec<(&str, bool)> {
    let mut uncounted: Vec<_> =
        due.uncounted.iter().map(|one| (one.campaign.adv_campaign_id.as_str(), one.cancelled)).collect();
    uncounted.sort_unstable();
    uncounted
}

pub async fn a_campaign_starts_and_ends_by_the_clock<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = offer(env, "a").await;
    let now = env.now().await;
    let later = Campaign { window: Window { start: now + 600, end: now + 1_200 }, ..first.clone() };
    owner.take(&[Sent::Campaign(&later)]).await;
    assert!(running(&due::<E>(&owner).await).is_empty());
    assert_eq!(env.campaign("a").await.state, "scheduled");
    env.move_window("a", first.window).await;
    let started = due::<E>(&owner).await;
    assert_eq!((running(&started), started.running[0].revision), (vec!["a"], 1));
    assert_eq!(env.campaign("a").await.state, "active");
    env.move_window("a", over(env).await).await;
    assert!(running(&due::<E>(&owner).await).is_empty());
    assert_eq!(env.campaign("a").await.state, "expired");

    let other = owner.start(&offer(env, "b").await).await;
    owner.record(vec![page(&other, &["anna"], true)]).await;
    owner.published().await;
    assert!(running(&due::<E>(&owner).await).is_empty(), "its main pass is over");
    env.move_window("b", over(env).await).await;
    due::<E>(&owner).await;
    assert_eq!(env.campaign("b").await.state, "closed");

    owner.take(&[Sent::Campaign(&Campaign { adv_campaign_id: "c".into(), ..later })]).await;
    env.move_window("c", over(env).await).await;
    due::<E>(&owner).await;
    assert_eq!(env.campaign("c").await.state, "expired", "it never started");
}

pub async fn campaigns_without_a_page_come_first_and_then_those_that_end_first<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let ends = [("begun-1", 100), ("begun-2", 50), ("new-2", 400), ("new-3", 400), ("new-1", 300)];
    let now = env.now().await;
    for (id, end) in ends {
        let window = Window { start: now - 60, end: now + end + 1_000 };
        let started = owner.start(&Campaign { window, ..offer(env, id).await }).await;
        if id.starts_with("begun") {
            owner.record(vec![page(&started, &["anna"], false)]).await;
        }
    }
    let due = due::<E>(&owner).await;
    assert_eq!(running(&due), ["new-1", "new-2", "new-3", "begun-2", "begun-1"]);
    let cursors: Vec<_> = due.running.iter().map(|running| running.cursor.as_deref()).collect();
    assert_eq!(cursors, [None, None, None, Some("anna"), Some("anna")]);
}

pub async fn no_more_campaigns_are_due_than_were_asked_for<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    for id in ["a", "b", "c"] {
        owner.start(&offer(env, id).await).await;
    }
    for (most, more) in [(1, true), (2, true), (3, false), (4, false)] {
        let due = owner.ledger.due(owner.own, most).await.unwrap();
        assert_eq!((due.running.len(), due.more_running), (most.min(3), more));
    }
}

pub async fn the_next_change_is_the_next_start_or_end<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    assert_eq!(due::<E>(&owner).await.next_deadline, None);
    let now = env.now().await;
    for (id, start, end) in [("open", -60, 900), ("later", 600, 700), ("over", -60, -1)] {
        let window = Window { start: now + start, end: now + end };
        owner.take(&[Sent::Campaign(&Campaign { window, ..offer(env, id).await })]).await;
    }
    assert_eq!(due::<E>(&owner).await.next_deadline, Some(now + 600));
    env.move_window("later", Window { start: now + 2_000, end: now + 2_100 }).await;
    assert_eq!(due::<E>(&owner).await.next_deadline, Some(now + 900));
    owner.take(&[Sent::Tombstone("open")]).await;
    assert_eq!(due::<E>(&owner).await.next_deadline, Some(now + 2_000));
}

pub async fn a_campaign_whose_last_page_is_unpublished_does_not_end_yet<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let started = owner.start(&offer(env, "a").await).await;
    owner.record(vec![page(&started, &["anna"], true)]).await;
    env.move_window("a", over(env).await).await;
    let found = due::<E>(&owner).await;
    assert_eq!((env.campaign("a").await.state.as_str(), uncounted(&found).len()), ("active", 0));
    assert_eq!(found.next_deadline, None, "its end has come, and it is not waited for");
    owner.published().await;
    assert_eq!(uncounted(&due::<E>(&owner).await), [("a", false)]);
    assert_eq!(env.campaign("a").await.state, "closed");
}

pub async fn who_was_not_told_is_asked_for_until_it_is_noted<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    for id in ["cancelled", "open", "over"] {
        owner.start(&offer(env, id).await).await;
    }
    owner.take(&[Sent::Tombstone("cancelled")]).await;
    env.move_window("over", over(env).await).await;
    let found = due::<E>(&owner).await;
    assert_eq!((uncounted(&found), found.more_uncounted), (vec![("cancelled", true), ("over", false)], false));
    assert!(owner.ledger.note_unsent(owner.own, "over", 7).await.unwrap());
    assert!(owner.ledger.note_unsent(owner.own, "open", 7).await.unwrap(), "nothing stands in the way");
    assert!(owner.ledger.note_unsent(owner.own, "unknown", 7).await.unwrap());
    assert_eq!(env.campaign("over").await.unsent, Some(7));
    assert_eq!(env.campaign("open").await.unsent, None, "it is not over");
    assert_eq!(uncounted(&due::<E>(&owner).await), [("cancelled", true)]);
}

pub async fn who_was_not_told_is_not_noted_while_drafts_are_unpublished<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let (a, b) = (owner.start(&offer(env, "a").await).await, owner.start(&offer(env, "b").await).await);
    owner.record(vec![page(&a, &["anna"], false), page(&b, &[], false)]).await;
    owner.take(&[Sent::Tombstone("a"), Sent::Tombstone("b")]).await;
    assert!(!owner.ledger.note_unsent(owner.own, "a", 3).await.unwrap(), "they may be withdrawn yet");
    assert_eq!(env.campaign("a").await.unsent, None);
    assert!(owner.ledger.note_unsent(owner.own, "b", 4).await.unwrap(), "the round holds no draft of it");
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    assert!(owner.ledger.note_unsent(owner.own, "a", 3).await.unwrap());
    assert_eq!((env.campaign("a").await.unsent, env.campaign("b").await.unsent), (Some(3), Some(4)));

    let c = owner.start(&offer(env, "c").await).await;
    owner.record(vec![page(&c, &["anna"], false)]).await;
    owner.take(&[Sent::Tombstone("c")]).await;
    owner.published().await;
    assert!(owner.ledger.note_unsent(owner.own, "c", 5).await.unwrap(), "it is published: nothing is withdrawn");
}

pub async fn who_was_not_told_is_counted_again_after_an_update<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = offer(env, "a").await;
    owner.start(&first).await;
    env.move_window("a", over(env).await).await;
    due::<E>(&owner).await;
    owner.ledger.note_unsent(owner.own, "a", 3).await.unwrap();
    let again = version(&first, Seconds::new(2));
    owner.take(&[Sent::Campaign(&again)]).await;
    assert_eq!((env.campaign("a").await.unsent, env.campaign("a").await.state.as_str()), (None, "active"));
    env.move_window("a", over(env).await).await;
    assert_eq!(uncounted(&due::<E>(&owner).await), [("a", false)]);
    owner.ledger.note_unsent(owner.own, "a", 4).await.unwrap();
    owner.take(&[Sent::Tombstone("a")]).await;
    assert_eq!(env.campaign("a").await.unsent, Some(4), "a cancellation after the end changes nothing of it");
}

pub async fn a_campaign_that_was_cancelled_before_it_came_has_nobody_to_count<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    owner.take(&[Sent::Tombstone("a")]).await;
    let found = due::<E>(&owner).await;
    assert!(found.uncounted.is_empty() && found.running.is_empty());
    assert!(owner.ledger.note_unsent(owner.own, "a", 3).await.unwrap());
    assert_eq!(env.campaign("a").await.unsent, None);
}
