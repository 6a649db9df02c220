//! What rounds leave out for a while, so that the lane's others go on: [`super::overdue`], [`super::locked_out`]. It is tried alone, later each time,
//! until rounds may try it again. Pure: the time is given.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// What is left out, by its id, and what else is known of each.
#[derive(Debug, Default)]
pub struct LeftOut<T>(BTreeMap<String, Entry<T>>);

#[derive(Debug)]
struct Entry<T> {
    known: T,
    backoff: Backoff,
    /// When it is tried alone; none where rounds may try it again.
    again: Option<Instant>,
}

impl<T> Entry<T> {
    fn failed(&mut self, now: Instant) -> Duration {
        let pause = self.backoff.failed();
        self.again = Some(now + pause);
        pause
    }
}

impl<T> LeftOut<T> {
    /// It failed in a round, and is left out. What is known of it replaces what was known before; the back-off is that of its first failure. Returns
    /// how long it is left alone.
    pub(super) fn add(&mut self, id: &str, known: T, backoff: Backoff, now: Instant) -> Duration {
        let backoff = self.0.get(id).map_or(backoff, |entry| entry.backoff);
        let mut entry = Entry { known, backoff, again: None };
        let pause = entry.failed(now);
        self.0.insert(id.to_owned(), entry);
        pause
    }

    /// It was tried alone, in vain.
    pub fn stays(&mut self, id: &str, now: Instant) {
        if let Some(entry) = self.0.get_mut(id) {
            entry.failed(now);
        }
    }

    /// Whether rounds leave it out.
    pub fn is_out(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|entry| entry.again.is_some())
    }

    /// Whether rounds leave nothing out.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|entry| entry.again.is_none())
    }

    /// What is to be tried alone next, when, and what is known of it.
    pub fn next(&self) -> Option<(Instant, &str, &T)> {
        let waiting = self.0.iter().filter_map(|(id, entry)| Some((entry.again?, id.as_str(), &entry.known)));
        waiting.min_by_key(|(again, id, _)| (*again, *id))
    }

    /// Rounds may try it again. How often it failed stays known. Returns what is known of it.
    pub(super) fn allow(&mut self, id: &str) -> Option<&T> {
        let entry = self.0.get_mut(id)?;
        entry.again = None;
        Some(&entry.known)
    }

    /// It is like any other again.
    pub fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }
}
