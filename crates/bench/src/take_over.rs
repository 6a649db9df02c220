//! Lanes that change hands between two instances: from the assignment, or the death of the owner, to the next draft.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::audience::Audience;
use super::error::BenchError;
use super::figures::{Quantiles, milliseconds};
use super::instance::Instance;
use super::progress::{STANDSTILL, tell};
use super::reader::Reader;
use super::usage::peaks_text;
use super::{sinks, steady};
use crate::environment::{Ground, Stage};
use crate::sender::{Bell, campaign};
use dinnerbell_core::model::draft::ROUND_HEADER;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::text_table::table;

/// Campaigns a second in each lane, so that there is always a next draft.
const RATE: f64 = 20.0;
/// Subscribers of each.
const SIZE: usize = 5;
/// How often instances are asked for their lanes.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// How many lanes two instances share.
    pub lanes: i32,
    /// How often an instance comes or goes in order.
    pub moves: u32,
    /// How often one is killed.
    pub kills: u32,
}

/// Lanes that changed hands.
#[derive(Debug, Serialize)]
pub struct TakeOver {
    /// How many lanes the instances shared.
    pub lanes: i32,
    /// How often an instance came or went in order.
    pub moves: u32,
    /// How often one was killed.
    pub kills: u32,
    /// From the assignment of a lane until its next draft could be read.
    pub from_assignment: Times,
    /// From the kill of a lane's owner until its next draft could be read: the session's time-out is in it.
    pub from_kill: Times,
    /// The largest resident memory of any instance.
    pub peak_memory_bytes: u64,
}

/// Times of single lanes.
#[derive(Debug, Serialize)]
pub struct Times {
    /// How many were measured.
    pub times: usize,
    /// How long they were.
    #[serde(flatten)]
    pub took: Quantiles,
}

/// Measures: the moves, then the kills.
pub async fn measure(ground: &Ground<'_>, wish: Params) -> Result<TakeOver, BenchError> {
    tell(&format!("take-over of {} lanes, {} moves and {} kills", wish.lanes, wish.moves, wish.kills));
    let audience = Audience::of(SIZE);
    let stage = ground.stage(wish.lanes).await?;
    stage.seed(&audience).await?;
    let drafts = Arc::new(Drafts::default());
    let reader = {
        let drafts = Arc::clone(&drafts);
        Reader::start(&stage, move |message, at| drafts.hear(message, at)).await?
    };
    let bell = Bell::new(&stage.config.kafka)?;
    let (stop, stopped) = watch::channel(false);
    let ringing = ring(&bell, &audience, wish.lanes, stopped);
    let moving = async {
        let moved = Troupe::new(&stage, &drafts, wish).perform().await;
        stop.send_replace(true);
        moved
    };
    let (rung, troupe) = tokio::try_join!(ringing, moving)?;
    sinks::reach(&stage, rung * SIZE).await?;
    let result = troupe.end()?;
    reader.stop();
    sinks::hold(&stage, rung * SIZE).await?;
    stage.end().await?;
    Ok(result)
}

/// Rings in every lane in turn until it is told to stop. Returns how often.
async fn ring(
    bell: &Bell,
    audience: &Audience,
    lanes: i32,
    stopped: watch::Receiver<bool>,
) -> Result<usize, BenchError> {
    let pause = Duration::from_secs_f64(1.0 / (RATE * f64::from(lanes)));
    let began = Instant::now();
    let mut number = 0;
    while !*stopped.borrow() {
        bell.ring(&campaign(&format!("bench-{number}"), &audience.restaurant), steady::lane(number, lanes)).await?;
        number += 1;
        let next = began + pause * u32::try_from(number).unwrap_or(u32::MAX);
        tokio::time::sleep_until(next).await;
    }
    Ok(number)
}

/// A draft that was read.
#[derive(Debug, Clone, Copy)]
struct Read {
    lane: Lane,
    /// When its producer made the message, in milliseconds since 1970.
    made: i64,
    at: Instant,
}

/// The drafts that were read since the last change.
#[derive(Default)]
struct Drafts(Mutex<Vec<Read>>);

