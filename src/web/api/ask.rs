//! What is asked, and by whom: read from a request, or refused as a problem.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};

use crate::operator::dead_letters;
use crate::operator::dead_letters::WHOLE_RECORD;
use crate::web::identity::Identity;
use crate::web::problem::Problem;
use dinnerbell_core::model::input::field_names;
use dinnerbell_core::model::number::{Lane, Seconds};

/// Who asks.
pub struct Caller(pub Identity);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let unknown = || Problem::new(StatusCode::UNAUTHORIZED, "nobody knows who asks: send a token");
        parts.extensions.get::<Identity>().cloned().map(Self).ok_or_else(unknown)
    }
}

/// The query of the address.
pub struct Ask<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Ask<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|refused| Problem::of_request(refused.body_text()))
    }
}

/// What stands in the path.
pub struct Which<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Which<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(|refused| Problem::of_request(refused.body_text()))
    }
}

/// A body of JSON; nothing at all stands for an empty object.
pub struct Sent<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        });
        let refused = |refused: BytesRejection| Problem::new(refused.status(), refused.body_text());
        let body = Bytes::from_request(request, state).await.map_err(refused)?;
        if !body.is_empty() && !is_json {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON, as application/json"));
        }
        let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(body).map(Self).map_err(|error| Problem::of_request(error.to_string()))
    }
}

/// Which campaigns are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CampaignQuery {
    /// Only those in one of these states, separated by commas.
    pub state: Option<String>,
    /// Only those of this restaurant.
    pub restaurant: Option<String>,
    /// Only those of this owner.
    pub owner: Option<String>,
    /// Only those that hold this text, in whatever case: in their id, restaurant, owner or content.
    pub search: Option<String>,
    /// Only those received then or later: RFC 3339 or epoch seconds.
    pub since: Option<String>,
    /// Only those received before: RFC 3339 or epoch seconds.
    pub until: Option<String>,
    /// How many at most, 1 to 1000.
    pub limit: Option<u32>,
    /// Only those that come after this campaign: `next` of the page before.
    pub after: Option<String>,
}

/// Which of those who were not told are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NotToldQuery {
    /// How many at most, 1 to 10000; unusable ids come in addition with the last page.
    pub limit: Option<u32>,
    /// Only those behind this client: `next` of the page before.
    pub after: Option<String>,
}

/// Who is asked about.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ToldQuery {
    /// The client's id.
    pub client: String,
}

/// How many campaigns are looked at for a client.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClientQuery {
    /// How many campaigns to look at, those that were received last first, 1 to 20000.
    pub last: Option<u32>,
    /// Look at those that come after this campaign: `looked_at.next` of the page before.
    pub after: Option<String>,
}

/// Which dead letters are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadLetterQuery {
    /// Only those that arrived in this lane.
    #[param(value_type = Option<i32>)]
    pub lane: Option<Lane>,
    /// Only those that break a rule of this field; `record`: of no single field.
    pub reason_field: Option<String>,
    /// Only those that arrived then or later: RFC 3339 or epoch seconds.
    pub since: Option<String>,
    /// Only those that were not replayed, those in doubt included.
    pub not_replayed: Option<bool>,
    /// How many at most, 1 to 1000.
    pub limit: Option<u32>,
    /// Only those below this id: `next` of the page before.
    pub before: Option<i64>,
}

/// Which orders are listed.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OrderQuery {
    /// Only those given then or later: RFC 3339 or epoch seconds.
    pub since: Option<String>,
    /// Only those of somebody of this name.
    pub who: Option<String>,
    /// How many at most, 1 to 1000.
    pub limit: Option<u32>,
    /// Only those that come after this one: `next` of the page before.
    pub after: Option<i64>,
}

/// Why all sending is to be paused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseOrder {
    /// For those who wonder.
    pub reason: Option<String>,
}

/// How a campaign is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// How many seconds to wait for the effect, 0 to 50; 10 where it is left out.
    pub timeout: Option<u64>,
}

/// Which dead letters are sent once more: these, or all that the filters find.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayOrder {
    /// These; at most 10000.
    #[serde(default)]
    pub ids: Vec<i64>,
    /// All that were not replayed yet, or those among them that the filters find.
    #[serde(default)]
    pub all: bool,
    /// Only those that arrived in this lane.
    #[schema(value_type = Option<i32>)]
    pub lane: Option<Lane>,
    /// Only those that break a rule of this field; `record`: of no single field.
    pub reason_field: Option<String>,
    /// Only those that arrived then or later: RFC 3339 or epoch seconds.
    pub since: Option<String>,
    /// Also those of `ids` that were replayed before or are in doubt.
    #[serde(default)]
    pub again: bool,
    /// Only say what would be sent.
    #[serde(default)]
    pub dry_run: bool,
}

/// A time of a query.
pub fn time(name: &str, text: Option<&str>) -> Result<Option<Seconds>, Problem> {
    let parse = |text: &str| {
        let seconds = text.parse::<i64>().ok();
        let wrong = || Problem::of_request(format!("{name} must be an RFC 3339 time or epoch seconds"));
        seconds.or_else(|| text.parse().ok().map(Timestamp::as_second)).map(Seconds::new).ok_or_else(wrong)
    };
    text.map(parse).transpose()
}

/// A number of a query that has bounds; `usual` where it is left out.
pub fn bounded(name: &str, given: Option<u32>, usual: u32, most: u32) -> Result<i64, Problem> {
    match given.unwrap_or(usual) {
        number if (1..=most).contains(&number) => Ok(number.into()),
        _ => Err(Problem::of_request(format!("{name} must be from 1 to {most}"))),
    }
}

/// Which dead letters: the filters of a list and of a replay.
pub fn letters(
    lane: Option<Lane>,
    reason_field: Option<String>,
    since: Option<&str>,
    not_replayed: bool,
) -> Result<dead_letters::Filter, Problem> {
    let mut names = field_names().chain([WHOLE_RECORD]);
    if let Some(field) = &reason_field
        && !names.any(|name| name == field)
    {
        return Err(Problem::of_request(format!("reason_field: there is no field {field}")));
    }
    Ok(dead_letters::Filter { lane, reason_field, since: time("since", since)?, not_replayed })
}
