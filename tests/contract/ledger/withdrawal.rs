//! What is taken back from the last recorded round.

use dinnerbell_core::model::campaign::Window;
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Owner, Sent, assert_not_mine, late, offer, open_lane, over, page, page_beside};
use super::rounds::{drafts, read_back};

/// A lane whose last round, the second, holds a page of each of these campaigns behind `anna`: `bob` and `carl`.
async fn two_pages<E: Environment>(env: &E, ids: &[&str]) -> Owner<E::Ledger> {
    let mut owner = open_lane(env).await;
    let mut parts = Vec::new();
    for id in ids {
        parts.push(page(&owner.start(&offer(env, id).await).await, &["anna"], false));
    }
    owner.record(parts).await;
    let mut parts = Vec::new();
    for id in ids {
        parts.push(page(&owner.running(id).await, &["bob", "carl"], true));
    }
    owner.record(parts).await;
    owner
}

pub async fn drafts_of_a_campaign_that_ended_are_taken_back_and_the_others_stay<E: Environment>(env: &E) {
    let owner = two_pages(env, &["a", "b"]).await;
    env.move_window("a", over(env).await).await;
    let stored = read_back::<E>(&owner).await;
    assert_eq!(stored.not_open, ["a"]);
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    let stored = read_back::<E>(&owner).await;
    assert_eq!((stored.version.seq, stored.version.revision, stored.drafts), (Seq::new(2), 1, 2));
    assert_ne!(stored.version.checksum, owner.head.checksum);
    assert_eq!((drafts(&stored), stored.not_open.len()), (vec![("b", vec!["bob", "carl"])], 0));
    assert_eq!((env.rows("a").await, env.rows("b").await.len()), (vec!["anna".to_owned()], 3));
    let row = env.campaign("a").await;
    assert_eq!((row.state.as_str(), row.cursor.as_deref(), row.last_page_seq), ("expired", Some("anna"), None));
    assert_eq!((row.told, row.kept), (1, 0));
    let row = env.campaign("b").await;
    assert_eq!((row.state.as_str(), row.last_page_seq, row.told), ("active", Some(Seq::new(2)), 3));
    let acquired = owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    assert_eq!(acquired.head, stored.version, "anyone who enters finds it so");
}

pub async fn a_row_in_which_somebody_answered_stays<E: Environment>(env: &E) {
    let owner = two_pages(env, &["a"]).await;
    env.answer("a", "bob").await;
    env.answer("a", "anna").await;
    env.move_window("a", over(env).await).await;
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    assert_eq!(env.rows("a").await, ["anna", "bob"]);
    let row = env.campaign("a").await;
    assert_eq!((row.told, row.kept, row.cursor.as_deref()), (1, 1, Some("anna")), "a row without a draft is counted");
    assert_eq!(read_back::<E>(&owner).await.drafts, 0);
    owner.ledger.withdraw(owner.own, read_back::<E>(&owner).await.version).await.unwrap();
    assert_eq!((env.rows("a").await.len(), env.campaign("a").await.kept), (2, 1), "once");
}

pub async fn rows_of_an_earlier_job_inside_the_page_stay<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let a = offer(env, "a").await;
    let running = owner.start(&a).await;
    for client in ["bob", "zoe"] {
        env.leave_row(&a, client).await;
    }
    owner.record(vec![page_beside(&running, &["anna", "carl"], "carl", &["bob"], 2)]).await;
    assert_eq!(drafts(&read_back::<E>(&owner).await), [("a", vec!["anna", "carl"])], "that row is no draft");
    env.move_window("a", over(env).await).await;
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    assert_eq!(env.rows("a").await, ["bob", "zoe"]);
    let row = env.campaign("a").await;
    assert_eq!((row.told, row.skipped, row.cursor), (0, 0, None));
}

pub async fn late_drafts_are_taken_back_without_the_cursor<E: Environment>(env: &E) {
    let mut owner = two_pages(env, &["a"]).await;
    owner.published().await;
    owner.record(vec![late(&owner.running("a").await, &["aaron", "zoe"])]).await;
    assert_eq!(drafts(&read_back::<E>(&owner).await), [("a", vec!["aaron", "zoe"])]);
    let before = env.campaign("a").await;
    assert_eq!((before.told, before.late), (5, 2));
    env.move_window("a", over(env).await).await;
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    assert_eq!(env.rows("a").await, ["anna", "bob", "carl"]);
    let row = env.campaign("a").await;
    assert_eq!((row.told, row.late, row.cursor.as_deref()), (3, 0, Some("carl")));
    assert_eq!((row.state.as_str(), row.last_page_seq), ("closed", Some(Seq::new(2))), "its main pass is over");
}

