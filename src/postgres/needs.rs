//! What the service needs of the two tables and of the ledger, looked for before it starts: tables, columns, types and rights.
//! A lane would find the first thing that is missing only with its first campaign, and the others one after another.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::draft::FEEDBACK_COLUMNS;
use crate::postgres::connect::Pool;
use crate::postgres::errors::PostgresError;

/// Columns of the feedback table that hold what its name does not tell: all others hold text.
const NUMBERS: [(&str, &str); 4] = [
    ("adv_campaign_datetime_start", "bigint"),
    ("adv_campaign_datetime_end", "bigint"),
    ("datetime_created", "bigint"),
    ("trigger_datetime_created", "integer"),
];

/// A column, with what this user may do with it.
struct Column {
    name: String,
    /// Its type, or what its domain is made of.
    kind: String,
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

/// The audience can be read.
pub async fn of_subscribers(pool: &Pool, late_subscribers: bool) -> Result<(), PostgresError> {
    let table = Table::look_at(pool).await?;
    let mut columns = vec!["client_id", "restaurant_id"];
    if late_subscribers {
        columns.push("id");
    }
    let mut missing = Vec::new();
    for name in columns {
        match table.column(name) {
            None => missing.push(no_column(pool, name)),
            Some(column) if !column.select => missing.push(no_right(pool, "SELECT", Some(name))),
            Some(_) => {}
        }
    }
    judge(pool, missing)
}

/// Drafts can be recorded, read back and withdrawn.
pub async fn of_feedback(pool: &Pool) -> Result<(), PostgresError> {
    let table = Table::look_at(pool).await?;
    let mut missing = Vec::new();
    for name in FEEDBACK_COLUMNS.split(", ") {
        let wanted = NUMBERS.iter().find(|(number, _)| *number == name).map(|(_, kind)| *kind);
        match table.column(name) {
            None => missing.push(no_column(pool, name)),
            Some(column) if !holds(&column.kind, wanted) => missing.push(format!(
                "column {name} of {} is of type {}, and must be {}",
                pool.table(),
                column.kind,
                wanted.unwrap_or("text")
            )),
            Some(column) => missing.extend(closed(pool, column)),
        }
    }
    match table.column("feedback") {
        None => missing.push(no_column(pool, "feedback")),
        Some(column) if !column.select => missing.push(no_right(pool, "SELECT", Some("feedback"))),
        Some(_) => {}
    }
    missing.extend(table.columns.iter().filter(|column| column.must_be_given && !is_ours(&column.name)).map(
        |column| {
            format!(
                "column {} of {} must be nullable or have a default: the service does not fill it",
                column.name,
                pool.table()
            )
        },
    ));
    if !table.delete {
        missing.push(no_right(pool, "DELETE", None));
    }
    missing.extend(table.closed_sequence.map(|sequence| format!("grant USAGE on sequence {sequence} to this user")));
    judge(pool, missing)
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
    let sql = "select c.oid::regclass::text from pg_class c \
               where c.relnamespace = 'dinnerbell'::regnamespace and c.relkind in ('r', 'p') and not ( \
                   has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert') \
                   and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete')) \
               order by 1";
    let rows = pool.query(sql, &[]).await?;
    let tables: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    if tables.is_empty() {
        return Ok(());
    }
    judge(pool, vec![format!("grant SELECT, INSERT, UPDATE, DELETE on {} to this user", tables.join(", "))])
}

impl Table {
    async fn look_at(pool: &Pool) -> Result<Self, PostgresError> {
        let sql = "select a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null), \
                   a.attnotnull and not a.atthasdef and a.attidentity = '', \
                   has_column_privilege(c.oid, a.attnum, 'select'), has_column_privilege(c.oid, a.attnum, 'insert'), \
                   has_table_privilege(c.oid, 'delete'), \
                   case when a.attname = 'id' and a.attidentity = '' then pg_get_serial_sequence($1, 'id') end \
                   from pg_class c join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid \
                   where c.oid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum";
        let rows = pool.query(sql, &[(&pool.table().sql(), Type::TEXT)]).await?;
        let Some(first) = rows.first() else {
            return Err(PostgresError::refused(format!(
                "{}: table {} does not exist; correct {}.table, or let `dinnerbell migrate --create-tables` make it",
                pool.address(),
                pool.table(),
                pool.address().section
            )));
        };
        let sequence = rows.iter().find_map(|row| row.get::<_, Option<String>>(6));
        let closed_sequence = match sequence {
            Some(sequence) if !may_use(pool, &sequence).await? => Some(sequence),
            _ => None,
        };
        Ok(Self { delete: first.get(5), columns: rows.iter().map(column).collect(), closed_sequence })
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

fn column(row: &Row) -> Column {
    Column { name: row.get(0), kind: row.get(1), must_be_given: row.get(2), select: row.get(3), insert: row.get(4) }
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

fn is_ours(column: &str) -> bool {
    FEEDBACK_COLUMNS.split(", ").any(|name| name == column)
}

fn closed(pool: &Pool, column: &Column) -> Vec<String> {
    let rights = [("SELECT", column.select), ("INSERT", column.insert)];
    rights.iter().filter(|(_, given)| !given).map(|(right, _)| no_right(pool, right, Some(&column.name))).collect()
}

fn no_column(pool: &Pool, name: &str) -> String {
    format!("table {} has no column {name}", pool.table())
}

fn no_right(pool: &Pool, right: &str, column: Option<&str>) -> String {
    let column = column.map(|name| format!(" ({name})")).unwrap_or_default();
    format!("grant {right}{column} on {} to this user", pool.table())
}

fn judge(pool: &Pool, missing: Vec<String>) -> Result<(), PostgresError> {
    if missing.is_empty() {
        return Ok(());
    }
    let section = pool.address().section;
    Err(PostgresError::refused(format!(
        "{}: the user in {section}.url or the table in {section}.table will not do: {}",
        pool.address(),
        missing.join("; ")
    )))
}
