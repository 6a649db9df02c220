//! Signing in and out: a token and a name become a cookie.

use dinnerbell_core::model::number::Seconds;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, Request, State};
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use jiff::Timestamp;
use serde::Deserialize;

use super::guard::too_many;
use super::session::{LASTS, Session};
use super::{Role, Visitor, name};
use crate::web::assets::Assets;
use crate::web::frame::{html, with_status};
use crate::web::peer::Peer;
use crate::web::refusal::Refusal;
use crate::web::site::Site;
use crate::web::slots::Slot;
use dinnerbell_core::model::audit::{Orderer, Origin};

/// What the address of the form may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The page that was asked for, without its first slash.
    to: String,
    /// A secret that signs in once.
    once: Option<String>,
}

/// What the form sends.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct Given {
    name: String,
    token: String,
    to: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    assets: Assets,
    to: &'a str,
    name: &'a str,
    problem: &'a str,
}

/// The form. With a secret that signs in once, there is nothing to fill in.
pub async fn form(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let once = asked.once.as_deref().filter(|secret| site.is_admitted(secret));
    match once {
        Some(_) => begin(&site, peer, &headers, "visitor", Role::Operator, "").await,
        None => html(&SignIn { assets: Assets::here(), to: &asked.to, name: "", problem: "" }),
    }
}

/// Looks at name and token, and sets the cookie.
pub async fn sign_in(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    Extension(slot): Extension<Arc<Slot>>,
    request: Request,
) -> Response {
    let Some(_slot) = slot.sign_in() else {
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "others sign in: try again in a moment").into_response();
    };
    let headers = request.headers().clone();
    let given = match read(request).await {
        Ok(given) => given,
        Err(refusal) => return refusal.into_response(),
    };
    let client = site.client(peer, &headers);
    if let Err(wait) = site.sign_ins.may_try(client) {
        return too_many(wait).into_response();
    }
    let again = |status, problem| {
        let page = SignIn { assets: Assets::here(), to: &given.to, name: &given.name, problem };
        with_status(status, html(&page))
    };
    let Some(name) = name(&given.name) else {
        return again(StatusCode::BAD_REQUEST, "Say a name of at most 64 characters: it is kept with each order.");
    };
    match site.keys.role_of(given.token.trim()) {
        Some(role) => begin(&site, peer, &headers, &name, role, &given.to).await,
        None => {
            site.sign_ins.was_wrong(client);
            again(StatusCode::FORBIDDEN, "This is no token of this service.")
        }
    }
}

/// How long the few bytes of the form may take: anyone who sends them is not known yet.
const FORM: std::time::Duration = std::time::Duration::from_secs(5);

async fn read(request: Request) -> Result<Given, Refusal> {
    use axum::extract::FromRequest;
    let reading = Form::<Given>::from_request(request, &());
    match tokio::time::timeout(FORM, reading).await {
        Ok(Ok(Form(given))) => Ok(given),
        Ok(Err(_)) => Err(Refusal::new(StatusCode::BAD_REQUEST, "this is not what the form sends")),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the form did not come in time")),
    }
}

async fn begin(site: &Arc<Site>, peer: Peer, headers: &HeaderMap, name: &str, role: Role, to: &str) -> Response {
    let session = Session { name: name.to_owned(), role, since: Seconds::new(Timestamp::now().as_second()) };
    let Some(value) = session.seal(&site.keys) else {
        return Refusal::new(StatusCode::FORBIDDEN, "there is no token that could sign you in").into_response();
    };
    let by = Orderer { who: name.to_owned(), by: "page".to_owned(), origin: Origin::Page, host: site.machine.clone() };
    site.orders.note_signed_in(&site.feedback, &by, role).await;
    let secure = if site.is_encrypted(peer, headers) { "; Secure" } else { "" };
    // Without a path, it is that of this page: whatever stands before it.
    let cookie = format!("{}={value}; Max-Age={LASTS}; HttpOnly; SameSite=Strict{secure}", site.cookie);
    let to = if to.is_ascii() && !to.contains(|c: char| c.is_ascii_control()) { to } else { "" };
    (StatusCode::SEE_OTHER, [(LOCATION, format!("./{to}")), (SET_COOKIE, cookie)]).into_response()
}

/// Ends the session of this browser.
pub async fn sign_out(
    State(site): State<Arc<Site>>,
    visitor: Option<Extension<Visitor>>,
    Form(given): Form<Signed>,
) -> Response {
    if visitor.is_none_or(|Extension(visitor)| !visitor.has_signed(&given.form_token)) {
        return Refusal::new(StatusCode::FORBIDDEN, "this form is from an earlier sign-in: open the page again")
            .into_response();
    }
    let cookie = format!("{}=; Max-Age=0; HttpOnly; SameSite=Strict", site.cookie);
    (StatusCode::SEE_OTHER, [(LOCATION, "./sign-in".to_owned()), (SET_COOKIE, cookie)]).into_response()
}

/// A form that holds nothing else.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Signed {
    form_token: String,
}
