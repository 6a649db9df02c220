//! What operators order on the page. Each order is a form that is sent by POST, carried out to its end, and answered by a page to go to.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use indicatif::ProgressBar;
use serde::Deserialize;

use crate::operator::{cancel, pause};
use crate::web::form::Signed;
use crate::web::frame::Frame;
use crate::web::paths::encoded;
use crate::web::site::Site;
use dinnerbell_postgres::errors::PostgresError;

/// How long the effect of a cancellation is waited for: the page says what it waits for beyond that.
const CANCEL: Duration = Duration::from_secs(10);
/// Most bytes of a reason.
const LONGEST_REASON: usize = 500;

/// A form that holds nothing else.
#[derive(Debug, Default, Deserialize)]
pub struct Nothing {}

/// Why all sending is to be paused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reason {
    reason: String,
}

/// Pauses all sending.
pub async fn pause(State(site): State<Arc<Site>>, frame: Frame, Signed(given): Signed<Reason>) -> Response {
    let reason = given.reason.trim();
    let reason = reason[..reason.floor_char_boundary(LONGEST_REASON)].to_owned();
    let (pool, by) = (site.feedback.clone(), frame.visitor.orders(&site.machine));
    let order = async move {
        let why = (!reason.is_empty()).then_some(reason.as_str());
        pause::pause(&pool, &by, why).await.map(|paused| paused.map(|_| ()))
    };
    done(&site, frame, order, "./").await
}

/// Lets sending go on.
pub async fn resume(State(site): State<Arc<Site>>, frame: Frame, Signed(Nothing {}): Signed<Nothing>) -> Response {
    let (pool, by) = (site.feedback.clone(), frame.visitor.orders(&site.machine));
    let order = async move { pause::resume(&pool, &by).await.map(|resumed| resumed.map(|_| ())) };
    done(&site, frame, order, "./").await
}

async fn done(
    site: &Site,
    frame: Frame,
    order: impl Future<Output = Result<Option<()>, PostgresError>> + Send + 'static,
    to: &str,
) -> Response {
    match site.orders.carry_out(order).await {
        Err(refusal) => frame.failed(refusal.status(), "Not done", refusal.text()),
        Ok(Err(error)) => frame.failed(StatusCode::SERVICE_UNAVAILABLE, "Not done", &error.to_string()),
        Ok(Ok(None)) => frame.failed(StatusCode::CONFLICT, "Not done", "No service has used this ledger yet."),
        Ok(Ok(Some(()))) => see(to),
    }
}

/// Cancels a campaign.
pub async fn cancel(
    State(site): State<Arc<Site>>,
    Path(adv_campaign_id): Path<String>,
    frame: Frame,
    Signed(Nothing {}): Signed<Nothing>,
) -> Response {
    let by = frame.visitor.orders(&site.machine);
    let back = format!("../{}", encoded(&adv_campaign_id));
    let request = cancel::Request { adv_campaign_id, by, timeout: CANCEL };
    let config = site.config.clone();
    let order = async move { cancel::cancel(&config, &request, &ProgressBar::hidden()).await };
    match site.orders.carry_out(order).await {
        Err(refusal) => frame.failed(refusal.status(), "Not cancelled", refusal.text()),
        Ok(Err(error)) => frame.failed(StatusCode::SERVICE_UNAVAILABLE, "Not cancelled", &error.to_string()),
        Ok(Ok(None)) => frame.failed(StatusCode::NOT_FOUND, "Not cancelled", "There is no such campaign."),
        Ok(Ok(Some(cancelled))) => match cancelled.waits_for {
            None => see(&back),
            Some(waits_for) => {
                let text = format!(
                    "The cancellation is recorded, and not yet in effect: {waits_for}. {} told so far.",
                    cancelled.told
                );
                frame.failed(StatusCode::ACCEPTED, "Not yet in effect", &text)
            }
        },
    }
}

/// To a page that shows what has become of it: asked for again, it orders nothing again.
pub fn see(to: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, to.to_owned())]).into_response()
}
