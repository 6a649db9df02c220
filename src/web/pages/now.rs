//! The first page: whether everything is going out.

use dinnerbell_core::model::number::Seconds;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use crate::operator::campaigns::overview::{COUNTED, Overview, overview};
use crate::operator::campaigns::{NotTold, Summary};
use crate::operator::lanes::LaneStatus;
use crate::operator::pause::Pause;
use crate::operator::{hold, lanes, pause};
use crate::web::filters;
use crate::web::filters::thousands;
use crate::web::frame::{Frame, html};
use crate::web::live::Topic;
use crate::web::picture::{Strip, counted};
use crate::web::site::Site;
use dinnerbell_core::model::not_told::NotToldReason;
use dinnerbell_postgres::errors::PostgresError;

/// Most campaigns of a group that are shown.
const MAX_SHOWN: i64 = 50;

/// What is shown.
#[derive(Debug)]
pub struct Now {
    overview: Overview,
    lanes: Vec<LaneStatus>,
    pause: Option<Pause>,
    hold: Option<String>,
    sentence: Sentence,
}

/// One sentence that is true.
#[derive(Debug, PartialEq, Eq)]
struct Sentence {
    /// good, warn or bad.
    tone: &'static str,
    text: String,
}

#[derive(Template)]
#[template(path = "now_live.html")]
struct Live<'a> {
    now: &'a Now,
}

#[derive(Template)]
#[template(path = "now.html")]
struct Page {
    frame: Frame,
    live: String,
    paused: bool,
}

impl Now {
    /// How many will not finish before their end.
    fn late(&self) -> usize {
        self.overview.active.campaigns.iter().filter(|campaign| will_not_finish(campaign)).count()
    }

    /// Clients told a second, by all campaigns that are shown together.
    fn rate(&self) -> i64 {
        self.overview.active.campaigns.iter().filter_map(|campaign| campaign.rate).sum::<f64>().round() as i64
    }

    /// In how long the next campaign starts.
    fn next(&self) -> Option<String> {
        let next = self.overview.scheduled.campaigns.first()?;
        Some(left(&self.overview.now, &next.adv_campaign_datetime_start))
    }

    /// Whether campaigns that ended lately left somebody out.
    fn has_left_out(&self) -> bool {
        self.overview.ended.campaigns.iter().any(|campaign| !campaign.not_told.is_empty())
    }

    /// How many were not told by the campaigns that ended lately.
    fn left_out(&self) -> String {
        let ended = &self.overview.ended;
        let not_told = || ended.campaigns.iter().flat_map(|campaign| &campaign.not_told);
        let clients: i64 = not_told().filter_map(|not_told| not_told.clients).sum();
        let is_whole = ended.count <= MAX_SHOWN && not_told().all(|not_told| not_told.clients.is_some());
        match (ended.count, clients, is_whole) {
            (0, ..) => "none".to_owned(),
            (_, 0, true) => "nobody left out".to_owned(),
            (_, _, true) => format!("{} not told", thousands(&clients.to_string())),
            _ => format!("at least {} not told", thousands(&clients.to_string())),
        }
    }

    fn strip(&self) -> String {
        Strip::new(&self.lanes, lane_state).render().unwrap_or_default()
    }

    /// How many lanes are in each state.
    fn lane_states(&self) -> String {
        counted(&self.lanes.iter().map(|lane| lane.state).collect::<Vec<_>>())
    }
}

/// Reads it.
pub async fn read(site: &Site) -> Result<Now, PostgresError> {
    let pool = &site.feedback;
    let (overview, lanes, pause, hold) = tokio::try_join!(
        overview(pool, &site.audiences, MAX_SHOWN),
        lanes::list(pool),
        pause::current(pool),
        hold::current(pool)
    )?;
    let hold = hold.map(|hold| match hold.is_young && !hold.needs_somebody() {
        true => format!("{hold}; it ends by itself"),
        false => hold.with_remedy(),
    });
    let sentence = sentence(&overview, &lanes, pause.as_ref(), hold.is_some());
    Ok(Now { overview, lanes, pause, hold, sentence })
}

/// The part of the page that changes.
pub async fn live(site: &Site) -> Result<String, PostgresError> {
    let now = read(site).await?;
    Ok(Live { now: &now }.render().unwrap_or_default())
}

/// The page.
pub async fn page(State(site): State<Arc<Site>>, frame: Frame) -> Response {
    let frame = frame.at("Now").live("events");
    match read(&site).await {
        Ok(now) => {
            let live = Live { now: &now }.render().unwrap_or_default();
            html(&Page { frame, live, paused: now.pause.is_some() })
        }
        Err(error) => frame.unread(&error),
    }
}

/// Its event stream.
pub async fn events(State(site): State<Arc<Site>>) -> Response {
    site.live.stream(Topic::Now)
}

