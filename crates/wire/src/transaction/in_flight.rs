//! What was sent to a broker and is not acknowledged.
//!
//! The first batch of a partition makes its broker add the partition to the transaction, at the coordinator. That one does such a thing for one broker at
//! a time, and tells the others to come back (`CONCURRENT_TRANSACTIONS`): nothing is written then, and the same batch is sent again.
//! So no other batch of a partition is sent before its first one is acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::ProduceRequest;
use kafka_protocol::messages::produce_response::ProduceResponse;
use tokio::time::Instant;

use super::{CALL, MOST_IN_FLIGHT, SENDING, is_not_ready};
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

/// A request that is not answered.
#[derive(Debug)]
struct Unanswered {
    partitions: BTreeSet<i32>,
    /// The request itself where it has first batches, which may have to come back.
    opening: Option<BatchRequest>,
}

/// What is not acknowledged, in its order.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    requests: VecDeque<Unanswered>,
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
        while self.requests.iter().filter_map(|sent| sent.opening.as_ref()).any(|opening| request.waits_for(opening)) {
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
        let partitions = request.partitions().collect();
        let opening = (!request.opening.is_empty()).then_some(request);
        self.requests.push_back(Unanswered { partitions, opening });
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
        let sent = self.requests.pop_front().expect("each request that is sent is put there");
        let told = told_to_come_back(&answer, &sent, connection.address())?;
        let Some((request, again, error)) =
            sent.opening.zip(told).map(|(request, (again, error))| (request, again, error))
        else {
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

/// The partitions whose first batch is to come back, and what the broker said; none where everything is written. Fails with any other refusal, and where
/// the answer is not about each partition once: silence is no consent.
fn told_to_come_back(
    answer: &ProduceResponse,
    sent: &Unanswered,
    address: &str,
) -> Result<Option<(BTreeSet<i32>, WireError)>, WireError> {
    let opens = |partition| sent.opening.as_ref().is_some_and(|request| request.opening.contains(&partition));
    let (mut unsaid, mut again, mut said, mut refusals) = (sent.partitions.clone(), BTreeSet::new(), None, Vec::new());
    let mut strange = None;
    for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
        if !unsaid.remove(&partition.index) {
            strange = Some(partition.index);
        }
        match check(SENDING, address, partition.error_code, partition.error_message.as_deref()) {
            Ok(()) => {}
            Err(error) if is_not_ready(&error) && opens(partition.index) => {
                again.insert(partition.index);
                said = Some(error);
            }
            Err(error) => refusals.push(error),
        }
    }
    // What was not attempted says nothing of the reason: another partition has it.
    let unattempted = |error: &WireError| error.code() == Some(ResponseError::OperationNotAttempted);
    if let Some(refused) = refusals.into_iter().min_by_key(unattempted) {
        return Err(refused);
    }
    let unreadable = |reason| WireError::Unreadable { doing: SENDING, address: address.to_owned(), reason };
    match (strange, unsaid.first()) {
        (Some(partition), _) => {
            Err(unreadable(format!("it speaks of partition {partition}, of which it was not asked, or twice")))
        }
        (None, Some(partition)) => Err(unreadable(format!("it says nothing of partition {partition}"))),
        (None, None) => Ok(said.map(|error| (again, error))),
    }
}
