//! Pages of a restaurant's subscribers.

use crate::model::clients::Clients;

/// A page of distinct subscribers of a restaurant, in the order of `client_id COLLATE "C"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The clients.
    pub clients: Clients,
    /// Whether nobody comes after it: it is shorter than was asked for.
    pub last: bool,
    /// Client ids that are empty or too long, counted on the first page; and those that are no UTF-8, each on the page that passes it.
    pub skipped: u64,
}

/// Which page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest<'a> {
    /// Of those who favour this restaurant now.
    pub restaurant_id: &'a str,
    /// Clients after this one; none from the first on.
    pub after: Option<&'a str>,
    /// Up to this client, inclusive; none to the end.
    pub upto: Option<&'a str>,
    /// Most clients; never 0.
    pub rows: usize,
}

/// Why a page is not there though the server answers: others may be read meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The server did not come to its end in the time that a page has.
    #[error("{0}")]
    Overdue(String),
    /// It was not asked for, since others of the same question took too long.
    #[error("not asked for, since other pages took too long")]
    NotAsked,
}
