//! What the operator sees: the state of the instance and of each lane, counts and times. [`Telemetry`] is the one place that feeds the log,
//! `/metrics` and `/readyz`; docs/metrics.md lists what it shows, and a test holds the two together.
//!
//! Nothing personal leaves through it: no client id is a label, a log field or a part of an answer (see [`redact`]).

mod format;
mod lag;
mod process;
mod readiness;
mod redact;
mod series;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

pub use format::Format;
pub use lag::Lag;
pub use readiness::{LaneReport, Need, Readiness};
pub use redact::redact;

use crate::instance::memory_budget::MemoryBudget;
use crate::lane::error::LaneError;
use crate::model::halt::Halt;
use crate::model::headroom::Headroom;
use crate::model::intake::{IntakeBatch, Taken};
use crate::model::ownership::Suspension;
use crate::model::record::Lane;
use crate::model::retention::Prunable;
use crate::model::round::RoundContent;
use crate::ports::audience::AudienceError;
use crate::ports::broker::BrokerError;

/// How long the poll loop of the group's consumer may stand still before the process counts as dead.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(10);

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

impl LaneState {
    /// Every name of a state, as metrics and `/readyz` write it.
    pub const NAMES: [&'static str; 4] = ["entering", "running", "waiting", "halted"];

    /// The name of this state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Entering => "entering",
            Self::Running => "running",
            Self::Waiting(_) => "waiting",
            Self::Halted(_) => "halted",
        }
    }
}

/// What is known of a lane.
#[derive(Debug)]
struct LaneView {
    state: LaneState,
    since: Instant,
    /// What failed since the lane ran last, and when it first did: it stays while the lane is entered again.
    trouble: Option<(Instant, String)>,
    lag: lag::Tracker,
    running_campaigns: usize,
    /// The halt that the log named last, while the lane did not run.
    named: Option<Halt>,
    waiting_letters: usize,
}

impl LaneView {
    fn new() -> Self {
        Self {
            state: LaneState::Entering,
            since: Instant::now(),
            trouble: None,
            lag: lag::Tracker::default(),
            running_campaigns: 0,
            named: None,
            waiting_letters: 0,
        }
    }

    /// Whether the log is to say this state: a halt only once, though the lane is entered again to look for its resolution.
    fn is_news(&mut self, state: &LaneState) -> bool {
        match state {
            LaneState::Running => self.named = None,
            LaneState::Halted(halt) => return self.named.replace(halt.clone()).as_ref() != Some(halt),
            LaneState::Entering | LaneState::Waiting(_) => {}
        }
        true
    }
}

/// What stops all sending, and since when it is known.
#[derive(Debug)]
struct Suspended {
    suspension: Suspension,
    since: Instant,
}

impl Default for Suspended {
    fn default() -> Self {
        Self { suspension: Suspension::default(), since: Instant::now() }
    }
}

/// What is shown as it stands at the moment of asking; counts and times are in [`series::Series`].
#[derive(Debug, Default)]
struct Observed {
    lanes: Mutex<BTreeMap<Lane, LaneView>>,
    needs: Mutex<BTreeMap<Need, readiness::NeedStatus>>,
    polled: Mutex<Option<Instant>>,
    stopping: AtomicBool,
    /// Why the topic of dead letters takes none.
    letters_wait: Mutex<Option<String>>,
    suspension: Mutex<Suspended>,
    /// What holds all, and what ends it.
    holds: Mutex<Option<String>>,
    /// The memory for drafts in flight.
    memory: OnceLock<Arc<MemoryBudget>>,
    clock_difference: Mutex<Option<f64>>,
    /// Of the campaigns topic.
    partitions: Mutex<Option<i32>>,
    headroom: Mutex<Vec<Headroom>>,
}

impl Observed {
    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Lane, LaneView>> {
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
    standing: Arc<Observed>,
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
        let standing = Arc::new(Observed::default());
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("dinnerbell");
        let series = series::Series::register(ours, librdkafka);
        ours.register_collector(Box::new(series::Gauges(Arc::clone(&standing))));
        registry.register_collector(Box::new(process::Process));
        Self { standing, series, registry }
    }
}

