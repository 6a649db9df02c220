//! Where a statement waited in vain for a lock, by the context of the server's error.

use dinnerbell_core::model::lock::LockHolder;

/// A lock that did not come in time: where it was waited for, and who held it.
#[derive(Debug, Clone, Default)]
pub struct MissedLock {
    /// The line of a COPY.
    pub line: Option<u64>,
    /// The row: its relation and its place, as the server writes it.
    pub row: Option<(String, String)>,
    /// Who held it.
    pub holder: Option<LockHolder>,
}

impl MissedLock {
    /// Where a lock did not come in time. The server's texts may be in any language: numbers and quoted names are looked for.
    pub fn of(context: &str) -> Self {
        let copied = context.lines().find_map(|line| line.strip_prefix("COPY "));
        // Behind the table's name, which may hold digits of its own.
        let line = copied.and_then(|copied| number_in(copied.split_once(", ")?.1));
        let row = context.lines().find_map(|line| {
            let (_, place) = line.split_once('(')?;
            let (place, behind) = place.split_once(')')?;
            let relation = behind.split('"').nth(1)?;
            let (block, item) = place.split_once(',')?;
            let is_place = block.parse::<u32>().is_ok() && item.parse::<u32>().is_ok();
            is_place.then(|| (relation.to_owned(), format!("({place})")))
        });
        Self { line, row, holder: None }
    }
}

fn number_in(text: &str) -> Option<u64> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_lock_was_waited_for_is_known_in_any_language() {
        for (context, line, row) in [
            (
                "while inserting index tuple (0,3) in relation \"our_index\"\nCOPY feedback_2, line 17",
                Some(17),
                Some(("our_index", "(0,3)")),
            ),
            ("COPY feedback_2, Zeile 5, Spalte client_id", Some(5), None),
            ("while updating tuple (12,4) in relation \"campaign\"", None, Some(("campaign", "(12,4)"))),
            ("", None, None),
            ("SQL function \"f(a,b)\" statement 1", None, None),
        ] {
            let found = MissedLock::of(context);
            let row = row.map(|(relation, place): (&str, &str)| (relation.to_owned(), place.to_owned()));
            assert_eq!((found.line, found.row), (line, row), "{context}");
        }
    }
}
