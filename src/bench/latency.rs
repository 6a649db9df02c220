//! Small campaigns at a steady rate: from the append of each until the last of its drafts can be read and is committed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_postgres::types::Type;

use super::bell::{Bell, WARM_UP_AUDIENCE, campaign, warm_up};
use super::ground::{Ground, Stage};
use super::instance::Instance;
use super::reader::{Complete, Heard, Reader, id};
use super::report::{Latency, LatencyRun};
use super::{BenchError, Plan, STANDSTILL, sinks, tell};
use crate::postgres::predicate::short_enough;

/// How often rows that were not there at the first look are looked for.
const LOOK: Duration = Duration::from_millis(2);
/// How many campaigns warm each lane up.
const WARM_UPS: u32 = 3;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Load {
    /// Campaigns a second.
    pub rate: f64,
    /// Partitions of the campaigns topic, taken in turn.
    pub lanes: i32,
    /// For how long.
    pub seconds: f64,
    /// Subscribers of each campaign.
    pub size: u32,
}

impl Load {
    fn campaigns(&self) -> usize {
        ((self.rate * self.seconds).round() as usize).max(1)
    }

    /// When a campaign is sent, from the first on.
    fn moment(&self, number: usize) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    fn lane(&self, number: usize) -> i32 {
        i32::try_from(number).map_or(0, |number| number % self.lanes)
    }
}

/// As often as the plan says.
pub async fn measure(ground: &Ground<'_>, plan: &Plan) -> Result<Latency, BenchError> {
    let load = plan.latency;
    let mut runs = Vec::new();
    for number in 1..=plan.repeat {
        tell(&format!("latency at {} campaigns a second, run {number} of {}", load.rate, plan.repeat));
        runs.push(once(ground, plan, load).await?);
    }
    Ok(Latency::of(load, runs))
}

async fn once(ground: &Ground<'_>, plan: &Plan, load: Load) -> Result<LatencyRun, BenchError> {
    let restaurant = format!("small-{}", load.size);
    let stage = ground.stage(load.lanes).await?;
    stage.seed(&restaurant, load.size as usize).await?;
    let mut instance = Instance::start(&stage).await?;
    let bell = Bell::new(&stage.config.kafka)?;
    let heard = Heard { campaigns: load.campaigns(), drafts: load.size };
    let (reader, complete) = Reader::start(&stage.config.kafka, plan.partitions, heard).await?;
    let mut warmed = 0;
    for number in 0..WARM_UPS * load.lanes.unsigned_abs() {
        bell.ring(&warm_up(number), load.lane(number as usize)).await?;
        warmed += WARM_UP_AUDIENCE;
    }
    let before = instance.published(warmed).await?;
    let sent = Mutex::new(vec![None; load.campaigns()]);
    let sending = send(&bell, &restaurant, load, &sent);
    let watching = watch(&stage, load, complete, &sent);
    let ((), heard) = tokio::try_join!(sending, watching)?;
    let drafts = load.campaigns() * load.size as usize;
    let after = instance.published(warmed + drafts).await?;
    let run = LatencyRun::of(&heard, &before, &after, instance.peak_memory()?);
    instance.stop();
    tokio::task::block_in_place(|| drop(reader));
    sinks::hold(&stage, plan.partitions, warmed + drafts).await?;
    stage.end().await?;
    Ok(run)
}

type Sent = Mutex<Vec<Option<Instant>>>;

/// Rings on time, whatever becomes of what was rung before.
async fn send(bell: &Bell, restaurant: &str, load: Load, sent: &Sent) -> Result<(), BenchError> {
    let began = Instant::now();
    let mut deliveries = Vec::with_capacity(load.campaigns());
    for number in 0..load.campaigns() {
        tokio::time::sleep_until((began + load.moment(number)).into()).await;
        let campaign = campaign(&id(number), restaurant);
        // A little before the append, so that no time is left out.
        sent.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(Instant::now());
        deliveries.push(bell.send(&campaign, load.lane(number))?);
    }
    for delivery in deliveries {
        bell.delivered(delivery).await?;
    }
    Ok(())
}

/// What was seen of all campaigns.
#[derive(Debug, Default)]
pub struct Seen {
    /// How long each took.
    pub latencies: Vec<Duration>,
    /// Campaigns whose rows were not all committed when their messages could be read. There should be none.
    pub rows_later: usize,
}

/// Waits for every campaign, in the order in which they are complete.
async fn watch(stage: &Stage<'_>, load: Load, mut complete: Complete, sent: &Sent) -> Result<Seen, BenchError> {
    let mut seen = Seen::default();
    while seen.latencies.len() < load.campaigns() {
        let Ok(Some((number, read))) = timeout(STANDSTILL, complete.recv()).await else {
            let (got, all) = (seen.latencies.len(), load.campaigns());
            return Err(BenchError::Failed(format!(
                "only {got} of {all} campaigns were complete, then none for {} s",
                STANDSTILL.as_secs()
            )));
        };
        // Recorded comes before published: what can be read is committed. This looks whether it is so.
        let mut committed = read;
        let mut later = false;
        while rows(stage, &id(number)).await? < i64::from(load.size) {
            later = true;
            if read.elapsed() > STANDSTILL {
                return Err(BenchError::Failed(format!("messages of campaign {} have no rows", id(number))));
            }
            tokio::time::sleep(LOOK).await;
            committed = Instant::now();
        }
        seen.rows_later += usize::from(later);
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner)[number];
        seen.latencies.extend(sent.map(|sent| committed - sent));
    }
    Ok(seen)
}

async fn rows(stage: &Stage<'_>, campaign: &str) -> Result<i64, BenchError> {
    let indexed = short_enough("adv_campaign_id");
    let sql = format!("select count(*) from {} where adv_campaign_id = $1 and {indexed}", stage.pool.table().sql());
    let rows = stage.pool.query(&sql, &[(&campaign, Type::TEXT)]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn campaigns_are_spread_over_time_and_lanes() {
        let load = Load { rate: 20.0, lanes: 4, seconds: 2.5, size: 100 };
        assert_eq!(load.campaigns(), 50);
        assert_eq!(load.moment(10), Duration::from_millis(500));
        assert_eq!((0..5).map(|number| load.lane(number)).collect::<Vec<_>>(), [0, 1, 2, 3, 0]);
    }
}
