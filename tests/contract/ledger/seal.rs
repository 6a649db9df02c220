//! The end of a recording: the compare-and-set, the windows once more, cursors and counts.

use std::sync::Arc;

use dinnerbell_core::model::campaign::Campaign;
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::round::{RoundContent, RoundPart, Sealed};

use super::capabilities::*;
use super::environment::{CampaignState, Environment};
use super::owner::{
    Owner, Sent, assert_not_mine, content, content_with, late, offer, open_lane, open_lanes, over, page, page_beside,
    version,
};

pub async fn a_sealed_round_moves_cursor_and_counts<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let a = offer(env, "a").await;
    let running = owner.start(&a).await;
    env.leave_row(&a, "bob").await;
    owner.record(vec![page_beside(&running, &["anna", "carl"], "carl", &["bob"], 3)]).await;
    let row = env.campaign("a").await;
    let expected =
        CampaignState { cursor: Some("carl".into()), told: 2, skipped: 3, last_page_seq: None, ..row.clone() };
    assert_eq!((&row, row.late, row.kept, row.state.as_str()), (&expected, 0, 0, "active"));
    assert_eq!(env.rows("a").await, ["anna", "bob", "carl"]);

    let running = owner.running("a").await;
    assert_eq!(running.cursor.as_deref(), Some("carl"));
    let mut last = page(&running, &["dora"], true);
    last.drafts.clients.push("aaron");
    last.late = 1;
    owner.record(vec![last]).await;
    let row = env.campaign("a").await;
    assert_eq!((row.cursor.as_deref(), row.last_page_seq), (Some("dora"), Some(Seq::new(2))));
    assert_eq!((row.told, row.late, row.skipped), (4, 1, 3));
    let lane = env.lane(Lane::new(0)).await;
    assert_eq!((lane.seq, lane.published), (Seq::new(2), Some(Seq::new(1))));

    owner.record(vec![late(&owner.running("a").await, &["abel"])]).await;
    let row = env.campaign("a").await;
    assert_eq!((row.cursor.as_deref(), row.last_page_seq, row.told, row.late), (Some("dora"), Some(Seq::new(2)), 5, 2));
}

pub async fn a_round_is_sealed_once<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.record(vec![page(&running, &["anna"], false)]).await;
    let next = content(vec![page(&owner.running("a").await, &["bob"], false)]);
    let before = env.everything().await;
    for seq in [owner.head.seq, owner.head.seq.next().next()] {
        let open = owner.copy(&next).await.unwrap();
        let mut head = owner.next(&next);
        head.seq = seq;
        assert_not_mine("another seq", open.seal(head, Arc::clone(&next)).await);
    }
    assert_eq!(env.everything().await, before);
    assert!(
        matches!(owner.try_record(&next).await, Ok(Sealed::Recorded { position, .. }) if position == Offset::new(1))
    );
}

/// The round is not recorded because of these campaigns, and nothing changed.
async fn is_stale<E: Environment>(env: &E, owner: &mut Owner<E::Ledger>, content: &Arc<RoundContent>, ids: &[&str]) {
    let before = env.everything().await;
    let sealed = owner.try_record(content).await.unwrap();
    assert_eq!(sealed, Sealed::Conflict(ids.iter().map(|id| (*id).to_owned()).collect()));
    assert_eq!(env.everything().await, before, "nothing is recorded");
}

pub async fn a_round_of_an_updated_campaign_is_stale<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = offer(env, "a").await;
    let running = owner.start(&first).await;
    let planned = content(vec![page(&running, &["anna"], true)]);
    let update = version(&first, Seconds::new(2));
    owner.take(&[Sent::Campaign(&update)]).await;
    is_stale(env, &mut owner, &planned, &["a"]).await;
    owner.record(vec![page(&owner.running("a").await, &["anna"], true)]).await;
}

pub async fn a_round_of_a_campaign_that_ended_is_stale<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    let planned = content(vec![page(&running, &["anna"], true)]);
    env.move_window("a", over(env).await).await;
    is_stale(env, &mut owner, &planned, &["a"]).await;
    let now = env.now().await;
    env.move_window("a", dinnerbell_core::model::campaign::Window { start: now + 600, end: now + 900 }).await;
    is_stale(env, &mut owner, &planned, &["a"]).await;
}

pub async fn a_round_of_a_cancelled_campaign_is_stale<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.take(&[Sent::Tombstone("a")]).await;
    // Even where the cancellation were no version of its own.
    let cancelled = RoundPart { revision: running.revision + 1, ..page(&running, &["anna"], true) };
    is_stale(env, &mut owner, &content(vec![cancelled]), &["a"]).await;
}

