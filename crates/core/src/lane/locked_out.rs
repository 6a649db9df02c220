//! Campaigns that a round could not be recorded with, as somebody else's transaction holds a lock on what it would write. They are left out of the
//! rounds, so that the lane's others go on, until that transaction is over. Pure: the time is given.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::model::lock::{LockHolder, LockedCampaign};

/// How soon it is asked whether the holder's transaction is over.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// At the latest, where the holder is known: asking costs nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Where it is not, a round must try, and the others wait for it meanwhile.
const LONGEST_UNKNOWN: Duration = Duration::from_secs(60);

/// What is left out.
#[derive(Debug, Default)]
pub struct LockedOut(BTreeMap<String, Locked>);

#[derive(Debug)]
struct Locked {
    restaurant_id: String,
    holder: Option<LockHolder>,
    backoff: Backoff,
    /// When it is asked for; none where rounds may try it again.
    again: Option<Instant>,
}

impl LockedOut {
    /// A round waited for a lock on what it would write of this campaign, in vain.
    pub fn note(&mut self, campaign: &LockedCampaign, holder: Option<&LockHolder>, now: Instant) {
        let longest = if holder.is_some() { LONGEST_PAUSE } else { LONGEST_UNKNOWN };
        let locked = self.0.entry(campaign.adv_campaign_id.clone()).or_insert_with(|| Locked {
            restaurant_id: campaign.restaurant_id.clone(),
            holder: None,
            backoff: Backoff::new(FIRST_PAUSE, longest),
            again: None,
        });
        locked.holder = holder.cloned();
        locked.again = Some(now + locked.backoff.failed());
    }

    /// The transaction that holds the lock is still open.
    pub fn stays(&mut self, id: &str, now: Instant) {
        if let Some(locked) = self.0.get_mut(id) {
            locked.again = Some(now + locked.backoff.failed());
        }
    }

    /// Whether no round is to hold it.
    pub fn is_out(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|locked| locked.again.is_some())
    }

    /// Whether none is left out.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|locked| locked.again.is_none())
    }

    /// Which one is to be asked for next, when, and whose transaction holds the lock.
    pub fn next(&self) -> Option<(Instant, &str, Option<&LockHolder>)> {
        let waiting =
            self.0.iter().filter_map(|(id, locked)| Some((locked.again?, id.as_str(), locked.holder.as_ref())));
        waiting.min_by_key(|(again, id, _)| (*again, *id))
    }

    /// Rounds may try it again; returns its restaurant. Where nobody knows who held the lock, how often it failed stays known.
    pub fn let_in(&mut self, id: &str) -> Option<String> {
        let locked = self.0.get_mut(id)?;
        locked.again = None;
        let restaurant = locked.restaurant_id.clone();
        if locked.holder.is_some() {
            self.0.remove(id);
        }
        Some(restaurant)
    }

    /// A round holds it.
    pub fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(id: &str) -> LockedCampaign {
        LockedCampaign { adv_campaign_id: id.to_owned(), restaurant_id: format!("r{id}") }
    }

    fn holder() -> LockHolder {
        LockHolder {
            pid: 7,
            role: None,
            application: String::new(),
            address: None,
            since: None,
            transaction: "1/2".to_owned(),
        }
    }

    #[test]
    fn a_campaign_is_left_out_until_its_holder_is_done_and_no_other_is() {
        let (mut out, mut now) = (LockedOut::default(), Instant::now());
        out.note(&campaign("a"), Some(&holder()), now);
        assert!(out.is_out("a") && !out.is_out("b") && !out.is_empty());
        for _ in 0..20 {
            let (again, id, by) = out.next().unwrap();
            assert!(again <= now + LONGEST_PAUSE.mul_f64(1.5), "the end of a transaction shows soon");
            assert_eq!((id, by), ("a", Some(&holder())));
            now = again;
            out.stays("a", now);
        }
        assert_eq!(out.let_in("a").as_deref(), Some("ra"));
        assert!(!out.is_out("a") && out.is_empty() && out.next().is_none());
    }

    #[test]
    fn rounds_try_ever_less_often_where_nobody_knows_who_holds_the_lock() {
        let (mut out, now) = (LockedOut::default(), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            out.note(&campaign("a"), None, now);
            last = out.next().unwrap().0 - now;
            out.let_in("a");
        }
        assert!(last >= LONGEST_UNKNOWN.mul_f64(0.5), "{last:?}");
        out.forget("a");
        out.note(&campaign("a"), None, now);
        assert!(out.next().unwrap().0 - now <= FIRST_PAUSE.mul_f64(1.5));
    }
}
