//! What every librdkafka client of ours has in common: its settings, its log, and what its errors mean.

mod errors;
mod settings;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use dinnerbell_core::ports::broker::BrokerError;

pub(crate) use errors::classify;
use errors::{DISMISSED, OTHER_PROTOCOL, says_little, says_more, text, unnamed, without_times};
pub use settings::{Isolation, asking_settings, settings, tell_topic_ids};

/// How long a call that only asks may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one poll for librdkafka's events waits. A poll that does not wait takes a single line of its log, and the reason for a failure stands
/// many lines behind.
pub const EVENT_POLL: Duration = Duration::from_millis(5);

/// Most errors that are served in one go: those that come again and again hold nobody up.
const MAX_ERRORS: usize = 1_000;

/// Most lines that are served in one go.
const MAX_LINES: usize = 10_000;

/// What librdkafka calls a topic without an id.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Receives what librdkafka reports outside of any call. Its log goes to ours. The last reason why no broker could be reached is kept, because the
/// call that fails for it only says "timed out".
#[derive(Debug, Clone, Default)]
pub struct ClientEvents {
    reason: Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>,
    /// The ids of topics, by their names, where the client was asked to tell them ([`tell_topic_ids`]).
    topics: Arc<Mutex<BTreeMap<String, String>>>,
    /// How many lines and errors were received.
    heard: Arc<AtomicU64>,
}

impl ClientEvents {
    /// A call succeeded: earlier reasons are history.
    pub fn mark_healthy(&self) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What a failed call means. `doing` says what was tried, as a fragment.
    pub fn explain(&self, doing: &str, error: &KafkaError) -> BrokerError {
        let told = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (error.rdkafka_error_code(), told) {
            (Some(code), Some((cause, reason))) if says_little(code) => classify(doing, cause, &reason),
            (Some(code), _) => classify(doing, code, &text(error)),
            (None, _) => unnamed(doing, error),
        }
    }

    /// Whether the brokers refused us, as far as is known.
    pub fn refused(&self, doing: &str) -> Option<BrokerError> {
        let told = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (cause, reason) = told?;
        Some(classify(doing, cause, &reason)).filter(|error| matches!(error, BrokerError::Refused(_)))
    }

    /// The id of a topic (KIP-516), as the client last learned it; none where the brokers know no ids.
    pub fn topic_id(&self, topic: &str) -> Option<String> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// How many lines of the log and errors were received so far.
    fn received(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    fn remember(&self, code: RDKafkaErrorCode, reason: &str) {
        let early = ["in state SSL_HANDSHAKE", "in state APIVERSION_QUERY"].iter().any(|state| reason.contains(state));
        let hung_up = early && reason.contains("closed by peer");
        let reason = without_times(reason);
        let reason = if hung_up { format!("{reason}: {OTHER_PROTOCOL}") } else { reason.to_owned() };
        let mut told = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.as_ref().map(|(code, reason)| (*code, reason.as_str()));
        if says_more((code, &reason), known) {
            *told = Some((code, reason));
        }
    }
}

impl ClientContext for ClientEvents {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
        self.heard.fetch_add(1, Ordering::AcqRel);
        if log_message.contains(DISMISSED) {
            tracing::debug!(target: "librdkafka", "{fac}: {log_message}");
            return;
        }
        if let Some((topic, id)) = changed_id(fac, log_message) {
            self.topics.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), id);
        }
        // Of a listener that speaks another protocol librdkafka tells its log alone.
        if fac == "FAIL" && log_message.contains("in state APIVERSION_QUERY") {
            let broker = log_message.split_once("]: ").map_or(log_message, |(_, broker)| broker);
            self.remember(
                RDKafkaErrorCode::BrokerTransportFailure,
                &format!("{}: {OTHER_PROTOCOL}", without_times(broker)),
            );
        }
        match level {
            Emerg | Alert | Critical | Error | Warning => tracing::warn!(target: "librdkafka", "{fac}: {log_message}"),
            Notice | Info => tracing::info!(target: "librdkafka", "{fac}: {log_message}"),
            Debug => tracing::debug!(target: "librdkafka", "{fac}: {log_message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        if reason.contains(DISMISSED) {
            return;
        }
        // The call that meets it logs it; librdkafka's own log line says it at once.
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
        if let Some(code) = error.rdkafka_error_code() {
            self.remember(code, reason);
        }
    }
}

impl ConsumerContext for ClientEvents {}

