//! Dead letters: why they are none of our campaigns, what they hold, and sending them once more.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::orders::see;
use crate::operator::dead_letters;
use crate::operator::dead_letters::{Bytes, Details, Filter, Summary};
use crate::operator::next_page;
use crate::operator::replay::{Replayed, Request, Which, replay};
use crate::web::filters;
use crate::web::form::{Signed, given};
use crate::web::frame::{Frame, html, with_status};
use crate::web::paths::encoded;
use crate::web::site::Site;
use dinnerbell_core::text_table::readable;

/// Letters on a page.
const PAGE_SIZE: i64 = 50;
/// How many of the last letters are counted by their reason.
const COUNTED: i64 = 10_000;
/// Most bytes of a part that are shown.
const SHOWN: usize = 16 * 1024;
/// Most bytes that are shown in hexadecimal.
const SHOWN_IN_HEX: usize = 4 * 1024;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    reason_field: String,
    open: String,
    before: String,
    replayed: String,
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct List<'a> {
    frame: Frame,
    letters: Vec<Summary>,
    fields: Vec<(String, i64)>,
    asked: &'a Asked,
    next: Option<i64>,
}

#[derive(Template)]
#[template(path = "dead_letter.html")]
struct One {
    frame: Frame,
    letter: Details,
}

#[derive(Template)]
#[template(path = "replay.html")]
struct Outcome<'a> {
    frame: Frame,
    outcome: Replayed,
    asked: &'a Again,
}

/// What is to be replayed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Again {
    /// One letter; empty for all that were not sent once more.
    id: String,
    /// Of all, only those that break a rule of this field.
    reason_field: String,
    /// Not empty where it is to be done, and not only looked at.
    done: String,
}

impl Asked {
    fn filter(&self) -> Filter {
        Filter { reason_field: given(&self.reason_field), not_replayed: !self.open.is_empty(), ..Filter::default() }
    }
}

impl One {
    fn parts(&self) -> [(&'static str, &'static str, Option<&Bytes>); 2] {
        [("Key", "key", self.letter.key.as_ref()), ("Value", "value", self.letter.value.as_ref())]
    }
}

/// The list.
pub async fn list(State(site): State<Arc<Site>>, frame: Frame, Query(asked): Query<Asked>) -> Response {
    let frame = frame.at("Dead letters");
    let (pool, filter) = (&site.feedback, asked.filter());
    let letters = dead_letters::list(pool, &filter, asked.before.parse().ok(), PAGE_SIZE);
    match tokio::try_join!(letters, dead_letters::by_field(pool, COUNTED)) {
        Ok((letters, fields)) => {
            let next = next_page(&letters, PAGE_SIZE, |letter| letter.id);
            html(&List { frame, letters, fields, asked: &asked, next })
        }
        Err(error) => frame.unread(&error),
    }
}

/// One letter.
pub async fn one(State(site): State<Arc<Site>>, frame: Frame, Path(id): Path<String>) -> Response {
    let frame = frame.at("Dead letters");
    let none = "There is no such dead letter: it may have been removed after its time.";
    let Ok(number) = id.parse() else { return frame.failed(StatusCode::NOT_FOUND, "Not found", none) };
    match dead_letters::show(&site.feedback, number).await {
        Ok(Some(letter)) => html(&One { frame, letter }),
        Ok(None) => frame.failed(StatusCode::NOT_FOUND, "Not found", none),
        Err(error) => frame.unread(&error),
    }
}

/// Sends letters once more, or says which would be sent.
pub async fn again(State(site): State<Arc<Site>>, frame: Frame, Signed(asked): Signed<Again>) -> Response {
    let frame = frame.at("Dead letters");
    let which = match asked.id.trim() {
        "" => {
            let asked = Asked { reason_field: asked.reason_field.clone(), open: "1".to_owned(), ..Asked::default() };
            Which::All(asked.filter())
        }
        id => match id.parse() {
            Ok(id) => Which::Ids(vec![id]),
            Err(_) => {
                return frame.failed(StatusCode::BAD_REQUEST, "Not done", "This is not the number of a dead letter.");
            }
        },
    };
    let dry_run = asked.done.is_empty();
    let request = Request { which, again: false, dry_run, by: frame.visitor.orders(&site.machine) };
    let config = site.config.clone();
    let outcome = site.orders.carry_out(async move { replay(&config, request).await }).await;
    match outcome {
        Err(refusal) => frame.failed(refusal.status(), "Not done", refusal.text()),
        Ok(Err(error)) => frame.failed(StatusCode::SERVICE_UNAVAILABLE, "Not done", &error.to_string()),
        Ok(Ok(outcome)) if dry_run => html(&Outcome { frame, outcome, asked: &asked }),
        Ok(Ok(outcome)) if !outcome.is_done() => {
            let status = if outcome.error.is_some() { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
            with_status(status, html(&Outcome { frame, outcome, asked: &asked }))
        }
        Ok(Ok(_)) if !asked.id.is_empty() => see(&encoded(asked.id.trim())),
        Ok(Ok(outcome)) => see(&format!("../dead-letters?replayed={}", outcome.replayed.len())),
    }
}

/// Bytes as text on which nothing turns or hides, and how much of them is not shown.
fn text(bytes: &Bytes) -> (String, usize) {
    let raw = bytes.raw();
    let shown = &raw[..raw.len().min(SHOWN)];
    (readable(shown), raw.len() - shown.len())
}

/// Bytes in hexadecimal, sixteen a line, with their place.
fn hex(bytes: &Bytes) -> String {
    let raw = bytes.raw();
    let shown = &raw[..raw.len().min(SHOWN_IN_HEX)];
    let line = |(number, line): (usize, &[u8])| {
        let bytes: String = line.iter().map(|byte| format!(" {byte:02x}")).collect();
        let text: String =
            line.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        format!("{:06x} {bytes:<48}  {text}\n", number * 16)
    };
    shown.chunks(16).enumerate().map(line).collect()
}

/// Numbers of letters, not too many.
fn ids(ids: &[i64]) -> String {
    let named: Vec<String> = ids.iter().take(20).map(ToString::to_string).collect();
    let more = ids.len().saturating_sub(20);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}
