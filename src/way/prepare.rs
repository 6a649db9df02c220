//! The next round of a lane: waited for, planned, its pages read, its rows copied.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::outlet::Carries;
use super::pace::Pace;
use super::policy::Failures;
use super::record::{self, Copied};
use super::work::{Favour, MOST_RUNNING, Work};
use super::{Deps, LaneError, late, pages};
use crate::audience::{Audience, AudienceError};
use crate::broker::{Broker, DeadLetterMessage};
use crate::clock::Clock;
use crate::draft::Clients;
use crate::ledger::{Ledger, OpenCampaign, OpenRound, Ownership, RoundContent, RoundPart, Running, ToldAndRows};
use crate::memory::Held;

/// How soon a moved position is reported to Kafka when nothing is published.
const REPORT: Duration = Duration::from_secs(5);
/// How often the database's clock is read by a lane that waits for a start or an end.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);

/// A round whose rows are copied, and what it holds in memory.
pub(super) struct Prepared<O> {
    pub(super) round: Copied<O>,
    pub(super) held: Held,
    pub(super) began: Instant,
    /// Candidates for late drafts that this round judges: forgotten when it is recorded.
    pub(super) judged: Vec<Favour>,
}

/// What a round may hold.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// Most drafts of its pages.
    pages: usize,
    /// What was taken of the configured pace for it, newcomers included.
    taken: usize,
}

/// The dead letters that a round carries.
struct Letters {
    ids: Vec<i64>,
    bytes: usize,
}

/// Candidates for late drafts, and the campaigns that they may be late for.
struct Late {
    favours: Vec<Favour>,
    open: Vec<OpenCampaign>,
}

impl Late {
    /// How many drafts there are at most: one of each open campaign for each candidate of its restaurant.
    fn most_drafts(&self) -> usize {
        let open = self.open_by_restaurant();
        self.favours.iter().map(|(restaurant, _)| open.get(restaurant.as_str()).copied().unwrap_or(0)).sum()
    }

    /// Keeps as many candidates as make this many drafts, but one at least, and returns how many drafts those are.
    fn keep(&mut self, most: usize) -> usize {
        let (open, mut drafts) = (self.open_by_restaurant(), 0);
        let fit = self.favours.iter().take_while(|(restaurant, _)| {
            let first = drafts == 0;
            drafts += open.get(restaurant.as_str()).copied().unwrap_or(0);
            first || drafts <= most
        });
        let fit = fit.count();
        self.favours.truncate(fit);
        self.most_drafts()
    }

    fn open_by_restaurant(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        for open in &self.open {
            *count.entry(open.running.campaign.restaurant_id.as_str()).or_default() += 1;
        }
        count
    }

    fn of(&self, restaurant_id: &str) -> Clients {
        let of = self.favours.iter().filter(|(restaurant, _)| restaurant == restaurant_id);
        of.map(|(_, client)| client.as_str()).collect()
    }
}

impl<O: OpenRound> Prepared<O> {
    pub(super) fn content(&self) -> &Arc<RoundContent> {
        self.round.content()
    }
}

/// Reads, plans and copies the next round.
pub(super) struct Preparation<'a, B, L, A, C> {
    pub(super) deps: &'a Deps<B, L, A, C>,
    pub(super) own: Ownership,
    pub(super) work: &'a Work,
    pub(super) pace: Pace,
}

