//! Which texts of a database can be read here. The client speaks UTF-8, and a database of another encoding may hold bytes that have no place in it.
//! The server refuses a whole statement for one such row, so the statements leave these rows out by a condition of their own.

use tokio_postgres::error::SqlState;

use super::connect::Pool;
use super::errors::PostgresError;
use dinnerbell_core::model::limits::LONGEST_CLIENT_ID;

/// Bytes of UTF-8, as a regular expression over single bytes: in a database without an encoding each byte is a character.
const UTF8: &str = "^([\\u0001-\\u007f]|[\\u00c2-\\u00df][\\u0080-\\u00bf]|\\u00e0[\\u00a0-\\u00bf][\\u0080-\\u00bf]\
    |[\\u00e1-\\u00ec\\u00ee\\u00ef][\\u0080-\\u00bf]{2}|\\u00ed[\\u0080-\\u009f][\\u0080-\\u00bf]\
    |\\u00f0[\\u0090-\\u00bf][\\u0080-\\u00bf]{2}|[\\u00f1-\\u00f3][\\u0080-\\u00bf]{3}|\\u00f4[\\u0080-\\u008f][\\u0080-\\u00bf]{2})*$";

/// What a subscribers database can hold that the ledger cannot tell. In both, ids have one order and one length: what is longer than an id may be
/// in UTF-8, which the feedback table has, is left out as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Legible {
    /// `UTF8`: every text of it can be read.
    Whole,
    /// `SQL_ASCII`: whatever bytes a client wrote.
    Bytes,
    /// `LATIN1`: its order is that of UTF-8. Some of its characters take two bytes there.
    Latin1,
}

impl Legible {
    /// Asks the database for its encoding. One in which ids have another order than in the ledger is refused: what one database takes for a range of
    /// clients would be another in the other one.
    pub async fn of(pool: &Pool) -> Result<Self, PostgresError> {
        let rows = pool.query("select getdatabaseencoding()::text", &[]).await?;
        match rows.first().map(|row| row.get(0)) {
            Some("UTF8") => Ok(Self::Whole),
            Some("SQL_ASCII") => Ok(Self::Bytes),
            Some("LATIN1") => Ok(Self::Latin1),
            Some(encoding) => Err(PostgresError::refused(format!(
                "{}: its encoding is {encoding}, in which ids have another order than in the ledger",
                pool.address()
            ))
            .mended_by(format!(
                "let {}.url lead to a database whose encoding is UTF8, LATIN1 or SQL_ASCII, for instance a copy of the table by logical replication",
                pool.address().section
            ))),
            None => Err(PostgresError::transient("the server does not say its encoding")),
        }
    }

    /// What an operator is to know where not every text can be read.
    pub fn warning(self) -> Option<&'static str> {
        (self == Self::Bytes)
            .then_some("its encoding is SQL_ASCII: rows with a client_id that is no UTF-8 are skipped and counted")
    }

    /// The condition under which a column can be read and told; none where that is always so.
    pub fn condition(self, column: &str) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Bytes => Some(matches(column, "~", UTF8)),
            Self::Latin1 => Some(format!("octet_length(convert_to({column}::text, 'UTF8')) <= {LONGEST_CLIENT_ID}")),
        }
    }

    /// The same as a further condition of a statement.
    pub fn and(self, column: &str) -> String {
        self.condition(column).map(|condition| format!(" and {condition}")).unwrap_or_default()
    }
}

fn matches(column: &str, operator: &str, pattern: &str) -> String {
    // Written so that it means the same whatever standard_conforming_strings is.
    format!("{column}::text collate \"C\" {operator} E'{}'", pattern.replace('\\', "\\\\"))
}

/// Whether the server could not write a text in the other encoding: ours, or that of its database.
pub fn is_illegible(error: &PostgresError) -> bool {
    let codes = [SqlState::UNTRANSLATABLE_CHARACTER, SqlState::CHARACTER_NOT_IN_REPERTOIRE];
    error.code().is_some_and(|code| codes.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_that_can_hold_what_cannot_be_read_is_asked_for_less() {
        assert_eq!(Legible::Whole.and("client_id"), "");
        assert!(
            Legible::Bytes.and("client_id").starts_with(r#" and client_id::text collate "C" ~ E'^([\\u0001-\\u007f]|"#)
        );
        assert!(Legible::Latin1.and("client_id").ends_with("'UTF8')) <= 256"));
    }
}
