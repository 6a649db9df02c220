//! Where no index serves the audience, each page is a scan of the whole table. So up to ten pages are read at once, and the rest is kept for the next
//! calls. All lanes of an instance share the memory for rests.
//!
//! Who subscribes after the reading and before their page is found by the next rescan, not by the main pass.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use dinnerbell_core::instance::memory_budget::LARGEST_CLIENT;
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::limits::LONGEST_CLIENT_ID;
use dinnerbell_core::model::page::{Page, PageRequest};

/// How many pages one reading covers at most.
const PAGES: usize = 10;
/// The most rests that are kept, one for each campaign that is fanned out.
const MAX_RESTS: usize = 4;
/// Most bytes of rests, those included that are being read: memory does not grow with the audience.
const MAX_REST_BYTES: usize = 8 << 20;
/// A rest that nobody asked for is forgotten.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// What was read and not given out yet.
pub(super) struct ReadAhead {
    rests: Mutex<VecDeque<Rest>>,
    /// A permit is a byte of a rest.
    bytes: Arc<Semaphore>,
    /// What the longest client of the last reading takes.
    longest: AtomicUsize,
}

/// A reading that is to be made: how many rows, and the memory for what of it is kept.
pub(super) struct Reading {
    pub(super) rows: usize,
    room: Option<OwnedSemaphorePermit>,
}

struct Rest {
    restaurant_id: String,
    upto: Option<String>,
    clients: Clients,
    /// How many of them were given out: at least one, so that the last of those is the cursor.
    given: usize,
    last: bool,
    read_at: Instant,
    _room: OwnedSemaphorePermit,
}

impl Default for ReadAhead {
    fn default() -> Self {
        let (bytes, longest) = (Arc::new(Semaphore::new(MAX_REST_BYTES)), AtomicUsize::new(LARGEST_CLIENT));
        Self { rests: Mutex::default(), bytes, longest }
    }
}

impl ReadAhead {
    /// The page after the cursor, if it was read before in full.
    pub(super) fn take(&self, wanted: PageRequest<'_>) -> Option<Page> {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        rests.retain(|rest| rest.read_at.elapsed() < KEPT_FOR);
        let at = rests.iter().position(|rest| rest.continues(wanted))?;
        let rest = rests.remove(at)?;
        // Less than a page, and more after it in the table: read from the cursor on.
        if rest.clients.len() - rest.given < wanted.rows && !rest.last {
            return None;
        }
        let (page, rest) = rest.page(wanted.rows);
        rests.extend(rest);
        Some(page)
    }

    /// How much to read for a page of this number of rows: up to [`PAGES`] times as many, as far as there is room for what is kept.
    pub(super) fn reading(&self, rows: usize) -> Reading {
        let page = rows.saturating_mul(self.longest.load(Ordering::Relaxed)).max(1);
        let pages = (self.bytes.available_permits() / page).min(PAGES);
        let room = u32::try_from(pages * page).ok().filter(|_| pages > 1);
        let room = room.and_then(|bytes| Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok());
        Reading { rows: if room.is_some() { rows * pages } else { rows }, room }
    }

    /// Gives out the first page of a reading, and keeps the rest. Where its clients are longer than those before, and take more than there is room for,
    /// the rest is read again.
    pub(super) fn keep(&self, wanted: PageRequest<'_>, read: Page, reading: Reading) -> Page {
        let longest = read.clients.iter().map(|client| client.len() + LARGEST_CLIENT - LONGEST_CLIENT_ID).max();
        self.longest.store(longest.unwrap_or(LARGEST_CLIENT), Ordering::Relaxed);
        let Some(mut room) = reading.room else { return read };
        let Page { clients, last, skipped } = read;
        let (restaurant_id, upto) = (wanted.restaurant_id.to_owned(), wanted.upto.map(str::to_owned));
        let fits = clients.size() <= room.num_permits();
        drop(room.split(room.num_permits().saturating_sub(clients.size())));
        let rest = Rest { restaurant_id, upto, clients, given: 0, last, read_at: Instant::now(), _room: room };
        let (page, rest) = rest.page(wanted.rows);
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        rests.extend(rest.filter(|_| fits));
        if rests.len() > MAX_RESTS {
            rests.pop_front();
        }
        Page { skipped, ..page }
    }
}

impl Rest {
    fn continues(&self, wanted: PageRequest<'_>) -> bool {
        let cursor = self.given.checked_sub(1).and_then(|last| self.clients.iter().nth(last));
        self.restaurant_id == wanted.restaurant_id && self.upto.as_deref() == wanted.upto && cursor == wanted.after
    }

