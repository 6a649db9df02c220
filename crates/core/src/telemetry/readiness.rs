//! Whether the instance does its work, and what is missing if not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::model::number::Lane;
use crate::telemetry::lanes::{LaneState, LaneView};
use crate::telemetry::needs::{Need, NeedStatus};
use crate::telemetry::{locked, redact};

/// How long a takeover may last before the instance is not ready because of it. A takeover takes 2.5 s at most when all goes well.
const LONGEST_TAKEOVER: Duration = Duration::from_secs(10);

/// What `/readyz` answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Nothing is missing.
    pub ready: bool,
    /// What is missing, each with why.
    pub missing: Vec<String>,
    /// What somebody should look at, though the instance does its work.
    pub warnings: Vec<String>,
    /// Whether an operator paused all sending: an order, not a fault.
    pub paused: bool,
    /// Whether nothing is sent and nothing is taken in, because the ledger may have lost commits. For longer than a takeover takes it is a fault.
    pub held: bool,
    /// The lanes of this instance. None is no fault: there may be more instances than lanes.
    pub lanes: Vec<LaneReport>,
}

/// A lane, as `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneReport {
    /// The lane.
    pub lane: Lane,
    /// Its state: one of [`LaneState::NAMES`].
    pub state: &'static str,
    /// How many seconds it has been in it.
    pub seconds: u64,
    /// The name of its halt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halt: Option<String>,
    /// What failed since it ran last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl LaneReport {
    fn of(lane: Lane, view: &LaneView) -> Self {
        let (halt, error, remedy) = match &view.state {
            LaneState::Halted(halt) => (Some(halt.kind.to_string()), Some(&halt.found), Some(halt.remedy.clone())),
            _ => (None, view.trouble.as_ref().map(|(_, error)| error), None),
        };
        Self {
            lane,
            state: view.state.name(),
            seconds: view.since.elapsed().as_secs(),
            halt,
            error: error.map(|error| redact(error).into_owned()),
            remedy,
        }
    }

    /// What the instance lacks because of this lane.
    fn missing(&self) -> Option<String> {
        let Self { lane, state, seconds, halt, error, .. } = self;
        match (halt, error) {
            (Some(halt), _) => Some(format!("lane {lane}: halted: {halt}")),
            (None, Some(error)) => Some(format!("lane {lane}: {state}: {error}")),
            (None, None) if *state == "entering" && *seconds >= LONGEST_TAKEOVER.as_secs() => {
                Some(format!("lane {lane}: entering for {seconds} s"))
            }
            (None, None) => None,
        }
    }
}

impl super::Observed {
    /// What waits behind senders' open transactions, dead letters whose topic takes none, and a replica that is behind.
    fn warnings(&self) -> Vec<String> {
        let lanes = self.lanes();
        let held = lanes.iter().filter_map(|(lane, view)| Some((lane, view.lag.held_back.filter(|held| held.told)?)));
        let held = held.map(|(lane, held)| format!("lane {lane}: {}", held.said()));
        let waits = lanes.iter().flat_map(|(lane, view)| {
            let waits = view.lock_waits.iter();
            waits.map(move |(part, why)| format!("lane {lane}: {} waits for a lock: {}", part.name(), redact(why)))
        });
        let letters = locked(&self.dead_letters_wait);
        let letters = letters.iter().map(|why| format!("dead letters wait: {}", redact(why)));
        let replica = locked(&self.replica_trouble);
        let replica = replica.iter().map(|trouble| format!("the subscribers database: {}", redact(trouble)));
        held.chain(waits).chain(letters).chain(replica).collect()
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let mut missing = Vec::new();
        if self.stopping.load(Ordering::Relaxed) {
            missing.push("the service is stopping".to_owned());
        }
        {
            let needs = locked(&self.needs);
            missing.extend(Need::ALL.iter().filter_map(|need| match needs.get(need) {
                Some(NeedStatus::There) => None,
                Some(NeedStatus::Missing(why)) => Some(format!("{}: {}", need.name(), redact(why))),
                None => Some(format!("{}: not there yet", need.name())),
            }));
        }
        let (suspension, since) = {
            let suspended = locked(&self.suspension);
            (suspended.suspension, suspended.since)
        };
        if suspension.held && since.elapsed() >= LONGEST_TAKEOVER {
            let holds = locked(&self.holds);
            let what = holds
                .as_ref()
                .map_or("the ledger may have lost commits; `dinnerbell lane list` says what holds".into(), |what| {
                    redact(what)
                });
            missing.push(format!("held for {} s: {what}", since.elapsed().as_secs()));
        }
        let lanes: Vec<LaneReport> = self.lanes().iter().map(|(lane, view)| LaneReport::of(*lane, view)).collect();
        missing.extend(lanes.iter().filter_map(LaneReport::missing));
        Readiness {
            ready: missing.is_empty(),
            missing,
            warnings: self.warnings(),
            paused: suspension.paused,
            held: suspension.held,
            lanes,
        }
    }
}
