//! Campaigns, found by id, restaurant, owner or text; also as CSV and JSON.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;

use super::now::{not_told, tone};
use crate::operator::campaigns;
use crate::operator::campaigns::{Filter, Page as Found, Summary};
use crate::operator::csv;
use crate::web::filters;
use crate::web::form::given;
use crate::web::frame::{Frame, html};
use crate::web::paths::encoded;
use crate::web::site::Site;
use dinnerbell_core::model::campaign::CampaignState;
use dinnerbell_core::model::number::Seconds;

/// Campaigns on a page.
const PAGE_SIZE: i64 = 50;
/// Campaigns in a file.
const MAX_IN_FILE: i64 = 10_000;
/// States, as they can be chosen.
const STATES: [CampaignState; 6] = CampaignState::ALL;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    search: String,
    state: String,
    restaurant: String,
    owner: String,
    since: String,
    until: String,
    after: String,
    format: String,
}

#[derive(Template)]
#[template(path = "campaigns.html")]
struct Page<'a> {
    frame: Frame,
    campaigns: Vec<Summary>,
    next: Option<String>,
    asked: &'a Asked,
    states: [&'static str; 6],
}

impl Asked {
    fn filter(&self) -> Filter {
        Filter {
            states: STATES
                .map(CampaignState::name)
                .into_iter()
                .filter(|name| *name == self.state)
                .map(str::to_owned)
                .collect(),
            restaurant_id: given(&self.restaurant),
            owner: given(&self.owner),
            search: given(&self.search),
            since: day(&self.since),
            until: day(&self.until).map(|day| day + 86_400),
            after: given(&self.after),
            limit: if self.format.is_empty() { PAGE_SIZE } else { MAX_IN_FILE },
        }
    }

    /// The same question in another format, or from another campaign on, as it stands in an address.
    fn address(&self, format: &str, after: &str) -> String {
        let parts = [
            ("search", self.search.as_str()),
            ("state", &self.state),
            ("restaurant", &self.restaurant),
            ("owner", &self.owner),
            ("since", &self.since),
            ("until", &self.until),
            ("after", after),
            ("format", format),
        ];
        let given = parts.iter().filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
    }
}

/// The first second of a day in UTC, as `2026-03-01`.
fn day(text: &str) -> Option<Seconds> {
    let day: jiff::civil::Date = text.trim().parse().ok()?;
    format!("{day}T00:00:00Z").parse::<Timestamp>().ok().map(|day| Seconds::new(day.as_second()))
}

/// The page, or a file of what it shows.
pub async fn page(State(site): State<Arc<Site>>, frame: Frame, Query(asked): Query<Asked>) -> Response {
    let frame = frame.at("Campaigns");
    let found = match campaigns::list(&site.feedback, &site.audiences, &asked.filter()).await {
        Ok(found) => found,
        Err(error) => return frame.unread(&error),
    };
    let Found { campaigns, next } = found;
    match asked.format.as_str() {
        "json" => Json(campaigns).into_response(),
        "csv" => {
            let headers = [
                (CONTENT_TYPE, "text/csv; charset=utf-8"),
                (CONTENT_DISPOSITION, "attachment; filename=\"campaigns.csv\""),
            ];
            (headers, as_csv(&campaigns)).into_response()
        }
        _ => html(&Page { frame, campaigns, next, asked: &asked, states: STATES.map(CampaignState::name) }),
    }
}

fn as_csv(campaigns: &[Summary]) -> String {
    let head = ["adv_campaign_id", "restaurant_id", "state", "told", "late", "unsent", "start", "end", "not_told"];
    let line = |campaign: &Summary| {
        let text = |value: Option<String>| value.unwrap_or_default();
        let number = |value: Option<i64>| value.map(|value| value.to_string());
        let moment = |value: Option<Seconds>| value.map(|value| value.to_string());
        csv::line([
            &campaign.adv_campaign_id,
            &text(campaign.restaurant_id.clone()),
            &campaign.state,
            &campaign.told.to_string(),
            &campaign.late.to_string(),
            &text(number(campaign.unsent)),
            &text(moment(campaign.adv_campaign_datetime_start)),
            &text(moment(campaign.adv_campaign_datetime_end)),
            &not_told(&campaign.not_told),
        ])
    };
    csv::line(head) + &campaigns.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_utc_and_the_last_one_is_whole() {
        let asked = Asked { since: "1970-01-02".to_owned(), until: "1970-01-02".to_owned(), ..Asked::default() };
        assert_eq!(
            (asked.filter().since, asked.filter().until),
            (Some(Seconds::new(86_400)), Some(Seconds::new(172_800)))
        );
        assert_eq!([day(""), day("yesterday"), day("1970-02-31")], [None; 3]);
    }

    #[test]
    fn the_next_page_asks_the_same_question() {
        let asked = Asked { search: "a&b".to_owned(), state: "active".to_owned(), ..Asked::default() };
        assert_eq!(asked.address("", "x/y"), "search=a%26b&state=active&after=x%2Fy");
    }
}
