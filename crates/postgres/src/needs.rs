//! What the service needs of the two tables and of the ledger, looked for before it starts: tables, columns, types and rights.
//! A lane would find the first thing that is missing only with its first campaign, and the others one after another.

mod missing;
mod table;

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

pub use missing::Missing;

use missing::{ANSWER, says_kind};
use table::{Column, Table};

use crate::audience::begin_sql;
use crate::connect::{Connection, Pool};
use crate::errors::{PostgresError, TIME_LIMIT};
use crate::sql;
use crate::sql::fragments::BASE_TYPE;
use dinnerbell_core::model::draft::{FEEDBACK_COLUMNS, TriggerType};
use dinnerbell_core::model::input;
use dinnerbell_core::model::limits::LONGEST_CLIENT_ID;

/// The column that holds when a draft was formed: of one type or another, and drafts are written as it is.
const TRIGGER: &str = "trigger_datetime_created";
/// The types that it may have.
const TRIGGER_TYPES: &[&str] = &["integer", "bigint"];
/// Columns of the feedback table that hold what its name does not tell: all others hold text.
const NUMBERS: [(&str, &[&str]); 4] = [
    ("adv_campaign_datetime_start", &["bigint"]),
    ("adv_campaign_datetime_end", &["bigint"]),
    ("datetime_created", &["bigint"]),
    (TRIGGER, TRIGGER_TYPES),
];
/// What a text that is copied may be: COPY in binary format converts nothing.
const COPIED_TEXTS: &[&str] = &["text", "character varying"];
/// What an id may be.
const IDS: &[&str] = &["integer", "bigint", "smallint"];
/// What a text that is only read may be.
const TEXTS: &[&str] = &["text", "character varying", "character", "citext", "name"];

/// What is missing for the audience to be read.
pub async fn missing_in_subscribers(pool: &Pool, late_subscribers: bool) -> Result<Vec<Missing>, PostgresError> {
    let Some(table) = Table::read(pool).await? else { return Ok(vec![Missing::Table]) };
    let mut columns = vec!["client_id", "restaurant_id"];
    if late_subscribers {
        columns.push("id");
    }
    let mut missing = Vec::new();
    for name in columns {
        let kinds = if name == "id" { IDS } else { TEXTS };
        match table.column(name) {
            None => missing.push(Missing::Column(name.to_owned())),
            Some(column) if !kinds.contains(&column.kind.as_str()) => missing.push(wrong_kind(column, &kinds[..1])),
            Some(column) if !column.select => missing.push(Missing::Right("SELECT", Some(name.to_owned()))),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        missing.extend(hidden_rows(pool, late_subscribers).await?);
    }
    Ok(missing)
}

/// Reads no row of the subscribers as a lane reads them. What the server refuses here, also for a view and its tables, it would refuse for the first
/// campaign.
async fn hidden_rows(pool: &Pool, late_subscribers: bool) -> Result<Option<Missing>, PostgresError> {
    let id = if late_subscribers { ", id" } else { "" };
    let sql = format!("select client_id, restaurant_id{id} from {} limit 0", pool.table().sql());
    let tx = pool.begin_with(&begin_sql(false, TIME_LIMIT)).await?;
    match tx.batch(&sql).await {
        Ok(()) => {
            tx.commit().await?;
            Ok(None)
        }
        Err(error) if error.hides_rows() => Ok(Some(Missing::AllRows)),
        Err(error) => Err(error),
    }
}

/// What is missing for drafts to be recorded, read back and withdrawn.
pub async fn missing_in_feedback(pool: &Pool) -> Result<Vec<Missing>, PostgresError> {
    let Some(table) = Table::read(pool).await? else { return Ok(vec![Missing::Table]) };
    let mut missing = Vec::new();
    missing.extend(table.hides_rows.then_some(Missing::Rows));
    for name in FEEDBACK_COLUMNS.split(", ") {
        match table.column(name) {
            None => missing.push(Missing::Column(name.to_owned())),
            Some(column) if column.generated => missing.push(Missing::Generated(name.to_owned())),
            Some(column) if !holds(&column.kind, name) => missing.push(wrong_kind(column, kinds(name))),
            Some(column) => {
                missing.extend(narrow(column));
                missing.extend(closed(column));
            }
        }
    }
    match table.column("id") {
        None => missing.push(Missing::Column("id".to_owned())),
        Some(column) if !IDS.contains(&column.kind.as_str()) => missing.push(wrong_kind(column, &IDS[..2])),
        Some(_) => {}
    }
    match table.column(ANSWER) {
        None => missing.push(Missing::Column(ANSWER.to_owned())),
        Some(column) if column.generated => missing.push(Missing::Generated(ANSWER.to_owned())),
        Some(column) => {
            missing.extend(column.not_null.then_some(Missing::Null));
            missing.extend(closed(column));
        }
    }
    // A column under another name is one mistake, not two.
    let renamed =
        |column: &Column| missing.iter().any(|one| matches!(one, Missing::Column(name) if holds(&column.kind, name)));
    let unfilled = table.columns.iter().filter(|column| column.must_be_given && !is_ours(&column.name));
    let unfilled: Vec<_> = unfilled.filter(|column| !renamed(column)).collect();
    missing.extend(unfilled.into_iter().map(|column| Missing::Default(column.name.clone())));
    if !table.delete {
        missing.push(Missing::Right("DELETE", None));
    }
    missing.extend(table.closed_sequence.map(Missing::Sequence));
    Ok(missing)
}

/// The types that a column of a draft may have.
fn kinds(column: &str) -> &'static [&'static str] {
    NUMBERS.iter().find(|(number, _)| *number == column).map_or(COPIED_TEXTS, |(_, kinds)| kinds)
}

