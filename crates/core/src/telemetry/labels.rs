//! The labels of which every value is known beforehand.

use crate::lane::error::LaneError;
use crate::ports::ledger::LedgerError;

/// A step of an intake or a round whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundStep {
    /// Records are taken into the ledger.
    Intake,
    /// The pages of a round are read.
    Audience,
    /// The rows of a round are copied.
    Copy,
    /// A round is recorded.
    Record,
    /// A round is published.
    Publish,
}

impl RoundStep {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [Self::Intake, Self::Audience, Self::Copy, Self::Record, Self::Publish];

    /// Its name, as metrics and the log write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Intake => "intake",
            Self::Audience => "audience",
            Self::Copy => "copy",
            Self::Record => "record",
            Self::Publish => "publish",
        }
    }
}

/// What a failure came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The lane is not assigned to this instance any more.
    Assignment,
    /// Kafka.
    Kafka,
    /// The feedback database.
    Ledger,
    /// The subscribers database.
    Subscribers,
    /// The time could not be read.
    Clock,
    /// A campaign of a recorded round is not open any more.
    NotOpen,
    /// Sending was paused.
    Paused,
    /// Somebody else took the lane over.
    TakenOver,
    /// The lane is halted.
    Halt,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Assignment,
        Self::Kafka,
        Self::Ledger,
        Self::Subscribers,
        Self::Clock,
        Self::NotOpen,
        Self::Paused,
        Self::TakenOver,
        Self::Halt,
    ];

    /// What this failure came from.
    pub fn of(error: &LaneError) -> Self {
        match error {
            LaneError::NotAssigned => Self::Assignment,
            LaneError::Broker(_) | LaneError::NewProducerNeeded => Self::Kafka,
            LaneError::Ledger(LedgerError::NotMine(_)) | LaneError::TakenOver => Self::TakenOver,
            LaneError::Ledger(_) => Self::Ledger,
            LaneError::Audience(_) => Self::Subscribers,
            LaneError::ClockUnread => Self::Clock,
            LaneError::NotOpen { .. } => Self::NotOpen,
            LaneError::Paused { .. } => Self::Paused,
            LaneError::Halt(_) => Self::Halt,
        }
    }

    /// Its name, as metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Assignment => "assignment",
            Self::Kafka => "kafka",
            Self::Ledger => "ledger",
            Self::Subscribers => "subscribers",
            Self::Clock => "clock",
            Self::NotOpen => "not_open",
            Self::Paused => "paused",
            Self::TakenOver => "taken_over",
            Self::Halt => "halt",
        }
    }
}
