//! One lane's life: in by the one way, then intake and rounds side by side until something fails or the lane is to stop.
//!
//! Everything of a lane happens inside one future. Dropping it at any await is a crash: what was in flight is found by the next entry.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::{pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::entry::{Entry, LastRound, Owned, enter, halt};
use super::pace::Pace;
use super::policy::{Failures, Next};
use super::publish::{Published, publish};
use super::record::{self, Copied, Recorded};
use super::work::{Favour, MOST_RUNNING, Work};
use super::{Deps, LaneError, intake, late, lookout, pages};
use crate::audience::{Audience, AudienceError};
use crate::broker::{Broker, DeadLetterMessage, Lane};
use crate::clock::Clock;
use crate::draft::Clients;
use crate::ledger::{Halt, Ledger, OpenCampaign, OpenRound, Ownership, RoundContent, Running, Uncounted};
use crate::memory::Held;
use crate::metrics::LaneState;

/// How long a copied round waits, its transaction open, for the round before it to be published.
const GATE_WAIT: Duration = Duration::from_secs(2);
/// How soon the ledger learns of a published round that finished a campaign.
const NOTE_FINISHED: Duration = Duration::from_millis(250);
/// How soon the ledger learns of any published round.
const NOTE_IDLE: Duration = Duration::from_secs(1);
/// How soon a moved position is reported to Kafka when nothing is published.
const REPORT: Duration = Duration::from_secs(5);
/// How often a halted lane looks for its resolution.
const LOOK_FOR_RESOLUTION: Duration = Duration::from_secs(1);
/// How often a campaign whose count failed is counted again.
const COUNT_AGAIN: Duration = Duration::from_secs(5);
/// How often the database's clock is read by a lane that waits for a start or an end.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);

/// Keeps a lane until it is told to stop or the lane is somebody else's.
pub async fn keep<B: Broker, L: Ledger, A: Audience, C: Clock>(
    deps: Arc<Deps<B, L, A, C>>,
    lane: Lane,
    mut stop: watch::Receiver<bool>,
) {
    let mut failures = Failures::default();
    while !*stop.borrow() {
        let Err(error) = live(&deps, lane, &mut failures, &mut stop).await else { continue };
        match failures.judge(lane, &error) {
            Next::Leave => break,
            Next::EnterAgain => {
                let pause = failures.pause();
                deps.board.lane_failed(lane, &error, pause);
                let _ = timeout(pause, stopped(&mut stop)).await;
            }
            Next::Halt(halt) => {
                deps.board.set_lane(lane, LaneState::Halted(halt));
                let _ = timeout(LOOK_FOR_RESOLUTION, stopped(&mut stop)).await;
            }
        }
    }
    deps.board.left(lane);
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A dropped sender means that the service is gone: that is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One ownership of the lane, from the bump to an error or the stop.
async fn live<B: Broker, L: Ledger, A: Audience, C: Clock>(
    deps: &Deps<B, L, A, C>,
    lane: Lane,
    failures: &mut Failures,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), LaneError> {
    deps.board.set_lane(lane, LaneState::Entering);
    match enter(deps, lane, failures).await? {
        Entry::Halted(own, halt) => stand_still(deps, own, halt, stop).await,
        Entry::Runs(owned) => {
            deps.board.set_lane(lane, LaneState::Running);
            // What cannot be published brings it here again and again: whatever failed is over only afterwards.
            if matches!(owned.last, LastRound::Published { .. }) {
                deps.board.well(lane);
            }
            let own = owned.own;
            match run(deps, *owned, failures, stop).await {
                // A step that failed for good is recorded as a halt while the lane is still ours to write.
                Err(error) => Err(halt(deps, own, error, failures).await),
                stopped => stopped,
            }
        }
    }
}

/// A halted lane stays assigned, and looks for its resolution.
async fn stand_still<B, L: Ledger, A, C>(
    deps: &Deps<B, L, A, C>,
    own: Ownership,
    halt: Halt,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), LaneError> {
    deps.board.set_lane(own.lane, LaneState::Halted(halt));
    while !*stop.borrow() {
        if deps.ledger.resolved(own).await? {
            break;
        }
        let _ = timeout(LOOK_FOR_RESOLUTION, stopped(stop)).await;
    }
    Ok(())
}

/// Intake, rounds and the counting of campaigns that are over, side by side.
async fn run<B: Broker, L: Ledger, A: Audience, C: Clock>(
    deps: &Deps<B, L, A, C>,
    owned: Owned<B>,
    failures: &mut Failures,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), LaneError> {
    let Owned { own, ledger, producer, last, input, position } = owned;
    let work = Arc::new(Work::unread());
    let _post = deps.lookout.enter(own.lane, Arc::clone(&work));
    let announcing: Announcing<'_, B::Producer> = match last {
        LastRound::Published { published, noted } => {
            Box::pin(ready(Ok(Gate { producer, published, noted, finished: !noted })))
        }
        LastRound::Recorded(recorded) => Box::pin(announce_again(deps, &work, producer, recorded)),
    };
    let rounds = Rounds { deps, own, ledger, work: &work, failures };
    tokio::select! {
        biased;
        ended = rounds.run(announcing, stop) => ended,
        failed = intake::take_in(deps, own, input, position, &work) => failed.map(|never: Infallible| match never {}),
        failed = judge_changes(deps, own, &work) => failed.map(|never: Infallible| match never {}),
        failed = lookout::look_out(deps, own.lane) => failed.map(|never: Infallible| match never {}),
        failed = late::repass(deps, own, &work) => failed.map(|never: Infallible| match never {}),
        failed = count_ended(deps, own, &work) => failed.map(|never: Infallible| match never {}),
    }
}

