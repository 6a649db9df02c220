//! What every librdkafka client of ours has in common: its settings, its log, and what its errors mean.

mod errors;
mod settings;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use dinnerbell_config as config;
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_token::{TokenError, Tokens};

pub(crate) use errors::classify;
use errors::{DISMISSED, NO_TOKEN, OTHER_PROTOCOL, says_little, says_more, text, unnamed, without_times};
pub use settings::{Isolation, asking_settings, settings, tell_topic_ids};

/// How long a call that only asks may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one poll for librdkafka's events waits. A poll that does not wait takes a single line of its log, and the reason for a failure stands
/// many lines behind.
pub const EVENT_POLL: Duration = Duration::from_millis(5);

/// How long a client's poll may wait for a token: less than the watchdog of any poll loop.
const TOKEN_PATIENCE: Duration = Duration::from_secs(3);

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
    /// Where tokens come from, for a client that logs in by them.
    tokens: Option<Tokens>,
    /// Why the client has none.
    without_token: Arc<Mutex<Option<TokenError>>>,
}

impl ClientEvents {
    /// Those of a client of this configuration.
    pub fn of(kafka: &config::Kafka) -> Self {
        Self { tokens: kafka.tokens().cloned(), ..Self::default() }
    }

    /// Whether the client logs in by tokens: to serve its events may take as long as it waits for one.
    pub fn takes_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// A call succeeded: earlier reasons are history.
    pub fn mark_healthy(&self) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What a failed call means. `doing` says what was tried, as a fragment.
    pub fn explain(&self, doing: &str, error: &KafkaError) -> BrokerError {
        let code = error.rdkafka_error_code();
        if let Some(without) = self.without_token(doing)
            && code.is_some_and(|code| says_little(code) || code == RDKafkaErrorCode::Authentication)
        {
            return without;
        }
        let told = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (code, told) {
            (Some(code), Some((cause, reason))) if says_little(code) => self.classify(doing, cause, &reason),
            (Some(code), _) => self.classify(doing, code, &text(error)),
            (None, _) => unnamed(doing, error),
        }
    }

    /// Whether the brokers refused us, as far as is known.
    pub fn refused(&self, doing: &str) -> Option<BrokerError> {
        if let Some(without) = self.without_token(doing) {
            return Some(without).filter(|error| matches!(error, BrokerError::Refused(_)));
        }
        let told = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (cause, reason) = told?;
        Some(self.classify(doing, cause, &reason)).filter(|error| matches!(error, BrokerError::Refused(_)))
    }

    /// The id of a topic (KIP-516), as the client last learned it; none where the brokers know no ids.
    pub fn topic_id(&self, topic: &str) -> Option<String> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// What an error means to this client. One that logs in by tokens has no password to check.
    fn classify(&self, doing: &str, code: RDKafkaErrorCode, reason: &str) -> BrokerError {
        use RDKafkaErrorCode::{Authentication, SaslAuthenticationFailed};
        match code {
            Authentication | SaslAuthenticationFailed if self.tokens.is_some() => BrokerError::Refused(format!(
                "{doing}: the broker refuses the token: {reason}: {}",
                dinnerbell_token::REFUSED
            )),
            _ => classify(doing, code, reason),
        }
    }

    /// What it means that the client has no token, while it has none.
    fn without_token(&self, doing: &str) -> Option<BrokerError> {
        let why = self.without_token.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(match why {
            TokenError::Refused(reason) => BrokerError::Refused(format!("{doing}: {reason}")),
            TokenError::Unavailable(reason) => BrokerError::Transient(format!("{doing}: {reason}")),
        })
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
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// The client asks in a poll when it begins, and again when four fifths of a token's life are over; after a failure in ten seconds.
    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        // A poll serves it, so that it is the client's own event.
        self.heard.fetch_add(1, Ordering::AcqRel);
        let tokens = self.tokens.as_ref().ok_or("kafka.sasl_mechanism is not OAUTHBEARER")?;
        let told = tokens.wait(TOKEN_PATIENCE);
        *self.without_token.lock().unwrap_or_else(PoisonError::into_inner) = told.as_ref().err().cloned();
        let token = told?;
        Ok(OAuthToken {
            token: token.reveal().to_owned(),
            principal_name: token.principal().to_owned(),
            lifetime_ms: token.expires_ms(),
        })
    }

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
        // Why there is none is known from who fetches it, and a token that comes ends it.
        let without_token = NO_TOKEN.iter().any(|words| reason.contains(words));
        if let Some(code) = error.rdkafka_error_code().filter(|_| !without_token) {
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

/// Lets a consumer take a token where it logs in by tokens: one that only asks is not polled otherwise. Waits for nothing else.
pub fn serve_token(consumer: &BaseConsumer<ClientEvents>) {
    let events = consumer.context();
    if events.takes_tokens() {
        serve_waiting_events(consumer, events);
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
mod tests;
