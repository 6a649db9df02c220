//! One clock for all instances: the feedback database's, carried forward by the monotonic clock.

use crate::model::number::Micros;
use std::future::Future;

/// The time by which windows open and end. The real one is `dinnerbell_postgres::clock`, the simulated one `dinnerbell_sim`.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The time, from a reading that may be some seconds old: for planning.
    fn now(&self) -> Micros;
    /// The time, from a reading that is younger than a second: for the decision to publish. Reads the database where it must;
    /// none when the database does not answer.
    fn fresh(&self) -> impl Future<Output = Option<Micros>> + Send;
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// The clock of unit tests: it shows the microseconds to which it was set. Its clones are the same clock.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct TestClock(Arc<AtomicI64>);

    impl TestClock {
        pub(crate) fn at(micros: i64) -> Self {
            Self(Arc::new(AtomicI64::new(micros)))
        }

        pub(crate) fn set(&self, micros: i64) {
            self.0.store(micros, Ordering::Relaxed);
        }

        pub(crate) fn pass(&self, micros: i64) {
            self.0.fetch_add(micros, Ordering::Relaxed);
        }
    }

    impl Clock for TestClock {
        fn now(&self) -> Micros {
            Micros::new(self.0.load(Ordering::Relaxed))
        }

        async fn fresh(&self) -> Option<Micros> {
            Some(self.now())
        }
    }
}
