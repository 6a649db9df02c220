//! Hears the drafts as the push service would: a `read_committed` reader that notes when the last draft of a campaign can be read.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{BenchError, blocking};
use crate::config::{self, Role};
use crate::kafka::client::{Observer, settings};

/// How long a poll may wait: how late the stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// How many campaigns may wait to be looked at.
const ROOM: usize = 1_024;

/// What a draft's message says of its campaign.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    adv_campaign_id: Cow<'a, str>,
}

/// Numbers of campaigns, each once, with the moment at which the last of its drafts was read.
pub type Complete = mpsc::Receiver<(usize, Instant)>;

/// A reader on a thread of its own. Dropped, it ends.
pub struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Which campaigns are heard.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// How many there are: their ids are [`id`] of 0 and up.
    pub campaigns: usize,
    /// How many drafts each has.
    pub drafts: u32,
}

/// The id of a campaign that is heard.
pub fn id(number: usize) -> String {
    format!("bench-{number}")
}

fn number(id: &str) -> Option<usize> {
    id.strip_prefix("bench-")?.parse().ok()
}

impl Reader {
    /// Reads a topic from its beginning.
    pub async fn start(kafka: &config::Kafka, partitions: i32, heard: Heard) -> Result<(Self, Complete), BenchError> {
        let promises = [
            ("group.id", kafka.group_id.as_str()),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
        ];
        let settings = settings(kafka, Role::Consumer, "bench-reader", &[("fetch.wait.max.ms", "50")], &promises);
        let topic = kafka.topics.notifications.clone();
        let reader = blocking(move || {
            let observer = Observer::default();
            let failed = |error: &KafkaError| observer.explain(&format!("reading {topic}"), error);
            let reader: BaseConsumer<Observer> =
                settings.create_with_context(observer.clone()).map_err(|error| failed(&error))?;
            let mut all = TopicPartitionList::new();
            for partition in 0..partitions {
                let added = all.add_partition_offset(&topic, partition, Offset::Beginning);
                added.map_err(|error| failed(&error))?;
            }
            reader.assign(&all).map_err(|error| failed(&error))?;
            Ok(reader)
        })
        .await?;
        let (tell, complete) = mpsc::channel(ROOM);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new()
                .name("bench-reader".to_owned())
                .spawn(move || read(&reader, heard, &tell, &stop))
                .map_err(|error| BenchError::Failed(format!("the reader's thread cannot be started: {error}")))?
        };
        Ok((Self { stop, thread: Some(thread) }, complete))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of it shows as an end of its channel.
            let _ = thread.join();
        }
    }
}

fn read(reader: &BaseConsumer<Observer>, heard: Heard, tell: &mpsc::Sender<(usize, Instant)>, stop: &AtomicBool) {
    let mut drafts = vec![0_u32; heard.campaigns];
    while !stop.load(Ordering::Acquire) {
        // What fails is tried again by the library; whoever waits in vain says so.
        let Some(Ok(message)) = reader.poll(POLL) else { continue };
        let at = Instant::now();
        let told = message.payload().and_then(|value| serde_json::from_slice::<Told<'_>>(value).ok());
        let number = told.and_then(|told| number(&told.adv_campaign_id));
        let Some((number, count)) = number.and_then(|number| Some((number, drafts.get_mut(number)?))) else {
            continue;
        };
        *count += 1;
        if *count == heard.drafts && tell.blocking_send((number, at)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_campaign_is_found_in_its_id() {
        assert_eq!(number(&id(17)), Some(17));
        assert_eq!((number("warm-up-1"), number("bench-x")), (None, None));
    }
}
