//! The dead letters of a round: published in its transaction when all its drafts are delivered, and never such that drafts wait for them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Shared;
use super::explain::{explain, writing_to};
use super::publishing::{leader_of, machine_time};
use crate::message::{DeadLetter, TopicLimits};
use crate::topics::BATCH_FRAME;
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_wire::batch::{Batch, BatchBuilder};
use dinnerbell_wire::cluster::Topic;
use dinnerbell_wire::error::{ResponseError, WireError};
use dinnerbell_wire::murmur2::partition_of;
use dinnerbell_wire::record::Record;
use dinnerbell_wire::round::PartitionBatch;
use dinnerbell_wire::transaction::{Target, Transaction};

/// How long dead letters may be on their way when nothing else is: the drafts of their round do not wait for them longer.
const TIME_LIMIT: Duration = Duration::from_secs(3);
/// A dead letter of which nothing is left but where it came from and why is smaller.
const SMALLEST: usize = 4_096;
/// Most bytes of a batch of several letters.
const BATCH: usize = 64 * 1024;
/// How old may be what is known of the topic's leaders.
const LEADERS: Duration = Duration::from_secs(10);

/// A batch of letters, and where it goes.
struct Letters {
    partition: u32,
    batch: Batch,
    /// What the largest of them takes, in bytes.
    largest: usize,
}

/// What was sent of a round's letters when one of its batches was refused.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    /// What the largest letter takes, in bytes.
    largest: usize,
    /// Whether a batch held several letters.
    several: bool,
}

impl Sent {
    fn with(self, letters: &Letters) -> Self {
        Self { largest: self.largest.max(letters.largest), several: self.several || letters.batch.count() > 1 }
    }
}

impl Shared {
    /// Publishes the letters of a round. What goes wrong with their topic is told apart: it is not to hold up drafts.
    pub(super) async fn publish_letters(
        &self,
        round: &Publication,
        transaction: &mut Transaction,
        deadline: Instant,
    ) -> Result<(), BrokerError> {
        let Some(topic) = &self.dead_letters else { return Ok(()) };
        let sending = self.send_letters(topic, &round.dead_letters, transaction, deadline);
        match timeout(TIME_LIMIT, sending).await {
            Ok(sent) => sent,
            Err(_) => {
                let seconds = TIME_LIMIT.as_secs();
                let reason = format!("{}: dead letters were not delivered within {seconds} s", writing_to(topic));
                Err(BrokerError::DeadLetters { reason, learned: false })
            }
        }
    }

    async fn send_letters(
        &self,
        name: &str,
        letters: &[DeadLetterMessage],
        transaction: &mut Transaction,
        deadline: Instant,
    ) -> Result<(), BrokerError> {
        let described = self.cluster.topic(name, LEADERS, deadline).await;
        let topic = described.map_err(|error| self.not_written(name, &error, Sent::default()))?;
        let target = Target { name: name.to_owned(), id: topic.id };
        let batches = self.batches(&topic, letters).map_err(apart)?;
        let mut partitions: Vec<i32> = batches.iter().map(|letters| number(letters.partition)).collect();
        partitions.sort_unstable();
        partitions.dedup();
        let added = transaction.add_partitions(&vec![(name.to_owned(), partitions)]).await;
        added.map_err(|error| self.not_written(name, &error, Sent::default()))?;
        let mut so_far = Sent::default();
        for letters in batches {
            let leader = leader_of(&topic, name, letters.partition).map_err(apart)?;
            so_far = so_far.with(&letters);
            let batch = PartitionBatch { partition: letters.partition, batch: letters.batch };
            let sent = transaction.send_batches(&target, leader, vec![batch]).await;
            sent.map_err(|error| self.not_written(name, &error, so_far))?;
        }
        transaction.acknowledged().await.map_err(|error| self.not_written(name, &error, so_far))
    }

