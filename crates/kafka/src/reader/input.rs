//! The records of a lane, in order, and what is known about the lane's end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use tokio::time::Instant;

use super::client::Reader;
use super::record::record;
use super::thread::{Command, PartitionSlot};
use crate::client::REQUEST_TIMEOUT;
use dinnerbell_core::model::number::{Lane, Millis, Offset};
use dinnerbell_core::model::record::{InputEvent, OmittedParts, Record, RecordFingerprint};
use dinnerbell_core::ports::broker::{BrokerError, Input};

/// After this many bytes an intake's records are taken as they are, but for a single larger one.
const INTAKE_BYTES: usize = 512 << 10;
/// How long a lane has to be quiet before the gap behind its last record is looked for.
const GAP_READ_DELAY: Duration = Duration::from_millis(500);
/// A missed wake-up costs at most this.
const TICK: Duration = Duration::from_secs(1);

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send>>;

impl Reader {
    /// The mark of the record at an offset, if a record is there. The lane must not be open.
    pub async fn fingerprint_at(&self, lane: Lane, offset: Offset) -> Result<Option<RecordFingerprint>, BrokerError> {
        let input = self.open(lane, offset, None).await?;
        let first = tokio::time::timeout(REQUEST_TIMEOUT, input.first());
        let first = first
            .await
            .map_err(|_| BrokerError::Transient(format!("reading offset {offset} of lane {lane}: timed out")))??;
        Ok(first.filter(|record| record.offset == offset).and_then(|record| record.fingerprint()))
    }

    /// Starts to read a lane. One that is open is closed for its former reader. Where the topic's id is given, nothing of another topic is
    /// returned.
    pub async fn open(&self, lane: Lane, position: Offset, topic_id: Option<&str>) -> Result<LaneInput, BrokerError> {
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
            arrived: Vec::new(),
        };
        self.tell(|reply| Command::Open { lane, position, slot, reply }).await?;
        Ok(input)
    }
}

/// Whether a batch of records is damaged, or larger than receive.message.max.bytes once it is unpacked: it will be so the next time too.
fn is_unreadable(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::BadMessage))
}

/// What is known about the end of the lane.
///
/// Offsets alone are not records: ends of transactions, and records of aborted ones, leave gaps. A position that stays before such a gap would
/// be taken for trimmed input once the gap is deleted. So a lane that came to rest at its end moves its position to its place: behind the last
/// record or end of a transaction that came.
///
/// No broker is believed that says where a lane ends. One that was just elected, or was cut off, may say it too early. The place counts only
/// what came, and what lies before it came earlier. (Compaction leaves the last record where it is, so a gap ends with a transaction.)
enum Ending {
    /// The end was not reported since the last record.
    Reading,
    /// It was, at this moment.
    Reached(Instant),
    /// The place is being asked for.
    Placing(Pending<Option<Offset>>),
    /// The place is behind the position.
    Placed(Offset),
    /// The position is the place.
    Rested,
    /// The lane is being set behind what cannot be unpacked.
    PassingOver(Pending<()>),
}

/// The records of a lane, in order. Dropping it closes the lane.
pub struct LaneInput {
    reader: Reader,
    lane: Lane,
    slot: Arc<PartitionSlot>,
    position: Offset,
    /// The topic that is read, where its id is known.
    topic_id: Option<String>,
    ending: Ending,
    /// The offset at which nothing could be unpacked; where it is met a second time, it is passed over.
    unreadable: Option<Offset>,
    failure: Option<Failure>,
    /// Taken, and not handed on yet: a caller that stops waiting for it meanwhile gets it the next time.
    arrived: Vec<InputEvent>,
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
    async fn next(&mut self, most: usize) -> Result<Vec<InputEvent>, BrokerError> {
        loop {
            if self.arrived.is_empty() {
                if let Some(failure) = self.failure.take() {
                    return Err(self.explain(&failure));
                }
                self.arrived = self.take(most);
            }
            if !self.arrived.is_empty() {
                // The event that the topic was replaced comes before any record of the new topic: so it is served before these are handed on.
                self.reader.serve_events().await?;
            }
            if self.is_replaced() {
                return Err(self.explain(&Failure::Replaced));
            }
            if !self.arrived.is_empty() {
                let most = most.max(1).min(self.arrived.len());
                return Ok(self.arrived.drain(..most).collect());
            }
            if self.failure.is_none() {
                self.wait().await;
            }
        }
    }
}

