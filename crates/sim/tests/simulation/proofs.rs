//! What random lives show of each guard. Steered lives say by themselves which they need (`steered.rs`), and so do tests on real servers
//! (`tests/guards/red.rs`).

use dinnerbell_core::guard::Guard;

/// One thing that is known of a guard.
pub enum Proof {
    /// Random lives break a promise without it; this was the first seed when it was proved last.
    Random(u64),
    /// They do when this one is out too, which covers for it.
    Together(Guard, u64),
    /// No random life was found that needs it, for this reason.
    NotSeen(&'static str),
}

use Proof::{NotSeen, Random, Together};

/// What is known of each guard; those that are not here are shown by steered lives.
pub const PROOFS: &[(Guard, &[Proof])] = &[
    (Guard::EpochBeforeInit, &[NotSeen("the poll for changes notices another owner within 200 ms")]),
    (Guard::EpochAfterInit, &[NotSeen("every transaction compares the epoch when it begins")]),
    (Guard::EpochBeforeHalt, &[NotSeen("every transaction compares the epoch when it begins")]),
    (Guard::WatermarksReadAgain, &[Random(46)]),
    (Guard::ChangesAppliedAtTakeover, &[Random(92)]),
    (Guard::WithdrawalAfterReading, &[Random(4)]),
    (Guard::RestoredMarkOnlyWhenKnown, &[Random(7)]),
    (Guard::RestoredMarkOnlyWhenCompared, &[Random(50)]),
    (Guard::WithdrawalAtTakeover, &[Random(25)]),
    (Guard::ChecksumReadBack, &[NotSeen("an assertion: nobody else changes the rows of a round in a life")]),
    (Guard::AppliedChangesAreRead, &[Random(11)]),
    (Guard::WindowsThatMoved, &[Random(1_987)]),
    (Guard::NextChangeWakes, &[Random(4)]),
    (
        Guard::PauseBeforeARound,
        &[NotSeen("no publication begins while all sending is paused"), Together(Guard::PauseBeforePublication, 5)],
    ),
    (Guard::StaleIsPlannedAgain, &[NotSeen("whatever makes a round stale asks for a reload itself: it spares work")]),
    (Guard::PageLessWhoHasARow, &[Random(4)]),
    (Guard::LateAfterTheLastPage, &[Random(5)]),
    (Guard::NotLateWhoIsOnAPage, &[Random(377)]),
    (Guard::CursorOfRecordedRound, &[NotSeen("a round planned with an old cursor is not sealed: it spares work")]),
    (
        Guard::PauseBeforePublication,
        &[NotSeen("no round is recorded while all sending is paused"), Together(Guard::PauseBeforeARound, 5)],
    ),
    (Guard::TimeBeforePublication, &[Random(49)]),
    (Guard::CancelledBeforePublication, &[Random(1_987)]),
    (Guard::PublishedIsNoted, &[Random(0)]),
    (Guard::EndedAreCounted, &[Random(1)]),
    (Guard::RescanAfterTakeOver, &[Random(37)]),
    (Guard::RescanWhenDue, &[Random(171)]),
    (Guard::HighWaterStepsBack, &[NotSeen("the promise is the rescan of every five minutes: this is speed")]),
    (Guard::SteppedBackHighWaterStays, &[NotSeen("the promise is the rescan of every five minutes: this is speed")]),
    (Guard::EpochAtBegin, &[NotSeen("the poll for changes notices another owner within 200 ms")]),
    (
        Guard::ServerStartCompared,
        &[NotSeen("on another server every lane is taken over again, to be compared with Kafka")],
    ),
    (Guard::LockHeld, &[Random(102)]),
    (Guard::HoldersEnded, &[Random(36)]),
    (Guard::EpochAtSeal, &[NotSeen("the lock keeps every acquisition away from the begin of a round to its end")]),
    (Guard::SeqAtSeal, &[NotSeen("the epoch tells owners apart, and one owner seals one round at a time")]),
    (Guard::PositionAtIntake, &[NotSeen("its transaction began by comparing the epoch")]),
    (Guard::EpochAtWithdrawal, &[NotSeen("the transaction began by comparing it, and holds the lock")]),
    (Guard::RevisionAtSeal, &[Random(4)]),
    (
        Guard::WindowAtSeal,
        &[NotSeen("what is sealed too late is withdrawn before it is published: it spares a takeover")],
    ),
    (
        Guard::CursorAtSeal,
        &[NotSeen("one owner plans one round at a time, and reads the cursors again after each doubt")],
    ),
    (Guard::LateLessWhoHasARow, &[Random(0)]),
    (Guard::PublishedByClient, &[Random(21)]),
    (Guard::UniqueIndex, &[NotSeen("every reading leaves out who has a row, and nobody else writes")]),
    (Guard::AnsweredRowsStay, &[Random(825)]),
    (Guard::CursorPutBack, &[Random(116)]),
    (Guard::WithdrawnByRange, &[Random(41)]),
    (Guard::CancelledAreOver, &[Random(238)]),
    (Guard::PrimaryKeyDecides, &[Random(0)]),
    (Guard::TombstoneOfUnknownKept, &[Random(27)]),
    (Guard::TombstoneHandedOver, &[Random(9)]),
    (Guard::AppliedAndMarkedTogether, &[Random(0)]),
    (Guard::ChangeWithPosition, &[Random(1)]),
    (Guard::OnlyOwnerApplies, &[Random(11)]),
    (Guard::RescanAfterUpdate, &[Random(160)]),
    (Guard::RescanOfSameRevision, &[Random(301)]),
    (
        Guard::DeadLetterOnce,
        &[NotSeen("one owner records one round at a time, and reads what is unpublished after each doubt")],
    ),
    (Guard::LastPagePublished, &[Random(29)]),
    (
        Guard::StableOffsets,
        &[NotSeen(
            "the init ended what was open; a transaction that began since has acquired the next epoch, which is read after it",
        )],
    ),
    (Guard::InitAborts, &[Random(3)]),
    (Guard::ProducerFenced, &[Random(118)]),
    (Guard::FreshProducer, &[Random(3)]),
    (Guard::BrokenConnectionEndsProducer, &[Random(147)]),
    (Guard::OwnershipAtPoll, &[Random(68)]),
    (Guard::HeldUntilCompared, &[Random(31)]),
];
