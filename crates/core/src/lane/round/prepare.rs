//! The next round of a lane: planned, its pages read, its rows copied.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep};

use crate::guard::Guard;
use crate::instance::dead_letter_topic::DeadLetterQuota;
use crate::instance::memory_budget::Reserved;
use crate::instance::round_sizing::RoundSizing;
use crate::lane::backlog::{LaneBacklog, MAX_RUNNING, TakenCandidate};
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::RETRY_BACKOFF;
use crate::lane::locks;
use crate::lane::rescan;
use crate::lane::round::budget::{Budget, Budgeting};
use crate::lane::round::late_selection::{LateBatch, MAX_LATE_CAMPAIGNS};
use crate::lane::round::pages;
use crate::lane::round::quiet_rounds::RoundScope;
use crate::lane::round::read_ahead::{AheadQuery, NextPage, PageSource, ReadAheadPace, copy_beside};
use crate::lane::round::stage_and_seal::StagedRows;
use crate::lane::round::wait::Waits;
use crate::model::due::RunningCampaign;
use crate::model::late::{LateCheckCampaign, RowCounts};
use crate::model::lock::LockedPart;
use crate::model::number::Seconds;
use crate::model::ownership::Ownership;
use crate::model::record::DeadLetterMessage;
use crate::model::round::{RoundContent, RoundPart};
use crate::model::round_capacity::RoundCapacity;
use crate::ports::audience::Audience;
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::failure::Failure;
use crate::ports::ledger::{Ledger, LedgerError, RoundTransaction};
use crate::telemetry::RoundStep;

/// How soon a moved position is reported to Kafka when nothing is published.
const REPORT: Duration = Duration::from_secs(5);

/// A round whose rows are staged, and what it holds in memory.
pub(crate) struct StagedRound<O> {
    pub(crate) round: StagedRows<O>,
    pub(crate) reservation: Reserved,
    pub(crate) began: Instant,
    /// Candidates for late drafts that this round checks: forgotten when it is recorded.
    pub(crate) checked: Vec<TakenCandidate>,
    /// Where they are checked for some of their campaigns: the last of those.
    pub(crate) last_campaign: Option<String>,
    /// Nothing is taken in until it is dropped.
    pub(crate) quiet: Option<OwnedMutexGuard<()>>,
    /// The page that follows, if it was read meanwhile.
    pub(crate) next_page: NextPage,
    /// How often one is read from now on.
    pub(crate) pace: ReadAheadPace,
}

/// The dead letters that a round carries.
struct RoundDeadLetters {
    ids: Vec<i64>,
    bytes: usize,
}

/// A round before its pages are read.
struct Planned {
    /// Whether nothing is to be taken in while it is made.
    quiet: bool,
    running: Vec<RunningCampaign>,
    late: LateBatch,
    budget: Budget,
    letters: RoundDeadLetters,
    /// Whether it is recorded though nobody is told by it.
    report_due: bool,
}

impl<O: RoundTransaction> StagedRound<O> {
    pub(crate) fn content(&self) -> &Arc<RoundContent> {
        self.round.content()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.is_some()
    }
}

/// Reads, plans and copies the next round.
pub(crate) struct Preparation<'a, B, L, A, C> {
    pub(crate) cx: &'a LaneContext<B, L, A, C>,
    pub(crate) own: Ownership,
    pub(crate) backlog: &'a LaneBacklog,
    pub(crate) sizing: RoundSizing,
    /// Whether the round before is published.
    pub(crate) may_stage: watch::Receiver<bool>,
    /// What was read for it while the round before was copied.
    pub(crate) next_page: NextPage,
    pub(crate) pace: ReadAheadPace,
}

