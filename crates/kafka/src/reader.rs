//! Reads the lanes, and answers questions about them: one consumer that belongs to the group by name but never subscribes, so that
//! no rebalance touches what it reads. Which lanes it reads is told by whoever opens them.
//!
//! Each lane has its own queue inside librdkafka, bounded in records and bytes: a lane that is not drained is not fetched, the others
//! go on. [`LaneInput`] takes from that queue without a thread in between.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, oneshot};
use tokio::task;
use tokio::time::Instant;

use super::client::{ASK, ClientEvents, listen, listen_now, off_runtime, settings, tell_topic_ids};
use crate::catch_panic::catch_panic;
use dinnerbell_config as config;
use dinnerbell_config::kafka_client::Role;
use dinnerbell_core::model::limits::{LARGEST_RECORD, LARGEST_REST};
use dinnerbell_core::model::mark::Committed;
use dinnerbell_core::model::record::{Arrived, Digest, Header, Lane, LeftOut, Record, RecordFingerprint, hash};
use dinnerbell_core::ports::broker::{BrokerError, Input};

/// A lane that holds this many records unread is not fetched any further, ...
const QUEUED_RECORDS: &str = "1024";
/// ... nor one that holds this many KiB: as much as an intake takes. One larger batch still passes: the broker always sends at least one.
const QUEUED_KIB: &str = "512";
/// Most bytes of one lane in one fetch, as they lie in the broker's log. All of it is unpacked at once, and may be a thousand times as much
/// then.
const FETCH_BYTES: &str = "16384";
/// After this many bytes an intake's records are taken as they are, but for a single larger one.
const INTAKE_BYTES: usize = 512 << 10;
/// How long a lane has to be quiet before the gap behind its last record is looked at.
const REST: Duration = Duration::from_millis(500);
/// A missed wake-up costs at most this.
const TICK: Duration = Duration::from_secs(1);
/// How often the reader's thread looks for logs and closed lanes.
const SWEEP: Duration = Duration::from_millis(250);
/// How many commands may wait for the reader's thread: several for each lane of a large instance.
const COMMANDS: usize = 1024;

type LaneQueue = PartitionQueue<ClientEvents>;
type Reply = oneshot::Sender<KafkaResult<()>>;
type Pending<T> = Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send>>;

/// The consumer that reads. Cheap to clone; the last clone ends its thread.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<ReaderShared>,
}

