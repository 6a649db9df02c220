//! The numbers that the protocol counts by, each a type of its own: none can stand where another is meant. They are made from a bare number (`new`),
//! and become one again (`get`), only where they come in or go out: SQL, Kafka, JSON, the command line.

use std::fmt;
use std::num::ParseIntError;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_MILLI: i64 = 1_000;

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

        /// Returns the bare number.
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
    /// ```compile_fail,E0308
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
    /// The lanes of a topic with this many partitions, in their order.
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
    /// ```compile_fail,E0308
    /// use dinnerbell_core::model::mark::RoundVersion;
    ///
    /// let withdrawn = RoundVersion { seq: 7_i64, revision: 1, checksum: 0 };
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
    /// ```compile_fail,E0308
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

    /// Of the owner after this many acquisitions.
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
    /// ```compile_fail,E0308
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

    /// Returns the next one: the position of a reader that has read this one.
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
    /// ```compile_fail,E0308
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

    /// The moment at which it begins; the last one that there is where that is too far.
    pub const fn micros(self) -> Micros {
        Micros(self.0.saturating_mul(MICROS_PER_SECOND))
    }
}

/// This many seconds later.
impl Add<i64> for Seconds {
    type Output = Self;

    fn add(self, seconds: i64) -> Self {
        Self(self.0 + seconds)
    }
}

/// This many seconds earlier.
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

number! {
    /// A moment by a clock, in microseconds since 1970, UTC. From the feedback database's clock, with which the machine's own is compared. 0 is 1970
    /// itself.
    ///
    /// It is not a second, by which windows open and end, and not a span: a bare number that is added to it or taken from it is a number of
    /// microseconds.
    ///
    /// ```compile_fail,E0308
    /// use dinnerbell_core::model::campaign::Window;
    /// use dinnerbell_core::model::number::Micros;
    ///
    /// let now = Micros::new(1_700_000_000_000_000);
    /// Window::ALWAYS.is_open(now);
    /// ```
    #[derive(Default)]
    Micros(i64)
}

impl Micros {
    /// Before any moment.
    pub const MIN: Self = Self(i64::MIN);
    /// After any moment.
    pub const MAX: Self = Self(i64::MAX);

    /// When so much time has passed since 1970; [`Micros::MAX`] where that is too far.
    pub fn since_1970(passed: Duration) -> Self {
        i64::try_from(passed.as_micros()).map_or(Self::MAX, Self)
    }

    /// The second in which it lies.
    pub const fn seconds(self) -> Seconds {
        Seconds(self.0.div_euclid(MICROS_PER_SECOND))
    }

    /// The millisecond in which it lies.
    pub const fn millis(self) -> Millis {
        Millis(self.0.div_euclid(MICROS_PER_MILLI))
    }
}

/// This many microseconds later.
impl Add<i64> for Micros {
    type Output = Self;

    fn add(self, micros: i64) -> Self {
        Self(self.0 + micros)
    }
}

/// This many microseconds earlier.
impl Sub<i64> for Micros {
    type Output = Self;

    fn sub(self, micros: i64) -> Self {
        Self(self.0 - micros)
    }
}

/// How many microseconds this moment is later, as far as an `i64` goes: [`Micros::MIN`] and [`Micros::MAX`] are farther off than it counts.
impl Sub for Micros {
    type Output = i64;

    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

number! {
    /// A moment as Kafka counts, in milliseconds since 1970, UTC: a record's timestamp, and what is compared with it. -1 is no moment.
    ///
    /// It is not a moment of the clock, which counts microseconds:
    ///
    /// ```compile_fail,E0308
    /// use dinnerbell_core::model::number::{Micros, Offset};
    /// use dinnerbell_core::model::record::RecordFingerprint;
    ///
    /// let now = Micros::new(1_700_000_000_000_000);
    /// let fingerprint = RecordFingerprint { offset: Offset::FIRST, timestamp: now, hash: 0 };
    /// ```
    Millis(i64)
}

impl Millis {
    /// Of a record that has no timestamp.
    pub const NONE: Self = Self(-1);

    /// It, where it is a moment.
    pub fn known(self) -> Option<Self> {
        (self.0 >= 0).then_some(self)
    }
}

/// How many milliseconds this moment is later.
impl Sub for Millis {
    type Output = i64;

    fn sub(self, other: Self) -> i64 {
        self.0 - other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_lies_in_the_second_and_the_millisecond_that_began_last() {
        for (micros, millis, seconds) in
            [(0, 0, 0), (999, 0, 0), (1_999_999, 1_999, 1), (2_000_000, 2_000, 2), (-1, -1, -1)]
        {
            let moment = Micros::new(micros);
            assert_eq!((moment.millis(), moment.seconds()), (Millis::new(millis), Seconds::new(seconds)), "{micros}");
        }
        assert_eq!(Seconds::new(7).micros().seconds(), Seconds::new(7));
        assert_eq!(Seconds::MAX.micros(), Micros::MAX);
    }

    #[test]
    fn what_is_beyond_any_moment_is_as_far_off_as_a_number_can_say() {
        let now = Micros::new(1_700_000_000_000_000);
        assert_eq!(now - Micros::MIN, i64::MAX);
        assert_eq!(Micros::MIN - now, i64::MIN);
    }
}
