//! What an operator decided about a halted lane.

use dinnerbell_core::model::audit::Orderer;
use dinnerbell_core::model::number::{Lane, Offset, Seconds};
use dinnerbell_core::recovery::decide::Assumed;

/// What an operator decided.
#[derive(Debug, Clone, Copy)]
pub enum Resolution {
    /// What the lane failed at is mended: it tries again.
    Retry,
    /// Rows of campaigns that run were removed: those clients are told again.
    TellAgain,
    /// The last round, not yet published, becomes what is left of its rows.
    AcceptRows,
    /// The lane goes on at another position.
    RestartAt(Position),
    /// The output topic is right about what was told.
    FromKafka(FromKafka),
}

/// How the output topic is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct FromKafka {
    /// Messages of drafts formed earlier are not read.
    pub since: Option<Seconds>,
    /// Of a round that the topic no longer tells about.
    pub assumed: Option<Assumed>,
}

/// Where a lane goes on.
#[derive(Debug, Clone, Copy)]
pub enum Position {
    /// At the first record that is there.
    Earliest,
    /// At the next record to come.
    Latest,
    /// At this offset.
    Offset(Offset),
}

/// What is to be resolved.
#[derive(Debug, Clone)]
pub struct Request {
    /// The lane.
    pub lane: Lane,
    /// How.
    pub resolution: Resolution,
    /// Only look.
    pub dry_run: bool,
    /// Who resolves; kept in the ledger.
    pub by: Orderer,
}
