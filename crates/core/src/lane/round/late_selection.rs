//! Candidates for late drafts, as a round checks them: how many it has room for, and for which scope. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use crate::lane::backlog::{LateCandidate, TakenCandidate};
use crate::lane::round::quiet_rounds::RoundScope;
use crate::model::clients::Clients;
use crate::model::draft::largest_draft;
use crate::model::late::LateCheckCampaign;
use crate::model::round_capacity::RoundCapacity;

/// Most campaigns for which candidates are checked in one round.
pub(super) const MAX_LATE_CAMPAIGNS: usize = 200;

/// Candidates for late drafts, and the campaigns that they may be late for, by restaurant and id.
#[derive(Default)]
pub(super) struct LateBatch {
    pub(super) candidates: Vec<TakenCandidate>,
    pub(super) open: Vec<LateCheckCampaign>,
    /// Whether there may be further campaigns after those.
    is_cut: bool,
    /// Where the candidates are not checked for all their campaigns: the last one.
    pub(super) last_campaign: Option<String>,
}

impl LateBatch {
    /// Of the first `most` campaigns of the candidates' restaurants. What may come after the last one is left to a later round.
    pub(super) fn of(candidates: Vec<TakenCandidate>, open: Vec<LateCheckCampaign>, most: usize) -> Self {
        let mut late = Self { is_cut: open.len() >= most, candidates, open, last_campaign: None };
        let ends = late.open.last().map(|last| last.restaurant_id.clone());
        let begins = late.open.first().map(|first| first.restaurant_id.clone());
        if late.is_cut {
            if begins != ends {
                late.open.retain(|open| Some(&open.restaurant_id) != ends.as_ref());
                late.is_cut = false;
            }
            let known: BTreeSet<String> = late.open.iter().map(|open| open.restaurant_id.clone()).collect();
            late.candidates.retain(|candidate| known.contains(&candidate.restaurant_id));
        }
        late
    }

    /// Returns how many drafts there are at most, and their bytes: one of each open campaign for each candidate of its restaurant.
    pub(super) fn max_cost(&self) -> RoundCapacity {
        let cost_per_candidate = self.cost_per_candidate();
        let add = |sum: RoundCapacity, candidate: &TakenCandidate| {
            let one =
                cost_per_candidate.get(candidate.restaurant_id.as_str()).copied().unwrap_or(RoundCapacity::NOTHING);
            RoundCapacity { rows: sum.rows + one.rows, bytes: sum.bytes + one.bytes }
        };
        self.candidates.iter().fold(RoundCapacity::NOTHING, add)
    }

    /// Drops the candidates whose drafts do not fit. Where those of a single one do not, some stay with the first of their campaigns only. The next
    /// round goes on after these campaigns.
    pub(super) fn truncate_to(&mut self, capacity: RoundCapacity) {
        let (cost_per_candidate, mut left) = (self.cost_per_candidate(), Some(capacity));
        let fit = self.candidates.iter().take_while(|candidate| {
            let one =
                cost_per_candidate.get(candidate.restaurant_id.as_str()).copied().unwrap_or(RoundCapacity::NOTHING);
            left = left.and_then(|left| left.checked_sub(one.rows, one.bytes));
            left.is_some()
        });
        let fit = fit.count();
        let first =
            self.candidates.iter().find(|candidate| cost_per_candidate.contains_key(candidate.restaurant_id.as_str()));
        let Some(first) = first.map(|candidate| candidate.restaurant_id.clone()) else { return };
        let fits = self.candidates.iter().take(fit).any(|candidate| candidate.restaurant_id == first);
        if fits && !self.is_cut {
            self.candidates.truncate(fit);
        } else {
            self.truncate_campaigns(&first, capacity);
        }
    }

