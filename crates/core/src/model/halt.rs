//! Which halts there are: of each its name, what it means, what the operator is told to do, and what ends it. A lane that halts stands still until
//! an operator resolves it.
//!
//! Whatever says something about halts is made from here: the texts, what `lane resolve` accepts, the hold. Tests compare the documents with it.

use crate::model::number::Lane;
use std::fmt;

use Commits::{InDoubt, Kept, Lost};
use WayOut::{AcceptRows, AcceptTopic, AdoptTable, FromKafka, RestartAt, Retry, TellAgain};

/// The command by which the ledger takes another feedback table.
pub const ADOPT: &str = "dinnerbell migrate --adopt-feedback-table";

/// A lane that stands still until an operator resolves it.
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
        self.kind.commits() == Commits::Lost
    }
}

/// What a halt says of the ledger's commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// Nothing.
    Kept,
    /// The two sides contradict each other: some may be lost.
    InDoubt,
    /// Some are lost: what they told is known to Kafka alone until the lane is resolved.
    Lost,
}

/// What ends a halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayOut {
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

impl WayOut {
    /// Its flag: of `lane resolve`, but for the last one.
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

    /// The command, for one lane where it can be given for one.
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

/// What is known of a kind.
struct Facts {
    name: &'static str,
    /// What happened, as docs/commands.md says it.
    meaning: &'static str,
    commits: Commits,
    ways_out: &'static [WayOut],
    /// What the operator is told to do; `LANE` stands for the lane. It ends with a command.
    remedy: &'static str,
}

const REFUSED: &str = "a server refused three times in a row, Kafka for 10 s at least";
const RESTART_AT: &str =
    "decide where the lane goes on (earliest, latest or an offset): dinnerbell lane resolve LANE --restart-at earliest";
const UNKNOWN: Facts = Facts { name: "", meaning: "", commits: Kept, ways_out: &[], remedy: "" };

/// Makes the enum, its list, and what is known of each.
macro_rules! halts {
    ($($(#[$doc:meta])+ $kind:ident = $facts:expr,)+) => {
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

            fn facts(&self) -> &'static Facts {
                match self {
                    $(Self::$kind => const { &$facts },)+
                    Self::Other(_) => &UNKNOWN,
                }
            }
        }
    };
}

halts! {
    /// The feedback database refused again and again.
    FeedbackRefused = Facts {
        name: "feedback-refused",
        meaning: REFUSED,
        commits: Kept,
        ways_out: &[Retry],
        remedy: "mend what the feedback database refuses, then: dinnerbell lane resolve LANE --retry",
    },
    /// Kafka refused again and again.
    KafkaRefused = Facts {
        name: "kafka-refused",
        meaning: REFUSED,
        commits: Kept,
        ways_out: &[Retry],
        remedy: "mend what Kafka refuses, then: dinnerbell lane resolve LANE --retry",
    },
    /// The subscribers database refused again and again.
    SubscribersRefused = Facts {
        name: "subscribers-refused",
        meaning: REFUSED,
        commits: Kept,
        ways_out: &[Retry],
        remedy: "mend what the subscribers database refuses, then: dinnerbell lane resolve LANE --retry",
    },
    /// A feedback row was there that only the service may write.
    DuplicateRow = Facts {
        name: "duplicate-row",
        meaning: REFUSED,
        commits: Kept,
        ways_out: &[Retry],
        remedy: "find out who else writes to the feedback table, then: dinnerbell lane resolve LANE --retry",
    },
    /// A round that is not published yet cannot be read back from its rows.
    RoundDamaged = Facts {
        name: "round-damaged",
        meaning: "rows of a round that is not published yet were changed or removed",
        commits: Kept,
        ways_out: &[Retry, AcceptRows],
        remedy: "either let the round become what its rows are now: dinnerbell lane resolve LANE --accept-rows; or restore the rows that were \
                 changed or removed, then: dinnerbell lane resolve LANE --retry",
    },
    /// The campaigns topic is another one.
    TopicReplaced = Facts {
        name: "topic-replaced",
        meaning: "the campaigns topic was recreated",
        commits: Kept,
        ways_out: &[RestartAt],
        remedy: RESTART_AT,
    },
    /// Records that were read are not in the campaigns topic any more, though it is the same one.
    InputTruncated = Facts {
        name: "input-truncated",
        meaning: "its brokers lost records that they had acknowledged, as in an unclean leader election",
        commits: Kept,
        ways_out: &[RestartAt],
        remedy: RESTART_AT,
    },
    /// Records were deleted before they were read.
    InputTrimmed = Facts {
        name: "input-trimmed",
        meaning: "records were deleted from the campaigns topic before they were read",
        commits: Kept,
        ways_out: &[RestartAt],
        remedy: RESTART_AT,
    },
    /// A record could not be unpacked: of a version before this one, to which it is a dead letter.
    InputUnreadable = Facts {
        name: "input-unreadable",
        meaning: "a version before this one could not unpack a record",
        commits: Kept,
        ways_out: &[Retry, RestartAt],
        remedy: "what cannot be unpacked becomes a dead letter now: dinnerbell lane resolve LANE --retry",
    },
    /// The topic of the drafts is another one.
    NotificationsReplaced = Facts {
        name: "notifications-replaced",
        meaning: "the notifications topic was recreated: what was published is not in it",
        commits: Kept,
        ways_out: &[AcceptTopic],
        remedy: "find out what readers had read of it. If clients are to be told once more whose draft is gone, read or not, and whose campaign \
                 lasts: dinnerbell verify --republish. Then let the ledger take the new topic: dinnerbell lane resolve --all --accept-topic",
    },
    /// The feedback table is another one.
    FeedbackTableReplaced = Facts {
        name: "feedback-table-replaced",
        meaning: "`feedback.table` leads to another table than the one that the ledger knows, or to none",
        commits: Kept,
        ways_out: &[Retry, AdoptTable],
        remedy: "either let the ledger take this table: dinnerbell migrate --adopt-feedback-table; or put the known table back under its name, then: \
                 dinnerbell lane resolve LANE --retry",
    },
    /// Far fewer rows of a campaign are there than it has told.
    RowsRemoved = Facts {
        name: "rows-removed",
        meaning: "far fewer feedback rows of a campaign are there than it has told: clients without a row would be told again",
        commits: Kept,
        ways_out: &[Retry, FromKafka, TellAgain],
        remedy: "either let them be told again: dinnerbell lane resolve LANE --tell-again; or put the rows back, from a backup or from their \
                 messages (dinnerbell lane resolve LANE --from-kafka does the latter, and is enough), then: dinnerbell lane resolve LANE --retry",
    },
    /// Kafka's mark is of a later round than the ledger's last.
    KafkaAhead = Facts {
        name: "kafka-ahead",
        meaning: "Kafka holds a later round: the database lost commits",
        commits: Lost,
        ways_out: &[FromKafka],
        remedy: "mend the ledger by what the output topic holds: dinnerbell lane resolve --all --from-kafka",
    },
    /// Kafka's mark is behind what the ledger knows to be published.
    KafkaBehind = Facts {
        name: "kafka-behind",
        meaning: "Kafka lost commits",
        commits: Kept,
        ways_out: &[FromKafka],
        remedy: "mend the ledger by what the output topic holds: dinnerbell lane resolve LANE --from-kafka",
    },
    /// Kafka holds no mark, and the ledger does not know whether its last round was published.
    MarkMissing = Facts {
        name: "mark-missing",
        meaning: "Kafka lost the mark, just when it was needed",
        commits: InDoubt,
        ways_out: &[FromKafka],
        remedy: "mend the ledger by what the output topic holds: dinnerbell lane resolve LANE --from-kafka",
    },
    /// Kafka holds the same round with other content.
    OtherContent = Facts {
        name: "other-content",
        meaning: "the same round with other content: the database lost commits and went on",
        commits: Lost,
        ways_out: &[FromKafka],
        remedy: "mend the ledger by what the output topic holds: dinnerbell lane resolve --all --from-kafka",
    },
    /// Kafka's mark belongs to another ledger.
    OtherLedger = Facts {
        name: "other-ledger",
        meaning: "the mark is of another database",
        commits: Lost,
        ways_out: &[FromKafka],
        remedy: "make sure that nothing but this service and this database uses the group, then mend the ledger by what the output topic holds: \
                 dinnerbell lane resolve --all --from-kafka",
    },
    /// The group's offset was committed by something else.
    ForeignOffset = Facts {
        name: "foreign-offset",
        meaning: "something else committed the group's offset",
        commits: InDoubt,
        ways_out: &[FromKafka],
        remedy: "make sure that nothing but this service and this database uses the group, then mend the ledger by what the output topic holds: \
                 dinnerbell lane resolve LANE --from-kafka",
    },
    /// `lane resolve` is at it.
    BeingResolved = Facts {
        name: "being-resolved",
        meaning: "`lane resolve` reads what Kafka holds of the lane, or ended early",
        commits: Kept,
        ways_out: &[Retry],
        remedy: "wait for it; if it ended early: dinnerbell lane resolve LANE --retry",
    },
}

impl HaltKind {
    /// Those of which this is true.
    pub fn those(is: impl Fn(&Self) -> bool) -> Vec<&'static Self> {
        Self::ALL.iter().filter(|kind| is(kind)).collect()
    }

