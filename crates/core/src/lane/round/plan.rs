//! Which campaigns get how many drafts in the next round, and which newcomers the main pass will not find. Pure; the models in
//! `crates/sim/tests/model` run these very functions.

use std::cmp::Ordering;

use crate::model::campaign::Window;
use crate::model::due::RunningCampaign;
use crate::model::number::Seconds;
use crate::model::round_capacity::RoundCapacity;

/// Large drafts have at most this part of a round's bytes while others wait for their first page.
const MAX_OF_BYTES: usize = 4;

/// A campaign of the lane whose main pass is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannableCampaign {
    /// When it may be told.
    pub window: Window,
    /// Whether its first page was read.
    pub begun: bool,
    /// How many of its audience come after the cursor, where somebody counted.
    pub remaining: Option<u64>,
    /// What a draft of it takes, as a message and as a row, in bytes; never 0.
    pub size: usize,
}

impl From<&RunningCampaign> for PlannableCampaign {
    fn from(running: &RunningCampaign) -> Self {
        let size = running.campaign.draft_size();
        Self { window: running.campaign.window, begun: running.cursor.is_some(), remaining: None, size }
    }
}

/// First pages are not divided below this many rows: most audiences fit, and who is cut waits behind the giants.
const MIN_PAGE: usize = 200;

/// How large the next page of a campaign may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageQuota {
    /// Which campaign: its place in the list given to [`plan`].
    pub campaign: usize,
    /// The most rows to ask for; never 0.
    pub rows: usize,
}

/// Shares out the next round: what there is room for in all, in the order in which the pages are to be read.
///
/// Every campaign's first page comes before anyone's second. Those that have not begun divide the budget evenly, as long as most audiences fit on
/// such a page. Where all have begun, it goes to the one with least time to spare. A campaign that has not started, or whose end has come, gets
/// nothing.
///
/// Audiences are unknown until they are read, so a page may come back shorter than its quota. Plan again with what is left: leave out the campaigns
/// that are finished, and set `begun` on those just read. Stop when nothing is left or nobody waits. So a small campaign costs a giant one the rows
/// it needs and no more. That a round is shorter while several wait is the caller's: it gives a smaller budget.
///
/// `usual` is how many rows the first pages of this round have had, where some were read. Then as many further pages are named as should fit, each
/// still with room for most audiences. All full, they would be more than the budget: they are taken in their order until the next one does not fit.
/// Nobody is cut for what is left: where it is less than usual, the round is full.
///
/// Where drafts are so large that the room is full before its rows are, a page has as many as its part of the bytes.
pub fn plan(
    now: Seconds,
    capacity: RoundCapacity,
    usual: Option<usize>,
    campaigns: &[PlannableCampaign],
) -> Vec<PageQuota> {
    let mut open: Vec<usize> = (0..campaigns.len()).filter(|&index| campaigns[index].window.is_open(now)).collect();
    open.sort_by(|&a, &b| {
        let (a, b) = (&campaigns[a], &campaigns[b]);
        a.begun.cmp(&b.begun).then_with(|| by_time_to_spare(now, capacity.rows, a, b))
    });
    let sizes = open.iter().map(|&index| &campaigns[index]).take_while(|c| !c.begun).map(|c| c.size);
    let pages = match usual {
        Some(usual) if open.first().is_some_and(|&index| !campaigns[index].begun) => {
            fitting(capacity, usual.max(1), sizes)
        }
        _ => fitting(capacity, MIN_PAGE, sizes).max(1).min(capacity.rows).min(open.len()),
    };
    let least = if usual.is_some() { MIN_PAGE.min(capacity.rows) } else { 0 };
    let even = |place: usize| capacity.rows / pages + usize::from(place < capacity.rows % pages);
    let share = |(place, campaign): (usize, usize)| {
        let size = campaigns[campaign].size.max(1);
        let bytes = (capacity.bytes / pages / size).max(MIN_PAGE.min(of_bytes(capacity, size)));
        PageQuota { campaign, rows: even(place).max(least).min(bytes) }
    };
    open.into_iter().take(pages).enumerate().map(share).filter(|share| share.rows > 0).collect()
}

/// How many pages of this number of rows there is room for, of drafts of these sizes. Nobody's are so large that they need more than their part.
fn fitting(capacity: RoundCapacity, rows: usize, sizes: impl Iterator<Item = usize>) -> usize {
    let left = |left: &mut RoundCapacity, size: usize| {
        let rows = rows.min(of_bytes(capacity, size)).max(1);
        *left = left.checked_sub(rows, rows.saturating_mul(size))?;
        Some(())
    };
    sizes.scan(capacity, left).count()
}