/// The lanes.
impl Telemetry {
    /// The lanes and what they do.
    pub fn lanes(&self) -> BTreeMap<Lane, LaneState> {
        self.standing.lanes().iter().map(|(lane, view)| (*lane, view.state.clone())).collect()
    }

    /// Whatever failed in a lane is over: it runs, and its last round is published.
    pub fn well(&self, lane: Lane) {
        if let Some(view) = self.standing.lanes().get_mut(&lane) {
            view.trouble = None;
        }
    }

    /// A lane does something else now.
    pub fn set_lane(&self, lane: Lane, state: LaneState) {
        let is_news = {
            let mut lanes = self.standing.lanes();
            let view = lanes.entry(lane).or_insert_with(LaneView::new);
            match &state {
                LaneState::Waiting(error) => {
                    let since = view.trouble.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                    view.trouble = Some((since, error.clone()));
                }
                LaneState::Entering | LaneState::Running | LaneState::Halted(_) => {}
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
                tracing::error!(lane, halt = halt.kind.name(), %found, remedy = halt.remedy, "lane halted");
            }
            LaneState::Waiting(_) => {}
            state => tracing::info!(lane, state = state.name(), "lane"),
        }
    }

    /// A lane failed and is entered again after a pause.
    pub fn lane_failed(&self, lane: Lane, error: &LaneError, pause: Duration) {
        let text = error.to_string();
        tracing::warn!(lane, error = %redact(&text), pause_ms = pause.as_millis(), "lane is entered again");
        self.series.failures.get_or_create(&[("cause", series::cause(error))]).inc();
        self.set_lane(lane, LaneState::Waiting(text));
    }

    /// Something beside the rounds of a lane failed and is tried again.
    pub fn lane_warns(&self, lane: Lane, error: &LaneError) {
        tracing::warn!(lane, error = %redact(&error.to_string()), "tried again shortly");
        self.series.retries.get_or_create(&[("cause", series::cause(error))]).inc();
    }

    /// No page of a restaurant came in time: its campaigns are left out of the lane's rounds, and it is asked for by itself after this pause.
    pub fn left_out(&self, lane: Lane, restaurant_id: &str, said: &str, pause: Duration) {
        tracing::warn!(
            lane,
            restaurant_id,
            error = %redact(said),
            "who favours this restaurant could not be read in time: its campaigns are left out of the lane's rounds, and it is asked for alone in {:.1} s",
            pause.as_secs_f64()
        );
        let cause = series::cause(&LaneError::Audience(AudienceError::Passing(String::new())));
        self.series.retries.get_or_create(&[("cause", cause)]).inc();
    }

    /// A lane is not ours any more.
    pub fn left(&self, lane: Lane) {
        self.standing.lanes().remove(&lane);
        tracing::info!(lane, "lane left");
    }

    /// The input position of a lane, as it was found on the way in.
    pub fn position(&self, lane: Lane, position: i64) {
        if let Some(view) = self.standing.lanes().get_mut(&lane) {
            view.lag.position(position, None);
        }
    }

    /// Records were taken in.
    pub fn took_in(&self, lane: Lane, taken: &Taken, batch: &IntakeBatch, took: Duration) {
        tracing::debug!(lane, position = batch.to, tally = ?taken.tally, ?took, "intake");
        self.step("intake", took);
        self.series.took_in(&taken.tally, batch.arrivals.iter().map(|(_, arrival)| arrival));
        if let Some(view) = self.standing.lanes().get_mut(&lane) {
            let last = batch.arrivals.last().map(|(record, _)| record.timestamp).filter(|millis| *millis >= 0);
            view.lag.position(batch.to, last);
        }
    }

    /// What other lanes or an operator handed over was judged.
    pub fn judged_changes(&self, lane: Lane, taken: &Taken) {
        if taken.tally.records() == 0 {
            return;
        }
        tracing::debug!(lane, tally = ?taken.tally, "changes judged");
        self.series.judged(&taken.tally);
    }

