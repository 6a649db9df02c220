//! What the service needs of the two tables and of the ledger, looked for before it starts: tables, columns, types and rights.
//! A lane would find the first thing that is missing only with its first campaign, and the others one after another.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::audience::begin_sql;
use crate::connect::{Connection, Pool};
use crate::errors::{PATIENCE, PostgresError, SHOW_ALL_ROWS};
use crate::sequence;
use dinnerbell_core::model::draft::{FEEDBACK_COLUMNS, TriggerType};
use dinnerbell_core::model::input;
use dinnerbell_core::model::limits::LONGEST_CLIENT_ID;

/// The column that holds when a draft was formed: of one type or another, and drafts are written as it is.
const TRIGGER: &str = "trigger_datetime_created";
/// The types that it may have.
const TRIGGER_TYPES: &[&str] = &["integer", "bigint"];
/// The column that others fill.
const ANSWER: &str = "feedback";
/// Columns of the feedback table that hold what its name does not tell: all others hold text.
const NUMBERS: [(&str, &[&str]); 4] = [
    ("adv_campaign_datetime_start", &["bigint"]),
    ("adv_campaign_datetime_end", &["bigint"]),
    ("datetime_created", &["bigint"]),
    (TRIGGER, TRIGGER_TYPES),
];
/// What a text that is copied may be: COPY in binary format converts nothing.
const COPIED_TEXTS: &[&str] = &["text", "character varying"];
/// A type's name in a query over `pg_type t`; of a domain, the type that it is made of.
const KIND: &str = "format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null)";

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
    not_null: bool,
    /// The server computes it, and takes no other value.
    generated: bool,
    select: bool,
    insert: bool,
}