/// The worst comes first: what keeps campaigns from going out.
fn sentence(overview: &Overview, lanes: &[LaneStatus], pause: Option<&Pause>, held: bool) -> Sentence {
    let bad = |text: String| Sentence { tone: "bad", text };
    let halted = lanes.iter().filter(|lane| lane.halted.is_some()).count();
    let late = overview.active.campaigns.iter().filter(|campaign| will_not_finish(campaign)).count();
    let active = overview.active.count;
    if let Some(pause) = pause {
        return bad(format!("All sending is paused by {}.", pause.by.as_deref().unwrap_or("somebody")));
    }
    if held {
        return bad("All sending is held, until every lane was compared with Kafka.".to_owned());
    }
    match (halted, late, active) {
        (1.., ..) => bad(format!(
            "{} of {} lanes {} halted: campaigns in {} are not told.",
            halted,
            lanes.len(),
            one(halted, "is", "are"),
            one(halted, "it", "them")
        )),
        (0, 1.., _) => Sentence {
            tone: "warn",
            text: format!(
                "{late} of {active} running campaigns will not finish before {} end.",
                one(late, "its", "their")
            ),
        },
        (0, 0, 0) => Sentence { tone: "good", text: nobody_waits(overview.complete.count, overview.scheduled.count) },
        (0, 0, 1) => Sentence { tone: "good", text: "The one running campaign is going out.".to_owned() },
        (0, 0, _) => Sentence { tone: "good", text: format!("All {active} running campaigns are going out.") },
    }
}

/// What is true where no audience is being told.
fn nobody_waits(complete: i64, scheduled: i64) -> String {
    match (complete, scheduled) {
        (0, 0) => "Nothing is to be told: no campaign runs or waits.".to_owned(),
        (0, _) => format!("No campaign runs; {} will start later.", many(&scheduled)),
        _ => "Every campaign that runs was told to its whole audience.".to_owned(),
    }
}

fn one(count: usize, one: &'static str, more: &'static str) -> &'static str {
    if count == 1 { one } else { more }
}

/// Whether it would be complete after its end only, if it goes on as it does.
pub fn will_not_finish(campaign: &Summary) -> bool {
    let expected = campaign.expected_completion_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    matches!((expected, campaign.adv_campaign_datetime_end), (Some(at), Some(end)) if at.as_second() > end.get())
}

/// How much of its audience a campaign has told, in percent; none where it is not known.
pub fn percent(campaign: &Summary) -> Option<i64> {
    let (told, left) = (campaign.told - campaign.late, campaign.remaining?);
    Some(if told + left > 0 { told.saturating_mul(100) / (told + left) } else { 100 })
}

/// A count that goes no further than it was counted.
pub fn many(count: &i64) -> String {
    if *count > COUNTED { format!("more than {COUNTED}") } else { count.to_string() }
}

/// How long is left until a moment, as one says it.
pub fn left(from: &Seconds, until: &Option<Seconds>) -> String {
    let Some(until) = until else { return String::new() };
    let seconds = until.get().saturating_sub(from.get());
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        ..0 => "over".to_owned(),
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Those who were not told, as one says it.
pub fn not_told(not_told: &[NotTold]) -> String {
    let said = |not_told: &NotTold| {
        let why = match not_told.why {
            NotToldReason::Ended => "its end came first",
            NotToldReason::Cancelled => "it was cancelled first",
            NotToldReason::UnusableId => "their ids cannot be used",
            other => other.sentence(),
        };
        match not_told.clients {
            Some(clients) => format!("{}, since {why}", thousands(&clients.to_string())),
            None => format!("being counted, since {why}"),
        }
    };
    not_told.iter().map(said).collect::<Vec<_>>().join("; ")
}

/// How a state is coloured.
pub fn tone(campaign: &Summary) -> &'static str {
    match campaign.state.as_str() {
        _ if campaign.reached_nobody => "warn",
        "active" | "complete" => "good",
        "expired" => "warn",
        "closed" if !campaign.not_told.is_empty() => "warn",
        "cancelled" => "bad",
        _ => "",
    }
}

/// How a lane is coloured, and what it does.
pub fn lane_state(lane: &LaneStatus) -> (&'static str, &'static str) {
    let tone = match lane.state {
        "running" => "good",
        "halted" | "held" => "bad",
        _ => "warn",
    };
    (tone, lane.state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_core::model::not_told::NotToldReason;

    #[test]
    fn what_is_left_is_said_as_one_says_it() {
        let said =
            [-1, 59, 61, 3_660, 90_000].map(|seconds| left(&Seconds::new(1000), &Some(Seconds::new(1000 + seconds))));
        assert_eq!(said, ["over", "59 s", "1 min", "1 h 1 min", "1 d 1 h"]);
        assert_eq!(left(&Seconds::new(0), &None), "");
    }

    #[test]
    fn those_who_were_not_told_have_their_reason() {
        let two = [
            NotTold { why: NotToldReason::Ended, clients: Some(3) },
            NotTold { why: NotToldReason::UnusableId, clients: None },
        ];
        assert_eq!(not_told(&two), "3, since its end came first; being counted, since their ids cannot be used");
    }
}
