//! The campaigns of which rounds may ask for pages, as far as they are held.

use crate::lane::backlog::ledger_cache::LedgerCache;
use crate::lane::locked_out::LockedOut;
use crate::lane::overdue::Overdue;
use crate::model::due::RunningCampaign;
use crate::model::round::PageRange;

/// Most campaigns of a lane that are held in memory at once; further ones wait in the ledger.
pub const MAX_RUNNING: usize = 1_000;

/// The running campaigns of a lane.
#[derive(Debug)]
pub(super) struct RunningCampaigns {
    cache: LedgerCache<String, RunningCampaign>,
    /// Whether one that is not held may have no page yet: it goes before the second pages of those that are held. Only where there are more.
    more_beginners: bool,
    /// Restaurants whose campaigns are left out of rounds, since no page of theirs came in time.
    pub(super) overdue: Overdue,
    /// Campaigns that are left out of rounds, since somebody else holds a lock on what would be written of them.
    pub(super) locked_out: LockedOut,
}

impl Default for RunningCampaigns {
    fn default() -> Self {
        Self {
            cache: LedgerCache::of(MAX_RUNNING),
            more_beginners: false,
            overdue: Overdue::default(),
            locked_out: LockedOut::default(),
        }
    }
}

impl RunningCampaigns {
    /// A campaign started.
    pub(super) fn starts(&mut self, running: RunningCampaign) {
        let held = self.cache.arrives(running.id().to_owned(), running);
        self.more_beginners |= !held;
    }

    /// Adds what the ledger knows: those without a page first.
    pub(super) fn load(&mut self, running: Vec<RunningCampaign>, more: bool) {
        // If the last one has a page, all others that wait have one.
        self.more_beginners |= more && running.last().is_some_and(|last| last.cursor.is_none());
        self.cache.load(running.into_iter().map(|running| (running.id().to_owned(), running)), more);
    }

    /// Drops the campaigns that are held. Who is left out stays known.
    pub(super) fn forget(&mut self) {
        self.cache.forget();
        self.more_beginners = false;
    }

    /// Those that rounds ask for.
    pub(super) fn in_time(&self) -> impl Iterator<Item = &RunningCampaign> {
        let is_left_out = |running: &RunningCampaign| {
            self.overdue.is_out(&running.campaign.restaurant_id) || self.locked_out.is_out(running.id())
        };
        self.cache.cached().values().filter(move |running| !is_left_out(running))
    }

    /// Whether more campaigns wait in the ledger, and there is room for them beside those that are left out.
    pub(super) fn has_room_for_more(&self) -> bool {
        self.cache.has_more() && self.cache.has_room() && self.in_time().next().is_none()
    }

    /// Whether the ledger must be read to go on.
    pub(super) fn is_drained(&self) -> bool {
        let begun = || self.cache.cached().values().all(|running| running.cursor.is_some());
        self.has_room_for_more() || (self.more_beginners && begun())
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.cache.cached().len()
    }

    /// Whether campaigns wait beyond one that a round asks for.
    pub(super) fn others_wait(&self) -> bool {
        self.in_time().nth(1).is_some() || self.cache.has_more()
    }

    /// One campaign of this restaurant.
    pub(super) fn of_restaurant(&self, restaurant_id: &str) -> Option<&RunningCampaign> {
        self.cache.cached().values().find(|running| running.campaign.restaurant_id == restaurant_id)
    }

    /// A page of a campaign was recorded: its cursor moves, if it is to, or it is finished.
    pub(super) fn recorded(&mut self, id: &str, page: &PageRange, cursor_moves: bool) {
        if page.last {
            self.cache.remove(id);
        } else if let Some(running) = self.cache.get_mut(id)
            && cursor_moves
        {
            running.cursor.clone_from(&page.upto);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lane::backlog::tests::running;

    fn page(last: bool) -> PageRange {
        PageRange { after: None, upto: Some("x".to_owned()), last, already_told: Vec::new(), skipped: 0 }
    }

    proptest! {
        #[test]
        fn who_waits_for_a_first_page_is_held_or_read_when_all_that_are_held_had_theirs(
            held in prop::collection::vec((0_usize..30, any::<bool>()), 0..30),
            (more, last_begins) in any::<(bool, bool)>(),
            recorded in prop::collection::vec((0_usize..30, any::<bool>()), 0..30),
        ) {
            let mut all = RunningCampaigns::default();
            let mut read: Vec<_> = held.iter().map(|(n, begun)| running(&n.to_string(), begun.then_some("a"))).collect();
            read.sort_by_key(|running| running.cursor.is_some());
            if last_begins {
                read.push(running("beginner", None));
            }
            all.load(read, more);
            for (number, last) in recorded {
                all.recorded(&number.to_string(), &page(last), true);
                prop_assert!(!all.more_beginners || all.cache.has_more(), "beginners that are not held are more");
            }
            let begun = all.cache.cached().values().all(|running| running.cursor.is_some());
            prop_assert!(!(more && last_begins && begun) || all.is_drained());
            prop_assert!(all.cache.has_more() || !all.is_drained(), "there is nothing to read");
            all.forget();
            prop_assert!(all.len() == 0 && !all.is_drained() && !all.others_wait());
        }
    }
}