impl Drafts {
    fn hear(&self, message: &BorrowedMessage<'_>, at: Instant) -> bool {
        let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == ROUND_HEADER));
        let lane = header.and_then(|header| lane_of(header.value?));
        if let (Some(lane), Some(made)) = (lane, message.timestamp().to_millis()) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Read { lane, made, at });
        }
        true
    }

    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// When the first draft of a lane was read that was made at a moment or after it. Nobody made one for the lane between its former
    /// owner's last, which was before that moment, and the first of its new owner.
    fn first(&self, lane: Lane, made: i64) -> Option<Instant> {
        let drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.iter().find(|draft| draft.lane == lane && draft.made >= made).map(|draft| draft.at)
    }
}

/// The lane of a round, `topic/partition/seq`.
fn lane_of(round: &[u8]) -> Option<Lane> {
    std::str::from_utf8(round).ok()?.rsplit('/').nth(1)?.parse().ok()
}

/// When something was, by both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    epoch_ms: i64,
}

impl Moment {
    fn now() -> Self {
        #[expect(clippy::disallowed_methods, reason = "two processes of one machine compare its clock")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self { at: Instant::now(), epoch_ms: i64::try_from(since).unwrap_or(i64::MAX) }
    }
}

/// The instances, and what was measured of them.
struct Troupe<'a> {
    stage: &'a Stage<'a>,
    drafts: &'a Drafts,
    wish: Params,
    /// The eldest first.
    instances: Vec<Instance>,
    from_assignment: Vec<Duration>,
    from_kill: Vec<Duration>,
    peak: u64,
}

impl<'a> Troupe<'a> {
    fn new(stage: &'a Stage<'a>, drafts: &'a Drafts, wish: Params) -> Self {
        Self { stage, drafts, wish, instances: Vec::new(), from_assignment: Vec::new(), from_kill: Vec::new(), peak: 0 }
    }

    async fn perform(mut self) -> Result<Self, BenchError> {
        let all = usize::try_from(self.wish.lanes).unwrap_or(0);
        self.enter(all).await?;
        // What was measured so far was a start, and no take-over.
        self.from_assignment.clear();
        for number in 1..=self.wish.moves {
            match self.instances.len() {
                1 => self.enter(all / 2).await?,
                _ => self.leave().await?,
            }
            tell(&format!("move {number} of {}", self.wish.moves));
        }
        for number in 1..=self.wish.kills {
            if self.instances.len() == 1 {
                self.enter(all / 2).await?;
            }
            self.kill().await?;
            tell(&format!("kill {number} of {}", self.wish.kills));
        }
        Ok(self)
    }

    /// One more instance comes, and is given this number of lanes at least.
    async fn enter(&mut self, lanes: usize) -> Result<(), BenchError> {
        self.drafts.forget();
        self.instances.push(Instance::begin(self.stage)?);
        self.follow(BTreeSet::new(), lanes, None).await
    }

    /// The eldest goes in order, and the other takes its lanes.
    async fn leave(&mut self) -> Result<(), BenchError> {
        let (mut eldest, lanes, had) = self.part().await?;
        eldest.ask_to_end();
        self.follow(had, lanes, None).await?;
        eldest.stop();
        Ok(())
    }

    /// The eldest is killed, and the other takes its lanes.
    async fn kill(&mut self) -> Result<(), BenchError> {
        let (eldest, lanes, had) = self.part().await?;
        tokio::task::block_in_place(|| eldest.kill());
        self.follow(had, lanes, Some(Moment::now())).await
    }

    /// The eldest apart from the troupe, how many lanes it has, and which ones the other has.
    async fn part(&mut self) -> Result<(Instance, usize, BTreeSet<Lane>), BenchError> {
        self.drafts.forget();
        let mut eldest = self.instances.remove(0);
        self.peak = self.peak.max(eldest.peak_memory()?);
        let lanes = eldest.lanes().await?.len();
        let had = self.youngest()?.lanes().await?;
        Ok((eldest, lanes, had))
    }