struct ReaderShared {
    topic: String,
    observer: ClientEvents,
    /// Held by whoever listens: what was said before is known to the observer when it is free.
    ear: Arc<Mutex<()>>,
    // Taken before the thread is told to stop: the consumer's end blocks, and belongs on that thread.
    consumer: Option<Arc<BaseConsumer<ClientEvents>>>,
    /// Sees what open transactions hold back. It reads nothing. Taken as the other one is.
    every: Option<Arc<BaseConsumer<ClientEvents>>>,
    commands: Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What only the reader's thread does, so that it happens in one order.
enum Command {
    Open { lane: Lane, position: i64, slot: Arc<PartitionSlot>, reply: Reply },
    Seek { lane: Lane, position: i64, slot: Arc<PartitionSlot>, reply: Reply },
    Sweep,
    Stop,
}

/// One opening of a lane.
#[derive(Default)]
struct PartitionSlot {
    /// Gone when the lane was closed, or opened once more.
    queue: Mutex<Option<LaneQueue>>,
    ready: Arc<Notify>,
    closed: AtomicBool,
}

impl PartitionSlot {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn queue(&self) -> MutexGuard<'_, Option<LaneQueue>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for ReaderShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Drop for ReaderShared {
    fn drop(&mut self) {
        self.consumer = None;
        self.every = None;
        // Full: the thread is alive and finds the channel closed after the last command.
        let _ = self.commands.try_send(Command::Stop);
    }
}

/// Makes the client that asks for the ends of the log; nothing is contacted before it is asked.
fn every_record(kafka: &config::Kafka, observer: &ClientEvents) -> KafkaResult<BaseConsumer<ClientEvents>> {
    let promises = [
        ("group.id", kafka.group_id.as_str()),
        ("enable.auto.commit", "false"),
        ("isolation.level", "read_uncommitted"),
    ];
    settings(kafka, Role::Consumer, "ends", &[], &promises).create_with_context(observer.clone())
}

fn reader_settings(kafka: &config::Kafka) -> ClientConfig {
    let defaults = [
        ("queued.min.messages", QUEUED_RECORDS),
        ("queued.max.messages.kbytes", QUEUED_KIB),
        ("fetch.message.max.bytes", FETCH_BYTES),
        // A question to a broker waits behind the fetch that is under way there.
        ("fetch.wait.max.ms", "100"),
        ("fetch.queue.backoff.ms", "50"),
        ("fetch.error.backoff.ms", "100"),
    ];
    let promises = [
        ("group.id", kafka.group_id.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
    ];
    let mut settings = settings(kafka, Role::Consumer, "reader", &defaults, &promises);
    tell_topic_ids(&mut settings);
    settings
}

impl Reader {
    /// Makes the consumer and its thread. Nothing is contacted yet.
    pub fn start(kafka: &config::Kafka) -> Result<Self, BrokerError> {
        let observer = ClientEvents::default();
        let consumer: BaseConsumer<ClientEvents> = reader_settings(kafka)
            .create_with_context(observer.clone())
            .map_err(|error| observer.explain("making the reading client", &error))?;
        let consumer = Arc::new(consumer);
        let every =
            every_record(kafka, &observer).map_err(|error| observer.explain("making the reading client", &error))?;
        let every = Arc::new(every);
        let (commands, inbox) = crossbeam_channel::bounded(COMMANDS);
        let topic = kafka.topics.campaigns.clone();
        let ear = Arc::default();
        let desk = ReaderThread {
            topic: topic.clone(),
            consumer: Arc::clone(&consumer),
            every: Arc::clone(&every),
            observer: observer.clone(),
            ear: Arc::clone(&ear),
            open: HashMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("kafka-reader".into())
            .spawn(move || desk.run(&inbox))
            .map_err(|error| BrokerError::Passing(format!("starting the reader's thread: {error}")))?;
        let thread = Mutex::new(Some(thread));
        let (consumer, every) = (Some(consumer), Some(every));
        Ok(Self { shared: Arc::new(ReaderShared { topic, observer, ear, consumer, every, commands, thread }) })
    }

    /// What librdkafka said outside of calls.
    pub fn observer(&self) -> &ClientEvents {
        &self.shared.observer
    }

    /// The group as a consumer that never joined it: generation -1 and no member, which transactions accept from anyone who may read the
    /// group. A member's own generation would abort rounds of lanes that did not move.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata, BrokerError> {
        self.consumer().group_metadata().ok_or_else(|| BrokerError::Passing("the reading client is closing".into()))
    }

    /// Asks something with the consumer, off the async workers. `ask` must honour [`ASK`] or less.
    pub async fn ask<T: Send + 'static>(
        &self,
        doing: String,
        ask: impl FnOnce(&BaseConsumer<ClientEvents>, &str) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let reader = self.clone();
        off_runtime(move || {
            let shared = &reader.shared;
            match ask(reader.consumer(), &shared.topic) {
                Ok(answer) => {
                    shared.observer.well();
                    Ok(answer)
                }
                Err(error) => Err(shared.observer.explain(&doing, &error)),
            }
        })
        .await
    }

    /// The low watermark, and the offset up to which a `read_committed` reader can read.
    pub async fn watermarks(&self, lane: Lane) -> Result<(i64, i64), BrokerError> {
        self.ask(format!("reading the watermarks of lane {lane}"), move |consumer, topic| {
            consumer.fetch_watermarks(topic, lane, ASK)
        })
        .await
    }

    /// The offset behind the lane's last record, those of open transactions included.
    pub async fn log_end(&self, lane: Lane) -> Result<i64, BrokerError> {
        let every = Arc::clone(self.shared.every.as_ref().expect("it is taken only by drop"));
        let asked = self
            .ask(format!("reading the end of lane {lane}"), move |_, topic| every.fetch_watermarks(topic, lane, ASK));
        Ok(asked.await?.1)
    }

    /// The id of the campaigns topic as the brokers know it now; none where they know no ids.
    pub async fn topic_id(&self) -> Result<Option<String>, BrokerError> {
        self.ask("asking for the id of the campaigns topic".into(), |consumer, topic| {
            consumer.fetch_metadata(Some(topic), ASK).map(drop)
        })
        .await?;
        self.listen();
        Ok(self.shared.observer.topic_id(&self.shared.topic))
    }

    /// The id of a topic as the brokers know it now; none where they know no ids, or no such topic. Blocks, for some seconds at most.
    pub fn id_of(&self, topic: &str) -> Result<Option<String>, BrokerError> {
        let shared = &self.shared;
        let asked = self.consumer().fetch_metadata(Some(topic), ASK);
        let metadata = match asked {
            Err(error) if is_unknown_partition(&error) => return Ok(None),
            asked => asked
                .map_err(|error| shared.observer.explain(&format!("asking for the id of topic {topic}"), &error))?,
        };
        let is_there = metadata.topics().iter().any(|found| found.name() == topic && found.error().is_none());
        self.listen();
        Ok(shared.observer.topic_id(topic).filter(|_| is_there))
    }

    /// Hears everything that the client has said up to now.
    fn listen(&self) {
        let _ear = self.shared.ear.lock().unwrap_or_else(PoisonError::into_inner);
        listen_now(self.consumer(), &self.shared.observer);
    }

    /// What the group committed for the lane, stable offsets only: while a transaction that commits one is open, this waits.
    pub async fn committed(&self, lane: Lane) -> Result<Committed, BrokerError> {
        self.ask(format!("reading the group's committed offset of lane {lane}"), move |consumer, topic| {
            let until = Instant::now() + ASK;
            loop {
                match committed_once(consumer, topic, lane, until.saturating_duration_since(Instant::now())) {
                    Err(error) if unstable(&error) && Instant::now() < until => {
                        #[expect(
                            clippy::disallowed_methods,
                            reason = "on a thread that may block, and librdkafka tells nobody when a transaction ends"
                        )]
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    other => return other,
                }
            }
        })
        .await
    }

