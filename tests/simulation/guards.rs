//! What the ledger's SQL and Kafka guard, taken out one at a time in the simulated ones: some life must break a promise then.

use dinnerbell::simulation::world::Guard;

/// Seeds that are lived for each guard at most.
const MOST_LIVES: u64 = 3_000;

/// Each guard with what it does; those that no life needs say why they stay.
const GUARDS: &[(Guard, Without)] = &[
    (Guard::EpochAtBegin, Without::Breaks("a transaction of a lane compares the epoch when it begins")),
    (Guard::PostmasterCompared, Without::Breaks("and the server: a fail-over that lost the bump shows")),
    (Guard::LockHeld, Without::Breaks("a bump waits for the transactions of former owners")),
    (Guard::HoldersEnded, Without::Breaks("and ends those that last")),
    (Guard::EpochAtSeal, Without::Holds("the lock keeps every bump away from the begin of a round to its end")),
    (Guard::SeqAtSeal, Without::Holds("the epoch tells owners apart, and one owner seals one round at a time")),
    (Guard::PositionAtIntake, Without::Breaks("an intake compares the position")),
    (Guard::EpochAtWithdrawal, Without::Holds("the transaction began by comparing it, and holds the lock")),
    (Guard::RevisionAtSeal, Without::Breaks("a round of an older version is not sealed")),
    (
        Guard::WindowAtSeal,
        Without::Holds("ends are read again before publication, and the withdrawal takes the drafts back"),
    ),
    (
        Guard::CursorAtSeal,
        Without::Holds("one owner plans one round at a time, and reads the cursors anew after each doubt"),
    ),
    (Guard::UniqueIndex, Without::Holds("every reading leaves out who has a row, and nobody else writes")),
    (Guard::AnsweredRowsStay, Without::Breaks("a withdrawal keeps rows in which somebody answered")),
    (Guard::CursorPutBack, Without::Breaks("a withdrawal puts the cursor back")),
    (Guard::WithdrawnByRange, Without::Breaks("a withdrawal takes this round's rows, no earlier job's")),
    (Guard::CancelledAreOver, Without::Breaks("drafts of a cancelled campaign are withdrawn")),
    (Guard::PrimaryKeyDecides, Without::Breaks("the primary key decides whose a campaign is")),
    (Guard::TombstoneOfUnknownKept, Without::Breaks("a tombstone for an unknown id is kept as its row")),
    (Guard::ChangeWithPosition, Without::Breaks("a change is recorded with the position")),
    (Guard::OnlyOwnerJudges, Without::Breaks("only the owner judges")),
    (Guard::RepassAfterUpdate, Without::Breaks("an update asks for a re-pass")),
    (Guard::RepassOfSameRevision, Without::Breaks("a re-pass that an update overtook is not done")),
    (
        Guard::DeadLetterOnce,
        Without::Holds("one owner records one round at a time, and reads what is unpublished after each doubt"),
    ),
    (Guard::LastPagePublished, Without::Breaks("a campaign is not closed before its last page is published")),
    (
        Guard::StableOffsets,
        Without::Holds(
            "the init ended what was open, and whoever began since bumped the epoch, which is read after it",
        ),
    ),
    (Guard::InitAborts, Without::Breaks("the init ends what a former producer left open")),
    (Guard::ProducerFenced, Without::Breaks("the init fences former producers")),
    (Guard::FreshProducer, Without::Breaks("a producer in doubt is thrown away")),
];

enum Without {
    /// Some life breaks a promise. What the guard does.
    Breaks(&'static str),
    /// No life was found that needs it. Why it stays.
    Holds(&'static str),
}

/// The first seed whose life breaks a promise without the guard.
fn first_broken(guard: Guard) -> Option<(u64, String)> {
    (0..MOST_LIVES).find_map(|seed| Some((seed, crate::life::live(seed, Some(guard)).into_iter().next()?)))
}

#[test]
#[ignore = "takes minutes"]
fn every_guard_of_ledger_and_kafka_is_needed_or_called_an_assertion() {
    let mut wrong = Vec::new();
    for (guard, without) in GUARDS {
        let found = first_broken(*guard);
        let (must_break, text) = match without {
            Without::Breaks(does) => (true, does),
            Without::Holds(because) => (false, because),
        };
        match &found {
            Some((seed, broken)) => println!("without {guard:?} ({text}): seed {seed}: {broken}"),
            None => println!("without {guard:?} ({text}): {MOST_LIVES} lives keep every promise"),
        }
        if found.is_some() != must_break {
            wrong.push(format!("{guard:?} ({text}): {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
