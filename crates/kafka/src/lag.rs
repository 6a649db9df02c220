//! What is seen of the group and its topic from outside, without joining.

use std::collections::BTreeMap;

use crate::client::REQUEST_TIMEOUT;
use crate::group;
use crate::reader::Reader;
use dinnerbell_config as config;
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::ports::broker::BrokerError;

/// The group and its topic.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How many members the group has: the instances that run, and one that was killed until its session ends.
    pub members: usize,
    /// The offset up to which a `read_committed` reader can read, of the lanes whose partitions answer.
    pub ends: BTreeMap<Lane, Offset>,
}

/// Observes the group, and how far these lanes' partitions go.
pub async fn observe(kafka: &config::Kafka, lanes: impl IntoIterator<Item = Lane>) -> Result<Seen, BrokerError> {
    let reader = Reader::start(kafka)?;
    let seen = observe_with(kafka, &reader, lanes).await;
    reader.close(REQUEST_TIMEOUT).await;
    seen
}

async fn observe_with(
    kafka: &config::Kafka,
    reader: &Reader,
    lanes: impl IntoIterator<Item = Lane>,
) -> Result<Seen, BrokerError> {
    let name = kafka.group_id.clone();
    let members = reader
        .ask(format!("looking at the group {name}"), move |consumer, _| Ok(group::members(consumer, &name)?.len()))
        .await?;
    let mut seen = Seen { members, ends: BTreeMap::new() };
    for lane in lanes {
        // A partition that is gone, or without a leader, is none of the others'.
        if let Ok((_, end)) = reader.watermarks(lane).await {
            seen.ends.insert(lane, end);
        }
    }
    Ok(seen)
}