    /// So many campaigns of a lane can get drafts now.
    pub fn running_campaigns(&self, lane: Lane, campaigns: usize) {
        if let Some(view) = self.standing.lanes().get_mut(&lane) {
            view.running_campaigns = campaigns;
        }
    }

    /// So many dead letters of a lane wait to be published, as far as they are in memory.
    pub fn waiting_letters(&self, lane: Lane, letters: usize) {
        if let Some(view) = self.standing.lanes().get_mut(&lane) {
            view.waiting_letters = letters;
        }
    }

    /// A step took this long.
    pub fn step(&self, step: &'static str, took: Duration) {
        tracing::trace!(step, ?took, "step");
        self.series.steps.get_or_create(&[("step", step)]).observe(took.as_secs_f64());
    }

    /// A round was published.
    pub fn published(&self, lane: Lane, content: &RoundContent) {
        tracing::debug!(lane, drafts = content.drafts(), dead_letters = content.dead_letters.len(), "published");
        self.well(lane);
        for part in content.parts.iter().filter(|part| part.found_nobody()) {
            let (campaign, skipped) =
                (part.drafts.template.campaign(), part.page.as_ref().map_or(0, |page| page.skipped));
            let restaurant = &campaign.restaurant_id;
            tracing::warn!(
                lane,
                campaign = campaign.adv_campaign_id,
                restaurant,
                skipped,
                "nobody favours the restaurant: the campaign reaches nobody"
            );
        }
        self.series.published(content);
    }

    /// A round that was recorded before was published on the way into its lane.
    pub fn published_again(&self, lane: Lane, drafts: usize) {
        self.well(lane);
        // The round with which a lane begins holds nothing: that is no news.
        if drafts > 0 {
            tracing::info!(lane, drafts, "a recorded round was published on the way into the lane");
        }
        self.series.rounds.inc();
        self.series.drafts.inc_by(drafts as u64);
    }

    /// A campaign ended or was cancelled, and so many were not told of it.
    pub fn unsent(&self, lane: Lane, unsent: u64, cancelled: bool) {
        let why = if cancelled { "cancelled" } else { "ended" };
        tracing::debug!(lane, unsent, why, "counted who was not told");
        self.series.unsent.get_or_create(&[("why", why)]).inc_by(unsent);
    }

    /// The campaigns topic has so many partitions.
    pub fn partitions(&self, partitions: i32) {
        *locked(&self.standing.partitions) = Some(partitions);
    }

    /// How far a lane is behind: records up to the end of its partition that are not taken in, and the age of the oldest of them in seconds;
    /// none where it could not be found out. [`watch::watch`] calls this.
    pub fn observe_lag(&self, lane: Lane, lag: Option<Lag>) {
        if let Some(view) = self.standing.lanes().get_mut(&lane) {
            view.lag.shown = lag;
        }
    }

    /// Finds a lane's lag from the ends of its partition, and shows it. `now` is in milliseconds since the epoch.
    fn find_lag(&self, lane: Lane, ends: Option<lag::Ends>, now: i64) {
        let lag = self.standing.lanes().get_mut(&lane).and_then(|view| {
            let lag = view.lag.look(ends?, now);
            if let Some(held) = view.lag.held_back.as_mut().filter(|held| !held.told && held.is_long(now)) {
                held.told = true;
                tracing::warn!(lane, "{}", held.said());
            }
            lag
        });
        self.observe_lag(lane, lag);
    }
}

/// The instance.
impl Telemetry {
    /// Something that the service needs is not there yet, or not any more. The log says each reason once in a row.
    pub fn waits_for(&self, need: Need, why: impl fmt::Display) {
        let why = why.to_string();
        let missing = readiness::NeedStatus::Missing(why.clone());
        let before = locked(&self.standing.needs).insert(need, missing.clone());
        if before != Some(missing) {
            tracing::warn!("waiting for {}: {}", need.shown(), redact(&why));
        }
    }

