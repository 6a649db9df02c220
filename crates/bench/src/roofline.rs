//! All the work there is, without the service: one COPY of the rows and one plain producer of the messages, both at the same time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::Serialize;
use tokio::time::Instant;

use super::audience::Audience;
use super::error::{BenchError, blocking};
use super::progress::STANDSTILL;
use crate::environment::{Stage, settle};
use crate::sender;
use dinnerbell_config as config;
use dinnerbell_config::Role;
use dinnerbell_core::model::draft;
use dinnerbell_core::model::draft::{CE_ID, COPY_HEADER, COPY_TRAILER, DraftRows, DraftTemplate, ROUND_HEADER};
use dinnerbell_core::model::number::Seconds;
use dinnerbell_kafka::client::{REQUEST_TIMEOUT, settings};
use dinnerbell_kafka::deliveries::{Deliveries, is_full, serve_all_events};
use dinnerbell_kafka::message;
use dinnerbell_kafka::producer::COMPRESSION;
use dinnerbell_postgres::connect::Transaction;
use dinnerbell_postgres::needs;

/// Size of a frame of COPY, in bytes: the service's.
const FRAME: usize = 128 << 10;
/// How many messages are produced before librdkafka's events are served.
const STRIDE: usize = 1_000;
/// The trigger of all drafts; any will do.
const TRIGGER: Seconds = Seconds::new(1_700_000_000);

/// The same rows and messages without the service.
#[derive(Debug, Serialize)]
pub struct Roofline {
    /// Until both were done.
    pub seconds: f64,
    /// Until the COPY was committed.
    pub copy_seconds: f64,
    /// Until the last message was acknowledged.
    pub produce_seconds: f64,
    /// Drafts a second.
    pub drafts_per_second: f64,
}

impl Roofline {
    /// What was found.
    pub fn new(audience: usize, copied: Duration, produced: Duration) -> Self {
        let seconds = copied.max(produced).as_secs_f64();
        Self {
            seconds,
            copy_seconds: copied.as_secs_f64(),
            produce_seconds: produced.as_secs_f64(),
            drafts_per_second: audience as f64 / seconds,
        }
    }
}

/// Measures on a stage whose table of the roofline is empty, and empties it again.
pub async fn measure(stage: &Stage<'_>, audience: &Audience) -> Result<Roofline, BenchError> {
    let campaign = sender::campaign("roofline", &audience.restaurant);
    let template = DraftTemplate::new(Arc::new(campaign), TRIGGER, &stage.config.kafka.group_id)
        .map_err(|error| BenchError::Failed(error.to_string()))?;
    let topic = format!("{}.roofline", stage.config.kafka.group_id);
    stage.ground().make_topic(&topic, stage.partitions()).await?;
    // Both are connected, and the producer has written to each partition, before the clock starts.
    let plain = Plain::connect(&stage.config.kafka, &topic, stage.partitions()).await?;
    // What is sent is encoded too: the producer has nothing to do but to send.
    let messages = Encoded::all(&template, audience, &plain.round);
    let transaction = stage.pool.begin("").await?;
    let table = stage.ground().roofline();
    let rows = template.rows(needs::trigger_type(&transaction, &table).await?);
    let rows = rows.map_err(|error| BenchError::Failed(error.to_string()))?;
    let began = Instant::now();
    let producing = {
        let count = audience.subscribers;
        blocking(move || plain.produce(&messages, count).map(|()| began.elapsed()))
    };
    let copying = async { copy(transaction, &table, &rows, audience).await.map(|()| began.elapsed()) };
    let (produced, copied) = tokio::try_join!(producing, copying)?;
    stage.ground().drop_topics(&[&topic]).await?;
    empty(stage).await?;
    Ok(Roofline::new(audience.subscribers, copied, produced))
}

/// Empties its table.
pub async fn empty(stage: &Stage<'_>) -> Result<(), BenchError> {
    let connection = stage.pool.get().await?;
    connection.batch_without_deadline(&format!("truncate {}", stage.ground().roofline())).await?;
    connection.release();
    settle(&stage.pool).await;
    Ok(())
}

async fn copy(
    transaction: Transaction,
    table: &str,
    rows: &DraftRows<'_>,
    audience: &Audience,
) -> Result<(), BenchError> {
    let mut copy = transaction.copy_in(&draft::copy_into(table)).await?;
    let mut frame = BytesMut::with_capacity(2 * FRAME);
    frame.extend_from_slice(&COPY_HEADER);
    for client in audience.clients() {
        rows.append(client.as_str(), &mut frame);
        if frame.len() >= FRAME {
            copy.send(frame.split().freeze()).await?;
        }
    }
    frame.extend_from_slice(&COPY_TRAILER);
    copy.send(Bytes::from(frame)).await?;
    copy.finish().await?;
    Ok(transaction.commit().await?)
}

