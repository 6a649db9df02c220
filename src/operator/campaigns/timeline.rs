//! What happened to a campaign, and when it was told.

use dinnerbell_core::model::number::Seconds;
use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger;
use dinnerbell_postgres::ledger::told::{OverTime, Span};

/// Most parts of the time in which a campaign was told.
const PARTS: i64 = 60;

/// Something that happened, or will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Moment {
    /// received, updated, start, first_draft, main_pass_over, complete, last_draft, cancelled, withdrawn or end.
    pub what: &'static str,
    /// When; null where that is not known any more.
    pub at: Option<String>,
    /// How often, of what can happen more than once: `at` is the last time.
    pub times: Option<i64>,
}

/// Drafts that were recorded in some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ToldInSpan)]
pub struct Told {
    /// When it begins.
    pub since: Option<String>,
    /// When it ends.
    pub until: Option<String>,
    /// How many drafts were recorded.
    pub drafts: i64,
    /// Those of late subscribers among them.
    pub late: i64,
}

/// Times of a campaign: microseconds, but for its window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) received: Option<i64>,
    pub(super) updated: Option<i64>,
    pub(super) completed: Option<i64>,
    pub(super) cancelled: Option<i64>,
    pub(super) first_draft: Option<i64>,
    pub(super) last_draft: Option<i64>,
    pub(super) start: Option<i64>,
    pub(super) end: Option<i64>,
    pub(super) revision: i32,
}

/// Reads what the rounds of a campaign tell.
pub(super) async fn rounds(pool: &Pool, adv_campaign_id: &str) -> Result<OverTime, PostgresError> {
    ledger::told::Told::of(pool.clone()).over_time(adv_campaign_id, PARTS).await
}

/// The parts of the time in which it was told.
pub(super) fn spans(rounds: &OverTime) -> Vec<Told> {
    let told = |span: &Span| Told {
        since: time(Some(span.since)),
        until: time(Some(span.until)),
        drafts: span.drafts,
        late: span.late,
    };
    rounds.spans.iter().map(told).collect()
}

/// The timeline of a campaign.
pub(super) fn of(known: &Known, rounds: &OverTime) -> Vec<Moment> {
    let seconds = |seconds: i64| Seconds::new(seconds).micros().get();
    let updates = i64::from(known.revision) - 1 - i64::from(known.cancelled.is_some());
    let window_is_known = known.start.is_some();
    let mut moments = vec![
        ("received", known.received, None, true),
        ("updated", known.updated, Some(updates), updates > 0 && window_is_known),
        ("start", known.start.map(seconds), None, window_is_known),
        ("first_draft", known.first_draft, None, known.first_draft.is_some()),
        ("main_pass_over", rounds.main_pass_over, None, rounds.main_pass_over.is_some()),
        ("complete", known.completed, None, known.completed.is_some()),
        ("last_draft", known.last_draft, None, known.last_draft.is_some()),
        ("cancelled", known.cancelled, None, known.cancelled.is_some()),
        ("end", known.end.map(seconds), None, window_is_known),
        ("withdrawn", None, Some(rounds.withdrawn), rounds.withdrawn > 0),
    ];
    moments.retain(|(.., happened)| *happened);
    moments.sort_by_key(|(_, at, ..)| at.unwrap_or(i64::MAX));
    moments.into_iter().map(|(what, at, times, _)| Moment { what, at: time(at), times }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(known: &Known, rounds: &OverTime) -> Vec<&'static str> {
        of(known, rounds).into_iter().map(|moment| moment.what).collect()
    }

    #[test]
    fn what_happened_is_shown_in_the_order_of_time_and_what_has_none_last() {
        let whole = Known {
            received: Some(1_000_000),
            updated: Some(4_000_000),
            completed: Some(9_000_000),
            cancelled: Some(11_000_000),
            first_draft: Some(6_000_000),
            last_draft: Some(8_000_000),
            start: Some(5),
            end: Some(20),
            revision: 4,
        };
        let rounds = OverTime { spans: Vec::new(), main_pass_over: Some(8_000_000), withdrawn: 2 };
        let all = of(&whole, &rounds);
        let order = [
            "received",
            "updated",
            "start",
            "first_draft",
            "main_pass_over",
            "last_draft",
            "complete",
            "cancelled",
            "end",
            "withdrawn",
        ];
        assert_eq!(all.iter().map(|moment| moment.what).collect::<Vec<_>>(), order);
        assert_eq!(
            (all[1].times, all[9].times, &all[9].at),
            (Some(2), Some(2), &None),
            "the cancellation is a revision too"
        );
    }

    #[test]
    fn what_did_not_happen_is_left_out() {
        let fresh = Known { received: Some(1), start: Some(5), end: Some(9), revision: 1, ..Known::default() };
        assert_eq!(names(&fresh, &OverTime::default()), ["received", "start", "end"]);
        let never = Known { received: Some(1), cancelled: Some(1), revision: 1, ..Known::default() };
        assert_eq!(names(&never, &OverTime::default()), ["received", "cancelled"]);
    }
}
