//! HTTP: `/healthz`, `/readyz` and `/metrics` are open and hold no personal data; everything else needs the token, and without a token
//! only this machine is served.
//!
//! A connection carries one request, must send it within a second, and lives for seconds. Where as many are open as may be, the one that
//! has kept silent longest makes room. So silent connections take no probe away, and nobody who reaches the port can grow the memory.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, VARY, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use dinnerbell_config as config;
use dinnerbell_config::Secret;
use dinnerbell_core::shutdown::stopped;
use dinnerbell_core::telemetry::{Format, Telemetry};

/// Most connections at once; where all of them are being answered, further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 64;
/// How long a connection may keep silent though others wait for its place: a probe asks at once, even on a busy machine.
const SILENCE: Duration = Duration::from_millis(200);
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(1);
/// How long a connection lives, whatever it does.
const LIFE: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const LONGEST_HEAD: usize = 16 * 1024;
/// Most headers of a request.
const MOST_HEADERS: usize = 64;
/// How long answers under way may take when the service stops.
const DRAIN: Duration = Duration::from_millis(500);
/// How long it is waited after the system refused a connection, for instance since files ran out.
const AFTER_REFUSAL: Duration = Duration::from_millis(200);

/// Why HTTP is not served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The port is taken.
    #[error("http.listen: {listen} is taken by another process; stop that one or choose another port")]
    AddressInUse {
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// The system refuses to listen there.
    #[error(
        "http.listen: cannot listen on {listen}: {source}; choose an address of this machine and a port that may be used"
    )]
    Refused {
        /// Where it was to listen.
        listen: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A port that is held, and who may use it.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Secret>,
}

impl Bound {
    /// Where it listens: the port is known even if any was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Takes the port: one that is taken is found before anything else starts.
pub async fn bind(config: &config::Http) -> Result<Bound, HttpError> {
    let listen = config.listen;
    let refused = |source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => HttpError::AddressInUse { listen },
        _ => HttpError::Refused { listen, source },
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok(Bound { listener, address, token: config.token.as_ref().map(|token| token.secret.clone()) })
}

/// Serves until the stop, then lets answers under way finish for half a second. Stop it last: while lanes finish their rounds, `/readyz` says
/// that the service is stopping.
pub async fn serve(bound: Bound, telemetry: Arc<Telemetry>, mut stop: watch::Receiver<bool>) {
    let Bound { listener, address, token } = bound;
    tracing::info!(%address, "serving /healthz, /readyz and /metrics");
    let router = router(telemetry, token);
    let mut connections = JoinSet::new();
    let mut slots = ConnectionSlots::default();
    loop {
        let full_until = slots.make_room();
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            () = sleep_until(full_until.unwrap_or_else(Instant::now)), if full_until.is_some() => {}
            accepted = listener.accept(), if full_until.is_none() => match accepted {
                Ok((stream, peer)) => {
                    let asked = Arc::new(AtomicBool::new(false));
                    let router = noting(&asked, router.clone()).layer(Extension(Peer(peer)));
                    let task = connections.spawn(answer(stream, router));
                    slots.open.push_back(ConnectionSlot { asked, since: Instant::now(), task });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was refused");
                    sleep(AFTER_REFUSAL).await;
                }
            },
        }
    }
    drop(listener);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
}

/// The connections that are open, the oldest first.
#[derive(Debug, Default)]
struct ConnectionSlots {
    open: VecDeque<ConnectionSlot>,
}

#[derive(Debug)]
struct ConnectionSlot {
    /// Its request has arrived.
    asked: Arc<AtomicBool>,
    since: Instant,
    task: AbortHandle,
}

impl ConnectionSlots {
    /// None where there is room for one more; else when there may be, unless a connection ends before. Where there is none, the oldest that has kept
    /// silent for a while is ended. So silent connections only crowd out one another. A probe waits in the kernel's queue for a moment, and is
    /// answered.
    fn make_room(&mut self) -> Option<Instant> {
        self.open.retain(|slot| !slot.task.is_finished());
        if self.open.len() < MOST_CONNECTIONS {
            return None;
        }
        let Some(at) = self.open.iter().position(|slot| !slot.asked.load(Ordering::Relaxed)) else {
            return Some(Instant::now() + LIFE);
        };
        let may_be_ended_at = self.open[at].since + SILENCE;
        if may_be_ended_at > Instant::now() {
            return Some(may_be_ended_at);
        }
        if let Some(slot) = self.open.remove(at) {
            tracing::debug!("a connection that asked for nothing made room for another one");
            slot.task.abort();
        }
        None
    }
}

/// Notes that the request has arrived.
fn noting(asked: &Arc<AtomicBool>, router: Router) -> Router {
    let asked = Arc::clone(asked);
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        asked.store(true, Ordering::Relaxed);
        next.run(request)
    }))
}

/// One connection, one request.
async fn answer(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(LONGEST_HEAD).max_headers(MOST_HEADERS);
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(LIFE, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection broke off"),
        Err(_) => tracing::debug!("a connection took too long"),
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

fn router(telemetry: Arc<Telemetry>, token: Option<Secret>) -> Router {
    let token = token.map(|token| digest(token.reveal()));
    // What the layer stands behind is guarded: the fallback, and every route that is added before it.
    Router::new()
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n") })
        .layer(middleware::from_fn_with_state(token, guard))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(telemetry)
}

/// The token, or, where none is configured, a peer on this machine.
async fn guard(
    State(token): State<Option<[u8; 32]>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match token {
        Some(token) if bearer(request.headers()).is_some_and(|given| same(&digest(given), &token)) => {}
        Some(_) => {
            let challenge = [(WWW_AUTHENTICATE, "Bearer realm=\"dinnerbell\"")];
            return (StatusCode::UNAUTHORIZED, challenge, "needs the token of http.token_file\n").into_response();
        }
        None if peer.ip().to_canonical().is_loopback() => {}
        None => {
            let text = "without http.token_file only this machine is served\n";
            return (StatusCode::FORBIDDEN, text).into_response();
        }
    }
    next.run(request).await
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Tokens are compared by their hashes: the comparison needs equal lengths, and a length is told by nothing then.
fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Compares in constant time.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    openssl::memcmp::eq(one, other)
}

/// The process lives: 200 unless the poll loop of the group's consumer stands still.
async fn healthz(State(telemetry): State<Arc<Telemetry>>) -> Response {
    match telemetry.stands_still() {
        None => (StatusCode::OK, [(CACHE_CONTROL, "no-store")], "ok\n").into_response(),
        Some(still) => {
            let text = format!("the poll loop has stood still for {} s\n", still.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, [(CACHE_CONTROL, "no-store")], text).into_response()
        }
    }
}

/// The instance does its work, or what is missing for that.
async fn readyz(State(telemetry): State<Arc<Telemetry>>) -> Response {
    let readiness = telemetry.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CACHE_CONTROL, "no-store")], Json(readiness)).into_response()
}

async fn metrics(State(telemetry): State<Arc<Telemetry>>, headers: HeaderMap) -> Response {
    let format = Format::asked_for(headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok()));
    match telemetry.exposition(format) {
        Ok(text) => {
            let headers = [(CONTENT_TYPE, format.media_type()), (CACHE_CONTROL, "no-store"), (VARY, "accept")];
            (headers, text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests;
