//! What a producer of ours hears of its messages: nothing of those that were delivered, and the first that was not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use super::client::Observer;
use crate::broker::BrokerError;

/// The context of a producer whose settings have `delivery.report.only.error`.
#[derive(Default)]
pub struct Deliveries {
    observer: Observer,
    failed: Mutex<Option<Failed>>,
}

/// A message that was not delivered.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Why.
    pub error: KafkaError,
    /// Where it was to go.
    pub topic: String,
    /// Its key and value, in bytes.
    pub size: usize,
}

impl Deliveries {
    /// For a producer whose other troubles this observer hears of.
    pub fn new(observer: Observer) -> Self {
        Self { observer, failed: Mutex::default() }
    }

    /// What librdkafka said outside of calls.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The first that failed, if any did.
    pub fn failed(&self) -> Option<Failed> {
        self.slot().clone()
    }

    /// The same, and the next one is heard of anew.
    pub fn take_failed(&self) -> Option<Failed> {
        self.slot().take()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.observer.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.observer.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let failed = || Failed {
                error: error.clone(),
                topic: message.topic().to_owned(),
                size: message.payload_len() + message.key_len(),
            };
            self.slot().get_or_insert_with(failed);
        }
    }
}

/// Whether there is no room for another message yet.
pub fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

/// Says what an error of a transactional producer means. What made it unusable for good explains more than the call that met it.
pub fn explain(producer: &BaseProducer<Deliveries>, doing: &str, error: &KafkaError) -> BrokerError {
    let observer = producer.context().observer();
    match producer.client().fatal_error() {
        Some((code, _)) => observer.explain(doing, &KafkaError::Global(code)),
        None => observer.explain(doing, error),
    }
}