/// Of a producer that sends nothing.
impl ProducerContext for ClientEvents {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Serves the events of librdkafka for a consumer that reads through queues of its lanes alone.
pub fn serve_events(consumer: &BaseConsumer<ClientEvents>) {
    for _ in 0..MAX_ERRORS {
        if consumer.poll(EVENT_POLL).is_none() {
            return;
        }
    }
}

/// Serves the events that wait for a consumer, and waits for none. A poll that does not wait takes one line or error, so it is repeated until nothing
/// more comes. Who polls the consumer elsewhere at the same time may hold a line back.
pub fn serve_waiting_events(consumer: &BaseConsumer<ClientEvents>, observer: &ClientEvents) {
    for _ in 0..MAX_LINES {
        let before = observer.received();
        if consumer.poll(Duration::ZERO).is_none() && observer.received() == before {
            return;
        }
    }
}

/// The topic and its id as Kafka's own tools show it, if this line of the log says that the client learnt it.
fn changed_id<'a>(fac: &str, line: &'a str) -> Option<(&'a str, String)> {
    let (before, ids) = line.split_once(" changed id from ").filter(|_| fac == "METADATA")?;
    let (_, id) = ids.split_once(" to ")?;
    let id = id.trim();
    let topic = before.rsplit(' ').next()?;
    (id != NO_ID).then(|| (topic, id.replace('+', "-").replace('/', "_")))
}

