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
use crate::web::picture::counted;
use crate::web::site::Site;
use dinnerbell_core::telemetry::{Readiness, RoundStep, StepTimes};
use dinnerbell_postgres::errors::PostgresError;

/// After this long Kafka is asked again how far the lanes are behind.
const ASK_AGAIN: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "lanes_live.html")]
struct Live {
    lanes: Vec<LaneStatus>,
    instance: Readiness,
    steps: Vec<StepTimes>,
}

#[derive(Template)]
#[template(path = "lanes.html")]
struct Page {
    frame: Frame,
    live: String,
}

impl Live {
    fn in_state(&self, state: &str) -> usize {
        self.lanes.iter().filter(|lane| lane.state == state).count()
    }

    fn tone(&self) -> &'static str {
        match (self.in_state("halted") + self.in_state("held"), self.in_state("running") == self.lanes.len()) {
            (1.., _) => "bad",
            (0, true) => "good",
            (0, false) => "warn",
        }
    }

    /// The worst in a sentence.
    fn sentence(&self) -> String {
        let of = |count: usize| format!("{count} of {} lanes", self.lanes.len());
        let is = |count: usize| if count == 1 { "is" } else { "are" };
        match (self.in_state("halted"), self.in_state("held"), self.in_state("unowned"), self.lanes.len()) {
            (.., 0) => "No lane was taken over yet: an instance does that when it first runs.".to_owned(),
            (halted @ 1.., ..) => format!("{} {} halted.", of(halted), is(halted)),
            (_, held @ 1.., ..) => format!("{} {} held.", of(held), is(held)),
            (_, _, unowned @ 1.., _) => format!("Nobody owns {}.", of(unowned)),
            _ if self.in_state("paused") > 0 => "All sending is paused.".to_owned(),
            _ => "All lanes are running.".to_owned(),
        }
    }

    /// What is done in a step.
    fn done_in(&self, step: &RoundStep) -> &'static str {
        match step {
            RoundStep::Intake => "records are taken into the ledger",
            RoundStep::Audience => "a page of the audience is read",
            RoundStep::Copy => "the rows of a round are copied",
            RoundStep::Record => "a round is recorded in PostgreSQL",
            RoundStep::Publish => "a round is published in Kafka",
        }
    }

    fn states(&self) -> String {
        let states = counted(&self.lanes.iter().map(|lane| lane.state).collect::<Vec<_>>());
        if states.is_empty() { states } else { format!("{} lanes: {states}.", self.lanes.len()) }
    }
}

/// A time in milliseconds.
fn millis(time: &Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
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
    let (instance, steps) = (site.telemetry.readiness(), site.telemetry.step_times());
    Ok(Live { lanes, instance, steps }.render().unwrap_or_default())
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
