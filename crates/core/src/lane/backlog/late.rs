//! The backlog's part for late subscribers: candidates come from the tail scan and the rescan, and rounds check them.

use std::collections::BTreeSet;

use crate::lane::backlog::LaneBacklog;
use crate::lane::backlog::late_candidates::{LateCandidate, Missed, TakenCandidate};

impl LaneBacklog {
    /// Lets pages be read: the tail scan has its high-water mark.
    pub fn tail_scan_began(&self) {
        self.wakeups.tail_scan.set();
    }

    /// Waits until the tail scan has its mark.
    pub async fn tail_scan_has_begun(&self) {
        self.wakeups.tail_scan.is_set().await;
    }

    /// Adds candidates for late drafts.
    pub fn add_late(&self, candidates: impl Iterator<Item = LateCandidate>) {
        if self.state().late.add(candidates) {
            self.wakeups.changed.notify();
        }
    }

    /// Adds candidates that the tail scan found. It serves other lanes too, and does not wait: where there is no room, the open campaigns of
    /// their restaurants are rescanned.
    pub fn offer_late(&self, candidates: impl Iterator<Item = LateCandidate>) {
        let (mut missed, mut any_new) = (BTreeSet::new(), false);
        {
            let mut state = self.state();
            for candidate in candidates {
                match state.late.is_full() {
                    true => drop(missed.insert(candidate.restaurant_id)),
                    false => any_new |= state.late.add(std::iter::once(candidate)),
                }
            }
        }
        if any_new {
            self.wakeups.changed.notify();
        }
        if !missed.is_empty() {
            self.missed(missed.into_iter());
        }
    }

    /// Has the open campaigns of these restaurants rescanned: somebody who favours one of them may not be told.
    pub fn missed(&self, restaurants: impl Iterator<Item = String>) {
        let has_more = self.state().missed.add(restaurants);
        if has_more {
            self.notify_rescan();
        }
    }

    /// Has all open campaigns rescanned: who favours any restaurant may have been missed.
    pub fn missed_everywhere(&self) {
        self.state().missed.everywhere = true;
        self.notify_rescan();
    }

    /// Returns of which restaurants somebody was missed since this was asked last, and forgets them.
    pub fn take_missed(&self) -> Missed {
        std::mem::take(&mut self.state().missed)
    }

    /// Wakes the rescan: one may be due.
    pub fn notify_rescan(&self) {
        self.wakeups.rescan.notify();
    }

    /// Waits until a rescan may be due.
    pub async fn wait_for_rescan(&self) {
        self.wakeups.rescan.wait().await;
    }

    /// Waits until there is room for more candidates.
    pub async fn room_for_late(&self) {
        while self.state().late.is_full() {
            self.wakeups.room.wait().await;
        }
    }

    /// Returns the candidates of the next round. Those who were checked for some of their campaigns come by themselves, with the last of these.
    pub fn late(&self) -> (Vec<TakenCandidate>, Option<String>) {
        self.state().late.of_a_round()
    }

    /// Forgets candidates, since the round that checked them is recorded, or nobody among them was late. Where they were checked only for their
    /// campaigns up to this one, they stay. So does who was added again since they were taken.
    pub fn checked_late(&self, candidates: &[TakenCandidate], last_campaign: Option<&str>) {
        if candidates.is_empty() {
            return;
        }
        let forgotten = self.state().late.checked(candidates, last_campaign);
        if forgotten {
            self.wakeups.room.notify_all();
        }
    }
}
