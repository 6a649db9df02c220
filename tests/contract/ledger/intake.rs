//! What arrives is recorded, and the position moves.

use std::sync::Arc;

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::intake::{IntakeBatch, Tally};
use dinnerbell_core::model::number::{Lane, Offset, Seconds};

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Owner, Sent, assert_not_mine, offer, open_lane, over, page, version};

pub async fn what_arrives_is_recorded_with_the_position_and_counted_once<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let (a, b) = (offer(env, "a").await, offer(env, "b").await);
    let sent = [Sent::Campaign(&a), Sent::Campaign(&b), Sent::Campaign(&a), Sent::Junk("no campaign")];
    let fingerprint = owner.batch(&sent).last_fingerprint();
    let taken = owner.take(&sent).await;
    let tally = Tally { campaigns: 2, duplicates: 1, dead_letters: 1, ..Tally::default() };
    assert_eq!(taken.tally, tally);
    let mut started: Vec<_> = taken.started.iter().map(|running| (running.id(), running.revision)).collect();
    started.sort_unstable();
    assert_eq!(started, [("a", 1), ("b", 1)]);
    assert!(taken.started.iter().all(|running| running.cursor.is_none()));
    assert_eq!((taken.changed.len(), taken.windows.len(), taken.dead_letters.len()), (0, 0, 1));
    assert_eq!((taken.next_deadline, taken.more_changes), (Some(a.window.end.min(b.window.end)), false));
    let lane = env.lane(Lane::new(0)).await;
    assert_eq!((lane.position, lane.last_record, lane.records, lane.tally), (Offset::new(4), fingerprint, 4, tally));
    let row = env.campaign("a").await;
    assert_eq!((row.lane, row.state.as_str(), row.revision, row.told), (Lane::new(0), "active", 1, 0));
    assert_eq!(row.content.as_deref(), Some("a, version 1"));
    owner.take(&[Sent::Campaign(&a)]).await;
    assert_eq!(env.lane(Lane::new(0)).await.tally, Tally { duplicates: 2, ..tally }, "it adds up");
}

pub async fn of_two_intakes_that_race_one_is_recorded_and_the_other_refuses<E: Environment>(env: &E) {
    let owner = open_lane(env).await;
    let a = offer(env, "a").await;
    let (mut one, mut other) = (owner.clone(), owner.clone());
    other.ledger = env.another().await;
    let sent = [Sent::Campaign(&a)];
    let (one, other) = tokio::join!(one.try_take(&sent), other.try_take(&sent));
    let (recorded, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(recorded.unwrap().tally.campaigns, 1);
    assert_not_mine("the second intake", refused);
    let lane = env.lane(Lane::new(0)).await;
    assert_eq!((lane.position, lane.records), (Offset::new(1), 1));
}

pub async fn an_intake_from_another_position_refuses_and_records_nothing<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    owner.start(&offer(env, "a").await).await;
    let before = env.everything().await;
    for position in [0, 2] {
        let late = Owner { position: Offset::new(position), ..owner.clone() };
        let batch = late.batch(&[Sent::Tombstone("a")]);
        assert_not_mine("from another position", owner.ledger.intake(owner.own, batch).await);
    }
    assert_eq!(env.everything().await, before);
}

pub async fn a_campaign_is_scheduled_active_or_expired_by_its_window<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let now = env.now().await;
    let [later, open, over] =
        [("later", now + 600, now + 1_200), ("open", now - 60, now + 900), ("over", now - 60, now - 1)];
    let window = async |(id, start, end): (&str, Seconds, Seconds)| Campaign {
        window: Window { start, end },
        ..offer(env, id).await
    };
    let (later, open, over) = (window(later).await, window(open).await, window(over).await);
    let taken = owner.take(&[Sent::Campaign(&later), Sent::Campaign(&open), Sent::Campaign(&over)]).await;
    assert_eq!(taken.started.iter().map(|running| running.id()).collect::<Vec<_>>(), ["open"]);
    assert_eq!((taken.changed, taken.next_deadline), (vec!["over".to_owned()], Some(now + 600)));
    for (id, state) in [("later", "scheduled"), ("open", "active"), ("over", "expired")] {
        assert_eq!(env.campaign(id).await.state, state, "{id}");
    }
}

