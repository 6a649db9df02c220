//! The next round of a lane: waited for, planned, its pages read, its rows copied.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::guard::Guard;
use crate::instance::dead_letters::Carries;
use crate::instance::memory_budget::Reserved;
use crate::instance::round_sizing::RoundSizing;
use crate::lane::backlog::{LaneBacklog, LateCandidate, MOST_RUNNING};
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::STEP;
use crate::lane::late;
use crate::lane::round::plan::Room;
use crate::lane::round::record::Staged;
use crate::lane::round::turns::RoundTurn;
use crate::lane::round::{pages, record};
use crate::model::clients::Clients;
use crate::model::draft::largest_draft;
use crate::model::due::ActiveCampaign;
use crate::model::late::{LateFor, ToldAndRows};
use crate::model::ownership::Ownership;
use crate::model::record::DeadLetterMessage;
use crate::model::round::{RoundContent, RoundPart};
use crate::ports::audience::Audience;
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::failure::Failure;
use crate::ports::ledger::{Ledger, OpenRound};

/// How soon a moved position is reported to Kafka when nothing is published.
const REPORT: Duration = Duration::from_secs(5);
/// How often the database's clock is read by a lane that waits for a start or an end.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);
/// Most campaigns for which candidates are judged in one round.
const MOST_LATE_FOR: usize = 200;
const NOTHING: Room = Room { rows: 0, bytes: 0 };

/// A round whose rows are copied, and what it holds in memory.
pub(crate) struct Prepared<O> {
    pub(crate) round: Staged<O>,
    pub(crate) held: Reserved,
    pub(crate) began: Instant,
    /// Candidates for late drafts that this round judges: forgotten when it is recorded.
    pub(crate) judged: Vec<LateCandidate>,
    /// Where they are judged for some of their campaigns: the last of those.
    pub(crate) upto: Option<String>,
    /// Nothing is taken in until it is dropped.
    pub(crate) quiet: Option<OwnedMutexGuard<()>>,
}

/// What a round may hold.
#[derive(Debug, Clone, Copy)]
struct Budget {
    /// Of its pages.
    pages: Room,
    /// What was taken of the configured pace for it, newcomers included.
    taken: usize,
}

/// The dead letters that a round carries.
struct Letters {
    ids: Vec<i64>,
    bytes: usize,
}

/// A round before its pages are read.
struct Planned {
    /// Whether nothing is to be taken in while it is made.
    quiet: bool,
    running: Vec<ActiveCampaign>,
    late: Late,
    budget: Budget,
    letters: Letters,
    /// Whether it is recorded though nobody is told by it.
    report_due: bool,
}

/// Candidates for late drafts, and the campaigns that they may be late for, by restaurant and id.
#[derive(Default)]
struct Late {
    candidates: Vec<LateCandidate>,
    open: Vec<LateFor>,
    /// Whether there may be further campaigns behind those.
    is_cut: bool,
    /// Where the candidates are not judged for all their campaigns: the last one.
    upto: Option<String>,
}

impl Late {
    /// Of the first `most` campaigns of the candidates' restaurants. What may lie behind the last one is left to a later round.
    fn of(candidates: Vec<LateCandidate>, open: Vec<LateFor>, most: usize) -> Self {
        let mut late = Self { is_cut: open.len() >= most, candidates, open, upto: None };
        let ends = late.open.last().map(|last| last.restaurant_id.clone());
        let begins = late.open.first().map(|first| first.restaurant_id.clone());
        if late.is_cut {
            if begins != ends {
                late.open.retain(|open| Some(&open.restaurant_id) != ends.as_ref());
                late.is_cut = false;
            }
            let known: BTreeSet<String> = late.open.iter().map(|open| open.restaurant_id.clone()).collect();
            late.candidates.retain(|(restaurant, _)| known.contains(restaurant));
        }
        late
    }

    /// How many drafts there are at most: one of each open campaign for each candidate of its restaurant; and their bytes.
    fn most_drafts(&self) -> Room {
        let of_each = self.of_each();
        let add = |sum: Room, (restaurant, _): &LateCandidate| {
            let one = of_each.get(restaurant.as_str()).copied().unwrap_or(NOTHING);
            Room { rows: sum.rows + one.rows, bytes: sum.bytes + one.bytes }
        };
        self.candidates.iter().fold(NOTHING, add)
    }