pub async fn a_round_that_was_planned_from_another_cursor_is_stale<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.record(vec![page(&running, &["anna"], false)]).await;
    is_stale(env, &mut owner, &content(vec![page(&running, &["bob"], false)]), &["a"]).await;
    let running = owner.running("a").await;
    owner.record(vec![page(&running, &["carl"], true)]).await;
    let running = owner.running("a").await;
    is_stale(env, &mut owner, &content(vec![page(&running, &["dora"], true)]), &["a"]).await;
    owner.record(vec![late(&running, &["aaron"])]).await;
}

pub async fn a_round_of_another_lanes_campaign_is_stale<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    is_stale(env, &mut other, &content(vec![page(&running, &["anna"], true)]), &["a"]).await;
    let unknown = dinnerbell_core::model::due::RunningCampaign {
        campaign: Arc::new(Campaign { adv_campaign_id: "b".into(), ..Campaign::clone(&running.campaign) }),
        ..running
    };
    is_stale(env, &mut other, &content(vec![page(&unknown, &["anna"], true)]), &["b"]).await;
}

pub async fn one_stale_campaign_keeps_the_whole_round_out<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let (a, b) = (owner.start(&offer(env, "a").await).await, owner.start(&offer(env, "b").await).await);
    let planned = content(vec![page(&a, &["anna"], true), page(&b, &["anna"], true)]);
    owner.take(&[Sent::Tombstone("b")]).await;
    is_stale(env, &mut owner, &planned, &["b"]).await;
    owner.record(vec![page(&a, &["anna"], true)]).await;
}

pub async fn a_campaign_is_complete_when_its_last_page_is_published<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let (a, b) = (owner.start(&offer(env, "a").await).await, owner.start(&offer(env, "b").await).await);
    owner.record(vec![page(&a, &["anna"], true), page(&b, &["anna"], false)]).await;
    assert_eq!(env.campaign("a").await.state, "active", "it is recorded, and nobody knows yet whether it is published");
    assert!(!owner.published().await, "nothing is over");
    assert_eq!((env.campaign("a").await.state, env.campaign("b").await.state), ("complete".into(), "active".into()));
    assert_eq!(env.lane(Lane::new(0)).await.published, Some(Seq::new(1)));
    assert!(!owner.published().await, "it may be noted again");
}

pub async fn the_next_round_tells_that_the_one_before_was_published<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let (a, b) = (owner.start(&offer(env, "a").await).await, owner.start(&offer(env, "b").await).await);
    owner.record(vec![page(&a, &["anna"], true)]).await;
    let next = content(vec![page(&b, &["anna"], true)]);
    let sealed = owner.try_record(&next).await.unwrap();
    assert_eq!(sealed, Sealed::Recorded { position: Offset::new(2), closed_campaigns: false });
    assert_eq!((env.campaign("a").await.state, env.campaign("b").await.state), ("complete".into(), "active".into()));
    env.move_window("b", over(env).await).await;
    let sealed = owner.try_record(&content(Vec::new())).await.unwrap();
    assert_eq!(
        sealed,
        Sealed::Recorded { position: Offset::new(2), closed_campaigns: true },
        "who was not told is to be counted"
    );
    assert_eq!(env.campaign("b").await.state, "closed");
}

pub async fn a_campaign_that_ended_meanwhile_is_closed_when_its_last_page_is_published<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.record(vec![page(&running, &["anna"], true)]).await;
    env.move_window("a", over(env).await).await;
    assert!(owner.published().await);
    assert_eq!(env.campaign("a").await.state, "closed");
}

pub async fn another_round_than_the_last_one_cannot_be_noted_as_published<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.record(vec![page(&running, &["anna"], true)]).await;
    let before = env.everything().await;
    for seq in [0, 2] {
        assert_not_mine("another round", owner.ledger.note_published(owner.own, Seq::new(seq)).await);
    }
    assert_eq!(env.everything().await, before);
}

pub async fn a_lane_remembers_how_large_a_round_may_be<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    for round_bytes in [Some(1_000), Some(2_000), None] {
        owner.try_record(&content_with(Vec::new(), Vec::new(), round_bytes)).await.unwrap();
        assert_eq!(env.lane(Lane::new(0)).await.round_bytes, round_bytes);
        let acquired = owner.ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
        assert_eq!(acquired.round_bytes, round_bytes);
        owner.own = acquired.ownership;
    }
}
