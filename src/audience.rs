//! What a lane needs of the subscribers: one trait, with the real table in [`crate::postgres`] and a simulated one in
//! [`crate::simulation`].

use std::future::Future;

use crate::draft::Clients;

/// A client id longer than this many bytes is skipped.
pub const LONGEST_CLIENT_ID: usize = 256;

/// A page of distinct subscribers of a restaurant, in the order of `client_id COLLATE "C"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The clients.
    pub clients: Clients,
    /// Whether nobody stands behind it: it is shorter than was asked for.
    pub last: bool,
    /// Client ids that are empty or too long: counted on the first page.
    pub skipped: u64,
}

/// Why a page could not be read. One place maps these to what happens: [`crate::way::policy`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum AudienceError {
    /// It may pass: server away, a recovery conflict on a replica, a time-out.
    #[error("{0}")]
    Passing(String),
    /// The server refuses and will refuse again: right, table, column.
    #[error("{0}")]
    Refused(String),
}

/// A favourite that was added: its id in the table, and who favours what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Favourite {
    /// Where the sweep stands.
    pub id: i64,
    /// Who.
    pub client_id: String,
    /// What.
    pub restaurant_id: String,
}

/// The subscribers table, read only.
pub trait Audience: Clone + Send + Sync + 'static {
    /// The next page of those who favour the restaurant now: clients after `after`, up to `upto` where it is given, at most `rows`.
    fn page(
        &self,
        restaurant_id: &str,
        after: Option<&str>,
        upto: Option<&str>,
        rows: usize,
    ) -> impl Future<Output = Result<Page, AudienceError>> + Send;
    /// The highest id that stands in the table, 0 for an empty one: where a sweep begins.
    fn newest(&self) -> impl Future<Output = Result<i64, AudienceError>> + Send;
    /// Favourites with a higher id, in the order of ids, at most `most`. Ids that are empty or too long are left out.
    fn added(&self, after: i64, most: usize) -> impl Future<Output = Result<Vec<Favourite>, AudienceError>> + Send;
}
