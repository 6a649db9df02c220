//! What an instance polls on behalf of all its lanes, so that the cost of waiting grows neither with them nor with what they hold:
//!
//! - the tail scan: about once a second, the favourites that were added, and those that fill a gap which it left; each is handed to the lanes in
//!   which its restaurant has an open campaign;
//! - the poll: five times a second, whether any of the lanes has changes to apply or a due rescan, or is lost. A lane is lost when somebody else took
//!   it, or when the database failed over to a server that lost commits. A lane that has nothing to do would not notice by itself.
//!
//! There is no task for it. Each lane has a future that waits for its turn. The lane whose turn it is polls on behalf of all. When that lane
//! ends, the next one goes on from there. So the end of one lane ends nothing of the others.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::guard::{Guard, Guards};
use crate::instance::id_gaps::Gaps;
use crate::lane::backlog::{LaneBacklog, LateCandidate};
use crate::model::late::Subscription;
use crate::model::number::Lane;
use crate::model::ownership::Ownership;

/// Ids below the newest one that are read again when the tail scan begins, or a lane comes: transactions that are under way.
const OVERLAP: i64 = 1_000;

/// How many ids a tail scan steps back at most, for lanes that another instance scanned. The rescan finds what came before that.
const MAX_STEP_BACK: i64 = 200_000;
/// How long it takes, as a rule, until a candidate of the tail scan has a draft. A new owner goes on where this one was that long ago.
const HAND_ON_TIME: Duration = Duration::from_secs(2);
/// The tail scan steps back for a lane at most once in this time. Else a lane that is taken over again and again would keep it behind. The rescan
/// after a takeover finds the subscribers that this misses.
const STEP_BACK_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is checked whether the ids restarted below the high-water mark.
const ID_RESTART_CHECK: Duration = Duration::from_secs(3);

/// The lanes of an instance that poll together.
#[derive(Debug, Default)]
pub struct ChangeFeed {
    state: Mutex<FeedState>,
    pub(super) leader: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct FeedState {
    lanes: BTreeMap<Lane, RegisteredLane>,
    /// The highest id up to which the tail scan has read; none before its first scan.
    high_water: Option<i64>,
    /// The highest id scanned since the start.
    max_scanned_id: i64,
    /// When it was last checked whether the ids restarted.
    checked_id_restart: Option<Instant>,
    /// When the tail scan went back for each lane.
    stepped_back: BTreeMap<Lane, Instant>,
    /// Ids up to the high-water mark that had no row when they were scanned.
    gaps: Gaps,
    /// Lanes for which the tail scan has not stepped back yet to where that of their former owner was.
    lanes_to_backfill: BTreeSet<Lane>,
    /// The id up to which everybody was handed on, and when it was taken. It is persisted for the next owner once it is old enough.
    progress_sample: Option<(Instant, i64)>,
    /// The id that was persisted last.
    persisted_id: Option<i64>,
    /// Whether pages were read without a high-water mark, since the tail scan was refused.
    started_degraded: bool,
}

/// A registered lane, as it was acquired.
#[derive(Debug)]
struct RegisteredLane {
    own: Ownership,
    backlog: Arc<LaneBacklog>,
}

/// The registration of a lane, until it is dropped.
#[derive(Debug)]
pub struct LaneRegistration<'a> {
    change_feed: &'a ChangeFeed,
    lane: Lane,
}