    /// Something that the service needs is there.
    pub fn has(&self, need: Need) {
        let before = locked(&self.standing.needs).insert(need, readiness::NeedStatus::There);
        // What was there at the first try was never waited for.
        if matches!(before, Some(readiness::NeedStatus::Missing(_))) {
            tracing::info!("{} is there", need.shown());
        }
    }

    /// The topic of dead letters takes none for this reason, so that they wait beside the rounds; or it takes them. The log says each reason
    /// once in a row.
    pub fn dead_letter_topic(&self, refusal: Option<&BrokerError>) {
        let why = refusal.map(ToString::to_string);
        let before = std::mem::replace(&mut *locked(&self.standing.letters_wait), why.clone());
        match (why, before) {
            (Some(why), before) if before.as_ref() != Some(&why) => {
                tracing::warn!("dead letters wait, drafts do not: {}", redact(&why));
            }
            (None, Some(_)) => tracing::info!("the topic of dead letters takes them again"),
            _ => {}
        }
    }

    /// The poll loop of the group's consumer went round.
    pub fn polled(&self) {
        *locked(&self.standing.polled) = Some(Instant::now());
    }

    /// What stops all sending now.
    pub fn suspended(&self, suspension: Suspension) {
        let before =
            std::mem::replace(&mut *locked(&self.standing.suspension), Suspended { suspension, since: Instant::now() });
        if before.suspension.paused != suspension.paused {
            match suspension.paused {
                true => tracing::warn!(
                    "an operator paused all sending: nothing is published until `dinnerbell resume`; `dinnerbell lane list` says who and when"
                ),
                false => tracing::warn!("an operator resumed sending"),
            }
        }
        match (before.suspension.held, suspension.held) {
            // Ordinary after a start of the feedback database, and short. A lane in which commits are missing says so by its halt.
            (false, true) => tracing::info!(
                "the feedback database is new or was started anew: nothing is sent or taken in until every lane was compared with Kafka"
            ),
            (true, false) => tracing::info!("every lane was compared with Kafka: sending and intake go on"),
            // Its beginning counts.
            (true, true) => locked(&self.standing.suspension).since = before.since,
            (false, false) => {}
        }
    }

    /// What holds all, and what ends it; none where nothing does, or not for longer than is ordinary.
    pub fn holds(&self, what: Option<String>) {
        let mut known = locked(&self.standing.holds);
        if let Some(what) = what.as_ref().filter(|what| known.as_ref() != Some(what)) {
            tracing::warn!("{what}");
        }
        *known = what;
    }

    /// How long the poll loop has stood still, if that is too long. Before its first turn, and once the service stops, it may.
    pub fn stands_still(&self) -> Option<Duration> {
        if self.standing.stopping.load(Ordering::Relaxed) {
            return None;
        }
        let polled = *locked(&self.standing.polled);
        polled.map(|at| at.elapsed()).filter(|still| *still >= LONGEST_STANDSTILL)
    }

    /// The service stops: it is not ready from here on.
    pub fn stopping(&self) {
        self.standing.stopping.store(true, Ordering::Relaxed);
    }

    /// This is the memory for drafts in flight. Only the first counts.
    pub fn watch_memory(&self, memory: Arc<MemoryBudget>) {
        let _ = self.standing.memory.set(memory);
    }

    /// This machine's clock is so many seconds ahead of the feedback database's.
    pub fn clock_difference(&self, seconds: f64) {
        *locked(&self.standing.clock_difference) = Some(seconds);
    }

    /// House-keeping took so many rows.
    pub fn pruned(&self, what: Prunable, rows: u64) {
        self.series.pruned.get_or_create(&[("what", what.name())]).inc_by(rows);
    }

    /// So much is left of ids and times. The log warns of what is low.
    pub fn headroom(&self, found: &[Headroom]) {
        for headroom in found.iter().filter(|headroom| headroom.is_low()) {
            tracing::warn!(remedy = headroom.remedy(), "{headroom}");
        }
        *locked(&self.standing.headroom) = found.to_vec();
    }

    /// Whether the instance does its work, and what is missing if not.
    pub fn readiness(&self) -> Readiness {
        self.standing.readiness()
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
