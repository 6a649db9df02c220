//! What a lane needs of the subscribers: one trait, with the real table in `dinnerbell_postgres` and a simulated one in
//! `dinnerbell_sim`.

use std::future::Future;

use crate::model::late::{Added, Subscription};
use crate::model::page::{Page, PageRequest, Unread};
use crate::ports::failure::{Failure, FailureKind};

/// Why a page could not be read. One place maps these to what happens: [`crate::lane::error_policy`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum AudienceError {
    /// It may pass: server away, no answer.
    #[error("{0}")]
    Transient(String),
    /// The server is there and did not answer this question, for a reason of its own that may pass: its time-out, a recovery conflict on a replica. It may
    /// answer another.
    #[error("{0}")]
    Unanswered(String),
    /// The server refuses and will refuse again: right, table, column.
    #[error("{0}")]
    Refused(String),
}

impl Failure for AudienceError {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Transient(_) | Self::Unanswered(_) => FailureKind::Transient,
            Self::Refused(_) => FailureKind::Refused,
        }
    }
}

impl From<Unread> for AudienceError {
    fn from(unread: Unread) -> Self {
        Self::Unanswered(unread.to_string())
    }
}

/// The subscribers table, read only.
pub trait Audience: Clone + Send + Sync + 'static {
    /// One page for each that is wanted, in the same order: many small ones cost little more than one. One that takes too long costs none of the
    /// others.
    fn pages(
        &self,
        wanted: &[PageRequest<'_>],
    ) -> impl Future<Output = Result<Vec<Result<Page, Unread>>, AudienceError>> + Send;
    /// One page.
    fn page(&self, wanted: PageRequest<'_>) -> impl Future<Output = Result<Page, AudienceError>> + Send {
        async move { Ok(self.pages(&[wanted]).await?.pop().expect("one page was wanted")?) }
    }
    /// The highest id that is in the table, 0 for an empty one: where a tail scan begins.
    fn newest(&self) -> impl Future<Output = Result<i64, AudienceError>> + Send;
    /// Rows with a higher id, in the order of ids, at most `most`.
    fn added(&self, after: i64, most: usize) -> impl Future<Output = Result<Added, AudienceError>> + Send;
    /// Favourites with one of these ids, if they are in the table by now, and can be told.
    fn of_ids(&self, ids: &[i64]) -> impl Future<Output = Result<Vec<Subscription>, AudienceError>> + Send;
}
