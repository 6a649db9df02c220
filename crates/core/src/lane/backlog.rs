//! What a lane has to do, in memory: a bounded window on what the ledger knows, shared by the steps of one lane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedMutexGuard, watch};
use tokio::time::{Instant, timeout_at};

use crate::guard::{Guard, Guards};
use crate::lane::overdue::Overdue;
use crate::lane::round::turns::{RoundTurn, Turns};
use crate::model::campaign::Window;
use crate::model::due::{ActiveCampaign, Due, MOST_LETTERS, Uncounted, WaitingLetter};
use crate::model::intake::Taken;
use crate::model::round::RoundContent;
use crate::model::time::EpochSeconds;

/// Most campaigns of a lane that are held in memory at once; further ones wait in the ledger.
pub const MOST_RUNNING: usize = 1_000;
/// Most candidates for late drafts that are held at once: beyond that the rescan waits, and what the tail scan brings is left to it.
const MOST_LATE: usize = 20_000;
/// Most candidates that one round judges.
const LATE_OF_A_ROUND: usize = 2_000;
/// Most changed windows that are remembered between two rounds.
const MOST_WINDOWS: usize = 10_000;
/// Most restaurants of which it is remembered that somebody was missed; beyond that it may be any.
const MOST_MISSED: usize = 1_000;
/// Most dead letters of one round.
const LETTERS_OF_A_ROUND: usize = 100;
/// Most bytes of dead letters of one round, but for a single larger one.
const LETTER_BYTES_OF_A_ROUND: usize = 4 << 20;

/// A restaurant and who favours it: a candidate for a late draft of each of its open campaigns.
pub type LateCandidate = (String, String);

/// Of which restaurants candidates of the tail scan found no room.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Missed {
    /// These.
    pub restaurants: BTreeSet<String>,
    /// Perhaps of any.
    pub everywhere: bool,
}

/// Candidates for late drafts, each once, in the order in which they came: so that nobody waits for those who come after.
#[derive(Debug, Default)]
struct Candidates {
    known: BTreeMap<Arc<LateCandidate>, u64>,
    by_age: BTreeMap<u64, Arc<LateCandidate>>,
    next: u64,
}

impl Candidates {
    fn len(&self) -> usize {
        self.known.len()
    }

    fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn add(&mut self, favour: LateCandidate) {
        let favour = Arc::new(favour);
        if !self.known.contains_key(&favour) {
            self.known.insert(Arc::clone(&favour), self.next);
            self.by_age.insert(self.next, favour);
            self.next += 1;
        }
    }

    fn remove(&mut self, favour: &LateCandidate) {
        if let Some(age) = self.known.remove(favour) {
            self.by_age.remove(&age);
        }
    }

    fn oldest(&self, most: usize) -> Vec<LateCandidate> {
        self.by_age.values().take(most).map(|favour| LateCandidate::clone(favour)).collect()
    }
}

impl BacklogState {
    /// The running campaigns that rounds ask for.
    fn in_time(&self) -> impl Iterator<Item = &ActiveCampaign> {
        self.running.values().filter(|running| !self.overdue.is_left_out(&running.campaign.restaurant_id))
    }

    /// Whether more campaigns wait in the ledger, and there is room for them beside those that are left out.
    fn has_room_for_more(&self) -> bool {
        self.more_running && self.running.len() < MOST_RUNNING && self.in_time().next().is_none()
    }
}

#[derive(Debug, Default)]
struct BacklogState {
    running: BTreeMap<String, ActiveCampaign>,
    /// Dead letters by their number, with their size.
    dead_letters: BTreeMap<i64, usize>,
    /// How many of them the next round may carry.
    carries: usize,
    uncounted: BTreeMap<String, Uncounted>,
    late: Candidates,
    /// Candidates that were judged for some of their campaigns: in the order of ids, those up to this one.
    half_judged: Option<(Vec<LateCandidate>, String)>,
    /// Restaurants whose campaigns are left out of rounds, since no page of theirs came in time.
    overdue: Overdue,
    missed: Missed,
    windows: BTreeMap<String, Window>,
    more_windows: bool,
    next_change: Option<EpochSeconds>,
    more_running: bool,
    /// Whether one that is not held may have no page yet: it goes before the second pages of those that are held.
    more_beginners: bool,
    more_dead_letters: bool,
    more_uncounted: bool,
    reload: bool,
    moved: bool,
}

