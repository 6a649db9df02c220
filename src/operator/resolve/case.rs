//! A lane that is put back from Kafka.

use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_postgres::ledger::resolve::LaneRow;

/// A lane that is being mended.
pub(super) struct Case {
    pub(super) lane: Lane,
    /// As it was found first.
    pub(super) before: LaneRow,
    /// None where nothing is to be written.
    pub(super) own: Option<Own>,
    /// As it stands behind its former owners.
    pub(super) lane_row: LaneRow,
    pub(super) theirs: CommittedOffset,
    /// Whether the topic holds everything since the last round was formed.
    pub(super) covered: bool,
}

/// A lane that was taken.
#[derive(Clone)]
pub(super) struct Own {
    pub(super) own: Ownership,
    /// The comparison that stood then.
    pub(super) comparison: String,
}

impl Case {
    /// Whether the ledger does not know its last round to be published.
    pub(super) fn is_unsure(&self) -> bool {
        self.lane_row.published != Some(self.lane_row.head.seq)
    }
}