impl ChangeFeed {
    fn state(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a lane until the return value is dropped. The tail scan then hands the lane every subscriber who is added after the lane read a
    /// page. A tail scan that runs already reads the last ids once more, because transactions may have committed out of order before the lane came.
    /// Many lanes that come together set it back no further than one.
    pub fn register(&self, own: Ownership, backlog: Arc<LaneBacklog>, guards: Guards) -> LaneRegistration<'_> {
        let lane = own.lane;
        let mut state = self.state();
        let FeedState { high_water, gaps, max_scanned_id, .. } = &mut *state;
        if let Some(high_water) = high_water {
            if guards.enabled(Guard::HighWaterStepsBack) {
                *high_water = overlapped(*max_scanned_id).min(*high_water);
            }
            gaps.forget_above(*high_water);
            backlog.tail_scan_began();
        }
        let now = Instant::now();
        state.stepped_back.retain(|_, at| now.saturating_duration_since(*at) < STEP_BACK_INTERVAL);
        if let Entry::Vacant(first) = state.stepped_back.entry(lane) {
            first.insert(now);
            state.lanes_to_backfill.insert(lane);
        }
        (state.progress_sample, state.persisted_id) = (None, None);
        state.lanes.insert(lane, RegisteredLane { own, backlog });
        LaneRegistration { change_feed: self, lane }
    }

    pub(super) fn lanes(&self) -> Vec<Lane> {
        self.state().lanes.keys().copied().collect()
    }

    pub(super) fn owned(&self) -> Vec<Ownership> {
        self.state().lanes.values().map(|registered| registered.own).collect()
    }

    /// Waits until every lane has room for candidates.
    pub(super) async fn room(&self) {
        let lanes: Vec<_> = self.state().lanes.values().map(|registered| Arc::clone(&registered.backlog)).collect();
        for backlog in lanes {
            backlog.room_for_late().await;
        }
    }

    pub(super) fn high_water(&self) -> Option<i64> {
        self.state().high_water
    }

    /// Returns the gaps to ask for.
    pub(super) fn gaps(&self) -> Vec<i64> {
        self.state().gaps.wanted(Instant::now())
    }

    /// Begins the tail scan below this id: pages may be read.
    pub(super) fn begin(&self, newest: i64) {
        let mut state = self.state();
        state.restart_at(overlapped(newest));
        state.lanes.values().for_each(|registered| registered.backlog.tail_scan_began());
    }

    /// Returns whether it is time to check whether the ids restarted, where the tail scan finds nobody above its high-water mark.
    pub(super) fn checks_id_restart(&self, now: Instant) -> bool {
        let checked = &mut self.state().checked_id_restart;
        let is_time = checked.is_none_or(|at| now.saturating_duration_since(at) >= ID_RESTART_CHECK);
        if is_time {
            *checked = Some(now);
        }
        is_time
    }

    /// The table's largest id is this one. If it is below the high-water mark, rows were deleted, or the table was emptied and its ids restarted. The
    /// high-water mark goes down to it. Where that is far, all audiences are rescanned, since everybody below it may be new. Returns whether it went
    /// down.
    pub(super) fn step_down(&self, from: i64, newest: i64) -> bool {
        let mut state = self.state();
        if state.high_water != Some(from) || newest >= from {
            return false;
        }
        state.restart_at(overlapped(newest));
        if newest < overlapped(from) {
            tracing::warn!(
                newest,
                high_water = from,
                "the subscribers' ids restarted, or many rows were deleted: the audiences of all open campaigns are read again"
            );
            state.lanes.values().for_each(|registered| registered.backlog.missed_everywhere());
        }
        true
    }

    /// Lets lanes read pages though the tail scan is refused, or not answered. Until it has its high-water mark, rescans find whom it misses.
    pub(super) fn start_degraded(&self) {
        let mut state = self.state();
        state.started_degraded = true;
        state.lanes.values().for_each(|registered| registered.backlog.tail_scan_began());
    }