/// The work of one lane. Everything in it can be read from the ledger again; [`LaneBacklog::reload`] says that it must be.
#[derive(Debug, Default)]
pub struct LaneBacklog {
    state: Mutex<BacklogState>,
    changed: Notify,
    uncounted: Notify,
    letters: Notify,
    settled: Notify,
    room: Notify,
    judge: Notify,
    rescan: Notify,
    left_out: Notify,
    tail_scan: watch::Sender<bool>,
    turns: Mutex<Turns>,
    changes: Arc<tokio::sync::Mutex<()>>,
    lost: watch::Sender<bool>,
    guards: Guards,
}

impl LaneBacklog {
    /// Nothing known yet: the first round reads the ledger.
    pub fn unread(guards: Guards) -> Self {
        let work = Self { guards, ..Self::default() };
        work.reload();
        work
    }

    fn state(&self) -> MutexGuard<'_, BacklogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is held is out of date.
    pub fn reload(&self) {
        self.state().reload = true;
        self.changed.notify_one();
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn the next round is.
    pub fn turn(&self) -> RoundTurn {
        match self.guards.hold(Guard::QuietRounds) {
            true => self.turns().take_turn(),
            false => RoundTurn::default(),
        }
    }

    /// A round was not recorded: changes of these campaigns overtook it.
    pub fn overtaken(&self, campaigns: Vec<String>) {
        self.turns().overtaken(campaigns);
        if self.guards.hold(Guard::StaleIsPlannedAnew) {
            self.reload();
        }
    }

    /// Keeps changes and quiet rounds apart: whoever changes campaigns holds it meanwhile, and a quiet round from when its campaigns are read
    /// until it is recorded. They have it in the order in which they ask for it.
    pub async fn changes(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.changes).lock_owned().await
    }

    /// The lane does not stand as it was entered: whoever runs it enters it anew.
    pub fn lose(&self) {
        self.lost.send_replace(true);
    }

    /// Waits until the lane does not stand as it was entered.
    pub async fn lost(&self) {
        // The sender lives as long as `self`.
        let _ = self.lost.subscribe().wait_for(|lost| *lost).await;
    }

    /// Adds what an intake found.
    pub fn add(&self, taken: Taken) {
        self.turns().changed(taken.changed.iter());
        let mut state = self.state();
        state.moved = true;
        state.reload |= !taken.changed.is_empty();
        for (id, window) in taken.windows.into_iter().filter(|_| self.guards.hold(Guard::WindowsThatMoved)) {
            if state.windows.len() < MOST_WINDOWS || state.windows.contains_key(&id) {
                state.windows.insert(id, window);
            } else {
                state.more_windows = true;
            }
        }
        for running in taken.started {
            if state.running.len() < MOST_RUNNING {
                state.running.entry(running.campaign.adv_campaign_id.clone()).or_insert(running);
            } else {
                state.more_running = true;
                state.more_beginners = true;
            }
        }
        for letter in taken.dead_letters {
            // In the order of their numbers: behind one that is not remembered, none is.
            if state.dead_letters.len() < MOST_LETTERS && !state.more_dead_letters {
                state.dead_letters.insert(letter.id, letter.bytes);
            } else {
                state.more_dead_letters = true;
            }
        }
        self.letters.notify_one();
        state.next_change = earlier(state.next_change, taken.next_change);
        drop(state);
        self.changed.notify_one();
    }

    /// Adds what came of judging changes; the input position did not move by it.
    pub fn judged(&self, taken: Taken) {
        let moved = self.state().moved;
        self.add(taken);
        self.state().moved = moved;
    }

    /// Whether the ledger must be read; what is held is dropped then. Arrivals of the meantime are kept beside what is read.
    pub fn begin_reload(&self, now: EpochSeconds) -> bool {
        let mut state = self.state();
        let begun = || state.running.values().all(|running| running.cursor.is_some());
        let drained = state.has_room_for_more()
            || (state.more_beginners && begun())
            || (state.dead_letters.is_empty() && state.more_dead_letters)
            || (state.uncounted.is_empty() && state.more_uncounted);
        let due = state.next_change.is_some_and(|at| at <= now);
        if !(state.reload || drained || due) {
            return false;
        }
        let old = std::mem::take(&mut *state);
        let BacklogState { moved, late, half_judged, overdue, missed, windows, more_windows, carries, .. } = old;
        let kept = BacklogState {
            moved,
            late,
            half_judged,
            overdue,
            missed,
            windows,
            more_windows,
            carries,
            ..BacklogState::default()
        };
        *state = kept;
        true
    }

