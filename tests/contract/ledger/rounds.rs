//! A round that is being recorded, and one that is read back.

use std::sync::Arc;

use dinnerbell_core::guard::Guards;
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::late::LateQuery;
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::recorded::Recorded;
use dinnerbell_core::model::round::StoredRound;
use dinnerbell_core::ports::ledger::LedgerError;

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Owner, Sent, content, late, offer, open_lane, open_lanes, page, page_beside};

/// A list of clients, written out.
pub fn clients(clients: &Clients) -> Vec<&str> {
    clients.iter().collect()
}

/// Who is in a stored round, by campaign in the order of their ids.
pub fn drafts(stored: &StoredRound) -> Vec<(&str, Vec<&str>)> {
    let mut drafts: Vec<(&str, Vec<&str>)> = stored
        .batches
        .iter()
        .map(|batch| {
            let mut clients = clients(&batch.clients);
            clients.sort_unstable();
            (batch.template.campaign().adv_campaign_id.as_str(), clients)
        })
        .collect();
    drafts.sort_unstable();
    drafts
}

/// The last round of a lane, read back: its count and checksum are those that were recorded.
pub async fn read_back<E: Environment>(owner: &Owner<E::Ledger>) -> StoredRound {
    let stored = owner.ledger.stored_round(owner.own).await.unwrap();
    Recorded::read_back(owner.own.lane, uuid::Uuid::nil(), stored.clone(), Guards::default()).unwrap();
    stored
}

pub async fn a_round_is_read_back_as_it_was_recorded<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let (b, a) = (offer(env, "b").await, offer(env, "a").await);
    let shorter = Campaign { window: Window { end: b.window.end - 100, ..b.window }, ..b };
    let (second, first) = (owner.start(&shorter).await, owner.start(&a).await);
    owner.record(vec![page(&first, &["m"], false)]).await;
    let first = owner.running("a").await;
    env.leave_row(&a, "p").await;
    let parts = vec![page(&second, &["anna", "bob"], false), page_beside(&first, &["n", "z"], "z", &["p"], 0)];
    let mut parts = parts;
    parts[1].drafts.clients.push("d");
    parts[1].late = 1;
    owner.record(parts).await;
    let stored = read_back::<E>(&owner).await;
    assert_eq!((stored.version, stored.position, stored.drafts), (owner.head, Offset::new(2), 5));
    assert_eq!(drafts(&stored), [("a", vec!["d", "n", "z"]), ("b", vec!["anna", "bob"])]);
    let ids: Vec<_> = stored.batches.iter().map(|batch| &batch.template.campaign().adv_campaign_id).collect();
    assert_eq!(ids, ["a", "b"], "in the order of ids");
    assert_eq!((stored.not_open.len(), stored.open), (0, shorter.window), "it is open while all of them are");
    assert_eq!(stored.batches[0].template.trigger_datetime_created(), super::owner::FORMED);
}

pub async fn a_recorded_round_whose_reply_was_lost_is_found_by_the_next_owner<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    let content = content(vec![page(&running, &["anna"], true)]);
    owner.try_record(&content).await.unwrap();
    // Nobody got the answer: the lane's next owner, the same instance or another, finds the round.
    for ledger in [env.ledger(), env.another().await] {
        let acquired = ledger.acquire(Lane::new(0), Some(Offset::FIRST)).await.unwrap();
        assert_eq!((acquired.head, acquired.published), (owner.head, Some(Seq::new(0))));
        let next = Owner { ledger, own: acquired.ownership, ..owner.clone() };
        assert_eq!(drafts(&read_back::<E>(&next).await), [("a", vec!["anna"])]);
        let refused = next.clone().ledger.open_round(next.own).await.unwrap().seal(owner.head, content.clone()).await;
        super::owner::assert_not_mine("the same round once more", refused);
    }
    assert_eq!((env.rows("a").await, env.campaign("a").await.told), (vec!["anna".to_owned()], 1));
}

pub async fn a_round_that_is_dropped_or_abandoned_never_was<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    let before = env.everything().await;
    let content = content(vec![page(&running, &["anna"], true)]);
    owner.copy(&content).await.unwrap().abandon().await.unwrap();
    drop(owner.copy(&content).await.unwrap());
    assert_eq!(env.everything().await, before);
    owner.record(vec![page(&running, &["anna"], true)]).await;
}

pub async fn a_row_that_is_there_already_refuses_the_copy<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let a = offer(env, "a").await;
    let running = owner.start(&a).await;
    env.leave_row(&a, "bob").await;
    let before = env.everything().await;
    let content = content(vec![page(&running, &["anna", "bob"], true)]);
    let mut open = owner.ledger.open_round(owner.own).await.unwrap();
    let copied = open.copy(Arc::clone(&content)).await;
    assert!(matches!(copied, Err(LedgerError::Duplicate(_))), "{copied:?}");
    let sealed = open.seal(owner.next(&content), content).await;
    assert!(sealed.is_err(), "its transaction is over: {sealed:?}");
    assert_eq!(env.everything().await, before);
    owner.record(vec![page(&running, &["anna"], true)]).await;
}