/// How many drafts of this size one page may have while others wait, by the bytes.
fn of_bytes(capacity: RoundCapacity, size: usize) -> usize {
    capacity.bytes / MAX_OF_BYTES / size.max(1)
}

/// Who has fewer seconds left for each client that is not told yet comes first: no speed needs to be known for that. A remaining audience
/// that nobody counted is taken as one more round, so that among such campaigns the nearer end comes first.
fn by_time_to_spare(now: Seconds, round: usize, a: &PlannableCampaign, b: &PlannableCampaign) -> Ordering {
    let left = |c: &PlannableCampaign| i128::from(c.window.end - now);
    let remaining = |c: &PlannableCampaign| i128::from(c.remaining.unwrap_or(round as u64).max(1));
    (left(a) * remaining(b)).cmp(&(left(b) * remaining(a)))
}

/// On which side of the cursor a subscriber is who was seen beside the main pass, by the cursor as this round plans it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CursorSide {
    /// After the cursor: the main pass will find them.
    AfterCursor,
    /// At or before it, or the main pass is over. They are late, unless they have a draft or are on a page of this round.
    AtOrBeforeCursor,
}

/// Returns on which side of the cursor a subscriber is. `K` is ordered as `client_id COLLATE "C"` is; only the database knows that order (its encoding may be another
/// than ours), so the service asks SQL for the same decision, and the models run this one.
pub fn side_of<K: Ord>(client: &K, planned_cursor: Option<&K>, main_pass_over: bool) -> CursorSide {
    match planned_cursor {
        _ if main_pass_over => CursorSide::AtOrBeforeCursor,
        Some(cursor) if client <= cursor => CursorSide::AtOrBeforeCursor,
        _ => CursorSide::AfterCursor,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(start: i64, end: i64, begun: bool, remaining: Option<u64>) -> PlannableCampaign {
        PlannableCampaign {
            window: Window { start: Seconds::new(start), end: Seconds::new(end) },
            begun,
            remaining,
            size: 1,
        }
    }

    fn share(campaign: usize, rows: usize) -> PageQuota {
        PageQuota { campaign, rows }
    }

    #[test]
    fn a_first_page_comes_before_anyones_second() {
        let giant = candidate(0, 100, true, Some(1_000_000));
        let small = candidate(0, 5000, false, None);
        assert_eq!(plan(Seconds::new(10), RoundCapacity::rows_only(20_000), None, &[giant, small]), [share(1, 20_000)]);
    }

    #[test]
    fn what_a_small_campaign_leaves_goes_to_the_giant() {
        let giant = candidate(0, 100, true, Some(1_000_000));
        assert_eq!(plan(Seconds::new(10), RoundCapacity::rows_only(19_900), None, &[giant]), [share(0, 19_900)]);
    }

    #[test]
    fn first_pages_divide_the_budget_to_the_last_row() {
        let new = candidate(0, 100, false, None);
        assert_eq!(
            plan(Seconds::new(10), RoundCapacity::rows_only(1_001), None, &[new; 3]),
            [share(0, 334), share(1, 334), share(2, 333)]
        );
        assert_eq!(
            plan(Seconds::new(10), RoundCapacity::rows_only(401), None, &[new; 3]),
            [share(0, 201), share(1, 200)]
        );
        assert_eq!(plan(Seconds::new(10), RoundCapacity::rows_only(2), None, &[new; 3]), [share(0, 2)]);
    }

    #[test]
    fn what_first_pages_usually_have_says_how_many_more_are_named_with_room_for_most() {
        let new = candidate(0, 100, false, None);
        assert_eq!(
            plan(Seconds::new(10), RoundCapacity::rows_only(1_000), Some(300), &[new; 9]),
            [share(0, 334), share(1, 333), share(2, 333)]
        );
        assert_eq!(plan(Seconds::new(10), RoundCapacity::rows_only(1_000), Some(10), &[new; 9]).len(), 9);
        assert!(
            plan(Seconds::new(10), RoundCapacity::rows_only(1_000), Some(10), &[new; 9])
                .iter()
                .all(|share| share.rows == 200)
        );
        assert_eq!(
            plan(Seconds::new(10), RoundCapacity::rows_only(100), Some(60), &[new; 9]),
            [share(0, 100)],
            "never more than the budget for one"
        );
        assert_eq!(plan(Seconds::new(10), RoundCapacity::rows_only(100), Some(101), &[new; 9]), [], "nobody is cut");
        let begun = candidate(0, 100, true, None);
        assert_eq!(plan(Seconds::new(10), RoundCapacity::rows_only(100), Some(101), &[begun; 2]), [share(0, 100)]);
    }

    #[test]
    fn where_drafts_are_large_the_bytes_are_shared_out() {
        let large = PlannableCampaign { size: 1_000, ..candidate(0, 100, false, None) };
        let capacity = RoundCapacity { rows: 1_000, bytes: 500_000 };
        assert_eq!(plan(Seconds::new(10), capacity, None, &[large; 3]), [share(0, 166), share(1, 166), share(2, 166)]);
        assert_eq!(
            plan(Seconds::new(10), capacity, Some(100), &[large; 3]),
            [share(0, 166), share(1, 166), share(2, 166)]
        );
        let usual = candidate(0, 100, false, None);
        assert_eq!(
            plan(Seconds::new(10), capacity, None, &[large, usual]),
            [share(0, 250), share(1, 500)],
            "a usual one is not cut"
        );
        assert_eq!(plan(Seconds::new(10), RoundCapacity { rows: 1_000, bytes: 999 }, None, &[large]), []);
    }

    #[test]
    fn least_time_to_spare_for_its_remaining_audience_comes_first() {
        let near_and_small = candidate(0, 100, true, Some(10));
        let far_and_large = candidate(0, 1000, true, Some(1_000_000));
        assert_eq!(
            plan(Seconds::new(10), RoundCapacity::rows_only(500), None, &[near_and_small, far_and_large]),
            [share(1, 500)]
        );
    }

    #[test]
    fn where_nobody_counted_the_nearer_end_comes_first() {
        let far = candidate(0, 1000, true, None);
        let near = candidate(0, 100, true, None);
        assert_eq!(plan(Seconds::new(10), RoundCapacity::rows_only(500), None, &[far, near]), [share(1, 500)]);
    }

    #[test]
    fn nothing_before_the_start_or_from_the_end_on() {
        let campaign = candidate(10, 20, false, None);
        assert_eq!(plan(Seconds::new(9), RoundCapacity::rows_only(5), None, &[campaign]), []);
        assert_eq!(plan(Seconds::new(10), RoundCapacity::rows_only(5), None, &[campaign]), [share(0, 5)]);
        assert_eq!(plan(Seconds::new(19), RoundCapacity::rows_only(5), None, &[campaign]), [share(0, 5)]);
        assert_eq!(plan(Seconds::new(20), RoundCapacity::rows_only(5), None, &[campaign]), []);
        assert_eq!(plan(Seconds::new(15), RoundCapacity::rows_only(0), None, &[campaign]), []);
    }

    #[test]
    fn a_newcomer_after_the_planned_cursor_is_left_to_the_main_pass() {
        assert_eq!(side_of(&3, None, false), CursorSide::AfterCursor);
        assert_eq!(side_of(&3, Some(&2), false), CursorSide::AfterCursor);
        assert_eq!(side_of(&3, Some(&3), false), CursorSide::AtOrBeforeCursor);
        assert_eq!(side_of(&3, Some(&2), true), CursorSide::AtOrBeforeCursor);
    }

    prop_compose! {
        fn any_candidate()(start in 0_i64..50, length in 1_i64..50, begun: bool, counted: bool, remaining in 0_u64..1000) -> PlannableCampaign {
            candidate(start, start + length, begun, counted.then_some(remaining))
        }
    }

    proptest! {
        #[test]
        fn the_budget_is_shared_out_whole_and_only_to_open_campaigns(
            now in 0_i64..100,
            budget in 0_usize..50,
            campaigns in prop::collection::vec(any_candidate(), 0..8),
        ) {
            let now = Seconds::new(now);
            let shares = plan(now, RoundCapacity::rows_only(budget), None, &campaigns);
            let open = |c: &PlannableCampaign| c.window.start <= now && now < c.window.end;
            let total: usize = shares.iter().map(|share| share.rows).sum();
            prop_assert_eq!(total, if campaigns.iter().any(open) { budget } else { 0 });
            prop_assert!(shares.iter().all(|share| share.rows > 0 && open(&campaigns[share.campaign])));
            let mut named: Vec<usize> = shares.iter().map(|share| share.campaign).collect();
            named.sort_unstable();
            named.dedup();
            prop_assert_eq!(named.len(), shares.len());
            let new_waits = campaigns.iter().any(|c| open(c) && !c.begun);
            prop_assert!(!new_waits || shares.iter().all(|share| !campaigns[share.campaign].begun));
        }
    }
}
