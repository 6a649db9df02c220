//! Lanes: who owns them, how far they are, and what must be done where one stands still.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::now::lane_state;
use crate::operator::lanes;
use crate::operator::lanes::LaneStatus;
use crate::web::filters;
use crate::web::frame::{Frame, html};
use crate::web::live::Topic;
use crate::web::site::Site;
use dinnerbell_core::telemetry::Readiness;
use dinnerbell_postgres::errors::PostgresError;

#[derive(Template)]
#[template(path = "lanes_live.html")]
struct Live {
    lanes: Vec<LaneStatus>,
    instance: Readiness,
}

#[derive(Template)]
#[template(path = "lanes.html")]
struct Page {
    frame: Frame,
    live: String,
}

impl Live {
    fn halted(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.halted.is_some()).count()
    }
}

/// The part of the page that changes.
pub async fn live(site: &Site) -> Result<String, PostgresError> {
    let lanes = lanes::list(&site.feedback).await?;
    Ok(Live { lanes, instance: site.telemetry.readiness() }.render().unwrap_or_default())
}

/// The page.
pub async fn page(State(site): State<Arc<Site>>, frame: Frame) -> Response {
    let frame = frame.at("Lanes").live("lanes/events");
    match live(&site).await {
        Ok(live) => html(&Page { frame, live }),
        Err(error) => frame.failed(StatusCode::SERVICE_UNAVAILABLE, "The ledger cannot be read", &error.to_string()),
    }
}

/// Its event stream.
pub async fn events(State(site): State<Arc<Site>>) -> Response {
    site.live.stream(Topic::Lanes)
}
