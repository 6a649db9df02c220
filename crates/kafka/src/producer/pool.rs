//! The producers of all lanes: one in use for each, made by the lane's takeover, and former ones until they are disposed of.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use super::context::{Limits, ProducerContext};
use super::watchdog::{HungCalls, Unfinished};
use super::worker::{Command, LaneThread, Reply, Usable};
use crate::output_topics::OutputTopics;
use crate::reader::Reader;
use dinnerbell_config as config;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::recorded::Recorded;
use dinnerbell_core::ports::broker::{BrokerError, MayBegin, Producer};

/// Most producers of one lane at once: the one in use, and former ones that are still being disposed of or hang.
const PRODUCERS_PER_LANE: usize = 4;

/// The producers of all lanes.
#[derive(Debug, Clone)]
pub struct Producers {
    shared: Arc<ProducersShared>,
}

struct ProducersShared {
    context: Arc<ProducerContext>,
    lanes: Mutex<HashMap<Lane, Arc<LaneSlot>>>,
    hung: HungCalls,
}

/// What is remembered of a lane from producer to producer.
#[derive(Debug)]
struct LaneSlot {
    /// A producer whose initialisation was not awaited to its end.
    pending: tokio::sync::Mutex<Option<Pending>>,
    room: Arc<Semaphore>,
}

impl std::fmt::Debug for ProducersShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producers").field("topics", &self.context.topics).finish_non_exhaustive()
    }
}

impl Producers {
    /// Producers for the lanes of a group; none is made before a lane asks for it.
    pub fn new(kafka: &config::Kafka, limits: Limits, reader: Reader, outputs: Arc<OutputTopics>) -> Self {
        let context = Arc::new(ProducerContext::new(kafka, limits, reader, outputs));
        Self { shared: Arc::new(ProducersShared { context, lanes: Mutex::default(), hung: HungCalls::default() }) }
    }

    /// A new producer for the lane, initialised: the `init_transactions` that fences former owners began and ended within this call.
    ///
    /// One that was begun earlier, and timed out or was not awaited, goes on in the background and would fence its successor. It is brought
    /// to its end on its own producer first. That producer is not used: it may have been fenced since, before the caller acquired the next epoch.
    pub async fn make(&self, lane: Lane) -> Result<LaneProducer, BrokerError> {
        let slot = self.slot(lane);
        let mut pending = slot.pending.lock().await;
        if let Some(former) = pending.as_mut() {
            match former.initialised().await {
                Err(Unfinished::Background(error)) => return Err(error),
                Err(Unfinished::Overrun) => return Err(self.overrun(lane, &former.thread)),
                Ok(()) | Err(Unfinished::Failed(_)) => *pending = None,
            }
        }
        self.coordinator_answers(lane).await?;
        let room = Arc::clone(&slot.room).try_acquire_owned().map_err(|_| {
            BrokerError::Transient(format!("former producers of lane {lane} are still being disposed of"))
        })?;
        let thread = LaneThread::start(Arc::clone(&self.shared.context), lane, room)?;
        let outcome = pending.insert(Pending { thread, reply: None }).initialised().await;
        match outcome {
            Ok(()) => {
                let thread = pending.take().expect("it was inserted above, under the lock").thread;
                thread.pulse.claimed.store(true, Ordering::Release);
                Ok(LaneProducer { producers: self.clone(), lane, thread })
            }
            Err(Unfinished::Background(error)) => Err(error),
            Err(Unfinished::Overrun) => {
                let thread = &pending.as_ref().expect("it was inserted above, under the lock").thread;
                Err(self.overrun(lane, thread))
            }
            Err(Unfinished::Failed(error)) => {
                *pending = None;
                Err(error)
            }
        }
    }

    /// The group's committed offset of the lane was read: calls of this lane that hang should come back now.
    pub fn readable(&self, lane: Lane) {
        self.shared.hung.readable(lane);
    }

    /// Completes when a call hung on for 60 seconds after the group's committed offsets could be read again: the process must end.
    pub fn hung(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.hung.hung()
    }

    /// Whether all producers have been disposed of.
    pub fn are_gone(&self) -> bool {
        let lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.values().all(|slot| slot.room.available_permits() == PRODUCERS_PER_LANE)
    }

    fn slot(&self, lane: Lane) -> Arc<LaneSlot> {
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = lanes.entry(lane).or_insert_with(|| {
            Arc::new(LaneSlot {
                pending: tokio::sync::Mutex::default(),
                room: Arc::new(Semaphore::new(PRODUCERS_PER_LANE)),
            })
        });
        Arc::clone(slot)
    }

    /// While a call of this lane hangs, a new producer waits until the group's coordinator answers: that question honours its time-out.
    async fn coordinator_answers(&self, lane: Lane) -> Result<(), BrokerError> {
        if self.shared.hung.is_unread(lane) {
            // Not for this lane's offset: the transaction that the call left open holds that back.
            self.shared.context.reader.coordinator_answers().await?;
            self.readable(lane);
        }
        Ok(())
    }

    fn overrun(&self, lane: Lane, thread: &LaneThread) -> BrokerError {
        self.shared.hung.abandon(lane, &thread.pulse)
    }
}