/// What publishing hands back: the right to record the next round.
struct Gate<P> {
    producer: P,
    published: Published,
    /// Whether the ledger knows that the round is published.
    noted: bool,
    /// Whether campaigns become complete by it.
    finished: bool,
}

type Announcing<'a, P> = BoxFuture<'a, Result<Gate<P>, LaneError>>;

struct Rounds<'a, B, L, A, C> {
    deps: &'a Deps<B, L, A, C>,
    own: Ownership,
    ledger: uuid::Uuid,
    work: &'a Work,
    failures: &'a mut Failures,
}

impl<'a, B: Broker, L: Ledger, A: Audience, C: Clock> Rounds<'a, B, L, A, C> {
    /// While a round is announced, the next one is read, planned and copied; never deeper.
    async fn run(
        self,
        mut announcing: Announcing<'a, B::Producer>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), LaneError> {
        let mut pace = Pace::default();
        loop {
            let preparation = Preparation { deps: self.deps, own: self.own, work: self.work, pace };
            let (copied, gate) = match self.next(preparation, announcing, stop).await? {
                Step::Round(copied, gate) => (copied, gate),
                Step::Stop(None | Some(Gate { noted: true, .. })) => return Ok(()),
                Step::Stop(Some(gate)) => return self.note(gate.published).await,
            };
            if self.deps.brake.is_on() {
                // It was copied before the pause: what is not recorded yet is planned anew afterwards.
                drop(copied);
                announcing = Box::pin(ready(Ok(gate)));
                continue;
            }
            let content = Arc::clone(copied.content());
            let began = copied.began;
            let sealing = Instant::now();
            self.work.forget_ends();
            match copied.round.seal(self.own.lane, self.ledger, &gate.published).await? {
                Some(recorded) => {
                    pace = pace.after(content.drafts(), content.parts.len(), began.elapsed());
                    self.deps.board.step("record", sealing.elapsed());
                    self.work.advance(&content);
                    self.work.forget_late(&copied.judged);
                    self.deps.board.running_campaigns(self.own.lane, self.work.running_count());
                    self.failures.clear();
                    self.work.settle();
                    if recorded.closed_others() {
                        self.work.reload();
                    }
                    announcing =
                        Box::pin(announce(self.deps, self.work, gate.producer, recorded, content, copied.held));
                }
                None => {
                    self.work.reload();
                    announcing = Box::pin(ready(Ok(gate)));
                }
            }
        }
    }

