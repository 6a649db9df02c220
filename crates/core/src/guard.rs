//! What keeps the promises, each under a name: a test takes one out, and sees what breaks without it.
//!
//! A guard stands at its one place in the code as `guards.enabled(Guard::Name)`. Without the cargo feature `fail-points`, which no user's binary has,
//! that is a constant `true`, and the compiler removes it. With it, a life chooses by the [`Guards`] in the context of its lanes which guards it
//! takes out. `DINNERBELL_WITHOUT=Name+Name` takes them out of the whole process. `crates/sim/tests/simulation/guards` proves what each is for, and
//! docs/model.md has the list.

/// Defines the guards; the doc comment of each is also what tests and documents print.
macro_rules! guards {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// Something that keeps a promise.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard {
            $($(#[doc = $what])+ $name,)+
        }

        impl Guard {
            /// All guards: those of the service's own code first, in the order of a lane's life; then those of the ledger's SQL and of Kafka.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What it does.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($what),+).trim(),)+
                }
            }
        }
    };
}

guards! {
    // The service's own code.
    /// The next epoch is acquired before the producer is made.
    EpochBeforeInit,
    /// The epoch is read again after the producer was made.
    EpochAfterInit,
    /// The epoch is read again before a halt is recorded.
    EpochBeforeHalt,
    /// The topic's end is read again before it is believed to lie below the lane's position.
    WatermarksReadAgain,
    /// What arrived while nobody owned the lane is applied before its last round is read.
    ChangesAppliedAtTakeover,
    /// All of it is applied, however much it is.
    ChangesAppliedToTheLast,
    /// The last round is withdrawn from only after Kafka was read.
    WithdrawalAfterReading,
    /// A lane halts where the topic of the drafts is another one than the ledger knows.
    DraftsTopicCompared,
    /// A missing mark is written again only where the ledger knows the round to be published.
    RestoredMarkOnlyWhenKnown,
    /// A missing mark is written again only where the lane was compared on this server: else it may be an older state of itself.
    RestoredMarkOnlyWhenCompared,
    /// A round that twice did not get through is withdrawn, and planned smaller.
    UndeliveredIsWithdrawn,
    /// What is not open is withdrawn from the last round at the takeover.
    WithdrawalAtTakeover,
    /// The round is read again until nothing in it is to be withdrawn.
    WithdrawnToTheLast,
    /// Count and checksum of a round that is read back are those that were recorded.
    ChecksumReadBack,
    /// What applying changes found is handed to the rounds.
    AppliedChangesAreRead,
    /// A window that an intake changed is remembered until the next round is sealed.
    WindowsThatMoved,
    /// The next start or end of a campaign wakes the lane.
    NextChangeWakes,
    /// While all sending is paused, no round is planned or recorded.
    PauseBeforeARound,
    /// Campaigns that changes overtake have quiet rounds of their own.
    QuietRounds,
    /// A round that a change overtook is planned from what the ledger holds by then.
    StaleIsPlannedAgain,
    /// The tail scan has its high-water mark before any page is read.
    HighWaterBeforePages,
    /// A page leaves out those who have a row.
    PageLessWhoHasARow,
    /// Who is late is decided by the cursor as the round plans it.
    PlannedCursor,
    /// After the last page everybody who is on none is late.
    LateAfterTheLastPage,
    /// Nobody is late who is on a page of the round.
    NotLateWhoIsOnAPage,
    /// Newcomers are forgotten only when the round that checked them is recorded.
    LateForgottenWhenRecorded,
    /// The next page follows the cursor of the round that was recorded.
    CursorOfRecordedRound,
    /// While all sending is paused, no publication begins.
    PauseBeforePublication,
    /// The time is compared with the windows of a round before its publication begins.
    TimeBeforePublication,
    /// A cancellation, or a window that changed since the seal, keeps a round from being published.
    CancelledBeforePublication,
    /// The ledger learns that a round is published.
    PublishedIsNoted,
    /// Who was not told of a campaign that is over is counted.
    EndedAreCounted,
    /// A lane's new owner passes all its campaigns again.
    RescanAfterTakeOver,
    /// A campaign is rescanned when that is due.
    RescanWhenDue,
    /// An error of the tail scan leaves its high-water mark where it is.
    TailScanErrorKeepsHighWater,
    /// The tail scan's high-water mark steps back when a lane comes.
    HighWaterStepsBack,
    /// A high-water mark that stepped back during a scan stays there.
    SteppedBackHighWaterStays,

    // The ledger's SQL and Kafka, as the simulated ones have them.
    /// A transaction of a lane compares the epoch when it begins.
    EpochAtBegin,
    /// The start of the database server is compared with the epoch.
    ServerStartCompared,
    /// An acquisition waits for the transactions of former owners.
    LockHeld,
    /// An acquisition ends the transactions of former owners that last.
    HoldersEnded,
    /// A seal compares the epoch.
    EpochAtSeal,
    /// A seal compares the number of the round.
    SeqAtSeal,
    /// An intake compares the position.
    PositionAtIntake,
    /// A withdrawal compares the epoch.
    EpochAtWithdrawal,
    /// A round of an older version of a campaign is not sealed.
    RevisionAtSeal,
    /// A round of a campaign that is not open is not sealed.
    WindowAtSeal,
    /// A page that does not follow the cursor is not sealed.
    CursorAtSeal,
    /// Nobody is late who has a row.
    LateLessWhoHasARow,
    /// What is published again are this round's rows, no earlier job's.
    PublishedByClient,
    /// The feedback table holds a campaign and client once.
    UniqueIndex,
    /// A withdrawal keeps rows in which somebody answered.
    AnsweredRowsStay,
    /// A withdrawal puts the cursor back.
    CursorPutBack,
    /// A withdrawal takes this round's rows, no earlier job's.
    WithdrawnByRange,
    /// Drafts of a cancelled campaign are withdrawn.
    CancelledAreOver,
    /// The primary key decides whose a campaign is.
    PrimaryKeyDecides,
    /// A tombstone for an unknown id is kept as its row.
    TombstoneOfUnknownKept,
    /// A tombstone that finds another lane's campaign is handed over.
    TombstoneHandedOver,
    /// A change is applied and marked in one transaction.
    AppliedAndMarkedTogether,
    /// A change is recorded with the position.
    ChangeWithPosition,
    /// Only the owner applies changes.
    OnlyOwnerApplies,
    /// An update asks for a rescan.
    RescanAfterUpdate,
    /// A rescan that an update overtook is not done.
    RescanOfSameRevision,
    /// A campaign whose main pass found nobody is rescanned too.
    RescanOfNobody,
    /// A dead letter is in one round.
    DeadLetterOnce,
    /// A campaign is not closed before its last page is published.
    LastPagePublished,
    /// Only stable offsets are read.
    StableOffsets,
    /// The init ends what a former producer left open.
    InitAborts,
    /// The init fences former producers.
    ProducerFenced,
    /// A producer in doubt is thrown away.
    FreshProducer,
    /// A producer whose connection broke publishes no further round.
    BrokenConnectionEndsProducer,
    /// A lane that has nothing to do notices that it is not as it was taken over.
    OwnershipAtPoll,
    /// Nothing is taken in on another server before every lane was compared with Kafka.
    HeldUntilCompared,
}

