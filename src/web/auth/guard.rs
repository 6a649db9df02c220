//! What stands before every answer but those of probes: who asks, whether they may, and whether it was they who asked.

use dinnerbell_core::model::number::Seconds;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tokio::time::timeout;

use super::keys::hmac;
use super::origin::is_foreign;
use super::session::Session;
use super::{Role, Visitor, Way, name};
use crate::web::headers::secured;
use crate::web::paths::{API, encoded, root};
use crate::web::peer::Peer;
use crate::web::refusal::Refusal;
use crate::web::site::Site;
use dinnerbell_core::model::audit::{Orderer, Origin};
use dinnerbell_core::text_table::hex;

/// How long an answer may take, event streams but for their beginning.
const PATIENCE: Duration = Duration::from_secs(60);
/// What needs no sign-in.
const OPEN: [&str; 2] = ["/sign-in", "/assets/"];
/// What is sent by POST and changes nothing: a viewer may.
const READING: [&str; 3] = ["/sign-in", "/sign-out", "/preview"];

/// Why somebody is not let in.
enum Stopped {
    /// Nobody knows who it is.
    Unknown,
    /// Not at all.
    Refused(Refusal),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Finds out who asks and answers them, or says why not. What comes behind finds the [`Visitor`] in the request, if there is one.
pub async fn guard(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_open = OPEN.iter().any(|path| request.uri().path().starts_with(path));
    let visitor = match admitted(&site, peer, &request) {
        Ok(visitor) => Some(visitor),
        Err(Stopped::Unknown) if is_open => None,
        Err(Stopped::Unknown) => return secured(asks_who(&request)),
        Err(Stopped::Refused(refusal)) => return secured(told(&request, refusal)),
    };
    if let Some(visitor) = visitor {
        if let Some(refused) = only_reads(&visitor, &request) {
            let by = if of_program(&request) { Origin::Api } else { Origin::Page };
            let by = Orderer { origin: by, ..visitor.orders(&site.machine) };
            site.orders.note_refused(&site.feedback, &by, without_client(request.uri().path())).await;
            return secured(told(&request, refused));
        }
        request.extensions_mut().insert(visitor.identity());
        request.extensions_mut().insert(visitor);
    }
    let is_program = of_program(&request);
    let answered = timeout(PATIENCE, next.run(request)).await;
    let late = Refusal::new(StatusCode::GATEWAY_TIMEOUT, "this took too long: try again in a moment");
    secured(answered.unwrap_or_else(|_| if is_program { late.for_program() } else { late.into_response() }))
}

/// A path as it may be logged and kept: it names no client.
fn without_client(path: &str) -> &str {
    const CLIENTS: &str = "/clients";
    path.find(CLIENTS).map_or(path, |at| &path[..at + CLIENTS.len()])
}

/// Whether a program asks, and no page.
fn of_program(request: &Request) -> bool {
    request.uri().path().strip_prefix(API).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A refusal, as anyone who asks can read it.
fn told(request: &Request, refusal: Refusal) -> Response {
    if of_program(request) { refusal.for_program() } else { refusal.into_response() }
}

fn admitted(site: &Site, peer: Peer, request: &Request) -> Result<Visitor, Stopped> {
    let headers = request.headers();
    // No page of somebody else can send a token.
    if let Some(token) = bearer(headers).filter(|_| site.keys.any()) {
        may_be_read(site, peer)?;
        return by_token(site, peer, headers, token);
    }
    let must_show = site.keys.any() || site.http().proxy.is_some();
    if !must_show && !is_local(peer, headers) {
        let text = "without http.token_file only this machine is served";
        return Err(Refusal::new(StatusCode::FORBIDDEN, text).into());
    }
    may_be_read(site, peer)?;
    if !site.hosts.know(headers) {
        let text = "this service is not known by that name: add it to http.hosts";
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, text).into());
    }
    if is_foreign(request.method(), headers, &site.hosts) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "another page sent this: it was not done").into());
    }
    if !must_show {
        return Ok(unsigned(site, "local", Role::Operator, Way::Local));
    }
    by_proxy(site, peer, headers).or_else(|| by_cookie(site, headers)).ok_or(Stopped::Unknown)
}

