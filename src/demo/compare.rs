//! Compares both sinks, draft by draft.

use std::collections::BTreeMap;

use super::messages::Everything;
use crate::demo::sender::Rung;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::errors::PostgresError;

/// How many drafts an error names.
const NAMED: usize = 3;

/// A draft: the campaign and the client.
pub type Draft = (String, String);

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Drafts in both.
    pub drafts: usize,
    /// Messages that are there more than once. The in-process broker keeps what was aborted, so this alone is no difference.
    pub repeated: usize,
    /// Everything that contradicts a promise.
    pub differences: Vec<String>,
}

/// The feedback rows: how often each draft is there.
pub async fn rows(feedback: &Pool) -> Result<BTreeMap<Draft, u32>, PostgresError> {
    let mut rows: BTreeMap<Draft, u32> = BTreeMap::new();
    let sql = format!("select adv_campaign_id, client_id from {}", feedback.table().sql());
    let connection = feedback.get().await?;
    let count = |row: &tokio_postgres::Row| {
        *rows.entry((row.get(0), row.get(1))).or_default() += 1;
        Ok(())
    };
    connection.for_each(&sql, Vec::new(), dinnerbell_postgres::errors::TIME_LIMIT, count).await?;
    connection.release();
    Ok(rows)
}

/// Compares rows, messages, and what was rung.
pub fn compare(rows: &BTreeMap<Draft, u32>, read: &Everything, rung: &BTreeMap<String, Rung>) -> Comparison {
    let mut found = Comparison {
        drafts: rows.keys().filter(|draft| read.drafts.contains_key(*draft)).count(),
        repeated: read.drafts.values().filter(|times| **times > 1).count(),
        differences: Vec::new(),
    };
    let mut differ = |what: &str, drafts: Vec<&Draft>| {
        if !drafts.is_empty() {
            let named: Vec<String> =
                drafts.iter().take(NAMED).map(|(campaign, client)| format!("{campaign} to {client}")).collect();
            found.differences.push(format!("{} {what}, as {}", drafts.len(), named.join(", ")));
        }
    };
    differ("rows have no message", rows.keys().filter(|draft| !read.drafts.contains_key(*draft)).collect());
    differ("messages have no row", read.drafts.keys().filter(|draft| !rows.contains_key(*draft)).collect());
    differ(
        "drafts have more than one row",
        rows.iter().filter(|(_, times)| **times > 1).map(|(draft, _)| draft).collect(),
    );
    if read.unreadable > 0 {
        found.differences.push(format!("{} messages are no drafts", read.unreadable));
    }
    for partition in &read.trimmed {
        found.differences.push(format!("the in-process broker dropped the oldest messages of partition {partition}"));
    }
    for (campaign, Rung { audience, .. }) in rung {
        let told = rows.keys().filter(|(id, _)| id == campaign).count();
        if u32::try_from(told) != Ok(*audience) {
            found.differences.push(format!("{campaign} was told to {told} of {audience}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn drafts(of: &[(&str, u32)]) -> BTreeMap<Draft, u32> {
        of.iter().map(|(client, times)| (("tart".to_owned(), (*client).to_owned()), *times)).collect()
    }

    fn compared(rows: &[(&str, u32)], messages: &[(&str, u32)]) -> Comparison {
        let read = Everything { drafts: drafts(messages), ..Everything::default() };
        #[expect(clippy::disallowed_methods, reason = "any time will do")]
        let rung = [("tart".to_owned(), Rung { at: SystemTime::now(), audience: 2 })].into();
        compare(&drafts(rows), &read, &rung)
    }

    #[test]
    fn equal_sinks_agree_though_the_broker_kept_what_was_aborted() {
        let found = compared(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 2)]);
        assert_eq!(found, Comparison { drafts: 2, repeated: 1, differences: Vec::new() });
    }

    #[test]
    fn each_difference_is_named() {
        assert!(
            compared(&[("a", 1), ("b", 1)], &[("a", 1)]).differences[0]
                .contains("1 rows have no message, as tart to b")
        );
        assert!(compared(&[("a", 1)], &[("a", 1), ("b", 1)]).differences[0].contains("1 messages have no row"));
        assert!(compared(&[("a", 2), ("b", 1)], &[("a", 1), ("b", 1)]).differences[0].contains("more than one row"));
        assert!(compared(&[("a", 1)], &[("a", 1)]).differences[0].contains("told to 1 of 2"));
    }
}
