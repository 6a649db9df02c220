//! What the ledger's SQL and Kafka guard, taken out one at a time in the simulated ones: where the table says so, some life must break a
//! promise then.

use dinnerbell::simulation::world::Guard;

/// Seeds that are lived for each guard at most.
const MOST_LIVES: u64 = 2_000;

/// Each guard with what it does; those that no life was seen to need are called so.
const GUARDS: &[(Guard, Without)] = &[
    (Guard::EpochAtBegin, Without::NotSeen("a transaction of a lane compares the epoch when it begins")),
    (
        Guard::PostmasterCompared,
        Without::NotSeen(
            "and the server: on another one every lane is entered anew, since it is to be compared with Kafka",
        ),
    ),
    (Guard::LockHeld, Without::Breaks("a bump waits for the transactions of former owners")),
    (Guard::HoldersEnded, Without::Breaks("and ends those that last")),
    (Guard::EpochAtSeal, Without::NotSeen("the lock keeps every bump away from the begin of a round to its end")),
    (Guard::SeqAtSeal, Without::NotSeen("the epoch tells owners apart, and one owner seals one round at a time")),
    (Guard::PositionAtIntake, Without::NotSeen("an intake compares the position")),
    (Guard::EpochAtWithdrawal, Without::NotSeen("the transaction began by comparing it, and holds the lock")),
    (Guard::RevisionAtSeal, Without::Breaks("a round of an older version is not sealed")),
    (
        Guard::WindowAtSeal,
        Without::NotSeen("ends are read again before publication, and the withdrawal takes the drafts back"),
    ),
    (
        Guard::CursorAtSeal,
        Without::NotSeen("one owner plans one round at a time, and reads the cursors anew after each doubt"),
    ),
    (Guard::LateLessWhoHasARow, Without::Breaks("nobody is late who has a row")),
    (Guard::PublishedByClient, Without::Breaks("what is published again is this round's rows, no earlier job's")),
    (Guard::UniqueIndex, Without::NotSeen("every reading leaves out who has a row, and nobody else writes")),
    (Guard::AnsweredRowsStay, Without::Breaks("a withdrawal keeps rows in which somebody answered")),
    (Guard::CursorPutBack, Without::Breaks("a withdrawal puts the cursor back")),
    (Guard::WithdrawnByRange, Without::Breaks("a withdrawal takes this round's rows, no earlier job's")),
    (Guard::CancelledAreOver, Without::Breaks("drafts of a cancelled campaign are withdrawn")),
    (Guard::PrimaryKeyDecides, Without::Breaks("the primary key decides whose a campaign is")),
    (Guard::TombstoneOfUnknownKept, Without::Breaks("a tombstone for an unknown id is kept as its row")),
    (Guard::TombstoneHandedOver, Without::Breaks("a tombstone that finds another lane's campaign is handed over")),
    (Guard::JudgedWithEffect, Without::Breaks("a change is judged and marked in one transaction")),
    (Guard::ChangeWithPosition, Without::Breaks("a change is recorded with the position")),
    (Guard::OnlyOwnerJudges, Without::Breaks("only the owner judges")),
    (Guard::RepassAfterUpdate, Without::Breaks("an update asks for a re-pass")),
    (Guard::RepassOfSameRevision, Without::Breaks("a re-pass that an update overtook is not done")),
    (Guard::RepassOfNobody, Without::NotSeen("a campaign whose main pass found nobody is passed again too")),
    (
        Guard::DeadLetterOnce,
        Without::NotSeen("one owner records one round at a time, and reads what is unpublished after each doubt"),
    ),
    (Guard::LastPagePublished, Without::Breaks("a campaign is not closed before its last page is published")),
    (
        Guard::StableOffsets,
        Without::NotSeen(
            "the init ended what was open, and whoever began since bumped the epoch, which is read after it",
        ),
    ),
    (Guard::InitAborts, Without::Breaks("the init ends what a former producer left open")),
    (Guard::ProducerFenced, Without::Breaks("the init fences former producers")),
    (Guard::FreshProducer, Without::Breaks("a producer in doubt is thrown away")),
    (Guard::ProducerUsedUp, Without::Breaks("a producer whose connection broke publishes no further round")),
    (Guard::OwnershipAtGlance, Without::Breaks("a lane that has nothing to do notices another server")),
    (Guard::HeldUntilCompared, Without::Breaks("nothing is taken in before every lane was compared with Kafka")),
];

enum Without {
    /// Some life breaks a promise. What the guard does.
    Breaks(&'static str),
    /// No random life was found that needs it: what it does, or why it stays. Some are shown by lives that are steered (`steered.rs`).
    NotSeen(&'static str),
}

/// Whether `DINNERBELL_WITHOUT` names the guard, alone or as one of `several+guards`.
fn is_named(names: &str, guard: Guard) -> bool {
    names.split('+').any(|name| name == format!("{guard:?}"))
}

/// The guards that `DINNERBELL_WITHOUT` takes out of every life; those of the service's own code are none of these.
pub fn taken_out() -> Vec<Guard> {
    let names = std::env::var("DINNERBELL_WITHOUT").unwrap_or_default();
    GUARDS.iter().map(|(guard, _)| *guard).filter(|guard| is_named(&names, *guard)).collect()
}

/// The guard of that name, if it is one of the simulated ledger or Kafka.
pub fn by_name(name: &str) -> Option<Guard> {
    GUARDS.iter().map(|(guard, _)| *guard).find(|guard| is_named(name, *guard))
}

/// `DINNERBELL_WITHOUT` picks one guard by its name.
fn is_picked(guard: Guard) -> bool {
    std::env::var("DINNERBELL_WITHOUT").map_or(true, |names| is_named(&names, guard))
}

/// The first seed whose life breaks a promise without the guard.
fn first_broken(guard: Guard) -> Option<(u64, String)> {
    (0..MOST_LIVES).find_map(|seed| Some((seed, crate::life::live(seed, &[guard]).into_iter().next()?)))
}

#[test]
#[ignore = "takes minutes"]
fn guards_of_ledger_and_kafka_that_a_life_needs_are_needed() {
    let mut wrong = Vec::new();
    for (guard, without) in GUARDS.iter().filter(|(guard, _)| is_picked(*guard)) {
        let found = first_broken(*guard);
        let (must_break, text) = match without {
            Without::Breaks(does) => (true, does),
            Without::NotSeen(because) => (false, because),
        };
        match &found {
            Some((seed, broken)) => println!("without {guard:?} ({text}): seed {seed}: {broken}"),
            None => println!("without {guard:?} ({text}): {MOST_LIVES} lives keep every promise"),
        }
        if must_break && found.is_none() {
            wrong.push(format!("{guard:?} ({text}): {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