    /// Asks the group's coordinator for a sign of life.
    pub async fn coordinator_answers(&self) -> Result<(), BrokerError> {
        // Of a lane that nobody has: no transaction that is open can hold the answer back. That it is unknown is an answer too.
        let asked = self.ask("asking the group's coordinator".into(), |consumer, topic| {
            match committed_once(consumer, topic, Lane::MAX, ASK) {
                Err(error) if is_unknown_partition(&error) => Ok(()),
                answered => answered.map(drop),
            }
        });
        asked.await
    }

    /// The mark of the record at an offset, if a record is there. The lane must not be open.
    pub async fn fingerprint_at(&self, lane: Lane, offset: i64) -> Result<Option<RecordFingerprint>, BrokerError> {
        let input = self.open(lane, offset, None).await?;
        let first = tokio::time::timeout(ASK, input.first());
        let first = first
            .await
            .map_err(|_| BrokerError::Passing(format!("reading offset {offset} of lane {lane}: timed out")))??;
        Ok(first.filter(|record| record.offset == offset).and_then(|record| record.mark()))
    }

    /// Starts to read a lane. One that is open is closed for its former reader. Where the topic's id is given, nothing of another topic is
    /// returned.
    pub async fn open(&self, lane: Lane, position: i64, topic_id: Option<&str>) -> Result<LaneInput, BrokerError> {
        let slot = Arc::new(PartitionSlot::default());
        let input = LaneInput {
            reader: self.clone(),
            lane,
            slot: Arc::clone(&slot),
            position,
            topic_id: topic_id.map(str::to_owned),
            ending: Ending::Reading,
            unreadable: None,
            failure: None,
        };
        self.tell(|reply| Command::Open { lane, position, slot, reply }).await?;
        Ok(input)
    }

