//! Which halts there are: of each its name, what it means, what the operator is told to do, and what ends it. A lane that halts does
//! nothing until an operator resolves it.
//!
//! Whatever says something about halts is made from here: the texts, what `lane resolve` accepts, the hold. Tests compare the documents with it.

use crate::model::number::Lane;
use std::fmt;

use CommitLoss::{Certain, Nothing, Possible};
use HaltResolution::{AcceptRows, AcceptTopic, AdoptTable, FromKafka, RestartAt, Retry, TellAgain};

/// The command by which the ledger takes another feedback table.
pub const ADOPT: &str = "dinnerbell migrate --adopt-feedback-table";

/// Why a lane is halted, until an operator resolves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Which one it is.
    pub kind: HaltKind,
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

impl Halt {
    /// A halt of this lane, with the remedy of its kind.
    pub fn new(kind: HaltKind, lane: Lane, found: String) -> Self {
        Self { remedy: kind.remedy(lane), kind, found }
    }

    /// Whether it says that the ledger lost commits.
    pub fn is_loss(&self) -> bool {
        self.kind.commit_loss() == CommitLoss::Certain
    }
}

/// Whether the ledger lost commits, by what a halt found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitLoss {
    /// No commit is missing.
    Nothing,
    /// Some may be missing: the two sides contradict each other.
    Possible,
    /// Some are missing. Until the lane is resolved, Kafka alone knows who was told by them.
    Certain,
}

/// What an operator can do that ends a halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltResolution {
    /// What the lane failed at is mended: it tries again.
    Retry,
    /// The round becomes what its rows are now.
    AcceptRows,
    /// The lane goes on at another position.
    RestartAt,
    /// The ledger is mended by what the output topic holds.
    FromKafka,
    /// Those without a row are told again.
    TellAgain,
    /// The ledger takes the topic of the drafts that is there.
    AcceptTopic,
    /// The ledger takes the feedback table that is there.
    AdoptTable,
}

impl HaltResolution {
    /// Returns its flag: of `lane resolve`, and of `migrate` for the last one.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Retry => "--retry",
            Self::AcceptRows => "--accept-rows",
            Self::RestartAt => "--restart-at",
            Self::FromKafka => "--from-kafka",
            Self::TellAgain => "--tell-again",
            Self::AcceptTopic => "--accept-topic",
            Self::AdoptTable => "--adopt-feedback-table",
        }
    }

    /// Returns the command, for one lane where it can be given for one.
    pub fn command(self, lane: Lane) -> String {
        match self {
            Self::AdoptTable => ADOPT.to_owned(),
            Self::AcceptTopic => format!("dinnerbell lane resolve --all {}", self.flag()),
            Self::RestartAt => {
                format!("dinnerbell lane resolve {lane} {} earliest (or latest, or an offset)", self.flag())
            }
            _ => format!("dinnerbell lane resolve {lane} {}", self.flag()),
        }
    }
}

/// What a halt of one kind says.
struct HaltSpec {
    name: &'static str,
    /// What happened, as docs/commands.md says it.
    meaning: &'static str,
    commit_loss: CommitLoss,
    resolutions: &'static [HaltResolution],
    /// What the operator is told to do; `LANE` stands for the lane. It ends with a command.
    remedy: &'static str,
}

const REFUSED: &str = "a server refused three times in a row, Kafka for 10 s at least";
const RESTART_AT: &str =
    "decide where the lane goes on (earliest, latest or an offset): dinnerbell lane resolve LANE --restart-at earliest";
const UNKNOWN: HaltSpec = HaltSpec { name: "", meaning: "", commit_loss: Nothing, resolutions: &[], remedy: "" };