/// Most messages that are encoded beforehand: of a larger audience they are sent again and again. They are as long as the others, and no codec sees
/// across so many.
const ENCODED: usize = 100_000;

/// A message as it is sent.
struct Encoded {
    key: Vec<u8>,
    value: Vec<u8>,
    headers: OwnedHeaders,
}

impl Encoded {
    /// The first messages of an audience, in the round of this name.
    fn all(template: &DraftTemplate, audience: &Audience, round: &str) -> Vec<Self> {
        let common = template.headers().iter().map(|(name, value)| (*name, Some(&**value)));
        let common = message::headers(common.chain([(ROUND_HEADER, Some(round.as_bytes()))]));
        let encode = |client: &str| {
            let mut value = Vec::new();
            template.message_value(client, &mut value);
            let id = template.ce_id(client);
            let headers = common.clone().insert(rdkafka::message::Header { key: CE_ID, value: Some(&id) });
            Self { key: client.as_bytes().to_vec(), value, headers }
        };
        audience.clients().take(ENCODED).map(|client| encode(client.as_str())).collect()
    }
}

/// A producer as most people make one: librdkafka's own settings, without transactions.
struct Plain {
    topic: String,
    /// The value of the header that names a round, as long as the service's.
    round: String,
    producer: BaseProducer<Deliveries>,
}

impl Plain {
    /// Warm: what is measured is not the finding of a leader, nor the first connection.
    async fn connect(kafka: &config::Kafka, topic: &str, partitions: i32) -> Result<Self, BenchError> {
        let promises = [("acks", "all"), ("partitioner", "murmur2_random"), ("delivery.report.only.error", "true")];
        let settings =
            settings(kafka, Role::Producer, "bench-roofline", &[("compression.codec", COMPRESSION)], &promises);
        let (topic, round) = (topic.to_owned(), format!("{}/0/1", kafka.topics.campaigns));
        let deliveries = Deliveries::of(kafka);
        blocking(move || {
            let observer = deliveries.observer().clone();
            let failed = |error: &KafkaError| observer.explain("making the plain producer", error);
            let producer: BaseProducer<Deliveries> =
                settings.create_with_context(deliveries).map_err(|error| failed(&error))?;
            serve_all_events(&producer);
            producer.client().fetch_metadata(Some(&topic), REQUEST_TIMEOUT).map_err(|error| failed(&error))?;
            let plain = Self { topic, round, producer };
            plain.warm_up(partitions)?;
            Ok(plain)
        })
        .await
    }

    /// One message to each partition.
    fn warm_up(&self, partitions: i32) -> Result<(), BenchError> {
        for partition in 0..partitions {
            self.send(
                BaseRecord::to(&self.topic).partition(partition).key(b"".as_slice()).payload(b"warm-up".as_slice()),
            )?;
        }
        self.finish()
    }

    /// Sends as many messages as there are subscribers, from those that were encoded beforehand.
    fn produce(self, messages: &[Encoded], count: usize) -> Result<(), BenchError> {
        for (index, message) in (0..count).zip(messages.iter().cycle()) {
            if index % STRIDE == 0 {
                self.producer.poll(Duration::ZERO);
                self.check()?;
            }
            let record = BaseRecord::to(&self.topic).key(message.key.as_slice()).payload(message.value.as_slice());
            self.send(record.headers(message.headers.clone()))?;
        }
        self.finish()
    }

    /// Waits until everything is acknowledged.
    fn finish(&self) -> Result<(), BenchError> {
        let until = Instant::now() + STANDSTILL;
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(1));
            self.check()?;
            if Instant::now() > until {
                return Err(self.failed(&KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)));
            }
        }
        self.check()
    }

    fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), BenchError> {
        let until = Instant::now() + STANDSTILL;
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, record)) if is_full(&error) && Instant::now() < until => record,
                Err((error, _)) => return Err(self.failed(&error)),
            };
            self.producer.poll(Duration::from_millis(1));
            self.check()?;
        }
    }

    fn check(&self) -> Result<(), BenchError> {
        let failed = self.producer.context().take_failed();
        failed.map_or(Ok(()), |failed| Err(self.failed(&failed.error)))
    }

    fn failed(&self, error: &KafkaError) -> BenchError {
        let doing = format!("writing to topic {}", self.topic);
        self.producer.context().observer().explain(&doing, error).into()
    }
}
