//! What is ordered. Each order is carried out to its end, and kept.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use indicatif::ProgressBar;

use super::Api;
use super::ask::{Caller, CancelOrder, PauseOrder, ReplayOrder, Sent, Which, letters};
use crate::operator::cancel::{Cancellation, Request};
use crate::operator::pause::{Paused, Resumed};
use crate::operator::replay::{Replayed, Which as Letters};
use crate::operator::{cancel as cancellation, pause as pauses, replay as replays};
use crate::web::problem::Problem;
use dinnerbell_core::model::audit::Subject;

/// How long the effect of a cancellation is waited for, in seconds: usually, and at most.
const WAIT: u64 = 10;
const LONGEST_WAIT: u64 = 50;
/// Most dead letters that are named in one order.
const MAX_LETTERS: usize = 10_000;

type Answered<T> = Result<Json<T>, Problem>;

fn unclaimed() -> Problem {
    Problem::new(StatusCode::CONFLICT, "no service has used this ledger yet: there is nothing to pause")
}

/// Pause all sending, of every instance
#[utoipa::path(
    post,
    path = "/pause",
    tag = "orders",
    request_body = PauseOrder,
    responses(
        (status = OK, body = Paused),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn pause(
    State(api): State<Arc<Api>>,
    Caller(caller): Caller,
    Sent(order): Sent<PauseOrder>,
) -> Answered<Paused> {
    let by = api.orderer(&caller, Subject::Service, "pause").await?;
    let pool = api.site.feedback.clone();
    let paused = api.carry_out(async move { pauses::pause(&pool, &by, order.reason.as_deref()).await }).await??;
    paused.map(Json).ok_or_else(unclaimed)
}

/// Resume sending
#[utoipa::path(
    post,
    path = "/resume",
    tag = "orders",
    responses(
        (status = OK, body = Resumed),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn resume(State(api): State<Arc<Api>>, Caller(caller): Caller) -> Answered<Resumed> {
    let by = api.orderer(&caller, Subject::Service, "resume").await?;
    let pool = api.site.feedback.clone();
    let resumed = api.carry_out(async move { pauses::resume(&pool, &by).await }).await??;
    resumed.map(Json).ok_or_else(unclaimed)
}

/// Cancel a campaign, for ever
#[utoipa::path(
    post,
    path = "/campaigns/{id}/cancel",
    tag = "orders",
    params(("id" = String, Path, description = "The campaign's id")),
    request_body = CancelOrder,
    responses(
        (status = OK, body = Cancellation),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn cancel(
    State(api): State<Arc<Api>>,
    Caller(caller): Caller,
    Which(id): Which<String>,
    Sent(order): Sent<CancelOrder>,
) -> Answered<Cancellation> {
    let by = api.orderer(&caller, Subject::Campaign(&id), "cancel").await?;
    let timeout = Duration::from_secs(order.timeout.unwrap_or(WAIT).min(LONGEST_WAIT));
    let request = Request { adv_campaign_id: id.clone(), by, timeout };
    let config = api.site.config.clone();
    let carried_out =
        api.carry_out(async move { cancellation::cancel(&config, &request, &ProgressBar::hidden()).await });
    let unknown = || Problem::not_found(format!("there is no campaign {id}: nothing was cancelled"));
    carried_out.await??.map(Json).ok_or_else(unknown)
}

/// Send dead letters once more, or say which would be
#[utoipa::path(
    post,
    path = "/dead-letters/replay",
    tag = "orders",
    request_body = ReplayOrder,
    responses(
        (status = OK, body = Replayed),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn replay(
    State(api): State<Arc<Api>>,
    Caller(caller): Caller,
    Sent(order): Sent<ReplayOrder>,
) -> Answered<Replayed> {
    let ReplayOrder { ids, all, lane, reason_field, since, again, dry_run } = order;
    let is_filtered = lane.is_some() || reason_field.is_some() || since.is_some();
    if all != ids.is_empty() || all && again || !all && is_filtered || ids.len() > MAX_LETTERS {
        let text = format!("send ids (at most {MAX_LETTERS}), with again or not; or all, with filters or not");
        return Err(Problem::of_request(text));
    }
    let subject = if all { Subject::Service } else { Subject::DeadLetters(&ids) };
    let by = api.orderer(&caller, subject, "replay").await?;
    let which = match all {
        true => Letters::All(letters(lane, reason_field, since.as_deref(), true)?),
        false => Letters::Ids(ids),
    };
    let (config, request) = (api.site.config.clone(), replays::Request { which, again, dry_run, by });
    Ok(Json(api.carry_out(async move { replays::replay(&config, request).await }).await??))
}
