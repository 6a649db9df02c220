//! One connection: with TLS or without, of a probe or of a page.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::PROBES;
use super::tls::Certificate;
use crate::web::peer::Peer;
use crate::web::slots::{Slot, Slots};

/// How long the head of a request may take; so long a page's connection may keep silent between two requests too.
const HEAD: Duration = Duration::from_secs(1);
/// How long a probe's connection lives, whatever it does.
pub(super) const LIFE: Duration = Duration::from_secs(10);
/// How long a page's connection lives: longer than an event stream.
const PAGE_LIFE: Duration = Duration::from_secs(330);
/// How long its last answer may take then.
const LAST_ANSWER: Duration = Duration::from_secs(40);
/// Most bytes of a request's head.
const LONGEST_HEAD: usize = 16 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// The first byte of anyone who speaks TLS: a record of a handshake.
const HANDSHAKE: u8 = 22;

/// What every connection is answered with.
#[derive(Clone)]
pub(super) struct Entrance {
    pub router: Router,
    pub slots: Slots,
    pub certificate: Option<Certificate>,
}

/// Answers one connection to its end. With a certificate, those that speak TLS are answered with it; others can ask for probes alone.
pub(super) async fn answer(stream: TcpStream, peer: SocketAddr, entrance: Entrance, slot: Arc<Slot>) {
    let Entrance { router, certificate, .. } = entrance;
    let (address, must_encrypt) = (peer.ip(), certificate.is_some());
    let Some(certificate) = certificate else {
        return converse(stream, router, Peer { address, encrypted: false }, slot, must_encrypt).await;
    };
    let mut first = [0];
    match timeout(HEAD, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first == [HANDSHAKE] => match timeout(LIFE, certificate.accept(stream)).await {
            Ok(Ok(stream)) => converse(stream, router, Peer { address, encrypted: true }, slot, must_encrypt).await,
            Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
            Err(_) => tracing::debug!("a handshake took too long"),
        },
        Ok(Ok(1)) => converse(stream, router, Peer { address, encrypted: false }, slot, must_encrypt).await,
        _ => tracing::debug!("a connection said nothing"),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    peer: Peer,
    slot: Arc<Slot>,
    must_encrypt: bool,
) {
    let own = Arc::clone(&slot);
    let router = router.layer(middleware::from_fn(move |request: Request, next: Next| {
        admit(Arc::clone(&own), peer, must_encrypt, request, next)
    }));
    let router = router.layer(Extension(peer)).layer(Extension(Arc::clone(&slot)));
    let mut http = http1::Builder::new();
    http.max_buf_size(LONGEST_HEAD).max_headers(MAX_HEADERS);
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = &mut served => Some(ended),
        () = outlives(&slot) => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None if slot.is_page() => {
            served.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, served).await
        }
        None => return tracing::debug!("a connection took too long"),
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// Completes when a connection has lived as long as it may.
async fn outlives(slot: &Slot) {
    sleep(LIFE).await;
    if slot.is_page() {
        sleep(PAGE_LIFE - LIFE).await;
    }
}

/// A probe is answered, and its connection ends. A page needs a slot, and TLS where there is a certificate.
async fn admit(slot: Arc<Slot>, peer: Peer, must_encrypt: bool, request: Request, next: Next) -> Response {
    slot.asked();
    let is_probe = PROBES.contains(&request.uri().path());
    let answer = if is_probe {
        next.run(request).await
    } else if must_encrypt && !peer.encrypted {
        (StatusCode::FORBIDDEN, "this is served with TLS: ask with https://\n").into_response()
    } else if slot.takes_page().await {
        return next.run(request).await;
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "all slots of pages are taken: try again in a moment\n").into_response()
    };
    let mut answer = answer;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}