    /// Adds what the ledger knows.
    pub fn end_reload(&self, due: Due) {
        let mut state = self.state();
        // Those without a page come first: if the last one has a page, all others that wait have one.
        state.more_beginners |= due.more_running && due.running.last().is_some_and(|last| last.cursor.is_none());
        for running in due.running {
            state.running.entry(running.campaign.adv_campaign_id.clone()).or_insert(running);
        }
        state.more_running |= due.more_running;
        state.more_uncounted |= due.more_uncounted;
        state.more_dead_letters |= due.more_dead_letters;
        state.dead_letters.extend(due.dead_letters.into_iter().map(|WaitingLetter { id, bytes }| (id, bytes)));
        self.letters.notify_one();
        for uncounted in due.uncounted {
            state.uncounted.insert(uncounted.campaign.adv_campaign_id.clone(), uncounted);
        }
        state.next_change = earlier(state.next_change, due.next_change);
        if !state.uncounted.is_empty() {
            self.uncounted.notify_one();
        }
    }

    /// Waits until there may be a campaign to count.
    pub async fn uncounted_added(&self) {
        self.uncounted.notified().await;
    }

    /// Whether there is something for a round, or a reload is due.
    pub fn is_ready(&self, now: EpochSeconds) -> bool {
        let state = self.state();
        state.reload
            || state.has_room_for_more()
            || state.in_time().next().is_some()
            || (state.carries > 0 && !state.dead_letters.is_empty())
            || (state.more_dead_letters && state.dead_letters.is_empty())
            || (state.more_uncounted && state.uncounted.is_empty())
            || !state.late.is_empty()
            || state.next_change.is_some_and(|at| at <= now)
    }

    /// The tail scan has its mark: pages may be read.
    pub fn tail_scan_began(&self) {
        self.tail_scan.send_replace(true);
    }

    /// Waits until the tail scan has its mark.
    pub async fn tail_scan_has_begun(&self) {
        // The sender lives as long as `self`.
        let _ = self.tail_scan.subscribe().wait_for(|began| *began).await;
    }

    /// Adds candidates for late drafts.
    pub fn add_late(&self, candidates: impl Iterator<Item = LateCandidate>) {
        let mut state = self.state();
        let before = state.late.len();
        candidates.for_each(|favour| state.late.add(favour));
        if state.late.len() > before {
            self.changed.notify_one();
        }
    }

    /// Adds candidates that the tail scan found. It serves other lanes too, and does not wait: where there is no room, the open campaigns of
    /// their restaurants are passed again.
    pub fn offer_late(&self, candidates: impl Iterator<Item = LateCandidate>) {
        if self.state().late.len() < MOST_LATE {
            return self.add_late(candidates);
        }
        self.missed(candidates.map(|(restaurant, _)| restaurant));
    }

    /// Somebody who favours one of these restaurants may not be told: their open campaigns are passed again.
    pub fn missed(&self, restaurants: impl Iterator<Item = String>) {
        let mut state = self.state();
        let Missed { restaurants: known, everywhere } = &mut state.missed;
        known.extend(restaurants);
        if known.len() > MOST_MISSED {
            known.clear();
            *everywhere = true;
        }
        let called = *everywhere || !known.is_empty();
        drop(state);
        if called {
            self.call_rescan();
        }
    }

    /// Who candidates any restaurant may have been missed: all open campaigns are passed again.
    pub fn missed_everywhere(&self) {
        self.state().missed.everywhere = true;
        self.call_rescan();
    }

    /// Of which restaurants somebody was missed since this was asked last.
    pub fn take_missed(&self) -> Missed {
        std::mem::take(&mut self.state().missed)
    }

    /// A rescan may be due.
    pub fn call_rescan(&self) {
        self.rescan.notify_one();
    }