    /// Keeps as many candidates as there is room for their drafts. Where there is none for the drafts of a single one, some are judged for
    /// the first of their campaigns; the next round goes on behind these.
    fn keep(&mut self, room: Room) {
        let (of_each, mut left) = (self.of_each(), Some(room));
        let fit = self.candidates.iter().take_while(|(restaurant, _)| {
            let one = of_each.get(restaurant.as_str()).copied().unwrap_or(NOTHING);
            left = left.and_then(|left| left.less(one.rows, one.bytes));
            left.is_some()
        });
        let fit = fit.count();
        let first = self.candidates.iter().find(|(restaurant, _)| of_each.contains_key(restaurant.as_str()));
        let Some(first) = first.map(|(restaurant, _)| restaurant.clone()) else { return };
        let fits = self.candidates.iter().take(fit).any(|(restaurant, _)| *restaurant == first);
        if fits && !self.is_cut {
            self.candidates.truncate(fit);
        } else {
            self.keep_some_campaigns(&first, room);
        }
    }

    /// Keeps candidates of one restaurant, and the first of its campaigns: one of each at least.
    fn keep_some_campaigns(&mut self, restaurant: &str, room: Room) {
        self.open.retain(|open| open.restaurant_id == restaurant);
        let (all, mut of_one) = (self.open.len(), NOTHING);
        let fit = self.open.iter().take_while(|open| {
            of_one = Room { rows: of_one.rows + 1, bytes: of_one.bytes + largest_draft(open.texts) };
            of_one.rows == 1 || room.less(of_one.rows, of_one.bytes).is_some()
        });
        let fit = fit.count();
        self.open.truncate(fit);
        let of_one = self.of_each().get(restaurant).copied().unwrap_or(NOTHING);
        let candidates = (room.rows / of_one.rows.max(1)).min(room.bytes / of_one.bytes.max(1)).max(1);
        self.candidates.retain(|(of, _)| of == restaurant);
        self.candidates.truncate(candidates);
        if fit < all || self.is_cut {
            self.upto = self.open.last().map(|last| last.adv_campaign_id.clone());
        }
    }

    /// Whether a round of this turn judges any of them.
    fn is_any_of(&self, turn: &RoundTurn) -> bool {
        let left = self.left_by(turn);
        self.open.iter().any(|open| !left.contains(open.restaurant_id.as_str()))
    }

    /// Those that a round of this turn judges.
    fn of_turn(mut self, turn: &RoundTurn) -> Self {
        let left: BTreeSet<String> = self.left_by(turn).into_iter().map(str::to_owned).collect();
        self.candidates.retain(|(restaurant, _)| !left.contains(restaurant));
        self.open.retain(|open| !left.contains(&open.restaurant_id));
        self
    }

    /// The restaurants whose candidates wait for another turn. One is judged for all campaigns of its restaurant at once: while one of those is
    /// being changed, in a quiet round.
    fn left_by(&self, turn: &RoundTurn) -> BTreeSet<&str> {
        let of_turn = |is: bool| {
            let open = self.open.iter().filter(move |open| turn.is_of(&open.adv_campaign_id) == is);
            open.map(|open| open.restaurant_id.as_str())
        };
        let theirs: BTreeSet<&str> = of_turn(true).collect();
        of_turn(false).filter(|restaurant| !turn.quiet || !theirs.contains(restaurant)).collect()
    }

    /// What one candidate of each restaurant may take.
    fn of_each(&self) -> BTreeMap<&str, Room> {
        let mut of_each = BTreeMap::new();
        for open in &self.open {
            let room = of_each.entry(open.restaurant_id.as_str()).or_insert(NOTHING);
            *room = Room { rows: room.rows + 1, bytes: room.bytes + largest_draft(open.texts) };
        }
        of_each
    }

    /// The candidates of each restaurant.
    fn candidates(&self) -> BTreeMap<&str, Clients> {
        let mut candidates = BTreeMap::<&str, Clients>::new();
        for (restaurant, client) in &self.candidates {
            candidates.entry(restaurant).or_default().push(client);
        }
        candidates
    }
}

impl<O: OpenRound> Prepared<O> {
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
    pub(crate) work: &'a LaneBacklog,
    pub(crate) pace: RoundSizing,
    /// Whether the round before is published.
    pub(crate) gate: watch::Receiver<bool>,
}

