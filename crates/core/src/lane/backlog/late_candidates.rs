//! Candidates for late drafts, and the restaurants of those that found no room.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use crate::model::late::Subscription;

/// Most bytes of candidates for late drafts that a lane holds: beyond that the rescan waits, and what the tail scan brings is left to it. A page of the
/// rescan may come on top.
pub(super) const MAX_LATE_BYTES: usize = 1 << 20;
/// What a candidate takes beside its texts: its places in two maps, and what the allocations cost.
const BESIDE_TEXTS: usize = 160;
/// Most candidates that one round checks.
const LATE_OF_A_ROUND: usize = 2_000;
/// Most restaurants of which it is remembered that somebody was missed; beyond that it may be any.
pub(super) const MAX_MISSED: usize = 1_000;

/// Somebody who favours a restaurant: a candidate for a late draft of each of its open campaigns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LateCandidate {
    /// The restaurant that is favoured.
    pub restaurant_id: String,
    /// The client that favours it.
    pub client_id: String,
}

impl LateCandidate {
    /// The candidate that a subscription makes.
    pub fn of(subscription: &Subscription) -> Self {
        Self { restaurant_id: subscription.restaurant_id.clone(), client_id: subscription.client_id.clone() }
    }

    /// What it takes in memory.
    pub(super) fn size(&self) -> usize {
        self.restaurant_id.len() + self.client_id.len() + BESIDE_TEXTS
    }
}

/// A candidate as a round took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenCandidate {
    candidate: Arc<LateCandidate>,
    /// When they had been seen last.
    seen: u64,
}

impl Deref for TakenCandidate {
    type Target = LateCandidate;

    fn deref(&self) -> &LateCandidate {
        &self.candidate
    }
}

/// Where a candidate stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    age: u64,
    /// When they were seen last: a candidate that is seen again while a round checks it is checked again.
    seen: u64,
}

/// Candidates for late drafts, each once, in the order in which they came: so that nobody waits for those who come after.
#[derive(Debug, Default)]
pub(super) struct LateCandidates {
    known: BTreeMap<Arc<LateCandidate>, Place>,
    by_age: BTreeMap<u64, Arc<LateCandidate>>,
    /// Of all of them.
    bytes: usize,
    next: u64,
    /// Candidates that were checked for some of their campaigns: in the order of ids, those up to this one.
    half_checked: Option<(Vec<TakenCandidate>, String)>,
}

impl LateCandidates {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_LATE_BYTES
    }

    /// Adds candidates. Returns whether any of them is new.
    pub(super) fn add(&mut self, candidates: impl Iterator<Item = LateCandidate>) -> bool {
        let before = self.known.len();
        candidates.for_each(|candidate| self.add_one(candidate));
        self.known.len() > before
    }

    fn add_one(&mut self, candidate: LateCandidate) {
        let (candidate, seen) = (Arc::new(candidate), self.next);
        self.next += 1;
        match self.known.get_mut(&candidate) {
            Some(place) => place.seen = seen,
            None => {
                self.known.insert(Arc::clone(&candidate), Place { age: seen, seen });
                self.bytes += candidate.size();
                self.by_age.insert(seen, candidate);
            }
        }
    }

    /// Those of the next round, oldest first. Those who were checked for some of their campaigns come by themselves, with the last of these.
    pub(super) fn of_a_round(&self) -> (Vec<TakenCandidate>, Option<String>) {
        match &self.half_checked {
            Some((candidates, last_campaign)) => (candidates.clone(), Some(last_campaign.clone())),
            None => (self.oldest(LATE_OF_A_ROUND), None),
        }
    }

    fn oldest(&self, most: usize) -> Vec<TakenCandidate> {
        let taken = |candidate: &Arc<LateCandidate>| {
            let seen = self.known.get(candidate)?.seen;
            Some(TakenCandidate { candidate: Arc::clone(candidate), seen })
        };
        self.by_age.values().take(most).filter_map(taken).collect()
    }

    /// These were checked: for their campaigns up to this one, or else for all. Then they are forgotten, but for those who were seen again since the
    /// round took them: they may have left before a page was read, and come back behind it. Returns whether they are.
    pub(super) fn checked(&mut self, candidates: &[TakenCandidate], last_campaign: Option<&str>) -> bool {
        self.half_checked = last_campaign.map(|last_campaign| (candidates.to_vec(), last_campaign.to_owned()));
        if last_campaign.is_some() {
            return false;
        }
        for TakenCandidate { candidate, seen } in candidates {
            if let Some(place) = self.known.get(candidate).copied().filter(|place| place.seen == *seen) {
                self.known.remove(candidate);
                self.by_age.remove(&place.age);
                self.bytes -= candidate.size();
            }
        }
        true
    }
}