    /// Waits until a rescan may be due.
    pub async fn rescan_called(&self) {
        self.rescan.notified().await;
    }

    /// There may be changes to judge.
    pub fn call_judge(&self) {
        self.judge.notify_one();
    }

    /// Waits until there may be changes to judge.
    pub async fn judge_called(&self) {
        self.judge.notified().await;
    }

    /// Waits until there is room for more candidates.
    pub async fn room_for_late(&self) {
        while self.state().late.len() >= MOST_LATE {
            self.room.notified().await;
        }
    }

    /// The candidates of the next round. Those who were judged for some of their campaigns come by themselves, with the last of these.
    pub fn late(&self) -> (Vec<LateCandidate>, Option<String>) {
        let state = self.state();
        match &state.half_judged {
            Some((candidates, upto)) => (candidates.clone(), Some(upto.clone())),
            None => (state.late.oldest(LATE_OF_A_ROUND), None),
        }
    }

    /// The round that judged them is recorded, or there was nobody late among them: they are forgotten, unless it was for their campaigns up to
    /// this one alone.
    pub fn judged_late(&self, candidates: &[LateCandidate], upto: Option<&str>) {
        if candidates.is_empty() {
            return;
        }
        let mut state = self.state();
        state.half_judged = upto.map(|upto| (candidates.to_vec(), upto.to_owned()));
        if upto.is_some() {
            return;
        }
        for favour in candidates {
            state.late.remove(favour);
        }
        self.room.notify_waiters();
        self.room.notify_one();
    }

    /// A round is about to be sealed: the ledger itself looks at every window that was changed so far.
    pub fn forget_windows(&self) {
        let mut state = self.state();
        state.windows.clear();
        state.more_windows = false;
    }

