//! An instance of the service in a simulated world: the real lanes, in one future that can be frozen, or dropped at any of its polls.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dinnerbell_core::instance::change_feed::ChangeFeed;
use dinnerbell_core::instance::dead_letter_topic::DeadLetterTopic;
use dinnerbell_core::instance::memory_budget::MemoryBudget;
use dinnerbell_core::instance::pause;
use dinnerbell_core::instance::pause::{PauseReading, PauseWatch};
use dinnerbell_core::instance::rate_limiter::RateLimiter;
use dinnerbell_core::instance::round_sizing::RecentCampaigns;
use dinnerbell_core::lane::context::{LaneContext, Limits};
use dinnerbell_core::lane::lifecycle;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::telemetry::Telemetry;
use dinnerbell_sim::audience::SimAudience;
use dinnerbell_sim::broker::SimBroker;
use dinnerbell_sim::clock::SimClock;
use dinnerbell_sim::database::GROUP;
use dinnerbell_sim::ledger::SimLedger;
use dinnerbell_sim::world::{Instance, World};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// How long a lane that ended though it is still assigned is left alone.
const START_AGAIN: Duration = Duration::from_millis(500);

/// The memory of an instance: dead letters may be larger than the part of it that is for rounds.
const MEMORY: usize = 1 << 20;

type Dependencies = LaneContext<SimBroker, SimLedger, SimAudience, SimClock>;

/// How an instance is configured.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub round_rows: usize,
    pub rate: u64,
}

/// A process: it is started, frozen, killed and started again.
pub struct Process {
    world: World,
    number: usize,
    settings: Settings,
    /// What the process was told by the group.
    pub held: watch::Sender<BTreeSet<Lane>>,
    life: Option<JoinHandle<()>>,
    memory: Arc<MemoryBudget>,
    control: Arc<Control>,
}

/// What is done to a running process from outside.
#[derive(Default)]
struct Control {
    /// It dies at its poll of this number; 0 for never.
    dies_at: AtomicU64,
    polls: AtomicU64,
    dead: AtomicBool,
    frozen_until: Mutex<Option<Instant>>,
}

impl Process {
    pub fn new(world: World, number: usize, settings: Settings) -> Self {
        let (held, memory) = (watch::Sender::default(), Arc::new(MemoryBudget::new(MEMORY)));
        Self { world, number, settings, held, life: None, memory, control: Arc::default() }
    }

    /// Starts it; it holds no lane before the group says so.
    pub fn start(&mut self) {
        self.kill();
        self.held.send_replace(BTreeSet::new());
        self.control = Arc::default();
        self.memory = Arc::new(MemoryBudget::new(MEMORY));
        let instance = Instance { world: self.world.clone(), number: self.number, held: self.held.subscribe() };
        let living = Box::pin(live(instance, self.settings, Arc::clone(&self.memory)));
        let mortal = Mortal { living: Some(living), control: Arc::clone(&self.control), thaw: None };
        #[expect(clippy::disallowed_methods, reason = "a process that is killed, by its handle")]
        let life = tokio::spawn(mortal);
        self.life = Some(life);
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.abort();
        }
    }

    /// It dies when it is polled this many more times.
    pub fn dies_in(&self, polls: u64) {
        let at = self.control.polls.load(Ordering::Relaxed) + polls;
        self.control.dies_at.store(at, Ordering::Relaxed);
    }

    pub fn freeze(&self, time: Duration) {
        *self.control.frozen() = Some(Instant::now() + time);
    }

    pub fn is_frozen(&self) -> bool {
        self.control.frozen().is_some_and(|until| Instant::now() < until)
    }

    pub fn thaw(&self) {
        if self.is_frozen() {
            *self.control.frozen() = Some(Instant::now());
        }
    }

    /// Whether it was killed by its number of polls.
    pub fn has_died(&self) -> bool {
        self.control.dead.load(Ordering::Relaxed)
    }

    pub fn is_started(&self) -> bool {
        self.life.is_some()
    }

    /// How many bytes of its memory are taken.
    pub fn reserved(&self) -> u64 {
        self.memory.reserved()
    }

    /// Ends it, and says how it panicked if it did.
    pub async fn panicked(&mut self) -> Option<String> {
        let life = self.life.take()?;
        life.abort();
        let error = life.await.err()?;
        error.is_panic().then(|| {
            let panic = error.into_panic();
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        })
    }
}

