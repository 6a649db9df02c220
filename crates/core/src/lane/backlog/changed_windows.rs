//! Whether a recorded round may still be published: by the windows that changed since it was sealed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::campaign::Window;
use crate::model::number::Seconds;

/// Most changed windows that are remembered between two rounds.
pub(super) const MAX_WINDOWS: usize = 10_000;

/// The windows that changed since the last seal began. The seal itself checks every window that was changed before it.
#[derive(Debug, Default)]
pub struct ChangedWindows(Mutex<Changed>);

#[derive(Debug, Default)]
struct Changed {
    windows: BTreeMap<String, Window>,
    /// Whether there were too many to remember.
    more: bool,
}

impl ChangedWindows {
    fn changed(&self) -> MutexGuard<'_, Changed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the windows that campaigns have from now on.
    pub fn add(&self, windows: impl Iterator<Item = (String, Window)>) {
        let mut changed = self.changed();
        for (id, window) in windows {
            if changed.windows.len() < MAX_WINDOWS || changed.windows.contains_key(&id) {
                changed.windows.insert(id, window);
            } else {
                changed.more = true;
            }
        }
    }

    /// Forgets all windows, before a round is sealed: the ledger itself checks every window that was changed so far.
    pub fn forget(&self) {
        *self.changed() = Changed::default();
    }

    /// Returns whether one of these campaigns is not open by the windows that changed since the last seal began. Where they were too many to
    /// remember, one may be: the lane is taken over again then, and reads the ledger.
    pub fn is_any_closed<'a>(&self, mut ids: impl Iterator<Item = &'a str>, now: Seconds) -> bool {
        let changed = self.changed();
        changed.more || ids.any(|id| changed.windows.get(id).is_some_and(|window| !window.is_open(now)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_campaign_is_shut_by_the_last_window_that_it_got_and_others_are_not(
            changes in prop::collection::vec((0_u8..10, 0_i64..20, 0_i64..20), 0..40),
            now in 0_i64..20,
        ) {
            let now = Seconds::new(now);
            let (ends, mut last) = (ChangedWindows::default(), BTreeMap::new());
            for (id, start, end) in changes {
                let window = Window { start: Seconds::new(start), end: Seconds::new(end) };
                ends.add(std::iter::once((id.to_string(), window)));
                last.insert(id.to_string(), window);
            }
            for id in (0..12).map(|id| id.to_string()) {
                let shut = last.get(&id).is_some_and(|window| !window.is_open(now));
                prop_assert_eq!(ends.is_any_closed([id.as_str()].into_iter(), now), shut);
            }
            ends.forget();
            prop_assert!(!ends.is_any_closed(last.keys().map(String::as_str), now));
        }
    }

    #[test]
    fn windows_too_many_to_remember_make_every_campaign_doubtful_until_they_are_forgotten() {
        let ends = ChangedWindows::default();
        ends.add((0..=MAX_WINDOWS).map(|number| (number.to_string(), Window::ALWAYS)));
        assert!(ends.is_any_closed(["any"].into_iter(), Seconds::new(0)));
        ends.forget();
        assert!(!ends.is_any_closed(["any"].into_iter(), Seconds::new(0)));
    }
}