    /// Whether one of these campaigns is not open by the windows that changed since the last seal began. Where they were too many to
    /// remember, one may be: the lane is entered anew then, and looks in the ledger.
    pub fn is_any_shut<'a>(&self, mut ids: impl Iterator<Item = &'a str>, now: EpochSeconds) -> bool {
        let state = self.state();
        state.more_windows || ids.any(|id| state.windows.get(id).is_some_and(|window| !window.is_open(now)))
    }

    /// When the next campaign starts or ends.
    pub fn next_change(&self) -> Option<EpochSeconds> {
        self.state().next_change
    }

    /// Waits until something was added.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether the input position moved since the last round.
    pub fn has_moved(&self) -> bool {
        self.state().moved
    }

    /// The running campaigns of which a round may ask for a page.
    pub fn running(&self) -> Vec<ActiveCampaign> {
        self.state().in_time().cloned().collect()
    }

    /// No page of this restaurant came in time: its campaigns are left out of rounds, for so long at least.
    pub fn overdue(&self, restaurant_id: &str) -> Duration {
        let pause = self.state().overdue.note(restaurant_id, Instant::now());
        self.left_out.notify_one();
        pause
    }

    /// Waits until a restaurant that is left out is to be asked for by itself. It, and behind whom a page of one of its campaigns begins.
    pub async fn left_out(&self) -> (String, Option<String>) {
        loop {
            let next = self.state().overdue.next().map(|(at, restaurant)| (at, restaurant.to_owned()));
            let Some((at, restaurant)) = next else {
                self.left_out.notified().await;
                continue;
            };
            // Another one may be due before it.
            if timeout_at(at, self.left_out.notified()).await.is_ok() {
                continue;
            }
            let mut state = self.state();
            let theirs = |running: &&ActiveCampaign| running.campaign.restaurant_id == restaurant;
            match state.running.values().find(theirs) {
                Some(running) => return (restaurant, running.cursor.clone()),
                None => state.overdue.forget(&restaurant),
            }
        }
    }

    /// A page of this restaurant came that was asked for by itself: rounds may ask again.
    pub fn came_alone(&self, restaurant_id: &str) {
        self.state().overdue.came_alone(restaurant_id);
        self.changed.notify_one();
    }

    /// A round read a page of this restaurant.
    pub fn came(&self, restaurant_id: &str) {
        self.state().overdue.forget(restaurant_id);
    }

    /// How many campaigns run.
    pub fn running_count(&self) -> usize {
        self.state().running.len()
    }

    /// Whether campaigns wait beyond this one.
    pub fn others_wait(&self) -> bool {
        let state = self.state();
        state.in_time().nth(1).is_some() || state.more_running
    }

    /// Waits until a dead letter waits to be published.
    pub async fn letters_wait(&self) {
        while self.waiting_letters() == 0 {
            self.letters.notified().await;
        }
    }

    /// How many dead letters wait, as far as they are remembered.
    pub fn waiting_letters(&self) -> usize {
        self.state().dead_letters.len()
    }

    /// The next round that is planned may carry dead letters, so many at most.
    pub fn carry(&self, most: usize) {
        self.state().carries = most;
        self.changed.notify_one();
    }

    /// Waits until a round with dead letters was recorded, or they were called back.
    pub async fn carried(&self) {
        while self.state().carries > 0 {
            self.letters.notified().await;
        }
    }

    /// The topic of dead letters takes none any more: they wait.
    pub fn call_letters_back(&self) {
        self.state().carries = 0;
        self.letters.notify_one();
    }

    /// The dead letters of the next round, oldest first, bounded in number and bytes; and how many bytes they are.
    pub fn dead_letters(&self) -> (Vec<i64>, usize) {
        let state = self.state();
        let (mut ids, mut total) = (Vec::new(), 0);
        for (id, bytes) in state.dead_letters.iter().take(state.carries.min(LETTERS_OF_A_ROUND)) {
            if !ids.is_empty() && total + bytes > LETTER_BYTES_OF_A_ROUND {
                break;
            }
            ids.push(*id);
            total += bytes;
        }
        (ids, total)
    }

    /// A campaign that is over, and whose untold audience is to be counted; none of those that are left out.
    pub fn uncounted(&self, is_left_out: impl Fn(&str) -> bool) -> Option<Uncounted> {
        let state = self.state();
        state.uncounted.iter().find(|(id, _)| !is_left_out(id)).map(|(_, uncounted)| uncounted.clone())
    }

    /// The ledger knows one more round to be published: what was counted too early may be counted now.
    pub fn settle(&self) {
        self.settled.notify_one();
    }

    /// Waits until the ledger has learned of a publication.
    pub async fn settled(&self) {
        self.settled.notified().await;
    }

    /// It is counted.
    pub fn counted(&self, adv_campaign_id: &str) {
        let mut state = self.state();
        state.uncounted.remove(adv_campaign_id);
        if state.uncounted.is_empty() && state.more_uncounted {
            self.changed.notify_one();
        }
    }

    /// A round was recorded: cursors move, finished campaigns and published dead letters go.
    pub fn advance(&self, content: &RoundContent, quiet: bool) {
        self.turns().recorded(quiet);
        let mut state = self.state();
        state.moved = false;
        for letter in &content.dead_letters {
            state.dead_letters.remove(&letter.id);
        }
        if !content.dead_letters.is_empty() {
            state.carries = 0;
            self.letters.notify_one();
        }
        for part in &content.parts {
            let Some(page) = &part.page else { continue };
            let id = &part.drafts.template.campaign().adv_campaign_id;
            if page.last {
                state.running.remove(id);
            } else if let Some(running) = state.running.get_mut(id)
                && self.guards.hold(Guard::CursorOfRecordedRound)
            {
                running.cursor.clone_from(&page.upto);
            }
        }
    }
}