impl Control {
    fn frozen(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.frozen_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A future that is not polled while it is frozen, and is dropped at the poll at which it dies.
struct Mortal {
    living: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    control: Arc<Control>,
    thaw: Option<Pin<Box<Sleep>>>,
}

impl Future for Mortal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let frozen = *self.control.frozen();
        if let Some(until) = frozen.filter(|until| Instant::now() < *until) {
            let thaw = self.thaw.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if thaw.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        self.thaw = None;
        let polls = self.control.polls.fetch_add(1, Ordering::Relaxed) + 1;
        if polls == self.control.dies_at.load(Ordering::Relaxed) {
            self.control.dead.store(true, Ordering::Relaxed);
            self.living = None;
        }
        match &mut self.living {
            Some(living) => living.as_mut().poll(context),
            None => Poll::Ready(()),
        }
    }
}

fn dependencies(instance: &Instance, settings: Settings, memory: Arc<MemoryBudget>, pause: PauseWatch) -> Dependencies {
    let guards = instance.world.state().guards;
    let telemetry = Arc::new(Telemetry::default());
    LaneContext {
        broker: SimBroker(instance.clone()),
        ledger: SimLedger(instance.clone()),
        audience: SimAudience(instance.clone()),
        clock: SimClock::new(instance.clone()),
        limits: Limits { group_id: GROUP.to_owned(), round_rows: settings.round_rows, late_subscribers: true },
        memory,
        rate: RateLimiter::new(settings.rate),
        pause,
        change_feed: ChangeFeed::default(),
        recent_campaigns: RecentCampaigns::default(),
        dead_letter_topic: DeadLetterTopic::new(Arc::clone(&telemetry)),
        telemetry,
        guards,
    }
}

/// A lane that is kept.
struct Kept {
    stop: watch::Sender<bool>,
    life: BoxFuture<'static, ()>,
}

/// Polls all lanes in their order, whichever was woken: tokio wakes those that wait for one `watch` in an order of its own, and a seed is to decide.
async fn first_ended(lanes: &mut BTreeMap<Lane, Kept>) -> Lane {
    let poll = |context: &mut Context<'_>| {
        let ended = lanes.iter_mut().find_map(|(lane, kept)| kept.life.poll_unpin(context).is_ready().then_some(*lane));
        ended.map_or(Poll::Pending, Poll::Ready)
    };
    poll_fn(poll).await
}

/// What `supervisor::supervise` does, with every lane inside this one future instead of a task of its own.
async fn live(instance: Instance, settings: Settings, memory: Arc<MemoryBudget>) {
    let (looks, seen) = watch::channel(PauseReading::NONE);
    let cx = Arc::new(dependencies(&instance, settings, memory, PauseWatch::new(seen)));
    let mut assigned = instance.held.clone();
    let mut lanes: BTreeMap<Lane, Kept> = BTreeMap::new();
    let mut watching = Box::pin(pause::watch(&cx.ledger, &cx.clock, &looks, |_| {}));
    loop {
        let wanted = assigned.borrow_and_update().clone();
        for (lane, kept) in &lanes {
            if !wanted.contains(lane) {
                kept.stop.send_replace(true);
            }
        }
        for lane in wanted {
            lanes.entry(lane).or_insert_with(|| {
                let (stop, stopped) = watch::channel(false);
                let kept = lifecycle::run_until_stopped(Arc::clone(&cx), lane, stopped);
                let life = Box::pin(async move {
                    kept.await;
                    // As the service does: a moment later it is started again, if it is still assigned.
                    sleep(START_AGAIN).await;
                });
                Kept { stop, life }
            });
        }
        tokio::select! {
            biased;
            changed = assigned.changed() => if changed.is_err() { return },
            ended = first_ended(&mut lanes) => drop(lanes.remove(&ended)),
            never = &mut watching => match never {},
        }
    }
}