    /// Prepares a round while the one before it is announced, and waits for both.
    async fn next(
        &self,
        preparation: Preparation<'a, B, L, A, C>,
        mut announcing: Announcing<'a, B::Producer>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Step<L::Open, B::Producer>, LaneError> {
        let mut preparing = pin!(preparation.prepare());
        let mut gate = tokio::select! {
            biased;
            () = stopped(stop) => return Ok(Step::Stop(self.ended(announcing).await?)),
            gate = &mut announcing => gate?,
            copied = &mut preparing => {
                let copied = match copied {
                    Ok(copied) => copied,
                    // What is under way in Kafka is not to blame: let it end well before the lane is entered again.
                    Err(error) => {
                        if let Some(gate) = self.ended(announcing).await? {
                            self.note(gate.published).await?;
                        }
                        return Err(error);
                    }
                };
                match timeout(GATE_WAIT, &mut announcing).await {
                    Ok(gate) => return Ok(Step::Round(copied, gate?)),
                    // The open transaction would hold locks for too long: roll back, and copy again after the gate.
                    Err(_) => drop(copied),
                }
                let gate = tokio::select! {
                    biased;
                    gate = &mut announcing => gate?,
                    () = stopped(stop) => return Ok(Step::Stop(self.ended(announcing).await?)),
                };
                preparing.set(preparation.prepare());
                gate
            }
        };
        loop {
            let wait = if gate.noted {
                None
            } else if gate.finished {
                Some(NOTE_FINISHED)
            } else {
                Some(NOTE_IDLE)
            };
            let note = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopped(stop) => return Ok(Step::Stop(Some(gate))),
                copied = &mut preparing => return Ok(Step::Round(copied?, gate)),
                () = note => {
                    self.note(gate.published).await?;
                    gate.noted = true;
                }
            }
        }
    }

    /// Waits for the round that is being announced. None while all sending is paused: it is recorded, and the next owner announces it.
    async fn ended(&self, announcing: Announcing<'a, B::Producer>) -> Result<Option<Gate<B::Producer>>, LaneError> {
        tokio::select! {
            biased;
            gate = announcing => Ok(Some(gate?)),
            () = self.deps.brake.on() => Ok(None),
        }
    }

    /// The ledger learns that the last round is published.
    async fn note(&self, published: Published) -> Result<(), LaneError> {
        if self.deps.ledger.note_published(self.own, published.head().seq).await? {
            self.work.reload();
        }
        self.work.settle();
        Ok(())
    }
}

enum Step<O, P> {
    Round(Prepared<O>, Gate<P>),
    /// With what the last round left, if it is published.
    Stop(Option<Gate<P>>),
}

/// Publishes a recorded round; the memory of its drafts is free afterwards.
async fn announce<B: Broker, L, A, C: Clock>(
    deps: &Deps<B, L, A, C>,
    work: &Work,
    producer: B::Producer,
    recorded: Recorded,
    content: Arc<RoundContent>,
    held: Held,
) -> Result<Gate<B::Producer>, LaneError> {
    let began = Instant::now();
    let (producer, published) = send(deps, work, producer, &recorded).await?;
    drop(held);
    deps.board.step("publish", began.elapsed());
    deps.board.published(recorded.publication().lane, &content);
    let finished = content.parts.iter().any(|part| part.page.as_ref().is_some_and(|page| page.last));
    Ok(Gate { producer, published, noted: false, finished })
}

/// Publishes a round that was found recorded on the way in.
async fn announce_again<B: Broker, L, A, C: Clock>(
    deps: &Deps<B, L, A, C>,
    work: &Work,
    producer: B::Producer,
    recorded: Recorded,
) -> Result<Gate<B::Producer>, LaneError> {
    let (producer, published) = send(deps, work, producer, &recorded).await?;
    deps.board.published_again(recorded.publication().lane, recorded.drafts());
    // What the round finished is not known here: the ledger learns of it soon.
    Ok(Gate { producer, published, noted: false, finished: true })
}

/// Publishes a recorded round within the memory that its messages may take, unless one of its campaigns is over by then.
async fn send<B: Broker, L, A, C: Clock>(
    deps: &Deps<B, L, A, C>,
    work: &Work,
    producer: B::Producer,
    recorded: &Recorded,
) -> Result<(B::Producer, Published), LaneError> {
    let _on_their_way = deps.memory.for_publication(recorded.publication().size()).await;
    let is_over = |now| work.is_any_over(recorded.campaigns(), now);
    publish(producer, recorded, &deps.clock, &deps.brake, is_over).await
}