/// The last number that a column of this type holds; none where it holds no numbers.
pub fn last_number(kind: &str) -> Option<i64> {
    match kind {
        "smallint" => Some(i16::MAX.into()),
        "integer" => Some(i32::MAX.into()),
        "bigint" => Some(i64::MAX),
        _ => None,
    }
}

/// The type of the table's column of when a draft was formed, if the table has one; an operator may change it while the service runs.
pub async fn trigger_kind(connection: &Connection, table: &str) -> Result<Option<String>, PostgresError> {
    let sql = format!(
        "select {BASE_TYPE} from pg_attribute a join pg_type t on t.oid = a.atttypid \
         where a.attrelid = to_regclass($1) and a.attname = '{TRIGGER}' and not a.attisdropped"
    );
    let row = connection.query_opt(&sql, &[(&table, Type::TEXT)]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// How drafts are to be written into the table.
///
/// # Errors
///
/// Where the column is missing or of another type, as [`missing_in_feedback`] says it too.
pub async fn trigger_type(connection: &Connection, table: &str) -> Result<TriggerType, PostgresError> {
    match trigger_kind(connection, table).await?.as_deref() {
        Some("integer") => Ok(TriggerType::Int4),
        Some("bigint") => Ok(TriggerType::Int8),
        Some(kind) => Err(PostgresError::refused(says_kind(table, TRIGGER, kind, TRIGGER_TYPES))),
        None => Err(PostgresError::refused(format!("table {table} has no column {TRIGGER}"))),
    }
}

/// The longest text that a draft may have in a column. The input's limits count bytes, a column's characters, which are no more.
fn longest(column: &str) -> Option<usize> {
    if column == "client_id" { Some(LONGEST_CLIENT_ID) } else { input::longest(column) }
}

/// The rights on the ledger's tables that are missing, as `insert lane`. What the migrations' own table holds is only read.
pub async fn missing_in_ledger(pool: &Pool) -> Result<Vec<(String, String)>, PostgresError> {
    let rows = pool.query(sql::LEDGER_RIGHTS.text(), &[]).await?;
    Ok(rows.iter().map(|row| (row.get("word"), row.get("table_name"))).collect())
}

/// The ledger's tables whose rows are hidden from this user, or closed to it, by row-level security.
pub async fn hidden_in_ledger(pool: &Pool) -> Result<Vec<String>, PostgresError> {
    let sql = "select format('dinnerbell.%I', relname) from pg_class where relnamespace = to_regnamespace('dinnerbell') \
               and relkind in ('r', 'p') and row_security_active(oid) order by 1";
    Ok(pool.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// What opens them.
pub fn open_ledger(hidden: &[String]) -> String {
    let statements = hidden.iter().map(|table| format!("alter table {table} disable row level security"));
    statements.collect::<Vec<_>>().join("; ")
}

/// The audience can be read.
pub async fn of_subscribers(pool: &Pool, late_subscribers: bool) -> Result<(), PostgresError> {
    refuse_missing(pool, &missing_in_subscribers(pool, late_subscribers).await?)
}

/// Drafts can be recorded, read back and withdrawn.
pub async fn of_feedback(pool: &Pool) -> Result<(), PostgresError> {
    refuse_missing(pool, &missing_in_feedback(pool).await?)
}

/// A campaign's texts can be stored whatever they hold: in another encoding one record could halt its lane.
pub async fn of_encoding(pool: &Pool) -> Result<(), PostgresError> {
    let rows = pool.query("select current_setting('server_encoding')", &[]).await?;
    match rows.first().map(|row| row.get::<_, String>(0)) {
        Some(encoding) if encoding != "UTF8" => Err(PostgresError::refused(format!(
            "{}: its encoding is {encoding}, which cannot hold every campaign; {}.url must lead to a database whose encoding is UTF8",
            pool.address(),
            pool.address().section
        ))),
        _ => Ok(()),
    }
}

/// The ledger's tables can be read and written.
pub async fn of_ledger(pool: &Pool) -> Result<(), PostgresError> {
    let hidden = hidden_in_ledger(pool).await?;
    if !hidden.is_empty() {
        let told =
            format!("row-level security applies to this user in {}: {}", hidden.join(", "), open_ledger(&hidden));
        return Err(refused(pool, &told));
    }
    let missing = missing_in_ledger(pool).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let tables: BTreeSet<String> = missing.iter().map(|(_, table)| format!("dinnerbell.{table}")).collect();
    let tables = tables.into_iter().collect::<Vec<_>>().join(", ");
    Err(refused(pool, &format!("grant SELECT, INSERT, UPDATE, DELETE on {tables} to this user")))
}

fn holds(kind: &str, column: &str) -> bool {
    kinds(column).contains(&kind)
}

fn wrong_kind(column: &Column, must_be: &'static [&'static str]) -> Missing {
    Missing::Kind { column: column.name.clone(), is: column.kind.clone(), must_be }
}

fn narrow(column: &Column) -> Option<Missing> {
    let (most, needed) = (column.most?, longest(&column.name)?);
    let narrow = usize::try_from(most).is_ok_and(|most| most < needed);
    narrow.then(|| Missing::Room { column: column.name.clone(), most, needed })
}

fn is_ours(column: &str) -> bool {
    column == ANSWER || FEEDBACK_COLUMNS.split(", ").any(|name| name == column)
}

fn closed(column: &Column) -> Vec<Missing> {
    let rights = [("SELECT", column.select), ("INSERT", column.insert)];
    let missing = rights.into_iter().filter(|(_, given)| !given);
    missing.map(|(right, _)| Missing::Right(right, Some(column.name.clone()))).collect()
}

fn refuse_missing(pool: &Pool, missing: &[Missing]) -> Result<(), PostgresError> {
    match missing {
        [] => Ok(()),
        // There is no more to say of it.
        [missing @ Missing::Table] => Err(PostgresError::refused(format!("{}: {}", pool.address(), missing.say(pool)))),
        missing => Err(refused(pool, &missing.iter().map(|missing| missing.say(pool)).collect::<Vec<_>>().join("; "))),
    }
}

fn refused(pool: &Pool, what: &str) -> PostgresError {
    let section = pool.address().section;
    PostgresError::refused(format!(
        "{}: the user in {section}.url or the table in {section}.table will not do: {what}",
        pool.address()
    ))
}
