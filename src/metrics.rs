//! What the operator sees: the state of each lane, counts and times.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::broker::Lane;
use crate::ledger::{Halt, IntakeBatch, RoundContent, Tally};
use crate::way::LaneError;

/// What a lane is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneState {
    /// On the way in.
    Entering,
    /// Intake and rounds run.
    Running,
    /// Something failed; it is entered again shortly.
    Waiting(String),
    /// It stands still until an operator resolves it.
    Halted(Halt),
}

/// The state of the instance, as `/metrics`, `/readyz` and the log show it.
#[derive(Debug, Default)]
pub struct Board {
    lanes: Mutex<BTreeMap<Lane, LaneState>>,
}

impl Board {
    /// The lanes and what they do.
    pub fn lanes(&self) -> BTreeMap<Lane, LaneState> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A lane does something else now.
    pub fn set_lane(&self, lane: Lane, state: LaneState) {
        let before = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).insert(lane, state.clone());
        if before.as_ref() == Some(&state) {
            return;
        }
        match state {
            LaneState::Halted(halt) => {
                tracing::error!(lane, halt = halt.name, found = halt.found, remedy = halt.remedy, "lane halted");
            }
            LaneState::Waiting(_) => {}
            state => tracing::info!(lane, ?state, "lane"),
        }
    }

    /// A lane failed and is entered again after a pause.
    pub fn lane_failed(&self, lane: Lane, error: &LaneError, pause: Duration) {
        tracing::warn!(lane, %error, pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "lane is entered again");
        self.set_lane(lane, LaneState::Waiting(error.to_string()));
    }

    /// Something beside the rounds of a lane failed and is tried again.
    pub fn lane_warns(&self, lane: Lane, error: &LaneError) {
        tracing::warn!(lane, %error, "tried again shortly");
    }

    /// A lane is not ours any more.
    pub fn left(&self, lane: Lane) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(&lane);
        tracing::info!(lane, "lane left");
    }

    /// Records were taken in.
    pub fn took_in(&self, lane: Lane, tally: &Tally, batch: &IntakeBatch, took: Duration) {
        tracing::debug!(lane, position = batch.to, ?tally, ?took, "intake");
    }

    /// A step of a round took this long.
    pub fn step(&self, step: &'static str, took: Duration) {
        tracing::trace!(step, ?took, "step");
    }

    /// A round was published.
    pub fn published(&self, lane: Lane, content: &RoundContent) {
        tracing::debug!(lane, drafts = content.drafts(), dead_letters = content.dead_letters.len(), "published");
    }
}
