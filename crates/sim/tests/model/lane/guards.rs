//! The guards that the lane's model takes out, and what each keeps away.

use super::{IN_TIME, NO_FALSE_HALT, ROW_FIRST, TAKEN_ONCE};
use crate::check::{CAN_COMPLETE, Without};

/// What keeps the promises; each can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The next epoch is acquired before the producer is initialised.
    EpochBeforeInit,
    /// The epoch is read again after the producer is initialised.
    EpochAfterInit,
    /// The epoch is read again before the lane halts.
    EpochBeforeHalt,
    /// Readings of the epoch, and transactions that begin, compare `pg_postmaster_start_time()` too.
    Postmaster,
    /// A round holds the lane's advisory lock, for which an acquisition waits.
    Lock,
    /// An acquisition ends the transactions that hold the lock.
    HoldersEnded,
    /// A round reads the epoch when it begins.
    EpochAtBegin,
    /// A round compares the epoch when it is sealed.
    EpochAtSeal,
    /// A round compares the seq when it is sealed.
    SeqAtSeal,
    /// A round reads the ends once more when it is sealed.
    EndsAtSeal,
    /// A round is sealed only when the one before is committed in Kafka.
    Gate,
    /// A withdrawal compares the epoch.
    EpochAtWithdrawal,
    /// A withdrawal waits until Kafka's seq was read as one behind.
    WithdrawalAfterReading,
    /// An intake compares the epoch.
    EpochAtIntake,
    /// An intake compares the position.
    PositionAtIntake,
    /// What is published after the takeover is what the acquisition read.
    ReadBack,
    /// A producer in doubt is thrown away.
    FreshProducer,
    /// Committed metadata is read only when no transaction on it is open.
    StableOffsets,
    /// The ends are read before a Kafka transaction is begun.
    EndsBeforePublication,
    /// A producer whose connection broke during a transaction begins no further one, though it was committed.
    BrokenConnectionEndsProducer,
}

/// Every guard, and what follows when it alone is taken out.
pub const GUARDS: &[(Guard, Without)] = &[
    (Guard::EpochBeforeInit, Without::Breaks(ROW_FIRST)),
    (Guard::EpochAfterInit, Without::Breaks(ROW_FIRST)),
    (Guard::EpochBeforeHalt, Without::Breaks(NO_FALSE_HALT)),
    (Guard::Postmaster, Without::Breaks(NO_FALSE_HALT)),
    (Guard::Lock, Without::Breaks(CAN_COMPLETE)),
    (Guard::HoldersEnded, Without::Breaks(CAN_COMPLETE)),
    (Guard::EpochAtBegin, Without::Breaks(NO_FALSE_HALT)),
    (
        Guard::EpochAtSeal,
        Without::Holds(
            "the lock keeps every acquisition away between the reading of the epoch and the end of the transaction",
        ),
    ),
    (Guard::SeqAtSeal, Without::Holds("the epoch tells owners apart, and one owner seals one round at a time")),
    (
        Guard::EndsAtSeal,
        Without::Holds(
            "the ends are read again before publication, and the withdrawal takes the drafts back: it spares that",
        ),
    ),
    (Guard::Gate, Without::Breaks(NO_FALSE_HALT)),
    (Guard::EpochAtWithdrawal, Without::Breaks(ROW_FIRST)),
    (Guard::WithdrawalAfterReading, Without::Breaks(ROW_FIRST)),
    (
        Guard::EpochAtIntake,
        Without::Holds("the position is compared: a former owner takes in the next record, or none"),
    ),
    (Guard::PositionAtIntake, Without::Breaks(TAKEN_ONCE)),
    (Guard::ReadBack, Without::Breaks(NO_FALSE_HALT)),
    (Guard::FreshProducer, Without::Breaks(ROW_FIRST)),
    (
        Guard::StableOffsets,
        Without::Holds(
            "the init ended what was open, and a transaction that began since has acquired the next epoch, which is read after the init",
        ),
    ),
    (Guard::EndsBeforePublication, Without::Breaks(IN_TIME)),
    (Guard::BrokenConnectionEndsProducer, Without::Breaks(ROW_FIRST)),
];
