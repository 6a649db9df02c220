//! What the operator sees of each lane: its state, what failed in it, and how far it is behind.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::lane::error::LaneError;
use crate::model::halt::Halt;
use crate::model::lock::{LockWait, LockedPart};
use crate::model::number::{Lane, Millis, Offset};
use crate::telemetry::Telemetry;
use crate::telemetry::labels::Cause;
use crate::telemetry::lag::{self, Lag};
use crate::telemetry::redact::redact;

/// What a lane is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneState {
    /// Being taken over.
    TakingOver,
    /// Intake and rounds run.
    Running,
    /// Something failed; it is taken over again shortly.
    Waiting(String),
    /// It does nothing until an operator resolves it.
    Halted(Halt),
}

impl LaneState {
    /// Every name of a state, as metrics and `/readyz` write it. The names are public: what is taken over is `entering` there.
    pub const NAMES: [&'static str; 4] = ["entering", "running", "waiting", "halted"];

    /// The name of this state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TakingOver => "entering",
            Self::Running => "running",
            Self::Waiting(_) => "waiting",
            Self::Halted(_) => "halted",
        }
    }
}

/// What is known of a lane.
#[derive(Debug)]
pub(super) struct LaneView {
    pub(super) state: LaneState,
    pub(super) since: Instant,
    /// What failed since the lane ran last, and when it first did: it stays while the lane is taken over again.
    pub(super) trouble: Option<(Instant, String)>,
    pub(super) lag: lag::Tracker,
    pub(super) running_campaigns: usize,
    /// The halt that the log named last, while the lane did not run.
    pub(super) named: Option<Halt>,
    pub(super) waiting_dead_letters: usize,
    /// The lock waits of its parts, as they were shown last.
    pub(super) lock_waits: BTreeMap<LockedPart, String>,
}

impl LaneView {
    pub(super) fn new() -> Self {
        Self {
            state: LaneState::TakingOver,
            since: Instant::now(),
            trouble: None,
            lag: lag::Tracker::default(),
            running_campaigns: 0,
            named: None,
            waiting_dead_letters: 0,
            lock_waits: BTreeMap::new(),
        }
    }

    /// Whether the log is to say this state: a halt only once, though the lane is taken over again to look for its resolution.
    pub(super) fn is_news(&mut self, state: &LaneState) -> bool {
        match state {
            LaneState::Running => self.named = None,
            LaneState::Halted(halt) => return self.named.replace(halt.clone()).as_ref() != Some(halt),
            LaneState::TakingOver | LaneState::Waiting(_) => {}
        }
        true
    }
}

impl Telemetry {
    /// The lanes and what they do.
    pub fn lanes(&self) -> BTreeMap<Lane, LaneState> {
        self.observed.lanes().iter().map(|(lane, view)| (*lane, view.state.clone())).collect()
    }

    /// Whatever failed in a lane is over: it runs, and its last round is published.
    pub fn well(&self, lane: Lane) {
        if let Some(view) = self.observed.lanes().get_mut(&lane) {
            view.trouble = None;
        }
    }

    /// A lane does something else now.
    pub fn set_lane(&self, lane: Lane, state: LaneState) {
        let is_news = {
            let mut lanes = self.observed.lanes();
            let view = lanes.entry(lane).or_insert_with(LaneView::new);
            match &state {
                LaneState::Waiting(error) => {
                    let since = view.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                    view.trouble = Some((since, error.clone()));
                }
                LaneState::TakingOver | LaneState::Running | LaneState::Halted(_) => {}
            }
            if view.state == state {
                return;
            }
            view.state = state.clone();
            view.since = Instant::now();
            view.is_news(&state)
        };
        match state {
            LaneState::Halted(_) if !is_news => {}
            LaneState::Halted(halt) => {
                let found = redact(&halt.found);
                tracing::error!(lane = lane.get(), halt = halt.kind.name(), %found, remedy = halt.remedy, "lane halted");
            }
            LaneState::Waiting(_) => {}
            state => tracing::info!(lane = lane.get(), state = state.name(), "lane"),
        }
    }

