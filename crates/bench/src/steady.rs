//! Small campaigns at a steady rate: rung on time, whatever becomes of those before, and watched until both sinks hold them.

use dinnerbell_core::model::number::Lane;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::message::BorrowedMessage;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_postgres::types::Type;

use super::audience::Audience;
use super::error::BenchError;
use super::progress::STANDSTILL;
use super::reader::{Reader, campaign_of};
use crate::environment::Stage;
use crate::sender;
use crate::sender::{Bell, campaign};
use dinnerbell_postgres::predicate::{of_campaign, short_enough};

/// How often rows that were not there at the first look are looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// How many campaigns may wait to be looked at.
const ROOM: usize = 1_024;
/// How many campaigns warm each lane up.
const WARM_UPS: usize = 3;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Load {
    /// Campaigns a second.
    pub rate: f64,
    /// Partitions of the campaigns topic, taken in turn.
    pub lanes: i32,
    /// Subscribers of each campaign.
    pub size: u32,
}

impl Load {
    /// When a campaign is sent, from the first on.
    fn moment(&self, number: usize) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// The lane in which a campaign is rung.
    pub fn lane(&self, number: usize) -> Lane {
        lane(number, self.lanes)
    }
}

/// A campaign whose drafts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rung {
    /// One of the small ones, by its number.
    Small(usize),
    /// The one beside them.
    Giant,
}

impl Rung {
    /// Its id.
    pub fn id(self) -> String {
        match self {
            Self::Small(number) => format!("bench-{number}"),
            Self::Giant => "giant".to_owned(),
        }
    }

    fn from_id(id: &str) -> Option<Self> {
        match id.strip_prefix("bench-") {
            Some(number) => number.parse().ok().map(Self::Small),
            None => (id == "giant").then_some(Self::Giant),
        }
    }
}

/// Campaigns, each once, with the moment at which the last of its drafts was read.
pub type Complete = mpsc::Receiver<(Rung, Instant)>;

/// Counts drafts on a reader's thread.
pub async fn count(stage: &Stage<'_>, small: u32, giant: u32) -> Result<(Reader, Complete), BenchError> {
    let (tell, complete) = mpsc::channel(ROOM);
    let mut open: HashMap<Rung, u32> = HashMap::new();
    let hear = move |message: &BorrowedMessage<'_>, at: Instant| {
        let Some(rung) = campaign_of(message).and_then(Rung::from_id) else { return true };
        let left = open.entry(rung).or_insert(if rung == Rung::Giant { giant } else { small });
        *left = left.saturating_sub(1);
        if *left > 0 {
            return true;
        }
        open.remove(&rung);
        tell.blocking_send((rung, at)).is_ok()
    };
    Ok((Reader::start(stage, hear).await?, complete))
}

/// What was seen of all campaigns.
#[derive(Debug, Default)]
pub struct Seen {
    /// How long each small campaign took, with its lane.
    pub latencies: Vec<(Lane, Duration)>,
    /// When the last draft of the giant was read.
    pub giant: Option<Instant>,
    /// Small campaigns whose rows were not all committed when their messages could be read. There should be none.
    pub rows_later: usize,
}

/// Small campaigns that are being rung.
pub struct Steady<'a> {
    stage: &'a Stage<'a>,
    bell: &'a Bell,
    restaurant: &'a str,
    load: Load,
    sent: Mutex<Vec<Instant>>,
    /// How many were rung in all, once that is known.
    total: watch::Sender<Option<usize>>,
}

impl<'a> Steady<'a> {
    /// Nothing is rung yet.
    pub fn new(stage: &'a Stage<'a>, bell: &'a Bell, restaurant: &'a str, load: Load) -> Self {
        Self { stage, bell, restaurant, load, sent: Mutex::default(), total: watch::Sender::new(None) }
    }

    /// Rings a number of times, or until the giant is complete.
    pub async fn ring(&self, most: usize, giant: watch::Receiver<bool>) -> Result<(), BenchError> {
        let began = Instant::now();
        let mut deliveries = Vec::new();
        for number in 0..most {
            tokio::time::sleep_until(began + self.load.moment(number)).await;
            if *giant.borrow() {
                break;
            }
            let campaign = campaign(&Rung::Small(number).id(), self.restaurant);
            // A little before the append, so that no time is left out.
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            deliveries.push(self.bell.send(&campaign, self.load.lane(number))?);
        }
        self.total.send_replace(Some(deliveries.len()));
        for delivery in deliveries {
            self.bell.delivered(delivery).await?;
        }
        Ok(())
    }

