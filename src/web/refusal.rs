//! Why something is not answered as it was asked. It may be said to somebody who is not signed in, so it holds no data.

use askama::Template;
use axum::http::header::HeaderName;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};

use crate::web::problem::Problem;

/// A refusal.
#[derive(Debug, Clone)]
pub struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, HeaderValue)>,
    again: bool,
}

#[derive(Template)]
#[template(path = "again.html")]
struct Again;

impl Refusal {
    /// With a status, and a sentence that says what to do.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), header: None, again: false }
    }

    /// A page that asks for itself once more.
    pub fn again() -> Self {
        Self { again: true, ..Self::new(StatusCode::OK, "") }
    }

    /// With a header.
    pub fn with(self, name: HeaderName, value: impl ToString) -> Self {
        Self { header: HeaderValue::from_str(&value.to_string()).ok().map(|value| (name, value)), ..self }
    }

    /// The same for a program: as `application/problem+json`.
    pub fn for_program(self) -> Response {
        let mut answer = Problem::new(self.status, self.text).into_response();
        if let Some((name, value)) = self.header {
            answer.headers_mut().insert(name, value);
        }
        answer
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut answer = match self.again {
            true => Html(Again.render().unwrap_or_default()).into_response(),
            false => (self.status, format!("{}\n", self.text)).into_response(),
        };
        if let Some((name, value)) = self.header {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}
