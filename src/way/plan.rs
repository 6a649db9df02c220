//! Which campaigns get how many drafts in the next round. Pure: it knows the clock and the cursors, and touches nothing.
//!
//! Every campaign's first page goes before anyone's second. What is left of the round goes to the campaign with the least time to spare
//! for its remaining audience. So a giant campaign delays a small one by one round, and a stream of small ones slows a giant without
//! stopping it.

use crate::campaign::{EpochSeconds, Window};
use crate::ledger::Running;

/// Rows of a first page while other campaigns wait: most audiences are smaller, and a larger one goes on in the next rounds.
const FIRST_PAGE: usize = 1_000;

/// A campaign as planning sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// When it may be told.
    pub window: Window,
    /// Whether it had its first page.
    pub started: bool,
}

impl From<&Running> for Candidate {
    fn from(running: &Running) -> Self {
        Self { window: running.campaign.window, started: running.cursor.is_some() }
    }
}

/// What a campaign gets in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    /// Its place among the candidates.
    pub campaign: usize,
    /// Most rows of its page.
    pub rows: usize,
}

/// Plans a round of at most `budget` rows. A campaign outside its window gets nothing.
pub fn plan(now: EpochSeconds, budget: usize, candidates: &[Candidate]) -> Vec<Share> {
    let runs = |place: &usize| (candidates[*place].window.start..candidates[*place].window.end).contains(&now);
    let mut places: Vec<usize> = (0..candidates.len()).filter(runs).collect();
    // The earliest end first: how many are left in an audience is not known before its pages are read.
    places.sort_by_key(|place| (candidates[*place].started, candidates[*place].window.end));
    let first = places.iter().filter(|place| !candidates[**place].started).count();
    let alone = places.len() == 1;
    let page = if alone { budget } else { (budget / first.max(1)).clamp(1, FIRST_PAGE) };
    let mut left = budget;
    let mut shares = Vec::new();
    for place in &places[..first] {
        let rows = page.min(left);
        left -= rows;
        shares.push(Share { campaign: *place, rows });
    }
    match places.get(first) {
        Some(next) => shares.push(Share { campaign: *next, rows: left }),
        // Nobody has a second page to come: the rest is shared among the first ones.
        None => shares.iter_mut().for_each(|share| share.rows += left / first.max(1)),
    }
    shares.retain(|share| share.rows > 0);
    shares
}

/// Where a subscriber who was seen beside the main pass stands, by the cursor as this round plans it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Above the cursor: the main pass will find them.
    Ahead,
    /// At or below it, or the main pass is over: they are late, unless they have a draft.
    Behind,
}

/// Judges one subscriber. `K` is ordered as `client_id COLLATE "C"` is, which compares bytes; the service asks SQL for the same decision.
pub fn standing<K: Ord>(client: &K, planned_cursor: Option<&K>, main_pass_over: bool) -> Standing {
    match planned_cursor {
        _ if main_pass_over => Standing::Behind,
        Some(cursor) if client <= cursor => Standing::Behind,
        _ => Standing::Ahead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(started: bool, end: EpochSeconds) -> Candidate {
        Candidate { window: Window { start: 0, end }, started }
    }

    #[test]
    fn one_campaign_alone_gets_the_whole_round() {
        assert_eq!(plan(5, 20_000, &[candidate(true, 9)]), [Share { campaign: 0, rows: 20_000 }]);
        assert_eq!(plan(5, 20_000, &[candidate(false, 9)]), [Share { campaign: 0, rows: 20_000 }]);
    }

    #[test]
    fn a_first_page_goes_before_a_second_one_and_the_giant_gets_the_rest() {
        let shares = plan(5, 5_000, &[candidate(true, 9), candidate(false, 100)]);
        assert_eq!(shares, [Share { campaign: 1, rows: 1_000 }, Share { campaign: 0, rows: 4_000 }]);
    }

    #[test]
    fn the_rest_goes_to_the_campaign_that_ends_first() {
        let shares = plan(5, 100, &[candidate(true, 90), candidate(true, 9)]);
        assert_eq!(shares, [Share { campaign: 1, rows: 100 }]);
    }

    #[test]
    fn nobody_outside_the_window_gets_anything() {
        let later = Candidate { window: Window { start: 6, end: 9 }, started: false };
        assert!(plan(5, 100, &[later, candidate(false, 5)]).is_empty());
    }

    proptest! {
        #[test]
        fn a_plan_is_within_its_budget_and_never_idle(
            budget in 1_usize..50_000,
            campaigns in prop::collection::vec((any::<bool>(), 0_i64..20), 0..50),
        ) {
            let candidates: Vec<_> = campaigns.iter().map(|(started, end)| candidate(*started, *end)).collect();
            let shares = plan(10, budget, &candidates);
            let rows: usize = shares.iter().map(|share| share.rows).sum();
            prop_assert!(rows <= budget);
            prop_assert_eq!(shares.is_empty(), candidates.iter().all(|candidate| candidate.window.end <= 10));
            let waiting = shares.iter().all(|share| candidates[share.campaign].started)
                && candidates.iter().any(|candidate| !candidate.started && candidate.window.end > 10);
            prop_assert!(!waiting, "a second page goes before somebody's first");
        }
    }
}
