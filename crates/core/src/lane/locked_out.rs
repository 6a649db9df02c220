//! Campaigns that a round could not be recorded with, as somebody else's transaction holds a lock on what it would write. They are left out of the
//! rounds, so that the lane's others go on, until that transaction is over. Pure: the time is given.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::lane::left_out::LeftOut;
use crate::model::lock::{LockHolder, LockedCampaign};

/// How soon the ledger is asked whether the holder's transaction is over.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// At the latest, where the holder is known: asking costs nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Where it is not, a round must try, and the others wait for it meanwhile.
const LONGEST_UNKNOWN: Duration = Duration::from_secs(60);

/// The campaigns that are left out.
pub type LockedOut = LeftOut<Locked>;

/// What is known of a campaign that is left out.
#[derive(Debug, Default)]
pub struct Locked {
    restaurant_id: String,
    /// Whose transaction holds the lock.
    pub holder: Option<LockHolder>,
}

impl LockedOut {
    /// A round waited for a lock on what it would write of this campaign, in vain.
    pub fn note(&mut self, campaign: &LockedCampaign, holder: Option<&LockHolder>, now: Instant) {
        let longest = if holder.is_some() { LONGEST_PAUSE } else { LONGEST_UNKNOWN };
        let locked = Locked { restaurant_id: campaign.restaurant_id.clone(), holder: holder.cloned() };
        self.add(&campaign.adv_campaign_id, locked, Backoff::new(FIRST_PAUSE, longest), now);
    }

    /// Rounds may try it again; returns its restaurant. Where nobody knows who held the lock, how often it failed stays known.
    pub fn let_in(&mut self, id: &str) -> Option<String> {
        let Locked { restaurant_id, holder } = self.allow(id)?;
        let (restaurant, is_known) = (restaurant_id.clone(), holder.is_some());
        if is_known {
            self.forget(id);
        }
        Some(restaurant)
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
            let (again, id, Locked { holder: by, .. }) = out.next().unwrap();
            assert!(again <= now + LONGEST_PAUSE.mul_f64(1.5), "the end of a transaction shows soon");
            assert_eq!((id, by.as_ref()), ("a", Some(&holder())));
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
