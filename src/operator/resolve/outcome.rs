//! The outcome of a resolution: what was found and done, or why it was refused.

use std::io;

use serde::Serialize;

use dinnerbell_core::model::halt::HaltKind;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_core::ports::ledger::LedgerError;
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::resolve::{LaneRow, Mended};

/// What was found and done.
#[derive(Debug, Clone, Serialize)]
pub struct Resolved {
    /// The lane.
    pub lane: Lane,
    /// The halt that stood; null where there was none.
    pub halted: Option<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What was found.
    pub found: Vec<String>,
    /// What was done, or would have been.
    pub done: Vec<String>,
    /// What a mending from Kafka wrote.
    #[serde(flatten)]
    pub mended: Mended,
}

impl Resolved {
    /// Nothing found and nothing done yet, in a lane that stands so.
    pub(super) fn begin(lane: Lane, dry_run: bool, lane_row: &LaneRow) -> Self {
        Self {
            lane,
            halted: lane_row.halted.as_ref().map(HaltKind::to_string),
            dry_run,
            found: Vec::new(),
            done: Vec::new(),
            mended: Mended::default(),
        }
    }
}

/// Why a lane was not resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Kafka.
    #[error("kafka: {0}")]
    Kafka(#[from] BrokerError),
    /// The feedback database.
    #[error("{0}")]
    Database(#[from] PostgresError),
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// Temporary files.
    #[error("temporary files: {0}; set TMPDIR to a folder with more room")]
    Disk(#[from] io::Error),
    /// It makes no sense as the lane stands.
    #[error("{0}")]
    Refused(String),
}

/// Why nothing can be done about a lane that the ledger does not have.
pub(in crate::operator) fn unknown(lane: Lane) -> ResolveError {
    ResolveError::Refused(format!(
        "there is no lane {lane} in the ledger: `dinnerbell lane list` shows those that are, and `dinnerbell run` makes them"
    ))
}