/// Runs a call that may block off the async workers. The caller gives it a time-out.
pub async fn off_runtime<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, BrokerError> + Send + 'static,
) -> Result<T, BrokerError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => Err(BrokerError::Transient(format!("a call to Kafka ended early: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(cause: RDKafkaErrorCode, reason: &str, code: RDKafkaErrorCode) -> BrokerError {
        let observer = ClientEvents::default();
        observer.remember(cause, reason);
        observer.remember(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        observer.explain("reading topic promo.in", &KafkaError::MetadataFetch(code))
    }

    #[test]
    fn a_timeout_after_a_refused_login_is_a_refusal_that_names_the_password() {
        let error = after(
            RDKafkaErrorCode::Authentication,
            "SASL authentication error: invalid credentials",
            RDKafkaErrorCode::OperationTimedOut,
        );
        assert!(matches!(&error, BrokerError::Refused(text) if text.contains("kafka.password_file")), "{error}");
    }

    #[test]
    fn an_unknown_ca_names_the_ca_file_but_a_cut_handshake_may_pass() {
        let verify = "SSL handshake failed: certificate verify failed";
        let error = after(RDKafkaErrorCode::SSL, verify, RDKafkaErrorCode::BrokerTransportFailure);
        assert!(matches!(&error, BrokerError::Refused(text) if text.contains("kafka.ca_file")), "{error}");
        let early = "tls_post_process_server_certificate error:0A000086:SSL routines::certificate verify failed (after 25ms in state SSL_HANDSHAKE)";
        let transport = RDKafkaErrorCode::BrokerTransportFailure;
        let error = after(transport, early, transport);
        assert!(matches!(&error, BrokerError::Refused(text) if text.contains("kafka.ca_file")), "{error}");
        let error =
            after(RDKafkaErrorCode::SSL, "SSL handshake failed: Disconnected", RDKafkaErrorCode::AllBrokersDown);
        assert!(matches!(error, BrokerError::Transient(_)));
    }

    #[test]
    fn a_reason_heard_earlier_does_not_colour_an_error_that_speaks_for_itself() {
        let error = after(RDKafkaErrorCode::Resolve, "no such host", RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(matches!(&error, BrokerError::Refused(text) if text.contains("Read and Describe")), "{error}");
    }

    #[test]
    fn a_name_that_cannot_be_resolved_is_told_with_the_setting_that_gave_it_whatever_follows() {
        let observer = ClientEvents::default();
        let resolve = RDKafkaErrorCode::Resolve;
        observer.remember(
            resolve,
            "inner:9092/1: Failed to resolve 'inner:9092': Name or service not known (after 7ms in state CONNECT)",
        );
        observer.remember(resolve, "Failed to query logical offset END: Local: Host resolution failure");
        observer.remember(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        for code in [resolve, RDKafkaErrorCode::OperationTimedOut] {
            let error = observer.explain("reading topic promo.in", &KafkaError::MetadataFetch(code));
            let says = |text: &str| text.contains("'inner:9092'") && text.contains("advertised.listeners");
            assert!(matches!(&error, BrokerError::Transient(text) if says(text)), "{error}");
        }
    }

    #[test]
    fn a_connection_that_was_dismissed_is_no_reason_for_anything() {
        let observer = ClientEvents::default();
        let dismissed = "b:9092/2: Broker handle destroyed without termination (after 7101669 ms)";
        observer.error(KafkaError::Global(RDKafkaErrorCode::DestroyBroker), dismissed);
        for code in [RDKafkaErrorCode::OperationTimedOut, RDKafkaErrorCode::DestroyBroker] {
            let error = observer.explain("connecting", &KafkaError::MetadataFetch(code));
            assert!(!error.to_string().contains("destroyed"), "{error}");
        }
    }

    #[test]
    fn a_refused_setting_is_named_without_its_value() {
        let error = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "Invalid value".into(),
            "sasl.password".into(),
            "s3cret".into(),
        );
        let text = ClientEvents::default().explain("connecting", &error).to_string();
        assert!(text.contains("sasl.password") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn the_id_of_a_topic_is_heard_in_the_log() {
        let observer = ClientEvents::default();
        let say = |line: &str| observer.log(RDKafkaLogLevel::Debug, "METADATA", line);
        say("[thrd:main]: Topic promo.in changed id from AAAAAAAAAAAAAAAAAAAAAA to RzJlNIHUR7exkTnIfLWDcg");
        say("[thrd:main]: Topic promo.in [0] Leader 1 Epoch 0");
        assert_eq!(observer.topic_id("promo.in").as_deref(), Some("RzJlNIHUR7exkTnIfLWDcg"));
        say("Topic promo.in changed id from RzJlNIHUR7exkTnIfLWDcg to tHG3AzbgTsCQ+tsS/v8w2A");
        say("Topic other changed id from AAAAAAAAAAAAAAAAAAAAAA to AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(
            observer.topic_id("promo.in").as_deref(),
            Some("tHG3AzbgTsCQ-tsS_v8w2A"),
            "as kafka-topics shows it"
        );
        assert_eq!(observer.topic_id("other"), None, "old brokers know no ids");
    }

    #[test]
    fn the_same_reason_reads_the_same_however_long_the_attempt_took() {
        let text = |reason| after(RDKafkaErrorCode::SSL, reason, RDKafkaErrorCode::OperationTimedOut).to_string();
        let first = text("SSL handshake failed: Disconnected (after 8ms in state SSL_HANDSHAKE)");
        assert_eq!(
            first,
            text(
                "SSL handshake failed: Disconnected (after 2ms in state SSL_HANDSHAKE, 1 identical error(s) suppressed)"
            )
        );
        assert!(
            first.ends_with("SSL handshake failed: Disconnected: if this stays, check kafka.security_protocol"),
            "{first}"
        );
    }

    #[test]
    fn a_listener_that_hangs_up_before_it_says_its_version_names_the_protocol() {
        let observer = ClientEvents::default();
        let log = "[thrd:b:9093/bootstrap]: b:9093/bootstrap: Disconnected: connection closed by peer (after 2ms in state APIVERSION_QUERY)";
        observer.log(RDKafkaLogLevel::Info, "FAIL", log);
        observer.remember(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        let error = observer.explain("connecting", &KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
        let text = "connecting: b:9093/bootstrap: Disconnected: connection closed by peer: if this stays, check kafka.security_protocol";
        assert!(matches!(&error, BrokerError::Transient(said) if said == text), "{error}");
    }

    #[test]
    fn a_listener_that_hangs_up_on_a_handshake_names_the_protocol() {
        let error = after(
            RDKafkaErrorCode::BrokerTransportFailure,
            "sasl_ssl://b:9092/bootstrap: Disconnected: SSL connection closed by peer (after 3ms in state SSL_HANDSHAKE)",
            RDKafkaErrorCode::BrokerTransportFailure,
        );
        let said = "closed by peer: if this stays, check kafka.security_protocol";
        assert!(matches!(&error, BrokerError::Transient(text) if text.ends_with(said)), "{error}");
    }

    #[test]
    fn a_broker_that_is_away_passes() {
        let error = after(
            RDKafkaErrorCode::BrokerTransportFailure,
            "Connect to ipv4#127.0.0.1:9092 failed: Connection refused",
            RDKafkaErrorCode::BrokerTransportFailure,
        );
        assert!(matches!(&error, BrokerError::Transient(text) if text.contains("Connection refused")), "{error}");
    }
}
