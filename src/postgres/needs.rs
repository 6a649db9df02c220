//! What the service needs of the two tables and of the ledger, looked for before it starts: tables, columns, types and rights.
//! A lane would find the first thing that is missing only with its first campaign, and the others one after another.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::draft::{FEEDBACK_COLUMNS, LONGEST_CLIENT_ID};
use crate::postgres::audience::begin_sql;
use crate::postgres::connect::Pool;
use crate::postgres::errors::{PATIENCE, PostgresError, SHOW_ALL_ROWS};
use crate::way::decode;

/// Columns of the feedback table that hold what its name does not tell: all others hold text.
const NUMBERS: [(&str, &str); 4] = [
    ("adv_campaign_datetime_start", "bigint"),
    ("adv_campaign_datetime_end", "bigint"),
    ("datetime_created", "bigint"),
    ("trigger_datetime_created", "integer"),
];

/// What an id may be.
const IDS: &[&str] = &["integer", "bigint", "smallint"];
/// What a text that is only read may be.
const TEXTS: &[&str] = &["text", "character varying", "character", "citext", "name"];

/// A column, with what this user may do with it.
struct Column {
    name: String,
    /// Its type, or what its domain is made of.
    kind: String,
    /// Most characters that it holds, where its type says so.
    most: Option<i32>,
    /// An insert that leaves it out fails.
    must_be_given: bool,
    select: bool,
    insert: bool,
}

/// A table as this user sees it.
struct Table {
    columns: Vec<Column>,
    delete: bool,
    /// The sequence behind its id, if this user may not use it.
    closed_sequence: Option<String>,
}

/// Something that the service needs of a table and does not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The table, or the right to use its schema.
    Table,
    /// A column.
    Column(String),
    /// A column's type.
    Kind {
        /// The column.
        column: String,
        /// What it is.
        is: String,
        /// What it must be.
        must_be: &'static str,
    },
    /// Room in a column of text: a draft that does not fit would halt its lane.
    Room {
        /// The column.
        column: String,
        /// How many characters it holds.
        most: i32,
        /// How many a draft may have.
        needed: usize,
    },
    /// A value for a column that somebody added: no draft has one.
    Default(String),
    /// A right, on one column or the whole table.
    Right(&'static str, Option<String>),
    /// The right to use the sequence that gives the rows their ids.
    Sequence(String),
    /// The right to see all rows: row-level security hides some, and who is hidden would never be told.
    AllRows,
}

/// What is missing for the audience to be read.
pub async fn missing_in_subscribers(pool: &Pool, late_subscribers: bool) -> Result<Vec<Missing>, PostgresError> {
    let Some(table) = Table::look_at(pool).await? else { return Ok(vec![Missing::Table]) };
    let mut columns = vec!["client_id", "restaurant_id"];
    if late_subscribers {
        columns.push("id");
    }
    let mut missing = Vec::new();
    for name in columns {
        let kinds = if name == "id" { IDS } else { TEXTS };
        match table.column(name) {
            None => missing.push(Missing::Column(name.to_owned())),
            Some(column) if !kinds.contains(&column.kind.as_str()) => missing.push(wrong_kind(column, kinds[0])),
            Some(column) if !column.select => missing.push(Missing::Right("SELECT", Some(name.to_owned()))),
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        missing.extend(hidden_rows(pool, late_subscribers).await?);
    }
    Ok(missing)
}

/// Reads no row of the subscribers as a lane reads them: what the server refuses then, also for a view or what lies below one, it would refuse
/// for the first campaign.
async fn hidden_rows(pool: &Pool, late_subscribers: bool) -> Result<Option<Missing>, PostgresError> {
    let id = if late_subscribers { ", id" } else { "" };
    let sql = format!("select client_id, restaurant_id{id} from {} limit 0", pool.table().sql());
    let tx = pool.begin_with(&begin_sql(false, PATIENCE)).await?;
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
    let Some(table) = Table::look_at(pool).await? else { return Ok(vec![Missing::Table]) };
    let mut missing = Vec::new();
    for name in FEEDBACK_COLUMNS.split(", ") {
        let wanted = number(name);
        match table.column(name) {
            None => missing.push(Missing::Column(name.to_owned())),
            Some(column) if !holds(&column.kind, wanted) => missing.push(wrong_kind(column, wanted.unwrap_or("text"))),
            Some(column) => {
                missing.extend(narrow(column));
                missing.extend(closed(column));
            }
        }
    }
    match table.column("id") {
        None => missing.push(Missing::Column("id".to_owned())),
        Some(column) if !IDS.contains(&column.kind.as_str()) => missing.push(wrong_kind(column, IDS[0])),
        Some(_) => {}
    }
    match table.column("feedback") {
        None => missing.push(Missing::Column("feedback".to_owned())),
        Some(column) if !column.select => missing.push(Missing::Right("SELECT", Some("feedback".to_owned()))),
        Some(_) => {}
    }
    // A column under another name is one mistake, not two.
    let renamed = |column: &Column| {
        missing.iter().any(|one| matches!(one, Missing::Column(name) if holds(&column.kind, number(name))))
    };
    let unfilled = table.columns.iter().filter(|column| column.must_be_given && !is_ours(&column.name));
    let unfilled: Vec<_> = unfilled.filter(|column| !renamed(column)).collect();
    missing.extend(unfilled.into_iter().map(|column| Missing::Default(column.name.clone())));
    if !table.delete {
        missing.push(Missing::Right("DELETE", None));
    }
    missing.extend(table.closed_sequence.map(Missing::Sequence));
    Ok(missing)
}

/// The type of a column that does not hold text.
fn number(column: &str) -> Option<&'static str> {
    NUMBERS.iter().find(|(number, _)| *number == column).map(|(_, kind)| *kind)
}