    /// Ends the thread and the client, waiting at most this long. Inputs that are still open hold it back.
    pub async fn close(self, most: Duration) {
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(self);
        if let Some(thread) = thread {
            let ended = task::spawn_blocking(move || {
                let until = Instant::now() + most;
                while !thread.is_finished() && Instant::now() < until {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "on a thread that may block: joining a thread knows no time-out"
                    )]
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            let _ = ended.await;
        }
    }

    fn consumer(&self) -> &Arc<BaseConsumer<ClientEvents>> {
        self.shared.consumer.as_ref().expect("it is taken only by drop")
    }

    async fn tell(&self, command: impl FnOnce(Reply) -> Command) -> Result<(), BrokerError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        let answer = answer.await.map_err(|_| BrokerError::Passing("the reading client is closing".into()))?;
        answer.map_err(|error| self.shared.observer.explain("reading the campaigns topic", &error))
    }

    fn send(&self, command: Command) -> Result<(), BrokerError> {
        self.shared.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => BrokerError::Passing("the reading client does not keep up".into()),
            TrySendError::Disconnected(_) => BrokerError::Passing("the reading client has ended".into()),
        })
    }
}

fn unstable(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnstableOffsetCommit)
}

fn is_unknown_partition(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownPartition | UnknownTopicOrPartition))
}

fn committed_once(
    consumer: &BaseConsumer<ClientEvents>,
    topic: &str,
    lane: Lane,
    most: Duration,
) -> KafkaResult<Committed> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, lane);
    let answer = consumer.committed_offsets(asked, most)?;
    let Some(entry) = answer.find_partition(topic, lane) else {
        return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
    };
    entry.error()?;
    let Offset::Offset(offset) = entry.offset() else { return Ok(Committed::None) };
    // The library panics where the metadata is not UTF-8.
    let Ok(metadata) = catch_panic(|| catch_unwind(AssertUnwindSafe(|| entry.metadata().to_owned()))) else {
        return Ok(Committed::Foreign(format!("offset {offset} with metadata that is not text")));
    };
    Ok(match metadata.parse() {
        Ok(mark) => Committed::Mark(mark),
        Err(_) => Committed::Foreign(format!("offset {offset} with metadata {metadata:?}")),
    })
}

/// Whether a batch of records is damaged, or larger than receive.message.max.bytes once it is unpacked: it will be so the next time too.
fn is_unreadable(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::BadMessage))
}

/// The reader's thread.
struct ReaderThread {
    topic: String,
    consumer: Arc<BaseConsumer<ClientEvents>>,
    /// Held so that its end blocks nobody but this thread.
    every: Arc<BaseConsumer<ClientEvents>>,
    observer: ClientEvents,
    ear: Arc<Mutex<()>>,
    open: HashMap<Lane, Arc<PartitionSlot>>,
}

impl ReaderThread {
    fn run(mut self, inbox: &Receiver<Command>) {
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
            listen(&self.every);
            let _ear = self.ear.lock().unwrap_or_else(PoisonError::into_inner);
            listen_now(&self.consumer, &self.observer);
        }
        for lane in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(lane);
        }
    }

    fn open(&mut self, lane: Lane, position: i64, slot: &Arc<PartitionSlot>) -> KafkaResult<()> {
        self.close(lane);
        // Split before the lane is assigned: nothing of it ever comes to the common queue.
        let mut queue = self
            .consumer
            .split_partition_queue(&self.topic, lane)
            .ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        let ready = Arc::clone(&slot.ready);
        queue.set_nonempty_callback(move || ready.notify_one());
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&self.topic, lane, Offset::Offset(position))?;
        self.consumer.incremental_assign(&assignment)?;
        *slot.queue() = Some(queue);
        self.open.insert(lane, Arc::clone(slot));
        Ok(())
    }

    fn seek(&self, lane: Lane, position: i64, slot: &Arc<PartitionSlot>) -> KafkaResult<()> {
        if slot.queue().is_none() {
            return Err(KafkaError::Canceled);
        }
        // Answered by librdkafka's own thread; no broker is asked.
        self.consumer.seek(&self.topic, lane, Offset::Offset(position), Duration::from_secs(1))
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
        gone.add_partition(&self.topic, lane);
        if let Err(error) = self.consumer.incremental_unassign(&gone) {
            tracing::warn!(lane, %error, "closing a lane's input failed");
        }
    }
}

