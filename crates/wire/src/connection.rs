//! One TCP connection to one broker, used by one transaction at a time: requests go out in order, answers come back in the same order.
//!
//! Nothing runs beside it. Whoever borrows a connection writes and reads; one that is in doubt is dropped.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dinnerbell_net::foreign::harmless;
use kafka_protocol::messages::api_versions_request::ApiVersionsRequest;
use kafka_protocol::messages::api_versions_response::ApiVersionsResponse;
use kafka_protocol::messages::sasl_authenticate_request::SaslAuthenticateRequest;
use kafka_protocol::messages::sasl_handshake_request::SaslHandshakeRequest;
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::dial::{Dial, connect, encrypt};
use crate::error::{WireError, broken, check, refused, timed_out};
use crate::log_in::{DOING as LOGGING_IN, LogIn};
use crate::security::Security;

/// Most bytes of an answer: those to our requests have some thousands.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
/// How much is read at once, at first.
const READ_BUFFER: usize = 16 * 1024;

/// A byte stream to a broker.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A request that was sent and not answered.
#[derive(Debug, Clone, Copy)]
struct Pending {
    correlation: i32,
    api: i16,
    version: i16,
    doing: &'static str,
}

/// One connection, ready for requests.
pub struct Connection {
    address: String,
    client_id: StrBytes,
    stream: Box<dyn Stream>,
    versions: ApiVersionsResponse,
    correlation: i32,
    pending: VecDeque<Pending>,
    out: BytesMut,
    incoming: BytesMut,
    /// After that the broker wants another log-in.
    expires: Option<Instant>,
    last_used: Instant,
    /// The broker asked for a pause.
    throttled_until: Option<Instant>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to `host:port`, makes the connection safe and logs in, all before the deadline.
    pub async fn open(
        address: &str,
        client_id: &str,
        security: &Security,
        dial: Dial,
        deadline: Instant,
    ) -> Result<Self, WireError> {
        let began = Instant::now();
        let opened = timeout_at(deadline, Self::open_in_time(address, client_id, security, dial, deadline)).await;
        opened.unwrap_or_else(|_| Err(timed_out("connecting", address, began)))
    }

