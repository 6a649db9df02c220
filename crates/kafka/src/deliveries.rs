//! What a producer of ours learns of its messages, nothing of those that were delivered and the first that was not, and of its connections.
//!
//! When a connection breaks, librdkafka sends again by itself what was not answered: the end of a transaction too, and its offsets. It then calls the
//! transaction committed, rightly, while the first copy may still arrive in the middle of the producer's next transaction. There it would end that
//! transaction, or replace its offsets. Only the next `init_transactions` fences it. So a producer asks here, after each transaction, whether a
//! connection of its own broke meanwhile: [`Deliveries::breaks`].

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use super::client::ClientEvents;
use dinnerbell_config as config;
use dinnerbell_core::ports::broker::BrokerError;

/// Most events that are served at once.
const MAX_EVENTS: usize = 10_000;

/// The context of a producer.
#[derive(Default)]
pub struct Deliveries {
    observer: ClientEvents,
    failed: Mutex<Option<Failed>>,
    /// Connections that broke, and requests that were not answered in time.
    breaks: AtomicU64,
    /// Events that were served.
    events: AtomicU64,
}

/// A message that was not delivered.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Why it failed.
    pub error: KafkaError,
    /// Where it was to go.
    pub topic: String,
    /// Its key and value, in bytes.
    pub size: usize,
}

impl Deliveries {
    /// Those of a producer of this configuration.
    pub fn of(kafka: &config::Kafka) -> Self {
        Self { observer: ClientEvents::of(kafka), ..Self::default() }
    }

    /// How often a connection of this producer broke, or a request was not answered in time, as far as its events were served.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    fn served(&self) {
        self.events.fetch_add(1, Ordering::AcqRel);
    }

    /// What librdkafka said outside of calls.
    pub fn observer(&self) -> &ClientEvents {
        &self.observer
    }

    /// The first that failed for a reason of its own, if any did; else the first that failed with its transaction.
    pub fn failed(&self) -> Option<Failed> {
        self.slot().clone()
    }

    /// The same, and the next one is reported again.
    pub fn take_failed(&self) -> Option<Failed> {
        self.slot().take()
    }

    /// Keeps the first failure; a cause takes the place of an echo.
    fn not_delivered(&self, error: &KafkaError, topic: &str, size: usize) {
        let mut failed = self.slot();
        if failed.as_ref().is_none_or(|known| is_echo(&known.error) && !is_echo(error)) {
            *failed = Some(Failed { error: error.clone(), topic: topic.to_owned(), size });
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Failed>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, configured: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.served();
        self.observer.generate_oauth_token(configured)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.served();
        if is_break(facility, message) {
            self.breaks.fetch_add(1, Ordering::AcqRel);
        }
        self.observer.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served();
        self.observer.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.served();
        tracing::info!(target: "librdkafka", "{}", String::from_utf8_lossy(statistics));
    }
}

/// States of a connection in which nothing of a transaction was sent through it yet.
const EARLY_STATES: [&str; 9] = [
    "INIT",
    "DOWN",
    "TRY_CONNECT",
    "CONNECT",
    "SSL_HANDSHAKE",
    "AUTH_LEGACY",
    "APIVERSION_QUERY",
    "AUTH_HANDSHAKE",
    "AUTH_REQ",
];

/// Whether a line of the log says that a request may be sent twice. Not so of a connection that could not be made, and of one that stands
/// for no known broker: through that only questions are asked. What cannot be told is a break.
fn is_break(facility: &str, message: &str) -> bool {
    let in_state = |state: &&str| message.contains(&format!("ms in state {state}"));
    match facility {
        "FAIL" => !message.contains("/bootstrap: ") && !EARLY_STATES.iter().any(in_state),
        "REQTMOUT" => true,
        _ => false,
    }
}

/// Settings with which a producer learns of every connection that breaks. The usual log leaves out the second of two alike within 30 seconds, and
/// connections that are closed in an orderly way.
pub fn with_break_events(mut settings: ClientConfig) -> ClientConfig {
    let debug = match settings.get("debug") {
        Some(chosen) => format!("{chosen},broker"),
        None => "broker".to_owned(),
    };
    settings.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    settings
}

/// Serves everything that happened to a producer up to now, without waiting. More than can be served counts as a break.
pub fn serve_all_events(producer: &BaseProducer<Deliveries>) {
    let Deliveries { events, breaks, .. } = &**producer.context();
    for _ in 0..MAX_EVENTS {
        let before = events.load(Ordering::Acquire);
        // Serves one event, if there is one.
        producer.poll(Duration::ZERO);
        if events.load(Ordering::Acquire) == before {
            return;
        }
    }
    breaks.fetch_add(1, Ordering::AcqRel);
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.served();
        if let Err((error, message)) = result {
            let size = message.payload_len() + message.key_len();
            self.not_delivered(error, message.topic(), size);
        }
    }
}

/// Whether an error says no more than that the transaction failed before, for another reason.
pub fn is_echo(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{PurgeInflight, PurgeQueue, State};
    matches!(error.rdkafka_error_code(), Some(PurgeQueue | PurgeInflight | State))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_that_a_delivery_report_gave_stands_among_its_echoes() {
        use RDKafkaErrorCode::{MessageSizeTooLarge, PurgeInflight, PurgeQueue, State, TopicAuthorizationFailed};
        let deliveries = Deliveries::default();
        let known = || deliveries.failed().and_then(|failed| failed.error.rdkafka_error_code());
        for (reported, stands) in [
            (PurgeQueue, PurgeQueue),
            (State, PurgeQueue),
            (MessageSizeTooLarge, MessageSizeTooLarge),
            (PurgeInflight, MessageSizeTooLarge),
            (TopicAuthorizationFailed, MessageSizeTooLarge),
        ] {
            deliveries.not_delivered(&KafkaError::MessageProduction(reported), "out", 1);
            assert_eq!(known(), Some(stands), "after {reported:?}");
        }
    }

    #[test]
    fn a_connection_that_was_made_and_breaks_is_a_break_and_one_that_could_not_be_made_is_none() {
        let breaks = |line| is_break("FAIL", line);
        assert!(breaks(
            "[thrd:TxnCoordinator]: TxnCoordinator: b:9092: Disconnected (after 71ms in state UP) (_TRANSPORT)"
        ));
        assert!(breaks("[thrd:b:9092/1]: b:9092/1: Receive failed: Connection reset by peer (after 9ms in state UP)"));
        assert!(breaks("[thrd:b:9092/1]: b:9092/1: a reason that is too long for its state"));
        assert!(!breaks(
            "[thrd:b:9092/1]: b:9092/1: Connect to ipv4#1.2.3.4:9092 failed: Connection refused (after 0ms in state CONNECT)"
        ));
        assert!(!breaks("[thrd:b:9092/bootstrap]: b:9092/bootstrap: Disconnected (after 600001ms in state UP)"));
        assert!(is_break(
            "REQTMOUT",
            "[thrd:b:9092/1]: b:9092/1: Timed out EndTxnRequest in flight (after 60000ms, timeout #0)"
        ));
        assert!(!is_break("BRKMAIN", "[thrd:b:9092/1]: b:9092/1: Enter main broker thread"));
    }
}