/// What is known about the end of the lane.
///
/// Offsets alone are not records: transaction markers and compaction leave gaps, and a position that stays before such a gap would be
/// taken for trimmed input once the gap is deleted. So when a lane has come to rest at its end, the high watermark W is read; if it
/// lies behind the position, the lane is read once more from the position, and if its end is reported with no record below W, the
/// position becomes W. librdkafka reports an end again only when it has moved, so a lane at rest does nothing.
enum Ending {
    /// The end was not reported since the last record.
    Reading,
    /// It was, at this moment.
    Reached(Instant),
    /// W is being read.
    Asking(Pending<(i64, i64)>),
    /// The lane is being set back to the position.
    Seeking(Pending<()>, i64),
    /// The next end that is reported confirms W.
    Confirming(i64),
    /// The position is the end.
    Rested,
    /// The lane is being set behind what cannot be unpacked.
    PassingOver(Pending<()>),
}

/// The records of a lane, in order. Dropping it closes the lane.
pub struct LaneInput {
    reader: Reader,
    lane: Lane,
    slot: Arc<PartitionSlot>,
    position: i64,
    /// The topic that is read, where its id is known.
    topic_id: Option<String>,
    ending: Ending,
    /// The offset at which nothing could be unpacked; where it is met a second time, it is passed over.
    unreadable: Option<i64>,
    failure: Option<Failure>,
}

/// Why nothing more comes.
enum Failure {
    /// Somebody else opened the lane, or the client is closing.
    Closed,
    /// librdkafka gave up on the lane.
    Kafka(KafkaError),
    /// Another topic has the name by now.
    Replaced,
}

impl Drop for LaneInput {
    fn drop(&mut self) {
        self.slot.close();
        // Where the command does not fit, the thread is awake anyway.
        let _ = self.reader.send(Command::Sweep);
    }
}

impl std::fmt::Debug for LaneInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneInput").field("lane", &self.lane).field("position", &self.position).finish_non_exhaustive()
    }
}

impl Input for LaneInput {
    async fn next(&mut self, most: usize) -> Result<Vec<Arrived>, BrokerError> {
        loop {
            if let Some(failure) = self.failure.take() {
                return Err(self.explain(&failure));
            }
            let arrived = self.take(most);
            if !arrived.is_empty() {
                // Whatever came of another topic came after the word that there is one.
                self.reader.listen();
            }
            if self.is_replaced() {
                return Err(self.explain(&Failure::Replaced));
            }
            if !arrived.is_empty() {
                return Ok(arrived);
            }
            if self.failure.is_none() {
                self.wait().await;
            }
        }
    }
}

