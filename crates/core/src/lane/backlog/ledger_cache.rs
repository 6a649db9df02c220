//! A bounded window on what the ledger holds: some of it is in memory, and it is known whether there is more.

use std::borrow::Borrow;
use std::collections::BTreeMap;

/// A bounded part of what the ledger holds. `more`: whether the ledger may have some that are not here.
#[derive(Debug)]
pub(super) struct LedgerCache<K, V> {
    most: usize,
    cached: BTreeMap<K, V>,
    more: bool,
}

impl<K: Ord, V> LedgerCache<K, V> {
    /// Holds nothing yet, and at most this many when one arrives.
    pub(super) fn of(most: usize) -> Self {
        Self { most, cached: BTreeMap::new(), more: false }
    }

    /// The ledger has this one now. Returns whether it is cached; else it waits in the ledger.
    pub(super) fn arrives(&mut self, key: K, value: V) -> bool {
        let fits = self.has_room();
        if fits {
            self.cached.entry(key).or_insert(value);
        } else {
            self.more = true;
        }
        fits
    }

    /// Adds what was read from the ledger, and whether there is more. What arrived meanwhile stays as it is.
    pub(super) fn load(&mut self, read: impl IntoIterator<Item = (K, V)>, more: bool) {
        for (key, value) in read {
            self.cached.entry(key).or_insert(value);
        }
        self.more |= more;
    }

    /// Drops what is cached, and what is known of the rest: the ledger is about to be read.
    pub(super) fn forget(&mut self) {
        self.cached.clear();
        self.more = false;
    }

    /// The ledger is over with this one.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.cached.remove(key);
    }

    /// What is cached, by its key.
    pub(super) fn cached(&self) -> &BTreeMap<K, V> {
        &self.cached
    }

    /// One that is cached.
    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.cached.get_mut(key)
    }

    /// Whether the ledger may have some that are not cached.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// Whether one more is cached when it arrives.
    pub(super) fn has_room(&self) -> bool {
        self.cached.len() < self.most
    }

    /// Whether the ledger must be read to go on: nothing is cached, and there is more.
    pub(super) fn is_drained(&self) -> bool {
        self.cached.is_empty() && self.more
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 5;

    #[derive(Debug, Clone)]
    enum Happens {
        Arrives(u8),
        IsOver(u8),
        /// The ledger is read; these arrive between the reading and its end.
        IsRead(Vec<u8>),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            4 => (0_u8..20).prop_map(Happens::Arrives),
            2 => (0_u8..20).prop_map(Happens::IsOver),
            1 => prop::collection::vec(0_u8..20, 0..8).prop_map(Happens::IsRead),
        ]
    }

    proptest! {
        #[test]
        fn what_the_ledger_has_is_cached_or_there_is_more_and_it_stays_small(all in prop::collection::vec(happens(), 0..60)) {
            let (mut window, mut ledger) = (LedgerCache::of(MOST), BTreeSet::new());
            for happens in all {
                match happens {
                    Happens::Arrives(key) => {
                        ledger.insert(key);
                        window.arrives(key, ());
                    }
                    Happens::IsOver(key) => {
                        ledger.remove(&key);
                        window.remove(&key);
                    }
                    Happens::IsRead(meanwhile) => {
                        window.forget();
                        let read: Vec<u8> = ledger.iter().copied().take(MOST).collect();
                        let more = ledger.len() > MOST;
                        for key in meanwhile {
                            ledger.insert(key);
                            window.arrives(key, ());
                        }
                        window.load(read.into_iter().map(|key| (key, ())), more);
                    }
                }
                prop_assert!(window.cached().keys().all(|key| ledger.contains(key)), "what is cached is there");
                prop_assert!(window.has_more() || window.cached().len() == ledger.len(), "nothing is forgotten");
                prop_assert!(window.cached().len() <= 2 * MOST);
                prop_assert_eq!(window.is_drained(), window.cached().is_empty() && window.has_more());
            }
        }
    }
}