/// A table as this user sees it.
struct Table {
    columns: Vec<Column>,
    delete: bool,
    /// Row-level security applies to this user.
    hides_rows: bool,
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
        /// What it must be: one of these.
        must_be: &'static [&'static str],
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
    /// A column that the service writes and the server computes.
    Generated(String),
    /// Room for a draft that nobody answered yet: `feedback` is not null.
    Null,
    /// A table whose rows this user sees and writes whatever policies say: COPY is refused where row-level security applies.
    Rows,
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
        "select {KIND} from pg_attribute a join pg_type t on t.oid = a.atttypid \
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
    let sql = "select r.word, c.relname::text from pg_class c cross join (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) r (word) \
               where c.relnamespace = to_regnamespace('dinnerbell') and c.relkind in ('r', 'p') and c.relname <> 'migrations' \
                 and not has_table_privilege(c.oid, r.word) order by 2, 1";
    Ok(pool.query(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
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

impl Missing {
    /// In words, with what mends it.
    pub fn say(&self, pool: &Pool) -> String {
        format!("{}: {}", self.found(pool), self.remedy(pool))
    }

    /// What is missing, in words.
    pub fn found(&self, pool: &Pool) -> String {
        let table = pool.table();
        match self {
            Self::Table => format!("table {table} does not exist, or its schema is closed to this user"),
            Self::Column(name) => format!("table {table} has no column {name}"),
            Self::Kind { column, is, must_be } => says_kind(&table.to_string(), column, is, must_be),
            Self::Room { column, most, needed } => {
                format!("column {column} of {table} holds at most {most} characters, and must hold {needed}")
            }
            Self::Default(name) => {
                format!("column {name} of {table} must be given a value, and the service does not fill it")
            }
            Self::Generated(column) => format!("column {column} of {table} is generated, and the service writes it"),
            Self::Null => {
                format!("column {ANSWER} of {table} is not null, and a draft has none until somebody answers")
            }
            Self::Rows => {
                format!("row-level security applies to this user in table {table}, and COPY is refused under it")
            }
            Self::Right(right, column) => {
                let column = column.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
                format!("the role may not {right}{column} in {table}")
            }
            Self::Sequence(sequence) => {
                format!("the role may not use sequence {sequence}, which gives the rows their ids")
            }
            Self::AllRows => {
                format!(
                    "row-level security hides rows of {table} from this user, and who is hidden would never be told"
                )
            }
        }
    }

    /// What mends it.
    pub fn remedy(&self, pool: &Pool) -> String {
        let (table, section) = (pool.table(), pool.address().section);
        match self {
            Self::Table => format!(
                "correct {section}.table, grant usage on its schema, or let `dinnerbell migrate --create-tables` make it"
            ),
            Self::Column(_) | Self::Kind { .. } => format!("correct {section}.table, or the table"),
            // No row is rewritten by it, but the index on (campaign, client) has a predicate, so that the server builds it anew.
            Self::Room { column, .. } => format!(
                "alter table {table} alter column {column} type text (rewrites no row; an index on the column is built anew, with the table locked)"
            ),
            Self::Default(column) => {
                format!("alter table {table} alter column {column} set default ..., or drop its not null")
            }
            Self::Generated(column) => format!("alter table {table} alter column {column} drop expression"),
            Self::Null => format!("alter table {table} alter column {ANSWER} drop not null"),
            Self::Rows => {
                format!("alter role {} bypassrls, or alter table {table} disable row level security", pool.user())
            }
            Self::Right(right, column) => {
                let column = column.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
                format!("grant {right}{column} on {table} to this user")
            }
            Self::Sequence(sequence) => format!("grant USAGE on sequence {sequence} to this user"),
            Self::AllRows => SHOW_ALL_ROWS.to_owned(),
        }
    }

    /// Whether it is a right, which one statement of its kind gives for all columns.
    pub fn is_a_right(&self) -> bool {
        matches!(self, Self::Right(..) | Self::Sequence(_))
    }

    /// Whether the columns are not those of such a table: nothing else can be looked at then.
    pub fn is_another_shape(&self) -> bool {
        matches!(self, Self::Table | Self::Column(_) | Self::Kind { .. } | Self::Generated(_))
    }
}

impl Table {
    /// None where it does not exist.
    async fn look_at(pool: &Pool) -> Result<Option<Self>, PostgresError> {
        let sql = format!(
            "select a.attname::text, {KIND}, \
                   a.attnotnull and not a.atthasdef and a.attidentity = '', \
                   has_column_privilege(c.oid, a.attnum, 'select'), has_column_privilege(c.oid, a.attnum, 'insert'), \
                   has_table_privilege(c.oid, 'delete'), \
                   case when coalesce(nullif(t.typbasetype, 0), t.oid) = 'varchar'::regtype \
                     then nullif(case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end, -1) - 4 end, \
                   a.attnotnull or t.typnotnull, a.attgenerated <> '', row_security_active(c.oid) \
                   from pg_class c join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid \
                   where c.oid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum"
        );
        let rows = pool.query(&sql, &[(&pool.table().sql(), Type::TEXT)]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let closed = sequence::of_ids(pool).await?.filter(|sequence| !sequence.usable);
        let closed_sequence = closed.map(|sequence| sequence.name);
        let (delete, hides_rows) = (first.get(5), first.get(9));
        Ok(Some(Self { delete, hides_rows, columns: rows.iter().map(column).collect(), closed_sequence }))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

fn column(row: &Row) -> Column {
    Column {
        name: row.get(0),
        kind: row.get(1),
        most: row.get(6),
        must_be_given: row.get(2),
        not_null: row.get(7),
        generated: row.get(8),
        select: row.get(3),
        insert: row.get(4),
    }
}

fn holds(kind: &str, column: &str) -> bool {
    kinds(column).contains(&kind)
}

fn says_kind(table: &str, column: &str, is: &str, must_be: &[&str]) -> String {
    format!("column {column} of {table} is of type {is}, and must be {}", must_be.join(" or "))
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

fn judge(pool: &Pool, missing: &[Missing]) -> Result<(), PostgresError> {
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
