//! What the service needs of a table and does not find, in words.

use crate::connect::Pool;
use crate::errors::SHOW_ALL_ROWS;

/// The column that others fill.
pub(super) const ANSWER: &str = "feedback";

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
            // No row is rewritten by it, but the index on (campaign, client) has a predicate, so that the server builds it again.
            Self::Room { column, .. } => format!(
                "alter table {table} alter column {column} type text (rewrites no row; an index on the column is built again, with the table locked)"
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

/// A column is of another type than it must be.
pub(super) fn says_kind(table: &str, column: &str, is: &str, must_be: &[&str]) -> String {
    format!("column {column} of {table} is of type {is}, and must be {}", must_be.join(" or "))
}
