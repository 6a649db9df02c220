//! What is looked at.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::ask::{
    Ask, CampaignQuery, ClientQuery, DeadLetterQuery, NotToldQuery, OrderQuery, ToldQuery, Which, bounded, letters,
    time,
};
use crate::operator::campaigns::{Details, Filter, Summary};
use crate::operator::lanes::LaneStatus;
use crate::operator::next_page;
use crate::operator::not_told::{NotToldPage, Walk};
use crate::operator::pause::Pause;
use crate::operator::told::{Answer, ClientHistory};
use crate::operator::{audit, campaigns, dead_letters, hold, lanes, not_told, pause, told};
use crate::web::problem::Problem;
use crate::{doctor as doctors, operator};
use dinnerbell_core::model::campaign::CampaignState;

/// Clients of an audience that are compared for one answer.
const COMPARED: usize = 200_000;

type Answered<T> = Result<Json<T>, Problem>;

/// What goes on now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Now {
    /// The pause of all sending; null where there is none.
    paused: Option<Pause>,
    /// Why nothing is sent or taken in; null where all goes on.
    held: Option<String>,
    /// Lanes that stand still, each with its remedy.
    halted: Vec<LaneStatus>,
    /// Campaigns that run, and those that wait for their start: at most 100, those that were received last first.
    campaigns: Vec<Summary>,
    /// Behind which campaign there are more: `after` of `/campaigns?state=scheduled,active,complete`.
    next: Option<String>,
}

/// Campaigns.
#[derive(Debug, Serialize, ToSchema)]
pub struct CampaignPage {
    /// Those that were received last first.
    campaigns: Vec<Summary>,
    /// Behind which campaign the next page begins; null where this is the last one.
    next: Option<String>,
}

/// Lanes.
#[derive(Debug, Serialize, ToSchema)]
pub struct LaneList {
    /// All that were ever taken over.
    lanes: Vec<LaneStatus>,
}

/// Dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeadLetterPage {
    /// The latest first.
    dead_letters: Vec<dead_letters::Summary>,
    /// Below which id the next page begins; null where this is the last one.
    next: Option<i64>,
}

/// Orders.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderPage {
    /// The latest first.
    orders: Vec<audit::Entry>,
    /// Behind which one the next page begins; null where this is the last one.
    next: Option<i64>,
}