/// Makes the enum, its list, and the specification of each.
macro_rules! halts {
    ($($(#[$doc:meta])+ $kind:ident = $spec:expr,)+) => {
        /// Which halt it is. The ledger keeps its name.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum HaltKind {
            $($(#[$doc])+ $kind,)+
            /// A name that this version does not know: an earlier or a later one wrote it. It is carried as it is.
            Other(String),
        }

        impl HaltKind {
            /// Those that this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            fn spec(&self) -> &'static HaltSpec {
                match self {
                    $(Self::$kind => const { &$spec },)+
                    Self::Other(_) => &UNKNOWN,
                }
            }
        }
    };
}

halts! {
    /// The feedback database refused again and again.
    FeedbackRefused = HaltSpec {
        name: "feedback-refused",
        meaning: REFUSED,
        commit_loss: Nothing,
        resolutions: &[Retry],
        remedy: "mend what the feedback database refuses, then: dinnerbell lane resolve LANE --retry",
    },
    /// Kafka refused again and again.
    KafkaRefused = HaltSpec {
        name: "kafka-refused",
        meaning: REFUSED,
        commit_loss: Nothing,
        resolutions: &[Retry],
        remedy: "mend what Kafka refuses, then: dinnerbell lane resolve LANE --retry",
    },
    /// The subscribers database refused again and again.
    SubscribersRefused = HaltSpec {
        name: "subscribers-refused",
        meaning: REFUSED,
        commit_loss: Nothing,
        resolutions: &[Retry],
        remedy: "mend what the subscribers database refuses, then: dinnerbell lane resolve LANE --retry",
    },
    /// A feedback row was there that only the service may write.
    DuplicateRow = HaltSpec {
        name: "duplicate-row",
        meaning: REFUSED,
        commit_loss: Nothing,
        resolutions: &[Retry],
        remedy: "find out who else writes to the feedback table, then: dinnerbell lane resolve LANE --retry",
    },
    /// A round that is not published yet cannot be read back from its rows.
    RoundDamaged = HaltSpec {
        name: "round-damaged",
        meaning: "rows of a round that is not published yet were changed or removed",
        commit_loss: Nothing,
        resolutions: &[Retry, AcceptRows],
        remedy: "either let the round become what its rows are now: dinnerbell lane resolve LANE --accept-rows; or restore the rows that were \
                 changed or removed, then: dinnerbell lane resolve LANE --retry",
    },
    /// The campaigns topic is another one.
    TopicReplaced = HaltSpec {
        name: "topic-replaced",
        meaning: "the campaigns topic was recreated",
        commit_loss: Nothing,
        resolutions: &[RestartAt],
        remedy: RESTART_AT,
    },
    /// Records that were read are not in the campaigns topic any more, though it is the same one.
    InputTruncated = HaltSpec {
        name: "input-truncated",
        meaning: "its brokers lost records that they had acknowledged, as in an unclean leader election",
        commit_loss: Nothing,
        resolutions: &[RestartAt],
        remedy: RESTART_AT,
    },
    /// Records were deleted before they were read.
    InputTrimmed = HaltSpec {
        name: "input-trimmed",
        meaning: "records were deleted from the campaigns topic before they were read",
        commit_loss: Nothing,
        resolutions: &[RestartAt],
        remedy: RESTART_AT,
    },
    /// A record could not be unpacked: of a version before this one, to which it is a dead letter.
    InputUnreadable = HaltSpec {
        name: "input-unreadable",
        meaning: "a version before this one could not unpack a record",
        commit_loss: Nothing,
        resolutions: &[Retry, RestartAt],
        remedy: "what cannot be unpacked becomes a dead letter now: dinnerbell lane resolve LANE --retry",
    },
    /// The topic of the drafts is another one.
    NotificationsReplaced = HaltSpec {
        name: "notifications-replaced",
        meaning: "the notifications topic was recreated: what was published is not in it",
        commit_loss: Nothing,
        resolutions: &[AcceptTopic],
        remedy: "find out what readers had read of it. If clients are to be told once more whose draft is gone, read or not, and whose campaign \
                 lasts: dinnerbell verify --republish. Then let the ledger take the new topic: dinnerbell lane resolve --all --accept-topic",
    },
    /// The feedback table is another one.
    FeedbackTableReplaced = HaltSpec {
        name: "feedback-table-replaced",
        meaning: "`feedback.table` leads to another table than the one that the ledger knows, or to none",
        commit_loss: Nothing,
        resolutions: &[Retry, AdoptTable],
        remedy: "either let the ledger take this table: dinnerbell migrate --adopt-feedback-table; or put the known table back under its name, then: \
                 dinnerbell lane resolve LANE --retry",
    },
    /// Far fewer rows of a campaign are there than it has told.
    RowsRemoved = HaltSpec {
        name: "rows-removed",
        meaning: "far fewer feedback rows of a campaign are there than it has told: clients without a row would be told again",
        commit_loss: Nothing,
        resolutions: &[Retry, FromKafka, TellAgain],
        remedy: "either let them be told again: dinnerbell lane resolve LANE --tell-again; or put the rows back, from a backup or from their \
                 messages (dinnerbell lane resolve LANE --from-kafka does the latter, and is enough), then: dinnerbell lane resolve LANE --retry",
    },
    /// Kafka's mark is of a later round than the ledger's last.
    KafkaAhead = HaltSpec {
        name: "kafka-ahead",
        meaning: "Kafka holds a later round: the database lost commits",
        commit_loss: Certain,
        resolutions: &[FromKafka],
        remedy: "mend the ledger by what the output topic holds: dinnerbell lane resolve --all --from-kafka",
    },
    /// Kafka's mark is behind what the ledger knows to be published.
    KafkaBehind = HaltSpec {
        name: "kafka-behind",
        meaning: "Kafka lost commits",
        commit_loss: Nothing,
        resolutions: &[FromKafka],
        remedy: "mend the ledger by what the output topic holds: dinnerbell lane resolve LANE --from-kafka",
    },
    /// Kafka holds no mark, and the ledger does not know whether its last round was published.
    MarkMissing = HaltSpec {
        name: "mark-missing",
        meaning: "Kafka lost the mark, just when it was needed",
        commit_loss: Possible,
        resolutions: &[FromKafka],
        remedy: "mend the ledger by what the output topic holds: dinnerbell lane resolve LANE --from-kafka",
    },
    /// Kafka holds the same round with other content.
    OtherContent = HaltSpec {
        name: "other-content",
        meaning: "the same round with other content: the database lost commits and went on",
        commit_loss: Certain,
        resolutions: &[FromKafka],
        remedy: "mend the ledger by what the output topic holds: dinnerbell lane resolve --all --from-kafka",
    },
    /// Kafka's mark belongs to another ledger.
    OtherLedger = HaltSpec {
        name: "other-ledger",
        meaning: "the mark is of another database",
        commit_loss: Certain,
        resolutions: &[FromKafka],
        remedy: "make sure that nothing but this service and this database uses the group, then mend the ledger by what the output topic holds: \
                 dinnerbell lane resolve --all --from-kafka",
    },
    /// The group's offset was committed by something else.
    ForeignOffset = HaltSpec {
        name: "foreign-offset",
        meaning: "something else committed the group's offset",
        commit_loss: Possible,
        resolutions: &[FromKafka],
        remedy: "make sure that nothing but this service and this database uses the group, then mend the ledger by what the output topic holds: \
                 dinnerbell lane resolve LANE --from-kafka",
    },
    /// `lane resolve` is at it.
    BeingResolved = HaltSpec {
        name: "being-resolved",
        meaning: "`lane resolve` reads what Kafka holds of the lane, or ended early",
        commit_loss: Nothing,
        resolutions: &[Retry],
        remedy: "wait for it; if it ended early: dinnerbell lane resolve LANE --retry",
    },
}

impl HaltKind {
    /// Returns those of which the predicate is true.
    pub fn matching(predicate: impl Fn(&Self) -> bool) -> Vec<&'static Self> {
        Self::ALL.iter().filter(|kind| predicate(kind)).collect()
    }

    /// Returns its name, in the ledger and wherever it is shown.
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => known.spec().name,
        }
    }

    /// Returns what happened; the empty text of a name that is not known.
    pub fn meaning(&self) -> &'static str {
        self.spec().meaning
    }

    /// Returns whether the ledger lost commits.
    pub fn commit_loss(&self) -> CommitLoss {
        self.spec().commit_loss
    }

    /// Returns what ends it, as an operator decides; nothing of a name that is not known.
    pub fn resolutions(&self) -> &'static [HaltResolution] {
        self.spec().resolutions
    }

    /// Returns whether this ends it.
    pub fn is_resolved_by(&self, resolution: HaltResolution) -> bool {
        self.resolutions().contains(&resolution)
    }

    /// Returns what ends it, where trying again does not: it is about what the servers hold.
    pub fn only_resolution(&self) -> Option<HaltResolution> {
        self.resolutions().first().copied().filter(|_| !self.is_resolved_by(Retry))
    }

    /// Returns what the operator is told to do.
    pub fn remedy(&self, lane: Lane) -> String {
        self.spec().remedy.replace("LANE", &lane.to_string())
    }
}

