//! A table as this user sees it.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::connect::Pool;
use crate::errors::PostgresError;
use crate::sequence;
use crate::sql;

/// A column, with what this user may do with it.
pub(super) struct Column {
    pub(super) name: String,
    /// Its type, or what its domain is made of.
    pub(super) kind: String,
    /// Most characters that it holds, where its type says so.
    pub(super) most: Option<i32>,
    /// An insert that leaves it out fails.
    pub(super) must_be_given: bool,
    pub(super) not_null: bool,
    /// The server computes it, and takes no other value.
    pub(super) generated: bool,
    pub(super) select: bool,
    pub(super) insert: bool,
}

/// A table as this user sees it.
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) delete: bool,
    /// Row-level security applies to this user.
    pub(super) hides_rows: bool,
    /// The sequence behind its id, if this user may not use it.
    pub(super) closed_sequence: Option<String>,
}

impl Table {
    /// None where it does not exist.
    pub(super) async fn read(pool: &Pool) -> Result<Option<Self>, PostgresError> {
        let rows = pool.query(sql::COLUMNS.text(), &[(&pool.table().sql(), Type::TEXT)]).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let closed = sequence::of_ids(pool).await?.filter(|sequence| !sequence.usable);
        let closed_sequence = closed.map(|sequence| sequence.name);
        let (delete, hides_rows) = (first.get("may_delete"), first.get("hides_rows"));
        Ok(Some(Self { delete, hides_rows, columns: rows.iter().map(Column::of).collect(), closed_sequence }))
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl Column {
    fn of(row: &Row) -> Self {
        Self {
            name: row.get("name"),
            kind: row.get("kind"),
            most: row.get("most"),
            must_be_given: row.get("must_be_given"),
            not_null: row.get("not_null"),
            generated: row.get("generated"),
            select: row.get("may_select"),
            insert: row.get("may_insert"),
        }
    }
}
