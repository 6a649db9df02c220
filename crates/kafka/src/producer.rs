//! Publishes the rounds of a lane: one transactional producer for each lane, on a thread of its own.
//!
//! librdkafka's transactional calls block, and some can hang past their own time-out while the coordinator is away. So they run on that
//! thread under a watchdog; a call that overruns is left there with its producer, and the lane makes no new one before the group's
//! coordinator answers again. A call that hangs on long after that is a defect of the process: [`Producers::hung`] completes.
//!
//! A transaction that was committed while a connection of its producer broke uses that producer up: see [`super::deliveries`].

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::client::{ClientEvents, EVENT_POLL, settings};
use super::deliveries::{self, Deliveries, Failed, hear_out, hearing_of_breaks, is_full};
use super::message::{self, DeadLetter, Takes};
use super::outputs::Outputs;
use super::reader::Reader;
use dinnerbell_config as config;
use dinnerbell_config::kafka_client::Role;
use dinnerbell_core::fail_point::fail_point;
use dinnerbell_core::model::draft::{CE_ID, DraftBatch, ROUND_HEADER};
use dinnerbell_core::model::outputs::is_another;
use dinnerbell_core::model::record::{DeadLetterMessage, Lane};
use dinnerbell_core::model::recorded::Recorded;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{BrokerError, Producer, transaction_time};

/// The time-out that a transactional call is given.
const CALL: Duration = Duration::from_secs(10);
/// A transactional call that is not back after this long is abandoned: what it left open holds back `read_committed` readers until the lane has a
/// new producer. Kafka replaces a coordinator that died within 10 s.
const OVERRUN: Duration = Duration::from_secs(12);
/// A call that hangs this long after the coordinator answered again will never come back.
const HUNG: Duration = Duration::from_secs(60);
/// What timers are late by.
const LATE: Duration = Duration::from_millis(500);
/// How long dead letters may be on their way when nothing else is: the drafts of their round do not wait for them longer.
const LETTERS_LATE: Duration = Duration::from_secs(3);
/// A dead letter of which nothing is left but where it came from and why is smaller.
const SMALLEST_LETTER: usize = 4_096;
/// A producer that nobody claims is disposed of after this long.
const UNCLAIMED: Duration = Duration::from_secs(60);
/// Most producers of one lane at once: the one in use, and former ones that are still being disposed of or hang.
const PRODUCERS_PER_LANE: usize = 4;
/// How long to wait before looking at deliveries again: at first, at most while few messages are on their way, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_micros(500);
const PAUSE_FOR_FEW: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);
/// How many messages are few.
const FEW: i32 = 1_000;
/// How drafts are compressed unless the operator chooses otherwise.
pub const COMPRESSION: &str = "lz4";
/// How many messages are produced before librdkafka's events are served.
const STRIDE: usize = 1_000;

/// The producers of all lanes.
#[derive(Debug, Clone)]
pub struct Producers {
    shared: Arc<ProducersShared>,
}

struct ProducersShared {
    settings: ClientConfig,
    topics: Topics,
    group: String,
    reader: Reader,
    outputs: Arc<Outputs>,
    lanes: Mutex<HashMap<Lane, Arc<LaneSlot>>>,
    hung: watch::Sender<Vec<Hung>>,
}

/// The topics that a producer names, and what a message of dead letters may hold.
#[derive(Debug)]
struct Topics {
    campaigns: String,
    notifications: String,
    dead_letters: Option<String>,
    dead_letter_limit: AtomicUsize,
    dead_letters_compacted: AtomicBool,
}

/// What is remembered of a lane from producer to producer.
#[derive(Debug)]
struct LaneSlot {
    /// A producer whose initialisation was not awaited to its end.
    pending: tokio::sync::Mutex<Option<Pending>>,
    room: Arc<Semaphore>,
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

impl std::fmt::Debug for ProducersShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producers").field("topics", &self.topics).finish_non_exhaustive()
    }
}