    /// Has all open campaigns rescanned after a degraded start. That finds who came after a page and before the high-water mark.
    pub(super) fn rescan_after_degraded_start(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.started_degraded) {
            state.lanes.values().for_each(|registered| registered.backlog.missed_everywhere());
        }
    }

    pub(super) fn lanes_to_backfill(&self) -> Vec<Lane> {
        self.state().lanes_to_backfill.iter().copied().collect()
    }

    /// Sets the tail scan back to where that of the lanes' former owners was, if that is not too far.
    pub(super) fn step_back(&self, lanes: &[Lane], scanned_to: Option<i64>) {
        let mut state = self.state();
        for lane in lanes {
            state.lanes_to_backfill.remove(lane);
        }
        let (Some(high_water), Some(scanned_to)) = (state.high_water, scanned_to.map(overlapped)) else { return };
        if (high_water.saturating_sub(MAX_STEP_BACK)..high_water).contains(&scanned_to) {
            state.high_water = Some(scanned_to);
            state.gaps.forget_above(scanned_to);
        }
    }

    /// Returns the lanes, and the id up to which their next owners need not scan; none where nothing is to be persisted now.
    pub(super) fn to_note(&self, now: Instant) -> Option<(Vec<Lane>, i64)> {
        let mut state = self.state();
        let high_water = state.high_water?;
        let handed_on = state.gaps.lowest().map_or(high_water, |gap| high_water.min(gap - 1));
        let (at, sampled) = *state.progress_sample.get_or_insert((now, handed_on));
        if now.saturating_duration_since(at) < HAND_ON_TIME || !state.lanes_to_backfill.is_empty() {
            return None;
        }
        state.progress_sample = Some((now, handed_on));
        (state.persisted_id != Some(sampled)).then(|| (state.lanes.keys().copied().collect(), sampled))
    }

    pub(super) fn persisted(&self, upto: i64) {
        self.state().persisted_id = Some(upto);
    }

    /// Advances the high-water mark from `from` to the last id above it: everybody up to there, and who fills a gap, was handed on. Where a lane came
    /// meanwhile, the mark is further back than `from`, and stays there.
    pub(super) fn advance(&self, from: i64, above: &[i64], filled: &[Subscription], guards: Guards) {
        let mut state = self.state();
        state.gaps.filled(filled.iter().map(|favourite| favourite.id));
        let Some(last) = above.last() else { return };
        if state.high_water == Some(from) || !guards.enabled(Guard::SteppedBackHighWaterStays) {
            state.high_water = Some(*last);
            state.max_scanned_id = state.max_scanned_id.max(*last);
            state.gaps.add(from, above.iter().copied(), Instant::now());
        }
    }

    /// Hands each favourite to the lanes in which its restaurant has an open campaign.
    pub(super) fn hand_on(&self, found: &[Subscription], open: &[(Lane, String)]) {
        let state = self.state();
        for (lane, RegisteredLane { backlog, .. }) in &state.lanes {
            let restaurants: BTreeSet<&str> =
                open.iter().filter(|(of, _)| of == lane).map(|(_, restaurant)| restaurant.as_str()).collect();
            let theirs = found.iter().filter(|favourite| restaurants.contains(favourite.restaurant_id.as_str()));
            backlog.offer_late(theirs.map(LateCandidate::of));
        }
    }

    pub(super) fn for_each(&self, lanes: &[Lane], tell: impl Fn(&LaneBacklog)) {
        let state = self.state();
        lanes.iter().filter_map(|lane| state.lanes.get(lane)).for_each(|registered| tell(&registered.backlog));
    }

    /// Lanes that are not as they were registered. One that was taken over again meanwhile is left alone.
    pub(super) fn mark_lost(&self, asked: &[Ownership], lanes: &[Lane]) {
        let state = self.state();
        let still = |lane: &&Lane| state.lanes.get(lane).filter(|registered| asked.contains(&registered.own));
        lanes.iter().filter_map(|lane| still(&lane)).for_each(|registered| registered.backlog.mark_lost());
    }
}

impl FeedState {
    /// Sets the tail scan to this id, as one that begins.
    fn restart_at(&mut self, high_water: i64) {
        self.high_water = Some(high_water);
        self.max_scanned_id = high_water;
        self.gaps.forget_above(high_water);
        (self.progress_sample, self.persisted_id) = (None, None);
    }
}

fn overlapped(id: i64) -> i64 {
    id.saturating_sub(OVERLAP).max(0)
}