    /// Drops all but some candidates of one restaurant and the first of its campaigns: one of each stays at least.
    fn truncate_campaigns(&mut self, restaurant: &str, capacity: RoundCapacity) {
        self.open.retain(|open| open.restaurant_id == restaurant);
        let (all, mut cost) = (self.open.len(), RoundCapacity::NOTHING);
        let fit = self.open.iter().take_while(|open| {
            cost = RoundCapacity { rows: cost.rows + 1, bytes: cost.bytes + largest_draft(open.texts) };
            cost.rows == 1 || capacity.checked_sub(cost.rows, cost.bytes).is_some()
        });
        let fit = fit.count();
        self.open.truncate(fit);
        let cost = self.cost_per_candidate().get(restaurant).copied().unwrap_or(RoundCapacity::NOTHING);
        let candidates = (capacity.rows / cost.rows.max(1)).min(capacity.bytes / cost.bytes.max(1)).max(1);
        self.candidates.retain(|candidate| candidate.restaurant_id == restaurant);
        self.candidates.truncate(candidates);
        if fit < all || self.is_cut {
            self.last_campaign = self.open.last().map(|last| last.adv_campaign_id.clone());
        }
    }

    /// Whether a round of this scope checks any of them.
    pub(super) fn has_any_in(&self, scope: &RoundScope) -> bool {
        let left = self.left_out_by(scope);
        self.open.iter().any(|open| !left.contains(open.restaurant_id.as_str()))
    }

    /// Those that a round of this scope checks.
    pub(super) fn within(mut self, scope: &RoundScope) -> Self {
        let left: BTreeSet<String> = self.left_out_by(scope).into_iter().map(str::to_owned).collect();
        self.candidates.retain(|candidate| !left.contains(&candidate.restaurant_id));
        self.open.retain(|open| !left.contains(&open.restaurant_id));
        self
    }

    /// The restaurants whose candidates wait for another scope. One is checked for all campaigns of its restaurant at once: while one of those is
    /// being changed, in a quiet round.
    fn left_out_by(&self, scope: &RoundScope) -> BTreeSet<&str> {
        let of_turn = |is: bool| {
            let open = self.open.iter().filter(move |open| scope.includes(&open.adv_campaign_id) == is);
            open.map(|open| open.restaurant_id.as_str())
        };
        let theirs: BTreeSet<&str> = of_turn(true).collect();
        of_turn(false).filter(|restaurant| !scope.quiet || !theirs.contains(restaurant)).collect()
    }

    /// Returns what one candidate of each restaurant may take.
    fn cost_per_candidate(&self) -> BTreeMap<&str, RoundCapacity> {
        let mut cost_per_candidate = BTreeMap::new();
        for open in &self.open {
            let capacity = cost_per_candidate.entry(open.restaurant_id.as_str()).or_insert(RoundCapacity::NOTHING);
            *capacity = RoundCapacity { rows: capacity.rows + 1, bytes: capacity.bytes + largest_draft(open.texts) };
        }
        cost_per_candidate
    }

