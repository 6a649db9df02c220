//! Open campaigns that are rescanned, and the marks of the tail scan.

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::late::{LateCheckCampaign, OpenCampaign, RowCounts};
use dinnerbell_core::model::number::{Lane, Seconds, Seq};

use super::capabilities::*;
use super::environment::Environment;
use super::owner::{Owner, Sent, offer, open_lane, open_lanes, over, page, version};

fn ids(open: &[OpenCampaign]) -> Vec<&str> {
    open.iter().map(|open| open.running.id()).collect()
}

/// A campaign that had a page, and ends after this many seconds.
async fn paged<E: Environment>(env: &E, owner: &mut Owner<E::Ledger>, id: &str, lasts: i64, last: bool) -> Campaign {
    let now = env.now().await;
    let campaign = Campaign { window: Window { start: now - 60, end: now + lasts }, ..offer(env, id).await };
    let running = owner.start(&campaign).await;
    owner.record(vec![page(&running, &["anna"], last)]).await;
    campaign
}

/// Whether a second is this one, or one in which the case may have been busy since.
#[track_caller]
fn is_about(second: Option<Seconds>, expected: Seconds) {
    let second = second.expect("a pass is to come");
    assert!((expected..expected + 30).contains(&second), "{second}, not {expected}");
}

pub async fn a_campaign_is_passed_again_five_minutes_after_its_first_page<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let now = env.now().await;
    paged(env, &mut owner, "a", 3_600, false).await;
    let first = env.campaign("a").await.repass_at;
    is_about(first, now + 300);
    let running = owner.running("a").await;
    owner.record(vec![page(&running, &["bob"], false)]).await;
    assert_eq!(env.campaign("a").await.repass_at, first, "a page in between puts nothing off");
    assert!(owner.ledger.due_rescan(owner.own, &[], 10).await.unwrap().is_empty());
    assert!(owner.ledger.poll(&[owner.own]).await.unwrap().rescans.is_empty());

    env.make_repass_due("a", now - 1).await;
    assert_eq!(owner.ledger.poll(&[owner.own]).await.unwrap().rescans, [Lane::new(0)]);
    let due = owner.ledger.due_rescan(owner.own, &[], 10).await.unwrap();
    assert_eq!((ids(&due), due[0].main_pass_over, due[0].told), (vec!["a"], false, 2));
    assert_eq!((due[0].running.cursor.as_deref(), due[0].running.revision), (Some("bob"), 1));
    owner.ledger.note_rescanned(owner.own, &[("a".to_owned(), 1)]).await.unwrap();
    is_about(env.campaign("a").await.repass_at, now + 300);
    assert!(owner.ledger.due_rescan(owner.own, &[], 10).await.unwrap().is_empty());

    env.make_repass_due("a", now + 10_000).await;
    let running = owner.running("a").await;
    owner.record(vec![page(&running, &["carl"], true)]).await;
    is_about(env.campaign("a").await.repass_at, now + 300);
}

pub async fn a_campaign_is_passed_once_more_before_its_end<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let soon = paged(env, &mut owner, "soon", 120, true).await;
    assert_eq!(env.campaign("soon").await.repass_at, Some(soon.window.end - 30));
    paged(env, &mut owner, "at once", 20, true).await;
    assert_eq!(env.campaign("at once").await.repass_at, None, "no time is left for it");
    let now = env.now().await;
    env.make_repass_due("soon", now - 1).await;
    env.move_window("soon", Window { end: now + 25, ..soon.window }).await;
    owner.ledger.note_rescanned(owner.own, &[("soon".to_owned(), 1)]).await.unwrap();
    assert_eq!(env.campaign("soon").await.repass_at, None, "this was the last pass");
}

pub async fn a_pass_of_an_older_version_is_not_done<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = paged(env, &mut owner, "a", 3_600, true).await;
    let update = version(&first, Seconds::new(2));
    owner.take(&[Sent::Campaign(&update)]).await;
    owner.ledger.note_rescanned(owner.own, &[("a".to_owned(), 1), ("unknown".to_owned(), 1)]).await.unwrap();
    assert_eq!(env.campaign("a").await.repass_at, Some(Seconds::new(0)));
    owner.ledger.note_rescanned(owner.own, &[("a".to_owned(), 2)]).await.unwrap();
    assert_ne!(env.campaign("a").await.repass_at, Some(Seconds::new(0)));
}

pub async fn an_update_makes_a_pass_due<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let first = paged(env, &mut owner, "a", 3_600, true).await;
    let update = version(&first, Seconds::new(2));
    owner.take(&[Sent::Campaign(&update)]).await;
    assert_eq!(ids(&owner.ledger.due_rescan(owner.own, &[], 1).await.unwrap()), ["a"]);
    let repass_at = env.campaign("a").await.repass_at;
    owner.take(&[Sent::Tombstone("a")]).await;
    assert_eq!(env.campaign("a").await.repass_at, repass_at);
    assert!(owner.ledger.due_rescan(owner.own, &[], 1).await.unwrap().is_empty(), "it is not open");
    assert!(owner.ledger.poll(&[owner.own]).await.unwrap().rescans.is_empty());
}