impl Drop for LaneRegistration<'_> {
    fn drop(&mut self) {
        let mut state = self.change_feed.state();
        state.lanes.remove(&self.lane);
        state.lanes_to_backfill.remove(&self.lane);
        // Without a lane nobody scans on, and the mark grows old: the next lane begins at the newest id.
        if state.lanes.is_empty() {
            state.high_water = None;
            state.max_scanned_id = 0;
            state.gaps = Gaps::default();
            (state.progress_sample, state.persisted_id) = (None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::number::{Epoch, Micros};

    fn register(change_feed: &ChangeFeed, lane: Lane) -> (LaneRegistration<'_>, Arc<LaneBacklog>) {
        let backlog = Arc::new(LaneBacklog::empty(Guards::default()));
        let own =
            Ownership { lane, epoch: Epoch::new(1), server_started_at: Micros::new(1), lock_key: lane.get().into() };
        (change_feed.register(own, Arc::clone(&backlog), Guards::default()), backlog)
    }

    /// A lane is registered, and everybody up to this id was handed on.
    fn scanned_to(change_feed: &ChangeFeed, id: i64) -> LaneRegistration<'_> {
        let (registration, _) = register(change_feed, Lane::new(0));
        change_feed.step_back(&[Lane::new(0)], None);
        change_feed.begin(id - 10);
        let ids: Vec<i64> = (change_feed.high_water().unwrap() + 1..=id).collect();
        change_feed.advance(change_feed.high_water().unwrap(), &ids, &[], Guards::default());
        assert_eq!(change_feed.high_water(), Some(id));
        registration
    }

    #[tokio::test(start_paused = true)]
    async fn many_lanes_that_are_taken_over_again_and_again_set_the_tail_scan_back_no_further_than_one() {
        let change_feed = ChangeFeed::default();
        let _registration = scanned_to(&change_feed, 500_000);
        let mut asked = 0;
        for _ in 0..20 {
            for lane in 1..=50 {
                let _again = register(&change_feed, Lane::new(lane));
                let lanes = change_feed.lanes_to_backfill();
                asked += lanes.len();
                // Its former owner noted nothing for long.
                change_feed.step_back(&lanes, Some(499_500));
                assert!(change_feed.high_water().unwrap() >= 499_500 - OVERLAP, "{:?}", change_feed.high_water());
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(asked, 50, "once a minute it goes back to where each lane's former owner stood");
        tokio::time::advance(STEP_BACK_INTERVAL).await;
        let _again = register(&change_feed, Lane::new(1));
        assert_eq!(change_feed.lanes_to_backfill(), [Lane::new(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_high_water_mark_steps_down_to_ids_that_restarted_and_all_is_passed_again_where_that_is_far() {
        let change_feed = ChangeFeed::default();
        let registration = scanned_to(&change_feed, 500_000);
        let (_other, backlog) = register(&change_feed, Lane::new(1));
        change_feed.advance(change_feed.high_water().unwrap(), &[500_000], &[], Guards::default());
        assert!(change_feed.checks_id_restart(Instant::now()) && !change_feed.checks_id_restart(Instant::now()));
        assert!(!change_feed.step_down(500_000, 500_000) && !change_feed.step_down(500_000, 500_001));
        // The last rows were deleted.
        assert!(change_feed.step_down(500_000, 499_999));
        assert_eq!((change_feed.high_water(), backlog.take_missed().everywhere), (Some(499_999 - OVERLAP), false));
        let from = change_feed.high_water().unwrap();
        assert!(change_feed.step_down(from, 3_000));
        assert_eq!((change_feed.high_water(), backlog.take_missed().everywhere), (Some(3_000 - OVERLAP), true));
        let _another = register(&change_feed, Lane::new(2));
        assert_eq!(change_feed.high_water(), Some(3_000 - 2 * OVERLAP), "what was reached before is history");
        drop(registration);
    }
}