pub async fn each_record_ends_as_what_the_rules_say<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = version(&offer(env, "a").await, Seconds::new(5));
    owner.start(&first).await;
    let older = version(&first, Seconds::new(4));
    let same_time = Campaign { adv_campaign_content: "other words".to_owned(), ..first.clone() };
    let another_place = Campaign { restaurant_id: "sushi".to_owned(), ..version(&first, Seconds::new(6)) };
    let update = version(&first, Seconds::new(7));
    for (sent, expected) in [
        (Sent::Campaign(&first), Tally { duplicates: 1, ..Tally::default() }),
        (Sent::Campaign(&older), Tally { older_updates: 1, ..Tally::default() }),
        (Sent::Campaign(&same_time), Tally { dead_letters: 1, ..Tally::default() }),
        (Sent::Campaign(&another_place), Tally { dead_letters: 1, ..Tally::default() }),
        (Sent::Junk("{}"), Tally { dead_letters: 1, ..Tally::default() }),
        (Sent::Campaign(&update), Tally { updates: 1, ..Tally::default() }),
        (Sent::Tombstone("a"), Tally { cancellations: 1, ..Tally::default() }),
    ] {
        let taken = owner.take(&[sent]).await;
        assert_eq!(taken.tally, expected, "{sent:?}");
        assert_eq!(taken.dead_letters.len() as i64, expected.dead_letters, "{sent:?}");
        assert!(taken.started.is_empty(), "{sent:?}");
        let windows = match sent {
            Sent::Campaign(campaign) if expected.updates > 0 => vec![("a".to_owned(), campaign.window)],
            Sent::Tombstone(id) => vec![(id.to_owned(), Window::NEVER)],
            _ => Vec::new(),
        };
        assert_eq!(taken.changed, windows.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), "{sent:?}");
        assert_eq!(taken.windows, windows, "{sent:?}");
    }
    let row = env.campaign("a").await;
    assert_eq!((row.state.as_str(), row.revision), ("cancelled", 3));
    assert_eq!(row.content.as_deref(), Some("a, version 7"), "what is cancelled keeps what it shows");
    assert_eq!(env.lane(Lane::new(0)).await.records, 8);
}

pub async fn whatever_follows_a_cancellation_is_older<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = offer(env, "a").await;
    owner.start(&first).await;
    owner.take(&[Sent::Tombstone("a")]).await;
    let update = version(&first, Seconds::new(9));
    let taken = owner.take(&[Sent::Campaign(&first), Sent::Campaign(&update)]).await;
    assert_eq!((taken.tally.older_updates, taken.changed.len()), (2, 0));
    let taken = owner.take(&[Sent::Tombstone("a")]).await;
    assert_eq!((taken.tally.cancellations, taken.windows), (1, vec![("a".to_owned(), Window::NEVER)]));
    let row = env.campaign("a").await;
    assert_eq!((row.state.as_str(), row.revision), ("cancelled", 2), "it is cancelled once");
}

pub async fn a_tombstone_for_an_unknown_id_is_kept_as_its_campaign<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let taken = owner.take(&[Sent::Tombstone("a")]).await;
    assert_eq!((taken.tally.cancellations, taken.changed.len(), taken.windows.len()), (1, 0, 0));
    let row = env.campaign("a").await;
    assert_eq!((row.lane, row.state.as_str(), row.revision, &row.content), (Lane::new(0), "cancelled", 1, &None));
    let campaign = offer(env, "a").await;
    let taken = owner.take(&[Sent::Campaign(&campaign)]).await;
    assert_eq!((taken.tally.older_updates, taken.started.len()), (1, 0), "it never starts");
    assert_eq!(env.campaign("a").await, row);
}