    fn page(mut self, rows: usize) -> (Page, Option<Self>) {
        let clients: Clients = self.clients.iter().skip(self.given).take(rows).collect();
        self.given += clients.len();
        let all_given = self.given == self.clients.len();
        let page = Page { clients, last: self.last && all_given, skipped: 0 };
        (page, (!all_given).then_some(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(clients: &[&str], last: bool) -> Page {
        Page { clients: clients.iter().copied().collect(), last, skipped: 2 }
    }

    fn from<'a>(restaurant_id: &'a str, after: Option<&'a str>, rows: usize) -> PageRequest<'a> {
        PageRequest { restaurant_id, after, upto: None, rows }
    }

    fn keep(ahead: &ReadAhead, wanted: PageRequest<'_>, read: Page) -> Page {
        ahead.keep(wanted, read, ahead.reading(wanted.rows))
    }

    fn list(page: &Page) -> Vec<&str> {
        page.clients.iter().collect()
    }

    #[test]
    fn a_reading_is_given_out_page_by_page() {
        let ahead = ReadAhead::default();
        let first = keep(&ahead, from("r", None, 2), reading(&["a", "b", "c", "d", "e"], true));
        assert_eq!((list(&first), first.last, first.skipped), (vec!["a", "b"], false, 2));
        assert_eq!(ahead.take(from("r", Some("a"), 2)), None, "another cursor");
        assert_eq!(ahead.take(from("s", Some("b"), 2)), None, "another restaurant");
        assert_eq!(ahead.take(PageRequest { upto: Some("d"), ..from("r", Some("b"), 2) }), None, "another end");
        let second = ahead.take(from("r", Some("b"), 2)).unwrap();
        assert_eq!((list(&second), second.last, second.skipped), (vec!["c", "d"], false, 0));
        let third = ahead.take(from("r", Some("d"), 2)).unwrap();
        assert_eq!((list(&third), third.last), (vec!["e"], true));
        assert_eq!(ahead.take(from("r", Some("e"), 2)), None);
    }

    #[test]
    fn half_a_page_with_more_behind_it_is_read_again() {
        let ahead = ReadAhead::default();
        keep(&ahead, from("r", None, 2), reading(&["a", "b", "c"], false));
        assert_eq!(ahead.take(from("r", Some("b"), 2)), None);
    }

    #[test]
    fn an_empty_reading_is_the_last_page() {
        let page = keep(&ReadAhead::default(), from("r", None, 2), reading(&[], true));
        assert!(page.last && page.clients.is_empty());
    }

    #[test]
    fn few_rests_are_kept() {
        let ahead = ReadAhead::default();
        for restaurant in ["1", "2", "3", "4", "5"] {
            keep(&ahead, from(restaurant, None, 1), reading(&["a", "b"], true));
        }
        assert_eq!(ahead.take(from("1", Some("a"), 1)), None);
        assert!(ahead.take(from("5", Some("a"), 1)).is_some());
    }

    /// This number of clients with ids of this length, from a number on.
    fn many(from: usize, rows: usize, length: usize) -> Page {
        let clients: Vec<String> = (from..from + rows).map(|number| format!("{number:0length$}")).collect();
        Page { clients: clients.iter().map(String::as_str).collect(), last: false, skipped: 0 }
    }

    #[test]
    fn rests_are_bounded_in_bytes_for_all_lanes_together() {
        let ahead = ReadAhead::default();
        let taken = || MAX_REST_BYTES - ahead.bytes.available_permits();
        let first = ahead.reading(20_000);
        assert_eq!((first.rows, taken()), (20_000, 0), "clients may have the longest ids");
        assert_eq!(ahead.keep(from("r", None, 20_000), many(0, 20_000, 12), first).clients.len(), 20_000);
        let second = ahead.reading(20_000);
        assert_eq!(second.rows, 200_000, "they have short ones");
        ahead.keep(from("r", None, 20_000), many(0, 200_000, 12), second);
        assert!((3_000_000..4_000_000).contains(&taken()), "{} bytes", taken());
        let other_lanes: Vec<Reading> = (0..10).map(|_| ahead.reading(20_000)).collect();
        assert!(taken() <= MAX_REST_BYTES);
        let pages: Vec<usize> = other_lanes.iter().map(|reading| reading.rows / 20_000).collect();
        assert_eq!(pages, [10, 6, 1, 1, 1, 1, 1, 1, 1, 1]);
        drop(other_lanes);
        for page in 1..10 {
            let after = format!("{:012}", page * 20_000 - 1);
            assert!(ahead.take(from("r", Some(&after), 20_000)).is_some(), "page {page}");
        }
        assert_eq!(taken(), 0, "all was given out");
    }

    #[test]
    fn a_reading_with_longer_ids_than_the_one_before_is_not_kept_beyond_its_room() {
        let ahead = ReadAhead::default();
        keep(&ahead, from("r", None, 100), many(0, 100, 12));
        let reading = ahead.reading(100);
        let after = format!("{:0200}", 99);
        assert_eq!(ahead.keep(from("s", None, 100), many(0, 1_000, 200), reading).clients.len(), 100);
        assert_eq!(ahead.take(from("s", Some(&after), 100)), None);
        keep(&ahead, from("s", None, 100), many(0, 1_000, 200));
        assert!(ahead.take(from("s", Some(&after), 100)).is_some(), "the next one knows");
    }
}
