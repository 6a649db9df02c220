//! One client: the last campaigns of the restaurants that they favour, and those that told them.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::orders::see;
use crate::operator::told::{ClientHistory, history};
use crate::web::filters;
use crate::web::frame::{Frame, html};
use crate::web::paths::encoded;
use crate::web::site::Site;

/// Campaigns that are looked at for a page.
const LOOKED_AT: usize = 1_000;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    client: String,
    after: String,
}

#[derive(Template)]
#[template(path = "client.html")]
struct Page<'a> {
    frame: Frame,
    id: &'a str,
    history: Option<ClientHistory>,
}

/// The form; with an id, the page of that client.
pub async fn form(frame: Frame, Query(asked): Query<Asked>) -> Response {
    match asked.client.as_str() {
        "" => html(&Page { frame: frame.at("Clients"), id: "", history: None }),
        client => see(&format!("clients/{}", encoded(client))),
    }
}

/// The page.
pub async fn page(
    State(site): State<Arc<Site>>,
    frame: Frame,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let frame = frame.at("Clients");
    let after = Some(asked.after.as_str()).filter(|after| !after.is_empty());
    match history(&site.config, &site.audiences, site.feedback.clone(), &id, after, LOOKED_AT).await {
        Ok(history) => html(&Page { frame, id: &id, history: Some(history) }),
        Err(error) => frame.failed(StatusCode::SERVICE_UNAVAILABLE, "Not known", &error.to_string()),
    }
}
