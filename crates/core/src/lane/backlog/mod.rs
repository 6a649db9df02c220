//! What a lane has to do, in memory: a bounded cache of what the ledger knows, shared by the steps of one lane. It is composed of small stores, each
//! of which keeps its own rule.

mod carry_dead_letters;
mod changed_windows;
mod dead_letters;
mod late;
mod late_candidates;
mod ledger_cache;
mod overdue_and_locked;
mod running;
#[cfg(test)]
mod tests;
mod wakeups;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::guard::{Guard, Guards};
use crate::lane::backlog::dead_letters::DeadLetters;
use crate::lane::backlog::late_candidates::LateCandidates;
use crate::lane::backlog::ledger_cache::LedgerCache;
use crate::lane::backlog::running::RunningCampaigns;
use crate::lane::backlog::wakeups::Wakeups;
use crate::lane::round::quiet_rounds::{QuietRounds, RoundScope};
use crate::model::due::{Due, RunningCampaign, Uncounted};
use crate::model::intake::IntakeOutcome;
use crate::model::number::Seconds;
use crate::model::round::RoundContent;

pub use changed_windows::ChangedWindows;
pub use late_candidates::{LateCandidate, Missed, TakenCandidate};
pub use running::MAX_RUNNING;

/// What is read from the ledger, or comes from it; and what is asked of it next.
#[derive(Debug)]
struct BacklogState {
    running: RunningCampaigns,
    letters: DeadLetters,
    /// Campaigns that are over, and whose untold audience is to be counted.
    uncounted: LedgerCache<String, Uncounted>,
    late: LateCandidates,
    missed: Missed,
    /// When the next campaign starts or ends.
    next_deadline: Option<Seconds>,
    /// Whether what is held is out of date.
    reload: bool,
    /// Whether the input position moved since the last round.
    moved: bool,
}

impl Default for BacklogState {
    fn default() -> Self {
        Self {
            running: RunningCampaigns::default(),
            letters: DeadLetters::default(),
            // They are read from the ledger alone, which bounds them.
            uncounted: LedgerCache::of(usize::MAX),
            late: LateCandidates::default(),
            missed: Missed::default(),
            next_deadline: None,
            reload: false,
            moved: false,
        }
    }
}

impl BacklogState {
    /// Whether the ledger must be read.
    fn is_reload_due(&self, now: Seconds) -> bool {
        self.reload
            || self.running.is_drained()
            || self.letters.is_drained()
            || self.uncounted.is_drained()
            || self.is_change_due(now)
    }

    /// Whether there is something for a round, or the ledger is to be read for one.
    fn is_ready(&self, now: Seconds) -> bool {
        self.reload
            || self.running.has_room_for_more()
            || self.running.in_time().next().is_some()
            || self.letters.is_ready()
            || self.letters.is_drained()
            || self.uncounted.is_drained()
            || !self.late.is_empty()
            || self.is_change_due(now)
    }

    fn is_change_due(&self, now: Seconds) -> bool {
        self.next_deadline.is_some_and(|at| at <= now)
    }

    fn changes_at(&mut self, at: Option<Seconds>) {
        self.next_deadline = [self.next_deadline, at].into_iter().flatten().min();
    }

    /// Drops what the ledger is about to be asked for.
    fn forget(&mut self) {
        self.running.forget();
        self.letters.forget();
        self.uncounted.forget();
        self.next_deadline = None;
        self.reload = false;
    }
}

/// The backlog of one lane. Everything in it can be read from the ledger again; [`LaneBacklog::reload`] says that it must be.
#[derive(Debug, Default)]
pub struct LaneBacklog {
    state: Mutex<BacklogState>,
    changed_windows: Arc<ChangedWindows>,
    wakeups: Wakeups,
    quiet_rounds: Mutex<QuietRounds>,
    intake_lock: Arc<tokio::sync::Mutex<()>>,
    guards: Guards,
}

impl LaneBacklog {
    /// Returns a backlog that knows nothing: the first round reads the ledger.
    pub fn empty(guards: Guards) -> Self {
        let backlog = Self { guards, ..Self::default() };
        backlog.reload();
        backlog
    }

    fn state(&self) -> MutexGuard<'_, BacklogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks what is held as out of date: the next round reads the ledger.
    pub fn reload(&self) {
        self.state().reload = true;
        self.wakeups.changed.notify();
    }

    fn quiet_rounds(&self) -> MutexGuard<'_, QuietRounds> {
        self.quiet_rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns which campaigns may have drafts in the next round.
    pub fn next_scope(&self) -> RoundScope {
        match self.guards.enabled(Guard::QuietRounds) {
            true => self.quiet_rounds().next_scope(),
            false => RoundScope::default(),
        }
    }

    /// Notes that a round was not recorded, since these campaigns changed meanwhile.
    pub fn overtaken(&self, campaigns: Vec<String>) {
        self.quiet_rounds().overtaken(campaigns);
        if self.guards.enabled(Guard::StaleIsPlannedAgain) {
            self.reload();
        }
    }

