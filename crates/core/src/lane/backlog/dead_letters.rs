//! The dead letters of a lane that wait to be published, and how many of them the next round may carry.

use crate::lane::backlog::ledger_cache::LedgerCache;
use crate::model::due::{MAX_DEAD_LETTERS, WaitingDeadLetter};

/// Most dead letters of one round.
const DEAD_LETTERS_OF_A_ROUND: usize = 100;
/// Most bytes of dead letters of one round, but for a single larger one.
const DEAD_LETTER_BYTES_OF_A_ROUND: usize = 4 << 20;

/// Dead letters by their number, with their size. Those that are held are the oldest: behind one that is not held, none is.
#[derive(Debug)]
pub(super) struct DeadLetters {
    cache: LedgerCache<i64, usize>,
    /// How many of them the next round may carry.
    carries: usize,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { cache: LedgerCache::of(MAX_DEAD_LETTERS), carries: 0 }
    }
}

impl DeadLetters {
    /// The next one arrives. They come in the order of their numbers.
    pub(super) fn arrives(&mut self, letter: WaitingDeadLetter) {
        if !self.cache.has_more() {
            self.cache.arrives(letter.id, letter.bytes);
        }
    }

    /// Adds what the ledger knows: the oldest.
    pub(super) fn load(&mut self, letters: Vec<WaitingDeadLetter>, more: bool) {
        self.cache.load(letters.into_iter().map(|WaitingDeadLetter { id, bytes }| (id, bytes)), more);
    }

    /// Drops those that are held. What the next round may carry stays.
    pub(super) fn forget(&mut self) {
        self.cache.forget();
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.cache.cached().len()
    }

    /// The next round may carry this many; none where they are called back.
    pub(super) fn carry(&mut self, most: usize) {
        self.carries = most;
    }

    /// Whether the next round may carry any.
    pub(super) fn are_carried(&self) -> bool {
        self.carries > 0
    }

    /// Whether the ledger must be read to go on.
    pub(super) fn is_drained(&self) -> bool {
        self.cache.is_drained()
    }

    /// Whether a round can carry some.
    pub(super) fn is_ready(&self) -> bool {
        self.are_carried() && self.len() > 0
    }

    /// Those of the next round, oldest first, bounded in number and bytes; and how many bytes they are.
    pub(super) fn of_a_round(&self) -> (Vec<i64>, usize) {
        let (mut ids, mut total) = (Vec::new(), 0);
        for (id, bytes) in self.cache.cached().iter().take(self.carries.min(DEAD_LETTERS_OF_A_ROUND)) {
            if !ids.is_empty() && total + bytes > DEAD_LETTER_BYTES_OF_A_ROUND {
                break;
            }
            ids.push(*id);
            total += bytes;
        }
        (ids, total)
    }

    /// A round that carries these was recorded. Returns whether there were any: the next round carries none until it is told to.
    pub(super) fn recorded(&mut self, ids: impl Iterator<Item = i64>) -> bool {
        let mut any = false;
        for id in ids {
            self.cache.remove(&id);
            any = true;
        }
        if any {
            self.carries = 0;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rounds_carry_all_letters_oldest_first_each_once_and_few_at_once(
            sizes in prop::collection::vec(1_usize..3_000_000, 0..150),
            most in 1_usize..200,
        ) {
            let mut letters = DeadLetters::default();
            for (id, bytes) in (0..).zip(&sizes) {
                letters.arrives(WaitingDeadLetter { id, bytes: *bytes });
            }
            prop_assert_eq!(letters.of_a_round(), (Vec::new(), 0), "none before it may");
            let mut carried = Vec::new();
            while letters.len() > 0 {
                letters.carry(most);
                let (ids, bytes) = letters.of_a_round();
                prop_assert!(!ids.is_empty() && ids.len() <= most.min(DEAD_LETTERS_OF_A_ROUND));
                prop_assert!(ids.len() == 1 || bytes <= DEAD_LETTER_BYTES_OF_A_ROUND);
                prop_assert!(letters.recorded(ids.iter().copied()) && !letters.are_carried());
                carried.extend(ids);
            }
            prop_assert!(carried.into_iter().eq(0..sizes.len() as i64));
        }

        #[test]
        fn behind_a_letter_that_is_not_held_none_is(over in 1_i64..50, gone in 0_i64..50) {
            let mut letters = DeadLetters::default();
            let most = MAX_DEAD_LETTERS as i64;
            (0..most + over).for_each(|id| letters.arrives(WaitingDeadLetter { id, bytes: 1 }));
            letters.recorded(0..gone);
            letters.arrives(WaitingDeadLetter { id: most + over, bytes: 1 });
            prop_assert!(letters.cache.cached().keys().copied().eq(gone..most) && letters.cache.has_more());
        }
    }
}
