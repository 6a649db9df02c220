//! Why a lane's life ended.

use crate::model::halt::Halt;
use crate::model::number::Seq;
use crate::ports::audience::AudienceError;
use crate::ports::broker::BrokerError;
use crate::ports::failure::{Failure, FailureKind};
use crate::ports::ledger::LedgerError;

/// Why a lane's life ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LaneError {
    /// The group gave the lane to somebody else.
    #[error("the group does not assign this lane to this instance any more")]
    NotAssigned,
    /// Kafka did not do what was asked.
    #[error("kafka: {0}")]
    Broker(#[from] BrokerError),
    /// The ledger did not do what was asked.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The subscribers could not be read.
    #[error("subscribers: {0}")]
    Audience(#[from] AudienceError),
    /// The database's clock could not be read in time, so nothing may be begun.
    #[error("the feedback database's clock could not be read")]
    ClockUnread,
    /// Before publication could begin, a campaign of a recorded round ended, was cancelled or was moved to a later start. The takeover withdraws its
    /// drafts.
    #[error("round {seq} holds drafts of a campaign that is not open: they are taken back")]
    NotOpen {
        /// The round.
        seq: Seq,
    },
    /// An operator paused all sending while a round was being published: whether it was, is found by the takeover.
    #[error("all sending was paused while round {seq} was being published")]
    Paused {
        /// The round.
        seq: Seq,
    },
    /// The last round is published, but a connection broke meanwhile. A delayed request on it could end the next transaction, unless a new producer
    /// fences it.
    #[error("the round is published, but a connection to kafka broke meanwhile: the lane takes a new producer")]
    NewProducerNeeded,
    /// Another owner is taking the lane.
    #[error("the lane is being taken over by another owner")]
    TakenOver,
    /// Something contradicts the ledger: the lane is halted by this name.
    #[error("{}: {}", .0.kind, .0.found)]
    Halt(Halt),
}

impl Failure for LaneError {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::NotAssigned | Self::TakenOver => FailureKind::LaneLost,
            Self::Broker(error) => error.failure_kind(),
            Self::Ledger(error) => error.failure_kind(),
            Self::Audience(error) => error.failure_kind(),
            Self::ClockUnread | Self::NotOpen { .. } | Self::Paused { .. } | Self::NewProducerNeeded => {
                FailureKind::Transient
            }
            Self::Halt(_) => FailureKind::Refused,
        }
    }
}
