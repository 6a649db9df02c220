//! The time of a simulated world.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::world::Instance;
use crate::faults::Server;
use dinnerbell_core::model::number::Micros;
use dinnerbell_core::ports::clock::Clock;

/// A reading younger than this is fresh.
const FRESH: Duration = Duration::from_secs(1);
/// The time limit of a reading.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The simulated [`Clock`]: the feedback database's, from a reading that grows old as the real one does.
#[derive(Clone)]
pub struct SimClock {
    instance: Instance,
    read_at: Arc<Mutex<Option<Instant>>>,
}

impl SimClock {
    /// The clock as this instance reads it.
    pub fn new(instance: Instance) -> Self {
        Self { instance, read_at: Arc::default() }
    }

    fn is_fresh(&self) -> bool {
        let read_at = *self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        read_at.is_some_and(|at| at.elapsed() < FRESH)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Micros {
        self.instance.world.state().micros()
    }

    async fn fresh(&self) -> Option<Micros> {
        while !self.is_fresh() {
            let asked = Instant::now();
            self.instance.ask("now", Server::Feedback, TIME_LIMIT, |_| async {}).await.ok()?;
            *self.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        }
        Some(self.now())
    }
}
