//! One life: the plan happens to two instances, everything heals, they run to rest, and the promises are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dinnerbell_core::guard::Guards;
use dinnerbell_core::model::halt::{Halt, HaltKind};
use dinnerbell_core::model::number::{Lane, Micros, Seconds};
use dinnerbell_sim::faults::Harm;
use dinnerbell_sim::kafka::Letters;
use dinnerbell_sim::random::Random;
use dinnerbell_sim::tables::FeedbackRow;
use dinnerbell_sim::world::{World, WorldState};
use tokio::time::{Instant, sleep_until};

use crate::instance::Process;
use crate::plan::{Event, INSTANCES, Plan};
use crate::promises;

/// How long after the last harm everything must be at rest.
const REST: Duration = Duration::from_secs(40);
/// The same where only the rescan of every five minutes finds those whom the tail scan missed.
const LONG_REST: Duration = Duration::from_secs(345);
/// What takes its time even at rest.
const MOMENT: Duration = Duration::from_secs(9);
/// How often an operator looks for lanes that lost commits, and what it takes to resolve one.
const RESOLUTIONS: usize = 6;
const RESOLVED_AFTER: Duration = Duration::from_secs(4);
/// How long a killed instance stays away.
const AWAY: u64 = 6_000;
const SHORTEST_AWAY: Duration = Duration::from_millis(300);

/// What was found broken in the life of a seed; nothing, if it kept its promises.
pub fn live(seed: u64, guards: Guards) -> Vec<String> {
    live_through(Plan::of(seed), seed, guards)
}

/// The same for any plan; the seed decides what it leaves open.
pub fn live_through(plan: Plan, seed: u64, guards: Guards) -> Vec<String> {
    live_and_look(plan, seed, guards, |_| {}).0
}

/// The same; and how the world is looked at afterwards.
pub fn live_and_look<T>(
    plan: Plan,
    seed: u64,
    guards: Guards,
    look: impl FnOnce(&mut WorldState) -> T,
) -> (Vec<String>, T) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without drivers can be built").block_on(async {
        let world = World::new(seed, plan.lanes);
        world.state().guards = guards;
        world.state().harm = plan.harm.clone();
        world.state().holds = plan.holds.clone();
        let broken = Life::new(seed, plan, world.clone()).run().await;
        let seen = look(&mut world.state());
        (broken, seen)
    })
}

struct Life {
    plan: Plan,
    world: World,
    random: Random,
    began: Instant,
    processes: Vec<Process>,
    /// The group's idea of who holds what.
    assigned: BTreeMap<Lane, usize>,
    /// When a process is started again, or told what it holds.
    due: BTreeMap<Instant, Vec<Due>>,
    broken: Vec<String>,
    cancelled: BTreeSet<String>,
    /// The campaign and client of each row of ours in which somebody answered.
    answered: BTreeSet<(String, String)>,
    /// Whether every instance learns of a pause in time.
    heard: bool,
}

enum Due {
    Start(usize),
    Tell(usize),
    Expire(Lane),
    PromoteWithoutMarks,
}

impl Life {
    fn new(seed: u64, plan: Plan, world: World) -> Self {
        let processes = (0..INSTANCES).map(|number| Process::new(world.clone(), number, plan.settings)).collect();
        let cancelled = plan.cancelled.iter().cloned().collect();
        Self {
            heard: plan.is_heard(),
            plan,
            world,
            random: Random::new(seed ^ 0x11fe),
            began: Instant::now(),
            processes,
            assigned: BTreeMap::new(),
            due: BTreeMap::new(),
            broken: Vec::new(),
            cancelled,
            answered: BTreeSet::new(),
        }
    }

    async fn run(mut self) -> Vec<String> {
        for instance in 0..INSTANCES {
            self.start(instance);
        }
        let events = std::mem::take(&mut self.plan.events);
        for (at, event) in events {
            self.wait(self.began + at).await;
            self.happens(event);
        }
        self.wait(self.began + self.plan.heals).await;
        self.heal();
        self.resolve().await;
        let rest = if self.plan.restarts || self.plan.orderly { REST } else { LONG_REST };
        self.wait(Instant::now() + rest).await;
        if !self.found().is_empty() {
            // Something may have begun a moment ago: a campaign started, or ended.
            self.wait(Instant::now() + MOMENT).await;
        }
        // Before they are ended: then they hold nothing.
        let found = self.found();
        for process in &mut self.processes {
            let panicked = process.panicked().await;
            self.broken.extend(panicked.map(|text| format!("an instance panicked: {text}")));
        }
        self.broken.extend(found);
        self.broken
    }

    /// Lanes that lost commits are resolved, in any order, each some time after the one before.
    async fn resolve(&mut self) {
        let may_be_lost = |state: &WorldState| state.database.has_lost || !state.lanes_that_lost().is_empty();
        if !may_be_lost(&self.world.state()) {
            return;
        }
        for _ in 0..RESOLUTIONS {
            self.wait(Instant::now() + RESOLVED_AFTER).await;
            let mut state = self.world.state();
            let lost = state.lanes_that_lost();
            if !lost.is_empty() {
                let lane = *self.random.pick(&lost);
                tracing::info!(at = ?self.began.elapsed(), lane = lane.get(), "an operator resolves");
                state.resolve_from_kafka(lane);
            }
        }
    }

