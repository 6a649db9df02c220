//! The watchdog over transactional calls: what shows that a lane's thread is alive, and which calls hang.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use dinnerbell_core::model::number::Lane;
use dinnerbell_core::ports::broker::BrokerError;

/// A transactional call that is not back after this long is abandoned. What it left open holds back `read_committed` readers until the lane has a new
/// producer. Kafka replaces a coordinator that died within 10 s.
const OVERRUN: Duration = Duration::from_secs(12);
/// A call that hangs this long after the coordinator answered again will never come back.
const HUNG: Duration = Duration::from_secs(60);

/// Why a step on the thread is not done.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// It failed and will not go on.
    Failed(BrokerError),
    /// `init_transactions` timed out and goes on in the background.
    Background(BrokerError),
    /// The watchdog gave it up.
    Overrun,
}

pub(super) fn ended() -> BrokerError {
    BrokerError::Transient("the producer's thread has ended".into())
}

/// Shows that the thread is alive.
#[derive(Debug)]
pub(super) struct Pulse {
    epoch: Instant,
    last: AtomicU64,
    beats: AtomicU64,
    /// Whether a lane has the producer.
    pub(super) claimed: AtomicBool,
}

impl Pulse {
    /// That of a thread that begins now.
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            last: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            claimed: AtomicBool::new(false),
        }
    }

    /// The thread, or who asks it, has begun a step.
    pub(super) fn beat(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Release);
        self.beats.fetch_add(1, Ordering::AcqRel);
    }

    /// How many steps were begun.
    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Acquire)
    }

    fn due(&self) -> Instant {
        self.epoch + Duration::from_millis(self.last.load(Ordering::Acquire)) + OVERRUN
    }

    /// Waits for an answer of the thread as long as the thread shows signs of life.
    pub(super) async fn watch<T>(
        &self,
        answer: &mut oneshot::Receiver<Result<T, Unfinished>>,
    ) -> Result<T, Unfinished> {
        loop {
            match tokio::time::timeout_at(self.due(), &mut *answer).await {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_)) => return Err(Unfinished::Failed(ended())),
                Err(_) if self.due() <= Instant::now() => return Err(Unfinished::Overrun),
                Err(_) => {}
            }
        }
    }
}

/// A call that overran its watchdog.
#[derive(Debug, Clone)]
struct Hung {
    lane: Lane,
    pulse: Arc<Pulse>,
    /// The pulse's beat at that moment: another one means that the call came back.
    beat: u64,
    /// When the group's committed offsets could be read again.
    readable: Option<tokio::time::Instant>,
}

impl Hung {
    fn came_back(&self) -> bool {
        self.pulse.beats() != self.beat
    }
}

/// The calls that overran their watchdog, of all lanes.
#[derive(Debug, Default)]
pub(super) struct HungCalls {
    calls: watch::Sender<Vec<Hung>>,
}

impl HungCalls {
    /// Abandons the call that the thread is in. Returns the error that says so.
    pub(super) fn abandon(&self, lane: Lane, pulse: &Arc<Pulse>) -> BrokerError {
        self.calls.send_modify(|hung| {
            hung.retain(|call| !call.came_back());
            if !hung.iter().any(|call| Arc::ptr_eq(&call.pulse, pulse)) {
                hung.push(Hung { lane, beat: pulse.beats(), pulse: Arc::clone(pulse), readable: None });
            }
        });
        tracing::error!(
            lane = lane.get(),
            seconds = OVERRUN.as_secs(),
            "a transactional call does not return; it is abandoned"
        );
        BrokerError::Overrun { seconds: OVERRUN.as_secs() }
    }

    /// Whether a call of this lane hangs, and the coordinator has not answered since.
    pub(super) fn is_unread(&self, lane: Lane) -> bool {
        let unread = |call: &Hung| call.lane == lane && !call.came_back() && call.readable.is_none();
        self.calls.borrow().iter().any(unread)
    }

    /// The group's committed offset of the lane was read: calls of this lane that hang should come back now.
    pub(super) fn readable(&self, lane: Lane) {
        self.calls.send_if_modified(|hung| {
            let before = hung.len();
            hung.retain(|call| !call.came_back());
            let mut modified = hung.len() != before;
            for call in hung.iter_mut().filter(|call| call.lane == lane && call.readable.is_none()) {
                call.readable = Some(tokio::time::Instant::now());
                modified = true;
            }
            modified
        });
    }

    /// Completes when a call hung on for 60 seconds after the group's committed offsets could be read again: the process must end.
    pub(super) fn hung(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut calls = self.calls.subscribe();
        async move {
            loop {
                let due = calls
                    .borrow_and_update()
                    .iter()
                    .filter(|call| !call.came_back())
                    .filter_map(|call| Some(call.readable? + HUNG))
                    .min();
                match due {
                    Some(due) if due <= tokio::time::Instant::now() => return,
                    Some(due) => {
                        let _ = tokio::time::timeout_at(due, calls.changed()).await;
                    }
                    None if calls.changed().await.is_err() => std::future::pending().await,
                    None => {}
                }
            }
        }
    }
}
