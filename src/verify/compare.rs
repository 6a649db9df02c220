//! What the two sinks' entries of one draft mean, one key after the other. Pure.

use std::collections::HashMap;

use super::buckets::{Entry, Kind};

/// How many examples of each kind are kept.
const EXAMPLES: usize = 20;
/// Rows without a message that are looked at once more; what is in flight is far less.
const MOST_UNRESOLVED: usize = 100_000;

/// What the ledger knows of a campaign.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Drafts recorded.
    pub told: i64,
    /// Rows of withdrawn drafts that were kept because somebody had answered.
    pub kept: i64,
}

/// What is wrong with a draft, or notable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The row has no message.
    RowWithoutMessage,
    /// The message has no row.
    MessageWithoutRow,
    /// Row and message differ in one of the ten fields.
    FieldsDiffer,
    /// More than one message.
    MessageRepeated,
    /// More than one row.
    RowRepeated,
    /// A message of one of our rounds that is no draft.
    NoDraft,
    /// A withdrawn draft's row that stays because somebody answered in it.
    Kept,
}

/// Counts of what differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Differences {
    /// Rows without a message.
    pub rows_without_message: u64,
    /// Messages without a row.
    pub messages_without_row: u64,
    /// Drafts whose row and message differ in one of the ten fields.
    pub fields_differ: u64,
    /// Messages beyond the first of a draft.
    pub messages_repeated: u64,
    /// Rows beyond the first of a draft.
    pub rows_repeated: u64,
    /// Messages of our rounds that are no drafts.
    pub no_drafts: u64,
}

impl Differences {
    /// How many there are.
    pub fn total(&self) -> u64 {
        let Self {
            rows_without_message,
            messages_without_row,
            fields_differ,
            messages_repeated,
            rows_repeated,
            no_drafts,
        } = self;
        rows_without_message + messages_without_row + fields_differ + messages_repeated + rows_repeated + no_drafts
    }
}

/// The comparison in the making.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Campaigns of the ledger.
    pub campaigns: HashMap<u64, Facts>,
    /// Drafts with one row and one message that agree.
    pub equal: u64,
    /// Rows of withdrawn drafts that stay.
    pub kept: u64,
    /// Messages that are not the service's.
    pub foreign_messages: u64,
    /// Rows that are not the service's.
    pub foreign_rows: u64,
    /// What differs.
    pub differences: Differences,
    /// Some of each.
    pub examples: Vec<(Finding, Entry)>,
    /// Rows without a message so far, with the round that holds them if it may be unpublished.
    pub unresolved: Vec<(Entry, Option<Entry>)>,
}

impl Comparison {
    /// Takes a bucket: sorted, all entries of its keys.
    pub fn take(&mut self, bucket: &[Entry]) {
        for draft in bucket.chunk_by(|a, b| a.key == b.key) {
            self.judge(draft);
        }
    }

    fn judge(&mut self, draft: &[Entry]) {
        let from = |kind: Kind| draft.partition_point(|entry| entry.kind < kind);
        let (rows, before, recorded) = (from(Kind::Row), from(Kind::Before), from(Kind::Recorded));
        let messages = &draft[..rows];
        let was_there = messages.first().is_some_and(|message| message.kind == Kind::Message);
        let (rows, told_before, recorded) = (&draft[rows..before], recorded > before, draft.get(recorded));
        let ours = messages.iter().any(|message| message.flag);
        if !ours && !self.campaigns.contains_key(&draft[0].campaign) {
            self.foreign_messages += messages.len() as u64;
            self.foreign_rows += rows.len() as u64;
            return;
        }
        match (messages, rows) {
            ([message, ..], []) if was_there => {
                self.note(Finding::MessageWithoutRow, message);
                self.repeated(Finding::MessageRepeated, messages);
            }
            // Its row is newer than the snapshot.
            (_, []) => {}
            ([], rows) => self.judge_rows(rows, told_before, recorded.copied()),
            (messages, [row, ..]) => {
                self.repeated(Finding::MessageRepeated, messages);
                self.repeated(Finding::RowRepeated, rows);
                match messages.iter().find(|message| message.fingerprint != row.fingerprint) {
                    Some(message) => self.note(Finding::FieldsDiffer, message),
                    None => self.equal += 1,
                }
            }
        }
    }

    /// Rows without a message.
    fn judge_rows(&mut self, rows: &[Entry], told_before: bool, recorded: Option<Entry>) {
        let row = rows[0];
        let facts = self.campaigns.entry(row.campaign).or_default();
        if row.flag && facts.kept > 0 {
            facts.kept -= 1;
            self.kept += 1;
            self.example(Finding::Kept, &row);
        } else if told_before || facts.told == 0 && recorded.is_none() {
            // The round that met it recorded that it was there; or the campaign never told anybody.
            self.foreign_rows += rows.len() as u64;
        } else {
            self.repeated(Finding::RowRepeated, rows);
            if self.unresolved.len() < MOST_UNRESOLVED {
                self.unresolved.push((row, recorded));
            } else {
                self.note(Finding::RowWithoutMessage, &row);
            }
        }
    }

