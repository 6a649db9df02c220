//! What the two sinks' entries of one draft mean, one key after the other. Pure.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::buckets::{Buckets, DraftSource, Entry};
use dinnerbell_core::model::number::{Lane, Seq};

/// How many examples of each kind are kept.
const EXAMPLES: usize = 20;
/// About so many rows without a message are expected at most: as many as the recorded rounds of a large instance hold.
const UNSETTLED: u64 = 10_000_000;

/// What the ledger knows of a campaign.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Drafts recorded.
    pub told: i64,
    /// Rows of withdrawn drafts that were kept because somebody had answered.
    pub kept: i64,
    /// Drafts of those who were late, of whom no round that the ledger still has tells who they were.
    pub unknown_late: i64,
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

/// Rows without a message so far, in files: however many there are, each is settled by its own key.
#[derive(Debug)]
pub struct Unsettled {
    rows: Buckets,
    /// How many of them no unpublished round holds.
    without_round: u64,
    /// How many of them each round holds that may be unpublished.
    by_round: BTreeMap<(Lane, Seq), u64>,
}

impl Default for Unsettled {
    fn default() -> Self {
        Self { rows: Buckets::new(UNSETTLED), without_round: 0, by_round: BTreeMap::new() }
    }
}

impl Unsettled {
    /// Adds a row, and the round that holds it if it may be unpublished. Fails where the disk has no room for it.
    pub fn keep(&mut self, row: &Entry, recorded: Option<&Entry>) -> io::Result<()> {
        self.rows.push(row)?;
        match recorded {
            Some(round) => {
                *self.by_round.entry((Lane::new(round.partition), Seq::new(round.place))).or_default() += 1;
                self.rows.push(round)
            }
            None => {
                self.without_round += 1;
                Ok(())
            }
        }
    }

    /// Adds a message that may be the one of such a row. Fails where the disk has no room for it.
    pub fn message(&mut self, message: &Entry) -> io::Result<()> {
        self.rows.push(message)
    }

    /// The lanes whose rounds hold some of the rows.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> {
        self.by_round.keys().map(|(lane, _)| *lane)
    }

    /// How many rows wait for a round to be published, where these are the last published rounds of the lanes.
    pub fn pending(&self, published: &BTreeMap<Lane, Seq>) -> u64 {
        let waiting = self.by_round.iter().filter(|((lane, seq), _)| is_pending(published, *lane, *seq));
        waiting.map(|(_, rows)| rows).sum()
    }

    /// How many rows should have a message.
    pub fn overdue(&self, published: &BTreeMap<Lane, Seq>) -> u64 {
        self.without_round + self.by_round.values().sum::<u64>() - self.pending(published)
    }

    /// The rows that should have a message, a bucket at a time. Fails where the files cannot be read.
    pub fn into_overdue(self, published: &BTreeMap<Lane, Seq>) -> impl Iterator<Item = io::Result<Vec<Entry>>> {
        self.rows.into_sorted().map(|bucket| {
            let bucket = bucket?;
            let overdue = bucket.chunk_by(|a, b| a.key == b.key).filter_map(|draft| {
                let row = draft.iter().find(|entry| entry.kind == DraftSource::Row)?;
                let recorded = draft.iter().find(|entry| entry.kind == DraftSource::Recorded);
                let waits = recorded
                    .is_some_and(|round| is_pending(published, Lane::new(round.partition), Seq::new(round.place)));
                (!waits).then_some(*row)
            });
            Ok(overdue.collect())
        })
    }
}

/// Whether a recorded round is not published yet, as far as Kafka's mark is known.
fn is_pending(published: &BTreeMap<Lane, Seq>, lane: Lane, seq: Seq) -> bool {
    published.get(&lane).is_none_or(|last| *last < seq)
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
    /// Rows of withdrawn drafts that go when they are free.
    pub locked: u64,
    /// Messages that are not the service's.
    pub foreign_messages: u64,
    /// Rows that are not the service's.
    pub foreign_rows: u64,
    /// What differs.
    pub differences: Differences,
    /// Some of each.
    pub examples: Vec<(Finding, Entry)>,
    /// Rows without a message so far.
    pub unsettled: Unsettled,
}