/// A round whose rows are copied, and what it holds in memory.
struct Prepared<O> {
    round: Copied<O>,
    held: Held,
    began: Instant,
    /// Candidates for late drafts that this round judges: forgotten when it is recorded.
    judged: Vec<Favour>,
}

/// What a round may hold.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// Most drafts of its pages.
    pages: usize,
    /// What was taken of the configured pace for it, newcomers included.
    taken: usize,
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
    fn content(&self) -> &Arc<RoundContent> {
        self.round.content()
    }
}

/// Reads, plans and copies the next round.
struct Preparation<'a, B, L, A, C> {
    deps: &'a Deps<B, L, A, C>,
    own: Ownership,
    work: &'a Work,
    pace: Pace,
}

impl<B: Broker, L: Ledger, A: Audience, C: Clock> Preparation<'_, B, L, A, C> {
    /// Waits for something to do, and returns it copied. Subscribers that cannot be read for a while hold up rounds, not the lane.
    async fn prepare(&self) -> Result<Prepared<L::Open>, LaneError> {
        let mut failures = Failures::default();
        loop {
            match self.try_prepare().await {
                Err(error @ LaneError::Audience(AudienceError::Passing(_))) => {
                    failures.judge(self.own.lane, &error);
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
            let dead_letters = self.work.dead_letters();
            if running.is_empty()
                && dead_letters.is_empty()
                && open.is_empty()
                && !(report_due && self.work.has_moved())
            {
                continue;
            }
            let mut late = Late { favours, open };
            let budget = self.budget(&running, &mut late).await;
            if let Some(prepared) = self.copy(&running, budget, late, dead_letters, report_due).await? {
                return Ok(prepared);
            }
        }
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
        dead_letters: Vec<DeadLetterMessage>,
        report_due: bool,
    ) -> Result<Option<Prepared<L::Open>>, LaneError> {
        let began = Instant::now();
        let mut held = self.deps.memory.for_round(budget.pages + late.most_drafts()).await;
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
        let content = RoundContent { parts, dead_letters, trigger_datetime_created };
        self.deps.rate.settle(budget.taken, content.drafts());
        if content.parts.is_empty() && content.dead_letters.is_empty() && !report_due {
            open.abandon().await?;
            self.work.forget_late(&late.favours);
            return Ok(None);
        }
        held.shrink_to(content.parts.iter().map(|part| part.drafts.clients.size()).sum());
        let copying = Instant::now();
        let round = record::copy::<L>(open, content).await?;
        self.deps.board.step("copy", copying.elapsed());
        Ok(Some(Prepared { round, held, began, judged: late.favours }))
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

/// Judges what other lanes, or an operator, recorded about campaigns of this lane.
async fn judge_changes<B: Broker, L: Ledger, A: Audience, C: Clock>(
    deps: &Deps<B, L, A, C>,
    own: Ownership,
    work: &Work,
) -> Result<Infallible, LaneError> {
    loop {
        work.judge_called().await;
        let taken = deps.ledger.judge_changes(own).await?;
        deps.board.judged_changes(own.lane, &taken);
        if !taken.changed.is_empty() || !taken.dead_letters.is_empty() {
            work.judged(taken);
        }
    }
}

/// Counts, in the background, who was not told of campaigns whose end passed, or that were cancelled.
async fn count_ended<B: Broker, L: Ledger, A: Audience, C: Clock>(
    deps: &Deps<B, L, A, C>,
    own: Ownership,
    work: &Work,
) -> Result<Infallible, LaneError> {
    loop {
        let Some(Uncounted { campaign, cancelled }) = work.uncounted() else {
            work.uncounted_added().await;
            continue;
        };
        let id = &campaign.adv_campaign_id;
        let counting = pages::count_untold(deps, &campaign.restaurant_id, id, deps.limits.round_rows);
        match counting.await {
            Ok(unsent) => {
                if deps.ledger.note_unsent(own, id, unsent).await? {
                    deps.board.unsent(own.lane, unsent, cancelled);
                    work.counted(id);
                } else {
                    work.settled().await;
                }
            }
            Err(error) => {
                deps.board.lane_warns(own.lane, &error);
                sleep(COUNT_AGAIN).await;
            }
        }
    }
}