    /// A lane failed and is taken over again after a pause.
    pub fn lane_failed(&self, lane: Lane, error: &LaneError, pause: Duration) {
        let text = error.to_string();
        tracing::warn!(lane = lane.get(), error = %redact(&text), pause_ms = pause.as_millis(), "lane is taken over again");
        self.series.failures.get_or_create(&[("cause", Cause::of(error).name())]).inc();
        self.set_lane(lane, LaneState::Waiting(text));
    }

    /// Something beside the rounds of a lane failed and is tried again.
    pub fn lane_warns(&self, lane: Lane, error: &LaneError) {
        tracing::warn!(lane = lane.get(), error = %redact(&error.to_string()), "tried again shortly");
        self.series.retries.get_or_create(&[("cause", Cause::of(error).name())]).inc();
    }

    /// No page of a restaurant came in time. Its campaigns are left out of the lane's rounds, and it is asked for alone after this pause.
    pub fn left_out(&self, lane: Lane, restaurant_id: &str, said: &str, pause: Duration) {
        tracing::warn!(
            lane = lane.get(),
            restaurant_id,
            error = %redact(said),
            "who favours this restaurant could not be read in time: its campaigns are left out of the lane's rounds, and it is asked for alone in {:.1} s",
            pause.as_secs_f64()
        );
        self.series.retries.get_or_create(&[("cause", Cause::Subscribers.name())]).inc();
    }

    /// Shows the lock that a part of the lane's work waits for; none where it waits no more. Returns whether that is news: only news is logged.
    pub fn lock_wait(&self, lane: Lane, part: LockedPart, wait: Option<&LockWait>) -> bool {
        let Some(wait) = wait else {
            let mut lanes = self.observed.lanes();
            let waited = lanes.get_mut(&lane).and_then(|view| view.lock_waits.remove(&part));
            if waited.is_some() {
                tracing::info!(lane = lane.get(), part = part.name(), "the lock is free");
            }
            return waited.is_some();
        };
        self.series.retries.get_or_create(&[("cause", Cause::Ledger.name())]).inc();
        let text = wait.to_string();
        let before = {
            let mut lanes = self.observed.lanes();
            lanes.entry(lane).or_insert_with(LaneView::new).lock_waits.insert(part, text.clone())
        };
        let is_news = before.as_ref() != Some(&text);
        if is_news {
            tracing::warn!(lane = lane.get(), part = part.name(), why = %redact(&text), "it waits for a lock of somebody else's open transaction");
        }
        is_news
    }

    /// A lane is not ours any more.
    pub fn left(&self, lane: Lane) {
        self.observed.lanes().remove(&lane);
        tracing::info!(lane = lane.get(), "lane left");
    }

    /// The input position of a lane, as it was found by the takeover.
    pub fn position(&self, lane: Lane, position: Offset) {
        if let Some(view) = self.observed.lanes().get_mut(&lane) {
            view.lag.position(position, None);
        }
    }

    /// How many campaigns of a lane can get drafts now.
    pub fn running_campaigns(&self, lane: Lane, campaigns: usize) {
        if let Some(view) = self.observed.lanes().get_mut(&lane) {
            view.running_campaigns = campaigns;
        }
    }

    /// How many dead letters of a lane wait to be published, as far as they are in memory.
    pub fn waiting_dead_letters(&self, lane: Lane, letters: usize) {
        if let Some(view) = self.observed.lanes().get_mut(&lane) {
            view.waiting_dead_letters = letters;
        }
    }

    /// How far a lane is behind; none where it could not be found out. It is the records up to the end of its partition that are not taken in, and
    /// the age of the oldest of them in seconds. [`super::watch::watch`] calls this.
    pub fn observe_lag(&self, lane: Lane, lag: Option<Lag>) {
        if let Some(view) = self.observed.lanes().get_mut(&lane) {
            view.lag.shown = lag;
        }
    }

    /// Finds a lane's lag from the ends of its partition, and shows it.
    pub(super) fn find_lag(&self, lane: Lane, ends: Option<lag::Ends>, now: Millis) {
        let lag = self.observed.lanes().get_mut(&lane).and_then(|view| {
            let lag = view.lag.observe(ends?, now);
            if let Some(held) = view.lag.held_back.as_mut().filter(|held| !held.told && held.is_long(now)) {
                held.told = true;
                tracing::warn!(lane = lane.get(), "{}", held.said());
            }
            lag
        });
        self.observe_lag(lane, lag);
    }
}