    /// The letters as batches, each cut to what the topic takes, in their order.
    fn batches(&self, topic: &Topic, letters: &[DeadLetterMessage]) -> Result<Vec<Letters>, BrokerError> {
        let limits = TopicLimits {
            most_bytes: self.dead_letter_limit.load(Ordering::Relaxed),
            compacted: self.dead_letters_compacted.load(Ordering::Relaxed),
        };
        let partitions = u32::try_from(topic.leaders.len()).unwrap_or(u32::MAX).max(1);
        let mut open: Vec<Open> = (0..partitions).map(|partition| Open::new(partition, limits.most_bytes)).collect();
        let mut done = Vec::new();
        for letter in letters {
            let message = DeadLetter::fit(letter, &self.campaigns, &limits);
            let place = match message.key.as_deref() {
                Some(key) => partition_of(key, partitions),
                // One by one, so that no partition has them all.
                None => u32::try_from(letter.offset.get().rem_euclid(i64::from(partitions))).unwrap_or(0),
            };
            open[place as usize].push(&message, self, &mut done)?;
        }
        for mut rest in open {
            rest.close(self, &mut done)?;
        }
        Ok(done)
    }

    /// What a failure means for the letters. Where the topic's settings may not be read, a refused letter teaches them: the next attempt leaves more
    /// out, or has a key.
    fn not_written(&self, topic: &str, error: &WireError, sent: Sent) -> BrokerError {
        let learned = match error.code() {
            Some(ResponseError::MessageTooLarge) if sent.several => {
                // The topic takes no batch of that size; each letter by itself may be small enough.
                !self.dead_letters_one_by_one.swap(true, Ordering::Relaxed)
            }
            Some(ResponseError::MessageTooLarge) if sent.largest > 0 => {
                // Below this nothing is left to leave out.
                let limit = (sent.largest / 2).max(SMALLEST);
                self.dead_letter_limit.fetch_min(limit, Ordering::Relaxed) > limit
            }
            Some(ResponseError::InvalidRecord) => !self.dead_letters_compacted.swap(true, Ordering::Relaxed),
            _ => false,
        };
        match apart(explain(&writing_to(topic), error)) {
            BrokerError::DeadLetters { reason, .. } => BrokerError::DeadLetters { reason, learned },
            other => other,
        }
    }
}

/// What the topic of dead letters, or a way to it, refuses.
fn apart(error: BrokerError) -> BrokerError {
    match error {
        BrokerError::Transient(reason) | BrokerError::Refused(reason) => {
            BrokerError::DeadLetters { reason, learned: false }
        }
        other => other,
    }
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).expect("kafka numbers partitions by an i32")
}

/// The batch of a partition as it is gathered.
struct Open {
    partition: u32,
    builder: BatchBuilder,
    largest: usize,
    scratch: Vec<u8>,
}

impl Open {
    /// None of it is larger than the topic takes: a letter that is gets a batch of its own.
    fn new(partition: u32, most_bytes: usize) -> Self {
        let builder = BatchBuilder::new(most_bytes.saturating_add(BATCH_FRAME));
        Self { partition, builder, largest: 0, scratch: Vec::new() }
    }

    fn push(&mut self, message: &DeadLetter<'_>, shared: &Shared, done: &mut Vec<Letters>) -> Result<(), BrokerError> {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            message.headers.iter().map(|header| (header.name.as_bytes(), header.value.as_deref())).collect();
        let record = Record { key: message.key.as_deref(), value: message.value, headers: &headers };
        let most = if shared.dead_letters_one_by_one.load(Ordering::Relaxed) { 1 } else { BATCH };
        if self.builder.size() >= most {
            self.close(shared, done)?;
        }
        let mut before = self.builder.size();
        if !self.builder.push(&record, &mut self.scratch) {
            self.close(shared, done)?;
            before = 0;
            if !self.builder.push(&record, &mut self.scratch) {
                return Err(BrokerError::Refused("a dead letter does not fit into a batch of its topic".into()));
            }
        }
        self.largest = self.largest.max(self.builder.size() - before);
        Ok(())
    }

    fn close(&mut self, shared: &Shared, done: &mut Vec<Letters>) -> Result<(), BrokerError> {
        let built = self.builder.build(shared.compression, machine_time());
        let built = built.map_err(|error| BrokerError::Transient(format!("compressing dead letters: {error}")))?;
        if let Some(batch) = built {
            done.push(Letters { partition: self.partition, batch, largest: self.largest });
        }
        self.largest = 0;
        Ok(())
    }
}
