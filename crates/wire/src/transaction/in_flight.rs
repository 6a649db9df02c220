//! What was sent to a broker and is not acknowledged.
//!
//! The first batch of a partition makes its broker add the partition to the transaction, at the coordinator. That one does such a thing for one broker at
//! a time, and tells the others to come back (`CONCURRENT_TRANSACTIONS`): nothing is written then, and the same batch is sent again.
//! So no other batch of a partition is sent before its first one is acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kafka_protocol::messages::produce_request::ProduceRequest;
use kafka_protocol::messages::produce_response::ProduceResponse;
use tokio::time::Instant;

use super::{CALL, MOST_IN_FLIGHT, SENDING, check_all, is_not_ready};
use crate::connection::Connection;
use crate::error::{WireError, check};
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

/// A request with one batch for each of some partitions of one topic.
#[derive(Debug)]
pub(super) struct BatchRequest {
    pub(super) request: ProduceRequest,
    pub(super) version: i16,
    /// The topic's name, by which partitions are known here.
    pub(super) topic: String,
    /// The partitions whose first batch is in it.
    pub(super) opening: BTreeSet<i32>,
}

impl BatchRequest {
    fn partitions(&self) -> impl Iterator<Item = i32> {
        self.request.topic_data.iter().flat_map(|topic| &topic.partition_data).map(|data| data.index)
    }

    /// Whether the first batch of any of its partitions is in the other one.
    fn waits_for(&self, other: &Self) -> bool {
        self.topic == other.topic && self.partitions().any(|partition| other.opening.contains(&partition))
    }

    /// The batches of these partitions alone.
    fn only(mut self, partitions: &BTreeSet<i32>) -> Self {
        for topic in &mut self.request.topic_data {
            topic.partition_data.retain(|data| partitions.contains(&data.index));
        }
        Self { opening: partitions.clone(), ..self }
    }
}

/// What is not acknowledged, in its order.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Requests with first batches, which may have to come back; of others how many batches they have.
    requests: VecDeque<Result<BatchRequest, usize>>,
    /// While first batches are told to come back: until when, and how long is waited before the next one.
    come_back: Option<(Instant, RetryDelay)>,
}

impl InFlight {
    /// Sends a request, and then waits until so few are under way that another one may be.
    pub(super) async fn send(
        &mut self,
        connection: &mut Connection,
        request: BatchRequest,
        until: Instant,
    ) -> Result<(), WireError> {
        while self.requests.iter().flatten().any(|opening| request.waits_for(opening)) {
            self.acknowledged(connection, until).await?;
        }
        self.write(connection, request, until).await?;
        while connection.pending() >= MOST_IN_FLIGHT {
            self.acknowledged(connection, until).await?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        connection: &mut Connection,
        request: BatchRequest,
        until: Instant,
    ) -> Result<(), WireError> {
        connection.queue(SENDING, &request.request, request.version)?;
        let batches = request.partitions().count();
        self.requests.push_back(if request.opening.is_empty() { Err(batches) } else { Ok(request) });
        connection.flush(until).await
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

    /// Takes the oldest acknowledgement. First batches that are to come back are sent again, and for so long whatever is younger waits.
    async fn acknowledged(&mut self, connection: &mut Connection, until: Instant) -> Result<(), WireError> {
        let answer = connection.answer::<ProduceRequest>(until).await?;
        connection.throttle(answer.throttle_time_ms);
        let address = connection.address();
        let request = match self.requests.pop_front() {
            Some(Ok(request)) => request,
            Some(Err(batches)) => return check_all(SENDING, address, batches, codes(&answer)),
            None => return check_all(SENDING, address, 0, codes(&answer)),
        };
        let told_to_come_back = told_to_come_back(&answer, &request, address)?;
        let Some((again, error)) = told_to_come_back else {
            self.come_back = None;
            return Ok(());
        };
        let new = || (until.min(Instant::now() + CALL), RetryDelay::new(AGAIN_FIRST, AGAIN_MOST));
        let (patience, retry_delay) = self.come_back.get_or_insert_with(new);
        if !retry_delay.wait(*patience).await {
            return Err(error);
        }
        self.write(connection, request.only(&again), until).await
    }
}

fn codes(answer: &ProduceResponse) -> impl Iterator<Item = (i16, Option<&str>)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.map(|partition| (partition.error_code, partition.error_message.as_deref()))
}

/// The partitions whose first batch is to come back, and what the broker said; none where everything is written. Fails with any other refusal.
fn told_to_come_back(
    answer: &ProduceResponse,
    request: &BatchRequest,
    address: &str,
) -> Result<Option<(BTreeSet<i32>, WireError)>, WireError> {
    let (mut again, mut said) = (BTreeSet::new(), None);
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    for partition in partitions {
        match check(SENDING, address, partition.error_code, partition.error_message.as_deref()) {
            Err(error) if is_not_ready(&error) && request.opening.contains(&partition.index) => {
                again.insert(partition.index);
                said = Some(error);
            }
            other => other?,
        }
    }
    let answered = codes(answer).map(|_| (0, None));
    check_all(SENDING, address, request.partitions().count(), answered)?;
    Ok(said.map(|error| (again, error)))
}
