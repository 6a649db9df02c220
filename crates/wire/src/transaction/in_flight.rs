//! What was sent to a broker and is not acknowledged.
//!
//! The first batch of a partition makes its broker add the partition to the transaction, at the coordinator. That one does such a thing for one broker at
//! a time, and tells the others to come back (`CONCURRENT_TRANSACTIONS`): nothing is written then, and the same batch is sent again.
//! So no other batch of a partition is sent before its first one is acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kafka_protocol::messages::produce_request::ProduceRequest;
use tokio::time::Instant;

use super::{CALL, MOST_IN_FLIGHT, SENDING, check_all, is_not_ready};
use crate::connection::Connection;
use crate::error::WireError;
use crate::retry_delay::RetryDelay;

/// How long a batch waits before it is sent again: at first, and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(1);
const AGAIN_MOST: Duration = Duration::from_millis(200);

/// Partitions by topic and number.
pub(super) type Partitions = BTreeSet<(String, i32)>;

/// What a broker was sent in a transaction.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The partitions that were written to.
    pub(super) partitions: Partitions,
    pub(super) in_flight: InFlight,
}

/// What is not acknowledged, in its order.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The partition and the request of each first batch; none for further ones.
    batches: VecDeque<Option<((String, i32), ProduceRequest)>>,
    version: i16,
    /// While first batches are told to come back: until when, and how long is waited before the next one.
    come_back: Option<(Instant, RetryDelay)>,
}

impl InFlight {
    /// Sends a batch, and then waits until so few are under way that another one may be. `opens` names its partition where it is the first one there.
    pub(super) async fn send(
        &mut self,
        connection: &mut Connection,
        (request, version): (ProduceRequest, i16),
        partition: (String, i32),
        opens: bool,
        until: Instant,
    ) -> Result<(), WireError> {
        while self.batches.iter().flatten().any(|(opening, _)| *opening == partition) {
            self.acknowledged(connection, until).await?;
        }
        self.version = version;
        connection.queue(SENDING, &request, version)?;
        self.batches.push_back(opens.then_some((partition, request)));
        connection.flush(until).await?;
        while connection.pending() >= MOST_IN_FLIGHT {
            self.acknowledged(connection, until).await?;
        }
        Ok(())
    }

    /// Waits until everything is acknowledged.
    pub(super) async fn all_acknowledged(
        &mut self,
        connection: &mut Connection,
        until: Instant,
    ) -> Result<(), WireError> {
        while connection.pending() > 0 {
            self.acknowledged(connection, until).await?;
        }
        Ok(())
    }

    /// Takes the oldest acknowledgement. A first batch that is to come back is sent again, and for so long whatever is younger waits.
    async fn acknowledged(&mut self, connection: &mut Connection, until: Instant) -> Result<(), WireError> {
        let answered = answer(connection, until).await;
        let Some((partition, request)) = self.batches.pop_front().flatten() else { return answered };
        match &answered {
            Ok(()) => self.come_back = None,
            Err(error) if is_not_ready(error) => {
                let new = || (until.min(Instant::now() + CALL), RetryDelay::new(AGAIN_FIRST, AGAIN_MOST));
                let (patience, retry_delay) = self.come_back.get_or_insert_with(new);
                if retry_delay.wait(*patience).await {
                    connection.queue(SENDING, &request, self.version)?;
                    self.batches.push_back(Some((partition, request)));
                    return connection.flush(until).await;
                }
            }
            Err(_) => {}
        }
        answered
    }
}

/// The oldest answer of a connection: of one batch.
async fn answer(connection: &mut Connection, until: Instant) -> Result<(), WireError> {
    let answer = connection.answer::<ProduceRequest>(until).await?;
    connection.throttle(answer.throttle_time_ms);
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    let codes = partitions.map(|partition| (partition.error_code, partition.error_message.as_deref()));
    check_all(SENDING, connection.address(), 1, codes)
}
