//! Reads the topic of the drafts as its `read_committed` readers see it, for `verify` and `lane resolve`. Everything here blocks:
//! callers run it off the async workers.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::client::{ClientEvents, REQUEST_TIMEOUT, serve_token, settings};
use super::{offsets_at, topics};
use crate::catch_panic::catch_panic;
use dinnerbell_config as config;
use dinnerbell_config::kafka_client::Role;
use dinnerbell_core::model::draft::{ROUND_HEADER, SOURCE_HEADER, SOURCES, source};
use dinnerbell_core::model::number::{Lane, Seconds, Seq};
use dinnerbell_core::ports::broker::BrokerError;

/// How long open transactions may hold readers back: a little more than the longest transaction of the service.
const TRANSACTIONS_END: Duration = Duration::from_secs(75);
/// How long reading may stand still.
const STANDSTILL: Duration = Duration::from_secs(60);
/// How often the broker is asked whether open transactions have ended.
const STEP: Duration = Duration::from_millis(50);

/// How far Kafka's time of a message may lie before the moment at which its draft was formed. That happens in a topic with `LogAppendTime`, and to
/// messages of an earlier version. A producer of today gives no message a time before that moment, whatever its machine's clock says.
const CLOCKS_DIFFER: i64 = 3600;

/// An offset for each partition.
pub type Offsets = BTreeMap<i32, i64>;

/// Where the partitions of the topic begin and end, records of open transactions included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The first offset that is kept.
    pub low: Offsets,
    /// The offset behind the last record.
    pub high: Offsets,
}

impl Extent {
    /// The partitions that may have lost messages behind these offsets: where a message from before them is still kept, everything
    /// after it is.
    pub fn uncovered(&self, from: &Offsets) -> BTreeSet<i32> {
        let begin = |partition: &i32| from.get(partition).copied().unwrap_or(0);
        self.low.iter().filter(|(partition, low)| **low > 0 && begin(partition) <= **low).map(|(p, _)| *p).collect()
    }
}

/// A message as it was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// The round that it names.
    pub round: Option<Round<'a>>,
    /// The service that it names.
    pub source: Option<&'a [u8]>,
}

/// Whose a message is, by what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This service's: it names one of its rounds.
    Ours,
    /// Another service's, which has a ledger of its own.
    AnotherService,
    /// It does not say.
    Unsaid,
}

/// What messages of this service name.
#[derive(Debug, Clone)]
pub struct Ours {
    topic: String,
    source: String,
}

impl Ours {
    /// Of the service that is configured so.
    pub fn new(kafka: &config::Kafka) -> Self {
        Self { topic: kafka.topics.campaigns.clone(), source: source(&kafka.group_id) }
    }

    /// Whose this message is. Services may read the same campaigns: the round's topic alone does not say it.
    pub fn whose(&self, found: &Found<'_>) -> Whose {
        match found.source {
            Some(source) if source == self.source.as_bytes() => match found.round {
                Some(round) if round.topic == self.topic => Whose::Ours,
                _ => Whose::Unsaid,
            },
            Some(source) if source.starts_with(SOURCES.as_bytes()) => Whose::AnotherService,
            _ => Whose::Unsaid,
        }
    }
}

/// A round as the header of a draft names it: `topic/partition/seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round<'a> {
    /// The topic of the campaigns.
    pub topic: &'a str,
    /// The lane.
    pub lane: Lane,
    /// The round's number.
    pub seq: Seq,
}

impl<'a> Round<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.rsplitn(3, '/');
        let seq = words.next()?.parse().ok()?;
        let lane = words.next()?.parse().ok()?;
        Some(Self { topic: words.next()?, lane, seq })
    }
}

/// The topic of the drafts.
pub struct Notifications {
    topic: String,
    /// Most partitions that were seen: none goes, and a broker that does not know the newest yet is not believed.
    seen: Cell<i32>,
    /// Reads, and knows where open transactions begin.
    committed: BaseConsumer<ClientEvents>,
    /// Knows where the log ends.
    every: BaseConsumer<ClientEvents>,
    observer: ClientEvents,
}

