//! A reader of the notifications topic that says when it heard what.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::{Stage, wait_for};

/// A draft, and when a `read_committed` reader had it.
#[derive(Debug, Clone)]
pub struct Heard {
    pub campaign: String,
    pub client: String,
    /// Seconds since the epoch.
    pub at: f64,
    /// When the message was produced, in seconds since the epoch.
    pub produced: f64,
}

/// Reads from the moment it is made until it is dropped.
pub struct Ear {
    heard: Arc<Mutex<Vec<Heard>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    pub fn at(stage: &Stage) -> Self {
        let mut partitions = TopicPartitionList::new();
        for partition in stage.kafka.partitions(&stage.notifications) {
            partitions.add_partition_offset(&stage.notifications, partition, Offset::Beginning).unwrap();
        }
        let mut config = stage.kafka.client();
        config.set("isolation.level", "read_committed").set("fetch.wait.max.ms", "20").set("group.id", "ear");
        let consumer: BaseConsumer = config.set("enable.auto.commit", "false").create().unwrap();
        consumer.assign(&partitions).unwrap();
        let (heard, ended) = (Arc::<Mutex<Vec<Heard>>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (heard, ended) = (Arc::clone(&heard), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                        heard.lock().unwrap().push(hear(&message));
                    }
                }
            }
        });
        Self { heard, ended, thread: Some(thread) }
    }

    /// What was heard of a campaign so far.
    pub fn of(&self, campaign: &str) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|heard| heard.campaign == campaign).cloned().collect()
    }

    /// Waits until this many drafts of a campaign were heard, and returns them.
    #[track_caller]
    pub fn wait_for(&self, campaign: &str, drafts: usize, within: Duration) -> Vec<Heard> {
        let what = format!("{drafts} drafts of {campaign} are heard");
        wait_for(&what, within, || Some(self.of(campaign)).filter(|heard| heard.len() >= drafts))
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn hear(message: &rdkafka::message::BorrowedMessage<'_>) -> Heard {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let value: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    let produced = message.timestamp().to_millis().unwrap() as f64 / 1_000.0;
    Heard { campaign: text("adv_campaign_id"), client: text("client_id"), at, produced }
}