/// Most bytes that a message may hold in each topic that is written to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In the notifications topic.
    pub notifications: usize,
    /// In the dead letters topic.
    pub dead_letters: usize,
    /// Whether the dead letters topic is compacted, as far as it may be known.
    pub dead_letters_compacted: bool,
}

/// How long a round's transaction may be open, in milliseconds.
pub(super) fn transaction_millis() -> String {
    transaction_time().as_millis().to_string()
}

fn producer_settings(kafka: &config::Kafka, limits: Limits) -> ClientConfig {
    // The broker measures whole batches against its limit.
    let batch = 1_000_000.min(limits.notifications.min(limits.dead_letters)).to_string();
    let largest = limits.notifications.max(limits.dead_letters).clamp(1_000, 1_000_000_000).to_string();
    let defaults = [
        ("compression.codec", COMPRESSION),
        // Messages wait anyway until their partition is part of the transaction, and until the request before is answered: that fills batches.
        ("linger.ms", "0"),
        ("batch.size", &batch),
        // A round is handed over in portions, so that memory does not grow with it. librdkafka counts about half of what it takes.
        ("queue.buffering.max.kbytes", "4096"),
        ("queue.buffering.max.messages", "50000"),
        ("message.max.bytes", &largest),
        // A transaction that follows at once meets the markers of the last, which are there some milliseconds later: AddOffsetsToTxn is sent
        // again after this long, then after twice as long, and so on up to retry.backoff.max.ms (a second), which keeps it from pressing on a
        // partition without a leader or a replica in sync.
        ("retry.backoff.ms", "5"),
    ];
    let transaction = transaction_millis();
    let promises = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("partitioner", "murmur2_random"),
        ("transaction.timeout.ms", transaction.as_str()),
        ("message.timeout.ms", &transaction),
        // Success is what remains when nothing is in flight and nothing failed.
        ("delivery.report.only.error", "true"),
    ];
    hearing_of_breaks(settings(kafka, Role::Producer, "producer", &defaults, &promises))
}

impl Producers {
    /// Producers for the lanes of a group; none is made before a lane asks for it.
    pub fn new(kafka: &config::Kafka, limits: Limits, reader: Reader, outputs: Arc<Outputs>) -> Self {
        let topics = Topics {
            campaigns: kafka.topics.campaigns.clone(),
            notifications: kafka.topics.notifications.clone(),
            dead_letters: kafka.topics.dead_letters.clone(),
            dead_letter_limit: AtomicUsize::new(limits.dead_letters),
            dead_letters_compacted: AtomicBool::new(limits.dead_letters_compacted),
        };
        Self {
            shared: Arc::new(ProducersShared {
                settings: producer_settings(kafka, limits),
                topics,
                group: kafka.group_id.clone(),
                reader,
                outputs,
                lanes: Mutex::default(),
                hung: watch::Sender::default(),
            }),
        }
    }