impl Notifications {
    /// Opens the topic. The clients belong to the service's group by name, because that is what their user may read; they never join
    /// it and commit nothing.
    pub fn open(kafka: &config::Kafka) -> Result<Self, BrokerError> {
        let observer = ClientEvents::of(kafka);
        let make = |isolation: &str| -> Result<BaseConsumer<ClientEvents>, BrokerError> {
            let defaults = [("queued.max.messages.kbytes", "16384"), ("fetch.message.max.bytes", "1048576")];
            let promises = [
                ("group.id", kafka.group_id.as_str()),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                ("isolation.level", isolation),
                ("enable.partition.eof", "true"),
            ];
            settings(kafka, Role::Consumer, "compare", &defaults, &promises)
                .create_with_context(observer.clone())
                .map_err(|error| observer.explain("making the reading client", &error))
        };
        let (committed, every) = (make("read_committed")?, make("read_uncommitted")?);
        Ok(Self { topic: kafka.topics.notifications.clone(), seen: Cell::new(0), committed, every, observer })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Where the partitions begin and end now, those included that were added since.
    pub fn extent(&self) -> Result<Extent, BrokerError> {
        let mut extent = Extent { low: Offsets::new(), high: Offsets::new() };
        for partition in 0..self.partitions()? {
            let (low, high) = self.watermarks(&self.every, partition)?;
            extent.low.insert(partition, low);
            extent.high.insert(partition, high);
        }
        Ok(extent)
    }

    /// How many partitions there are now. Both clients are asked: each reads only those that it was told of.
    fn partitions(&self) -> Result<i32, BrokerError> {
        let count = |consumer| {
            serve_token(consumer);
            let shape = topics::shape(consumer, &self.topic);
            shape.map(|topic| topic.partitions).map_err(|error| self.explain("looking at topic", &error))
        };
        self.seen.set(self.seen.get().max(count(&self.committed)?).max(count(&self.every)?));
        Ok(self.seen.get())
    }

    /// Where to begin in order to meet every draft that was formed at this time or later; without a time, at the beginning.
    pub fn beginning(&self, extent: &Extent, since: Option<Seconds>) -> Result<Offsets, BrokerError> {
        let Some(since) = since else { return Ok(extent.low.clone()) };
        let millis = (since - CLOCKS_DIFFER).get().max(0).saturating_mul(1000);
        let partitions = extent.high.keys().next_back().map_or(0, |last| last + 1);
        let found = offsets_at(&self.every, &self.topic, partitions, millis)
            .map_err(|error| self.explain("looking up offsets by time", &error))?;
        // A partition without a message of that time or later begins at its end.
        let at =
            |(partition, high): (&i32, &i64)| (*partition, found.get(partition).copied().unwrap_or(*high).min(*high));
        Ok(extent.high.iter().map(at).collect())
    }

    /// Hands over what lies between the offsets, in the order of each partition. Waits for transactions that are open below `to`.
    pub fn read<E: From<BrokerError>>(
        &self,
        from: &Offsets,
        to: &Offsets,
        mut take: impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin = |partition: &i32| from.get(partition).copied().unwrap_or(0);
        let mut unread: BTreeMap<i32, i64> =
            to.iter().filter(|(partition, to)| begin(partition) < **to).map(|(p, to)| (*p, *to)).collect();
        if unread.is_empty() {
            return Ok(());
        }
        self.await_transactions(&unread)?;
        self.assign(unread.keys().map(|partition| (*partition, begin(partition))))?;
        let mut last = Instant::now();
        while !unread.is_empty() {
            match self.committed.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    last = Instant::now();
                    let partition = message.partition();
                    let Some(to) = unread.get(&partition).copied() else { continue };
                    if message.offset() < to {
                        self.take(&message, &mut take)?;
                    }
                    // What comes behind is passed over: a paused partition would stay paused through the next assignment.
                    if message.offset() + 1 >= to {
                        unread.remove(&partition);
                    }
                }
                // A broker that was just elected, or was cut off, may end the partition too early. Then the rest comes by itself.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let place = self.place(partition)?;
                    unread.retain(|other, to| *other != partition || place < Some(*to));
                }
                Some(Err(error)) => self.classify(&error)?,
                None if last.elapsed() > STANDSTILL => {
                    return Err(self.stood_still(&unread.into_keys().collect()).into());
                }
                None => {}
            }
        }
        self.committed.unassign().map_err(|error| self.explain("reading", &error))?;
        Ok(())
    }

    /// The offset behind what came of the partition last: a message, or the end of a transaction, which is handed over to nobody.
    fn place(&self, partition: i32) -> Result<Option<i64>, BrokerError> {
        let places = self.committed.position().map_err(|error| self.explain("reading", &error))?;
        let place = places.find_partition(&self.topic, partition).map(|entry| entry.offset());
        Ok(match place {
            Some(Offset::Offset(offset)) => Some(offset),
            _ => None,
        })
    }

    fn take<E>(
        &self,
        message: &BorrowedMessage<'_>,
        take: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        // The library panics where a header's name is not UTF-8: then it is no message of ours.
        let value = catch_panic(|| {
            catch_unwind(AssertUnwindSafe(|| {
                let headers = message.headers()?;
                let (mut round, mut source) = (None, None);
                for header in headers.iter() {
                    match header.key {
                        ROUND_HEADER => round = header.value,
                        SOURCE_HEADER => source = header.value,
                        _ => {}
                    }
                }
                Some((round, source))
            }))
        });
        let (round, source) = value.ok().flatten().unwrap_or_default();
        take(Found {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key(),
            value: message.payload(),
            round: round.and_then(Round::parse),
            source,
        })
    }

    /// Waits until no transaction is open below these offsets.
    fn await_transactions(&self, to: &Offsets) -> Result<(), BrokerError> {
        let until = Instant::now() + TRANSACTIONS_END;
        for (partition, to) in to {
            while self.watermarks(&self.committed, *partition)?.1 < *to {
                if Instant::now() > until {
                    return Err(BrokerError::Transient(format!(
                        "a transaction stands open in partition {partition} of {} and holds back what is behind it; one of a dead instance \
                         ends when its lane is taken over, or after transaction.timeout.ms (60 s)",
                        self.topic
                    )));
                }
                #[expect(
                    clippy::disallowed_methods,
                    reason = "on a thread that may block, and librdkafka tells nobody when a transaction ends"
                )]
                std::thread::sleep(STEP);
            }
        }
        Ok(())
    }

    fn watermarks(&self, consumer: &BaseConsumer<ClientEvents>, partition: i32) -> Result<(i64, i64), BrokerError> {
        serve_token(consumer);
        let watermarks = consumer.fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT);
        watermarks.map_err(|error| self.explain("reading the watermarks", &error))
    }

    fn assign(&self, partitions: impl Iterator<Item = (i32, i64)>) -> Result<(), BrokerError> {
        let mut list = TopicPartitionList::new();
        for (partition, from) in partitions {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(from))
                .map_err(|error| self.explain("reading", &error))?;
        }
        self.committed.assign(&list).map_err(|error| self.explain("reading", &error))
    }

    /// What passes is waited for; the standstill bounds it.
    fn classify(&self, error: &KafkaError) -> Result<(), BrokerError> {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
            return Err(BrokerError::Transient(format!("records of {} were deleted while they were read", self.topic)));
        }
        match self.explain("reading", error) {
            BrokerError::Transient(_) => Ok(()),
            refused => Err(refused),
        }
    }

    fn stood_still(&self, unread: &BTreeSet<i32>) -> BrokerError {
        let text =
            format!("reading {}: nothing came from partitions {unread:?} for {} s", self.topic, STANDSTILL.as_secs());
        self.observer.refused(&format!("reading {}", self.topic)).unwrap_or(BrokerError::Transient(text))
    }

    fn explain(&self, doing: &str, error: &KafkaError) -> BrokerError {
        self.observer.explain(&format!("{doing} {}", self.topic), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_ours_if_it_names_our_round_and_our_service() {
        let ours = Ours { topic: "promo.in".into(), source: source("pizza") };
        let whose = |topic, source| {
            let round = Some(Round { topic, lane: Lane::new(0), seq: Seq::new(1) });
            ours.whose(&Found { partition: 0, offset: 0, key: None, value: None, round, source })
        };
        assert_eq!(whose("promo.in", Some(b"/dinnerbell/pizza")), Whose::Ours);
        assert_eq!(whose("promo.in", Some(b"/dinnerbell/pizza2")), Whose::AnotherService);
        assert_eq!(whose("elsewhere", Some(b"/dinnerbell/pizza")), Whose::Unsaid);
        assert_eq!((whose("promo.in", None), whose("promo.in", Some(b"/job"))), (Whose::Unsaid, Whose::Unsaid));
    }

    #[test]
    fn a_round_is_topic_partition_and_number() {
        let round = Round::parse(b"promo.in/3/41");
        assert_eq!(round, Some(Round { topic: "promo.in", lane: Lane::new(3), seq: Seq::new(41) }));
        for wrong in ["promo.in/3", "promo.in/x/1", "promo.in/3/", "", "41"] {
            assert_eq!(Round::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Round::parse(b"promo.in/3/\xff"), None);
    }
}