    /// Its name, in the ledger and wherever it is shown.
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => known.facts().name,
        }
    }

    /// What happened; nothing of a name that is not known.
    pub fn meaning(&self) -> &'static str {
        self.facts().meaning
    }

    /// What it says of the ledger's commits.
    pub fn commits(&self) -> Commits {
        self.facts().commits
    }

    /// What ends it, as an operator decides; nothing of a name that is not known.
    pub fn ways_out(&self) -> &'static [WayOut] {
        self.facts().ways_out
    }

    /// Whether this ends it.
    pub fn ends_by(&self, way: WayOut) -> bool {
        self.ways_out().contains(&way)
    }

    /// What ends it, where trying again does not: it is about what the servers hold.
    pub fn sole_way_out(&self) -> Option<WayOut> {
        self.ways_out().first().copied().filter(|_| !self.ends_by(Retry))
    }

    /// What the operator is told to do.
    pub fn remedy(&self, lane: Lane) -> String {
        self.facts().remedy.replace("LANE", &lane.to_string())
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
        assert_eq!((other.ways_out(), other.sole_way_out(), other.commits()), (&[][..], None, Kept));
    }

    #[test]
    fn a_remedy_ends_with_a_command_and_names_what_ends_the_halt() {
        for kind in HaltKind::ALL {
            let remedy = kind.remedy(Lane::new(7));
            let command = remedy.rsplit("dinnerbell ").next().unwrap();
            let begins = command.starts_with("lane resolve 7 --") || command.starts_with("lane resolve --all --");
            assert!(begins && !remedy.contains("LANE"), "{kind}: {remedy}");
            assert!(!kind.meaning().is_empty() && !kind.ways_out().is_empty(), "{kind}");
            // A halt of before has one remedy now.
            for way in kind.ways_out().iter().filter(|_| *kind != HaltKind::InputUnreadable) {
                assert!(remedy.contains(way.flag()), "{kind}: {} is not in {remedy}", way.flag());
            }
        }
    }

    #[test]
    fn what_lost_commits_or_may_have_is_mended_from_kafka_alone() {
        for kind in HaltKind::those(|kind| kind.commits() != Kept) {
            assert_eq!(kind.ways_out(), [FromKafka], "{kind}");
            assert_eq!(kind.remedy(Lane::new(7)).contains("--all"), kind.commits() == Lost, "{kind}");
        }
    }
}