    /// Keeps changes and quiet rounds apart. Every change of campaigns holds the lock. A quiet round holds it from reading its campaigns until it is
    /// recorded. They have it in the order in which they ask for it.
    pub async fn lock_intake(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.intake_lock).lock_owned().await
    }

    /// Marks the lane as lost: it is not as it was taken over. Its task takes it over again.
    pub fn mark_lost(&self) {
        self.wakeups.lost.set();
    }

    /// Waits until the lane is lost.
    pub async fn until_lost(&self) {
        self.wakeups.lost.is_set().await;
    }

    /// Adds what an intake found.
    pub fn add(&self, outcome: IntakeOutcome) {
        self.quiet_rounds().changed(outcome.changed.iter());
        let mut state = self.state();
        state.moved = true;
        state.reload |= !outcome.changed.is_empty();
        if self.guards.enabled(Guard::WindowsThatMoved) {
            self.changed_windows.add(outcome.windows.into_iter());
        }
        outcome.started.into_iter().for_each(|running| state.running.starts(running));
        outcome.dead_letters.into_iter().for_each(|letter| state.letters.arrives(letter));
        self.wakeups.letters.notify();
        state.changes_at(outcome.next_deadline);
        drop(state);
        self.wakeups.changed.notify();
    }

    /// Adds what came of applying changes; the input position did not move by it.
    pub fn add_applied(&self, outcome: IntakeOutcome) {
        let moved = self.state().moved;
        self.add(outcome);
        self.state().moved = moved;
    }

    /// Returns whether the ledger must be read; what is held is dropped then. What arrives meanwhile is kept beside what is read.
    pub fn begin_reload(&self, now: Seconds) -> bool {
        let mut state = self.state();
        let due = state.is_reload_due(now);
        if due {
            state.forget();
        }
        due
    }

    /// Adds what the ledger knows.
    pub fn end_reload(&self, due: Due) {
        let mut state = self.state();
        state.running.load(due.running, due.more_running);
        state.letters.load(due.dead_letters, due.more_dead_letters);
        self.wakeups.letters.notify();
        let uncounted = due.uncounted.into_iter();
        let uncounted = uncounted.map(|uncounted| (uncounted.campaign.adv_campaign_id.clone(), uncounted));
        state.uncounted.load(uncounted, due.more_uncounted);
        state.changes_at(due.next_deadline);
        if !state.uncounted.cached().is_empty() {
            self.wakeups.uncounted.notify();
        }
    }

    /// Waits until there may be a campaign to count.
    pub async fn wait_for_uncounted(&self) {
        self.wakeups.uncounted.wait().await;
    }

    /// Returns whether there is something for a round, or a reload is due.
    pub fn is_ready(&self, now: Seconds) -> bool {
        self.state().is_ready(now)
    }

    /// Wakes whoever applies changes: there may be some.
    pub fn notify_changes(&self) {
        self.wakeups.changes.notify();
    }

    /// Waits until there may be changes to apply.
    pub async fn wait_for_changes(&self) {
        self.wakeups.changes.wait().await;
    }

    /// Returns the windows that changed since the last seal began.
    pub fn changed_windows(&self) -> &Arc<ChangedWindows> {
        &self.changed_windows
    }

    /// Returns when the next campaign starts or ends.
    pub fn next_deadline(&self) -> Option<Seconds> {
        self.state().next_deadline
    }

    /// Waits until something was added.
    pub async fn wait_for_change(&self) {
        self.wakeups.changed.wait().await;
    }

    /// Returns whether the input position moved since the last round.
    pub fn has_moved(&self) -> bool {
        self.state().moved
    }

    /// Returns the running campaigns of which a round may ask for a page.
    pub fn running(&self) -> Vec<RunningCampaign> {
        self.state().running.in_time().cloned().collect()
    }

    /// Returns how many campaigns run.
    pub fn running_count(&self) -> usize {
        self.state().running.len()
    }

    /// Returns whether more than one campaign waits.
    pub fn others_wait(&self) -> bool {
        self.state().running.others_wait()
    }

    /// Returns a campaign that is over, and whose untold audience is to be counted; none of those that are left out.
    pub fn uncounted(&self, is_left_out: impl Fn(&str) -> bool) -> Option<Uncounted> {
        let state = self.state();
        state.uncounted.cached().iter().find(|(id, _)| !is_left_out(id)).map(|(_, uncounted)| uncounted.clone())
    }

    /// Wakes whoever counts campaigns that are over: the ledger knows one more round to be published.
    pub fn notify_noted(&self) {
        self.wakeups.noted.notify();
    }

    /// Waits until the ledger has learned of a publication.
    pub async fn wait_for_noted(&self) {
        self.wakeups.noted.wait().await;
    }

    /// Forgets a campaign that is counted.
    pub fn counted(&self, adv_campaign_id: &str) {
        let mut state = self.state();
        state.uncounted.remove(adv_campaign_id);
        if state.uncounted.is_drained() {
            self.wakeups.changed.notify();
        }
    }

    /// Takes over what a round recorded: cursors move, finished campaigns and published dead letters go.
    pub fn advance(&self, content: &RoundContent, quiet: bool) {
        self.quiet_rounds().recorded(quiet);
        let mut state = self.state();
        state.moved = false;
        if state.letters.recorded(content.dead_letters.iter().map(|letter| letter.id)) {
            self.wakeups.letters.notify();
        }
        let cursor_moves = self.guards.enabled(Guard::CursorOfRecordedRound);
        for part in &content.parts {
            if let Some(page) = &part.page {
                state.running.recorded(&part.drafts.template.campaign().adv_campaign_id, page, cursor_moves);
            }
        }
    }
}