impl Comparison {
    /// Takes a bucket: sorted, all entries of its keys. Fails where the disk has no room for what is left over.
    pub fn take(&mut self, bucket: &[Entry]) -> io::Result<()> {
        bucket.chunk_by(|a, b| a.key == b.key).try_for_each(|draft| self.compare(draft))
    }

    /// Looks once more at the rows without a message, beside the messages that came since. Fails where the files cannot be read, or the disk
    /// has no room for what is left over again.
    pub fn settle(&mut self) -> io::Result<()> {
        for bucket in std::mem::take(&mut self.unsettled).rows.into_sorted() {
            bucket?.chunk_by(|a, b| a.key == b.key).try_for_each(|draft| self.settle_one(draft))?;
        }
        Ok(())
    }

    fn settle_one(&mut self, draft: &[Entry]) -> io::Result<()> {
        // Messages of rows that are newer than the snapshot, or were settled before.
        let Some(row) = draft.iter().find(|entry| entry.kind == DraftSource::Row) else { return Ok(()) };
        let messages = &draft[..draft.partition_point(|entry| entry.kind < DraftSource::Row)];
        if messages.is_empty() {
            let recorded = draft.iter().find(|entry| entry.kind == DraftSource::Recorded);
            return self.unsettled.keep(row, recorded);
        }
        self.told(messages, row);
        Ok(())
    }

    /// A row and its messages.
    fn told(&mut self, messages: &[Entry], row: &Entry) {
        self.repeated(Finding::MessageRepeated, messages);
        match messages.iter().find(|message| message.fingerprint != row.fingerprint) {
            Some(message) => self.note(Finding::FieldsDiffer, message),
            None => self.equal += 1,
        }
    }

    fn compare(&mut self, draft: &[Entry]) -> io::Result<()> {
        let from = |kind: DraftSource| draft.partition_point(|entry| entry.kind < kind);
        let has = |kind: DraftSource| draft[from(kind)..].first().is_some_and(|entry| entry.kind == kind);
        let (rows, before, recorded) = (from(DraftSource::Row), from(DraftSource::Before), from(DraftSource::Recorded));
        let in_no_page = has(DraftSource::BehindCursor) && !has(DraftSource::Late);
        let messages = &draft[..rows];
        let was_there = messages.first().is_some_and(|message| message.kind == DraftSource::Message);
        let is_locked = has(DraftSource::Locked);
        let (rows, told_before) = (&draft[rows..before], recorded > before);
        let recorded = draft.get(recorded).filter(|entry| entry.kind == DraftSource::Recorded);
        let ours = messages.iter().any(|message| message.flag);
        if !ours && !self.campaigns.contains_key(&draft[0].campaign) {
            self.foreign_messages += messages.len() as u64;
            self.foreign_rows += rows.len() as u64;
            return Ok(());
        }
        match (messages, rows) {
            ([message, ..], []) if was_there => {
                self.note(Finding::MessageWithoutRow, message);
                self.repeated(Finding::MessageRepeated, messages);
            }
            // Its row is newer than the snapshot.
            (_, []) => {}
            ([], [_]) if is_locked => self.locked += 1,
            ([], rows) => self.compare_rows(rows, told_before, in_no_page, recorded)?,
            (messages, [row, ..]) => {
                self.repeated(Finding::RowRepeated, rows);
                self.told(messages, row);
            }
        }
        Ok(())
    }