    /// Waits for every campaign, in the order in which they are complete; says when the giant is.
    pub async fn watch(&self, mut complete: Complete, giant: watch::Sender<bool>) -> Result<Seen, BenchError> {
        let mut seen = Seen::default();
        let mut total = self.total.subscribe();
        loop {
            let known = *total.borrow_and_update();
            if known == Some(seen.latencies.len()) {
                return Ok(seen);
            }
            let next = async {
                tokio::select! {
                    biased;
                    next = complete.recv() => next.map(Some),
                    _ = total.changed() => Some(None),
                }
            };
            match timeout(STANDSTILL, next).await {
                Ok(Some(Some((Rung::Small(number), read)))) => self.look(&mut seen, number, read).await?,
                Ok(Some(Some((Rung::Giant, read)))) => {
                    seen.giant = Some(read);
                    giant.send_replace(true);
                }
                Ok(Some(None)) => {}
                Ok(None) | Err(_) => return Err(stands_still(seen.latencies.len(), known)),
            }
        }
    }

    /// Recorded comes before published: what can be read is committed. This looks whether it is so.
    async fn look(&self, seen: &mut Seen, number: usize, read: Instant) -> Result<(), BenchError> {
        let id = Rung::Small(number).id();
        let mut committed = read;
        let mut later = false;
        while rows(self.stage, &id).await? < i64::from(self.load.size) {
            later = true;
            if read.elapsed() > STANDSTILL {
                return Err(BenchError::Failed(format!("messages of campaign {id} have no rows")));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            committed = Instant::now();
        }
        seen.rows_later += usize::from(later);
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).get(number).copied();
        seen.latencies.extend(sent.map(|sent| (self.load.lane(number), committed - sent)));
        Ok(())
    }
}

fn stands_still(got: usize, all: Option<usize>) -> BenchError {
    let of_all = all.map_or_else(String::new, |all| format!(" of {all}"));
    let seconds = STANDSTILL.as_secs();
    BenchError::Failed(format!("only {got}{of_all} small campaigns were complete, then none for {seconds} s"))
}

/// Rings campaigns that warm every lane up. Returns how many drafts they have in all.
pub async fn warm_up(bell: &Bell, lanes: i32) -> Result<usize, BenchError> {
    let mut drafts = 0;
    for number in 0..WARM_UPS * usize::try_from(lanes).unwrap_or(0) {
        bell.ring(&sender::warm_up(number), lane(number, lanes)).await?;
        drafts += Audience::warm_up().subscribers;
    }
    Ok(drafts)
}

/// Lanes are taken in turn.
pub fn lane(number: usize, lanes: i32) -> Lane {
    Lane::new(i32::try_from(number).map_or(0, |number| number % lanes))
}

async fn rows(stage: &Stage<'_>, campaign: &str) -> Result<i64, BenchError> {
    // As the index says it. A scan of the table for each campaign would take the time that is measured.
    let indexed = format!("{} and {}", of_campaign("adv_campaign_id", "$1"), short_enough("adv_campaign_id"));
    let sql = format!("select count(*) from {} where {indexed}", stage.pool.table().sql());
    let rows = stage.pool.query(&sql, &[(&campaign, Type::TEXT)]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn campaigns_are_spread_over_time_and_lanes() {
        let load = Load { rate: 20.0, lanes: 4, size: 100 };
        assert_eq!(load.moment(10), Duration::from_millis(500));
        assert_eq!((0..5).map(|number| load.lane(number)).collect::<Vec<_>>(), [0, 1, 2, 3, 0].map(Lane::new));
    }

    #[test]
    fn a_campaign_is_known_by_its_id() {
        for rung in [Rung::Small(17), Rung::Giant] {
            assert_eq!(Rung::from_id(&rung.id()), Some(rung));
        }
        assert_eq!((Rung::from_id("warm-up-1"), Rung::from_id("bench-x")), (None, None));
    }
}
