//! How far a lane is behind, from its position and the high watermarks seen.
//!
//! The age of the oldest unread record is found without reading it. Samples of the watermark bound when it was appended: after the last one that did
//! not reach beyond the position, and not later than the first that did.

use crate::model::number::{Millis, Offset};
use std::collections::VecDeque;

use jiff::{Timestamp, Unit};

/// Where a lane's partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Behind the last record.
    pub(crate) log: Offset,
    /// Behind the last record that no open transaction holds back.
    pub(crate) stable: Offset,
}

/// Records that a sender's open transaction holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// How many offsets lie behind the first record of that transaction, it included.
    pub(crate) records: u64,
    /// Where the first of them lies.
    stable: Offset,
    /// When they were first seen.
    pub(crate) since: Millis,
    /// Whether the log was told.
    pub(crate) told: bool,
}

/// How long records may be held back before the log warns, in milliseconds. Senders' transactions end far sooner.
const LONG: i64 = 10_000;

impl HeldBack {
    /// Whether it lasts so long that an operator should know.
    pub(crate) fn is_long(&self, now: Millis) -> bool {
        now - self.since >= LONG
    }

    /// What an operator is told of it.
    pub(crate) fn said(&self) -> String {
        let since = Timestamp::from_millisecond(self.since.get()).ok().and_then(|since| since.round(Unit::Second).ok());
        format!(
            "{} records wait for a sender's open transaction since {}; it ends with its sender, or at the sender's transaction.timeout.ms; \
             kafka-transactions.sh find-hanging names one that never ends",
            self.records,
            since.unwrap_or(Timestamp::UNIX_EPOCH)
        )
    }

    /// What is held back at these ends, in view of what was held back before. A transaction that ended lets the others go, or the next one
    /// holds them from its own first record on.
    fn at(ends: Ends, before: Option<Self>, now: Millis) -> Option<Self> {
        let records = u64::try_from(ends.log - ends.stable).ok().filter(|records| *records > 0)?;
        let same = before.filter(|held| held.stable == ends.stable);
        let (since, told) = same.map_or((now, false), |held| (held.since, held.told));
        Some(Self { records, stable: ends.stable, since, told })
    }
}

/// How far a lane is behind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// Offsets from the position to the end of the partition; markers of transactions count, and what open transactions hold back.
    pub records: u64,
    /// The age of the oldest record that is not taken in, 0 where there is none.
    pub seconds: f64,
}

/// Most samples that are kept: more than two hours of them, then every other one goes.
const MAX_SAMPLES: usize = 2_048;

/// What is known of a lane's position and watermarks.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    pub(crate) shown: Option<Lag>,
    pub(crate) held_back: Option<HeldBack>,
    position: Option<Offset>,
    /// When the last record taken in was appended.
    last_taken: Option<Millis>,
    /// Watermarks beyond the position, growing, with the time at which each was first seen.
    seen: VecDeque<(Offset, Millis)>,
    /// Whether a sample was seen that did not reach beyond the position: everything unread arrived after it.
    drained: bool,
}

impl Tracker {
    /// The lane's position, and when the last record below it was appended.
    pub(crate) fn position(&mut self, position: Offset, last_taken: Option<Millis>) {
        if self.position.is_some_and(|before| position < before) {
            // The lane was set back: what was seen says nothing about the records before.
            *self = Self::default();
        }
        self.position = Some(position);
        self.last_taken = last_taken.or(self.last_taken);
    }

    /// The lag at these ends, and what is held back; none where the position is not known.
    pub(crate) fn observe(&mut self, ends: Ends, now: Millis) -> Option<Lag> {
        self.held_back = HeldBack::at(ends, self.held_back.take(), now);
        self.find(ends.log, now)
    }