impl<B: Broker, L: Ledger, A: Audience, C: Clock> Preparation<'_, B, L, A, C> {
    /// Waits for something to do, and returns it staged. Subscribers that cannot be read for a while hold up rounds, not the lane.
    pub(crate) async fn prepare(&self) -> Result<StagedRound<L::Transaction>, LaneError> {
        tokio::select! {
            biased;
            staged = self.try_until_staged() => staged,
            never = self.next_page.expire() => match never {},
        }
    }

    async fn try_until_staged(&self) -> Result<StagedRound<L::Transaction>, LaneError> {
        let mut backoff = RETRY_BACKOFF;
        loop {
            match self.try_prepare().await {
                // What others have locked is left out of the next attempt, where it is known, and named.
                Err(LaneError::Ledger(LedgerError::Locked(wait))) => {
                    locks::left_out(self.cx, self.own.lane, self.backlog, &wait).await;
                    if wait.campaigns.is_empty() {
                        sleep(backoff.failed()).await;
                    }
                }
                Err(LaneError::Audience(error)) if error.is_transient() => {
                    self.cx.telemetry.lane_warns(self.own.lane, &error.into());
                    sleep(backoff.failed()).await;
                }
                Ok(staged) => {
                    if !self.backlog.any_locked_out() {
                        locks::show_wait(self.cx, self.own.lane, LockedPart::Round, None).await;
                    }
                    return Ok(staged);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_prepare(&self) -> Result<StagedRound<L::Transaction>, LaneError> {
        let report = Instant::now() + REPORT;
        loop {
            let report_due = self.waits().wait(report).await;
            self.reload().await?;
            if self.cx.pause.is_suspended() && self.cx.guards.enabled(Guard::PauseBeforeARound) {
                // Campaigns start and end by the clock meanwhile, though nobody is told.
                self.waits().change_or_resumption().await;
                continue;
            }
            let late = self.late().await?;
            self.cx.telemetry.running_campaigns(self.own.lane, self.backlog.running_count());
            let (scope, running, mut late) = self.scope(late);
            let letters = self.letters();
            if running.is_empty()
                && letters.ids.is_empty()
                && late.open.is_empty()
                && !(report_due && self.backlog.has_moved())
            {
                continue;
            }
            let budget = self.budgeting().budget(&running, &mut late, scope.quiet).await;
            let planned = Planned { quiet: scope.quiet, running, late, budget, letters, report_due };
            if let Some(staged) = self.stage(planned).await? {
                return Ok(staged);
            }
        }
    }

    /// Returns the dead letters of the round, if their topic takes them at this moment.
    fn letters(&self) -> RoundDeadLetters {
        if self.cx.dead_letter_topic.quota(self.own.lane) == DeadLetterQuota::Nothing {
            self.backlog.call_dead_letters_back();
        }
        let (ids, bytes) = self.backlog.dead_letters();
        RoundDeadLetters { ids, bytes }
    }

    /// Reads what the ledger knows, where what is held is out of date.
    async fn reload(&self) -> Result<(), LaneError> {
        if self.backlog.begin_reload(self.now()) {
            let due = self.cx.ledger.due(self.own, MAX_RUNNING).await?;
            due.running
                .iter()
                .filter(|running| running.cursor.is_none())
                .for_each(|running| self.cx.recent_campaigns.add(running.id()));
            self.backlog.end_reload(due);
        }
        Ok(())
    }

    /// Returns the scope of the round, and what there is to do in it. Where that is nothing, it is the scope of the others.
    fn scope(&self, late: LateBatch) -> (RoundScope, Vec<RunningCampaign>, LateBatch) {
        let running = self.backlog.running();
        let scope = self.backlog.next_scope();
        let theirs =
            |scope: &RoundScope| running.iter().any(|running| scope.includes(running.id())) || late.has_any_in(scope);
        let others = scope.complement();
        let scope = if !theirs(&scope) && theirs(&others) { others } else { scope };
        let late = late.within(&scope);
        let running = running.into_iter().filter(|running| scope.includes(running.id())).collect();
        (scope, running, late)
    }

    /// Waits until the round before is published and no change is under way, and keeps changes away.
    async fn quiet(&self) -> OwnedMutexGuard<()> {
        // Its sender goes with this preparation.
        let _ = self.may_stage.clone().wait_for(|open| *open).await;
        self.backlog.lock_intake().await
    }

    /// Reads again what was planned, now that nothing changes any more.
    async fn read_again(&self, planned: &mut Planned) -> Result<(), LaneError> {
        self.backlog.reload();
        self.reload().await?;
        let ids: BTreeSet<String> = planned.running.iter().map(|running| running.id().to_owned()).collect();
        planned.running = self.backlog.running().into_iter().filter(|running| ids.contains(running.id())).collect();
        Ok(())
    }

    /// Returns candidates for late drafts, with the open campaigns of their restaurants. Where there is none, they are forgotten.
    async fn late(&self) -> Result<LateBatch, LaneError> {
        let (candidates, after) = self.backlog.late();
        if candidates.is_empty() {
            return Ok(LateBatch::default());
        }
        let restaurants: BTreeSet<&String> = candidates.iter().map(|candidate| &candidate.restaurant_id).collect();
        let restaurants: Vec<String> = restaurants.into_iter().cloned().collect();
        let mut open =
            self.cx.ledger.late_campaigns(self.own, &restaurants, after.as_deref(), MAX_LATE_CAMPAIGNS).await?;
        // Who is late for a campaign that is left out is found when that is let in again.
        let found = open.len();
        open.retain(|open| !self.backlog.is_locked_out(&open.adv_campaign_id));
        if open.is_empty() {
            if found >= MAX_LATE_CAMPAIGNS {
                // Further campaigns were not read, and may not be left out: a rescan finds who is late for them.
                self.backlog.missed(restaurants.into_iter());
            }
            self.backlog.checked_late(&candidates, None);
            return Ok(LateBatch::default());
        }
        let most = MAX_LATE_CAMPAIGNS - (found - open.len());
        Ok(LateBatch::of(candidates, open, most))
    }

    /// Returns the dead letters of the round, as the ledger holds them.
    async fn read_dead_letters(
        &self,
        open: &mut L::Transaction,
        letters: &RoundDeadLetters,
    ) -> Result<Vec<DeadLetterMessage>, LaneError> {
        if letters.ids.is_empty() {
            return Ok(Vec::new());
        }
        let dead_letters = open.dead_letters(&letters.ids).await?;
        if dead_letters.len() < letters.ids.len() {
            // Some were published or pruned meanwhile: what is remembered of them is out of date.
            self.backlog.reload();
        }
        Ok(dead_letters)
    }

    /// Reads the pages and stages the rows of a planned round. None when it turns out that there is nothing to record.
    async fn stage(&self, mut planned: Planned) -> Result<Option<StagedRound<L::Transaction>>, LaneError> {
        let clients = planned.budget.pages.rows + planned.late.max_cost().rows;
        let memory = self.cx.memory.for_round(clients, planned.letters.bytes);
        let mut reservation = self.next_page.make_room(memory).await;
        if !planned.running.is_empty() && self.cx.guards.enabled(Guard::HighWaterBeforePages) {
            self.backlog.tail_scan_has_begun().await;
        }
        let mut quiet = None;
        if planned.quiet {
            quiet = Some(self.quiet().await);
            self.read_again(&mut planned).await?;
        }
        let Planned { running, late, budget, letters, report_due, .. } = planned;
        let began = Instant::now();
        let trigger_datetime_created = self.now();
        let source = PageSource::new(&self.cx.audience, self.next_page.take());
        let (pages, mut open) = tokio::try_join!(pages::read(source, self.now(), budget.pages, &running), async {
            Ok(self.cx.ledger.open_round(self.own).await?)
        })?;
        self.cx.telemetry.step(RoundStep::Audience, began.elapsed());
        self.note_overdue(&pages);
        let (group, guards) = (&self.cx.limits.group_id, self.cx.guards);
        let mut parts = pages::form(&mut open, pages.read, trigger_datetime_created, group, guards).await?;
        let candidates = late.candidates();
        let with_candidates = |open: &'_ LateCheckCampaign| candidates.get(open.restaurant_id.as_str());
        let checked: Vec<_> = late.open.iter().filter_map(|open| Some((open, with_candidates(open)?))).collect();
        pages::add_late(&mut open, &mut parts, &checked, trigger_datetime_created, group, guards).await?;
        self.rows_are_there(&parts, &late.open).await?;
        let dead_letters = self.read_dead_letters(&mut open, &letters).await?;
        let round_bytes = self.sizing.to_store();
        let content = RoundContent { parts, dead_letters, trigger_datetime_created, round_bytes };
        if !guards.enabled(Guard::LateForgottenWhenRecorded) {
            self.backlog.checked_late(&late.candidates, late.last_campaign.as_deref());
        }
        self.cx.rate.refund_unused(budget.tokens, content.drafts());
        if content.parts.is_empty() && content.dead_letters.is_empty() && !report_due {
            open.abandon().await?;
            self.backlog.checked_late(&late.candidates, late.last_campaign.as_deref());
            return Ok(None);
        }
        let letters: usize = content.dead_letters.iter().map(DeadLetterMessage::size).sum();
        reservation.shrink_to(letters + content.parts.iter().map(|part| part.drafts.clients.size()).sum::<usize>());
        let copying = Instant::now();
        let (round, next_page, pace) = self.copy(open, content, budget.pages, quiet.is_some()).await?;
        let parts = round.content().parts.iter();
        self.backlog.staged(parts.map(|part| part.drafts.template.campaign().adv_campaign_id.as_str()));
        self.cx.telemetry.step(RoundStep::Copy, copying.elapsed());
        Ok(Some(StagedRound {
            round,
            reservation,
            began,
            checked: late.candidates,
            last_campaign: late.last_campaign,
            quiet,
            next_page,
            pace,
        }))
    }

    /// Copies the rows of a round. Meanwhile it reads the page that follows, where one is due.
    async fn copy(
        &self,
        open: L::Transaction,
        content: RoundContent,
        capacity: RoundCapacity,
        quiet: bool,
    ) -> Result<(StagedRows<L::Transaction>, NextPage, ReadAheadPace), LedgerError> {
        let content = Arc::new(content);
        let copying = StagedRows::copy(open, Arc::clone(&content));
        if quiet {
            return Ok((copying.await?, NextPage::default(), self.pace));
        }
        let Some(query) = AheadQuery::of(&content, capacity, &self.cx.memory) else {
            return Ok((copying.await?, NextPage::default(), self.pace));
        };
        match self.pace.next() {
            (true, pace) => copy_beside(copying, query.read(&self.cx.audience), pace).await,
            (false, pace) => {
                drop(query);
                Ok((copying.await?, NextPage::default(), pace))
            }
        }
    }

    /// Campaigns whose pages did not come in time are left out of the next rounds.
    fn note_overdue(&self, pages: &pages::Pages) {
        for (running, _) in &pages.read {
            self.backlog.came(&running.campaign.restaurant_id);
        }
        for (restaurant, said) in &pages.overdue {
            let pause = self.backlog.overdue(restaurant);
            self.cx.telemetry.left_out(self.own.lane, restaurant, said, pause);
        }
    }

    /// Many newcomers beside few who were told can mean that rows were removed. Then the rows are counted, no more than fifty times the newcomers.
    /// Fails with a halt where rows are missing.
    async fn rows_are_there(&self, parts: &[RoundPart], open: &[LateCheckCampaign]) -> Result<(), LaneError> {
        for part in parts.iter().filter(|part| part.late > 0) {
            let id = &part.drafts.template.campaign().adv_campaign_id;
            let told = open.iter().find(|open| open.adv_campaign_id == *id).map_or(0, |open| open.told);
            let if_removed = RowCounts { told, rows: told - part.late as i64 };
            if if_removed.indicates_bulk_removal() {
                rescan::rows_are_there(self.cx, self.own, id).await?;
            }
        }
        Ok(())
    }

    fn now(&self) -> Seconds {
        self.cx.clock.now().seconds()
    }

    fn waits(&self) -> Waits<'_, B, L, A, C> {
        Waits { cx: self.cx, backlog: self.backlog }
    }

    fn budgeting(&self) -> Budgeting<'_, B, L, A, C> {
        Budgeting { cx: self.cx, backlog: self.backlog, sizing: self.sizing }
    }
}