pub async fn two_versions_in_one_intake_count_as_two<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = offer(env, "a").await;
    let (second, third) = (version(&first, Seconds::new(2)), version(&first, Seconds::new(3)));
    let taken = owner.take(&[Sent::Campaign(&first), Sent::Campaign(&second), Sent::Campaign(&third)]).await;
    assert_eq!((taken.tally.campaigns, taken.tally.updates), (1, 2));
    let row = env.campaign("a").await;
    assert_eq!((row.revision, row.content.as_deref()), (3, Some("a, version 3")));
    let fourth = version(&first, Seconds::new(4));
    owner.take(&[Sent::Campaign(&fourth), Sent::Tombstone("a")]).await;
    let row = env.campaign("a").await;
    assert_eq!((row.revision, row.state.as_str(), row.content.as_deref()), (5, "cancelled", Some("a, version 4")));
}

pub async fn an_update_moves_the_campaign_by_its_new_window<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = offer(env, "a").await;
    let (now, open) = (env.now().await, first.window);
    owner.start(&first).await;
    let later = Window { start: now + 600, end: now + 1_200 };
    let mut newest = 1;
    let mut moved = async |owner: &mut Owner<E::Ledger>, window: Window| {
        newest += 1;
        let update = Campaign { window, ..version(&first, Seconds::new(newest)) };
        assert_eq!(owner.take(&[Sent::Campaign(&update)]).await.tally.updates, 1);
        env.campaign("a").await.state
    };
    let over = over(env).await;
    assert_eq!(moved(&mut owner, later).await, "scheduled");
    assert_eq!(moved(&mut owner, over).await, "expired");
    assert_eq!(moved(&mut owner, open).await, "active");
    let running = owner.running("a").await;
    owner.record(vec![page(&running, &["anna"], true)]).await;
    owner.published().await;
    assert_eq!(env.campaign("a").await.state, "complete");
    assert_eq!(moved(&mut owner, over).await, "closed");
    assert_eq!(moved(&mut owner, later).await, "scheduled");
    assert_eq!(moved(&mut owner, open).await, "complete");
}

pub async fn an_update_of_a_campaign_whose_last_page_is_unpublished_leaves_it_active<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = offer(env, "a").await;
    let running = owner.start(&first).await;
    owner.record(vec![page(&running, &["anna"], true)]).await;
    let update = version(&first, Seconds::new(2));
    owner.take(&[Sent::Campaign(&update)]).await;
    assert_eq!(env.campaign("a").await.state, "active", "the round may be withdrawn yet");
    let ended = Campaign { window: over(env).await, ..version(&first, Seconds::new(3)) };
    owner.take(&[Sent::Campaign(&ended)]).await;
    assert_eq!(env.campaign("a").await.state, "active");
    assert!(owner.published().await, "it is over by now");
    assert_eq!(env.campaign("a").await.state, "closed");
}

pub async fn a_campaign_that_is_gone_before_it_is_applied_costs_the_ownership<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let (a, b) = (offer(env, "a").await, offer(env, "b").await);
    env.let_vanish("a").await;
    let before = env.everything().await;
    assert_not_mine("an unknown campaign", owner.try_take(&[Sent::Campaign(&b), Sent::Campaign(&a)]).await);
    assert_not_mine("an unknown campaign", owner.try_take(&[Sent::Campaign(&b), Sent::Tombstone("a")]).await);
    assert_eq!(env.everything().await, before, "neither is recorded: both come again");
}

pub async fn a_position_moves_over_a_gap_without_any_record<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    owner.start(&offer(env, "a").await).await;
    let before = env.lane(Lane::new(0)).await;
    let gap = IntakeBatch { from: Offset::new(1), to: Offset::new(9), records: Vec::new() };
    let taken = owner.ledger.intake(owner.own, Arc::new(gap)).await.unwrap();
    assert_eq!(taken.tally, Tally::default());
    assert_eq!(
        env.lane(Lane::new(0)).await,
        super::environment::LaneState { position: Offset::new(9), ..before },
        "the last record is known"
    );
}
