//! The indexes that the service rests on: what they are, whether something like them is there, and how they are built beside a
//! running service.

mod build;
mod partitions;

use tokio_postgres::Row;
use xxhash_rust::xxh3::xxh3_64;

use crate::errors::OUR_INDEXES;
use crate::predicate::{short_enough, too_long};
use dinnerbell_config::TableName;

/// An index that should be there.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    purpose: &'static str,
    unique: bool,
    /// Column and whether it is compared as bytes.
    keys: Vec<(&'static str, bool)>,
    predicate: String,
    from_id: Option<i64>,
}

/// Both as bytes: the order of a collation changes with its library, and an index in the old order misses rows.
const FEEDBACK_KEYS: &[(&str, bool)] = &[("adv_campaign_id", true), ("client_id", true)];
/// As earlier versions made it.
const FEEDBACK_KEYS_BEFORE: &[(&str, bool)] = &[("adv_campaign_id", false), ("client_id", true)];
const AUDIENCE_KEYS: &[(&str, bool)] = &[("restaurant_id", false), ("client_id", true)];

impl Wanted {
    /// On the feedback table: no two rows of a (campaign, client).
    pub(super) fn once() -> Self {
        let predicate = short_enough("adv_campaign_id");
        Self { purpose: "once_c", unique: true, keys: FEEDBACK_KEYS.to_vec(), predicate, from_id: None }
    }

    /// The same for rows above an id.
    pub(super) fn above(self, id: i64) -> Self {
        Self { predicate: format!("{} and id > {id}", self.predicate), from_id: Some(id), ..self }
    }

    /// The same with these columns as they are behind the bytes: a unique index must hold the partition key in its own collation.
    fn with(mut self, columns: &[&'static str]) -> Self {
        self.keys.extend(columns.iter().map(|column| (*column, false)));
        self
    }

    /// On a feedback table that cannot have the first: who has a row.
    pub(super) fn told() -> Self {
        Self { purpose: "told_c", unique: false, ..Self::once() }
    }

    /// On the subscribers table: the clients of a restaurant in their order.
    pub(super) fn audience() -> Self {
        let predicate = short_enough("restaurant_id");
        Self { purpose: "audience", unique: false, keys: AUDIENCE_KEYS.to_vec(), predicate, from_id: None }
    }

    /// On the subscribers table: those who are in no page, to be counted. Nearly always empty.
    pub(super) fn skipped() -> Self {
        let predicate = too_long();
        Self { purpose: "skipped", unique: false, keys: AUDIENCE_KEYS[..1].to_vec(), predicate, from_id: None }
    }

    /// Its name on a table: says whose it is and what for, and fits into the 63 bytes of a name.
    pub(super) fn name(&self, table: &str) -> String {
        let name = format!("{OUR_INDEXES}{}_{table}", self.purpose);
        if name.len() <= 63 {
            return name;
        }
        let mut end = 63 - 9;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}_{:08x}", &name[..end], xxh3_64(name.as_bytes()) as u32)
    }

    /// The statement for an operator: as this program runs it on a table without partitions.
    pub(super) fn statement(&self, table: &TableName) -> String {
        self.sql("concurrently if not exists", &self.name(&table.table), &table.sql())
    }

    fn sql(&self, how: &str, name: &str, on: &str) -> String {
        let unique = if self.unique { "unique " } else { "" };
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|(column, bytes)| if *bytes { format!("{column} collate \"C\"") } else { (*column).to_owned() })
            .collect();
        format!("create {unique}index {how} {} on {on} ({}) where {}", quote(name), keys.join(", "), self.predicate)
    }

    /// Whether an index that is there does what this one shall do.
    fn is_served_by(&self, found: &Found) -> bool {
        let keys = found.keys.len() == self.keys.len()
            && found
                .keys
                .iter()
                .zip(&self.keys)
                .all(|(found, (column, bytes))| found.column == *column && (!bytes || found.is_bytewise()));
        keys && found.unique == self.unique && found.predicate == plain(&self.predicate)
    }

    /// Whether an index that is there is one of an earlier version, which compares ids of campaigns by the database's collation.
    fn is_of_before(found: &Found) -> bool {
        let mut columns = FEEDBACK_KEYS_BEFORE.iter().zip(&found.keys);
        found.name.starts_with(OUR_INDEXES)
            && found.keys.len() >= FEEDBACK_KEYS_BEFORE.len()
            && columns.all(|((column, bytes), found)| found.column == *column && found.is_bytewise() == *bytes)
    }

    /// The id from which an index that is there keeps rows unique, where this one shall do so for all.
    fn is_served_from(&self, found: &Found) -> Option<i64> {
        let id = found.predicate.strip_prefix(&plain(&self.predicate))?.strip_prefix("andid>")?.parse().ok()?;
        let like_me = Found { predicate: plain(&self.predicate), ..found.clone() };
        (self.unique && self.is_served_by(&like_me)).then_some(id)
    }
}

