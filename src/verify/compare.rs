//! What the two sinks' entries of one draft mean, one key after the other. Pure.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::buckets::{Buckets, DraftSource, Entry};
use dinnerbell_core::model::number::{Lane, Seq};

/// How many examples of each kind are kept.
const EXAMPLES: usize = 20;
/// About how many rows without a message are expected at most: as many as the recorded rounds of a large instance hold.
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
mod tests;