pub async fn campaigns_that_had_a_page_are_passed_in_the_order_of_their_ends<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    for (id, lasts, last) in [("c", 900, true), ("a", 900, false), ("B", 900, true), ("first", 800, false)] {
        paged(env, &mut owner, id, lasts, last).await;
    }
    // In one second, so that ids decide.
    let window = Window { start: env.now().await - 60, end: env.now().await + 1_000 };
    for id in ["a", "B", "c"] {
        env.move_window(id, window).await;
    }
    owner.start(&offer(env, "without a page").await).await;
    paged(env, &mut owner, "over", 900, true).await;
    env.move_window("over", over(env).await).await;
    let after = async |after: Option<&(Seconds, String)>, most| {
        owner.ledger.open_campaigns_after(owner.own, after, most).await.unwrap()
    };
    assert_eq!(ids(&after(None, 10).await), ["first", "B", "a", "c"]);
    assert_eq!(ids(&after(None, 2).await), ["first", "B"]);
    assert_eq!(ids(&after(Some(&(window.end, "B".to_owned())), 10).await), ["a", "c"]);
    assert_eq!(ids(&after(Some(&(window.end - 1, "z".to_owned())), 1).await), ["B"]);
    assert!(after(Some(&(window.end, "c".to_owned())), 10).await.is_empty());
    let over: Vec<bool> = after(None, 10).await.iter().map(|open| open.main_pass_over).collect();
    assert_eq!(over, [false, true, false, true]);

    for (id, at) in [("c", 3), ("a", 1), ("B", 2), ("first", 4), ("over", 0), ("without a page", 0)] {
        env.make_repass_due(id, Seconds::new(at)).await;
    }
    let due = async |beside: &[&str], most| owner.ledger.due_rescan(owner.own, beside, most).await.unwrap();
    assert_eq!(ids(&due(&[], 10).await), ["a", "B", "c", "first"]);
    assert_eq!(ids(&due(&["a", "c"], 10).await), ["B", "first"]);
    assert_eq!(ids(&due(&["a"], 1).await), ["B"]);
}

pub async fn a_main_pass_that_found_nobody_is_passed_again_too<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let running = owner.start(&offer(env, "a").await).await;
    owner.record(vec![page(&running, &[], true)]).await;
    let row = env.campaign("a").await;
    assert_eq!((row.cursor, row.last_page_seq, row.told), (None, Some(Seq::new(1)), 0));
    assert_eq!(ids(&owner.ledger.open_campaigns_after(owner.own, None, 1).await.unwrap()), ["a"]);
    env.make_repass_due("a", Seconds::new(0)).await;
    let due = owner.ledger.due_rescan(owner.own, &[], 1).await.unwrap();
    assert_eq!((ids(&due), due[0].main_pass_over), (vec!["a"], true));
}

pub async fn open_campaigns_are_found_by_their_restaurants<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    for (id, restaurant) in [("b", "sushi"), ("a", "pizzeria"), ("C", "pizzeria"), ("d", "bistro")] {
        let campaign = Campaign { restaurant_id: restaurant.to_owned(), ..offer(env, id).await };
        owner.start(&campaign).await;
    }
    other.start(&offer(env, "elsewhere").await).await;
    owner.start(&offer(env, "over").await).await;
    env.move_window("over", over(env).await).await;
    owner.record(vec![page(&owner.running("a").await, &["anna", "bob"], true)]).await;
    env.answer("a", "bob").await;
    let wanted = ["pizzeria", "sushi", "nobody's"].map(str::to_owned);

    let open = owner.ledger.open_campaigns_of(owner.own, &wanted).await.unwrap();
    assert_eq!(ids(&open), ["C", "a", "b"]);
    assert_eq!((open[1].told, open[1].main_pass_over), (2, true));

    let late = async |after, most| owner.ledger.late_campaigns(owner.own, &wanted, after, most).await.unwrap();
    let named = |late: &[LateCheckCampaign]| late.iter().map(|late| late.adv_campaign_id.clone()).collect::<Vec<_>>();
    let all = late(None, 10).await;
    assert_eq!(named(&all), ["C", "a", "b"], "by restaurant, and then by id");
    let texts = ["a", "pizzeria", "a, version 1", "Ivan", "ivan@pizzeria"].iter().map(|text| text.len()).sum();
    let expected = LateCheckCampaign {
        adv_campaign_id: "a".to_owned(),
        restaurant_id: "pizzeria".to_owned(),
        cursor: Some("bob".to_owned()),
        main_pass_over: true,
        told: 2,
        texts,
    };
    assert_eq!(all[1], expected);
    assert_eq!(named(&late(None, 2).await), ["C", "a"]);
    assert_eq!(named(&late(Some("C"), 10).await), ["a", "b"]);
    assert_eq!(named(&late(Some("a"), 10).await), ["b"]);

    // A draft that is taken back leaves its row, as somebody answered in it: for the one it counts, for the other it does not.
    owner.ledger.withdraw_whole(owner.own, owner.head, None).await.unwrap();
    assert_eq!(owner.ledger.open_campaigns_of(owner.own, &wanted).await.unwrap()[1].told, 1);
    assert_eq!(late(None, 10).await[1].told, 0, "of drafts that were recorded");
}

