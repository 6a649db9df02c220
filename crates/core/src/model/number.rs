//! The numbers that the protocol counts by, each a type of its own: none can stand where another is meant. They are made from a bare number (`new`),
//! and become one again (`get`), only where they come in or go out: SQL, Kafka, JSON, the command line.

use std::fmt;
use std::num::ParseIntError;
use std::ops::{Add, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Makes a type of a bare number: `new`, `get`, and its text, which is the number's. In JSON it is the number, too.
macro_rules! number {
    ($(#[$about:meta])* $name:ident($bare:ty)) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($bare);

        impl $name {
            /// Of a bare number.
            pub const fn new(number: $bare) -> Self {
                Self(number)
            }

            /// The bare number.
            pub const fn get(self) -> $bare {
                self.0
            }
        }

        /// For those who take a bare number by reference.
        impl AsRef<$bare> for $name {
            fn as_ref(&self) -> &$bare {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        /// The number alone: where it stands says what it is.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                text.parse().map(Self)
            }
        }
    };
}

number! {
    /// Which lane: a partition of the campaigns topic, from 0. Kafka numbers them, and assigns them to instances.
    ///
    /// It is not a partition of the topic of drafts, nor how many lanes there are; these are bare numbers:
    ///
    /// ```compile_fail
    /// use dinnerbell_core::model::number::Lane;
    ///
    /// fn take_over(lane: Lane) {}
    /// let partition_of_a_draft: i32 = 3;
    /// take_over(partition_of_a_draft);
    /// ```
    #[derive(Default)]
    Lane(i32)
}

impl Lane {
    /// Those of a topic with so many partitions, in their order.
    pub fn all(partitions: i32) -> impl Iterator<Item = Self> {
        (0..partitions).map(Self)
    }
}

number! {
    /// Which round of its lane: each recorded round is one further than the one before. From the ledger (`dinnerbell.lane.seq`), and in Kafka's mark.
    /// Round 0 is made with the lane and holds nothing.
    ///
    /// It is not how often a round was changed by withdrawal:
    ///
    /// ```compile_fail
    /// use dinnerbell_core::model::mark::RoundHead;
    ///
    /// let withdrawn = RoundHead { seq: 7_i64, revision: 1, checksum: 0 };
    /// ```
    #[derive(Default)]
    Seq(i64)
}

impl Seq {
    /// Of the round that is made with its lane, and holds nothing.
    pub const FIRST: Self = Self(0);

    /// Of the next round.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Of the round before; of the first one, a number that no round has.
    pub const fn before(self) -> Self {
        Self(self.0 - 1)
    }
}

/// How many rounds this one is further.
impl Sub for Seq {
    type Output = i64;

    fn sub(self, other: Self) -> i64 {
        self.0 - other.0
    }
}

number! {
    /// Which ownership of its lane: each acquisition makes the next one, and so does an operator's order that sends the owner away. From the ledger
    /// (`dinnerbell.lane.epoch`). 0 is a lane that nobody has acquired yet.
    ///
    /// It is not the generation of the consumer group, and not the number of a round:
    ///
    /// ```compile_fail
    /// use dinnerbell_core::model::number::{Epoch, Seq};
    ///
    /// fn is_stale(ours: Epoch, current: Epoch) -> bool {
    ///     ours < current
    /// }
    /// is_stale(Epoch::new(1), Seq::new(2));
    /// ```
    #[derive(Default)]
    Epoch(i64)
}

impl Epoch {
    /// Of the next owner.
    pub const fn next(self) -> Self {
        self.after(1)
    }

    /// Of the owner after so many acquisitions.
    pub const fn after(self, acquisitions: u32) -> Self {
        Self(self.0 + acquisitions as i64)
    }
}

number! {
    /// The place of a record in its lane, as Kafka counts: each is further than the one before, with gaps, from 0. From Kafka, and in the ledger as a
    /// lane's position: the offset of the next record to take in. The topic of drafts has offsets, too, and they are none of these.
    ///
    /// It is not the number of a round, which Kafka's mark holds beside it:
    ///
    /// ```compile_fail
    /// use dinnerbell_core::model::number::{Offset, Seq};
    ///
    /// fn is_behind(position: Offset, end: Offset) -> bool {
    ///     position < end
    /// }
    /// is_behind(Offset::new(1), Seq::new(2));
    /// ```
    #[derive(Default)]
    Offset(i64)
}

impl Offset {
    /// Where an empty lane begins.
    pub const FIRST: Self = Self(0);

    /// The one behind it: the position of whoever has read this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// How many offsets this one is further.
impl Sub for Offset {
    type Output = i64;

    fn sub(self, other: Self) -> i64 {
        self.0 - other.0
    }
}

number! {
    /// A moment, in seconds since 1970, UTC: a campaign's window and `datetime_created`, and when a draft was formed. From campaigns and the
    /// database's clock. 0 is 1970 itself: nothing stands for "no moment".
    ///
    /// It is not a moment in another unit, and not a span: a bare number that is added to it or taken from it is a number of seconds.
    ///
    /// ```compile_fail
    /// use dinnerbell_core::model::campaign::Window;
    ///
    /// let micros = 1_700_000_000_000_000_i64;
    /// Window::ALWAYS.is_open(micros);
    /// ```
    #[derive(Default)]
    Seconds(i64)
}

impl Seconds {
    /// Before any moment.
    pub const MIN: Self = Self(i64::MIN);
    /// After any moment.
    pub const MAX: Self = Self(i64::MAX);
}

/// So many seconds later.
impl Add<i64> for Seconds {
    type Output = Self;

    fn add(self, seconds: i64) -> Self {
        Self(self.0 + seconds)
    }
}

/// So many seconds earlier.
impl Sub<i64> for Seconds {
    type Output = Self;

    fn sub(self, seconds: i64) -> Self {
        Self(self.0 - seconds)
    }
}

/// How many seconds this moment is later.
impl Sub for Seconds {
    type Output = i64;

    fn sub(self, other: Self) -> i64 {
        self.0 - other.0
    }
}