impl LaneInput {
    /// Takes what is there. A failure is kept until everything before it was delivered.
    fn take(&mut self, most: usize) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        if matches!(self.ending, Ending::Seeking(..) | Ending::PassingOver(_)) {
            // What is queued lies before the seek; the end that confirms W comes after it.
            return arrived;
        }
        let slot = Arc::clone(&self.slot);
        let queue = slot.queue();
        let Some(queue) = queue.as_ref() else {
            self.failure = Some(Failure::Closed);
            return arrived;
        };
        let mut bytes = 0;
        while arrived.len() < most.max(1) && bytes < INTAKE_BYTES {
            match queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) if message.offset() < self.position => {}
                Some(Ok(message)) => {
                    self.position = message.offset() + 1;
                    self.ending = Ending::Reading;
                    let record = record(&message);
                    bytes += record.size();
                    arrived.push(Arrived::Record(record));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => arrived.extend(self.ended()),
                Some(Err(error)) if is_unreadable(&error) => {
                    if let Some(record) = self.pass_over(&error) {
                        arrived.push(Arrived::Record(record));
                        break;
                    }
                }
                Some(Err(error)) => {
                    self.failure = Some(Failure::Kafka(error));
                    break;
                }
            }
        }
        arrived
    }

    /// Whether the client has heard that another topic has the name by now.
    fn is_replaced(&self) -> bool {
        let Some(known) = &self.topic_id else { return false };
        let shared = &self.reader.shared;
        shared.observer.topic_id(&shared.topic).is_some_and(|now| now != *known)
    }

    fn ended(&mut self) -> Option<Arrived> {
        let confirmed = match self.ending {
            Ending::Confirming(end) => Some(end),
            _ => None,
        };
        // Looked at once more even when confirmed: the end may have moved since W was read, and is not reported again.
        self.ending = Ending::Reached(Instant::now());
        let end = confirmed?;
        self.position = end;
        Some(Arrived::End(end))
    }

    /// What stands at the position cannot be unpacked. It is read once more, in case it was damaged on its way; then it is passed over, as a
    /// record of which nothing is known. So each offset of a batch is, since nothing says where a batch ends.
    fn pass_over(&mut self, error: &KafkaError) -> Option<Record> {
        let offset = self.position;
        let before = self.unreadable.replace(offset);
        if before != Some(offset) && before != Some(offset - 1) {
            return None;
        }
        self.position += 1;
        self.set_back();
        let reason = format!(
            "what stands at this offset cannot be unpacked ({error}): it is damaged, or its compressed batch is larger unpacked than \
             receive.message.max.bytes allows; send it again in a smaller batch"
        );
        let left_out = LeftOut { parts: vec!["key", "value", "headers"], reason, value: None, hash: None };
        let headers = Vec::new();
        Some(Record { offset, timestamp: -1, key: None, value: None, headers, left_out: Some(left_out) })
    }

    /// Begins to read from the position.
    fn set_back(&mut self) {
        let (reader, lane, position, slot) = (self.reader.clone(), self.lane, self.position, Arc::clone(&self.slot));
        let sought = async move { reader.tell(|reply| Command::Seek { lane, position, slot, reply }).await };
        self.ending = Ending::PassingOver(Box::pin(sought));
    }

    fn explain(&self, failure: &Failure) -> BrokerError {
        let doing = format!("reading lane {} at offset {}", self.lane, self.position);
        match failure {
            Failure::Closed => BrokerError::Passing(format!("{doing}: the lane was opened once more, or closed")),
            Failure::Replaced => BrokerError::Passing(format!("{doing}: the topic was created anew")),
            Failure::Kafka(error) => self.reader.shared.observer.explain(&doing, error),
        }
    }

    /// Waits until there may be something to take, and does what the end of the lane asks for meanwhile. Cancel safe: what is under way is
    /// kept in `ending`.
    async fn wait(&mut self) {
        let ready = Arc::clone(&self.slot.ready);
        match &mut self.ending {
            Ending::Reading | Ending::Rested | Ending::Confirming(_) => {
                let _ = tokio::time::timeout(TICK, ready.notified()).await;
            }
            Ending::Reached(since) => {
                let rested = tokio::time::sleep_until(*since + REST);
                tokio::select! {
                    () = ready.notified() => {}
                    () = rested => {
                        let (reader, lane) = (self.reader.clone(), self.lane);
                        self.ending = Ending::Asking(Box::pin(async move { reader.watermarks(lane).await }));
                    }
                }
            }
            Ending::Asking(asked) => tokio::select! {
                () = ready.notified() => {}
                watermarks = asked => self.judge(watermarks.ok()),
            },
            Ending::Seeking(sought, end) => {
                self.ending = match sought.await {
                    Ok(()) => Ending::Confirming(*end),
                    Err(_) => Ending::Reached(Instant::now()),
                };
            }
            Ending::PassingOver(sought) => {
                // One that failed is met again at the old place, and passed over there.
                let _ = sought.await;
                self.ending = Ending::Reading;
            }
        }
    }

    fn judge(&mut self, watermarks: Option<(i64, i64)>) {
        self.ending = match watermarks {
            None => Ending::Reached(Instant::now() + TICK),
            Some((_, end)) if end <= self.position => Ending::Rested,
            Some((_, end)) => {
                let (reader, lane, position, slot) =
                    (self.reader.clone(), self.lane, self.position, Arc::clone(&self.slot));
                let sought = async move { reader.tell(|reply| Command::Seek { lane, position, slot, reply }).await };
                Ending::Seeking(Box::pin(sought), end)
            }
        };
    }

    /// The first record from the position on; none if the lane ends before.
    async fn first(mut self) -> Result<Option<Record>, BrokerError> {
        loop {
            match self.take(1).pop() {
                Some(Arrived::Record(record)) => return Ok(Some(record)),
                Some(Arrived::End(_)) => return Ok(None),
                None if matches!(self.ending, Ending::Reached(_)) => return Ok(None),
                None => {}
            }
            match self.failure.take() {
                // The offset lies outside of what the broker holds.
                Some(Failure::Kafka(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                    return Ok(None);
                }
                Some(failure) => return Err(self.explain(&failure)),
                None => self.wait().await,
            }
        }
    }
}

