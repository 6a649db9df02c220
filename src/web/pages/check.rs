//! Everything that the service needs, looked at now: the findings come as they are made.

use std::convert::Infallible;
use std::sync::Arc;

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::orders::Nothing;
use crate::doctor;
use crate::doctor::{Finding, Listener, Status};
use crate::operator::audit;
use crate::operator::audit::Entry;
use crate::web::filters;
use crate::web::form::Signed;
use crate::web::frame::{Frame, html};
use crate::web::site::Site;

/// Most findings that wait to be written.
const WAITING: usize = 256;
/// Stands in the page where the findings go.
const HERE: &str = "<!-- findings -->";

#[derive(Template)]
#[template(path = "check.html")]
struct Page<'a> {
    frame: Frame,
    configuration: &'a str,
    version: &'static str,
    verified: Option<Entry>,
    running: bool,
}

#[derive(Template)]
#[template(path = "finding.html")]
struct One<'a> {
    finding: &'a Finding,
}

impl Page<'_> {
    /// How the outcome of the last comparison is coloured.
    fn tone(&self, verified: &Entry) -> &'static str {
        match verified.details.split([':', ' ']).next() {
            Some("equal") => "good",
            Some("different") => "bad",
            _ => "warn",
        }
    }
}

/// The page; a ledger that cannot be read leaves out when both sinks were compared, for what is checked says why.
async fn page_of(site: &Site, frame: Frame, running: bool) -> Page<'_> {
    let version = env!("CARGO_PKG_VERSION");
    let verified = audit::last_verified(&site.feedback).await.unwrap_or_default();
    Page { frame: frame.at("Check"), configuration: &site.configuration, version, verified, running }
}

/// The page, before anything was looked at.
pub async fn page(State(site): State<Arc<Site>>, frame: Frame) -> Response {
    html(&page_of(&site, frame, false).await)
}

/// Looks, and writes each finding as it is made. One look at a time.
pub async fn run(State(site): State<Arc<Site>>, frame: Frame, Signed(Nothing {}): Signed<Nothing>) -> Response {
    let Ok(turn) = Arc::clone(&site.checking).try_lock_owned() else {
        let text = "Somebody has this instance checked now: try again in a few seconds.";
        return frame.failed(StatusCode::CONFLICT, "Not now", text);
    };
    let text = page_of(&site, frame, true).await.render().unwrap_or_default();
    let (before, after) = text.split_once(HERE).unwrap_or((&text, ""));
    let (sender, receiver) = mpsc::channel::<String>(WAITING);
    let heard = sender.clone();
    // Where nobody reads fast enough, a finding is left out; its status still counts in the summary.
    let listener: Listener =
        Arc::new(move |finding| drop(heard.try_send(One { finding }.render().unwrap_or_default())));
    let looking = Arc::clone(&site);
    let look = async move {
        let report = doctor::examine(&looking.config, listener).await;
        let count = |status| report.findings.iter().filter(|finding| finding.status == status).count();
        let (errors, warnings) = (count(Status::Error), count(Status::Warning));
        let tone = if errors > 0 {
            "bad"
        } else if warnings > 0 {
            "warn"
        } else {
            "good"
        };
        let summary = format!("<li class=\"sentence {tone}\" id=\"summary\">{errors} errors, {warnings} warnings</li>");
        let _ = sender.send(summary).await;
        drop(turn);
    };
    if let Err(refusal) = site.orders.begin(look).await {
        return refusal.into_response();
    }
    let findings = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let all = stream::iter([before.to_owned()]).chain(findings).chain(stream::iter([after.to_owned()]));
    let body = Body::from_stream(all.map(|text| Ok::<_, Infallible>(Bytes::from(text))));
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], [("x-accel-buffering", "no")], body).into_response()
}