fn may_be_read(site: &Site, peer: Peer) -> Result<(), Refusal> {
    let text =
        "without TLS only this machine is served: set http.cert_file and http.key_file, or ask a proxy that speaks TLS";
    if site.may_answer(peer) { Ok(()) } else { Err(Refusal::new(StatusCode::FORBIDDEN, text)) }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn by_token(site: &Site, peer: Peer, headers: &HeaderMap, token: &str) -> Result<Visitor, Stopped> {
    let client = site.client(peer, headers);
    site.bearers.may_try(client).map_err(too_many)?;
    match site.keys.role_of(token) {
        Some(role) => Ok(unsigned(site, &format!("anyone who has the {}s' token", role.name()), role, Way::Bearer)),
        None => {
            site.bearers.was_wrong(client);
            Err(Stopped::Unknown)
        }
    }
}

/// They tried too often.
pub(super) fn too_many(wait: Duration) -> Refusal {
    let text = format!("too many wrong tokens: try again in {} s", wait.as_secs().max(1));
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, text).with(RETRY_AFTER, wait.as_secs().max(1))
}

/// On this machine, and not sent on from elsewhere.
fn is_local(peer: Peer, headers: &HeaderMap) -> bool {
    let sent_on = ["forwarded", "x-forwarded-for", "x-real-ip", "x-forwarded-host"];
    peer.is_this_machine() && !sent_on.iter().any(|header| headers.contains_key(*header))
}

fn by_proxy(site: &Site, peer: Peer, headers: &HeaderMap) -> Option<Visitor> {
    let proxy = site.http().proxy.as_ref().filter(|_| site.is_proxy(peer.address))?;
    // Given twice, one of them may be the browser's own.
    let mut given = headers.get_all(&proxy.header).iter();
    let (Some(said), None) = (given.next(), given.next()) else { return None };
    let name = name(str::from_utf8(said.as_bytes()).ok()?)?;
    Some(unsigned(site, &name, proxy.role, Way::Proxy))
}

fn by_cookie(site: &Site, headers: &HeaderMap) -> Option<Visitor> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut values = cookies.flat_map(|cookies| cookies.split("; ")).filter_map(|cookie| cookie.split_once('='));
    values.find_map(|(name, value)| {
        (name == site.cookie)
            .then(|| Session::open(value, &site.keys, Seconds::new(Timestamp::now().as_second())))
            .flatten()
    })
}

/// A visitor without a session: their forms are signed with the operators' token, which all instances have, or else by this instance alone.
fn unsigned(site: &Site, name: &str, role: Role, way: Way) -> Visitor {
    let message = format!("form {} {name}", role.name());
    let mac = match site.keys.of(Role::Operator) {
        Some(key) => key.sign(message.as_bytes()),
        None => hmac(site.own_key(), message.as_bytes()),
    };
    Visitor { name: name.to_owned(), role, way, form_token: hex(&mac) }
}

/// A viewer who orders.
fn only_reads(visitor: &Visitor, request: &Request) -> Option<Refusal> {
    let orders = !matches!(*request.method(), Method::GET | Method::HEAD) && !READING.contains(&request.uri().path());
    let text = "you may look, and not order: sign in with the operators' token for that";
    (orders && !visitor.is_operator()).then(|| Refusal::new(StatusCode::FORBIDDEN, text))
}

/// A browser is led to the sign-in; everybody else is told what is missing.
fn asks_who(request: &Request) -> Response {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_browser = *request.method() == Method::GET && text("accept").contains("text/html");
    if !is_browser {
        let challenge = Refusal::new(StatusCode::UNAUTHORIZED, "needs the token of http.token_file, or a sign-in");
        return told(request, challenge.with(WWW_AUTHENTICATE, "Bearer realm=\"dinnerbell\""));
    }
    // The cookie does not come along where a link leads from somewhere else: asked once more from here, it does.
    if text("sec-fetch-site") == "cross-site" {
        return Refusal::again().into_response();
    }
    let path = request.uri().path();
    let asked = request.uri().path_and_query().map_or("/", |asked| asked.as_str());
    let to = format!("{}sign-in?to={}", root(path), encoded(asked.trim_start_matches('/')));
    (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_kept_names_no_client() {
        let kept = ["/pause", "/clients/anna", "/api/v1/clients/anna/x", "/campaigns/a/cancel"].map(without_client);
        assert_eq!(kept, ["/pause", "/clients", "/api/v1/clients", "/campaigns/a/cancel"]);
    }
}