impl<B: Broker, L: Ledger, A: Audience, C: Clock> Preparation<'_, B, L, A, C> {
    /// Waits for something to do, and returns it copied. Subscribers that cannot be read for a while hold up rounds, not the lane.
    pub(super) async fn prepare(&self) -> Result<Prepared<L::Open>, LaneError> {
        let mut failures = Failures::default();
        loop {
            match self.try_prepare().await {
                Err(error @ LaneError::Audience(AudienceError::Passing(_))) => {
                    failures.judge(&error);
                    self.deps.board.lane_warns(self.own.lane, &error);
                    sleep(failures.pause()).await;
                }
                prepared => return prepared,
            }
        }
    }

    async fn try_prepare(&self) -> Result<Prepared<L::Open>, LaneError> {
        let report = tokio::time::Instant::now() + REPORT;
        loop {
            let report_due = self.wait(report).await;
            if self.work.begin_reload(self.now()) {
                let due = self.deps.ledger.due(self.own, MOST_RUNNING).await?;
                due.running
                    .iter()
                    .filter(|running| running.cursor.is_none())
                    .for_each(|running| self.deps.arrivals.note(running.id()));
                self.work.end_reload(due);
            }
            if self.deps.brake.is_on() {
                // Campaigns start and end by the clock meanwhile, though nobody is told.
                self.change_or_resumption().await;
                continue;
            }
            let favours = self.work.late();
            let open = self.open_campaigns(&favours).await?;
            let running = self.work.running();
            self.deps.board.running_campaigns(self.own.lane, running.len());
            let letters = self.letters();
            if running.is_empty() && letters.ids.is_empty() && open.is_empty() && !(report_due && self.work.has_moved())
            {
                continue;
            }
            let mut late = Late { favours, open };
            let budget = self.budget(&running, &mut late).await;
            if let Some(prepared) = self.copy(&running, budget, late, letters, report_due).await? {
                return Ok(prepared);
            }
        }
    }

    /// The dead letters of the round, if their topic takes them at this moment.
    fn letters(&self) -> Letters {
        if self.deps.outlet.carries(self.own.lane) == Carries::Nothing {
            self.work.call_letters_back();
        }
        let (ids, bytes) = self.work.dead_letters();
        Letters { ids, bytes }
    }

    /// The open campaigns of the candidates' restaurants. Where there is none, the candidates are forgotten.
    async fn open_campaigns(&self, favours: &[Favour]) -> Result<Vec<OpenCampaign>, LaneError> {
        if favours.is_empty() {
            return Ok(Vec::new());
        }
        let restaurants: BTreeSet<&String> = favours.iter().map(|(restaurant, _)| restaurant).collect();
        let restaurants: Vec<String> = restaurants.into_iter().cloned().collect();
        let open = self.deps.ledger.open_campaigns(self.own, &restaurants).await?;
        if open.is_empty() {
            self.work.forget_late(favours);
        }
        Ok(open)
    }

    /// Reads the pages and copies the rows of a planned round. None when it turns out that there is nothing to record.
    async fn copy(
        &self,
        running: &[Running],
        budget: Budget,
        late: Late,
        letters: Letters,
        report_due: bool,
    ) -> Result<Option<Prepared<L::Open>>, LaneError> {
        let began = Instant::now();
        let mut held = self.deps.memory.for_round(budget.pages + late.most_drafts(), letters.bytes).await;
        let trigger_datetime_created = self.now();
        if !running.is_empty() {
            self.work.sweep_has_begun().await;
        }
        let (pages, mut open) =
            tokio::try_join!(pages::read(&self.deps.audience, self.now(), budget.pages, running), async {
                Ok(self.deps.ledger.open_round(self.own).await?)
            })?;
        self.deps.board.step("audience", began.elapsed());
        let group = &self.deps.limits.group_id;
        let mut parts = pages::form(&mut open, pages, trigger_datetime_created, group).await?;
        for campaign in &late.open {
            let candidates = late.of(&campaign.running.campaign.restaurant_id);
            pages::add_late(&mut open, &mut parts, campaign, &candidates, trigger_datetime_created, group).await?;
        }
        self.rows_are_there(&parts, &late.open).await?;
        let dead_letters = match letters.ids.as_slice() {
            [] => Vec::new(),
            ids => open.letters(ids).await?,
        };
        if dead_letters.len() < letters.ids.len() {
            // Some were published or pruned meanwhile: what is remembered of them is out of date.
            self.work.reload();
        }
        let content = RoundContent { parts, dead_letters, trigger_datetime_created };
        self.deps.rate.settle(budget.taken, content.drafts());
        if content.parts.is_empty() && content.dead_letters.is_empty() && !report_due {
            open.abandon().await?;
            self.work.forget_late(&late.favours);
            return Ok(None);
        }
        let letters: usize = content.dead_letters.iter().map(DeadLetterMessage::size).sum();
        held.shrink_to(letters + content.parts.iter().map(|part| part.drafts.clients.size()).sum::<usize>());
        let copying = Instant::now();
        let round = record::copy::<L>(open, content).await?;
        self.deps.board.step("copy", copying.elapsed());
        Ok(Some(Prepared { round, held, began, judged: late.favours }))
    }

    /// Newcomers who are many beside those who were told can be some whose rows were removed: the rows are counted then, and that is no more
    /// than fifty times the newcomers.
    async fn rows_are_there(&self, parts: &[RoundPart], open: &[OpenCampaign]) -> Result<(), LaneError> {
        for part in parts.iter().filter(|part| part.late > 0) {
            let id = &part.drafts.template.campaign().adv_campaign_id;
            let told = open.iter().find(|open| open.running.id() == id).map_or(0, |open| open.told);
            let if_removed = ToldAndRows { told, rows: told - part.late as i64 };
            if if_removed.were_removed() {
                late::rows_are_there(self.deps, self.own, id).await?;
            }
        }
        Ok(())
    }

    fn now(&self) -> i64 {
        self.deps.clock.now() / 1_000_000
    }

    /// Waits until there is work, the next campaign starts or ends, or a report is due.
    async fn wait(&self, report: tokio::time::Instant) -> bool {
        loop {
            if self.work.is_ready(self.now()) {
                return false;
            }
            if self.work.has_moved() && report <= tokio::time::Instant::now() {
                return true;
            }
            let reporting = async {
                match self.work.has_moved() {
                    true => tokio::time::sleep_until(report).await,
                    false => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.work.changed() => {}
                () = self.next_change() => {}
                () = reporting => {}
            }
        }
    }

    /// Waits until the next campaign starts or ends.
    async fn next_change(&self) {
        let Some(at) = self.work.next_change() else { return pending().await };
        let micros = at.saturating_mul(1_000_000).saturating_sub(self.deps.clock.now()).max(0);
        // The timer is coarse, and two clocks that nobody compares drift apart: look again at least every minute.
        sleep(Duration::from_micros(micros.cast_unsigned() + 1_000).min(LOOK_AT_CLOCK)).await;
        let _ = self.deps.clock.fresh().await;
    }

    /// While all sending is paused: until it is resumed, something was added, or a campaign starts or ends.
    async fn change_or_resumption(&self) {
        tokio::select! {
            biased;
            () = self.deps.brake.off() => {}
            () = self.work.changed() => {}
            () = self.next_change() => {}
        }
    }

    /// How many drafts the next round may have. The pace is taken for pages and newcomers alike; newcomers for whom it does not reach
    /// wait for a later round.
    async fn budget(&self, running: &[Running], late: &mut Late) -> Budget {
        let pages = self.most_of_pages(running);
        let newcomers = late.most_drafts();
        let taken = match pages + newcomers {
            0 => 0,
            wanted => self.deps.rate.take(wanted).await,
        };
        if taken == pages + newcomers {
            return Budget { pages, taken };
        }
        // Half of what there is for each, if both want more.
        let newcomers = late.keep(taken.saturating_sub(pages.min(taken / 2)));
        Budget { pages: pages.min(taken.saturating_sub(newcomers)), taken }
    }

    /// Whether other campaigns wait in this lane, or came to the instance a short while ago.
    fn is_shared(&self, running: &[Running]) -> bool {
        self.work.others_wait() || running.iter().any(|running| self.deps.arrivals.another_than(running.id()))
    }

    /// Most drafts of the next round's pages: by the configuration, by what a round may take while others wait, and by memory.
    fn most_of_pages(&self, running: &[Running]) -> usize {
        if running.is_empty() {
            return 0;
        }
        let mut budget = self.deps.limits.round_rows;
        if self.is_shared(running) {
            budget = budget.min(self.pace.shared_rows());
        }
        budget.min(self.deps.memory.most_clients()).max(1)
    }
}