impl<B: Broker, L: Ledger, A: Audience, C: Clock> Preparation<'_, B, L, A, C> {
    /// Waits for something to do, and returns it copied. Subscribers that cannot be read for a while hold up rounds, not the lane.
    pub(crate) async fn prepare(&self) -> Result<Prepared<L::Open>, LaneError> {
        let mut backoff = STEP;
        loop {
            match self.try_prepare().await {
                Err(LaneError::Audience(error)) if error.is_passing() => {
                    self.cx.telemetry.lane_warns(self.own.lane, &error.into());
                    sleep(backoff.failed()).await;
                }
                prepared => return prepared,
            }
        }
    }

    async fn try_prepare(&self) -> Result<Prepared<L::Open>, LaneError> {
        let report = Instant::now() + REPORT;
        loop {
            let report_due = self.wait(report).await;
            self.reload().await?;
            if self.cx.pause.is_on() && self.cx.guards.hold(Guard::PauseBeforeARound) {
                // Campaigns start and end by the clock meanwhile, though nobody is told.
                self.change_or_resumption().await;
                continue;
            }
            let late = self.late().await?;
            self.cx.telemetry.running_campaigns(self.own.lane, self.work.running_count());
            let (turn, running, mut late) = self.turn(late);
            let letters = self.letters();
            if running.is_empty()
                && letters.ids.is_empty()
                && late.open.is_empty()
                && !(report_due && self.work.has_moved())
            {
                continue;
            }
            let budget = self.budget(&running, &mut late, turn.quiet).await;
            let planned = Planned { quiet: turn.quiet, running, late, budget, letters, report_due };
            if let Some(prepared) = self.copy(planned).await? {
                return Ok(prepared);
            }
        }
    }

    /// The dead letters of the round, if their topic takes them at this moment.
    fn letters(&self) -> Letters {
        if self.cx.dead_letter_topic.carries(self.own.lane) == Carries::Nothing {
            self.work.call_letters_back();
        }
        let (ids, bytes) = self.work.dead_letters();
        Letters { ids, bytes }
    }

    /// Reads what the ledger knows, where what is held is out of date.
    async fn reload(&self) -> Result<(), LaneError> {
        if self.work.begin_reload(self.now()) {
            let due = self.cx.ledger.due(self.own, MOST_RUNNING).await?;
            due.running
                .iter()
                .filter(|running| running.cursor.is_none())
                .for_each(|running| self.cx.arrivals.note(running.id()));
            self.work.end_reload(due);
        }
        Ok(())
    }

    /// Whose turn the round is, and what there is to do for them. Where that is nothing, it is the others' turn.
    fn turn(&self, late: Late) -> (RoundTurn, Vec<ActiveCampaign>, Late) {
        let running = self.work.running();
        let turn = self.work.turn();
        let theirs = |turn: &RoundTurn| running.iter().any(|running| turn.is_of(running.id())) || late.is_any_of(turn);
        let others = turn.of_the_others();
        let turn = if !theirs(&turn) && theirs(&others) { others } else { turn };
        let late = late.of_turn(&turn);
        let running = running.into_iter().filter(|running| turn.is_of(running.id())).collect();
        (turn, running, late)
    }

    /// Waits until the round before is published and no change is under way, and keeps changes away.
    async fn quiet(&self) -> OwnedMutexGuard<()> {
        // Its sender goes with this preparation.
        let _ = self.gate.clone().wait_for(|open| *open).await;
        self.work.changes().await
    }

    /// What was planned, as it stands now that nothing changes any more.
    async fn read_again(&self, planned: &mut Planned) -> Result<(), LaneError> {
        self.work.reload();
        self.reload().await?;
        let ids: BTreeSet<String> = planned.running.iter().map(|running| running.id().to_owned()).collect();
        planned.running = self.work.running().into_iter().filter(|running| ids.contains(running.id())).collect();
        Ok(())
    }

    /// Candidates for late drafts, with the open campaigns of their restaurants. Where there is none, they are forgotten.
    async fn late(&self) -> Result<Late, LaneError> {
        let (candidates, after) = self.work.late();
        if candidates.is_empty() {
            return Ok(Late::default());
        }
        let restaurants: BTreeSet<&String> = candidates.iter().map(|(restaurant, _)| restaurant).collect();
        let restaurants: Vec<String> = restaurants.into_iter().cloned().collect();
        let open = self.cx.ledger.open_campaigns(self.own, &restaurants, after.as_deref(), MOST_LATE_FOR).await?;
        if open.is_empty() {
            self.work.judged_late(&candidates, None);
            return Ok(Late::default());
        }
        Ok(Late::of(candidates, open, MOST_LATE_FOR))
    }

    /// The dead letters of the round, as the ledger holds them.
    async fn read_letters(&self, open: &mut L::Open, letters: &Letters) -> Result<Vec<DeadLetterMessage>, LaneError> {
        if letters.ids.is_empty() {
            return Ok(Vec::new());
        }
        let dead_letters = open.letters(&letters.ids).await?;
        if dead_letters.len() < letters.ids.len() {
            // Some were published or pruned meanwhile: what is remembered of them is out of date.
            self.work.reload();
        }
        Ok(dead_letters)
    }

    /// Reads the pages and copies the rows of a planned round. None when it turns out that there is nothing to record.
    async fn copy(&self, mut planned: Planned) -> Result<Option<Prepared<L::Open>>, LaneError> {
        let clients = planned.budget.pages.rows + planned.late.most_drafts().rows;
        let mut held = self.cx.memory.for_round(clients, planned.letters.bytes).await;
        if !planned.running.is_empty() && self.cx.guards.hold(Guard::MarkBeforePages) {
            self.work.tail_scan_has_begun().await;
        }
        let mut quiet = None;
        if planned.quiet {
            quiet = Some(self.quiet().await);
            self.read_again(&mut planned).await?;
        }
        let Planned { running, late, budget, letters, report_due, .. } = planned;
        let began = Instant::now();
        let trigger_datetime_created = self.now();
        let (pages, mut open) =
            tokio::try_join!(pages::read(&self.cx.audience, self.now(), budget.pages, &running), async {
                Ok(self.cx.ledger.open_round(self.own).await?)
            })?;
        self.cx.telemetry.step("audience", began.elapsed());
        self.note_overdue(&pages);
        let (group, guards) = (&self.cx.limits.group_id, self.cx.guards);
        let mut parts = pages::form(&mut open, pages.turns, trigger_datetime_created, group, guards).await?;
        let candidates = late.candidates();
        let with_candidates = |open: &'_ LateFor| candidates.get(open.restaurant_id.as_str());
        let judged: Vec<_> = late.open.iter().filter_map(|open| Some((open, with_candidates(open)?))).collect();
        pages::add_late(&mut open, &mut parts, &judged, trigger_datetime_created, group, guards).await?;
        self.rows_are_there(&parts, &late.open).await?;
        let dead_letters = self.read_letters(&mut open, &letters).await?;
        let round_bytes = self.pace.to_be_left();
        let content = RoundContent { parts, dead_letters, trigger_datetime_created, round_bytes };
        if !guards.hold(Guard::LateForgottenWhenRecorded) {
            self.work.judged_late(&late.candidates, late.upto.as_deref());
        }
        self.cx.rate.settle(budget.taken, content.drafts());
        if content.parts.is_empty() && content.dead_letters.is_empty() && !report_due {
            open.abandon().await?;
            self.work.judged_late(&late.candidates, late.upto.as_deref());
            return Ok(None);
        }
        let letters: usize = content.dead_letters.iter().map(DeadLetterMessage::size).sum();
        held.shrink_to(letters + content.parts.iter().map(|part| part.drafts.clients.size()).sum::<usize>());
        let copying = Instant::now();
        let round = record::copy::<L>(open, content).await?;
        self.cx.telemetry.step("copy", copying.elapsed());
        Ok(Some(Prepared { round, held, began, judged: late.candidates, upto: late.upto, quiet }))
    }

    /// Campaigns whose pages did not come in time are left out of the next rounds.
    fn note_overdue(&self, pages: &pages::Pages) {
        for (running, _) in &pages.turns {
            self.work.came(&running.campaign.restaurant_id);
        }
        for (restaurant, said) in &pages.overdue {
            let pause = self.work.overdue(restaurant);
            self.cx.telemetry.left_out(self.own.lane, restaurant, said, pause);
        }
    }

    /// Newcomers who are many beside those who were told can be some whose rows were removed: the rows are counted then, and that is no more
    /// than fifty times the newcomers.
    async fn rows_are_there(&self, parts: &[RoundPart], open: &[LateFor]) -> Result<(), LaneError> {
        for part in parts.iter().filter(|part| part.late > 0) {
            let id = &part.drafts.template.campaign().adv_campaign_id;
            let told = open.iter().find(|open| open.adv_campaign_id == *id).map_or(0, |open| open.told);
            let if_removed = ToldAndRows { told, rows: told - part.late as i64 };
            if if_removed.were_removed() {
                late::rows_are_there(self.cx, self.own, id).await?;
            }
        }
        Ok(())
    }

    fn now(&self) -> i64 {
        self.cx.clock.now() / 1_000_000
    }

    /// Waits until there is work, the next campaign starts or ends, or a report is due.
    async fn wait(&self, report: Instant) -> bool {
        loop {
            if self.work.is_ready(self.now()) {
                return false;
            }
            if self.work.has_moved() && report <= Instant::now() {
                return true;
            }
            let reporting = async {
                match self.work.has_moved() {
                    true => sleep_until(report).await,
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
        let wakes = self.cx.guards.hold(Guard::NextChangeWakes);
        let Some(at) = self.work.next_change().filter(|_| wakes) else { return pending().await };
        let micros = at.saturating_mul(1_000_000).saturating_sub(self.cx.clock.now()).max(0);
        // The timer is coarse, and two clocks that nobody compares drift apart: look again at least every minute.
        sleep(Duration::from_micros(micros.cast_unsigned() + 1_000).min(LOOK_AT_CLOCK)).await;
        let _ = self.cx.clock.fresh().await;
    }

    /// While all sending is paused: until it is resumed, something was added, or a campaign starts or ends.
    async fn change_or_resumption(&self) {
        tokio::select! {
            biased;
            () = self.cx.pause.off() => {}
            () = self.work.changed() => {}
            () = self.next_change() => {}
        }
    }

    /// How many drafts the next round may have. Where there are pages to read, newcomers have at most half of it. The pace is taken for both
    /// alike; newcomers for whom it does not reach wait for a later round.
    async fn budget(&self, running: &[ActiveCampaign], late: &mut Late, quiet: bool) -> Budget {
        let room = self.room(running, quiet);
        late.keep(if running.is_empty() { room } else { room.part(2) });
        let newcomers = late.most_drafts();
        let mut pages = room.less(newcomers.rows, newcomers.bytes).unwrap_or(NOTHING);
        if running.is_empty() {
            pages = NOTHING;
        }
        let taken = match pages.rows + newcomers.rows {
            0 => 0,
            wanted => self.cx.rate.take(wanted).await,
        };
        if taken < pages.rows + newcomers.rows {
            // Half of what there is for each, if both want more.
            late.keep(Room { rows: taken.saturating_sub(pages.rows.min(taken / 2)), ..room });
            pages.rows = pages.rows.min(taken.saturating_sub(late.most_drafts().rows));
        }
        Budget { pages, taken }
    }

    /// Whether other campaigns wait in this lane, or came to the instance a short while ago.
    fn is_shared(&self, running: &[ActiveCampaign]) -> bool {
        self.work.others_wait() || running.iter().any(|running| self.cx.arrivals.another_than(running.id()))
    }

    /// What the next round may hold: by the configuration, by memory, by the pace, and by what a round may take while others wait.
    fn room(&self, running: &[ActiveCampaign], quiet: bool) -> Room {
        let rows = self.cx.limits.round_rows.min(self.cx.memory.most_clients()).max(1);
        self.pace.room(rows, quiet || self.is_shared(running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(restaurant: &str, number: usize, texts: usize) -> LateFor {
        LateFor {
            adv_campaign_id: format!("{restaurant}-{number:05}"),
            restaurant_id: restaurant.to_owned(),
            cursor: None,
            main_pass_over: true,
            told: 0,
            texts,
        }
    }

    /// Judges all candidates round by round, as rounds do, each with this room. Returns how often each campaign's candidates were judged, and the
    /// largest round.
    fn judge_all(
        open: &[LateFor],
        candidates: &[(&str, usize)],
        room: Room,
    ) -> (BTreeMap<(String, String), usize>, Room) {
        let work = LaneBacklog::unread(crate::guard::Guards::default());
        for (restaurant, most) in candidates {
            work.add_late((0..*most).map(|number| ((*restaurant).to_owned(), format!("c{number:05}"))));
        }
        let (mut judged, mut largest, mut rounds) = (BTreeMap::new(), NOTHING, 0);
        loop {
            let (candidates, after) = work.late();
            let restaurants: BTreeSet<String> = candidates.iter().map(|(restaurant, _)| restaurant.clone()).collect();
            let of = open.iter().filter(|open| restaurants.contains(&open.restaurant_id));
            let of = of.filter(|open| after.as_ref().is_none_or(|after| open.adv_campaign_id > *after));
            let of: Vec<_> = of.take(MOST_LATE_FOR).cloned().collect();
            if of.is_empty() {
                work.judged_late(&candidates, None);
                if work.late().0.is_empty() {
                    return (judged, largest);
                }
                continue;
            }
            let mut late = Late::of(candidates, of, MOST_LATE_FOR);
            late.keep(room);
            let drafts = late.most_drafts();
            largest = Room { rows: largest.rows.max(drafts.rows), bytes: largest.bytes.max(drafts.bytes) };
            for (restaurant, client) in &late.candidates {
                for open in late.open.iter().filter(|open| open.restaurant_id == *restaurant) {
                    *judged.entry((open.adv_campaign_id.clone(), client.clone())).or_default() += 1;
                }
            }
            work.judged_late(&late.candidates, late.upto.as_deref());
            rounds += 1;
            assert!(rounds < 10_000, "it comes to an end");
        }
    }

    #[test]
    fn newcomers_of_many_campaigns_are_judged_once_for_each_in_rounds_that_are_no_larger_than_others() {
        let campaigns: Vec<_> = (0..120).map(|number| open("r", number, 100)).collect();
        let (judged, largest) =
            judge_all(&campaigns, &[("r", 50), ("nobody's", 3)], Room { rows: 1_000, bytes: 1 << 30 });
        assert_eq!(judged.len(), 120 * 50);
        assert!(judged.values().all(|times| *times == 1));
        assert!(largest.rows <= 1_000 && largest.rows > 800, "{largest:?}");
    }

    #[test]
    fn where_one_newcomer_has_more_campaigns_than_a_round_has_room_they_are_judged_part_by_part() {
        let campaigns: Vec<_> = (0..450).map(|number| open("r", number, 16 << 10)).collect();
        let room = Room { rows: 20_000, bytes: 2 << 20 };
        let (judged, largest) = judge_all(&campaigns, &[("r", 3)], room);
        assert_eq!(judged.len(), 450 * 3);
        assert!(judged.values().all(|times| *times == 1));
        assert!(room.less(largest.rows, largest.bytes).is_some(), "{largest:?}");
    }

    #[test]
    fn restaurants_beyond_the_campaigns_that_are_read_at_once_come_later() {
        let campaigns = |restaurant| (0..150).map(move |number| open(restaurant, number, 100));
        let all: Vec<_> = campaigns("a").chain(campaigns("b")).chain(campaigns("c")).collect();
        let (judged, _) = judge_all(&all, &[("a", 2), ("b", 2), ("c", 2), ("d", 2)], Room::of_rows(100_000));
        assert_eq!(judged.len(), 3 * 150 * 2);
        assert!(judged.values().all(|times| *times == 1));
    }

    #[test]
    fn while_a_campaign_is_being_changed_its_restaurants_candidates_wait_for_a_quiet_round() {
        let mut turns = super::super::turns::Turns::default();
        turns.overtaken(vec!["r-00001".to_owned()]);
        let quiet = turns.take_turn();
        let candidates = ["r", "s"].map(|restaurant| (restaurant.to_owned(), "client".to_owned()));
        let all = vec![open("r", 0, 1), open("r", 1, 1), open("s", 0, 1)];
        let judged = |turn: &RoundTurn| -> Vec<String> {
            let late = Late::of(candidates.to_vec(), all.clone(), MOST_LATE_FOR);
            assert!(late.is_any_of(turn));
            late.of_turn(turn).candidates.into_iter().map(|(restaurant, _)| restaurant).collect()
        };
        assert_eq!(judged(&quiet), ["r"]);
        assert_eq!(judged(&quiet.of_the_others()), ["s"]);
        assert_eq!(judged(&RoundTurn::default()), ["r", "s"]);
    }
}
