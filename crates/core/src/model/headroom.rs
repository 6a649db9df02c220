//! How far ids and times are from the end of their types: `serial4` ends at 2^31 - 1, seconds in an `int4` in January 2038.

use std::fmt;

/// Fewer ids than this part of all of them are worth a warning.
const FEW_IDS: i64 = 5;

/// Less time than this before a column ends is worth a warning, in seconds: two years, since a large table's column takes long to widen.
const LITTLE_TIME: i64 = 2 * 365 * 86_400;

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Ids of feedback rows: without one, no draft can be recorded.
    FeedbackIds,
    /// Ids of the subscribers table: without one, nobody can add a favourite.
    SubscriberIds,
    /// Seconds in `trigger_datetime_created`: beyond the last, no draft can be recorded.
    DraftTimes,
}

impl Resource {
    /// One word, for labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::FeedbackIds => "feedback_ids",
            Self::SubscriberIds => "subscriber_ids",
            Self::DraftTimes => "draft_times",
        }
    }
}

/// How much of something is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headroom {
    /// Of what.
    pub of: Resource,
    /// The table and column, as an operator writes it.
    pub column: String,
    /// The column's type, as Postgres names it.
    pub column_type: String,
    /// The last value that was given out; of times, the current second.
    pub last: i64,
    /// The highest value there can be.
    pub end: i64,
}

impl Headroom {
    /// Ids, or seconds, that are left.
    pub fn left(&self) -> i64 {
        self.end.saturating_sub(self.last).max(0)
    }

    /// Whether that is so little that somebody should act.
    pub fn is_low(&self) -> bool {
        match self.of {
            Resource::FeedbackIds | Resource::SubscriberIds => self.left() < self.end / FEW_IDS,
            Resource::DraftTimes => self.left() < LITTLE_TIME,
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let (table, column) = self.column.rsplit_once('.').unwrap_or(("", &self.column));
        match self.of {
            Resource::FeedbackIds | Resource::SubscriberIds => format!(
                "make the column and its sequence int8: alter table {table} alter column {column} type int8; alter sequence ... as int8 \
                 (it rewrites the table; docs/operating.md says how to do it without a standstill)"
            ),
            Resource::DraftTimes => format!("alter table {table} alter column {column} type int8"),
        }
    }
}

impl fmt::Display for Headroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, column, column_type, .. } = self;
        match of {
            Resource::FeedbackIds | Resource::SubscriberIds => {
                write!(f, "{column} ({column_type}): {} of {} ids are left", self.left(), self.end)
            }
            Resource::DraftTimes => write!(f, "{column} ({column_type}): ends in {} days", self.left() / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headroom(of: Resource, last: i64, end: i64) -> Headroom {
        let (column, column_type) = ("public.subscribers_feedback.id".to_owned(), "integer".to_owned());
        Headroom { of, column, column_type, last, end }
    }

    #[test]
    fn a_fifth_of_the_ids_and_two_years_are_little() {
        let end = i64::from(i32::MAX);
        assert!(!headroom(Resource::FeedbackIds, end / 5 * 4 - 10, end).is_low());
        assert!(headroom(Resource::FeedbackIds, end / 5 * 4 + 10, end).is_low());
        assert!(headroom(Resource::SubscriberIds, end, end).is_low());
        assert!(!headroom(Resource::DraftTimes, 1_770_000_000, end).is_low());
        assert!(headroom(Resource::DraftTimes, end - LITTLE_TIME + 1, end).is_low());
    }

    #[test]
    fn what_is_left_is_never_negative_and_named_with_its_column() {
        let over = headroom(Resource::FeedbackIds, 12, 10);
        assert_eq!(over.left(), 0);
        assert_eq!(over.to_string(), "public.subscribers_feedback.id (integer): 0 of 10 ids are left");
        assert!(
            over.remedy()
                .starts_with("make the column and its sequence int8: alter table public.subscribers_feedback ")
        );
    }
}
