//! How far the ids and times of the two tables are from the end of their types: `serial4` ends at 2^31 - 1, seconds in an `int4` in January
//! 2038. [`read`] is the one reading: the service shows it as metrics and warns in its log, `dinnerbell doctor` prints it.

use std::fmt;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::connect::Pool;
use crate::postgres::errors::PostgresError;

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

/// Reads how much is left in both tables. What has no end that it could tell (an id that no sequence gives, a column of another type) is
/// left out.
pub async fn read(feedback: &Pool, subscribers: &Pool) -> Result<Vec<Headroom>, PostgresError> {
    let mut found = Vec::with_capacity(3);
    found.extend(ids(feedback, Resource::FeedbackIds).await?);
    found.extend(times(feedback).await?);
    found.extend(ids(subscribers, Resource::SubscriberIds).await?);
    Ok(found)
}

/// The sequence behind `id`, whether it is the column's own or only named in its default; where it may not be read, the highest id.
async fn ids(pool: &Pool, of: Resource) -> Result<Option<Headroom>, PostgresError> {
    let table = pool.table().sql();
    let sql = "with id as (select attrelid, attnum, atttypid from pg_attribute \
                 where attrelid = to_regclass($1) and attname = 'id' and not attisdropped), \
               given as (select d.refobjid as sequence from id join pg_attrdef f on f.adrelid = id.attrelid and f.adnum = id.attnum \
                   join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass \
                 union select to_regclass(pg_get_serial_sequence($1, 'id')) from id) \
               select format_type(id.atttypid, null), s.last_value, least(s.max_value, case id.atttypid \
                 when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647 else 9223372036854775807 end)::int8 \
               from id join given on true join pg_class c on c.oid = given.sequence and c.relkind = 'S' \
               join pg_namespace n on n.oid = c.relnamespace join pg_sequences s on s.schemaname = n.nspname and s.sequencename = c.relname \
               where id.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)";
    let rows = pool.query(sql, &[(&table, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    // Null where nothing was given out yet, and where the sequence may not be read.
    let last = match row.get::<_, Option<i64>>(1) {
        Some(last) => last,
        None => {
            let rows = pool.query(&format!("select coalesce(max(id), 0)::int8 from {table}"), &[]).await?;
            rows.first().map_or(0, |row| row.get(0))
        }
    };
    Ok(Some(Headroom { of, column: format!("{}.id", pool.table()), column_type: row.get(0), last, end: row.get(2) }))
}

/// The second that `trigger_datetime_created` ends with.
async fn times(pool: &Pool) -> Result<Option<Headroom>, PostgresError> {
    let sql = "select format_type(atttypid, null), floor(extract(epoch from clock_timestamp()))::int8, \
                 case atttypid when 'int4'::regtype then 2147483647 else 9223372036854775807 end::int8 \
               from pg_attribute where attrelid = to_regclass($1) and attname = 'trigger_datetime_created' and not attisdropped \
                 and atttypid in ('int4'::regtype, 'int8'::regtype)";
    let rows = pool.query(sql, &[(&pool.table().sql(), Type::TEXT)]).await?;
    let times = |row: &Row| Headroom {
        of: Resource::DraftTimes,
        column: format!("{}.trigger_datetime_created", pool.table()),
        column_type: row.get(0),
        last: row.get(1),
        end: row.get(2),
    };
    Ok(rows.first().map(times))
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
