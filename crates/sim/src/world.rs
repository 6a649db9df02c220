//! What all instances of a simulated world share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::random::Random;
use crate::faults::{Harm, Hold};
use crate::kafka::Kafka;
use crate::subscribers::Subscribers;
use crate::tables::Database;
use dinnerbell_core::guard::Guards;
use dinnerbell_core::model::number::{Lane, Micros, Seconds};

/// The second in which every simulated world begins.
pub const FIRST_SECOND: Seconds = Seconds::new(1_700_000_000);

/// A world. Cheap to clone.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<WorldState>>,
    /// Records were appended, or something else that a reader waits for.
    pub(super) appended: Arc<Notify>,
}

/// One instance's way into the world: every trait of the service is implemented on top of it.
#[derive(Clone)]
pub struct Instance {
    /// The world.
    pub world: World,
    /// Which instance it is.
    pub number: usize,
    /// The lanes that it believes to hold.
    pub held: watch::Receiver<BTreeSet<Lane>>,
}

/// Everything that there is, and what may happen to it.
pub struct WorldState {
    began: Instant,
    /// Decides everything.
    pub random: Random,
    /// Decides which connections break, by numbers of its own.
    pub(super) broke_connections: Random,
    /// What harm comes.
    pub harm: Harm,
    /// Requests that are held up.
    pub holds: Vec<Hold>,
    /// Each request, as it was sent and as it was served: the same seed leaves the same trace.
    pub trace: Vec<Traced>,
    /// The guards that hold.
    pub guards: Guards,
    /// Since when all sending is paused, in a world in which nothing keeps an instance from learning it.
    pub paused_since: Option<Micros>,
    /// What was found that must never be.
    pub broken: Vec<String>,
    /// The feedback database.
    pub database: Database,
    /// Kafka.
    pub kafka: Kafka,
    /// The subscribers.
    pub subscribers: Subscribers,
}

/// Something that became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// When it happened, by the time of the world.
    pub at: Micros,
    /// Whose request it is.
    pub instance: usize,
    /// The function of a trait.
    pub request: &'static str,
    /// What became of the request.
    pub became: Became,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// It was sent, and this is what will become of it.
    Sent(Fate, Duration, Duration),
    /// The server worked on it, whether or not somebody still waits for the answer.
    Served {
        /// Whether somebody does.
        heard: bool,
    },
}

/// What will become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, and so does its answer.
    Answered,
    /// It does not arrive.
    Unsent,
    /// Its answer does not arrive.
    Unanswered,
    /// The server refuses.
    Refused,
}

impl World {
    /// A new world: empty, harmless, with this many lanes. Must be made inside a runtime whose time is paused.
    pub fn new(seed: u64, lanes: i32) -> Self {
        super::random::seed_jitter(seed);
        let state = WorldState {
            began: Instant::now(),
            random: Random::new(seed),
            broke_connections: Random::new(seed ^ 0xb0b),
            harm: Harm { latency: 5, ..Harm::default() },
            holds: Vec::new(),
            trace: Vec::new(),
            guards: Guards::default(),
            paused_since: None,
            broken: Vec::new(),
            database: Database::new(seed),
            kafka: Kafka::new(lanes),
            subscribers: Subscribers::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), appended: Arc::default() }
    }

    /// Everything that there is. Never held across an await.
    pub fn state(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who wait for records.
    pub fn wake_readers(&self) {
        self.appended.notify_waiters();
    }
}

impl WorldState {
    /// The time, by the feedback database.
    pub fn micros(&self) -> Micros {
        let since = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        FIRST_SECOND.micros() + since
    }

    /// The current second.
    pub fn now(&self) -> Seconds {
        self.micros().seconds()
    }

    /// Adds to the trace.
    pub(super) fn became(&mut self, instance: usize, request: &'static str, became: Became) {
        tracing::trace!(instance, request, ?became);
        let at = self.micros();
        self.trace.push(Traced { at, instance, request, became });
    }

    /// A promise was broken at this moment.
    pub fn broke(&mut self, what: String) {
        let second = self.micros() - FIRST_SECOND.micros();
        self.broken.push(format!("{:.3} s: {what}", second as f64 / 1e6));
    }

    /// Whether this request is held up, and how; another one of its name is not.
    pub(super) fn held_up(&mut self, instance: usize, request: &str) -> Option<Hold> {
        let since = self.began.elapsed();
        let is_held = |hold: &Hold| hold.instance == instance && hold.request == request && since >= hold.from;
        let place = self.holds.iter().position(is_held)?;
        Some(self.holds.remove(place))
    }

    /// Some time on the way to a server or back.
    pub(super) fn way(&mut self) -> Duration {
        Duration::from_millis(self.random.below(self.harm.latency + 1))
    }

    /// What a server takes for its work: usually nothing worth mentioning.
    pub(super) fn work(&mut self) -> Duration {
        match self.random.chance(self.harm.stalls) {
            true => Duration::from_millis(self.random.below(20_000)),
            false if self.random.chance(200) => Duration::from_millis(self.random.below(20)),
            false => Duration::ZERO,
        }
    }
}