/// What goes on now
#[utoipa::path(
    get,
    path = "/now",
    tag = "service",
    responses(
        (status = OK, body = Now),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn now(State(api): State<Arc<Api>>) -> Answered<Now> {
    let states = [CampaignState::Scheduled, CampaignState::Active, CampaignState::Complete];
    let states = states.map(|state| state.name().to_owned()).to_vec();
    let filter = Filter { states, limit: 100, ..Filter::default() };
    let pool = &api.site.feedback;
    let list = campaigns::list(pool, &api.site.audiences, &filter);
    let (page, mut halted, paused, hold) =
        tokio::try_join!(list, lanes::list(pool), pause::current(pool), hold::current(pool))?;
    halted.retain(|lane| lane.halted.is_some());
    let held = hold.map(|hold| hold.with_remedy());
    Ok(Json(Now { paused, held, halted, campaigns: page.campaigns, next: page.next }))
}

/// List campaigns
#[utoipa::path(
    get,
    path = "/campaigns",
    tag = "campaigns",
    params(CampaignQuery),
    responses(
        (status = OK, body = CampaignPage),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn campaigns(State(api): State<Arc<Api>>, Ask(query): Ask<CampaignQuery>) -> Answered<CampaignPage> {
    let filter = Filter {
        states: states(query.state.as_deref())?,
        restaurant_id: query.restaurant,
        owner: query.owner,
        search: query.search,
        since: time("since", query.since.as_deref())?,
        until: time("until", query.until.as_deref())?,
        limit: bounded("limit", query.limit, 50, 1_000)?,
        after: query.after,
    };
    known(&api, filter.after.as_deref()).await?;
    let page = campaigns::list(&api.site.feedback, &api.site.audiences, &filter).await?;
    Ok(Json(CampaignPage { campaigns: page.campaigns, next: page.next }))
}

/// A page goes on behind a campaign that there is.
async fn known(api: &Api, after: Option<&str>) -> Result<(), Problem> {
    match after {
        Some(after) if !campaigns::is_known(&api.site.feedback, after).await? => {
            Err(Problem::of_request(format!("after: there is no campaign {after}")))
        }
        _ => Ok(()),
    }
}

fn states(text: Option<&str>) -> Result<Vec<String>, Problem> {
    let known = |name: &&str| CampaignState::ALL.iter().any(|state| state.name() == *name);
    let names: Vec<&str> = text.into_iter().flat_map(|text| text.split(',')).collect();
    match names.iter().find(|name| !known(name)) {
        Some(unknown) => Err(Problem::of_request(format!("state: there is no state {unknown}"))),
        None => Ok(names.into_iter().map(str::to_owned).collect()),
    }
}

fn no_campaign(id: &str) -> Problem {
    Problem::not_found(format!("there is no campaign {id}; what could not become one is a dead letter"))
}

/// Show all that is known of a campaign
#[utoipa::path(
    get,
    path = "/campaigns/{id}",
    tag = "campaigns",
    params(("id" = String, Path, description = "The campaign's id")),
    responses(
        (status = OK, body = Details),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn campaign(State(api): State<Arc<Api>>, Which(id): Which<String>) -> Answered<Details> {
    campaigns::show(&api.site.feedback, &api.site.audiences, &id).await?.map(Json).ok_or_else(|| no_campaign(&id))
}

/// Say whether a client was told of a campaign, or why not
#[utoipa::path(
    get,
    path = "/campaigns/{id}/told",
    tag = "campaigns",
    params(("id" = String, Path, description = "The campaign's id"), ToldQuery),
    responses(
        (status = OK, body = Answer),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn told(
    State(api): State<Arc<Api>>,
    Which(id): Which<String>,
    Ask(query): Ask<ToldQuery>,
) -> Answered<Answer> {
    let _turn = api.audience().await?;
    let told = told::told(&api.site.config, &api.site.audiences, api.site.feedback.clone(), &id, &query.client).await?;
    told.map(Json).ok_or_else(|| no_campaign(&id))
}

/// List who was not told of a campaign, each with the reason
#[utoipa::path(
    get,
    path = "/campaigns/{id}/not-told",
    tag = "campaigns",
    params(("id" = String, Path, description = "The campaign's id"), NotToldQuery),
    responses(
        (status = OK, body = NotToldPage),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn not_told(
    State(api): State<Arc<Api>>,
    Which(id): Which<String>,
    Ask(query): Ask<NotToldQuery>,
) -> Answered<NotToldPage> {
    let limit = bounded("limit", query.limit, 1_000, 10_000)?.unsigned_abs();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let _turn = api.audience().await?;
    let begun = Walk::begin(&api.site.config, api.site.feedback.clone(), &id, query.after).await?;
    let mut walk = begun.ok_or_else(|| no_campaign(&id))?;
    Ok(Json(not_told::page(&mut walk, limit, COMPARED).await?))
}

/// Show the last campaigns of a client
#[utoipa::path(
    get,
    path = "/clients/{id}",
    tag = "clients",
    params(("id" = String, Path, description = "The client's id"), ClientQuery),
    responses(
        (status = OK, body = ClientHistory),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn client(
    State(api): State<Arc<Api>>,
    Which(id): Which<String>,
    Ask(query): Ask<ClientQuery>,
) -> Answered<ClientHistory> {
    let last = bounded("last", query.last, 1_000, 20_000)?.unsigned_abs();
    let last = usize::try_from(last).unwrap_or(usize::MAX);
    known(&api, query.after.as_deref()).await?;
    let _turn = api.audience().await?;
    Ok(Json(
        told::history(
            &api.site.config,
            &api.site.audiences,
            api.site.feedback.clone(),
            &id,
            query.after.as_deref(),
            last,
        )
        .await?,
    ))
}

/// List lanes, with their lag
#[utoipa::path(
    get,
    path = "/lanes",
    tag = "service",
    responses(
        (status = OK, body = LaneList),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn lanes(State(api): State<Arc<Api>>) -> Answered<LaneList> {
    Ok(Json(LaneList { lanes: lanes::list_with_lag(&api.site.feedback, &api.site.config.kafka).await? }))
}

/// List dead letters
#[utoipa::path(
    get,
    path = "/dead-letters",
    tag = "dead letters",
    params(DeadLetterQuery),
    responses(
        (status = OK, body = DeadLetterPage),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn dead_letters(State(api): State<Arc<Api>>, Ask(query): Ask<DeadLetterQuery>) -> Answered<DeadLetterPage> {
    let not_replayed = query.not_replayed.unwrap_or_default();
    let filter = letters(query.lane, query.reason_field, query.since.as_deref(), not_replayed)?;
    let limit = bounded("limit", query.limit, 50, 1_000)?;
    let dead_letters = operator::dead_letters::list(&api.site.feedback, &filter, query.before, limit).await?;
    let next = next_page(&dead_letters, limit, |letter| letter.id);
    Ok(Json(DeadLetterPage { dead_letters, next }))
}

/// Show a dead letter with its key, value and headers
#[utoipa::path(
    get,
    path = "/dead-letters/{id}",
    tag = "dead letters",
    params(("id" = i64, Path, description = "Its id")),
    responses(
        (status = OK, body = dead_letters::Details),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn dead_letter(
    State(api): State<Arc<Api>>,
    Which(id): Which<i64>,
) -> Answered<operator::dead_letters::Details> {
    let letter = operator::dead_letters::show(&api.site.feedback, id).await?;
    letter.map(Json).ok_or_else(|| Problem::not_found(format!("there is no dead letter {id}")))
}

/// List orders: who gave which
#[utoipa::path(
    get,
    path = "/audit",
    tag = "orders",
    params(OrderQuery),
    responses(
        (status = OK, body = OrderPage),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn audit(State(api): State<Arc<Api>>, Ask(query): Ask<OrderQuery>) -> Answered<OrderPage> {
    let limit = bounded("limit", query.limit, 50, 1_000)?;
    let since = time("since", query.since.as_deref())?;
    let filter = audit::Filter { since, who: query.who, after: query.after, limit };
    let orders = audit::list(&api.site.feedback, &filter).await?;
    let next = next_page(&orders, limit, |order| order.id);
    Ok(Json(OrderPage { orders, next }))
}

/// Check everything that the service needs, now: it takes some seconds
#[utoipa::path(
    get,
    path = "/doctor",
    tag = "service",
    responses(
        (status = OK, body = doctors::Report),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn doctor(State(api): State<Arc<Api>>) -> Answered<doctors::Report> {
    let at_work =
        |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "it is being checked already: ask again in some seconds");
    let _one = api.site.checking.try_lock().map_err(at_work)?;
    Ok(Json(doctors::examine(&api.site.config, Arc::new(|_| {})).await))
}
