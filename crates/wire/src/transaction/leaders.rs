//! Whether a broker that keeps us waiting still leads what was written to it.
//!
//! One that stands still says nothing about that, and keeps its connections. The others say it as soon as they have elected another leader. Whoever
//! waited for the whole transaction instead would wait a minute.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::SENDING;
use super::in_flight::Partitions;
use crate::cluster::{Cluster, Topic};
use crate::error::WireError;

/// How long a broker may keep us waiting before others are asked, again and again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How old an answer may be: all lanes share it.
const RECENT: Duration = Duration::from_secs(1);

/// Waits for a broker to which these partitions were written. Fails also where another one leads any of them.
pub(super) async fn while_it_leads<T>(
    cluster: &Cluster,
    written: &Partitions,
    leader: &str,
    wait: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    tokio::select! {
        biased;
        done = wait => done,
        deposed = deposed(cluster, written, leader) => Err(deposed),
    }
}

/// Ends when the others say that another broker leads one of the partitions.
async fn deposed(cluster: &Cluster, written: &Partitions, leader: &str) -> WireError {
    let began = Instant::now();
    loop {
        sleep(PATIENCE).await;
        for (name, partition) in written {
            // Who does not answer says nothing about a leader.
            let Ok(topic) = cluster.topic(name, RECENT, Instant::now() + PATIENCE).await else { break };
            if let Some(now) = led_by_another(&topic, *partition, leader) {
                let waited = began.elapsed().as_secs();
                let reason =
                    format!("no answer within {waited} s, and {now} leads partition {partition} of topic {name} now");
                return WireError::Broken { doing: SENDING, address: leader.to_owned(), reason };
            }
        }
    }
}

/// The other broker that leads the partition. A partition without a leader may get the same one again.
fn led_by_another<'a>(topic: &'a Topic, partition: i32, leader: &str) -> Option<&'a str> {
    let place = usize::try_from(partition).ok()?;
    topic.leaders.get(place)?.as_deref().filter(|now| *now != leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_lost_to_another_leader_and_to_none() {
        let topic = Topic { id: None, leaders: vec![Some("a:1".into()), Some("b:1".into()), None] };
        let by = |partition| led_by_another(&topic, partition, "a:1");
        assert_eq!((by(0), by(1), by(2), by(3)), (None, Some("b:1"), None, None));
    }
}
