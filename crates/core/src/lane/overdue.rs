//! Restaurants of which no page could be read in time. Their campaigns are left out of the rounds, so that the lane's others do not wait for them.
//! Each such restaurant is asked for alone, each time later, until a page comes. Pure: the time is given.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::lane::left_out::LeftOut;

/// How long a restaurant is left alone at first; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long it is left alone at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The restaurants that are left out.
pub type Overdue = LeftOut<()>;

impl Overdue {
    /// No page of this restaurant came in time. How long it is left alone.
    pub fn note(&mut self, restaurant: &str, now: Instant) -> Duration {
        self.add(restaurant, (), Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), now)
    }

    /// A page came that was asked for by itself: rounds may ask again.
    pub fn came_alone(&mut self, restaurant: &str) {
        self.allow(restaurant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overdue_again_and_again_is_asked_for_ever_later_and_never_forgotten() {
        let (mut overdue, now) = (Overdue::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..20 {
            pauses.push(overdue.note("slow", now));
            assert!(overdue.is_out("slow") && !overdue.is_out("other"));
            let (again, restaurant, ()) = overdue.next().unwrap();
            assert_eq!((again, restaurant), (now + pauses[pauses.len() - 1], "slow"));
        }
        assert!(pauses[0] <= FIRST_PAUSE.mul_f64(1.5) && pauses[19] >= LONGEST_PAUSE.mul_f64(0.5), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE.mul_f64(1.5)), "{pauses:?}");
    }

    #[test]
    fn a_round_may_ask_for_what_came_alone_and_what_fails_again_then_waits_longer() {
        let (mut overdue, now) = (Overdue::default(), Instant::now());
        for _ in 0..6 {
            overdue.note("slow", now);
            overdue.came_alone("slow");
            assert!(!overdue.is_out("slow") && overdue.next().is_none());
        }
        assert!(overdue.note("slow", now) > FIRST_PAUSE.mul_f64(1.5));
        overdue.forget("slow");
        assert!(overdue.note("slow", now) <= FIRST_PAUSE.mul_f64(1.5));
    }
}
