//! The slots of open pages. They are counted apart from those of probes: however many pages are open, `/healthz` has its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Most connections that ask for pages at once.
const PAGES: usize = 64;
/// Most connections that wait for the slot of a page, and for how long.
const WAITING: usize = 256;
const WAIT: Duration = Duration::from_secs(3);
/// Most event streams at once.
const STREAMS: usize = 256;
/// Most sign-ins at once: anyone who has not signed in can hold up these alone.
const SIGN_INS: usize = 8;

/// All slots of pages.
#[derive(Debug, Clone)]
pub struct Slots {
    pages: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    sign_ins: Arc<Semaphore>,
}

impl Default for Slots {
    fn default() -> Self {
        let slots = |most| Arc::new(Semaphore::new(most));
        Self { pages: slots(PAGES), waiting: slots(WAITING), streams: slots(STREAMS), sign_ins: slots(SIGN_INS) }
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

    /// Takes the slot of a page, if it does not hold one. Waits for one a moment, and holds no probe's slot meanwhile. Whether there was one.
    pub async fn takes_page(&self) -> bool {
        if self.is_page() {
            return true;
        }
        let pages = &self.slots.pages;
        if let Ok(page) = pages.clone().try_acquire_owned() {
            self.holds(Some(page));
            return true;
        }
        let Ok(waits) = self.slots.waiting.clone().try_acquire_owned() else { return false };
        self.holds(Some(waits));
        let page = timeout(WAIT, pages.clone().acquire_owned()).await;
        let page = page.ok().and_then(Result::ok);
        let has_page = page.is_some();
        self.holds(page);
        has_page
    }

    fn holds(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }

    /// Gives the slot of a page for that of an event stream. Whether there was one.
    pub fn takes_stream(&self) -> bool {
        match self.slots.streams.clone().try_acquire_owned() {
            Ok(permit) => {
                self.holds(Some(permit));
                true
            }
            Err(_) => false,
        }
    }

    /// The slot of a sign-in, while it lasts.
    pub fn sign_in(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.sign_ins.clone().try_acquire_owned().ok()
    }

    /// Whether it is a page's or an event stream's, or waits for one.
    pub fn is_page(&self) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all_take_pages(connections: &[Slot]) -> bool {
        let taken = futures_util::future::join_all(connections.iter().map(Slot::takes_page)).await;
        taken.into_iter().all(|taken| taken)
    }

    #[tokio::test(start_paused = true)]
    async fn pages_and_streams_are_bounded_apart_and_given_back() {
        let slots = Slots::default();
        let connections: Vec<Slot> = (0..PAGES).map(|_| slots.connection()).collect();
        assert!(all_take_pages(&connections).await && connections[0].takes_page().await, "one slot a connection");
        let late = slots.connection();
        assert!(!late.takes_page().await && !late.is_page(), "all are taken");
        assert!(connections[0].takes_stream(), "streams have their own");
        assert!(late.takes_page().await, "a stream gave its page back");
        drop(connections);
        let next: Vec<Slot> = (0..PAGES - 1).map(|_| slots.connection()).collect();
        assert!(all_take_pages(&next).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_page_holds_no_probes_slot_and_those_who_wait_are_bounded() {
        let slots = Slots::default();
        let open: Vec<Slot> = (0..PAGES).map(|_| slots.connection()).collect();
        assert!(all_take_pages(&open).await);
        let waiting: Vec<Slot> = (0..=WAITING).map(|_| slots.connection()).collect();
        let mut all = Box::pin(futures_util::future::join_all(waiting.iter().map(Slot::takes_page)));
        assert!(timeout(Duration::from_millis(1), &mut all).await.is_err());
        assert_eq!(waiting.iter().filter(|slot| slot.is_page()).count(), WAITING);
        drop(open);
        let taken = all.await;
        assert_eq!(taken.into_iter().filter(|taken| *taken).count(), PAGES, "the first of them, in their order");
    }
}
