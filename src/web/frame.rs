//! What is around every page: who is signed in, where else to go, and what may be asked of the page.

use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse, Response};

use super::assets::Assets;
use super::auth::{Visitor, Way};
use super::filters;
use super::paths::root;
use super::refusal::Refusal;
use dinnerbell_postgres::errors::PostgresError;

/// The pages that every page leads to: the path as seen from the first one, an id, and a name.
pub const NAVIGATION: [(&str, &str, &str); 8] = [
    ("./", "now", "Now"),
    ("campaigns", "campaigns", "Campaigns"),
    ("clients", "clients", "Clients"),
    ("lanes", "lanes", "Lanes"),
    ("dead-letters", "dead-letters", "Dead letters"),
    ("preview", "preview", "Preview"),
    ("check", "check", "Check"),
    ("audit", "audit", "Audit"),
];

/// The frame of one page.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its style and script, and the way to the first page.
    pub assets: Assets,
    /// Who looks.
    pub visitor: Visitor,
    /// Where they are: one of the names in the navigation.
    pub at: &'static str,
    /// The event stream that keeps the page up to date, as seen from it; empty where it stays as it is.
    pub events: String,
}

impl Frame {
    /// The way to the first page.
    pub fn root(&self) -> &str {
        &self.assets.root
    }

    /// At this entry of the navigation.
    pub fn at(self, at: &'static str) -> Self {
        Self { at, ..self }
    }

    /// Kept up to date by this event stream.
    pub fn live(self, events: impl Into<String>) -> Self {
        Self { events: events.into(), ..self }
    }

    /// Whether there is a session to end.
    pub fn can_sign_out(&self) -> bool {
        self.visitor.way == Way::Session
    }

    /// A page that says why the ledger cannot be read.
    pub fn unread(self, error: &PostgresError) -> Response {
        self.failed(StatusCode::SERVICE_UNAVAILABLE, "The ledger cannot be read", &error.to_string())
    }

    /// A page that says what went wrong.
    pub fn failed(self, status: StatusCode, title: &str, text: &str) -> Response {
        let page = Problem { frame: self, title, text };
        with_status(status, html(&page))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Frame {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let visitor = parts.extensions.get::<Visitor>().cloned();
        let visitor = visitor.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "sign in first"))?;
        Ok(Self { assets: Assets::from(root(parts.uri.path())), visitor, at: "", events: String::new() })
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem<'a> {
    frame: Frame,
    title: &'a str,
    text: &'a str,
}

/// A template as an answer.
pub fn html(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// An answer with another status.
pub fn with_status(status: StatusCode, mut answer: Response) -> Response {
    *answer.status_mut() = status;
    answer
}
