//! Sends records to the campaigns topic once more, each batch in one transaction.
//!
//! Every run of an operator has the same transactional id. So a run that was given up can commit nothing any more once another has begun.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::time::Instant;

use super::client::settings;
use super::deliveries::{self, Deliveries, is_full, serve_all_events, with_break_events};
use super::message;
use dinnerbell_config as config;
use dinnerbell_config::kafka_client::Role;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::record::Header;
use dinnerbell_core::ports::broker::BrokerError;

/// How long a transactional call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a batch may take to be delivered.
const DELIVERY: Duration = Duration::from_secs(30);
/// What librdkafka takes; the broker's own limit is the one that counts.
const LARGEST: &str = "100000000";

/// A record as it arrived.
#[derive(Debug, Clone)]
pub struct Original {
    /// The lane in which it stands.
    pub lane: Lane,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<Header>,
}

/// Why a batch was not sent for certain.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    /// Nothing of it can be read, now or later.
    #[error("{0}")]
    Unsent(BrokerError),
    /// All of it can be read, or nothing.
    #[error("{0}")]
    InDoubt(BrokerError),
}

/// A batch was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// And another one may be.
    MoreMayFollow,
    /// A connection broke: what was sent twice could end the next transaction of this run. (A new producer in its place would fence a run that
    /// was begun since.)
    MustBeLast,
}

/// The producer of one run.
pub struct Resender {
    producer: BaseProducer<Deliveries>,
    topic: String,
    partitions: i32,
}

impl Resender {
    /// A producer for a topic with this many partitions. Runs before this one can commit nothing any more when this returns. Blocks.
    pub fn open(kafka: &config::Kafka, partitions: i32) -> Result<Self, BrokerError> {
        let topic = kafka.topics.campaigns.clone();
        let settings = settings(
            kafka,
            Role::Producer,
            "replay",
            &[("linger.ms", "5"), ("message.max.bytes", LARGEST)],
            &[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("partitioner", "murmur2_random"),
                ("transactional.id", &format!("{}/{topic}/replay", kafka.group_id)),
                ("transaction.timeout.ms", "60000"),
                ("message.timeout.ms", "30000"),
            ],
        );
        let deliveries = Deliveries::of(kafka);
        let observer = deliveries.observer().clone();
        let producer: BaseProducer<Deliveries> = with_break_events(settings)
            .create_with_context(deliveries)
            .map_err(|error| observer.explain("making a producer", &error))?;
        let resender = Self { producer, topic, partitions };
        // Without a poll it would have no token to log in with.
        serve_all_events(&resender.producer);
        let doing = "taking the transactional id of replays over";
        resender.producer.init_transactions(CALL_TIMEOUT).map_err(|error| resender.explain(doing, &error))?;
        Ok(resender)
    }

    /// Sends a batch, and says whether another one may follow. A record goes to the partition in which it arrived; where that is gone, to
    /// that of its key. Blocks.
    pub fn send(&self, batch: &[Original]) -> Result<Sent, ResendError> {
        let before = self.breaks();
        self.transact(batch)?;
        Ok(if self.breaks() == before { Sent::MoreMayFollow } else { Sent::MustBeLast })
    }

    fn breaks(&self) -> u64 {
        serve_all_events(&self.producer);
        self.producer.context().breaks()
    }

    fn transact(&self, batch: &[Original]) -> Result<(), ResendError> {
        let unsent = |error| ResendError::Unsent(error);
        let beginning = self.producer.begin_transaction();
        beginning.map_err(|error| unsent(self.explain("beginning a transaction", &error)))?;
        if let Err(error) = batch.iter().try_for_each(|original| self.produce(original)).and_then(|()| self.deliver()) {
            // Nobody but this producer could commit it: if this fails, Kafka aborts it by itself.
            let _ = self.producer.abort_transaction(CALL_TIMEOUT);
            return Err(unsent(error));
        }
        self.commit()
    }

    fn commit(&self) -> Result<(), ResendError> {
        let Err(error) = self.producer.commit_transaction(CALL_TIMEOUT) else { return Ok(()) };
        let explained = self.explain("committing a transaction", &error);
        let aborts = matches!(&error, KafkaError::Transaction(error) if error.txn_requires_abort());
        match aborts && self.producer.abort_transaction(CALL_TIMEOUT).is_ok() {
            true => Err(ResendError::Unsent(explained)),
            false => Err(ResendError::InDoubt(explained)),
        }
    }

    fn produce(&self, original: &Original) -> Result<(), BrokerError> {
        let headers = original.headers.iter().map(|header| (header.name.as_str(), header.value.as_ref()));
        let lane = original.lane.get();
        let mut record = BaseRecord {
            topic: &self.topic,
            partition: (lane < self.partitions).then_some(lane),
            payload: original.value.as_ref(),
            key: original.key.as_ref(),
            timestamp: None,
            headers: (!original.headers.is_empty()).then(|| message::headers(headers)),
            delivery_opaque: (),
        };
        let until = Instant::now() + DELIVERY;
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, record)) if is_full(&error) && Instant::now() < until => record,
                Err((error, _)) => return Err(self.explain(&format!("writing to topic {}", self.topic), &error)),
            };
            self.producer.poll(Duration::from_millis(10));
        }
    }

    fn deliver(&self) -> Result<(), BrokerError> {
        let doing = format!("writing to topic {}", self.topic);
        self.producer.flush(DELIVERY).map_err(|error| self.explain(&doing, &error))?;
        let failed = self.producer.context().take_failed();
        failed.map_or(Ok(()), |failed| Err(self.explain(&doing, &failed.error)))
    }

    fn explain(&self, doing: &str, error: &KafkaError) -> BrokerError {
        deliveries::explain(&self.producer, doing, error)
    }
}
