//! Hands the messages of a transaction to librdkafka, and waits until they are delivered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::time::Instant;

use super::context::ProducerContext;
use super::watchdog::Pulse;
use crate::deliveries::{self, Deliveries, Failed, is_echo, is_full, serve_all_events};
use crate::message::{self, DeadLetter, TopicLimits};
use dinnerbell_core::model::draft::{CE_ID, DraftBatch, ROUND_HEADER};
use dinnerbell_core::model::number::{Lane, Seconds, Seq};
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::ports::broker::{BrokerError, transaction_time};

/// How long dead letters may be on their way when nothing else is: the drafts of their round do not wait for them longer.
const DEAD_LETTERS_TIME_LIMIT: Duration = Duration::from_secs(3);
/// A dead letter of which nothing is left but where it came from and why is smaller.
const SMALLEST_DEAD_LETTER: usize = 4_096;

/// How long to wait before looking at deliveries again: at first, at most while few messages are on their way, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_micros(500);
const PAUSE_FOR_FEW: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);
/// How many messages are few.
const FEW: i32 = 1_000;

/// How many messages are produced before librdkafka's events are served.
const STRIDE: usize = 1_000;

/// The messages of a lane's transactions.
pub(super) struct Sending {
    pub(super) context: Arc<ProducerContext>,
    pub(super) lane: Lane,
    pub(super) pulse: Arc<Pulse>,
    pub(super) producer: BaseProducer<Deliveries>,
}

impl Sending {
    /// Hands over the drafts of one campaign. Fails where one was refused, or `check_cancelled` says so.
    pub(super) fn produce_drafts(
        &self,
        batch: &DraftBatch,
        seq: Seq,
        check_cancelled: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let topics = &self.context.topics;
        let round = format!("{}/{}/{seq}", topics.campaigns, self.lane);
        let common = batch.template.headers().iter().map(|(name, value)| (*name, Some(&**value)));
        let common = message::headers(common.chain([(ROUND_HEADER, Some(round.as_bytes()))]));
        let timestamp = timestamp(batch.template.trigger_datetime_created());
        let mut value = Vec::new();
        for (index, client) in batch.clients.iter().enumerate() {
            if index % STRIDE == 0 {
                check_cancelled()?;
                self.pulse.beat();
                self.producer.poll(Duration::ZERO);
                self.delivered_so_far()?;
            }
            value.clear();
            batch.template.message_value(client, &mut value);
            let id = batch.template.ce_id(client);
            let headers = common.clone().insert(rdkafka::message::Header { key: CE_ID, value: Some(&id) });
            let record = BaseRecord {
                timestamp,
                ..record(&topics.notifications, Some(client.as_bytes()), Some(&value), headers)
            };
            self.send(record, check_cancelled)?;
        }
        Ok(())
    }

    fn produce_dead_letter(
        &self,
        letter: &DeadLetterMessage,
        check_cancelled: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let topics = &self.context.topics;
        let Some(topic) = &topics.dead_letters else { return Ok(()) };
        let topic_limits = TopicLimits {
            most_bytes: topics.dead_letter_limit.load(Ordering::Relaxed),
            compacted: topics.dead_letters_compacted.load(Ordering::Relaxed),
        };
        let message = DeadLetter::fit(letter, &topics.campaigns, &topic_limits);
        let headers = message.headers.iter().map(|header| (header.name.as_str(), header.value.as_ref()));
        self.send(record(topic, message.key.as_deref(), message.value, message::headers(headers)), check_cancelled)
    }