pub async fn a_cancelled_campaign_stays_cancelled_when_its_drafts_are_taken_back<E: Environment>(env: &E) {
    let mut owner = two_pages(env, &["a"]).await;
    owner.take(&[Sent::Tombstone("a")]).await;
    let stored = read_back::<E>(&owner).await;
    assert_eq!((stored.not_open, stored.open), (vec!["a".to_owned()], Window::NEVER), "whatever its window says");
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    let row = env.campaign("a").await;
    assert_eq!((row.state.as_str(), row.told, row.cursor.as_deref()), ("cancelled", 1, Some("anna")));
    assert_eq!(env.rows("a").await, ["anna"]);
}

pub async fn a_campaign_whose_start_was_put_off_is_scheduled_again<E: Environment>(env: &E) {
    let owner = two_pages(env, &["a"]).await;
    let now = env.now().await;
    env.move_window("a", Window { start: now + 600, end: now + 900 }).await;
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    let row = env.campaign("a").await;
    assert_eq!((row.state.as_str(), row.cursor.as_deref(), row.told), ("scheduled", Some("anna"), 1));
}

pub async fn a_whole_round_is_taken_back_and_its_campaigns_go_on<E: Environment>(env: &E) {
    let mut owner = two_pages(env, &["a", "b"]).await;
    owner.ledger.withdraw_whole(owner.own, owner.head, Some(5_000)).await.unwrap();
    let stored = read_back::<E>(&owner).await;
    assert_eq!((stored.version.revision, stored.version.checksum, stored.drafts), (1, 0, 0));
    for id in ["a", "b"] {
        let row = env.campaign(id).await;
        assert_eq!((row.state.as_str(), row.cursor.as_deref(), row.last_page_seq), ("active", Some("anna"), None));
        assert_eq!((env.rows(id).await, row.told), (vec!["anna".to_owned()], 1));
    }
    assert_eq!(env.lane(Lane::new(0)).await.round_bytes, Some(5_000));
    let running = owner.running("a").await;
    assert_eq!(running.cursor.as_deref(), Some("anna"), "it goes on where it stood");
    owner.record(vec![page(&running, &["bob", "carl"], true)]).await;
    assert_eq!(env.lane(Lane::new(0)).await.seq, Seq::new(3));
}

pub async fn nothing_is_taken_back_from_another_round<E: Environment>(env: &E) {
    let owner = two_pages(env, &["a"]).await;
    env.move_window("a", over(env).await).await;
    let before = env.everything().await;
    for seq in [1, 3] {
        let head = dinnerbell_core::model::mark::RoundVersion { seq: Seq::new(seq), ..owner.head };
        assert_not_mine("withdraw", owner.ledger.withdraw(owner.own, head).await);
        assert_not_mine("withdraw_whole", owner.ledger.withdraw_whole(owner.own, head, None).await);
        assert_not_mine("set_dead_letters_aside", owner.ledger.set_dead_letters_aside(owner.own, head).await);
    }
    assert_eq!(env.everything().await, before);
}

pub async fn nothing_is_taken_back_where_all_is_open<E: Environment>(env: &E) {
    let owner = two_pages(env, &["a"]).await;
    let before = env.campaign("a").await;
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    let stored = read_back::<E>(&owner).await;
    assert_eq!((stored.version.revision, stored.version.checksum, stored.drafts), (1, owner.head.checksum, 2));
    assert_eq!((env.campaign("a").await, env.rows("a").await.len()), (before, 3));
}

pub async fn a_row_that_somebody_has_locked_holds_nothing_up_and_goes_when_it_is_free<E: Environment>(env: &E) {
    let owner = two_pages(env, &["a", "b"]).await;
    env.lock_row("a", "bob").await;
    let now = env.now().await;
    env.move_window("a", over(env).await).await;
    assert_eq!(owner.ledger.withdraw(owner.own, owner.head).await.unwrap(), 1);
    assert_eq!(env.rows("a").await, ["anna", "bob"]);
    let stored = read_back::<E>(&owner).await;
    assert_eq!((drafts(&stored), stored.not_open.len()), (vec![("b", vec!["bob", "carl"])], 0), "bob is told nothing");
    let row = env.campaign("a").await;
    assert_eq!((row.told, row.kept, row.cursor.as_deref()), (1, 0, Some("anna")), "a locked row is no answered one");
    let looked = owner.ledger.withdraw_locked(owner.own, None, 10).await.unwrap();
    assert_eq!((looked.left, looked.gone, looked.kept, looked.next), (1, 0, 0, None));
    let entered = owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
    assert!(entered.locked_rows, "anyone who takes the lane over knows");
    // The campaign goes on meanwhile, and passes who is locked.
    env.move_window("a", Window { start: now - 60, end: now + 600 }).await;
    env.free_rows().await;
    let looked = owner.ledger.withdraw_locked(entered.ownership, None, 10).await.unwrap();
    assert_eq!((looked.left, looked.gone, looked.kept, looked.next), (0, 1, 0, None));
    let row = env.campaign("a").await;
    assert_eq!((env.rows("a").await, row.told, row.kept, row.unsent), (vec!["anna".to_owned()], 1, 0, None));
    assert!(!owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap().locked_rows);
    assert_not_mine("withdraw_locked", owner.ledger.withdraw_locked(owner.own, None, 10).await.map(drop));
}

