//! The reader's thread: opens, seeks and closes lanes in one order, and serves the events of the clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tokio::sync::{Notify, oneshot};

use crate::client::{ClientEvents, serve_waiting_events};
use dinnerbell_core::model::number::{Lane, Offset};

/// How often the reader's thread looks for logs and closed lanes.
const SWEEP: Duration = Duration::from_millis(250);

type LaneQueue = PartitionQueue<ClientEvents>;
/// Where the outcome of a command goes.
pub(super) type Reply = oneshot::Sender<KafkaResult<()>>;

/// What only the reader's thread does, so that it happens in one order.
pub(super) enum Command {
    Open { lane: Lane, position: Offset, slot: Arc<PartitionSlot>, reply: Reply },
    Seek { lane: Lane, position: Offset, slot: Arc<PartitionSlot>, reply: Reply },
    Sweep,
    Stop,
}

/// One opening of a lane.
#[derive(Default)]
pub(super) struct PartitionSlot {
    /// Gone when the lane was closed, or opened once more.
    queue: Mutex<Option<LaneQueue>>,
    /// Told when there is something to take.
    pub(super) ready: Arc<Notify>,
    closed: AtomicBool,
}

impl PartitionSlot {
    /// The thread closes the lane when it looks next.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The lane's records; none once it was closed.
    pub(super) fn queue(&self) -> MutexGuard<'_, Option<LaneQueue>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reader's thread.
pub(super) struct ReaderThread {
    pub(super) topic: String,
    pub(super) consumer: Arc<BaseConsumer<ClientEvents>>,
    /// Held so that its end blocks nobody but this thread.
    pub(super) every: Arc<BaseConsumer<ClientEvents>>,
    pub(super) observer: ClientEvents,
    pub(super) ear: Arc<Mutex<()>>,
    pub(super) open: HashMap<Lane, Arc<PartitionSlot>>,
}

impl ReaderThread {
    /// Does what it is told until the stop.
    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            match inbox.recv_timeout(SWEEP) {
                Ok(Command::Open { lane, position, slot, reply }) => {
                    // A caller that has gone leaves the lane to the tail scan.
                    let _ = reply.send(self.open(lane, position, &slot));
                }
                Ok(Command::Seek { lane, position, slot, reply }) => {
                    let _ = reply.send(self.seek(lane, position, &slot));
                }
                Ok(Command::Sweep) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.sweep();
            // Logs and errors only: every lane that is read has its own queue.
            let _ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
            serve_waiting_events(&self.every, &self.observer);
            serve_waiting_events(&self.consumer, &self.observer);
        }
        for lane in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(lane);
        }
    }

    fn open(&mut self, lane: Lane, position: Offset, slot: &Arc<PartitionSlot>) -> KafkaResult<()> {
        self.close(lane);
        // Split before the lane is assigned: nothing of it ever comes to the common queue.
        let mut queue = self
            .consumer
            .split_partition_queue(&self.topic, lane.get())
            .ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        let ready = Arc::clone(&slot.ready);
        queue.set_nonempty_callback(move || ready.notify_one());
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&self.topic, lane.get(), rdkafka::Offset::Offset(position.get()))?;
        self.consumer.incremental_assign(&assignment)?;
        *slot.queue() = Some(queue);
        self.open.insert(lane, Arc::clone(slot));
        Ok(())
    }

    fn seek(&self, lane: Lane, position: Offset, slot: &Arc<PartitionSlot>) -> KafkaResult<()> {
        if slot.queue().is_none() {
            return Err(KafkaError::Canceled);
        }
        // Answered by librdkafka's own thread; no broker is asked.
        self.consumer.seek(&self.topic, lane.get(), rdkafka::Offset::Offset(position.get()), Duration::from_secs(1))
    }

    fn sweep(&mut self) {
        let closed: Vec<Lane> = self.open.iter().filter(|(_, slot)| slot.is_closed()).map(|(lane, _)| *lane).collect();
        for lane in closed {
            self.close(lane);
        }
    }

    fn close(&mut self, lane: Lane) {
        let Some(slot) = self.open.remove(&lane) else { return };
        // Dropped before the lane can be split again: a queue's end silences the wake-ups of its successor.
        *slot.queue() = None;
        slot.ready.notify_one();
        let mut gone = TopicPartitionList::new();
        gone.add_partition(&self.topic, lane.get());
        if let Err(error) = self.consumer.incremental_unassign(&gone) {
            tracing::warn!(lane = lane.get(), %error, "closing a lane's input failed");
        }
    }
}
