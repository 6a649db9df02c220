//! Restaurants of which no page could be read in time. Their campaigns are left out of the rounds, so that the lane's others do not wait for them.
//! Each such restaurant is asked for alone, each time later, until a page comes. Pure: the time is given.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// How long a restaurant is left alone at first; twice as long each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is left out.
#[derive(Debug, Default)]
pub struct Overdue(BTreeMap<String, OverdueRestaurant>);

#[derive(Debug)]
struct OverdueRestaurant {
    backoff: Backoff,
    /// When a page is to be asked for by itself; none where one came, and the next round may ask.
    again: Option<Instant>,
}

impl Overdue {
    /// No page of this restaurant came in time. How long it is left alone.
    pub fn note(&mut self, restaurant: &str, now: Instant) -> Duration {
        let late = self
            .0
            .entry(restaurant.to_owned())
            .or_insert(OverdueRestaurant { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), again: None });
        let pause = late.backoff.failed();
        late.again = Some(now + pause);
        pause
    }

    /// Whether no round is to ask for it.
    pub fn is_left_out(&self, restaurant: &str) -> bool {
        self.0.get(restaurant).is_some_and(|late| late.again.is_some())
    }

    /// The restaurant that is to be asked for next, and when.
    pub fn next(&self) -> Option<(Instant, &str)> {
        self.0.iter().filter_map(|(restaurant, late)| Some((late.again?, restaurant.as_str()))).min()
    }

    /// A page came that was asked for by itself: rounds may ask again.
    pub fn came_alone(&mut self, restaurant: &str) {
        if let Some(late) = self.0.get_mut(restaurant) {
            late.again = None;
        }
    }

    /// It is like any other: a round read a page of it, or no campaign of it runs.
    pub fn forget(&mut self, restaurant: &str) {
        self.0.remove(restaurant);
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
            assert!(overdue.is_left_out("slow") && !overdue.is_left_out("other"));
            let (again, restaurant) = overdue.next().unwrap();
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
            assert!(!overdue.is_left_out("slow") && overdue.next().is_none());
        }
        assert!(overdue.note("slow", now) > FIRST_PAUSE.mul_f64(1.5));
        overdue.forget("slow");
        assert!(overdue.note("slow", now) <= FIRST_PAUSE.mul_f64(1.5));
    }
}
