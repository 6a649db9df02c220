//! The input of one simulated lane.

use tokio::time::{sleep, timeout};

use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::model::record::{InputEvent, Record};
use dinnerbell_core::ports::broker::{BrokerError, Input};

use super::GAP_READ_DELAY;
use crate::faults::Server;
use crate::world::Instance;

/// The simulated [`Input`].
pub struct SimInput {
    pub(super) instance: Instance,
    pub(super) lane: Lane,
    pub(super) position: Offset,
    /// It was to read another topic of this name.
    pub(super) is_replaced: bool,
}

impl SimInput {
    /// What is there, and the high watermark.
    pub(super) fn look(&self, most: usize) -> (Vec<Record>, Offset) {
        let mut state = self.instance.world.state();
        let partition = state.kafka.lane(self.lane);
        let first = partition.records.partition_point(|record| record.offset < self.position);
        (partition.records[first..].iter().take(most).cloned().collect(), partition.end)
    }
}

impl Input for SimInput {
    async fn next(&mut self, most: usize) -> Result<Vec<InputEvent>, BrokerError> {
        loop {
            let world = self.instance.world.clone();
            let appended = world.appended.notified();
            let (way, fails) = {
                let mut state = world.state();
                let fails = state.harm.unsent / 4;
                let is_away = state.harm.away.contains(&Server::Kafka) || state.harm.leaderless.contains(&self.lane);
                (state.way(), is_away || state.random.chance(fails))
            };
            sleep(way).await;
            if fails {
                return Err(BrokerError::Transient("the connection broke".to_owned()));
            }
            if self.is_replaced {
                return Err(BrokerError::Transient("the topic was recreated".to_owned()));
            }
            let some = 1 + world.state().random.below(most.min(4) as u64);
            let (records, _) = self.look(usize::try_from(some).unwrap_or(most));
            if let Some(last) = records.last() {
                self.position = last.offset.next();
                return Ok(records.into_iter().map(InputEvent::Record).collect());
            }
            // The end is looked at once the lane is at rest.
            if timeout(GAP_READ_DELAY, appended).await.is_ok() {
                continue;
            }
            let appended = world.appended.notified();
            let (records, end) = self.look(1);
            if records.is_empty() && end > self.position {
                self.position = end;
                return Ok(vec![InputEvent::End(end)]);
            }
            if records.is_empty() {
                appended.await;
            }
        }
    }
}
