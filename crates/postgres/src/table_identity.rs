//! Which feedback table is the ledger's. A table is known by its name and by its identity (its `oid`). Without its rows everybody looks untold, so a
//! service that works with another table would tell all of them again.
//!
//! The ledger's own table `service` has an identity too, and notes it. Where it is another one than was noted, the whole database was restored from a
//! dump. The ledger came along, and so did its feedback table, which is then taken for the ledger's without a question.

use std::fmt;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::{Connection, Pool};
use super::errors::PostgresError;
use dinnerbell_config::TableName;
use dinnerbell_core::model::halt::ADOPT;

/// A condition in SQL that is true or false: whether the table with this quoted name, a parameter or literal, is the one that the ledger knows.
pub fn is_known(table: &str) -> String {
    format!(
        "coalesce((select coalesce(s.feedback_oid = to_regclass({table})::oid, s.feedback_oid is null) \
         or s.service_oid is distinct from s.tableoid from dinnerbell.service s), true)"
    )
}

/// A feedback table that is not the ledger's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherTable {
    /// The table of the configuration.
    pub configured: String,
    /// The table's name as the ledger knows it.
    pub known: String,
    /// What the known table is called now; none if it is gone.
    pub now: Option<String>,
    /// Whether there is a table of the configured name.
    pub is_there: bool,
}

impl OtherTable {
    /// Whether it is the ledger's table under another name.
    pub fn is_only_renamed(&self) -> bool {
        self.now.as_deref() == Some(self.configured.as_str())
    }
}

impl fmt::Display for OtherTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { configured, known, now, is_there } = self;
        match (known == configured, is_there) {
            (false, _) => write!(f, "feedback.table is {configured}, and the ledger knows {known}: ")?,
            (true, true) => write!(f, "{configured} is another table than the one that the ledger knows: ")?,
            (true, false) => write!(f, "the feedback table {configured} is not there: ")?,
        }
        match now {
            Some(now) => write!(f, "the known one is called {now} now"),
            None => write!(f, "the known one is gone"),
        }?;
        write!(f, ", and only there it stands who was told")
    }
}

/// Notes name and identity of the configured table, where the ledger knows none yet, or came from a dump.
pub async fn note(connection: &Connection, table: &TableName) -> Result<(), PostgresError> {
    let sql = "update dinnerbell.service set feedback_table = $1, feedback_oid = to_regclass($2)::oid, service_oid = tableoid \
               where (feedback_oid is null or service_oid is distinct from tableoid) and to_regclass($2) is not null \
               and coalesce(feedback_table = $1, true)";
    let (name, quoted) = (table.to_string(), table.sql());
    connection.execute(sql, &[(&name, Type::TEXT), (&quoted, Type::TEXT)]).await.map(drop)
}

/// Looks whether the configured table is the ledger's. What is wrong otherwise is the inner error.
pub async fn check(pool: &Pool) -> Result<Result<(), OtherTable>, PostgresError> {
    let table = pool.table();
    let sql = format!(
        "select feedback_table, {} as same, to_regclass($1) is not null as is_there, (select format('%I.%I', n.nspname, c.relname) from pg_class c \
           join pg_namespace n on n.oid = c.relnamespace where c.oid = s.feedback_oid) as now from dinnerbell.service s",
        is_known("$1")
    );
    let rows = pool.query(&sql, &[(&table.sql(), Type::TEXT)]).await?;
    Ok(rows.first().map_or(Ok(()), |row| compare(row, table)))
}

fn compare(row: &Row, table: &TableName) -> Result<(), OtherTable> {
    let configured = table.to_string();
    let (known, same): (Option<String>, bool) = (row.get("feedback_table"), row.get("same"));
    if same && known.as_ref().is_none_or(|known| *known == configured) {
        return Ok(());
    }
    let now = match same {
        true => Some(configured.clone()),
        false => row.get("now"),
    };
    Err(OtherTable {
        known: known.unwrap_or_else(|| configured.clone()),
        now,
        is_there: row.get("is_there"),
        configured,
    })
}

/// Why a service or a command does not work with a feedback table that is not the ledger's, and what to do.
pub fn of_another_table(another: &OtherTable) -> String {
    let remedy = match another.is_only_renamed() {
        true => format!("correct feedback.table, or let the ledger take the new name: {ADOPT}"),
        false if another.known == another.configured => {
            format!("put the known table back under its name, or let the ledger take this one: {ADOPT}")
        }
        false => format!("correct feedback.table, or let the ledger take this one: {ADOPT}"),
    };
    format!("{another}; {remedy}")
}