/// Which guards hold: all of them, but for those that a test took out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guards {
    /// A bit for each that is taken out.
    #[cfg(feature = "fail-points")]
    out: u128,
}

#[cfg(not(feature = "fail-points"))]
impl Guards {
    /// Those of this process: all.
    pub const fn of_process() -> Self {
        Self {}
    }

    /// Whether the guard holds: it does.
    #[inline(always)]
    pub const fn enabled(self, _guard: Guard) -> bool {
        true
    }
}

#[cfg(feature = "fail-points")]
impl Guards {
    /// The environment variable that takes guards out of this process.
    pub const VARIABLE: &str = "DINNERBELL_WITHOUT";

    /// Those of this process: all, but for those that the environment names.
    pub fn of_process() -> Self {
        let names = std::env::var(Self::VARIABLE).unwrap_or_default();
        Self::parse(&names).unwrap_or_else(|name| panic!("{}: there is no guard {name:?}", Self::VARIABLE))
    }

    /// All but those named, `Several+Together`; the name that is none is the error.
    pub fn parse(names: &str) -> Result<Self, String> {
        let guard = |name: &str| {
            let known = Guard::ALL.iter().find(|guard| format!("{guard:?}") == name);
            known.copied().ok_or_else(|| name.to_owned())
        };
        let named: Vec<Guard> =
            names.split('+').filter(|name| !name.is_empty()).map(guard).collect::<Result<_, _>>()?;
        Ok(Self::without(&named))
    }

    /// All but these.
    pub const fn without(taken_out: &[Guard]) -> Self {
        let (mut out, mut next) = (0, 0);
        while next < taken_out.len() {
            out |= Self::bit(taken_out[next]);
            next += 1;
        }
        Self { out }
    }

    /// Whether the guard holds.
    pub const fn enabled(self, guard: Guard) -> bool {
        self.out & Self::bit(guard) == 0
    }

    const fn bit(guard: Guard) -> u128 {
        1 << guard as u32
    }
}

#[cfg(all(test, feature = "fail-points"))]
mod tests {
    use super::{Guard, Guards};

    #[test]
    fn every_guard_holds_until_a_test_takes_it_out_by_its_name() {
        for guard in Guard::ALL {
            assert!(Guards::default().enabled(*guard), "{guard:?}");
            let without = Guards::parse(&format!("{guard:?}")).unwrap();
            let held: Vec<_> = Guard::ALL.iter().filter(|other| !without.enabled(**other)).collect();
            assert_eq!(held, [guard]);
            assert!(guard.what().ends_with('.'), "{guard:?}");
        }
        let (two, together) =
            (Guards::without(&[Guard::LockHeld, Guard::SeqAtSeal]), Guards::parse("LockHeld+SeqAtSeal"));
        assert_eq!(Ok(two), together);
        assert_eq!(Guards::parse("LockHeld+lock-held"), Err("lock-held".to_owned()));
    }
}
