//! Who ordered what.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use crate::operator::audit;
use crate::operator::audit::{Entry, Filter};
use crate::operator::next_page;
use crate::web::filters;
use crate::web::form::given;
use crate::web::frame::{Frame, html};
use crate::web::site::Site;

/// Orders on a page.
const PAGE_SIZE: i64 = 100;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    who: String,
    after: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page<'a> {
    frame: Frame,
    entries: Vec<Entry>,
    asked: &'a Asked,
    next: Option<i64>,
}

/// The page.
pub async fn page(State(site): State<Arc<Site>>, frame: Frame, Query(asked): Query<Asked>) -> Response {
    let frame = frame.at("Audit");
    let who = given(&asked.who);
    let filter = Filter { since: None, who, after: asked.after.parse().ok(), limit: PAGE_SIZE };
    match audit::list(&site.feedback, &filter).await {
        Ok(entries) => {
            let next = next_page(&entries, PAGE_SIZE, |entry| entry.id);
            html(&Page { frame, entries, asked: &asked, next })
        }
        Err(error) => frame.unread(&error),
    }
}
