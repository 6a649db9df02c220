//! What the operator sees: the state of the instance and of each lane, counts and times. [`Telemetry`] is the one place that feeds the log,
//! `/metrics` and `/readyz`; docs/metrics.md lists what it shows, and a test holds the two together.
//!
//! Nothing personal leaves through it: no client id is a label, a log field or a part of an answer (see [`mod@redact`]).

mod counters;
mod format;
mod labels;
mod lag;
mod lanes;
mod needs;
mod process;
mod readiness;
mod redact;
mod series;
mod steps;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

pub use format::Format;
pub use labels::{Cause, RoundStep};
pub use lag::Lag;
pub use lanes::LaneState;
pub use needs::Need;
pub use readiness::{LaneReport, Readiness};
pub use redact::redact;
pub use steps::StepTimes;

use crate::instance::memory_budget::MemoryBudget;
use crate::model::headroom::Headroom;
use crate::model::number::Lane;

/// What is shown as it is at the moment of asking; counts and times are in [`series::Series`].
#[derive(Debug, Default)]
struct Observed {
    lanes: Mutex<BTreeMap<Lane, lanes::LaneView>>,
    needs: Mutex<BTreeMap<Need, needs::NeedStatus>>,
    polled: Mutex<Option<Instant>>,
    stopping: AtomicBool,
    /// Why the topic of dead letters takes none.
    dead_letters_wait: Mutex<Option<String>>,
    /// By how many seconds the subscribers that are read may be behind, where they are a replica's.
    replica_lag: Mutex<Option<f64>>,
    /// What is wrong with that replica.
    replica_trouble: Mutex<Option<String>>,
    suspension: Mutex<needs::Suspended>,
    /// What holds all, and what ends it.
    holds: Mutex<Option<String>>,
    /// The memory for drafts in flight.
    memory: OnceLock<Arc<MemoryBudget>>,
    clock_difference: Mutex<Option<f64>>,
    /// Of the campaigns topic.
    partitions: Mutex<Option<i32>>,
    headroom: Mutex<Vec<Headroom>>,
    /// The last times of each step, in the order of [`RoundStep::ALL`].
    steps: Mutex<[steps::Recent; RoundStep::ALL.len()]>,
}

impl Observed {
    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Lane, lanes::LaneView>> {
        locked(&self.lanes)
    }
}

/// What the mutexes hold stays consistent when a holder panics: each change is one assignment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The state of the instance, as `/metrics`, `/readyz` and the log show it.
#[derive(Debug)]
pub struct Telemetry {
    observed: Arc<Observed>,
    series: series::Series,
    registry: Registry,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new("unknown")
    }
}

impl Telemetry {
    /// Nothing is known yet, but the version of the Kafka client.
    pub fn new(librdkafka: &str) -> Self {
        let observed = Arc::new(Observed::default());
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("dinnerbell");
        let series = series::Series::register(ours, librdkafka);
        ours.register_collector(Box::new(series::Gauges(Arc::clone(&observed))));
        registry.register_collector(Box::new(process::Process));
        Self { observed, series, registry }
    }
}

impl Telemetry {
    /// Whether the instance does its work, and what is missing if not.
    pub fn readiness(&self) -> Readiness {
        self.observed.readiness()
    }

    /// Everything, in one of the text formats.
    pub fn exposition(&self, format: Format) -> Result<String, fmt::Error> {
        let mut exposition = String::with_capacity(16 * 1024);
        text::encode(&mut exposition, &self.registry)?;
        Ok(format.of(exposition))
    }
}

#[cfg(test)]
mod tests;
