//! Ids that the tail scan ([`super::change_feed`]) has scanned without a row: given to a transaction that is still under way, or to nobody. It asks
//! for them again for a while, since favourites commit out of the order of their ids. Pure: the time is given.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long a gap is asked for again. Transactions that write favourites take seconds; most gaps that are left then were rolled back, and
/// for the others there is the rescan.
const GAP_TTL: Duration = Duration::from_secs(60);
/// Most gaps that are kept: ids may be sparse, and this bounds what a scan costs. The highest are kept, the rescan finds the rest.
const MAX_GAPS: usize = 1_000;

/// The gaps below the tail scan's high-water mark, and when each was scanned.
#[derive(Debug, Default)]
pub struct Gaps(BTreeMap<i64, Instant>);

impl Gaps {
    /// Adds the ids that are missing between these, which are in order: a scan has read everything after `from` up to the last of them.
    pub fn add(&mut self, from: i64, ids: impl DoubleEndedIterator<Item = i64> + Clone, now: Instant) {
        let below = ids.clone().rev().skip(1).chain([from]);
        let missing = ids.rev().zip(below).flat_map(|(id, below)| (below.saturating_add(1)..id).rev());
        self.0.extend(missing.take(MAX_GAPS).map(|id| (id, now)));
        while self.0.len() > MAX_GAPS {
            self.0.pop_first();
        }
    }

    /// Returns the gaps to ask for, and forgets those that have grown old.
    pub fn wanted(&mut self, now: Instant) -> Vec<i64> {
        self.0.retain(|_, scanned| now.saturating_duration_since(*scanned) < GAP_TTL);
        self.0.keys().copied().collect()
    }

    /// Returns the lowest gap that is kept: below it everybody came, or will not.
    pub fn lowest(&self) -> Option<i64> {
        self.0.keys().next().copied()
    }

    /// Forgets the gaps of these ids: they came.
    pub fn filled(&mut self, ids: impl Iterator<Item = i64>) {
        for id in ids {
            self.0.remove(&id);
        }
    }

    /// Forgets the gaps above the high-water mark, which has stepped back: they will be found again.
    pub fn forget_above(&mut self, high_water: i64) {
        self.0.retain(|id, _| *id <= high_water);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gaps after a scan from `from` that read these ids.
    fn noted(from: i64, ids: &[i64]) -> (Gaps, Instant) {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.add(from, ids.iter().copied(), now);
        (gaps, now)
    }

    #[test]
    fn what_is_missing_between_the_marks_of_two_scans_is_a_gap_until_it_is_filled() {
        let (mut gaps, now) = noted(10, &[12, 13, 16]);
        assert_eq!(gaps.wanted(now), [11, 14, 15]);
        gaps.filled([14].into_iter());
        gaps.add(16, [18].into_iter(), now);
        assert_eq!(gaps.wanted(now), [11, 15, 17]);
    }

    #[test]
    fn without_a_missing_id_or_without_rows_there_are_no_gaps() {
        for ids in [&[11, 12, 13][..], &[]] {
            let (mut gaps, now) = noted(10, ids);
            assert!(gaps.wanted(now).is_empty(), "{ids:?}");
        }
    }

    #[test]
    fn a_gap_is_asked_for_a_minute_from_when_it_was_scanned() {
        let (mut gaps, now) = noted(0, &[2]);
        gaps.add(2, [4].into_iter(), now + GAP_TTL / 2);
        assert_eq!(gaps.wanted(now + GAP_TTL - Duration::from_millis(1)), [1, 3]);
        assert_eq!(gaps.wanted(now + GAP_TTL), [3]);
        assert!(gaps.wanted(now + GAP_TTL * 2).is_empty());
    }

    #[test]
    fn of_ids_that_are_sparse_the_highest_gaps_are_kept() {
        let (mut gaps, now) = noted(i64::MIN, &[-5, i64::MAX - 1, i64::MAX]);
        let wanted = gaps.wanted(now);
        assert_eq!((wanted.len(), wanted.last()), (MAX_GAPS, Some(&(i64::MAX - 2))));
        let (mut gaps, now) = noted(0, &[1_001]);
        gaps.add(1_001, [1_003].into_iter(), now);
        let wanted = gaps.wanted(now);
        assert_eq!((wanted.len(), wanted[0], wanted[MAX_GAPS - 1]), (MAX_GAPS, 2, 1_002));
    }

    #[test]
    fn gaps_above_a_mark_that_stepped_back_are_forgotten() {
        let (mut gaps, now) = noted(0, &[2, 4, 6]);
        gaps.forget_above(3);
        assert_eq!(gaps.wanted(now), [1, 3]);
    }
}