/// A record as it is kept: of one that is too large, what it was.
fn record(message: &BorrowedMessage<'_>) -> Record {
    let (key, value) = (message.key(), message.payload());
    let headers = message.headers();
    let headers_size = headers.map_or(0, |headers| (0..headers.count()).map(|index| header_size(headers, index)).sum());
    let left_out = left_out(key, value, headers_size);
    let keeps = |part| left_out.as_ref().is_none_or(|left_out| !left_out.parts.contains(&part));
    let read = |headers| (0..BorrowedHeaders::count(headers)).filter_map(|index| header(headers, index)).collect();
    Record {
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(-1),
        key: key.filter(|_| keeps("key")).map(<[u8]>::to_vec),
        value: value.filter(|_| keeps("value")).map(<[u8]>::to_vec),
        headers: headers.filter(|_| keeps("headers")).map_or_else(Vec::new, read),
        left_out,
    }
}

/// What is left out of a record with these parts, if it is too large.
fn left_out(key: Option<&[u8]>, value: Option<&[u8]>, headers: usize) -> Option<LeftOut> {
    let (key_size, value_size) = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
    let size = key_size + value_size + headers;
    if size <= LARGEST_RECORD {
        return None;
    }
    let sizes = [("key", key_size), ("value", value_size), ("headers", headers)];
    let large = |(part, size): &(&'static str, usize)| (*size > LARGEST_REST).then_some(*part);
    Some(LeftOut {
        parts: sizes.iter().filter_map(large).collect(),
        reason: format!(
            "the record takes {size} bytes unpacked (key {key_size}, value {value_size}, headers {headers}), and at most {LARGEST_RECORD} \
             are allowed; leave out what is no field of a campaign"
        ),
        value: value
            .filter(|_| value_size > LARGEST_REST)
            .map(|value| Digest { size: value_size as i64, sha256: Sha256::digest(value).to_vec() }),
        hash: Some(hash(key, value)),
    })
}

/// What a header takes, by its value where its name cannot be read.
fn header_size(headers: &BorrowedHeaders, index: usize) -> usize {
    let read = catch_panic(|| {
        catch_unwind(AssertUnwindSafe(|| {
            headers.try_get(index).map_or(0, |header| header.key.len() + header.value.map_or(0, <[u8]>::len))
        }))
    });
    read.unwrap_or_default() + 16
}

/// The library panics where a header's name is not UTF-8, and shows its value to nobody then.
fn header(headers: &BorrowedHeaders, index: usize) -> Option<Header> {
    let read = catch_panic(|| {
        catch_unwind(AssertUnwindSafe(|| {
            headers
                .try_get(index)
                .map(|header| Header { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) })
        }))
    });
    read.unwrap_or_else(|_| Some(Header { name: Header::UNREADABLE.into(), value: None }))
}
