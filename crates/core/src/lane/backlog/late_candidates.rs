//! Candidates for late drafts, and the restaurants of those that found no room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::late::Subscription;

/// Most candidates for late drafts that are held at once: beyond that the rescan waits, and what the tail scan brings is left to it.
pub(super) const MAX_LATE: usize = 20_000;
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
}

/// Candidates for late drafts, each once, in the order in which they came: so that nobody waits for those who come after.
#[derive(Debug, Default)]
pub(super) struct LateCandidates {
    known: BTreeMap<Arc<LateCandidate>, u64>,
    by_age: BTreeMap<u64, Arc<LateCandidate>>,
    next: u64,
    /// Candidates that were checked for some of their campaigns: in the order of ids, those up to this one.
    half_checked: Option<(Vec<LateCandidate>, String)>,
}

impl LateCandidates {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.known.len() >= MAX_LATE
    }

    /// Adds candidates. Returns whether any of them is new.
    pub(super) fn add(&mut self, candidates: impl Iterator<Item = LateCandidate>) -> bool {
        let before = self.known.len();
        candidates.for_each(|candidate| self.add_one(candidate));
        self.known.len() > before
    }

    fn add_one(&mut self, candidate: LateCandidate) {
        let candidate = Arc::new(candidate);
        if !self.known.contains_key(&candidate) {
            self.known.insert(Arc::clone(&candidate), self.next);
            self.by_age.insert(self.next, candidate);
            self.next += 1;
        }
    }

    /// Those of the next round, oldest first. Those who were checked for some of their campaigns come by themselves, with the last of these.
    pub(super) fn of_a_round(&self) -> (Vec<LateCandidate>, Option<String>) {
        match &self.half_checked {
            Some((candidates, last_campaign)) => (candidates.clone(), Some(last_campaign.clone())),
            None => (self.oldest(LATE_OF_A_ROUND), None),
        }
    }

    fn oldest(&self, most: usize) -> Vec<LateCandidate> {
        self.by_age.values().take(most).map(|candidate| LateCandidate::clone(candidate)).collect()
    }

    /// These were checked: for their campaigns up to this one, or else for all, and they are forgotten then. Returns whether they are.
    pub(super) fn checked(&mut self, candidates: &[LateCandidate], last_campaign: Option<&str>) -> bool {
        self.half_checked = last_campaign.map(|last_campaign| (candidates.to_vec(), last_campaign.to_owned()));
        if last_campaign.is_some() {
            return false;
        }
        for candidate in candidates {
            if let Some(age) = self.known.remove(candidate) {
                self.by_age.remove(&age);
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

    proptest! {
        #[test]
        fn each_candidate_is_there_once_from_when_it_came_until_it_is_checked(
            steps in prop::collection::vec((prop::collection::vec(0_u16..40, 0..10), 0_usize..10, any::<bool>()), 0..30),
        ) {
            let (mut late, mut waiting) = (LateCandidates::default(), Vec::<LateCandidate>::new());
            for (add, check, half) in steps {
                let before = waiting.len();
                for candidate in add.iter().copied().map(candidate) {
                    if !waiting.contains(&candidate) {
                        waiting.push(candidate);
                    }
                }
                prop_assert_eq!(late.add(add.into_iter().map(candidate)), waiting.len() > before);
                let (mut checked, after) = late.of_a_round();
                if after.is_none() {
                    prop_assert_eq!(&checked, &waiting, "the oldest first");
                    checked.truncate(check);
                }
                if half && !checked.is_empty() {
                    prop_assert!(!late.checked(&checked, Some("campaign")));
                    prop_assert_eq!(late.of_a_round(), (checked, Some("campaign".to_owned())));
                } else {
                    prop_assert!(late.checked(&checked, None));
                    waiting.retain(|candidate| !checked.contains(candidate));
                }
                prop_assert_eq!(late.known.len(), late.by_age.len());
                prop_assert_eq!(late.oldest(usize::MAX), waiting.clone());
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