pub async fn restaurants_with_an_open_campaign_are_named_once_for_each_lane<E: Environment>(env: &E) {
    let (mut owner, mut other) = open_lanes(env).await;
    for id in ["a", "b"] {
        owner.start(&offer(env, id).await).await;
    }
    other.start(&offer(env, "c").await).await;
    owner.start(&Campaign { restaurant_id: "sushi".to_owned(), ..offer(env, "d").await }).await;
    let wanted = ["pizzeria", "sushi", "nobody's"].map(str::to_owned);
    let named = async |lanes: &[i32]| {
        let lanes: Vec<Lane> = lanes.iter().copied().map(Lane::new).collect();
        let mut named = owner.ledger.open_restaurants(&lanes, &wanted).await.unwrap();
        named.sort();
        named
    };
    let pizzeria = |lane| (Lane::new(lane), "pizzeria".to_owned());
    assert_eq!(named(&[0, 1]).await, [pizzeria(0), (Lane::new(0), "sushi".to_owned()), pizzeria(1)]);
    assert_eq!(named(&[1]).await, [pizzeria(1)]);
    assert!(named(&[]).await.is_empty());
}

pub async fn rows_are_counted_up_to_what_was_told<E: Environment>(env: &E) {
    let mut owner = open_lane(env).await;
    let a = offer(env, "a").await;
    let running = owner.start(&a).await;
    owner.record(vec![page(&running, &["anna", "bob", "carl"], true)]).await;
    let counted = async || owner.ledger.count_rows(owner.own, "a").await.unwrap();
    assert_eq!(counted().await, RowCounts { told: 3, rows: 3 });
    for client in ["anna", "bob"] {
        env.remove_row("a", client).await;
    }
    assert_eq!(counted().await, RowCounts { told: 3, rows: 1 });
    assert!(counted().await.indicates_bulk_removal());
    let unknown = owner.ledger.count_rows(owner.own, "unknown").await.unwrap();
    assert_eq!(unknown, RowCounts { told: 0, rows: 0 });
    let b = offer(env, "b").await;
    owner.start(&b).await;
    env.leave_row(&b, "anna").await;
    let none = owner.ledger.count_rows(owner.own, "b").await.unwrap();
    assert_eq!(none, RowCounts { told: 0, rows: 0 }, "nothing was told, so nothing is counted");
}

pub async fn the_tail_scans_mark_is_noted_for_lanes_of_this_instance_alone<E: Environment>(env: &E) {
    let (owner, other) = open_lanes(env).await;
    assert_eq!(owner.ledger.tail_scanned(&[Lane::new(0), Lane::new(1)]).await.unwrap(), None);
    assert!(owner.ledger.note_tail_scanned(&[Lane::new(0), Lane::new(1)], 50).await.unwrap());
    assert_eq!((env.lane(Lane::new(0)).await.swept_to, env.lane(Lane::new(1)).await.swept_to), (Some(50), None));
    assert_eq!(
        owner.ledger.tail_scanned(&[Lane::new(0), Lane::new(1)]).await.unwrap(),
        Some(50),
        "of those that have one"
    );
    assert!(other.ledger.note_tail_scanned(&[Lane::new(1)], 40).await.unwrap());
    assert_eq!(
        owner.ledger.tail_scanned(&[Lane::new(0), Lane::new(1)]).await.unwrap(),
        Some(40),
        "of the one that was least far"
    );
    assert_eq!(owner.ledger.tail_scanned(&[Lane::new(0)]).await.unwrap(), Some(50));
    let taken = Owner::enter(env.ledger(), Lane::new(1)).await;
    assert_eq!(env.lane(Lane::new(1)).await.swept_to, Some(40), "the next owner goes on from there");
    assert!(other.ledger.note_tail_scanned(&[Lane::new(1)], 60).await.unwrap());
    assert!(taken.ledger.note_tail_scanned(&[Lane::new(1)], 45).await.unwrap());
    assert_eq!(env.lane(Lane::new(1)).await.swept_to, Some(45));
}
