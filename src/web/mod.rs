//! The page, for everybody who wants to know whether a campaign went out: served by every instance about the whole group.
//!
//! A request comes through [`auth::guard`], then to one of [`pages`], which are written by the templates in `templates/`. What changes is
//! read once a second for everybody who looks ([`live`]); what somebody orders is carried out to its end ([`ordering`]).

pub mod api;
pub mod assets;
pub mod auth;
pub mod filters;
pub mod form;
pub mod frame;
pub mod headers;
pub mod identity;
pub mod live;
pub mod ordering;
pub mod pages;
pub mod paths;
pub mod peer;
pub mod picture;
pub mod problem;
pub mod refusal;
pub mod site;
pub mod slots;

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tokio::sync::watch;

use assets::Assets;
use auth::{guard, sign_in};
use frame::Frame;
use live::{News, Topic};
use pages::{audit, campaign, campaigns, check, client, dead_letters, lanes, now, orders, preview};
use refusal::Refusal;
use site::Site;
use slots::Slot;

/// Most bytes of what a form sends.
const LARGEST_FORM: usize = 64 * 1024;

/// Most bytes of a campaign that is pasted: as a form it takes up to three times as many as a record may have.
const LARGEST_PREVIEW: usize = 3 * 1024 * 1024 + LARGEST_FORM;

/// All routes, each behind the guard.
pub fn router(site: Arc<Site>) -> Router {
    let streams = Router::new()
        .route("/events", get(now::events))
        .route("/lanes/events", get(lanes::events))
        .route("/campaigns/{id}/events", get(campaign::events))
        .layer(middleware::from_fn(one_stream));
    let orders = Router::new()
        .route("/pause", post(orders::pause))
        .route("/resume", post(orders::resume))
        .route("/campaigns/{id}/cancel", post(orders::cancel))
        .route("/dead-letters/replay", post(dead_letters::again))
        .route("/check/run", post(check::run));
    let api = api::Api::new(Arc::clone(&site));
    Router::new()
        .nest_service(paths::API, api::router(Arc::new(api)))
        .route("/", get(now::page))
        .route("/campaigns", get(campaigns::page))
        .route("/campaigns/{id}", get(campaign::page))
        .route("/campaigns/{id}/not-told.csv", get(campaign::csv))
        .route("/clients", get(client::form))
        .route("/clients/{id}", get(client::page))
        .route("/lanes", get(lanes::page))
        .route("/dead-letters", get(dead_letters::list))
        .route("/dead-letters/{id}", get(dead_letters::one))
        .route("/check", get(check::page))
        .route("/audit", get(audit::page))
        .merge(orders)
        .merge(streams)
        .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/assets/{name}", get(assets::asset))
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .merge(
            Router::new()
                .route("/preview", get(preview::form).post(preview::look))
                .layer(DefaultBodyLimit::max(LARGEST_PREVIEW)),
        )
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard::guard))
        .with_state(site)
}

/// Keeps what is looked at up to date, and takes up tokens that change, until it is dropped.
pub async fn keep(site: &Arc<Site>, stop: watch::Receiver<bool>) -> Infallible {
    let living = site.live.keep(stop, async |topic| news(site, topic).await);
    tokio::join!(site.keys.follow(), living).0
}

async fn news(site: &Site, topic: &Topic) -> News {
    let read = match topic {
        Topic::Now => now::live(site).await,
        Topic::Lanes => lanes::live(site).await,
        Topic::Campaign(id) => campaign::live(site, id).await,
    };
    let version = Assets::here().version;
    match read {
        Ok(html) => News { version, html: Some(html), problem: None },
        Err(error) => News { version, html: None, problem: Some(format!("What you see is not up to date: {error}")) },
    }
}

/// An event stream gives the slot of a page back, and takes one of its own.
async fn one_stream(Extension(slot): Extension<Arc<Slot>>, request: Request, next: middleware::Next) -> Response {
    match slot.takes_stream() {
        true => next.run(request).await,
        false => {
            let text = "too many pages are kept up to date: this one stays as it is";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn nowhere(frame: Frame) -> Response {
    let text = "There is no such page. The address may be wrong, or what it showed was removed after its time.";
    frame.failed(StatusCode::NOT_FOUND, "Not found", text)
}