/// A producer on its thread, initialised and not yet handed out.
#[derive(Debug)]
struct Pending {
    thread: LaneThread,
    /// The answer that is under way.
    reply: Option<oneshot::Receiver<Result<(), Unfinished>>>,
}

impl Pending {
    /// Begins to initialise, or resumes it, and waits for it. Cancel safe: the answer is kept.
    async fn initialised(&mut self) -> Result<(), Unfinished> {
        if self.reply.is_none() {
            let (reply, answer) = oneshot::channel();
            self.thread.send(Command::Initialise { reply })?;
            self.reply = Some(answer);
        }
        let answer = self.reply.as_mut().expect("it was set above");
        let outcome = self.thread.pulse.watch(answer).await;
        if !matches!(outcome, Err(Unfinished::Overrun)) {
            self.reply = None;
        }
        outcome
    }
}

/// A lane's transactional producer, initialised.
#[derive(Debug)]
pub struct LaneProducer {
    producers: Producers,
    lane: Lane,
    thread: LaneThread,
}

impl Producer for LaneProducer {
    async fn publish_if(self, round: &Recorded, may_begin: MayBegin) -> Result<Option<Self>, BrokerError> {
        let publication = round.share();
        if !publication.drafts.is_empty() {
            let ProducerContext { outputs, reader, .. } = &*self.producers.shared.context;
            outputs.look_beside(reader);
        }
        self.transact(|reply| Command::Publish { publication, may_begin, reply }).await
    }

    async fn publish_mark(self, round: &Recorded) -> Result<Option<Self>, BrokerError> {
        let publication = round.share();
        self.transact(|reply| Command::PublishMark { publication, reply }).await
    }
}

impl LaneProducer {
    /// One transaction. Whatever goes wrong, the producer is gone: its thread stops at the next step and disposes of it there.
    async fn transact(self, command: impl FnOnce(Reply) -> Command) -> Result<Option<Self>, BrokerError> {
        let (reply, mut answer) = oneshot::channel();
        let sent = self.thread.send(command(reply));
        let outcome = match sent {
            Ok(()) => self.thread.pulse.watch(&mut answer).await,
            Err(unsent) => Err(unsent),
        };
        match outcome {
            Ok(Usable::Again) => Ok(Some(self)),
            Ok(Usable::NoMore) => Ok(None),
            Err(Unfinished::Failed(error) | Unfinished::Background(error)) => Err(error),
            Err(Unfinished::Overrun) => Err(self.producers.overrun(self.lane, &self.thread)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::watchdog::Pulse;
    use dinnerbell_config::{Start, Topics as TopicNames};
    use std::time::Duration;

    fn producers() -> Producers {
        let kafka = config::Kafka {
            bootstrap_servers: "127.0.0.1:1".into(),
            security_protocol: "PLAINTEXT".into(),
            sasl: None,
            ca_file: None,
            group_id: "group".into(),
            start: Start::Earliest,
            topics: TopicNames { campaigns: "in".into(), notifications: "out".into(), dead_letters: None },
            client: std::collections::BTreeMap::new(),
        };
        let reader = Reader::start(&kafka).unwrap();
        Producers::new(
            &kafka,
            Limits { notifications: 1_000_000, dead_letters: 1_000_000, dead_letters_compacted: false },
            reader,
            Arc::new(OutputTopics::new(&kafka.topics)),
        )
    }

    /// A thread that hangs in a call.
    fn hanging() -> LaneThread {
        LaneThread { commands: crossbeam_channel::bounded(1).0, pulse: Arc::new(Pulse::new()) }
    }

    async fn completes_within(future: impl Future<Output = ()>, seconds: u64) -> bool {
        tokio::time::timeout(Duration::from_secs(seconds), future).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_hung_a_minute_after_the_coordinator_answered_and_not_before() {
        let producers = producers();
        let thread = hanging();
        let overrun = producers.overrun(Lane::new(3), &thread);
        assert!(matches!(overrun, BrokerError::Overrun { seconds: 12 }));
        assert!(!completes_within(producers.hung(), 1_000).await, "the coordinator is away");
        producers.readable(Lane::new(4));
        assert!(!completes_within(producers.hung(), 1_000).await, "that was another lane's");
        producers.readable(Lane::new(3));
        assert!(!completes_within(producers.hung(), 59).await);
        assert!(completes_within(producers.hung(), 2).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_comes_back_is_not_hung() {
        let producers = producers();
        let thread = hanging();
        producers.overrun(Lane::new(3), &thread);
        producers.readable(Lane::new(3));
        thread.pulse.beat();
        assert!(!completes_within(producers.hung(), 1_000).await);
    }

    #[tokio::test]
    async fn while_a_call_hangs_no_producer_is_made_before_the_offsets_can_be_read() {
        let producers = producers();
        let thread = hanging();
        producers.overrun(Lane::new(3), &thread);
        let made = producers.make(Lane::new(3)).await;
        assert!(matches!(&made, Err(BrokerError::Transient(text)) if text.contains("coordinator")), "{made:?}");
    }
}