pub async fn a_client_who_stands_twice_in_a_round_refuses_the_copy<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    let parts = vec![page(&running, &["anna"], true), late(&running, &["anna"])];
    let copied = owner.copy(&content(parts)).await.map(drop);
    assert!(matches!(copied, Err(LedgerError::Duplicate(_))), "{copied:?}");
    assert!(env.rows("a").await.is_empty());
}

pub async fn who_has_a_row_is_found_in_each_stretch<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let (a, b) = (offer(env, "a").await, offer(env, "b").await);
    owner.take(&[Sent::Campaign(&a), Sent::Campaign(&b)]).await;
    for (campaign, client) in [(&a, "B"), (&a, "b"), (&a, "d"), (&a, "ä"), (&b, "c")] {
        env.leave_row(campaign, client).await;
    }
    let range = |id: &'static str, after: Option<&'static str>, upto| ClientRange { adv_campaign_id: id, after, upto };
    let ranges = [
        range("a", None, "b"),
        range("a", Some("b"), "ä"),
        range("b", None, "z"),
        range("c", None, "z"),
        range("a", Some("B"), "C"),
    ];
    let expected = [vec!["B", "b"], vec!["d", "ä"], vec!["c"], vec![], vec![]];
    let mut open = owner.ledger.open_round(owner.own).await.unwrap();
    let (within, outside) =
        (open.already_told(&ranges).await.unwrap(), owner.ledger.already_told(&ranges).await.unwrap());
    open.abandon().await.unwrap();
    for told in [within, outside] {
        let mut told: Vec<Vec<&str>> = told.iter().map(clients).collect();
        told.iter_mut().for_each(|told| told.sort_unstable());
        assert_eq!(told, expected);
    }
}

pub async fn who_is_late_is_behind_the_planned_cursor_and_has_no_row<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let a = offer(env, "a").await;
    owner.start(&a).await;
    env.leave_row(&a, "c").await;
    let candidates: Clients = ["z", "ä", "c", "M", "m", "b"].into_iter().collect();
    let question = |planned_cursor, main_pass_over| LateQuery {
        adv_campaign_id: "a",
        clients: &candidates,
        planned_cursor,
        main_pass_over,
    };
    let questions =
        [question(Some("m"), false), question(None, false), question(Some("m"), true), question(None, true)];
    let mut open = owner.ledger.open_round(owner.own).await.unwrap();
    let late = open.late(&questions).await.unwrap();
    open.abandon().await.unwrap();
    let late: Vec<Vec<&str>> = late.iter().map(clients).collect();
    let anyone = vec!["M", "b", "m", "z", "ä"];
    assert_eq!(late, [vec!["M", "b", "m"], vec![], anyone.clone(), anyone]);
}

pub async fn a_round_shows_campaigns_of_its_lane_that_are_open<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    let first = offer(env, "a").await;
    owner.start(&first).await;
    for id in ["over", "cancelled", "later"] {
        owner.start(&offer(env, id).await).await;
    }
    other.start(&offer(env, "elsewhere").await).await;
    env.move_window("over", super::owner::over(env).await).await;
    let now = env.now().await;
    env.move_window("later", Window { start: now + 600, end: now + 900 }).await;
    let update = version(&first);
    owner.take(&[Sent::Tombstone("cancelled"), Sent::Campaign(&update)]).await;
    let mut open = owner.ledger.open_round(owner.own).await.unwrap();
    let shown = open.campaigns(&["a", "over", "cancelled", "later", "elsewhere", "unknown"]).await.unwrap();
    open.abandon().await.unwrap();
    let shown: Vec<_> = shown.iter().map(|running| (running.id(), running.revision, &*running.campaign)).collect();
    assert_eq!(shown, [("a", 2, &update)]);
}

fn version(campaign: &Campaign) -> Campaign {
    super::owner::version(campaign, Seconds::new(2))
}

pub async fn a_rounds_rows_are_seen_by_nobody_before_it_is_sealed<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    let content = content(vec![page(&running, &["anna"], true)]);
    let open = owner.copy(&content).await.unwrap();
    let range = [ClientRange { adv_campaign_id: "a", after: None, upto: "z" }];
    assert!(owner.ledger.already_told(&range).await.unwrap()[0].is_empty());
    open.seal(owner.next(&content), content).await.unwrap();
    assert_eq!(clients(&owner.ledger.already_told(&range).await.unwrap()[0]), ["anna"]);
}
