//! What a lane needs of the subscribers: one trait, with the real table in [`crate::postgres`] and a simulated one in
//! [`crate::simulation`].

use std::future::Future;

use crate::draft::Clients;

/// A page of distinct subscribers of a restaurant, in the order of `client_id COLLATE "C"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The clients.
    pub clients: Clients,
    /// Whether nobody stands behind it: it is shorter than was asked for.
    pub last: bool,
    /// Client ids that are empty or too long, counted on the first page; and those that are no UTF-8, each on the page that passes it.
    pub skipped: u64,
}

/// Which page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Of those who favour this restaurant now.
    pub restaurant_id: &'a str,
    /// Clients after this one; none from the first on.
    pub after: Option<&'a str>,
    /// Up to this client, inclusive; none to the end.
    pub upto: Option<&'a str>,
    /// Most clients; never 0.
    pub rows: usize,
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

/// Rows that were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Added {
    /// The ids of all, in their order.
    pub ids: Vec<i64>,
    /// Those that can be told: an id that is empty, too long or no UTF-8 is passed over.
    pub favourites: Vec<Favourite>,
}

/// The subscribers table, read only.
pub trait Audience: Clone + Send + Sync + 'static {
    /// One page for each that is wanted, in the same order: many small ones cost little more than one.
    fn pages(&self, wanted: &[Wanted<'_>]) -> impl Future<Output = Result<Vec<Page>, AudienceError>> + Send;
    /// One page.
    fn page(&self, wanted: Wanted<'_>) -> impl Future<Output = Result<Page, AudienceError>> + Send {
        async move { Ok(self.pages(&[wanted]).await?.pop().expect("one page was wanted")) }
    }
    /// The highest id that stands in the table, 0 for an empty one: where a sweep begins.
    fn newest(&self) -> impl Future<Output = Result<i64, AudienceError>> + Send;
    /// Rows with a higher id, in the order of ids, at most `most`.
    fn added(&self, after: i64, most: usize) -> impl Future<Output = Result<Added, AudienceError>> + Send;
    /// Favourites with one of these ids, if they stand in the table by now, and can be told.
    fn of_ids(&self, ids: &[i64]) -> impl Future<Output = Result<Vec<Favourite>, AudienceError>> + Send;
}