    fn repeated(&mut self, finding: Finding, entries: &[Entry]) {
        for entry in entries.iter().skip(1) {
            self.note(finding, entry);
        }
    }

    /// Counts a difference, and keeps it as an example if there are few of its kind.
    pub fn note(&mut self, finding: Finding, entry: &Entry) {
        let differences = &mut self.differences;
        *match finding {
            Finding::RowWithoutMessage => &mut differences.rows_without_message,
            Finding::MessageWithoutRow => &mut differences.messages_without_row,
            Finding::FieldsDiffer => &mut differences.fields_differ,
            Finding::MessageRepeated => &mut differences.messages_repeated,
            Finding::RowRepeated => &mut differences.rows_repeated,
            Finding::NoDraft => &mut differences.no_drafts,
            Finding::Kept => &mut self.kept,
        } += 1;
        self.example(finding, entry);
    }

    fn example(&mut self, finding: Finding, entry: &Entry) {
        if self.examples.iter().filter(|(known, _)| *known == finding).count() < EXAMPLES {
            self.examples.push((finding, *entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u64 = 1;
    const UNKNOWN: u64 = 2;
    const NEVER_TOLD: u64 = 3;

    fn entry(kind: Kind) -> Entry {
        Entry { key: 5, kind, fingerprint: 8, campaign: OURS, partition: 0, place: 0, flag: false }
    }

    fn compared(entries: &[Entry]) -> Comparison {
        let mut comparison = Comparison::default();
        comparison.campaigns.insert(OURS, Facts { told: 10, kept: 1 });
        comparison.campaigns.insert(NEVER_TOLD, Facts::default());
        let mut entries = entries.to_vec();
        entries.sort_unstable();
        comparison.take(&entries);
        comparison
    }

    fn differences(entries: &[Entry]) -> Differences {
        compared(entries).differences
    }

    #[test]
    fn one_row_and_one_message_that_agree_are_equal() {
        for message in [Kind::Message, Kind::LaterMessage] {
            let compared = compared(&[entry(message), entry(Kind::Row)]);
            assert_eq!((compared.equal, compared.differences.total()), (1, 0));
        }
    }

    #[test]
    fn a_message_without_a_row_differs_unless_it_came_after_the_snapshot() {
        assert_eq!(differences(&[entry(Kind::Message)]).messages_without_row, 1);
        assert_eq!(differences(&[entry(Kind::LaterMessage)]).total(), 0);
    }

    #[test]
    fn repeats_on_either_side_and_other_fields_differ() {
        let again = Entry { place: 1, ..entry(Kind::Message) };
        assert_eq!(differences(&[entry(Kind::Message), again, entry(Kind::Row)]).messages_repeated, 1);
        let later = entry(Kind::LaterMessage);
        assert_eq!(differences(&[entry(Kind::Message), later, entry(Kind::Row)]).messages_repeated, 1);
        let again = Entry { place: 1, ..entry(Kind::Row) };
        assert_eq!(differences(&[entry(Kind::Message), entry(Kind::Row), again]).rows_repeated, 1);
        let other = Entry { fingerprint: 9, ..entry(Kind::Row) };
        assert_eq!(differences(&[entry(Kind::Message), other]).fields_differ, 1);
    }

    #[test]
    fn a_row_without_a_message_is_looked_at_once_more_with_its_round() {
        let compared = compared(&[entry(Kind::Row), entry(Kind::Recorded)]);
        assert_eq!(compared.unresolved, [(entry(Kind::Row), Some(entry(Kind::Recorded)))]);
        assert_eq!(compared.differences.total(), 0);
    }

    #[test]
    fn rows_of_an_earlier_job_are_foreign_and_not_different() {
        for rows in [
            vec![entry(Kind::Row), entry(Kind::Before)],
            vec![Entry { campaign: UNKNOWN, ..entry(Kind::Row) }],
            vec![Entry { campaign: NEVER_TOLD, ..entry(Kind::Row) }],
        ] {
            let compared = compared(&rows);
            assert_eq!((compared.foreign_rows, compared.unresolved.len(), compared.differences.total()), (1, 0, 0));
        }
    }

    #[test]
    fn a_message_of_an_unknown_campaign_is_foreign_unless_it_names_our_round() {
        let foreign = Entry { campaign: UNKNOWN, ..entry(Kind::Message) };
        assert_eq!(compared(&[foreign]).foreign_messages, 1);
        assert_eq!(differences(&[Entry { flag: true, ..foreign }]).messages_without_row, 1);
    }

    #[test]
    fn a_row_that_somebody_answered_in_is_kept_as_often_as_the_ledger_says() {
        let mut comparison = compared(&[]);
        let answered = |key| Entry { key, flag: true, ..entry(Kind::Row) };
        comparison.take(&[answered(5)]);
        comparison.take(&[answered(6)]);
        assert_eq!((comparison.kept, comparison.unresolved.len()), (1, 1));
    }
}