    /// The candidates of each restaurant.
    pub(super) fn candidates(&self) -> BTreeMap<&str, Clients> {
        let mut candidates = BTreeMap::<&str, Clients>::new();
        for LateCandidate { restaurant_id: restaurant, client_id: client } in self.candidates.iter().map(Deref::deref) {
            candidates.entry(restaurant).or_default().push(client);
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::backlog::LaneBacklog;

    fn open(restaurant: &str, number: usize, texts: usize) -> LateCheckCampaign {
        LateCheckCampaign {
            adv_campaign_id: format!("{restaurant}-{number:05}"),
            restaurant_id: restaurant.to_owned(),
            cursor: None,
            main_pass_over: true,
            told: 0,
            texts,
        }
    }

    /// Checks all candidates round by round, as rounds do, each with this capacity. Returns how often each campaign's candidates were checked, and the
    /// largest round.
    fn check_all(
        open: &[LateCheckCampaign],
        candidates: &[(&str, usize)],
        capacity: RoundCapacity,
    ) -> (BTreeMap<(String, String), usize>, RoundCapacity) {
        let backlog = LaneBacklog::empty(crate::guard::Guards::default());
        for (restaurant, most) in candidates {
            backlog.add_late((0..*most).map(|number| LateCandidate {
                restaurant_id: (*restaurant).to_owned(),
                client_id: format!("c{number:05}"),
            }));
        }
        let (mut checked, mut largest, mut rounds) = (BTreeMap::new(), RoundCapacity::NOTHING, 0);
        loop {
            let (candidates, after) = backlog.late();
            let restaurants: BTreeSet<String> =
                candidates.iter().map(|candidate| candidate.restaurant_id.clone()).collect();
            let of = open.iter().filter(|open| restaurants.contains(&open.restaurant_id));
            let of = of.filter(|open| after.as_ref().is_none_or(|after| open.adv_campaign_id > *after));
            let of: Vec<_> = of.take(MAX_LATE_CAMPAIGNS).cloned().collect();
            if of.is_empty() {
                backlog.checked_late(&candidates, None);
                if backlog.late().0.is_empty() {
                    return (checked, largest);
                }
                continue;
            }
            let mut late = LateBatch::of(candidates, of, MAX_LATE_CAMPAIGNS);
            late.truncate_to(capacity);
            let drafts = late.max_cost();
            largest = RoundCapacity { rows: largest.rows.max(drafts.rows), bytes: largest.bytes.max(drafts.bytes) };
            for LateCandidate { restaurant_id: restaurant, client_id: client } in
                late.candidates.iter().map(Deref::deref)
            {
                for open in late.open.iter().filter(|open| open.restaurant_id == *restaurant) {
                    *checked.entry((open.adv_campaign_id.clone(), client.clone())).or_default() += 1;
                }
            }
            backlog.checked_late(&late.candidates, late.last_campaign.as_deref());
            rounds += 1;
            assert!(rounds < 10_000, "it comes to an end");
        }
    }

    #[test]
    fn newcomers_of_many_campaigns_are_checked_once_for_each_in_rounds_that_are_no_larger_than_others() {
        let campaigns: Vec<_> = (0..120).map(|number| open("r", number, 100)).collect();
        let (checked, largest) =
            check_all(&campaigns, &[("r", 50), ("nobody's", 3)], RoundCapacity { rows: 1_000, bytes: 1 << 30 });
        assert_eq!(checked.len(), 120 * 50);
        assert!(checked.values().all(|times| *times == 1));
        assert!(largest.rows <= 1_000 && largest.rows > 800, "{largest:?}");
    }

    #[test]
    fn where_one_newcomer_has_more_campaigns_than_a_round_has_room_they_are_checked_part_by_part() {
        let campaigns: Vec<_> = (0..450).map(|number| open("r", number, 16 << 10)).collect();
        let capacity = RoundCapacity { rows: 20_000, bytes: 2 << 20 };
        let (checked, largest) = check_all(&campaigns, &[("r", 3)], capacity);
        assert_eq!(checked.len(), 450 * 3);
        assert!(checked.values().all(|times| *times == 1));
        assert!(capacity.checked_sub(largest.rows, largest.bytes).is_some(), "{largest:?}");
    }

    #[test]
    fn restaurants_beyond_the_campaigns_that_are_read_at_once_come_later() {
        let campaigns = |restaurant| (0..150).map(move |number| open(restaurant, number, 100));
        let all: Vec<_> = campaigns("a").chain(campaigns("b")).chain(campaigns("c")).collect();
        let (checked, _) =
            check_all(&all, &[("a", 2), ("b", 2), ("c", 2), ("d", 2)], RoundCapacity::rows_only(100_000));
        assert_eq!(checked.len(), 3 * 150 * 2);
        assert!(checked.values().all(|times| *times == 1));
    }

    #[test]
    fn while_a_campaign_is_being_changed_its_restaurants_candidates_wait_for_a_quiet_round() {
        let mut quiet_rounds = crate::lane::round::quiet_rounds::QuietRounds::default();
        quiet_rounds.overtaken(vec!["r-00001".to_owned()]);
        let quiet = quiet_rounds.next_scope();
        let backlog = LaneBacklog::empty(crate::guard::Guards::default());
        let candidate =
            |restaurant: &str| LateCandidate { restaurant_id: restaurant.to_owned(), client_id: "client".to_owned() };
        backlog.add_late(["r", "s"].map(candidate).into_iter());
        let all = vec![open("r", 0, 1), open("r", 1, 1), open("s", 0, 1)];
        let checked = |scope: &RoundScope| -> Vec<String> {
            let late = LateBatch::of(backlog.late().0, all.clone(), MAX_LATE_CAMPAIGNS);
            assert!(late.has_any_in(scope));
            late.within(scope).candidates.iter().map(|candidate| candidate.restaurant_id.clone()).collect()
        };
        assert_eq!(checked(&quiet), ["r"]);
        assert_eq!(checked(&quiet.complement()), ["s"]);
        assert_eq!(checked(&RoundScope::default()), ["r", "s"]);
    }
}