    async fn open_in_time(
        address: &str,
        client_id: &str,
        security: &Security,
        dial: Dial,
        deadline: Instant,
    ) -> Result<Self, WireError> {
        let tcp = connect(address, dial).await?;
        let stream: Box<dyn Stream> = match &security.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(encrypt(tls, tcp, address).await?),
        };
        let mut connection = Self {
            address: address.to_owned(),
            client_id: StrBytes::from_string(client_id.to_owned()),
            stream,
            versions: ApiVersionsResponse::default(),
            correlation: 0,
            pending: VecDeque::new(),
            out: BytesMut::new(),
            incoming: BytesMut::with_capacity(READ_BUFFER),
            expires: None,
            last_used: Instant::now(),
            throttled_until: None,
        };
        connection.learn_versions(deadline).await?;
        if let Some(sasl) = &security.sasl {
            let login = LogIn::begin(sasl, address, deadline).await?;
            connection.log_in(sasl.mechanism(), login, deadline).await?;
        }
        Ok(connection)
    }

    async fn learn_versions(&mut self, deadline: Instant) -> Result<(), WireError> {
        const DOING: &str = "asking for its versions";
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("dinnerbell"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut answer = self.ask_version(DOING, &request, 3, deadline).await?;
        if answer.error_code == kafka_protocol::ResponseError::UnsupportedVersion.code() {
            answer = self.ask_version(DOING, &ApiVersionsRequest::default(), 0, deadline).await?;
        }
        check(DOING, &self.address, answer.error_code, None)?;
        self.versions = answer;
        Ok(())
    }

    async fn log_in(&mut self, mechanism: &str, mut login: LogIn<'_>, deadline: Instant) -> Result<(), WireError> {
        const DOING: &str = LOGGING_IN;
        let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_string(mechanism.to_owned()));
        let answer = self.ask(DOING, &handshake, 1, deadline).await?;
        if answer.error_code != 0 {
            let known: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            let known = harmless(&known.join(", "));
            let reason = format!("the broker does not take kafka.sasl_mechanism {mechanism}; it takes {known}");
            return Err(refused(DOING, &self.address, reason));
        }
        let mut said: Option<Bytes> = None;
        loop {
            let answer = login.answer(said.as_deref()).map_err(|reason| refused(DOING, &self.address, reason))?;
            let Some(bytes) = answer else { break };
            let request = SaslAuthenticateRequest::default().with_auth_bytes(bytes.into());
            let answer = self.ask(DOING, &request, 2, deadline).await?;
            if answer.error_code != 0 {
                let words = answer.error_message.as_ref().map_or("refused", StrBytes::as_str);
                return Err(refused(DOING, &self.address, login.refusal(words)));
            }
            if answer.session_lifetime_ms > 0 {
                let lifetime = Duration::from_millis(answer.session_lifetime_ms.unsigned_abs());
                self.expires = Some(Instant::now() + lifetime);
            }
            said = Some(answer.auth_bytes);
        }
        match login.is_done() {
            true => Ok(()),
            false => Err(refused(DOING, &self.address, "the broker ended the log-in early".into())),
        }
    }

    /// The broker's `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it may be used for something that takes so long: nothing is under way, the broker has not closed it, and no log-in ends before.
    pub fn is_fit_for(&mut self, time: Duration, most_idle: Duration) -> bool {
        let now = Instant::now();
        let lives = self.expires.is_none_or(|expires| expires > now + time);
        lives && self.pending.is_empty() && now.duration_since(self.last_used) < most_idle && !self.was_closed()
    }

    /// Whether nobody used it for so long.
    pub(crate) fn lay_idle(&self, time: Duration) -> bool {
        self.last_used.elapsed() >= time
    }

    /// Whether the broker closed it, or sent what nobody asked for.
    fn was_closed(&mut self) -> bool {
        let mut waker = std::task::Context::from_waker(std::task::Waker::noop());
        let mut byte = [0; 1];
        let mut buffer = tokio::io::ReadBuf::new(&mut byte);
        !self.incoming.is_empty() || std::pin::Pin::new(&mut *self.stream).poll_read(&mut waker, &mut buffer).is_ready()
    }

    /// The last version of a feature that the whole cluster has agreed on.
    pub fn feature(&self, name: &str) -> i16 {
        let features = &self.versions.finalized_features;
        features.iter().find(|feature| &*feature.name == name).map_or(0, |feature| feature.max_version_level)
    }

    /// The version to speak of a request: the broker's last, if it is no later than ours.
    pub fn version<R: Request>(&self, api: &'static str, least: i16, most: i16) -> Result<i16, WireError> {
        let known = self.versions.api_keys.iter().find(|known| known.api_key == R::KEY);
        let (there_least, there_most) = known.map_or((0, -1), |known| (known.min_version, known.max_version));
        let version = most.min(there_most);
        match version >= least && version >= there_least {
            true => Ok(version),
            false => Err(WireError::Unsupported {
                address: self.address.clone(),
                api,
                least: there_least,
                most: there_most,
                needed: least,
            }),
        }
    }

    /// Asks, and waits for the answer. The version is the broker's last up to `most`.
    pub async fn ask<R: Request>(
        &mut self,
        doing: &'static str,
        request: &R,
        most: i16,
        deadline: Instant,
    ) -> Result<R::Response, WireError> {
        let version = self.version::<R>(doing, R::VERSIONS.min, most)?;
        self.ask_version(doing, request, version, deadline).await
    }

    /// Asks in this version, and waits for the answer.
    pub async fn ask_version<R: Request>(
        &mut self,
        doing: &'static str,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<R::Response, WireError> {
        self.send(doing, request, version, deadline).await?;
        self.answer::<R>(deadline).await
    }

    /// Writes a request. Its answer is to be taken with [`Self::answer`], in the order of the requests.
    pub async fn send<R: Request>(
        &mut self,
        doing: &'static str,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.queue(doing, request, version)?;
        self.flush(deadline).await
    }

    /// Encodes a request behind those that are not written yet; it is written with them.
    pub fn queue<R: Request>(&mut self, doing: &'static str, request: &R, version: i16) -> Result<(), WireError> {
        let key = ApiKey::try_from(R::KEY).map_err(|()| self.unreadable(doing, "an unknown request"))?;
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(self.client_id.clone()));
        let start = self.out.len();
        self.out.put_i32(0);
        let encoded = header
            .encode(&mut self.out, key.request_header_version(version))
            .and_then(|()| request.encode(&mut self.out, version));
        encoded.map_err(|error| self.unreadable(doing, &error.to_string()))?;
        let length = i32::try_from(self.out.len() - start - 4).expect("a request is smaller than a round");
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.pending.push_back(Pending { correlation: self.correlation, api: R::KEY, version, doing });
        Ok(())
    }

    /// How many requests wait for their answers.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Waits until the pause is over that the broker asked for. Fails where that is later than the deadline: a request would not be answered in time.
    pub async fn throttled(&mut self, deadline: Instant) -> Result<(), WireError> {
        let Some(until) = self.throttled_until else { return Ok(()) };
        let began = Instant::now();
        tokio::time::sleep_until(until.min(deadline)).await;
        if until > deadline {
            return Err(timed_out("waiting for the broker's quota", &self.address, began));
        }
        self.throttled_until = None;
        Ok(())
    }

    /// Writes what was queued, after the pause that the broker asked for.
    pub async fn flush(&mut self, deadline: Instant) -> Result<(), WireError> {
        let began = Instant::now();
        let doing = self.pending.back().map_or("writing", |pending| pending.doing);
        self.throttled(deadline).await?;
        let written = timeout_at(deadline, async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => {
                // What a batch took is not kept for as long as the connection.
                self.out = BytesMut::new();
                Ok(())
            }
            Ok(Err(error)) => Err(broken(doing, &self.address, &error)),
            Err(_) => Err(timed_out(doing, &self.address, began)),
        }
    }

    /// The answer to the oldest request, which must be of this kind.
    pub async fn answer<R: Request>(&mut self, deadline: Instant) -> Result<R::Response, WireError> {
        let pending = self.pending.pop_front().expect("a request is waited for only after it was sent");
        let began = Instant::now();
        let read = timeout_at(deadline, self.read_frame(pending.doing)).await;
        let mut frame = read.unwrap_or_else(|_| Err(timed_out(pending.doing, &self.address, began)))?;
        self.last_used = Instant::now();
        debug_assert_eq!(pending.api, R::KEY, "answers are taken in the order of their requests");
        let key = ApiKey::try_from(pending.api).map_err(|()| self.unreadable(pending.doing, "an unknown request"))?;
        let header = ResponseHeader::decode(&mut frame, key.response_header_version(pending.version))
            .map_err(|error| self.unreadable(pending.doing, &error.to_string()))?;
        if header.correlation_id != pending.correlation {
            return Err(self.unreadable(pending.doing, "it is the answer to another request"));
        }
        // A broker that does not know this version of the question says so in the form of the first one, or in one of its own.
        let version = match frame.get(..2) {
            Some([0, 35]) if key == ApiKey::ApiVersions => {
                frame = Bytes::from_static(&[0, 35, 0, 0, 0, 0]);
                0
            }
            _ => pending.version,
        };
        R::Response::decode(&mut frame, version).map_err(|error| self.unreadable(pending.doing, &error.to_string()))
    }

    /// The broker asked for a pause before the next request.
    pub fn throttle(&mut self, millis: i32) {
        if millis > 0 {
            self.throttled_until = Some(Instant::now() + Duration::from_millis(millis.unsigned_abs().into()));
        }
    }

    async fn read_frame(&mut self, doing: &'static str) -> Result<Bytes, WireError> {
        loop {
            if let Some(length) = self.incoming.get(..4) {
                let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
                let length = usize::try_from(length).ok().filter(|length| *length <= LARGEST_ANSWER);
                let length = length.ok_or_else(|| self.unreadable(doing, "it has an impossible length"))?;
                if self.incoming.len() >= 4 + length {
                    self.incoming.advance(4);
                    return Ok(self.incoming.split_to(length).freeze());
                }
                self.incoming.reserve(4 + length - self.incoming.len());
            }
            let read =
                self.stream.read_buf(&mut self.incoming).await.map_err(|error| broken(doing, &self.address, &error))?;
            if read == 0 {
                return Err(broken(doing, &self.address, &io::Error::from(io::ErrorKind::ConnectionReset)));
            }
        }
    }

    fn unreadable(&self, doing: &'static str, reason: &str) -> WireError {
        WireError::Unreadable { doing, address: self.address.clone(), reason: harmless(reason) }
    }
}

#[cfg(test)]
pub(crate) mod tests;
