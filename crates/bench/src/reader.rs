//! Hears the drafts as the push service would: a `read_committed` reader on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, sleep};

use super::error::{BenchError, blocking};
use super::progress::STANDSTILL;
use crate::environment::Stage;
use dinnerbell_config::Role;
use dinnerbell_kafka::client::{ClientEvents, settings};

/// How long a poll may wait: how late the stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// How often it is looked how many messages were read.
const LOOK: Duration = Duration::from_millis(5);
/// How a draft names its campaign.
const CAMPAIGN: &str = r#""adv_campaign_id":""#;

/// A reader on a thread of its own. Dropped, it ends.
pub struct Reader {
    stop: Arc<AtomicBool>,
    messages: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Reads a stage's topic of drafts from its beginning. `hear` is told of each message and when it was read, and says whether to go on.
    pub async fn start(
        stage: &Stage<'_>,
        mut hear: impl FnMut(&BorrowedMessage<'_>, Instant) -> bool + Send + 'static,
    ) -> Result<Self, BenchError> {
        let reader = Self::assigned(stage).await?;
        let (stop, messages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = {
            let (stop, messages) = (Arc::clone(&stop), Arc::clone(&messages));
            let read = move || {
                while !stop.load(Ordering::Acquire) {
                    // What fails is tried again by the library; a wait in vain is reported.
                    let Some(Ok(message)) = reader.poll(POLL) else { continue };
                    messages.fetch_add(1, Ordering::AcqRel);
                    if !hear(&message, Instant::now()) {
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .name("bench-reader".to_owned())
                .spawn(read)
                .map_err(|error| BenchError::Failed(format!("the reader's thread cannot be started: {error}")))?
        };
        Ok(Self { stop, messages, thread: Some(thread) })
    }

    /// Waits until it has read this number of messages: a reader of a new topic may need half a second before its first.
    pub async fn has_read(&self, messages: usize) -> Result<(), BenchError> {
        let began = Instant::now();
        while self.messages.load(Ordering::Acquire) < messages {
            if began.elapsed() > STANDSTILL {
                return Err(BenchError::Failed(format!(
                    "the reader of drafts has not read {messages} messages in time"
                )));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends it.
    pub fn stop(self) {
        tokio::task::block_in_place(|| drop(self));
    }

    async fn assigned(stage: &Stage<'_>) -> Result<BaseConsumer<ClientEvents>, BenchError> {
        let (kafka, partitions) = (&stage.config.kafka, stage.partitions());
        let promises = [
            ("group.id", kafka.group_id.as_str()),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
        ];
        let settings = settings(kafka, Role::Consumer, "bench-reader", &[("fetch.wait.max.ms", "50")], &promises);
        let topic = kafka.topics.notifications.clone();
        let observer = ClientEvents::of(kafka);
        blocking(move || {
            let failed = |error: &KafkaError| observer.explain(&format!("reading {topic}"), error);
            let reader: BaseConsumer<ClientEvents> =
                settings.create_with_context(observer.clone()).map_err(|error| failed(&error))?;
            let mut all = TopicPartitionList::new();
            for partition in 0..partitions {
                let added = all.add_partition_offset(&topic, partition, Offset::Beginning);
                added.map_err(|error| failed(&error))?;
            }
            reader.assign(&all).map_err(|error| failed(&error))?;
            Ok(reader)
        })
        .await
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of it shows as an end of what it tells.
            let _ = thread.join();
        }
    }
}

/// The campaign that a draft is of. The bench's own ids need no escapes, so no JSON has to be read: what hears must not cost what it measures.
pub fn campaign_of(message: &impl Message) -> Option<&str> {
    let value = std::str::from_utf8(message.payload()?).ok()?;
    value.split_once(CAMPAIGN)?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;
    use crate::sender;
    use dinnerbell_core::model::draft::DraftTemplate;
    use dinnerbell_core::model::number::Seconds;

    #[test]
    fn a_draft_names_its_campaign() {
        let template =
            DraftTemplate::new(Arc::new(sender::campaign("bench-17", "r")), Seconds::new(1_700_000_000), "group")
                .unwrap();
        let mut value = Vec::new();
        template.message_value("client", &mut value);
        let message = |value| OwnedMessage::new(Some(value), None, "t".to_owned(), Timestamp::NotAvailable, 0, 0, None);
        assert_eq!(campaign_of(&message(value)), Some("bench-17"));
        assert_eq!(campaign_of(&message(b"{}".to_vec())), None);
    }
}
