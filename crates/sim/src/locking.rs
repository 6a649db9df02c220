//! Feedback rows that somebody's open transaction has locked: the same as `dinnerbell_postgres`'s `ledger::rounds::locked`.

use std::ops::Bound;

use super::world::WorldState;
use crate::tables::{CampaignRow, Database};
use dinnerbell_core::model::campaign::CampaignState;
use dinnerbell_core::model::lock::LockedRows;
use dinnerbell_core::model::number::{Lane, Seconds};

impl Database {
    /// Keeps in mind that the row of a withdrawn draft is locked, if it is.
    pub(super) fn keep_locked_row(&mut self, id: &str, client: &str) -> bool {
        let key = (id.to_owned(), client.to_owned());
        let is_locked = self.locks.contains(&key);
        if is_locked {
            let formed = self.feedback[id][client].trigger_datetime_created;
            self.locked_rows.insert(key, formed);
        }
        is_locked
    }

    /// Whether rows of withdrawn drafts of the lane's campaigns are locked, or were.
    pub(super) fn has_locked_rows(&self, lane: Lane) -> bool {
        self.locked_rows.keys().any(|(id, _)| self.is_of(id, lane))
    }

    fn is_of(&self, id: &str, lane: Lane) -> bool {
        self.campaigns.get(id).is_some_and(|row| row.lane == lane)
    }
}

impl WorldState {
    /// Withdraws those of a lane's locked rows that are free by now, of at most `most` behind one.
    pub(super) fn withdraw_locked(&mut self, lane: Lane, behind: Option<&(String, String)>, most: usize) -> LockedRows {
        let database = &mut self.database;
        let from = (behind.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let of_lane = |key: &(String, String)| database.is_of(&key.0, lane);
        let due: Vec<_> =
            database.locked_rows.range::<(String, String), _>(from).filter(|(key, _)| of_lane(key)).collect();
        let due: Vec<_> = due.into_iter().take(most).map(|(key, formed)| (key.clone(), *formed)).collect();
        let next = due.last().filter(|_| due.len() == most).map(|(key, _)| key.clone());
        let mut rows = LockedRows { next, ..LockedRows::default() };
        for (key, formed) in due {
            let (id, client) = &key;
            let row = database.feedback.get(id).and_then(|rows| rows.get(client));
            let answered = row.filter(|row| row.trigger_datetime_created == formed).map(|row| row.answered);
            if answered == Some(false) && database.locks.contains(&key) {
                continue;
            }
            if answered == Some(false) {
                database.feedback.entry(id.clone()).or_default().remove(client);
            }
            let campaign = database.campaigns.get_mut(id).expect("campaigns with locked rows are not pruned");
            match answered {
                Some(true) => (campaign.kept, rows.kept) = (campaign.kept + 1, rows.kept + 1),
                Some(false) | None => {
                    campaign.is_untold_once_more();
                    rows.gone += 1;
                }
            }
            database.locked_rows.remove(&key);
        }
        if rows.next.is_none() {
            rows.left = database.locked_rows.keys().filter(|(id, _)| database.is_of(id, lane)).count() as u64;
        }
        rows
    }
}

impl CampaignRow {
    /// A client has no row any more: the untold are counted again, or a rescan finds them.
    fn is_untold_once_more(&mut self) {
        self.unsent = None;
        if !matches!(self.state, CampaignState::Expired | CampaignState::Closed | CampaignState::Cancelled) {
            self.repass_at = Some(Seconds::new(0));
        }
    }
}
