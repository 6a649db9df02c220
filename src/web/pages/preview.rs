//! What would come of a campaign, before it is sent.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use indicatif::ProgressBar;
use serde::Deserialize;

use crate::operator::preview::{CountsAs, Preview, Subject, preview};
use crate::web::filters;
use crate::web::form::Signed;
use crate::web::frame::{Frame, html};
use crate::web::site::Site;
use dinnerbell_core::model::input;

/// Most bytes of a campaign that is pasted: as many as a record may have.
const LARGEST: usize = 1024 * 1024;
/// How many of those who would be told are named.
const SAMPLE: usize = 5;

/// What was pasted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Given {
    campaign: String,
    restaurant: String,
}

#[derive(Template)]
#[template(path = "preview.html")]
struct Page<'a> {
    frame: Frame,
    given: &'a Given,
    preview: Option<Preview>,
    problem: String,
}

impl Page<'_> {
    /// One sentence.
    fn verdict(&self) -> (&'static str, &'static str) {
        match self.preview.as_ref().map(|preview| (preview.counts_as, preview.will_be_told)) {
            Some((Some(CountsAs::DeadLetter), _)) => ("bad", "It would be a dead letter: nobody would be told."),
            Some((Some(CountsAs::OlderUpdate | CountsAs::Duplicate), _)) => ("warn", "It would be ignored."),
            Some((_, Some(0))) => ("warn", "It can be sent, and nobody would be told."),
            _ => ("good", "It can be sent."),
        }
    }

    /// How long it takes, as one says it.
    fn takes(&self) -> String {
        match self.preview.as_ref().and_then(|preview| preview.seconds) {
            None => "not known: nothing was measured yet".to_owned(),
            Some(seconds) if seconds < 1.0 => "less than a second".to_owned(),
            Some(seconds) => format!("about {seconds:.0} s"),
        }
    }
}

/// The empty form.
pub async fn form(frame: Frame) -> Response {
    html(&Page { frame: frame.at("Preview"), given: &Given::default(), preview: None, problem: String::new() })
}

/// The form with what would come of it.
pub async fn look(State(site): State<Arc<Site>>, frame: Frame, Signed(given): Signed<Given>) -> Response {
    let frame = frame.at("Preview");
    let page = |preview, problem| html(&Page { frame, given: &given, preview, problem });
    let restaurant = given.restaurant.trim();
    let subject = match (given.campaign.trim(), restaurant) {
        ("", "") => return page(None, "Paste a campaign, or give the id of a restaurant.".to_owned()),
        (campaign, _) if campaign.len() > LARGEST => {
            return page(None, "This is larger than a record may be.".to_owned());
        }
        ("", restaurant) => input::restaurant(restaurant)
            .map(|()| Subject::Restaurant(restaurant.to_owned()))
            .map_err(|reason| vec![reason]),
        (campaign, _) => input::campaign(campaign.as_bytes()).map(|campaign| Subject::Campaign(Box::new(campaign))),
    };
    match subject {
        Err(broken) => page(Some(Preview::refused(broken)), String::new()),
        Ok(subject) => match preview(&site.config, &subject, SAMPLE, &ProgressBar::hidden()).await {
            Ok(preview) => page(Some(preview), String::new()),
            Err(error) => page(None, error.to_string()),
        },
    }
}
