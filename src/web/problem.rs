//! What is answered where something fails: RFC 9457.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::operator::replay::ReplayError;
use crate::operator::told::ToldError;
use dinnerbell_core::ports::failure::Failure;
use dinnerbell_postgres::errors::PostgresError;

/// Why something is not answered as it was asked.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says it.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, and what would be right.
    detail: String,
}

impl Problem {
    /// With a status, and a sentence that says what to do.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into() }
    }

    /// What was sent breaks a rule.
    pub fn of_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// What is asked for is not there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// A server failed: it may pass, or somebody has to mend it.
    fn of_server(error: &impl Failure) -> Self {
        let status =
            if error.is_transient() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (status, Json(self)).into_response();
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        answer
    }
}

impl From<PostgresError> for Problem {
    fn from(error: PostgresError) -> Self {
        Self::of_server(&error)
    }
}

impl From<ToldError> for Problem {
    fn from(error: ToldError) -> Self {
        match error {
            ToldError::Database(error) => Self::of_server(&error),
            ToldError::Audience(error) => Self::of_server(&error),
        }
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Kafka(error) => Self::of_server(&error),
            ReplayError::Database(error) => Self::of_server(&error),
            ReplayError::Refused(why) => Self::new(StatusCode::CONFLICT, why),
        }
    }
}