    fn found(&self) -> Vec<String> {
        let state = self.world.state();
        let mut broken = state.broken.clone();
        if broken.is_empty() {
            broken = promises::broken(&state, &self.plan, &self.cancelled, self.plan.heals);
            broken.extend(promises::lost_answers(&state, &self.answered));
            broken.extend(
                self.processes
                    .iter()
                    .filter(|process| process.reserved() > 0)
                    .map(|process| format!("an instance at rest holds {} bytes of its memory", process.reserved())),
            );
        }
        broken
    }

    /// Time passes; who died is started again.
    async fn wait(&mut self, until: Instant) {
        loop {
            for number in 0..INSTANCES {
                if self.processes[number].has_died() && self.processes[number].is_started() {
                    self.dies(number);
                }
            }
            // A death by a number of polls is noticed within half a second.
            let next = self.due.keys().next().copied().unwrap_or(until).min(until);
            sleep_until(next.min(Instant::now() + Duration::from_millis(500))).await;
            while let Some(due) = self.due.first_entry().filter(|due| *due.key() <= Instant::now()) {
                for due in due.remove() {
                    match due {
                        Due::Start(number) => self.start(number),
                        Due::Tell(number) => self.tell(number),
                        Due::Expire(lane) => self.expire(lane),
                        Due::PromoteWithoutMarks => self.world.state().promote_without_marks(),
                    }
                }
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    fn later(&mut self, millis: u64, due: Due) {
        let at = Instant::now() + Duration::from_millis(1 + self.random.below(millis));
        self.due.entry(at).or_default().push(due);
    }

    fn start(&mut self, number: usize) {
        if !self.processes[number].is_started() {
            self.processes[number].start();
            self.later(500, Due::Tell(number));
        }
    }

    /// The instance learns what the group gives it; a frozen one learns it when it thaws.
    fn tell(&mut self, number: usize) {
        if self.processes[number].is_frozen() {
            self.later(1_000, Due::Tell(number));
            return;
        }
        let lanes = self.assigned.iter().filter(|(_, owner)| **owner == number).map(|(lane, _)| *lane).collect();
        self.processes[number].held.send_if_modified(|held| {
            let changed = *held != lanes;
            *held = lanes;
            changed
        });
    }

    fn dies(&mut self, number: usize) {
        self.processes[number].kill();
        let back = Instant::now() + SHORTEST_AWAY + Duration::from_millis(self.random.below(AWAY));
        self.due.entry(back).or_default().push(Due::Start(number));
        if self.random.chance(500) {
            for owner in self.assigned.values_mut().filter(|owner| **owner == number) {
                *owner = 1 - number;
            }
            self.later(3_000, Due::Tell(1 - number));
        }
    }

    /// Where the ledger does not know its last round to be published, the lane would halt by design: that is left out.
    fn expire(&self, lane: Lane) {
        let mut state = self.world.state();
        let known = state.database.lanes.get(&lane).is_some_and(|row| row.published_seq == Some(row.seq));
        if known && !state.database.is_held(lane) {
            state.kafka.expire(lane);
        }
    }

    fn assign(&mut self, lane: Lane, to: usize) {
        if let Some(from) = self.assigned.insert(lane, to)
            && from != to
        {
            // A former owner may believe for a while that it still holds the lane.
            self.later(2_000, Due::Tell(from));
        }
        self.later(50, Due::Tell(to));
    }

    fn happens(&mut self, event: Event) {
        let world = self.world.clone();
        let mut state = world.state();
        let micros = state.micros();
        tracing::info!(at = ?self.began.elapsed(), ?event, "happens");
        match event {
            Event::Send { lane, key, value, gap } => {
                state.kafka.append(lane, micros.millis(), key, value, gap);
                world.wake_readers();
            }
            Event::Favour { client, restaurant, commits_in, gap } => {
                // Those who were there before the life began stand in every replica, however far behind.
                let from = if self.began.elapsed().is_zero() { Micros::default() } else { micros + commits_in * 1_000 };
                state.subscribers.insert(&client, &restaurant, from, gap);
            }
            Event::Leave { client, restaurant } => state.subscribers.delete(&client, &restaurant, micros),
            Event::EarlierRow { campaign, client } => {
                let id = campaign.adv_campaign_id.clone();
                let row = FeedbackRow {
                    campaign: campaign.into(),
                    trigger_datetime_created: Seconds::new(1),
                    ours: false,
                    answered: false,
                };
                state.database.feedback.entry(id).or_default().insert(client, row);
            }
            Event::Answer => {
                let of = |(id, rows): (&String, &BTreeMap<String, FeedbackRow>)| -> Vec<_> {
                    rows.keys().map(|client| (id.clone(), client.clone())).collect()
                };
                let rows: Vec<(String, String)> = state.database.feedback.iter().flat_map(of).collect();
                let some = self.random.below(rows.len() as u64);
                if let Some((id, client)) = rows.into_iter().nth(some as usize) {
                    let row = state.database.feedback.get_mut(&id).and_then(|rows| rows.get_mut(&client));
                    row.expect("it was found a moment ago").answered = true;
                    self.answered.insert((id, client));
                }
            }
            Event::IsTold { id } => {
                let row = state.database.campaigns.get(&id).cloned();
                let restaurant = row.as_ref().and_then(|row| Some(row.campaign.as_ref()?.restaurant_id.clone()));
                let favours =
                    state.subscribers.rows.iter().filter(|row| Some(&row.restaurant_id) == restaurant.as_ref());
                let untold =
                    favours.filter(|row| !state.kafka.notifications.contains_key(&(id.clone(), row.client_id.clone())));
                let untold = untold.count();
                if untold > 0 || restaurant.is_none() {
                    self.broken.push(format!("campaign {id} is not told to {untold} in time: {row:?}"));
                }
            }
            Event::Cancel { id } => {
                if state.database.campaigns.contains_key(&id) {
                    state.order_cancellation(&id);
                    self.cancelled.insert(id);
                }
            }
            Event::Pause(paused) => {
                state.database.paused = paused;
                state.paused_since = (paused && self.heard).then_some(micros);
            }
            Event::Claim { lane, instance } => {
                if !self.processes[instance].is_frozen() {
                    self.processes[instance].held.send_if_modified(|held| held.insert(lane));
                }
            }
            Event::FailOver { loses_bump } => state.database.fail_over(loses_bump),
            Event::FallBehind => state.database.standby_falls_behind(),
            Event::Promote => state.database.promote(),
            Event::Expire(lane) => {
                drop(state);
                (0..INSTANCES).for_each(|number| self.dies(number));
                self.due.entry(Instant::now() + SHORTEST_AWAY / 2).or_default().push(Due::Expire(lane));
            }
            Event::PromoteWithoutMarks => {
                drop(state);
                (0..INSTANCES).for_each(|number| self.dies(number));
                self.due.entry(Instant::now() + SHORTEST_AWAY / 2).or_default().push(Due::PromoteWithoutMarks);
            }
            Event::Away(server) => drop(state.harm.away.insert(server)),
            Event::Refuses(server) => drop(state.harm.refuses.insert(server)),
            Event::Overdue(restaurant, true) => drop(state.subscribers.overdue.insert(restaurant.to_owned())),
            Event::Overdue(restaurant, false) => drop(state.subscribers.overdue.remove(restaurant)),
            Event::Leader(lane, true) => drop(state.harm.leaderless.remove(&lane)),
            Event::Leader(lane, false) => drop(state.harm.leaderless.insert(lane)),
            Event::Back(server) => {
                state.harm.away.remove(&server);
                state.harm.refuses.remove(&server);
            }
            Event::Lag(lag) => state.subscribers.lag = lag,
            Event::Notifications(id) => state.kafka.notifications_id = Some(id),
            Event::Letters(letters) => state.kafka.letters = letters,
            Event::Kill(number) => {
                drop(state);
                self.dies(number);
            }
            Event::DieIn { instance, polls } => self.processes[instance].dies_in(polls),
            Event::Freeze { instance, time } => self.processes[instance].freeze(time),
            Event::Assign { lane, to } => {
                drop(state);
                self.assign(lane, to);
            }
        }
    }

    /// All harm ends: servers answer, operators resolve what was refused and resume.
    fn heal(&mut self) {
        use HaltKind::{FeedbackRefused, KafkaRefused, SubscribersRefused};
        let mut state = self.world.state();
        state.harm = Harm { latency: 5, ..Harm::default() };
        state.subscribers.lag = 0;
        state.kafka.letters = Letters::Accepted;
        (state.database.paused, state.paused_since) = (false, None);
        state.accept_topic();
        let has_lost = state.database.has_lost;
        // On another server a lane without a mark may be an older state of itself: it halts by design.
        let doubts = state.kafka.has_lost_marks && state.database.server_started_at > Micros::new(1);
        let is_expected = |halt: &Halt| (has_lost && halt.is_loss()) || (doubts && halt.kind == HaltKind::MarkMissing);
        for (lane, row) in &mut state.database.lanes {
            let by_design = row
                .halt
                .as_ref()
                .is_some_and(|halt| matches!(halt.kind, FeedbackRefused | KafkaRefused | SubscribersRefused));
            if by_design {
                row.halt = None;
            } else if let Some(halt) = row.halt.as_ref().filter(|halt| !is_expected(halt)) {
                self.broken.push(format!("lane {lane} halted: {halt:?}"));
            }
        }
        drop(state);
        for number in 0..INSTANCES {
            self.processes[number].thaw();
            if self.plan.restarts {
                self.processes[number].kill();
            }
            self.start(number);
            self.later(2_000, Due::Tell(number));
        }
    }
}