/// An index that is there.
#[derive(Debug, Clone)]
struct Found {
    name: String,
    valid: bool,
    unique: bool,
    keys: Vec<FoundKey>,
    /// Without spaces, parentheses and casts, which the server adds.
    predicate: String,
    /// The index of the partitioned table that it belongs to.
    parent: Option<String>,
}

#[derive(Debug, Clone)]
struct FoundKey {
    column: String,
    collation: String,
}

impl Found {
    fn of(row: &Row) -> Self {
        Self {
            name: row.get("name"),
            valid: row.get("valid"),
            unique: row.get("is_unique"),
            keys: row.get::<_, Vec<&str>>("keys").into_iter().map(FoundKey::of).collect(),
            predicate: plain(row.get("predicate")),
            parent: row.get("parent"),
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        self.name == name
    }
}

impl FoundKey {
    /// A key is written as `column/collation`.
    fn of(key: &str) -> Self {
        let (column, collation) = key.split_once('/').unwrap_or((key, ""));
        Self { column: column.to_owned(), collation: collation.to_owned() }
    }

    fn is_bytewise(&self) -> bool {
        matches!(self.collation.as_str(), "C" | "POSIX")
    }
}

/// A predicate in a form in which ours and the server's are equal.
fn plain(predicate: &str) -> String {
    let text: String = predicate.chars().filter(|c| !matches!(c, '(' | ')' | ' ')).collect();
    text.to_lowercase().replace("::text", "").replace("::charactervarying", "").replace("::bpchar", "")
}

/// The outcome of an index.
#[derive(Debug)]
pub(super) enum Ensured {
    /// It is there.
    There(String),
    /// One is there that serves for rows above an id.
    ThereFrom {
        /// Its name.
        name: String,
        /// The id.
        id: i64,
    },
    /// Rows contradict it; nothing of it was left behind.
    Duplicates,
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predicate_is_known_again_in_the_servers_words() {
        let server = "((octet_length((restaurant_id)::text) <= 256) AND (octet_length((client_id)::text) <= 256))";
        assert_eq!(plain(server), plain(&Wanted::audience().predicate));
    }

    #[test]
    fn an_index_from_an_id_on_is_told_from_one_for_all_rows() {
        let key = |column: &str, collation: &str| FoundKey { column: column.into(), collation: collation.into() };
        let found = Found {
            name: "any".into(),
            valid: true,
            unique: true,
            keys: vec![key("adv_campaign_id", "C"), key("client_id", "C")],
            predicate: plain(&Wanted::once().above(17).predicate),
            parent: None,
        };
        assert!(!Wanted::once().is_served_by(&found));
        assert_eq!(Wanted::once().is_served_from(&found), Some(17));
        assert!(Wanted::once().above(17).is_served_by(&found));
        let other_order = Found { keys: vec![key("client_id", "C"), key("adv_campaign_id", "C")], ..found.clone() };
        assert_eq!(Wanted::once().is_served_from(&other_order), None);
        let other_collation = Found { keys: vec![key("adv_campaign_id", "default"), key("client_id", "C")], ..found };
        assert!(!Wanted::once().above(17).is_served_by(&other_collation));
        let of_before = Found { name: "dinnerbell_once_t".into(), ..other_collation };
        assert!(Wanted::is_of_before(&of_before));
        assert!(!Wanted::is_of_before(&Found { name: "theirs".into(), ..of_before }), "it is not ours to name");
    }

    #[test]
    fn names_of_indexes_fit_and_differ_for_long_table_names() {
        let long = "subscribers_feedback_of_the_year_two_thousand_twenty_six_part_";
        let (one, two) = (Wanted::once().name(&format!("{long}1")), Wanted::once().name(&format!("{long}2")));
        assert_ne!(one, two);
        assert!(one.len() <= 63 && one.starts_with(OUR_INDEXES), "{one}");
        assert_eq!(Wanted::once().name("subscribers_feedback"), "dinnerbell_once_c_subscribers_feedback");
    }
}
