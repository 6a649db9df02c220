//! Where no index serves the audience, each page is a scan of the whole table. So ten pages are read at once, and the rest is kept for the next
//! calls.
//!
//! Who subscribes after the reading and before their page is found by the next rescan, not by the main pass.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::page::{Page, PageRequest};

/// How many pages one reading covers.
pub(super) const PAGES: usize = 10;
/// The most rests that are kept, one for each campaign that is fanned out: memory does not grow with the audience.
const MAX_RESTS: usize = 4;
/// A rest that nobody asked for is forgotten.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// What was read and not given out yet.
#[derive(Default)]
pub(super) struct ReadAhead {
    rests: Mutex<VecDeque<Rest>>,
}

struct Rest {
    restaurant_id: String,
    upto: Option<String>,
    clients: Clients,
    /// How many of them were given out: at least one, so that the last of those is the cursor.
    given: usize,
    last: bool,
    read_at: Instant,
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

    /// Gives out the first page of a reading of `rows` times [`PAGES`] and keeps the rest.
    pub(super) fn keep(&self, wanted: PageRequest<'_>, read: Page) -> Page {
        let Page { clients, last, skipped } = read;
        let (restaurant_id, upto) = (wanted.restaurant_id.to_owned(), wanted.upto.map(str::to_owned));
        let rest = Rest { restaurant_id, upto, clients, given: 0, last, read_at: Instant::now() };
        let (page, rest) = rest.page(wanted.rows);
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        rests.extend(rest);
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

    fn list(page: &Page) -> Vec<&str> {
        page.clients.iter().collect()
    }

    #[test]
    fn a_reading_is_given_out_page_by_page() {
        let ahead = ReadAhead::default();
        let first = ahead.keep(from("r", None, 2), reading(&["a", "b", "c", "d", "e"], true));
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
        ahead.keep(from("r", None, 2), reading(&["a", "b", "c"], false));
        assert_eq!(ahead.take(from("r", Some("b"), 2)), None);
    }

    #[test]
    fn an_empty_reading_is_the_last_page() {
        let page = ReadAhead::default().keep(from("r", None, 2), reading(&[], true));
        assert!(page.last && page.clients.is_empty());
    }

    #[test]
    fn few_rests_are_kept() {
        let ahead = ReadAhead::default();
        for restaurant in ["1", "2", "3", "4", "5"] {
            ahead.keep(from(restaurant, None, 1), reading(&["a", "b"], true));
        }
        assert_eq!(ahead.take(from("1", Some("a"), 1)), None);
        assert!(ahead.take(from("5", Some("a"), 1)).is_some());
    }
}
