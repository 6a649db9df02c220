//! One campaign: what happened to it, how many were told and when, and who was not.

use std::sync::Arc;

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde::Deserialize;

use super::now::{not_told, percent, tone, will_not_finish};
use crate::operator::campaigns;
use crate::operator::campaigns::{Details, Moment};
use crate::operator::csv;
use crate::operator::not_told::{NotToldPage, Walk};
use crate::operator::told::{Answer, ToldError, told};
use crate::operator::{not_told as untold, pause};
use crate::web::filters;
use crate::web::filters::thousands;
use crate::web::frame::{Frame, html};
use crate::web::live::Topic;
use crate::web::paths::encoded;
use crate::web::picture::{Rising, SIZE, rising};
use crate::web::site::Site;
use dinnerbell_postgres::errors::PostgresError;

/// Most of those who were not told on a page.
const PAGE_SIZE: usize = 50;
/// Most of the audience that are compared for it.
const COMPARED: usize = 20_000;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    client: String,
    not_told: String,
    after: String,
}

#[derive(Template)]
#[template(path = "campaign_live.html")]
struct Live {
    campaign: Details,
    picture: Option<Rising>,
    paused: bool,
}

#[derive(Template)]
#[template(path = "campaign.html")]
struct Page<'a> {
    frame: Frame,
    live: String,
    id: &'a str,
    asked: &'a Asked,
    may_cancel: bool,
    remaining: Option<i64>,
    answer: Option<Answer>,
    untold: Option<NotToldPage>,
    problem: String,
}

impl Live {
    /// What is to be said first.
    fn sentence(&self) -> String {
        let summary = &self.campaign.summary;
        let told = thousands(&summary.told.to_string());
        let left = summary.remaining.map(|left| thousands(&left.to_string()));
        match (summary.state.as_str(), left) {
            _ if summary.reached_nobody => "It reached nobody: nobody favours the restaurant.".to_owned(),
            ("scheduled", _) => "It waits for its start.".to_owned(),
            ("active", Some(left)) => format!("It is being told: {told} told, about {left} left."),
            ("active", None) => format!("It is being told: {told} told."),
            ("complete", _) => format!("Its whole audience was told: {told}. Newcomers are told until its end."),
            ("cancelled", _) => format!("It was cancelled. {told} had been told."),
            ("expired", _) => format!("Its end came before its audience was told: {told} told."),
            _ => format!("It is over: {told} told."),
        }
    }

    /// How a moment is drawn: one that is yet to come is hollow.
    fn look_of(&self, moment: &Moment) -> &'static str {
        match (moment.what, self.campaign.summary.state.as_str()) {
            ("start", "scheduled") | ("end", "scheduled" | "active" | "complete") => "ahead",
            ("complete", _) => "good",
            ("cancelled" | "withdrawn", _) => "bad",
            _ => "",
        }
    }

    /// What happened, in the words of a reader.
    fn said(&self, what: &str) -> &'static str {
        match what {
            "received" => "Received",
            "updated" => "Updated",
            "start" => "Start of the offer",
            "first_draft" => "First client told",
            "main_pass_over" => "Last of the audience recorded",
            "complete" => "Whole audience told",
            "last_draft" if self.campaign.summary.state == "active" => "Latest client told",
            "last_draft" => "Last client told",
            "cancelled" => "Cancelled",
            "withdrawn" => "Drafts withdrawn",
            "end" => "End of the offer",
            _ => "",
        }
    }
}

async fn read(site: &Site, id: &str) -> Result<Option<Live>, PostgresError> {
    let (campaign, pause) =
        tokio::try_join!(campaigns::show(&site.feedback, &site.audiences, id), pause::current(&site.feedback))?;
    Ok(campaign.map(|campaign| Live { picture: rising(&campaign.told_over_time), campaign, paused: pause.is_some() }))
}

/// The part of the page that changes.
pub async fn live(site: &Site, id: &str) -> Result<String, PostgresError> {
    Ok(read(site, id).await?.and_then(|live| live.render().ok()).unwrap_or_default())
}

/// The page.
pub async fn page(
    State(site): State<Arc<Site>>,
    frame: Frame,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let events = format!("{}/events", encoded(&id));
    let frame = frame.at("Campaigns").live(&events);
    let live = match read(&site, &id).await {
        Ok(Some(live)) => live,
        Ok(None) => {
            let text = format!("There is no campaign {id}: it may not have arrived, or was removed after its time.");
            return frame.failed(StatusCode::NOT_FOUND, "Not found", &text);
        }
        Err(error) => return frame.unread(&error),
    };
    let may_cancel = frame.visitor.is_operator() && live.campaign.summary.state != "cancelled";
    let mut page = Page {
        live: live.render().unwrap_or_default(),
        remaining: live.campaign.summary.remaining,
        frame,
        id: &id,
        asked: &asked,
        may_cancel,
        answer: None,
        untold: None,
        problem: String::new(),
    };
    if let Err(error) = page.look(&site).await {
        page.problem = error.to_string();
    }
    html(&page)
}

impl Page<'_> {
    /// Answers what was asked besides.
    async fn look(&mut self, site: &Site) -> Result<(), ToldError> {
        let Self { id, asked, .. } = *self;
        if !asked.client.is_empty() {
            self.answer = told(&site.config, &site.audiences, site.feedback.clone(), id, &asked.client).await?;
        }
        if !asked.not_told.is_empty() {
            let after = Some(asked.after.clone()).filter(|after| !after.is_empty());
            if let Some(mut walk) = Walk::begin(&site.config, site.feedback.clone(), id, after).await? {
                self.untold = Some(untold::page(&mut walk, PAGE_SIZE, COMPARED).await?);
            }
        }
        Ok(())
    }
}

/// Its event stream.
pub async fn events(State(site): State<Arc<Site>>, Path(id): Path<String>) -> Response {
    site.live.stream(Topic::Campaign(id))
}

/// Everybody who was not told, with the reason. Lines come as they are found; where it breaks off, so does the answer.
pub async fn csv(State(site): State<Arc<Site>>, frame: Frame, Path(id): Path<String>) -> Response {
    let walk = match Walk::begin(&site.config, site.feedback.clone(), &id, None).await {
        Ok(Some(walk)) => walk,
        Ok(None) => return frame.failed(StatusCode::NOT_FOUND, "Not found", "There is no such campaign."),
        Err(error) => return frame.failed(StatusCode::SERVICE_UNAVAILABLE, "Not known", &error.to_string()),
    };
    let lines = stream::unfold(Some(walk), |walk| async {
        let mut walk = walk?;
        match walk.step().await {
            Ok(Some(page)) => {
                let line = |client: &untold::NotToldClient| csv::line([&client.client_id, client.reason.name()]);
                let text: String = page.clients.iter().map(line).collect();
                Some((Ok(Bytes::from(text)), Some(walk)))
            }
            Ok(None) => None,
            Err(error) => Some((Err(std::io::Error::other(error.to_string())), None)),
        }
    });
    let head = stream::iter([Ok(Bytes::from(csv::line(["client_id", "reason"])))]);
    let headers =
        [(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, "attachment; filename=\"not-told.csv\"")];
    (headers, Body::from_stream(head.chain(lines))).into_response()
}