    /// Follows the youngest until it has this number of further lanes and told a draft in each of them.
    async fn follow(&mut self, had: BTreeSet<Lane>, lanes: usize, killed: Option<Moment>) -> Result<(), BenchError> {
        let began = Instant::now();
        let mut absent = Moment::now();
        // For each new lane: the last look at which it was not there, and the first at which it was.
        let mut assigned: BTreeMap<Lane, (Moment, Moment)> = BTreeMap::new();
        let mut told: BTreeMap<Lane, Instant> = BTreeMap::new();
        while told.len() < lanes.max(assigned.len()) {
            let look = Moment::now();
            let has = self.youngest()?.lanes().await?;
            let seen = Moment::now();
            for lane in has.difference(&had) {
                assigned.entry(*lane).or_insert((absent, seen));
            }
            absent = look;
            for (lane, (_, seen)) in &assigned {
                if let Some(at) = self.drafts.first(*lane, seen.epoch_ms) {
                    told.entry(*lane).or_insert(at);
                }
            }
            if began.elapsed() > STANDSTILL {
                let (got, given) = (told.len(), assigned.len());
                let seconds = STANDSTILL.as_secs();
                return Err(self.youngest()?.failed(&format!(
                    "of {lanes} lanes that it should take over it was given {given} and told drafts in {got} in {seconds} s"
                )));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        // The look before the assignment was seen: rather too long than too short.
        let since = |lane: &Lane| assigned.get(lane).map(|(absent, _)| absent.at);
        self.from_assignment.extend(told.iter().filter_map(|(lane, at)| Some(*at - since(lane)?)));
        self.from_kill.extend(told.values().filter_map(|at| Some(*at - killed?.at)));
        Ok(())
    }

    fn youngest(&mut self) -> Result<&mut Instance, BenchError> {
        self.instances.last_mut().ok_or_else(|| BenchError::Failed("no instance of the service is left".to_owned()))
    }

    fn end(mut self) -> Result<TakeOver, BenchError> {
        for instance in self.instances.drain(..) {
            self.peak = self.peak.max(instance.peak_memory()?);
            instance.stop();
        }
        let Params { lanes, moves, kills } = self.wish;
        let times = |times: &[Duration]| Times { times: times.len(), took: Quantiles::of(times.iter().copied()) };
        Ok(TakeOver {
            lanes,
            moves,
            kills,
            from_assignment: times(&self.from_assignment),
            from_kill: times(&self.from_kill),
            peak_memory_bytes: self.peak,
        })
    }
}

impl TakeOver {
    /// For people.
    pub fn text(&self) -> String {
        let Self { lanes, moves, kills, from_assignment, from_kill, peak_memory_bytes } = self;
        let mut text = format!(
            "\ntake-over: two instances share {lanes} lanes; one comes or goes {moves} times, one is killed {kills} times; until the next draft \
             of each lane can be read\n\n"
        );
        let rows = [("assignment", from_assignment), ("kill -9", from_kill)].into_iter().filter(|(_, of)| of.times > 0);
        let rows = rows.map(|(from, Times { times, took })| {
            [
                from.to_owned(),
                times.to_string(),
                milliseconds(took.p50_ms),
                milliseconds(took.p95_ms),
                milliseconds(took.max_ms),
            ]
        });
        text.push_str(&table(["FROM", "LANES", "P50", "P95", "MAX"], rows));
        text.push_str(&format!("\n{}\n", peaks_text(*lanes, std::iter::once(*peak_memory_bytes))));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_names_its_lane() {
        assert_eq!(lane_of(b"promo.in/3/17"), Some(Lane::new(3)));
        assert_eq!((lane_of(b"promo"), lane_of(b"a/b/c")), (None, None));
    }

    #[test]
    fn a_draft_of_the_former_owner_is_not_the_next_one() {
        let drafts = Drafts::default();
        let at = Instant::now();
        let later = at + Duration::from_millis(40);
        for (lane, made, at) in [(0, 99, at), (1, 105, at), (0, 110, later)] {
            drafts.0.lock().unwrap().push(Read { lane: Lane::new(lane), made, at });
        }
        assert_eq!((drafts.first(Lane::new(0), 100), drafts.first(Lane::new(2), 100)), (Some(later), None));
    }
}