    /// A new producer for the lane, initialised: the `init_transactions` that fences former owners began and ended within this call.
    ///
    /// One that was begun earlier, and timed out or was not awaited, goes on in the background and would fence its successor. It is brought
    /// to its end on its own producer first. That producer is not used: it may have been fenced since, before the caller bumped the epoch.
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
            BrokerError::Passing(format!("former producers of lane {lane} are still being disposed of"))
        })?;
        let thread = LaneThread::start(Arc::clone(&self.shared), lane, room)?;
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
        self.shared.hung.send_if_modified(|hung| {
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
    pub fn hung(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut calls = self.shared.hung.subscribe();
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
        let unread = |call: &Hung| call.lane == lane && !call.came_back() && call.readable.is_none();
        if self.shared.hung.borrow().iter().any(unread) {
            // Not for this lane's offset: the transaction that the call left open holds that back.
            self.shared.reader.coordinator_answers().await?;
            self.readable(lane);
        }
        Ok(())
    }

    fn overrun(&self, lane: Lane, thread: &LaneThread) -> BrokerError {
        let pulse = Arc::clone(&thread.pulse);
        self.shared.hung.send_modify(|hung| {
            hung.retain(|call| !call.came_back());
            if !hung.iter().any(|call| Arc::ptr_eq(&call.pulse, &pulse)) {
                hung.push(Hung { lane, beat: pulse.beats(), pulse, readable: None });
            }
        });
        tracing::error!(lane, seconds = OVERRUN.as_secs(), "a transactional call does not return; it is abandoned");
        BrokerError::Overrun { seconds: OVERRUN.as_secs() }
    }
}

/// A producer on its thread, initialised and not yet handed out.
#[derive(Debug)]
struct Pending {
    thread: LaneThread,
    /// The answer that is under way.
    reply: Option<oneshot::Receiver<Result<(), Unfinished>>>,
}

/// Why a step on the thread is not done.
#[derive(Debug)]
enum Unfinished {
    /// It failed and will not go on.
    Failed(BrokerError),
    /// `init_transactions` timed out and goes on in the background.
    Background(BrokerError),
    /// The watchdog gave it up.
    Overrun,
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

/// Shows that the thread is alive.
#[derive(Debug)]
struct Pulse {
    epoch: Instant,
    last: AtomicU64,
    beats: AtomicU64,
    claimed: AtomicBool,
}

impl Pulse {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            last: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            claimed: AtomicBool::new(false),
        }
    }

    fn beat(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Release);
        self.beats.fetch_add(1, Ordering::AcqRel);
    }

    fn beats(&self) -> u64 {
        self.beats.load(Ordering::Acquire)
    }

    fn due(&self) -> Instant {
        self.epoch + Duration::from_millis(self.last.load(Ordering::Acquire)) + OVERRUN
    }

    /// Waits for an answer of the thread as long as the thread shows signs of life.
    async fn watch<T>(&self, answer: &mut oneshot::Receiver<Result<T, Unfinished>>) -> Result<T, Unfinished> {
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

fn ended() -> BrokerError {
    BrokerError::Passing("the producer's thread has ended".into())
}

enum Command {
    Initialise { reply: oneshot::Sender<Result<(), Unfinished>> },
    Publish { publication: Arc<Publication>, records: bool, reply: oneshot::Sender<Result<Usable, Unfinished>> },
}

/// The way to a producer's thread. Dropping it ends the thread, which disposes of the producer there.
#[derive(Debug)]
struct LaneThread {
    commands: Sender<Command>,
    pulse: Arc<Pulse>,
}

impl LaneThread {
    fn start(shared: Arc<ProducersShared>, lane: Lane, room: OwnedSemaphorePermit) -> Result<Self, BrokerError> {
        let (commands, inbox) = crossbeam_channel::bounded(1);
        let pulse = Arc::new(Pulse::new());
        let beating = Arc::clone(&pulse);
        std::thread::Builder::new()
            .name(format!("kafka-lane-{lane}"))
            .spawn(move || {
                match Worker::new(shared, lane, beating) {
                    Ok(mut worker) => worker.run(&inbox),
                    Err(error) => refuse(&inbox, error),
                }
                drop(room);
            })
            .map_err(|error| BrokerError::Passing(format!("starting a producer's thread: {error}")))?;
        Ok(Self { commands, pulse })
    }

    fn send(&self, command: Command) -> Result<(), Unfinished> {
        self.pulse.beat();
        self.commands.try_send(command).map_err(|_| Unfinished::Failed(ended()))
    }
}

/// Answers the one command that waits for a producer that could not be made.
fn refuse(inbox: &Receiver<Command>, error: BrokerError) {
    if let Ok(Command::Initialise { reply }) = inbox.recv_timeout(UNCLAIMED) {
        let _ = reply.send(Err(Unfinished::Failed(error)));
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
    async fn publish(self, round: &Recorded) -> Result<Option<Self>, BrokerError> {
        self.transact(round.share(), true).await
    }

    async fn publish_mark(self, round: &Recorded) -> Result<Option<Self>, BrokerError> {
        self.transact(round.share(), false).await
    }
}

impl LaneProducer {
    /// One transaction. Whatever goes wrong, the producer is gone: its thread stops at the next step and disposes of it there.
    async fn transact(self, publication: Arc<Publication>, records: bool) -> Result<Option<Self>, BrokerError> {
        let (reply, mut answer) = oneshot::channel();
        let sent = self.thread.send(Command::Publish { publication, records, reply });
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

/// Whether a producer that committed a transaction may begin another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usable {
    Again,
    /// A request may have been sent twice.
    NoMore,
}

/// The producer's thread.
struct Worker {
    shared: Arc<ProducersShared>,
    lane: Lane,
    pulse: Arc<Pulse>,
    observer: ClientEvents,
    group: ConsumerGroupMetadata,
    producer: BaseProducer<Deliveries>,
    /// The id of the topic of the drafts when the producer was initialised: to another one it writes nothing.
    drafts_topic: Option<String>,
}

impl Worker {
    fn new(shared: Arc<ProducersShared>, lane: Lane, pulse: Arc<Pulse>) -> Result<Self, BrokerError> {
        let observer = ClientEvents::default();
        let mut settings = shared.settings.clone();
        settings.set("transactional.id", format!("{}/{}/{lane}", shared.group, shared.topics.campaigns));
        let deliveries = Deliveries::new(observer.clone());
        let producer =
            settings.create_with_context(deliveries).map_err(|error| observer.explain("making a producer", &error))?;
        let group = shared.reader.group_metadata()?;
        Ok(Self { shared, lane, pulse, observer, group, producer, drafts_topic: None })
    }

    fn run(&mut self, inbox: &Receiver<Command>) {
        loop {
            match inbox.recv_timeout(UNCLAIMED) {
                Ok(Command::Initialise { reply }) => {
                    let outcome = self.initialise();
                    self.pulse.beat();
                    // A caller that was cancelled finds the producer, or its successor, anew.
                    let _ = reply.send(outcome);
                }
                Ok(Command::Publish { publication, records, reply }) => {
                    let began = Instant::now();
                    let outcome = self.publish(&publication, records, &|| reply.is_closed());
                    let outcome = outcome.map_err(|error| undelivered(error, &publication, began.elapsed()));
                    self.pulse.beat();
                    let goes_on = matches!(outcome, Ok(Usable::Again));
                    let _ = reply.send(outcome.map_err(Unfinished::Failed));
                    if !goes_on {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.pulse.claimed.load(Ordering::Acquire) => {
                    // Serves librdkafka's log.
                    self.producer.poll(EVENT_POLL);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Begins or resumes `init_transactions`.
    fn initialise(&mut self) -> Result<(), Unfinished> {
        self.pulse.beat();
        let outcome = self.producer.init_transactions(CALL);
        self.producer.poll(EVENT_POLL);
        let Err(error) = outcome else {
            self.pulse.beat();
            let known = self.shared.outputs.notifications(&self.shared.reader);
            self.drafts_topic = known.map_err(Unfinished::Failed)?;
            return Ok(());
        };
        let explained = self.explain("taking the lane's transactional id over", &error);
        // A refusal heard of a connection is final, though librdkafka goes on trying.
        match (&error, &explained) {
            (KafkaError::Transaction(error), BrokerError::Passing(_)) if error.is_retriable() => {
                Err(Unfinished::Background(explained))
            }
            _ => Err(Unfinished::Failed(explained)),
        }
    }

    /// One transaction, and whether another one may follow; `given_up` tells that nobody waits for it any more.
    fn publish(&self, round: &Publication, records: bool, given_up: &dyn Fn() -> bool) -> Result<Usable, BrokerError> {
        // What broke while nothing was under way can have no second copy.
        let before = self.breaks();
        self.transact(round, records, given_up)?;
        Ok(if self.breaks() == before { Usable::Again } else { Usable::NoMore })
    }

    fn breaks(&self) -> u64 {
        hear_out(&self.producer);
        self.producer.context().breaks()
    }

    /// One transaction, step by step.
    fn transact(&self, round: &Publication, records: bool, given_up: &dyn Fn() -> bool) -> Result<(), BrokerError> {
        let go_on = || match given_up() {
            true => Err(BrokerError::Passing("the lane was given up while a round was being published".into())),
            false => Ok(()),
        };
        let drafts = records && !round.drafts.is_empty();
        if drafts {
            self.is_the_known_topic()?;
        }
        self.pulse.beat();
        self.producer.begin_transaction().map_err(|error| self.explain("beginning a transaction", &error))?;
        fail_point("publish.begun");
        if records {
            for batch in &round.drafts {
                self.produce_drafts(batch, round.mark.head.seq, &go_on)?;
            }
        }
        fail_point("publish.produced");
        go_on()?;
        self.pulse.beat();
        let offsets = self.offsets(round).map_err(|error| self.explain("naming the lane's offset", &error))?;
        self.producer
            .send_offsets_to_transaction(&offsets, &self.group, CALL)
            .map_err(|error| self.cause("sending the lane's offset", &error))?;
        fail_point("publish.offsets_sent");
        // The messages were on their way meanwhile.
        self.deliver(&go_on)?;
        if records && !round.dead_letters.is_empty() {
            self.publish_letters(&round.dead_letters, &go_on)?;
        }
        if drafts {
            // It may have been created anew while messages waited for it.
            self.is_the_known_topic()?;
        }
        go_on()?;
        self.pulse.beat();
        self.producer.commit_transaction(CALL).map_err(|error| self.explain("committing a transaction", &error))?;
        fail_point("publish.committed");
        self.observer.well();
        Ok(())
    }

    /// Whether the topic of the drafts is still the one that was there when the producer was made, as far as Kafka says so in time: what it is called
    /// is all that a message names. The way in compares it with the ledger's.
    fn is_the_known_topic(&self) -> Result<(), BrokerError> {
        self.pulse.beat();
        let ProducersShared { outputs, reader, topics, .. } = &*self.shared;
        match outputs.notifications(reader) {
            Ok(now) if is_another(self.drafts_topic.as_deref(), now.as_deref()) => {
                Err(BrokerError::Passing(format!("topic {} was created anew", topics.notifications)))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn offsets(&self, round: &Publication) -> Result<TopicPartitionList, KafkaError> {
        let mut offsets = TopicPartitionList::with_capacity(1);
        let mut entry = offsets.add_partition(&self.shared.topics.campaigns, self.lane);
        entry.set_offset(Offset::Offset(round.offset))?;
        entry.set_metadata(round.mark.to_string());
        Ok(offsets)
    }

    fn produce_drafts(
        &self,
        batch: &DraftBatch,
        seq: i64,
        go_on: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let topics = &self.shared.topics;
        let round = format!("{}/{}/{seq}", topics.campaigns, self.lane);
        let common = batch.template.headers().iter().map(|(name, value)| (*name, Some(&**value)));
        let common = message::headers(common.chain([(ROUND_HEADER, Some(round.as_bytes()))]));
        let mut value = Vec::new();
        for (index, client) in batch.clients.iter().enumerate() {
            if index % STRIDE == 0 {
                go_on()?;
                self.pulse.beat();
                self.producer.poll(Duration::ZERO);
                self.delivered_so_far()?;
            }
            value.clear();
            batch.template.message_value(client, &mut value);
            let id = batch.template.ce_id(client);
            let headers = common.clone().insert(rdkafka::message::Header { key: CE_ID, value: Some(&id) });
            self.send(&topics.notifications, Some(client.as_bytes()), Some(&value), headers, go_on)?;
        }
        Ok(())
    }

    fn produce_dead_letter(
        &self,
        letter: &DeadLetterMessage,
        go_on: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let topics = &self.shared.topics;
        let Some(topic) = &topics.dead_letters else { return Ok(()) };
        let takes = Takes {
            most_bytes: topics.dead_letter_limit.load(Ordering::Relaxed),
            compacted: topics.dead_letters_compacted.load(Ordering::Relaxed),
        };
        let message = DeadLetter::fit(letter, &topics.campaigns, &takes);
        let headers = message.headers.iter().map(|header| (header.name.as_str(), header.value.as_ref()));
        self.send(topic, message.key.as_deref(), message.value, message::headers(headers), go_on)
    }

    /// Hands one message to librdkafka, waiting for room.
    fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: OwnedHeaders,
        go_on: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let mut record = BaseRecord {
            topic,
            partition: None,
            payload,
            key,
            timestamp: None,
            headers: Some(headers),
            delivery_opaque: (),
        };
        // The clock is read only where there is no room: most messages find it at once.
        let mut until = None;
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, record)) if is_full(&error) && has_time(&mut until) => record,
                Err((error, _)) => {
                    self.delivered_so_far()?;
                    return Err(self.unwritten(topic, &error, false));
                }
            };
            self.producer.poll(Duration::from_millis(1));
            self.delivered_so_far()?;
            self.pulse.beat();
            go_on()?;
        }
    }

    /// Publishes dead letters when every draft of their round is delivered: what is late then is a letter, and no draft waits for it longer than
    /// letters may take.
    fn publish_letters(
        &self,
        letters: &[DeadLetterMessage],
        go_on: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let until = Instant::now() + LETTERS_LATE;
        let in_time = || match Instant::now() < until {
            true => go_on(),
            false => Err(self.letters_late()),
        };
        for letter in letters {
            self.produce_dead_letter(letter, &in_time)?;
        }
        self.deliver(&in_time)
    }

    /// Waits until every message is delivered.
    fn deliver(&self, go_on: &dyn Fn() -> Result<(), BrokerError>) -> Result<(), BrokerError> {
        // As long as the transaction may take.
        let until = Instant::now() + transaction_time();
        let mut pause = SHORTEST_PAUSE;
        loop {
            self.producer.poll(Duration::ZERO);
            self.delivered_so_far()?;
            let in_flight = self.producer.in_flight_count();
            if in_flight == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                let error = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
                return Err(self.explain("delivering a round", &error));
            }
            go_on()?;
            self.pulse.beat();
            // The library's flush would sleep in steps of 100 ms.
            #[expect(clippy::disallowed_methods, reason = "on the producer's own thread, which waits for librdkafka")]
            std::thread::sleep(pause);
            pause = (pause * 2).min(if in_flight < FEW { PAUSE_FOR_FEW } else { LONGEST_PAUSE });
        }
    }

    fn delivered_so_far(&self) -> Result<(), BrokerError> {
        let Some(Failed { error, topic, size }) = self.producer.context().failed() else { return Ok(()) };
        let error = self.why(error);
        let is_letter = self.shared.topics.dead_letters.as_deref() == Some(&topic);
        let learned = is_letter && self.learn(&error, size);
        Err(self.unwritten(&topic, &error, learned))
    }

    /// Of a message that was given up because its transaction failed, the transaction says why.
    fn why(&self, error: KafkaError) -> KafkaError {
        use RDKafkaErrorCode::{PurgeInflight, PurgeQueue, State};
        if !matches!(error.rdkafka_error_code(), Some(PurgeQueue | PurgeInflight)) {
            return error;
        }
        // Begins nothing: one is under way, or failed and says so.
        let refused = self.producer.begin_transaction().err();
        refused.filter(|refused| refused.rdkafka_error_code() != Some(State)).unwrap_or(error)
    }

    /// Where the topic's settings may not be read, a refused dead letter teaches them: the next attempt leaves more out, or has a key. Whether
    /// something was learned.
    fn learn(&self, error: &KafkaError, size: usize) -> bool {
        let topics = &self.shared.topics;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                // Below this nothing is left to leave out.
                let limit = (size / 2).max(SMALLEST_LETTER);
                topics.dead_letter_limit.fetch_min(limit, Ordering::Relaxed) > limit
            }
            Some(RDKafkaErrorCode::InvalidRecord) => !topics.dead_letters_compacted.swap(true, Ordering::Relaxed),
            _ => false,
        }
    }

    /// A message was not written. Dead letters are not to hold up drafts, so their topic is told apart.
    fn unwritten(&self, topic: &str, error: &KafkaError, learned: bool) -> BrokerError {
        match self.explain(&format!("writing to topic {topic}"), error) {
            BrokerError::Passing(reason) | BrokerError::Refused(reason)
                if self.shared.topics.dead_letters.as_deref() == Some(topic) =>
            {
                BrokerError::DeadLetters { reason, learned }
            }
            other => other,
        }
    }

    fn letters_late(&self) -> BrokerError {
        let topic = self.shared.topics.dead_letters.as_deref().unwrap_or_default();
        let seconds = LETTERS_LATE.as_secs();
        let reason = format!("writing to topic {topic}: dead letters were not delivered within {seconds} s");
        BrokerError::DeadLetters { reason, learned: false }
    }

    /// What a failed call means: a message that failed before it is the cause.
    fn cause(&self, doing: &str, error: &KafkaError) -> BrokerError {
        self.producer.poll(Duration::ZERO);
        self.delivered_so_far().err().unwrap_or_else(|| self.explain(doing, error))
    }

    fn explain(&self, doing: &str, error: &KafkaError) -> BrokerError {
        deliveries::explain(&self.producer, doing, error)
    }
}

/// What failed when the time of its transaction was over is a round that did not get through. The broker ends such a transaction by itself, and
/// what it says then is that somebody else has taken it over.
fn undelivered(error: BrokerError, round: &Publication, took: Duration) -> BrokerError {
    let reason = match &error {
        BrokerError::Passing(reason) => reason.clone(),
        BrokerError::Fenced => "the broker ended its transaction".to_owned(),
        _ => return error,
    };
    if took + LATE < transaction_time() {
        return error;
    }
    BrokerError::Undelivered { seq: round.mark.head.seq, bytes: round.bytes(), seconds: took.as_secs(), reason }
}

/// Whether the time to deliver a message, which begins now at the latest, is not over.
fn has_time(until: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    now < *until.get_or_insert(now + transaction_time())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_config::{Start, Topics as TopicNames};

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
            Arc::new(Outputs::new(&kafka.topics)),
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
        let overrun = producers.overrun(3, &thread);
        assert!(matches!(overrun, BrokerError::Overrun { seconds: 12 }));
        assert!(!completes_within(producers.hung(), 1_000).await, "the coordinator is away");
        producers.readable(4);
        assert!(!completes_within(producers.hung(), 1_000).await, "that was another lane's");
        producers.readable(3);
        assert!(!completes_within(producers.hung(), 59).await);
        assert!(completes_within(producers.hung(), 2).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_comes_back_is_not_hung() {
        let producers = producers();
        let thread = hanging();
        producers.overrun(3, &thread);
        producers.readable(3);
        thread.pulse.beat();
        assert!(!completes_within(producers.hung(), 1_000).await);
    }

    #[tokio::test]
    async fn while_a_call_hangs_no_producer_is_made_before_the_offsets_can_be_read() {
        let producers = producers();
        let thread = hanging();
        producers.overrun(3, &thread);
        let made = producers.make(3).await;
        assert!(matches!(&made, Err(BrokerError::Passing(text)) if text.contains("coordinator")), "{made:?}");
    }
}
