//! Lanes: who owns them, how far they are, and what must be done where one stands still.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
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

/// After this long Kafka is asked again how far the lanes are behind.
const ASK_AGAIN: Duration = Duration::from_secs(5);

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

/// The part of the page that changes. Now and then Kafka is asked for the lags; a page that is asked for shows what it told last.
pub async fn live(site: &Site) -> Result<String, PostgresError> {
    let is_old = site.lags().is_none_or(|(asked, _)| asked.elapsed() >= ASK_AGAIN);
    if is_old {
        let lanes = lanes::list_with_lag(&site.feedback, &site.config.kafka).await?;
        site.learn_lags(lanes.iter().map(|lane| (lane.lane, lane.lag)).collect());
    }
    text(site).await
}

async fn text(site: &Site) -> Result<String, PostgresError> {
    let mut lanes = lanes::list(&site.feedback).await?;
    if let Some((_, lags)) = site.lags() {
        lanes.iter_mut().for_each(|lane| lane.lag = lags.get(&lane.lane).copied().flatten());
    }
    Ok(Live { lanes, instance: site.telemetry.readiness() }.render().unwrap_or_default())
}

/// The page.
pub async fn page(State(site): State<Arc<Site>>, frame: Frame) -> Response {
    let frame = frame.at("Lanes").live("lanes/events");
    match text(&site).await {
        Ok(live) => html(&Page { frame, live }),
        Err(error) => frame.unread(&error),
    }
}

/// Its event stream.
pub async fn events(State(site): State<Arc<Site>>) -> Response {
    site.live.stream(Topic::Lanes)
}
