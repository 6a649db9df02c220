//! One clock for all instances: the feedback database's, carried forward by the monotonic clock.

use crate::model::number::Micros;
use std::future::Future;

/// The time by which windows are judged. The real one is `dinnerbell_postgres::clock`, the simulated one `dinnerbell_sim`.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time, from a reading that may be some seconds old: for planning.
    fn now(&self) -> Micros;
    /// The time, from a reading that is younger than a second: for the decision to publish. Reads the database where it must;
    /// none when the database does not answer.
    fn fresh(&self) -> impl Future<Output = Option<Micros>> + Send;
}