impl LaneInput {
    /// Takes what is there. A failure is kept until everything before it was delivered.
    fn take(&mut self, most: usize) -> Vec<InputEvent> {
        let mut arrived = Vec::new();
        match self.ending {
            // What is queued lies before the seek, or may lie behind the place.
            Ending::PassingOver(_) | Ending::Placing(_) => return arrived,
            Ending::Placed(place) => {
                self.ending = Ending::Rested;
                self.position = place;
                return vec![InputEvent::End(place)];
            }
            Ending::Reading | Ending::Reached(_) | Ending::Rested => {}
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
                Some(Ok(message)) if Offset::new(message.offset()) < self.position => {}
                Some(Ok(message)) => {
                    self.position = Offset::new(message.offset()).next();
                    self.ending = Ending::Reading;
                    let record = record(&message);
                    bytes += record.size();
                    arrived.push(InputEvent::Record(record));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.ending = Ending::Reached(Instant::now()),
                Some(Err(error)) if is_unreadable(&error) => {
                    if let Some(record) = self.pass_over(&error) {
                        arrived.push(InputEvent::Record(record));
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

    /// Whether the client has noticed that another topic has the name by now.
    fn is_replaced(&self) -> bool {
        let Some(known) = &self.topic_id else { return false };
        let shared = &self.reader.shared;
        shared.observer.topic_id(&shared.topic).is_some_and(|now| now != *known)
    }

    /// What stands at the position cannot be unpacked. It is read once more, in case it was damaged on its way; then it is passed over, as a
    /// record of which nothing is known. So each offset of a batch is, since nothing says where a batch ends.
    fn pass_over(&mut self, error: &KafkaError) -> Option<Record> {
        let offset = self.position;
        let before = self.unreadable.replace(offset);
        if before != Some(offset) && before.map(Offset::next) != Some(offset) {
            return None;
        }
        self.position = offset.next();
        self.set_back();
        let reason = format!(
            "what stands at this offset cannot be unpacked ({error}): it is damaged, or its compressed batch is larger unpacked than \
             receive.message.max.bytes allows; send it again in a smaller batch"
        );
        let omitted = OmittedParts { parts: vec!["key", "value", "headers"], reason, value: None, hash: None };
        let headers = Vec::new();
        Some(Record { offset, timestamp: Millis::NONE, key: None, value: None, headers, omitted: Some(omitted) })
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
            Failure::Closed => BrokerError::Transient(format!("{doing}: the lane was opened once more, or closed")),
            Failure::Replaced => BrokerError::Transient(format!("{doing}: the topic was recreated")),
            Failure::Kafka(error) => self.reader.shared.observer.explain(&doing, error),
        }
    }

    /// Waits until there may be something to take, and does what the end of the lane asks for meanwhile. Cancel safe: what is under way is
    /// kept in `ending`.
    async fn wait(&mut self) {
        let ready = Arc::clone(&self.slot.ready);
        match &mut self.ending {
            Ending::Reading | Ending::Rested => {
                let _ = tokio::time::timeout(TICK, ready.notified()).await;
            }
            Ending::Reached(since) => {
                let rested = tokio::time::sleep_until(*since + GAP_READ_DELAY);
                tokio::select! {
                    () = ready.notified() => {}
                    () = rested => {
                        let (reader, lane) = (self.reader.clone(), self.lane);
                        self.ending = Ending::Placing(Box::pin(async move { reader.place(lane).await }));
                    }
                }
            }
            Ending::Placing(asked) => {
                let place = asked.await;
                self.placed(place);
            }
            Ending::Placed(_) => {}
            Ending::PassingOver(sought) => {
                // One that failed is met again at the old place, and passed over there.
                let _ = sought.await;
                self.ending = Ending::Reading;
            }
        }
    }

    /// Takes up the place. One that was asked for after somebody else opened the lane is theirs.
    fn placed(&mut self, place: Result<Option<Offset>, BrokerError>) {
        let is_ours = self.slot.queue().is_some();
        self.ending = match place {
            Ok(Some(place)) if is_ours && place > self.position => Ending::Placed(place),
            Ok(_) => Ending::Rested,
            Err(_) => Ending::Reached(Instant::now() + TICK),
        };
    }

    /// The first record from the position on; none if the lane ends before.
    async fn first(mut self) -> Result<Option<Record>, BrokerError> {
        loop {
            match self.take(1).pop() {
                Some(InputEvent::Record(record)) => return Ok(Some(record)),
                Some(InputEvent::End(_)) => return Ok(None),
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