    /// Rows without a message.
    fn compare_rows(
        &mut self,
        rows: &[Entry],
        told_before: bool,
        in_no_page: bool,
        recorded: Option<&Entry>,
    ) -> io::Result<()> {
        let row = rows[0];
        let facts = self.campaigns.entry(row.campaign).or_default();
        let never_told = facts.told == 0 || in_no_page && facts.unknown_late <= 0;
        if row.flag && facts.kept > 0 {
            facts.kept -= 1;
            self.kept += 1;
            self.example(Finding::Kept, &row);
        } else if told_before || never_told && recorded.is_none() {
            // The round that met it recorded that it was there; or the campaign never told anybody, or not this client.
            self.foreign_rows += rows.len() as u64;
        } else {
            self.repeated(Finding::RowRepeated, rows);
            self.unsettled.keep(&row, recorded)?;
        }
        Ok(())
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

    fn entry(kind: DraftSource) -> Entry {
        Entry { key: 5, kind, fingerprint: 8, campaign: OURS, partition: 0, place: 0, flag: false }
    }

    fn compared(entries: &[Entry]) -> Comparison {
        let mut comparison = Comparison::default();
        comparison.campaigns.insert(OURS, Facts { told: 10, kept: 1, unknown_late: 0 });
        comparison.campaigns.insert(NEVER_TOLD, Facts::default());
        let mut entries = entries.to_vec();
        entries.sort_unstable();
        comparison.take(&entries).expect("temporary files");
        comparison
    }

    /// Rows that wait for a round, and rows that should have a message, where this is the last published round of lane 0.
    fn left(comparison: &Comparison, published: i64) -> (u64, u64) {
        let published = BTreeMap::from([(Lane::new(0), Seq::new(published))]);
        (comparison.unsettled.pending(&published), comparison.unsettled.overdue(&published))
    }

    fn differences(entries: &[Entry]) -> Differences {
        compared(entries).differences
    }

    #[test]
    fn one_row_and_one_message_that_agree_are_equal() {
        for message in [DraftSource::Message, DraftSource::LaterMessage] {
            let compared = compared(&[entry(message), entry(DraftSource::Row)]);
            assert_eq!((compared.equal, compared.differences.total()), (1, 0));
        }
    }

    #[test]
    fn a_message_without_a_row_differs_unless_it_came_after_the_snapshot() {
        assert_eq!(differences(&[entry(DraftSource::Message)]).messages_without_row, 1);
        assert_eq!(differences(&[entry(DraftSource::LaterMessage)]).total(), 0);
    }

    #[test]
    fn repeats_on_either_side_and_other_fields_differ() {
        let again = Entry { place: 1, ..entry(DraftSource::Message) };
        assert_eq!(differences(&[entry(DraftSource::Message), again, entry(DraftSource::Row)]).messages_repeated, 1);
        let later = entry(DraftSource::LaterMessage);
        assert_eq!(differences(&[entry(DraftSource::Message), later, entry(DraftSource::Row)]).messages_repeated, 1);
        let again = Entry { place: 1, ..entry(DraftSource::Row) };
        assert_eq!(differences(&[entry(DraftSource::Message), entry(DraftSource::Row), again]).rows_repeated, 1);
        let other = Entry { fingerprint: 9, ..entry(DraftSource::Row) };
        assert_eq!(differences(&[entry(DraftSource::Message), other]).fields_differ, 1);
    }

    #[test]
    fn a_row_without_a_message_waits_for_its_round_until_that_is_published() {
        let recorded = Entry { place: 4, ..entry(DraftSource::Recorded) };
        let compared = compared(&[entry(DraftSource::Row), recorded]);
        assert_eq!(compared.differences.total(), 0);
        assert_eq!((left(&compared, 3), left(&compared, 4)), ((1, 0), (0, 1)));
        let published = BTreeMap::from([(Lane::new(0), Seq::new(4))]);
        let overdue = compared.unsettled.into_overdue(&published);
        assert_eq!(overdue.flat_map(Result::unwrap).collect::<Vec<_>>(), [entry(DraftSource::Row)]);
    }

    #[test]
    fn any_number_of_rows_may_wait_for_their_rounds() {
        let mut comparison = compared(&[]);
        for key in 0..300_000 {
            let draft = |kind| Entry { key: key << 64, partition: 0, place: 4, ..entry(kind) };
            comparison.take(&[draft(DraftSource::Row), draft(DraftSource::Recorded)]).unwrap();
        }
        assert_eq!((left(&comparison, 3), comparison.differences.total()), ((300_000, 0), 0));
        for key in 0..100_000 {
            comparison.unsettled.message(&Entry { key: key << 64, ..entry(DraftSource::LaterMessage) }).unwrap();
        }
        comparison.settle().unwrap();
        assert_eq!((comparison.equal, left(&comparison, 4)), (100_000, (0, 200_000)));
    }

    #[test]
    fn a_message_that_came_later_settles_its_row_and_no_other() {
        let mut comparison = compared(&[entry(DraftSource::Row)]);
        let other = Entry { key: 6, ..entry(DraftSource::LaterMessage) };
        comparison.unsettled.message(&other).unwrap();
        comparison.settle().unwrap();
        assert_eq!((comparison.equal, left(&comparison, 0)), (0, (0, 1)));
        for message in
            [entry(DraftSource::LaterMessage), Entry { place: 9, fingerprint: 1, ..entry(DraftSource::LaterMessage) }]
        {
            comparison.unsettled.message(&message).unwrap();
        }
        comparison.settle().unwrap();
        assert_eq!((left(&comparison, 0), comparison.equal), ((0, 0), 0));
        let Differences { fields_differ, messages_repeated, .. } = comparison.differences;
        assert_eq!((fields_differ, messages_repeated), (1, 1));
    }

    #[test]
    fn rows_of_an_earlier_job_are_foreign_and_not_different() {
        for rows in [
            vec![entry(DraftSource::Row), entry(DraftSource::Before)],
            vec![Entry { campaign: UNKNOWN, ..entry(DraftSource::Row) }],
            vec![Entry { campaign: NEVER_TOLD, ..entry(DraftSource::Row) }],
        ] {
            let compared = compared(&rows);
            assert_eq!((compared.foreign_rows, left(&compared, 0), compared.differences.total()), (1, (0, 0), 0));
        }
    }

    #[test]
    fn a_row_behind_the_cursor_is_foreign_unless_somebody_was_told_late_who_may_be_its_client() {
        let row = [entry(DraftSource::Row), entry(DraftSource::BehindCursor)];
        let late = [row[0], row[1], entry(DraftSource::Late)];
        assert_eq!((compared(&row).foreign_rows, compared(&late).foreign_rows), (1, 0));
        let recorded = [entry(DraftSource::Row), entry(DraftSource::Recorded), entry(DraftSource::BehindCursor)];
        assert_eq!(left(&compared(&recorded), 0), (0, 1), "a round holds it");
        let mut unknown = Comparison::default();
        unknown.campaigns.insert(OURS, Facts { told: 10, kept: 0, unknown_late: 1 });
        unknown.take(&row).unwrap();
        assert_eq!((unknown.foreign_rows, left(&unknown, 0)), (0, (0, 1)));
    }

    #[test]
    fn a_message_of_an_unknown_campaign_is_foreign_unless_it_names_our_round() {
        let foreign = Entry { campaign: UNKNOWN, ..entry(DraftSource::Message) };
        assert_eq!(compared(&[foreign]).foreign_messages, 1);
        assert_eq!(differences(&[Entry { flag: true, ..foreign }]).messages_without_row, 1);
    }

    #[test]
    fn a_row_of_a_withdrawn_draft_that_somebody_has_locked_is_no_difference() {
        let row = entry(DraftSource::Row);
        let comparison = compared(&[row, entry(DraftSource::Locked)]);
        assert_eq!((comparison.locked, left(&comparison, 0)), (1, (0, 0)));
        let message = entry(DraftSource::Message);
        let comparison = compared(&[message, row, entry(DraftSource::Locked)]);
        assert_eq!((comparison.locked, comparison.equal), (0, 1), "told since, though the lock is remembered");
    }

    #[test]
    fn a_row_that_somebody_answered_in_is_kept_as_often_as_the_ledger_says() {
        let mut comparison = compared(&[]);
        let answered = |key| Entry { key, flag: true, ..entry(DraftSource::Row) };
        comparison.take(&[answered(5)]).unwrap();
        comparison.take(&[answered(6)]).unwrap();
        assert_eq!((comparison.kept, left(&comparison, 0)), (1, (0, 1)));
    }
}