pub async fn a_locked_row_in_which_somebody_answers_stays_and_is_counted<E: Environment>(env: &E) {
    let owner = two_pages(env, &["a"]).await;
    env.lock_row("a", "bob").await;
    assert_eq!(owner.ledger.withdraw_whole(owner.own, owner.head, None).await.unwrap(), 1);
    env.free_rows().await;
    env.answer("a", "bob").await;
    let looked = owner.ledger.withdraw_locked(owner.own, None, 10).await.unwrap();
    assert_eq!((looked.left, looked.gone, looked.kept), (0, 0, 1));
    assert_eq!((env.rows("a").await, env.campaign("a").await.kept), (vec!["anna".to_owned(), "bob".to_owned()], 1));
    let looked = owner.ledger.withdraw_locked(owner.own, None, 10).await.unwrap();
    assert_eq!((looked.kept, env.campaign("a").await.kept), (0, 1), "once");
}

pub async fn a_locked_row_that_somebody_removes_is_forgotten_and_never_another_one_taken_for_it<E: Environment>(
    env: &E,
) {
    let owner = two_pages(env, &["a"]).await;
    env.lock_row("a", "bob").await;
    env.lock_row("a", "carl").await;
    assert_eq!(owner.ledger.withdraw_whole(owner.own, owner.head, None).await.unwrap(), 2);
    env.free_rows().await;
    for client in ["bob", "carl"] {
        env.remove_row("a", client).await;
    }
    // An earlier job's, or another round's.
    env.leave_row(&offer(env, "a").await, "carl").await;
    let looked = owner.ledger.withdraw_locked(owner.own, None, 10).await.unwrap();
    assert_eq!((looked.left, looked.gone, looked.kept), (0, 2, 0));
    assert_eq!(env.rows("a").await, ["anna", "carl"], "the row of another second is another one");
    let row = env.campaign("a").await;
    assert_eq!((row.kept, row.repass_at), (0, Some(Seconds::new(0))), "bob is found by a rescan that is due");
}

pub async fn locked_rows_are_looked_at_a_few_at_a_time<E: Environment>(env: &E) {
    let owner = two_pages(env, &["a", "b"]).await;
    env.lock_row("a", "bob").await;
    env.lock_row("b", "bob").await;
    env.lock_row("b", "carl").await;
    assert_eq!(owner.ledger.withdraw_whole(owner.own, owner.head, None).await.unwrap(), 3);
    let first = owner.ledger.withdraw_locked(owner.own, None, 2).await.unwrap();
    let key = ("b".to_owned(), "bob".to_owned());
    assert_eq!((first.gone, first.next.as_ref()), (0, Some(&key)));
    env.free_rows().await;
    let last = owner.ledger.withdraw_locked(owner.own, first.next.as_ref(), 2).await.unwrap();
    assert_eq!((last.left, last.gone, last.next), (2, 1, None), "those before it are not looked at");
    let all = owner.ledger.withdraw_locked(owner.own, None, 10).await.unwrap();
    assert_eq!((all.left, all.gone), (0, 2));
    assert_eq!((env.rows("a").await.len(), env.rows("b").await.len()), (1, 1));
}

pub async fn a_campaign_with_locked_rows_is_not_pruned_and_goes_with_its_lane<E: Environment>(env: &E) {
    let mut owner = two_pages(env, &["a"]).await;
    env.lock_row("a", "bob").await;
    env.move_window("a", over(env).await).await;
    owner.ledger.withdraw(owner.own, owner.head).await.unwrap();
    owner.head = read_back::<E>(&owner).await.version;
    let into = owner.ledger.acquire(Lane::new(1), Some(Offset::FIRST)).await.unwrap();
    assert!(!into.locked_rows);
    env.adopt(owner.own, owner.head, false, Lane::new(1)).await.unwrap();
    let into = owner.ledger.acquire(Lane::new(1), Some(Offset::FIRST)).await.unwrap();
    assert!(into.locked_rows, "they are withdrawn by the lane that goes on with their campaign");
    env.prune().await;
    assert_eq!(env.campaign("a").await.lane, Lane::new(1));
    env.free_rows().await;
    let looked = owner.ledger.withdraw_locked(into.ownership, None, 10).await.unwrap();
    assert_eq!((looked.left, looked.gone, env.rows("a").await), (0, 1, vec!["anna".to_owned()]));
}
