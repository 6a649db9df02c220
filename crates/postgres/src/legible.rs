//! Which texts of a database can be read here. The client speaks UTF-8, and a database of another encoding may hold bytes that have no place in it.
//! The server refuses a whole statement for one such row, so the statements leave these rows out by a condition of their own.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::connect::Pool;
use super::errors::{ErrorKind, PostgresError};

/// Bytes of UTF-8, as a regular expression over single bytes: in a database without an encoding each byte is a character.
const UTF8: &str = "^([\\u0001-\\u007f]|[\\u00c2-\\u00df][\\u0080-\\u00bf]|\\u00e0[\\u00a0-\\u00bf][\\u0080-\\u00bf]\
    |[\\u00e1-\\u00ec\\u00ee\\u00ef][\\u0080-\\u00bf]{2}|\\u00ed[\\u0080-\\u009f][\\u0080-\\u00bf]\
    |\\u00f0[\\u0090-\\u00bf][\\u0080-\\u00bf]{2}|[\\u00f1-\\u00f3][\\u0080-\\u00bf]{3}|\\u00f4[\\u0080-\\u008f][\\u0080-\\u00bf]{2})*$";

/// What a database can hold that is no UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legible {
    encoding: String,
    kind: Encoding,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Encoding {
    /// Every text of it can be read.
    Whole,
    /// `SQL_ASCII`: whatever bytes a client wrote.
    None,
    /// One byte for each character; these bytes stand for nothing.
    Bytes(Vec<u8>),
    /// Several bytes for a character; what of it has no place in UTF-8 cannot be told beforehand.
    Unknown,
}

impl Legible {
    /// Asks the database for its encoding, and which of its bytes stand for nothing.
    pub async fn of(pool: &Pool) -> Result<Self, PostgresError> {
        let sql = "select getdatabaseencoding()::text as encoding, \
                   pg_encoding_max_length(pg_char_to_encoding(getdatabaseencoding())) as widest";
        let rows = pool.query(sql, &[]).await?;
        let Some(row) = rows.first() else {
            return Err(PostgresError::transient("the server does not say its encoding"));
        };
        let (encoding, widest): (String, i32) = (row.get("encoding"), row.get("widest"));
        let kind = match (encoding.as_str(), widest) {
            ("UTF8", _) => Encoding::Whole,
            ("SQL_ASCII", _) => Encoding::None,
            (name, 1) => match undefined(pool, name).await? {
                bytes if bytes.is_empty() => Encoding::Whole,
                bytes => Encoding::Bytes(bytes),
            },
            _ => Encoding::Unknown,
        };
        Ok(Self { encoding, kind })
    }

    /// The encoding, as the server names it.
    pub fn encoding(&self) -> &str {
        &self.encoding
    }

    /// Whether a text can stand in this database that cannot be read.
    pub fn is_whole(&self) -> bool {
        self.kind == Encoding::Whole
    }

    /// Whether such rows can be left out by a condition.
    pub fn can_tell(&self) -> bool {
        self.kind != Encoding::Unknown
    }

    /// What an operator is to know where not every text can be read.
    pub fn warning(&self) -> String {
        let Self { encoding, .. } = self;
        match self.kind {
            Encoding::Unknown => format!(
                "its encoding is {encoding}: a client_id that has no place in UTF-8 cannot be left out, and holds up the campaigns of its restaurant"
            ),
            _ => format!("its encoding is {encoding}: rows with a client_id that is no UTF-8 are skipped and counted"),
        }
    }

    /// The condition under which a column can be read; none where that is always so, or cannot be told.
    pub fn condition(&self, column: &str) -> Option<String> {
        match &self.kind {
            Encoding::Whole | Encoding::Unknown => None,
            Encoding::None => Some(matches(column, "~", UTF8)),
            Encoding::Bytes(bytes) => {
                let bytes: String = bytes.iter().map(|byte| format!("\\u{byte:04x}")).collect();
                Some(matches(column, "!~", &format!("[{bytes}]")))
            }
        }
    }

    /// The same as a further condition of a statement.
    pub fn and(&self, column: &str) -> String {
        self.condition(column).map(|condition| format!(" and {condition}")).unwrap_or_default()
    }
}

fn matches(column: &str, operator: &str, pattern: &str) -> String {
    // Written so that it means the same whatever standard_conforming_strings is.
    format!("{column}::text collate \"C\" {operator} E'{}'", pattern.replace('\\', "\\\\"))
}

/// The bytes of an encoding of single bytes that stand for nothing: halves of a range are tried until each that fails is one byte.
async fn undefined(pool: &Pool, encoding: &str) -> Result<Vec<u8>, PostgresError> {
    let all: Vec<u8> = (0x80..=0xff).collect();
    let (mut undefined, mut left) = (Vec::new(), vec![all.as_slice()]);
    while let Some(bytes) = left.pop() {
        match pool
            .query("select convert($1, $2::text::name, 'UTF8')", &[(&bytes, Type::BYTEA), (&encoding, Type::TEXT)])
            .await
        {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Refused && is_illegible(&error) => match bytes {
                [byte] => undefined.push(*byte),
                bytes => {
                    let (lower, upper) = bytes.split_at(bytes.len() / 2);
                    left.extend([upper, lower]);
                }
            },
            Err(error) => return Err(error),
        }
    }
    Ok(undefined)
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
        let of = |kind| Legible { encoding: "any".to_owned(), kind };
        assert_eq!(of(Encoding::Whole).and("client_id"), "");
        assert_eq!(
            of(Encoding::Bytes(vec![0x81, 0x98])).and("client_id"),
            r#" and client_id::text collate "C" !~ E'[\\u0081\\u0098]'"#
        );
        assert!(
            of(Encoding::None)
                .and("client_id")
                .starts_with(r#" and client_id::text collate "C" ~ E'^([\\u0001-\\u007f]|"#)
        );
    }
}
