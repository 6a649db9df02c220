//! Reads the notifications topic, as the push service would. Shares no code with the service's writers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;
use tokio::time::Instant;

use dinnerbell_config as config;
use dinnerbell_config::Role;
use dinnerbell_kafka::client::{ClientEvents, REQUEST_TIMEOUT, settings};

/// How long reading everything may take.
const READ_ALL: Duration = Duration::from_secs(30);
/// How many campaigns are counted: somebody who plays with the demo can ring as many as they like.
const MAX_CAMPAIGNS: usize = 1_000;
/// How long a reader that failed waits.
const AGAIN: Duration = Duration::from_millis(500);

/// What a draft's message must say to be counted.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    adv_campaign_id: Cow<'a, str>,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
}

/// The messages of one campaign so far.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// How many messages were seen.
    pub messages: u64,
    /// When the last one was read.
    pub last: SystemTime,
}

/// What was read so far, by campaign.
#[derive(Debug, Default)]
pub struct Counter(Mutex<BTreeMap<String, Seen>>);

impl Counter {
    /// The messages of one campaign so far.
    pub fn of(&self, campaign: &str) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(campaign).copied()
    }

    fn count(&self, campaign: &str) {
        #[expect(clippy::disallowed_methods, reason = "the machine's own clock is meant: it is shown to a person")]
        let last = SystemTime::now();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = counts.get_mut(campaign) {
            *seen = Seen { messages: seen.messages + 1, last };
        } else if counts.len() < MAX_CAMPAIGNS {
            counts.insert(campaign.to_owned(), Seen { messages: 1, last });
        }
    }
}

/// Counts messages as they come, until it is dropped.
pub async fn follow(kafka: &config::Kafka, counter: &Counter) -> String {
    let reader = match from_the_beginning::<StreamConsumer<ClientEvents>>(kafka, "demo-follower").await {
        Ok(reader) => reader,
        Err(error) => return error,
    };
    loop {
        match reader.recv().await {
            Ok(message) => {
                if let Some(told) = told(message.payload()) {
                    counter.count(&told.adv_campaign_id);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the demo's reader reports");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Everything that the topic holds now.
#[derive(Debug, Default)]
pub struct Everything {
    /// How often each (campaign, client) is there.
    pub drafts: BTreeMap<(String, String), u32>,
    /// Messages that are no drafts.
    pub unreadable: u64,
    /// Partitions that lost their beginning.
    pub trimmed: Vec<i32>,
}

/// Reads everything that the topic holds now.
pub async fn read_all(kafka: &config::Kafka) -> Result<Everything, String> {
    let reader = from_the_beginning::<BaseConsumer<ClientEvents>>(kafka, "demo-reader").await?;
    let topic = kafka.topics.notifications.clone();
    let read = tokio::task::spawn_blocking(move || {
        let everything = drain(&reader, &topic);
        drop(reader);
        everything.map_err(|error| format!("reading {topic}: {error}"))
    });
    read.await.map_err(|error| format!("the demo's reader failed: {error}"))?
}

fn drain(reader: &BaseConsumer<ClientEvents>, topic: &str) -> Result<Everything, KafkaError> {
    let mut everything = Everything::default();
    let mut open = BTreeMap::new();
    for partition in reader.assignment()?.elements_for_topic(topic).iter().map(|entry| entry.partition()) {
        let (low, high) = reader.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?;
        if low > 0 {
            everything.trimmed.push(partition);
        }
        if high > low {
            open.insert(partition, high);
        }
    }
    let until = Instant::now() + READ_ALL;
    while !open.is_empty() && Instant::now() < until {
        let Some(message) = reader.poll(Duration::from_millis(100)).transpose()? else { continue };
        if open.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
            open.remove(&message.partition());
        }
        match told(message.payload()) {
            Some(Told { adv_campaign_id, client_id }) => {
                *everything.drafts.entry((adv_campaign_id.into_owned(), client_id.into_owned())).or_default() += 1;
            }
            None => everything.unreadable += 1,
        }
    }
    match open.is_empty() {
        true => Ok(everything),
        false => Err(KafkaError::MessageConsumption(rdkafka::error::RDKafkaErrorCode::OperationTimedOut)),
    }
}

fn told(payload: Option<&[u8]>) -> Option<Told<'_>> {
    serde_json::from_slice(payload?).ok()
}

/// A reader that belongs to no group and commits nothing.
async fn from_the_beginning<R>(kafka: &config::Kafka, name: &'static str) -> Result<R, String>
where
    R: Consumer<ClientEvents> + rdkafka::config::FromClientConfigAndContext<ClientEvents> + Send + 'static,
    ClientEvents: ConsumerContext,
{
    let promises = [
        ("group.id", name),
        ("enable.auto.commit", "false"),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
    ];
    let settings: ClientConfig =
        settings(kafka, Role::Consumer, name, &[(super::FETCH_WAIT.0, super::FETCH_WAIT.1)], &promises);
    let topic = kafka.topics.notifications.clone();
    let made = tokio::task::spawn_blocking(move || {
        let reader: R = settings.create_with_context(ClientEvents::default())?;
        let metadata = reader.fetch_metadata(Some(&topic), REQUEST_TIMEOUT)?;
        let mut all = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            all.add_partition_offset(&topic, partition.id(), Offset::Beginning)?;
        }
        reader.assign(&all)?;
        Ok::<R, KafkaError>(reader)
    });
    let made = made.await.map_err(|error| format!("the demo's reader failed: {error}"))?;
    made.map_err(|error| format!("reading {}: {error}", kafka.topics.notifications))
}