impl From<String> for HaltKind {
    fn from(name: String) -> Self {
        Self::ALL.iter().find(|kind| kind.name() == name).cloned().unwrap_or(Self::Other(name))
    }
}

impl From<&str> for HaltKind {
    fn from(name: &str) -> Self {
        name.to_owned().into()
    }
}

impl fmt::Display for HaltKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_halt_and_one_that_is_not_known_is_carried_as_it_is() {
        for kind in HaltKind::ALL {
            assert_eq!(HaltKind::from(kind.name()), *kind);
        }
        let other = HaltKind::from("of-a-later-version");
        assert_eq!(other.to_string(), "of-a-later-version");
        assert_eq!((other.resolutions(), other.only_resolution(), other.commit_loss()), (&[][..], None, Nothing));
    }

    #[test]
    fn a_remedy_ends_with_a_command_and_names_what_ends_the_halt() {
        for kind in HaltKind::ALL {
            let remedy = kind.remedy(Lane::new(7));
            let command = remedy.rsplit("dinnerbell ").next().unwrap();
            let begins = command.starts_with("lane resolve 7 --") || command.starts_with("lane resolve --all --");
            assert!(begins && !remedy.contains("LANE"), "{kind}: {remedy}");
            assert!(!kind.meaning().is_empty() && !kind.resolutions().is_empty(), "{kind}");
            // A halt of before has one remedy now.
            for resolution in kind.resolutions().iter().filter(|_| *kind != HaltKind::InputUnreadable) {
                assert!(remedy.contains(resolution.flag()), "{kind}: {} is not in {remedy}", resolution.flag());
            }
        }
    }

    #[test]
    fn what_lost_commits_or_may_have_is_mended_from_kafka_alone() {
        for kind in HaltKind::matching(|kind| kind.commit_loss() != Nothing) {
            assert_eq!(kind.resolutions(), [FromKafka], "{kind}");
            assert_eq!(kind.remedy(Lane::new(7)).contains("--all"), kind.commit_loss() == Certain, "{kind}");
        }
    }
}
