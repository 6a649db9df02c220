//! Both sinks as they are read: each draft an entry of a bucket.

use crate::verify::buckets::{Buckets, DraftSource, Entry};
use crate::verify::compare::{Comparison, Finding};
use crate::verify::report::VerifyError;
use dinnerbell_core::model::number::Seconds;
use dinnerbell_core::recovery::found::FoundDraft;
use dinnerbell_kafka::notifications::{Found, Offsets, Ours, Whose};
use dinnerbell_postgres::ledger::snapshot::LaneHead;

/// Both sinks, spread over buckets.
pub(super) struct Gathered {
    pub(super) buckets: Buckets,
    pub(super) comparison: Comparison,
    pub(super) messages: u64,
    pub(super) rows: u64,
    pub(super) lanes: Vec<LaneHead>,
    /// Up to where the topic was read.
    pub(super) end: Offsets,
}

impl Gathered {
    /// Adds a message of the topic. Fails when it cannot be written.
    pub(super) fn message(
        &mut self,
        found: &Found<'_>,
        kind: DraftSource,
        ours: &Ours,
        since: Option<Seconds>,
    ) -> Result<(), VerifyError> {
        let whose = ours.whose(found);
        if whose == Whose::AnotherService {
            // Whatever campaigns it tells of: both may read the same.
            self.comparison.foreign_messages += 1;
            return Ok(());
        }
        let flag = whose == Whose::Ours;
        let (partition, place) = (found.partition, found.offset);
        let Some(draft) = found.value.and_then(FoundDraft::of_message) else {
            let entry = Entry { key: 0, kind, fingerprint: 0, campaign: 0, partition, place, flag };
            match flag {
                true => self.comparison.note(Finding::NoDraft, &entry),
                false => self.comparison.foreign_messages += 1,
            }
            return Ok(());
        };
        if since.is_some_and(|since| draft.trigger_datetime_created < since) {
            return Ok(());
        }
        self.messages += 1;
        Ok(self.buckets.push(&Entry { kind, flag, ..message(found, &draft) })?)
    }
}

/// A draft as the topic holds it. A message under another key goes to another partition: its reader would not find it, so it differs.
pub(super) fn message(found: &Found<'_>, draft: &FoundDraft<'_>) -> Entry {
    let keyed = found.key == Some(draft.client_id.as_bytes());
    Entry {
        key: draft.key(),
        kind: DraftSource::LaterMessage,
        fingerprint: if keyed { draft.fingerprint() } else { !draft.fingerprint() },
        campaign: draft.campaign(),
        partition: found.partition,
        place: found.offset,
        flag: false,
    }
}

/// Adds an entry. Fails when it cannot be written.
pub(super) fn put(buckets: &mut Buckets, entry: &Entry) -> Result<(), VerifyError> {
    Ok(buckets.push(entry)?)
}