/// The longest text that a draft may have in a column. The input's limits count bytes, a column's characters, which are no more.
fn longest(column: &str) -> Option<usize> {
    if column == "client_id" { Some(LONGEST_CLIENT_ID) } else { decode::longest(column) }
}

/// The rights on the ledger's tables that are missing, as `insert lane`. What the migrations' own table holds is only read.
pub async fn missing_in_ledger(pool: &Pool) -> Result<Vec<(String, String)>, PostgresError> {
    let sql = "select r.word, c.relname::text from pg_class c cross join (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) r (word) \
               where c.relnamespace = to_regnamespace('dinnerbell') and c.relkind in ('r', 'p') and c.relname <> 'migrations' \
                 and not has_table_privilege(c.oid, r.word) order by 2, 1";
    Ok(pool.query(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The audience can be read.
pub async fn of_subscribers(pool: &Pool, late_subscribers: bool) -> Result<(), PostgresError> {
    judge(pool, &missing_in_subscribers(pool, late_subscribers).await?)
}

/// Drafts can be recorded, read back and withdrawn.
pub async fn of_feedback(pool: &Pool) -> Result<(), PostgresError> {
    judge(pool, &missing_in_feedback(pool).await?)
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
    let missing = missing_in_ledger(pool).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let tables: BTreeSet<String> = missing.iter().map(|(_, table)| format!("dinnerbell.{table}")).collect();
    let tables = tables.into_iter().collect::<Vec<_>>().join(", ");
    Err(refused(pool, &format!("grant SELECT, INSERT, UPDATE, DELETE on {tables} to this user")))
}

impl Missing {
    /// In words, with what mends it.
    pub fn say(&self, pool: &Pool) -> String {
        let table = pool.table();
        match self {
            Self::Table => format!(
                "table {table} does not exist; correct {}.table, or let `dinnerbell migrate --create-tables` make it",
                pool.address().section
            ),
            Self::Column(name) => format!("table {table} has no column {name}"),
            Self::Kind { column, is, must_be } => {
                format!("column {column} of {table} is of type {is}, and must be {must_be}")
            }
            Self::Room { column, most, needed } => {
                format!("{}: {}", lacks_room(pool, column, *most, *needed), widen(pool, column))
            }
            Self::Default(name) => {
                format!("column {name} of {table} must be nullable or have a default: the service does not fill it")
            }
            Self::Right(right, column) => {
                let column = column.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
                format!("grant {right}{column} on {table} to this user")
            }
            Self::Sequence(sequence) => format!("grant USAGE on sequence {sequence} to this user"),
            Self::AllRows => format!("{}; {SHOW_ALL_ROWS}", rows_are_hidden(pool)),
        }
    }
}

impl Table {
    /// None where it does not exist.
    async fn look_at(pool: &Pool) -> Result<Option<Self>, PostgresError> {
        let sql = "select a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null), \
                   a.attnotnull and not a.atthasdef and a.attidentity = '', \
                   has_column_privilege(c.oid, a.attnum, 'select'), has_column_privilege(c.oid, a.attnum, 'insert'), \
                   has_table_privilege(c.oid, 'delete'), \
                   case when a.attname = 'id' and a.attidentity = '' then pg_get_serial_sequence($1, 'id') end, \
                   case when coalesce(nullif(t.typbasetype, 0), t.oid) = 'varchar'::regtype \
                     then nullif(case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end, -1) - 4 end \
                   from pg_class c join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid \
                   where c.oid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum";
        let rows = pool.query(sql, &[(&pool.table().sql(), Type::TEXT)]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let sequence = rows.iter().find_map(|row| row.get::<_, Option<String>>(6));
        let closed_sequence = match sequence {
            Some(sequence) if !may_use(pool, &sequence).await? => Some(sequence),
            _ => None,
        };
        Ok(Some(Self { delete: first.get(5), columns: rows.iter().map(column).collect(), closed_sequence }))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

fn column(row: &Row) -> Column {
    Column {
        name: row.get(0),
        kind: row.get(1),
        most: row.get(7),
        must_be_given: row.get(2),
        select: row.get(3),
        insert: row.get(4),
    }
}

async fn may_use(pool: &Pool, sequence: &str) -> Result<bool, PostgresError> {
    let rows = pool.query("select has_sequence_privilege($1, 'usage, update')", &[(&sequence, Type::TEXT)]).await?;
    Ok(rows.first().is_none_or(|row| row.get(0)))
}

/// COPY in binary format converts nothing: each column must be of the type that is sent.
fn holds(kind: &str, wanted: Option<&str>) -> bool {
    match wanted {
        Some(wanted) => kind == wanted,
        None => ["text", "character varying"].contains(&kind),
    }
}

fn wrong_kind(column: &Column, must_be: &'static str) -> Missing {
    Missing::Kind { column: column.name.clone(), is: column.kind.clone(), must_be }
}

/// [`Missing::AllRows`] without what mends it.
pub fn rows_are_hidden(pool: &Pool) -> String {
    format!("row-level security hides rows of {} from this user, and who is hidden would never be told", pool.table())
}

/// [`Missing::Room`] without what mends it.
pub fn lacks_room(pool: &Pool, column: &str, most: i32, needed: usize) -> String {
    format!("column {column} of {} holds at most {most} characters, and must hold {needed}", pool.table())
}

/// What mends [`Missing::Room`]. No row is rewritten by it, but the index on (campaign, client) has a predicate, so that the server builds it anew.
pub fn widen(pool: &Pool, column: &str) -> String {
    format!("alter table {} alter column {column} type text", pool.table())
}

fn narrow(column: &Column) -> Option<Missing> {
    let (most, needed) = (column.most?, longest(&column.name)?);
    let narrow = usize::try_from(most).is_ok_and(|most| most < needed);
    narrow.then(|| Missing::Room { column: column.name.clone(), most, needed })
}

fn is_ours(column: &str) -> bool {
    FEEDBACK_COLUMNS.split(", ").any(|name| name == column)
}

fn closed(column: &Column) -> Vec<Missing> {
    let rights = [("SELECT", column.select), ("INSERT", column.insert)];
    let missing = rights.into_iter().filter(|(_, given)| !given);
    missing.map(|(right, _)| Missing::Right(right, Some(column.name.clone()))).collect()
}

fn judge(pool: &Pool, missing: &[Missing]) -> Result<(), PostgresError> {
    match missing {
        [] => Ok(()),
        // There is no more to say of it.
        [Missing::Table] => Err(PostgresError::refused(format!("{}: {}", pool.address(), Missing::Table.say(pool)))),
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
