//! The slots of open pages. They are counted apart from those of probes: however many pages are open, `/healthz` has its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections that ask for pages at once.
const PAGES: usize = 64;
/// Most event streams at once.
const STREAMS: usize = 256;
/// Most sign-ins at once: whoever has not signed in can hold up these alone.
const SIGN_INS: usize = 8;

/// All slots of pages.
#[derive(Debug, Clone)]
pub struct Slots {
    pages: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    sign_ins: Arc<Semaphore>,
}

impl Default for Slots {
    fn default() -> Self {
        let slots = |most| Arc::new(Semaphore::new(most));
        Self { pages: slots(PAGES), streams: slots(STREAMS), sign_ins: slots(SIGN_INS) }
    }
}

impl Slots {
    /// The slot of a connection that has asked for nothing yet.
    pub fn connection(&self) -> Slot {
        Slot { slots: self.clone(), has_asked: AtomicBool::new(false), held: Mutex::default() }
    }
}

/// What one connection holds. It is given back when the connection ends.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    has_asked: AtomicBool,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Slot {
    /// A request has arrived.
    pub fn asked(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// Whether a request has arrived.
    pub fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    /// Takes the slot of a page, if it does not hold one. Whether there was one.
    pub fn takes_page(&self) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = self.slots.pages.clone().try_acquire_owned().ok();
        }
        held.is_some()
    }

    /// Gives the slot of a page for that of an event stream. Whether there was one.
    pub fn takes_stream(&self) -> bool {
        match self.slots.streams.clone().try_acquire_owned() {
            Ok(permit) => {
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
                true
            }
            Err(_) => false,
        }
    }

    /// The slot of a sign-in, while it lasts.
    pub fn sign_in(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.sign_ins.clone().try_acquire_owned().ok()
    }

    /// Whether it is a page's or an event stream's.
    pub fn is_page(&self) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_streams_are_bounded_apart_and_given_back() {
        let slots = Slots::default();
        let connections: Vec<Slot> = (0..PAGES).map(|_| slots.connection()).collect();
        assert!(connections.iter().all(Slot::takes_page) && connections[0].takes_page(), "one slot a connection");
        let late = slots.connection();
        assert!(!late.takes_page() && !late.is_page(), "all are taken");
        assert!(connections[0].takes_stream(), "streams have their own");
        assert!(late.takes_page(), "a stream gave its page back");
        drop(connections);
        let next: Vec<Slot> = (0..PAGES - 1).map(|_| slots.connection()).collect();
        assert!(next.iter().all(Slot::takes_page));
    }
}