fn earlier(one: Option<EpochSeconds>, other: Option<EpochSeconds>) -> Option<EpochSeconds> {
    [one, other].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::campaign::Campaign;

    fn campaign(id: &str) -> Arc<Campaign> {
        Arc::new(Campaign {
            adv_campaign_id: id.to_owned(),
            restaurant_id: "r".to_owned(),
            adv_campaign_content: "c".to_owned(),
            adv_campaign_owner: "o".to_owned(),
            adv_campaign_owner_contact: "o".to_owned(),
            window: Window { start: 0, end: 100 },
            datetime_created: 0,
        })
    }

    fn running(id: &str, cursor: Option<&str>) -> ActiveCampaign {
        ActiveCampaign { campaign: campaign(id), revision: 1, cursor: cursor.map(str::to_owned) }
    }

    fn loaded(due: Due) -> LaneBacklog {
        let work = LaneBacklog::unread(Guards::default());
        assert!(work.begin_reload(0));
        work.end_reload(due);
        work
    }

    #[test]
    fn those_that_are_not_held_have_their_first_page_before_the_second_ones_of_those_held() {
        let held = |running: Vec<ActiveCampaign>| loaded(Due { running, more_running: true, ..Due::default() });
        let work = held(vec![running("a", None)]);
        assert!(!work.begin_reload(0), "a waits for its first page");
        work.state().running.insert("a".to_owned(), running("a", Some("x")));
        assert!(work.begin_reload(0), "others may wait for their first page");
        let work = held(vec![running("a", Some("x"))]);
        assert!(!work.begin_reload(0), "everybody had a first page");
    }

    #[test]
    fn ended_campaigns_that_are_not_held_are_loaded_when_those_held_are_counted() {
        let uncounted = vec![Uncounted { campaign: campaign("a"), cancelled: false }];
        let work = loaded(Due { uncounted, more_uncounted: true, ..Due::default() });
        assert!(!work.begin_reload(0));
        assert!(!work.is_ready(0));
        work.counted("a");
        assert!(work.is_ready(0) && work.begin_reload(0));
    }

    #[test]
    fn candidates_are_judged_in_the_order_in_which_they_came() {
        let work = LaneBacklog::default();
        let favour = |client: &str| ("r".to_owned(), client.to_owned());
        work.add_late(["z", "m", "z"].map(favour).into_iter());
        work.add_late(std::iter::once(favour("a")));
        let clients = |work: &LaneBacklog| work.late().0.into_iter().map(|(_, client)| client).collect::<Vec<_>>();
        assert_eq!(clients(&work), ["z", "m", "a"]);
        work.judged_late(&[favour("m")], None);
        work.add_late(std::iter::once(favour("m")));
        assert_eq!(clients(&work), ["z", "a", "m"]);
    }

    #[test]
    fn restaurants_of_candidates_without_room_are_passed_again_and_too_many_mean_all() {
        let work = LaneBacklog::default();
        let candidates = |from: usize, to: usize, restaurant: &'static str| {
            (from..to).map(move |n| (restaurant.to_owned(), n.to_string()))
        };
        work.offer_late(candidates(0, MOST_LATE, "full"));
        assert_eq!(work.take_missed(), Missed::default());
        work.offer_late(candidates(0, 3, "missed"));
        let missed = work.take_missed();
        assert_eq!(
            (missed.everywhere, missed.restaurants.into_iter().collect::<Vec<_>>()),
            (false, vec!["missed".to_owned()])
        );
        assert_eq!(work.take_missed(), Missed::default(), "it is taken once");
        work.missed((0..=MOST_MISSED).map(|n| n.to_string()));
        assert!(work.take_missed().everywhere);
    }

    fn changed(windows: impl IntoIterator<Item = (String, Window)>) -> Taken {
        Taken { windows: windows.into_iter().collect(), ..Taken::default() }
    }

    fn is_shut(work: &LaneBacklog, id: &str, now: EpochSeconds) -> bool {
        work.is_any_shut([id].into_iter(), now)
    }

    #[test]
    fn a_window_that_moved_counts_until_the_ledger_looks_at_it_itself() {
        let work = LaneBacklog::unread(Guards::default());
        let moved = Window { start: 10, end: 20 };
        work.add(changed([("moved".to_owned(), moved), ("cancelled".to_owned(), Window::NEVER)]));
        work.begin_reload(0);
        assert_eq!([9, 10, 19, 20].map(|now| is_shut(&work, "moved", now)), [true, false, false, true]);
        assert!(is_shut(&work, "cancelled", 15) && !is_shut(&work, "another", 20));
        work.forget_windows();
        assert!(!is_shut(&work, "moved", 20));
    }

    #[test]
    fn windows_too_many_to_remember_make_every_campaign_doubtful() {
        let work = LaneBacklog::unread(Guards::default());
        work.add(changed((0..MOST_WINDOWS).map(|number| (number.to_string(), Window::ALWAYS))));
        assert!(!is_shut(&work, "another", 20));
        work.add(changed([("another".to_owned(), Window::ALWAYS)]));
        assert!(is_shut(&work, "any", 0));
    }
}