    fn find(&mut self, high: Offset, now: Millis) -> Option<Lag> {
        let position = self.position?;
        while self.seen.front().is_some_and(|(seen, _)| *seen <= position) {
            self.seen.pop_front();
            self.drained = true;
        }
        if high <= position {
            self.seen.clear();
            self.drained = true;
            return Some(Lag { records: 0, seconds: 0.0 });
        }
        if self.seen.back().is_none_or(|(seen, _)| *seen < high) {
            self.seen.push_back((high, now));
        }
        if self.seen.len() > MAX_SAMPLES {
            let mut index = 0;
            self.seen.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        let mut since = self.seen.front().map_or(now, |(_, at)| *at);
        if !self.drained {
            // A backlog from before the first sample: what was taken in last is nearly as old as what comes next.
            since = self.last_taken.map_or(since, |last| last.min(since));
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of an age are exact in a double")]
        let seconds = (now - since).max(0) as f64 / 1_000.0;
        Some(Lag { records: (high - position).unsigned_abs(), seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(records: u64, seconds: f64) -> Option<Lag> {
        Some(Lag { records, seconds })
    }

    #[test]
    fn a_lane_whose_position_is_unknown_has_no_lag() {
        assert_eq!(Tracker::default().find(Offset::new(10), Millis::new(0)), None);
    }

    #[test]
    fn the_oldest_unread_record_is_as_old_as_the_first_watermark_beyond_the_position() {
        let mut lane = Tracker::default();
        lane.position(Offset::new(10), Some(Millis::new(1)));
        assert_eq!(
            lane.find(Offset::new(10), Millis::new(100_000)),
            lag(0, 0.0),
            "an old record that was taken in is no lag"
        );
        assert_eq!(lane.find(Offset::new(12), Millis::new(105_000)), lag(2, 0.0));
        assert_eq!(lane.find(Offset::new(15), Millis::new(110_000)), lag(5, 5.0));
        lane.position(Offset::new(13), Some(Millis::new(104_000)));
        assert_eq!(lane.find(Offset::new(15), Millis::new(115_000)), lag(2, 5.0), "offset 13 was first seen at 110 s");
        lane.position(Offset::new(15), Some(Millis::new(109_000)));
        assert_eq!(lane.find(Offset::new(15), Millis::new(120_000)), lag(0, 0.0));
    }

    #[test]
    fn a_backlog_found_at_the_start_is_as_old_as_what_was_taken_in_last() {
        let mut lane = Tracker::default();
        lane.position(Offset::new(0), None);
        assert_eq!(lane.find(Offset::new(1_000), Millis::new(900_000)), lag(1_000, 0.0));
        lane.position(Offset::new(500), Some(Millis::new(300_000)));
        assert_eq!(lane.find(Offset::new(1_000), Millis::new(905_000)), lag(500, 605.0));
    }

    #[test]
    fn a_lane_that_is_set_back_is_measured_again() {
        let mut lane = Tracker::default();
        lane.position(Offset::new(10), Some(Millis::new(1)));
        lane.find(Offset::new(10), Millis::new(0));
        lane.position(Offset::new(2), None);
        assert_eq!(lane.find(Offset::new(10), Millis::new(50_000)), lag(8, 0.0));
    }

    #[test]
    fn what_an_open_transaction_holds_back_is_as_old_as_its_first_record_was_seen() {
        let mut lane = Tracker::default();
        lane.position(Offset::new(3), None);
        let held = |lane: &mut Tracker, log, stable, now| {
            let lag = lane.observe(Ends { log: Offset::new(log), stable: Offset::new(stable) }, Millis::new(now));
            (lag.map(|lag| lag.records), lane.held_back.map(|held| (held.records, held.since.get())))
        };
        assert_eq!(held(&mut lane, 3, 3, 0), (Some(0), None));
        assert_eq!(held(&mut lane, 5, 3, 1_000), (Some(2), Some((2, 1_000))));
        assert_eq!(held(&mut lane, 9, 3, 6_000), (Some(6), Some((6, 1_000))), "more came behind it");
        assert_eq!(held(&mut lane, 9, 7, 11_000), (Some(6), Some((2, 11_000))), "the next transaction holds the rest");
        assert_eq!(held(&mut lane, 9, 9, 16_000), (Some(6), None));
    }

    #[test]
    fn samples_stay_bounded_and_the_oldest_stays() {
        let mut lane = Tracker::default();
        lane.position(Offset::new(0), None);
        for sample in 0..10_000 {
            lane.find(Offset::new(sample + 1), Millis::new(sample * 5_000));
        }
        assert!(lane.seen.len() <= MAX_SAMPLES);
        assert_eq!(lane.find(Offset::new(10_001), Millis::new(50_000_000)), lag(10_001, 50_000.0));
    }
}