    /// Hands one message to librdkafka, waiting for room.
    fn send(
        &self,
        mut record: BaseRecord<'_, [u8], [u8]>,
        check_cancelled: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        // The clock is read only where there is no room: most messages find it at once.
        let mut until = None;
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, record)) if is_full(&error) && has_time(&mut until) => record,
                Err((error, record)) => {
                    serve_all_events(&self.producer);
                    self.delivered_so_far()?;
                    return Err(self.unwritten(record.topic, &error, false));
                }
            };
            self.producer.poll(Duration::from_millis(1));
            self.delivered_so_far()?;
            self.pulse.beat();
            check_cancelled()?;
        }
    }

    /// Publishes dead letters when every draft of their round is delivered. What is late then is a dead letter, and no draft waits longer for it than
    /// dead letters may take.
    pub(super) fn publish_dead_letters(
        &self,
        letters: &[DeadLetterMessage],
        check_cancelled: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let until = Instant::now() + DEAD_LETTERS_TIME_LIMIT;
        let in_time = || match Instant::now() < until {
            true => check_cancelled(),
            false => Err(self.dead_letters_late()),
        };
        for letter in letters {
            self.produce_dead_letter(letter, &in_time)?;
        }
        self.deliver(&in_time)
    }

    /// Waits until every message is delivered.
    pub(super) fn deliver(&self, check_cancelled: &dyn Fn() -> Result<(), BrokerError>) -> Result<(), BrokerError> {
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
            check_cancelled()?;
            self.pulse.beat();
            // The library's flush would sleep in steps of 100 ms.
            #[expect(clippy::disallowed_methods, reason = "on the producer's own thread, which waits for librdkafka")]
            std::thread::sleep(pause);
            pause = (pause * 2).min(if in_flight < FEW { PAUSE_FOR_FEW } else { LONGEST_PAUSE });
        }
    }

    fn delivered_so_far(&self) -> Result<(), BrokerError> {
        let Some(Failed { error, topic, size }) = self.producer.context().failed() else { return Ok(()) };
        let error = self.why(&error);
        let is_letter = self.context.topics.dead_letters.as_deref() == Some(&topic);
        let learned = is_letter && self.learn(&error, size);
        Err(self.unwritten(&topic, &error, learned))
    }

    /// Of what failed because its transaction had failed before, the transaction says why.
    fn why(&self, error: &KafkaError) -> KafkaError {
        if !is_echo(error) {
            return error.clone();
        }
        // Begins nothing: one is under way, or failed and says so.
        match self.producer.begin_transaction() {
            Err(KafkaError::Transaction(cause)) if cause.txn_requires_abort() || cause.is_fatal() => {
                KafkaError::Transaction(cause)
            }
            _ => error.clone(),
        }
    }

    /// Where the topic's settings may not be read, a refused dead letter teaches them: the next attempt leaves more out, or has a key. Whether
    /// something was learned.
    fn learn(&self, error: &KafkaError, size: usize) -> bool {
        let topics = &self.context.topics;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                // Below this nothing is left to leave out.
                let limit = (size / 2).max(SMALLEST_DEAD_LETTER);
                topics.dead_letter_limit.fetch_min(limit, Ordering::Relaxed) > limit
            }
            Some(RDKafkaErrorCode::InvalidRecord) => !topics.dead_letters_compacted.swap(true, Ordering::Relaxed),
            _ => false,
        }
    }

    /// A message was not written. Dead letters are not to hold up drafts, so their topic is told apart.
    fn unwritten(&self, topic: &str, error: &KafkaError, learned: bool) -> BrokerError {
        match self.explain(&format!("writing to topic {topic}"), error) {
            BrokerError::Transient(reason) | BrokerError::Refused(reason)
                if self.context.topics.dead_letters.as_deref() == Some(topic) =>
            {
                BrokerError::DeadLetters { reason, learned }
            }
            other => other,
        }
    }

    fn dead_letters_late(&self) -> BrokerError {
        let topic = self.context.topics.dead_letters.as_deref().unwrap_or_default();
        let seconds = DEAD_LETTERS_TIME_LIMIT.as_secs();
        let reason = format!("writing to topic {topic}: dead letters were not delivered within {seconds} s");
        BrokerError::DeadLetters { reason, learned: false }
    }

    /// What a failed call means: a message that failed before it is the cause.
    pub(super) fn cause(&self, doing: &str, error: &KafkaError) -> BrokerError {
        serve_all_events(&self.producer);
        self.delivered_so_far().err().unwrap_or_else(|| self.explain(doing, error))
    }

    /// What a failed call means.
    pub(super) fn explain(&self, doing: &str, error: &KafkaError) -> BrokerError {
        deliveries::explain(&self.producer, doing, &self.why(error))
    }
}

/// A message to the partition of its key, with the time at which it is handed over.
fn record<'a>(
    topic: &'a str,
    key: Option<&'a [u8]>,
    payload: Option<&'a [u8]>,
    headers: OwnedHeaders,
) -> BaseRecord<'a, [u8], [u8]> {
    BaseRecord { topic, partition: None, payload, key, timestamp: None, headers: Some(headers), delivery_opaque: () }
}

/// The time of the messages of drafts that were formed then, in milliseconds; none for the time at which each is handed over.
///
/// No message is older than its draft, by the database's clock. `verify` and `lane resolve` look messages up by that time, and this machine's clock
/// may be hours behind. Nor is it older than this moment. So `message.timestamp.before.max.ms` does not refuse a round that waited for days, and the
/// topic keeps it as long as others.
#[expect(clippy::disallowed_methods, reason = "librdkafka would take the time of a message from this clock")]
fn timestamp(formed: Seconds) -> Option<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let formed = formed.get().saturating_mul(1_000);
    (i128::from(formed) > i128::try_from(now).unwrap_or(i128::MAX)).then_some(formed)
}

/// Whether the time to deliver a message, which begins now at the latest, is not over.
fn has_time(until: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    now < *until.get_or_insert(now + transaction_time())
}
