//! What is asked about lanes: watermarks, committed marks, ids of topics, the coordinator.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tokio::time::Instant;

use super::client::Reader;
use crate::catch_panic::catch_panic;
use crate::client::{ClientEvents, REQUEST_TIMEOUT, off_runtime};
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::ports::broker::BrokerError;

impl Reader {
    /// Asks something with the consumer, off the async workers. `ask` must honour [`REQUEST_TIMEOUT`] or less.
    pub async fn ask<T: Send + 'static>(
        &self,
        doing: String,
        ask: impl FnOnce(&BaseConsumer<ClientEvents>, &str) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let reader = self.clone();
        off_runtime(move || {
            let shared = &reader.shared;
            match ask(reader.consumer(), &shared.topic) {
                Ok(answer) => {
                    shared.observer.mark_healthy();
                    Ok(answer)
                }
                Err(error) => Err(shared.observer.explain(&doing, &error)),
            }
        })
        .await
    }

    /// The low watermark, and the offset up to which a `read_committed` reader can read.
    pub async fn watermarks(&self, lane: Lane) -> Result<(Offset, Offset), BrokerError> {
        let doing = format!("reading the watermarks of lane {lane}");
        let asked =
            self.ask(doing, move |consumer, topic| consumer.fetch_watermarks(topic, lane.get(), REQUEST_TIMEOUT));
        let (low, high) = asked.await?;
        Ok((Offset::new(low), Offset::new(high)))
    }

    /// The offset behind what was taken of an open lane last: a record, or the end of a transaction, which is handed over to nobody. None where
    /// nothing was taken since the lane was opened or set back. No broker is asked.
    pub(super) async fn place(&self, lane: Lane) -> Result<Option<Offset>, BrokerError> {
        let reader = self.clone();
        off_runtime(move || {
            let Ok(places) = reader.consumer().position() else { return Ok(None) };
            let place = places.find_partition(&reader.shared.topic, lane.get()).map(|entry| entry.offset());
            Ok(match place {
                Some(rdkafka::Offset::Offset(offset)) => Some(Offset::new(offset)),
                _ => None,
            })
        })
        .await
    }

    /// The offset behind the lane's last record, those of open transactions included.
    pub async fn log_end(&self, lane: Lane) -> Result<Offset, BrokerError> {
        let every = Arc::clone(self.every());
        let asked = self.ask(format!("reading the end of lane {lane}"), move |_, topic| {
            every.fetch_watermarks(topic, lane.get(), REQUEST_TIMEOUT)
        });
        Ok(Offset::new(asked.await?.1))
    }

    /// The id of the campaigns topic as the brokers know it now; none where they know no ids.
    pub async fn topic_id(&self) -> Result<Option<String>, BrokerError> {
        self.ask("asking for the id of the campaigns topic".into(), |consumer, topic| {
            consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT).map(drop)
        })
        .await?;
        self.serve_events().await?;
        Ok(self.shared.observer.topic_id(&self.shared.topic))
    }

    /// What the group committed for the lane, stable offsets only: while a transaction that commits one is open, this waits.
    pub async fn committed(&self, lane: Lane) -> Result<CommittedOffset, BrokerError> {
        self.ask(format!("reading the group's committed offset of lane {lane}"), move |consumer, topic| {
            let until = Instant::now() + REQUEST_TIMEOUT;
            loop {
                match committed_once(
                    consumer,
                    topic,
                    Partition::Of(lane),
                    until.saturating_duration_since(Instant::now()),
                ) {
                    Err(error) if unstable(&error) && Instant::now() < until => {
                        #[expect(
                            clippy::disallowed_methods,
                            reason = "on a thread that may block, and librdkafka tells nobody when a transaction ends"
                        )]
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    other => return other,
                }
            }
        })
        .await
    }

    /// Asks the group's coordinator for a sign of life.
    pub async fn coordinator_answers(&self) -> Result<(), BrokerError> {
        let asked = self.ask("asking the group's coordinator".into(), |consumer, topic| {
            match committed_once(consumer, topic, Partition::OfNobody, REQUEST_TIMEOUT) {
                Err(error) if is_unknown_partition(&error) => Ok(()),
                answered => answered.map(drop),
            }
        });
        asked.await
    }
}

/// Which partition's committed offset is asked for.
#[derive(Debug, Clone, Copy)]
enum Partition {
    /// A lane's. A transaction that commits it and is open holds the answer back.
    Of(Lane),
    /// One that no topic has: no open transaction can hold the answer back. That it is unknown is an answer too.
    OfNobody,
}

impl Partition {
    fn id(self) -> i32 {
        match self {
            Self::Of(lane) => lane.get(),
            Self::OfNobody => i32::MAX,
        }
    }
}

fn unstable(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnstableOffsetCommit)
}

fn is_unknown_partition(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownPartition | UnknownTopicOrPartition))
}

fn committed_once(
    consumer: &BaseConsumer<ClientEvents>,
    topic: &str,
    partition: Partition,
    most: Duration,
) -> KafkaResult<CommittedOffset> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, partition.id());
    let answer = consumer.committed_offsets(asked, most)?;
    let Some(entry) = answer.find_partition(topic, partition.id()) else {
        return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition));
    };
    entry.error()?;
    let rdkafka::Offset::Offset(offset) = entry.offset() else { return Ok(CommittedOffset::None) };
    // The library panics where the metadata is not UTF-8.
    let Ok(metadata) = catch_panic(|| catch_unwind(AssertUnwindSafe(|| entry.metadata().to_owned()))) else {
        return Ok(CommittedOffset::Foreign(format!("offset {offset} with metadata that is not text")));
    };
    Ok(match metadata.parse() {
        Ok(mark) => CommittedOffset::Mark(mark),
        Err(_) => CommittedOffset::Foreign(format!("offset {offset} with metadata {metadata:?}")),
    })
}
