//! What the group committed for a lane, read from a coordinator that has just proved to be the current one.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::{MARKERS_FIRST, MARKERS_MOST, OffsetCommit, Transaction};
use crate::cluster::topic_name;
use crate::connection::Connection;
use crate::error::{WireError, check};
use crate::producer::Producer;
use crate::retry_delay::RetryDelay;

/// What a group committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// The next offset to read.
    pub offset: i64,
    /// What was committed with it.
    pub metadata: String,
}

const READING: &str = "reading the group's committed offset";

impl Transaction {
    /// What the group committed for a partition up to now; none where nothing is, or it expired. The transaction must be new, and is aborted: `probe`,
    /// which names the partition, is never seen. Returns the producer for the next transaction.
    ///
    /// A coordinator that was cut off from the others, or frozen, would answer what it knew then. So it must take an offset first, which all
    /// replicas in sync have when it says so: then it is the current one, and knows all that was committed before. What it knows may still
    /// wait to become visible, since old brokers do that in the background. So it is asked for stable offsets, behind this transaction's end. Both
    /// happens on one connection: no other process can answer.
    pub async fn abort_for_group_offset(
        mut self,
        probe: &OffsetCommit,
    ) -> Result<(Producer, Option<GroupOffset>), WireError> {
        let none = Vec::new();
        self.begin(probe, &none, &|| true).await?;
        let until = self.call_deadline();
        let address = self.producer.group_coordinator.clone();
        self.end_here("aborting a transaction", false).await?;
        let group = self.producer.identity.group.clone();
        let connection = self.connection(&address, until).await?;
        let mut retry_delay = RetryDelay::new(MARKERS_FIRST, MARKERS_MOST);
        let found = loop {
            match group_offset(connection, &group, probe, until).await {
                Err(error) if is_unstable(&error) && retry_delay.wait(until).await => {}
                other => break other?,
            }
        };
        Ok((self.give_back(), found))
    }
}

/// Whether an offset of an open transaction, or of one whose end is not visible yet, stands before the answer.
fn is_unstable(error: &WireError) -> bool {
    error.code() == Some(ResponseError::UnstableOffsetCommit)
}

async fn group_offset(
    connection: &mut Connection,
    group: &str,
    of: &OffsetCommit,
    until: Instant,
) -> Result<Option<GroupOffset>, WireError> {
    let asked =
        OffsetFetchRequestTopic::default().with_name(topic_name(&of.topic)).with_partition_indexes(vec![of.partition]);
    // Later versions ask about several groups.
    let version = connection.version::<OffsetFetchRequest>(READING, 1, 7)?;
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(vec![asked]))
        .with_require_stable(version >= 7);
    let answer = connection.ask_version(READING, &request, version, until).await?;
    connection.throttle(answer.throttle_time_ms);
    check(READING, connection.address(), answer.error_code, None)?;
    let mut found = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let Some(found) = found.find(|found| found.partition_index == of.partition) else {
        let reason = "it does not name the partition".to_owned();
        return Err(WireError::Unreadable { doing: READING, address: connection.address().to_owned(), reason });
    };
    check(READING, connection.address(), found.error_code, None)?;
    let metadata = found.metadata.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok((found.committed_offset >= 0).then_some(GroupOffset { offset: found.committed_offset, metadata }))
}
