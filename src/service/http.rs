//! HTTP: `/healthz`, `/readyz` and `/metrics` are open and hold no personal data; everything else is the page ([`crate::web`]), which
//! asks who somebody is.
//!
//! A connection must send its request within a second. It has a probe's slot until its request is read: then a probe is answered, and the
//! connection ends; one that asks for a page gives the slot back, and takes one of those of pages. Where as many probes are open as may be,
//! the one that has kept silent longest makes room. So neither silent connections nor open pages take a probe's slot away, and nobody who
//! reaches the port can grow the memory.

mod connection;
pub mod tls;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::web;
use crate::web::site::Site;
use crate::web::slots::Slot;
use connection::{Entrance, LIFE, answer};
use dinnerbell_config as config;
use dinnerbell_core::shutdown::stopped;
use dinnerbell_core::telemetry::{Format, Telemetry};
use tls::{Certificate, TlsError};

/// Most connections of probes at once; where all of them are being answered, further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may keep silent though others wait for its slot: a probe asks at once, even on a busy machine.
const SILENCE: Duration = Duration::from_millis(200);
/// How long answers under way may take when the service stops.
const DRAIN: Duration = Duration::from_millis(500);
/// How long it is waited after the system refused a connection, for instance since files ran out.
const AFTER_REFUSAL: Duration = Duration::from_millis(200);
/// What is open to everybody.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

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
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A port that is held.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    certificate: Option<Certificate>,
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
    let certificate = config.tls.clone().map(Certificate::read).transpose()?;
    let refused = |source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => HttpError::AddressInUse { listen },
        _ => HttpError::Refused { listen, source },
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok(Bound { listener, address, certificate })
}

/// Serves until the stop, then lets answers under way finish for half a second. Stop it last: while lanes finish their rounds, `/readyz` says
/// that the service is stopping.
pub async fn serve(bound: Bound, telemetry: Arc<Telemetry>, site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    let Bound { listener, address, certificate } = bound;
    site.says_where(address, certificate.is_some());
    let router = router(telemetry, Arc::clone(&site));
    let entrance = Entrance { router, slots: site.slots.clone(), certificate: certificate.clone() };
    // Boxed: what is read for the page is a large future, and most instances serve no page.
    let keeping = Box::pin(web::keep(&site, stop.clone()));
    let following = async {
        match certificate {
            Some(certificate) => certificate.follow().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = accept(listener, &entrance, &mut stop) => {}
        never = following => match never {},
        never = keeping => match never {},
    }
}

async fn accept(listener: TcpListener, entrance: &Entrance, stop: &mut watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut probes = ConnectionSlots::default();
    loop {
        let full_until = probes.make_room();
        tokio::select! {
            biased;
            () = stopped(stop) => break,
            Some(_) = connections.join_next() => {}
            () = sleep_until(full_until.unwrap_or_else(Instant::now)), if full_until.is_some() => {}
            accepted = listener.accept(), if full_until.is_none() => match accepted {
                Ok((stream, peer)) => {
                    let slot = Arc::new(entrance.slots.connection());
                    let task = connections.spawn(answer(stream, peer, entrance.clone(), Arc::clone(&slot)));
                    probes.open.push_back(ConnectionSlot { slot, since: Instant::now(), task });
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

/// The connections that have not asked for a page, the oldest first.
#[derive(Debug, Default)]
struct ConnectionSlots {
    open: VecDeque<ConnectionSlot>,
}

#[derive(Debug)]
struct ConnectionSlot {
    slot: Arc<Slot>,
    since: Instant,
    task: AbortHandle,
}

impl ConnectionSlots {
    /// None where there is room for one more; else when there may be, unless a connection ends before. Where there is none, the oldest that has kept
    /// silent for a while is ended. So silent connections only crowd out one another. A probe waits in the kernel's queue for a moment, and is
    /// answered.
    fn make_room(&mut self) -> Option<Instant> {
        self.open.retain(|probe| !probe.task.is_finished() && !probe.slot.is_page());
        if self.open.len() < MAX_CONNECTIONS {
            return None;
        }
        let Some(at) = self.open.iter().position(|probe| !probe.slot.has_asked()) else {
            return Some(Instant::now() + LIFE);
        };
        let may_be_ended_at = self.open[at].since + SILENCE;
        if may_be_ended_at > Instant::now() {
            return Some(may_be_ended_at);
        }
        if let Some(probe) = self.open.remove(at) {
            tracing::debug!("a connection that asked for nothing made room for another one");
            probe.task.abort();
        }
        None
    }
}

fn router(telemetry: Arc<Telemetry>, site: Arc<Site>) -> Router {
    let [health, ready, metered] = PROBES;
    web::router(site).merge(
        Router::new()
            .route(health, get(healthz))
            .route(ready, get(readyz))
            .route(metered, get(metrics))
            .with_state(telemetry),
    )
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
