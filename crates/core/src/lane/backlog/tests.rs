use super::*;
use crate::lane::backlog::changed_windows::MAX_WINDOWS;
use crate::lane::backlog::late_candidates::{MAX_LATE_BYTES, MAX_MISSED};
use crate::model::campaign::{Campaign, Window};
use crate::model::number::Seconds;
use crate::model::round::PageRange;

fn campaign(id: &str) -> Arc<Campaign> {
    Arc::new(Campaign {
        adv_campaign_id: id.to_owned(),
        restaurant_id: "r".to_owned(),
        adv_campaign_content: "c".to_owned(),
        adv_campaign_owner: "o".to_owned(),
        adv_campaign_owner_contact: "o".to_owned(),
        window: Window { start: Seconds::new(0), end: Seconds::new(100) },
        datetime_created: Seconds::new(0),
    })
}

pub(super) fn running(id: &str, cursor: Option<&str>) -> RunningCampaign {
    RunningCampaign { campaign: campaign(id), revision: 1, cursor: cursor.map(str::to_owned) }
}

fn loaded(due: Due) -> LaneBacklog {
    let backlog = LaneBacklog::empty(Guards::default());
    assert!(backlog.begin_reload(Seconds::new(0)));
    backlog.end_reload(due);
    backlog
}

#[test]
fn those_that_are_not_held_have_their_first_page_before_the_second_ones_of_those_held() {
    let held = |running: Vec<RunningCampaign>| loaded(Due { running, more_running: true, ..Due::default() });
    let backlog = held(vec![running("a", None)]);
    assert!(!backlog.begin_reload(Seconds::new(0)), "a waits for its first page");
    let page = PageRange { after: None, upto: Some("x".to_owned()), last: false, already_told: Vec::new(), skipped: 0 };
    backlog.state().running.recorded("a", &page, true);
    assert!(backlog.begin_reload(Seconds::new(0)), "others may wait for their first page");
    let backlog = held(vec![running("a", Some("x"))]);
    assert!(!backlog.begin_reload(Seconds::new(0)), "everybody had a first page");
}

#[test]
fn ended_campaigns_that_are_not_held_are_loaded_when_those_held_are_counted() {
    let uncounted = vec![Uncounted { campaign: campaign("a"), cancelled: false }];
    let backlog = loaded(Due { uncounted, more_uncounted: true, ..Due::default() });
    assert!(!backlog.begin_reload(Seconds::new(0)));
    assert!(!backlog.is_ready(Seconds::new(0)));
    backlog.counted("a");
    assert!(backlog.is_ready(Seconds::new(0)) && backlog.begin_reload(Seconds::new(0)));
}

#[test]
fn candidates_are_checked_in_the_order_in_which_they_came() {
    let backlog = LaneBacklog::default();
    let favour = |client: &str| LateCandidate { restaurant_id: "r".to_owned(), client_id: client.to_owned() };
    backlog.add_late(["z", "m", "z"].map(favour).into_iter());
    backlog.add_late(std::iter::once(favour("a")));
    let clients = |backlog: &LaneBacklog| {
        backlog.late().0.into_iter().map(|candidate| candidate.client_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(clients(&backlog), ["z", "m", "a"]);
    let (taken, _) = backlog.late();
    backlog.checked_late(&taken[1..2], None);
    backlog.add_late(std::iter::once(favour("m")));
    assert_eq!(clients(&backlog), ["z", "a", "m"]);
}

#[test]
fn restaurants_of_candidates_without_room_are_passed_again_and_too_many_mean_all() {
    let backlog = LaneBacklog::default();
    let candidates = |from: usize, to: usize, restaurant: &'static str| {
        (from..to).map(move |n| LateCandidate { restaurant_id: restaurant.to_owned(), client_id: n.to_string() })
    };
    let held = MAX_LATE_BYTES.div_ceil(candidates(10_000, 10_001, "full").map(|one| one.size()).sum());
    backlog.offer_late(candidates(10_000, 10_000 + held, "full"));
    assert_eq!(backlog.take_missed(), Missed::default());
    backlog.offer_late(candidates(0, 3, "missed"));
    let missed = backlog.take_missed();
    assert_eq!(
        (missed.everywhere, missed.restaurants.into_iter().collect::<Vec<_>>()),
        (false, vec!["missed".to_owned()])
    );
    assert_eq!(backlog.take_missed(), Missed::default(), "it is taken once");
    backlog.missed((0..=MAX_MISSED).map(|n| n.to_string()));
    assert!(backlog.take_missed().everywhere);
}

fn changed(windows: impl IntoIterator<Item = (String, Window)>) -> IntakeOutcome {
    IntakeOutcome { windows: windows.into_iter().collect(), ..IntakeOutcome::default() }
}

fn is_shut(backlog: &LaneBacklog, id: &str, now: Seconds) -> bool {
    backlog.changed_windows().is_any_closed([id].into_iter(), now)
}

#[test]
fn a_window_that_moved_counts_until_the_ledger_looks_at_it_itself() {
    let backlog = LaneBacklog::empty(Guards::default());
    let moved = Window { start: Seconds::new(10), end: Seconds::new(20) };
    backlog.add(changed([("moved".to_owned(), moved), ("cancelled".to_owned(), Window::NEVER)]));
    backlog.begin_reload(Seconds::new(0));
    assert_eq!([9, 10, 19, 20].map(|now| is_shut(&backlog, "moved", Seconds::new(now))), [true, false, false, true]);
    assert!(is_shut(&backlog, "cancelled", Seconds::new(15)) && !is_shut(&backlog, "another", Seconds::new(20)));
    backlog.changed_windows().forget();
    assert!(!is_shut(&backlog, "moved", Seconds::new(20)));
}

#[test]
fn windows_too_many_to_remember_make_every_campaign_doubtful() {
    let backlog = LaneBacklog::empty(Guards::default());
    backlog.add(changed((0..MAX_WINDOWS).map(|number| (number.to_string(), Window::ALWAYS))));
    assert!(!is_shut(&backlog, "another", Seconds::new(20)));
    backlog.add(changed([("another".to_owned(), Window::ALWAYS)]));
    assert!(is_shut(&backlog, "any", Seconds::new(0)));
}