/// Of which restaurants candidates of the tail scan found no room.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Restaurants of candidates that found no room.
    pub restaurants: BTreeSet<String>,
    /// There were too many to name them: it may be any restaurant.
    pub everywhere: bool,
}

impl Missed {
    /// Adds restaurants; too many mean all. Returns whether any is known by now.
    pub(super) fn add(&mut self, restaurants: impl Iterator<Item = String>) -> bool {
        self.restaurants.extend(restaurants);
        if self.restaurants.len() > MAX_MISSED {
            self.restaurants.clear();
            self.everywhere = true;
        }
        self.everywhere || !self.restaurants.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(number: u16) -> LateCandidate {
        LateCandidate { restaurant_id: format!("r{}", number % 3), client_id: format!("c{number}") }
    }

    fn untaken(taken: &[TakenCandidate]) -> Vec<LateCandidate> {
        taken.iter().map(|taken| LateCandidate::clone(taken)).collect()
    }

    #[test]
    fn who_is_seen_again_while_a_round_checks_them_is_checked_again() {
        let mut late = LateCandidates::default();
        late.add([1, 2].map(candidate).into_iter());
        let (first, _) = late.of_a_round();
        assert!(!late.add(std::iter::once(candidate(1))), "they are known");
        late.checked(&first, None);
        let (second, _) = late.of_a_round();
        assert_eq!(untaken(&second), [candidate(1)]);
        late.checked(&second, None);
        assert!(late.is_empty());
    }

    #[test]
    fn candidates_are_bounded_in_bytes_whatever_their_ids() {
        for length in [8, 256] {
            let mut late = LateCandidates::default();
            let candidate =
                |number| LateCandidate { restaurant_id: "r".repeat(length), client_id: format!("{number:0length$}") };
            let most =
                (0..).take_while(|number| !late.is_full() && late.add(std::iter::once(candidate(*number)))).count();
            let bytes = most * (2 * length + BESIDE_TEXTS);
            assert!(
                (MAX_LATE_BYTES..MAX_LATE_BYTES + 1_000).contains(&bytes),
                "{most} candidates with ids of {length}"
            );
        }
    }

    proptest! {
        #[test]
        fn each_candidate_is_there_once_from_when_it_came_until_it_is_checked(
            steps in prop::collection::vec(
                (prop::collection::vec(0_u16..40, 0..10), 0_usize..10, any::<bool>(), prop::option::of(0_u16..40)),
                0..30,
            ),
        ) {
            let (mut late, mut waiting) = (LateCandidates::default(), Vec::<LateCandidate>::new());
            let mut seen_again = BTreeSet::new();
            for (add, check, half, again) in steps {
                let before = waiting.len();
                for candidate in add.iter().copied().map(candidate) {
                    match waiting.contains(&candidate) {
                        true => drop(seen_again.insert(candidate)),
                        false => waiting.push(candidate),
                    }
                }
                prop_assert_eq!(late.add(add.into_iter().map(candidate)), waiting.len() > before);
                let (mut checked, after) = late.of_a_round();
                if after.is_none() {
                    prop_assert_eq!(&untaken(&checked), &waiting, "the oldest first");
                    checked.truncate(check);
                    seen_again.clear();
                }
                let again = again.map(candidate).filter(|candidate| waiting.contains(candidate));
                late.add(again.iter().cloned());
                seen_again.extend(again);
                if half && !checked.is_empty() {
                    prop_assert!(!late.checked(&checked, Some("campaign")));
                    prop_assert_eq!(late.of_a_round(), (checked, Some("campaign".to_owned())));
                } else {
                    prop_assert!(late.checked(&checked, None));
                    let checked = untaken(&checked);
                    waiting.retain(|candidate| !checked.contains(candidate) || seen_again.contains(candidate));
                }
                prop_assert_eq!(late.known.len(), late.by_age.len());
                prop_assert_eq!(late.bytes, waiting.iter().map(LateCandidate::size).sum::<usize>());
                prop_assert_eq!(untaken(&late.oldest(usize::MAX)), waiting.clone());
                prop_assert_eq!(late.is_empty(), waiting.is_empty());
            }
        }

        #[test]
        fn a_restaurant_of_which_somebody_was_missed_is_named_or_it_may_be_any(
            added in prop::collection::vec(0_usize..5_000, 0..5),
        ) {
            let (mut missed, mut all) = (Missed::default(), BTreeSet::new());
            for many in added {
                let restaurants = || (0..many).map(|number| format!("{number}"));
                all.extend(restaurants());
                prop_assert_eq!(missed.add(restaurants()), !all.is_empty());
                prop_assert!(missed.everywhere || missed.restaurants == all);
                prop_assert!(missed.restaurants.len() <= MAX_MISSED);
            }
        }
    }
}
