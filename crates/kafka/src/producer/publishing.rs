//! One round as one transaction: the lane's offset with the mark, then the drafts, then the dead letters, then its end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::yield_now;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::explain::{explain, writing_to};
use super::{LaneProducer, Shared};
use dinnerbell_core::fail_point::fail_point;
use dinnerbell_core::model::draft::LARGEST_MESSAGE;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::output_topics::{is_another, is_new};
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{BrokerError, MayBegin, transaction_time};
use dinnerbell_wire::cluster::Topic;
use dinnerbell_wire::error::{ResponseError, WireError};
use dinnerbell_wire::murmur2::partition_of;
use dinnerbell_wire::round::{EncodeError, PartitionBatch, RoundEncoder, RoundFormat};
use dinnerbell_wire::transaction::{BrokerBatches, OffsetCommit, Partitions, Target, Transaction, by_broker};

/// How old may be what is known of a topic's leaders.
const LEADERS: Duration = Duration::from_secs(10);
/// How old an answer may be that says which topic has the name of the drafts', where records are sent to a name.
const FRESH: Duration = Duration::from_secs(1);
/// How long the end of a transaction waits for that answer. Kafka answers within milliseconds, or a broker stands still.
const ANSWERED: Duration = Duration::from_secs(1);
/// How much is encoded before it is sent and other tasks have their turn: about a millisecond.
const STRIDE_BYTES: usize = 256 * 1024;
/// How many drafts that are, at most.
const STRIDE: usize = 500;

/// What of a round is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All that it holds.
    Everything,
    /// Its mark and the lane's offset.
    Mark,
}

impl LaneProducer {
    /// Publishes a part of a round in one transaction, if it may begin.
    pub(super) async fn transact(
        self,
        round: &Publication,
        part: Part,
        may_begin: &MayBegin,
    ) -> Result<Self, BrokerError> {
        let Self { shared, lane, producer, drafts_topic } = self;
        let everything = part == Part::Everything;
        let has_drafts = everything && round.drafts.iter().any(|batch| !batch.clients.is_empty());
        let deadline = Instant::now() + transaction_time();
        let mut transaction = Transaction::new(producer, deadline);
        let drafts = match has_drafts {
            true => Some(Drafts::prepare(&shared, round, drafts_topic, &mut transaction, deadline).await?),
            false => {
                transaction.reach([]).await.map_err(|error| explain("beginning a transaction", &error))?;
                None
            }
        };
        let partitions = drafts.as_ref().map(Drafts::partitions).unwrap_or_default();
        begin(&mut transaction, &offset(&shared, lane, round), &partitions, may_begin).await?;
        if let Some(drafts) = &drafts {
            drafts.send(&shared, lane, round, &mut transaction).await?;
        }
        fail_point("publish.produced");
        if everything && !round.dead_letters.is_empty() {
            shared.publish_letters(round, &mut transaction, deadline).await?;
        }
        if let Some(drafts) = drafts.filter(|drafts| !drafts.go_by_id(&transaction)) {
            drafts.went_to_the_known_topic(&shared).await?;
        }
        let producer = transaction.commit().await.map_err(|error| explain("committing a transaction", &error))?;
        fail_point("publish.committed");
        Ok(Self { shared, lane, producer, drafts_topic })
    }
}

/// Begins a transaction with the lane's offset.
async fn begin(
    transaction: &mut Transaction,
    commit: &OffsetCommit,
    partitions: &Partitions,
    may_begin: &MayBegin,
) -> Result<(), BrokerError> {
    let passed = AtomicBool::new(false);
    let asked = || {
        let may = may_begin();
        // The broker may ask for the first request again.
        if may && !passed.swap(true, Ordering::Relaxed) {
            fail_point("publish.begun");
        }
        may
    };
    match transaction.begin(commit, partitions, &asked).await {
        Ok(true) => {
            fail_point("publish.offsets_sent");
            Ok(())
        }
        Ok(false) => Err(BrokerError::NotBegun),
        Err(error) => Err(explain("sending the lane's offset", &error)),
    }
}

fn offset(shared: &Shared, lane: Lane, round: &Publication) -> OffsetCommit {
    OffsetCommit {
        topic: shared.campaigns.clone(),
        partition: lane.get(),
        offset: round.offset.get(),
        metadata: round.mark.to_string(),
    }
}

/// Where the drafts of a round go.
struct Drafts {
    target: Target,
    topic: Topic,
    /// The partitions that have any.
    partitions: BTreeSet<u32>,
}

impl Drafts {
    /// Finds out where they go, and connects to it. Fails where the topic is another one than it was, or a partition has no leader.
    async fn prepare(
        shared: &Shared,
        round: &Publication,
        known: Option<Uuid>,
        transaction: &mut Transaction,
        deadline: Instant,
    ) -> Result<Self, BrokerError> {
        let name = &shared.notifications;
        let doing = writing_to(name);
        let described = match shared.cluster.topic(name, LEADERS, deadline).await {
            // Whoever does not answer now may have answered a little earlier.
            Err(error) if error.code().is_none() => shared.cluster.last_described(name).ok_or(error),
            described => described,
        };
        let topic = described.map_err(|error| explain(&doing, &error))?;
        // The next takeover compares it with the one that the ledger knows.
        if is_new(known.as_ref(), topic.id.as_ref()) {
            return Err(recreated(name));
        }
        let target = Target { name: name.clone(), id: known };
        let clients = round.drafts.iter().flat_map(|batch| batch.clients.iter());
        let drafts = Self { target, partitions: partitions_of(clients, topic.leaders.len()), topic };
        for partition in &drafts.partitions {
            drafts.leader(*partition)?;
        }
        let leaders: BTreeSet<&str> =
            drafts.partitions.iter().filter_map(|partition| drafts.leader(*partition).ok()).collect();
        transaction.reach(leaders).await.map_err(|error| explain(&doing, &error))?;
        Ok(drafts)
    }

    fn leader(&self, partition: u32) -> Result<&str, BrokerError> {
        leader_of(&self.topic, &self.target.name, partition)
    }

    fn partitions(&self) -> Partitions {
        let numbers = self.partitions.iter().filter_map(|partition| i32::try_from(*partition).ok()).collect();
        vec![(self.target.name.clone(), numbers)]
    }

    /// Sends all of them, batch by batch as they are encoded, and waits until all replicas in sync have them.
    async fn send(
        &self,
        shared: &Shared,
        lane: Lane,
        round: &Publication,
        transaction: &mut Transaction,
    ) -> Result<(), BrokerError> {
        let limit = shared.batch_limit.load(Ordering::Relaxed);
        let format = RoundFormat {
            partitions: u32::try_from(self.topic.leaders.len()).unwrap_or(u32::MAX),
            batch_bytes: limit,
            compression: shared.compression,
            time: message_time(round),
        };
        let mut encoder = RoundEncoder::new(format, &format!("{}/{lane}/{}", shared.campaigns, round.mark.version.seq));
        let mut full = Vec::new();
        for batch in &round.drafts {
            let mut clients = batch.clients.iter();
            let stride = (STRIDE_BYTES / batch.template.campaign().draft_size().max(1)).clamp(1, STRIDE);
            while clients.len() > 0 {
                let some = clients.by_ref().take(stride);
                let encoded = encoder.push(&batch.template, some, |batch| full.push(batch));
                encoded.map_err(|error| self.not_encoded(&error))?;
                self.send_batches(shared, limit, full.drain(..), transaction).await?;
                yield_now().await;
            }
        }
        encoder.finish(|batch| full.push(batch)).map_err(|error| self.not_encoded(&error))?;
        self.send_batches(shared, limit, full.drain(..), transaction).await?;
        transaction.acknowledged().await.map_err(|error| self.not_written(shared, limit, &error))
    }

    async fn send_batches(
        &self,
        shared: &Shared,
        limit: usize,
        batches: impl Iterator<Item = PartitionBatch>,
        transaction: &mut Transaction,
    ) -> Result<(), BrokerError> {
        let led: Result<Vec<_>, _> =
            batches.map(|found| self.leader(found.partition).map(|leader| (leader, found))).collect();
        for BrokerBatches { leader, batches } in by_broker(led?) {
            let sent = transaction.send_batches(&self.target, leader, batches).await;
            sent.map_err(|error| self.not_written(shared, limit, &error))?;
        }
        Ok(())
    }

    fn not_encoded(&self, error: &EncodeError) -> BrokerError {
        let doing = writing_to(&self.target.name);
        match error {
            EncodeError::TooLarge { .. } => BrokerError::Refused(format!(
                "{doing}: {error}: raise max.message.bytes of the topic that is written to, best to 1048588 or more"
            )),
            EncodeError::Codec(_) => BrokerError::Transient(format!("{doing}: {error}")),
        }
    }

    /// Batches that are larger than the topic takes are made smaller from here on; another topic of that name gets nothing.
    fn not_written(&self, shared: &Shared, limit: usize, error: &WireError) -> BrokerError {
        let doing = writing_to(&self.target.name);
        match error.code() {
            Some(ResponseError::MessageTooLarge) if limit > SMALLEST_BATCH => {
                let smaller = (limit / 2).max(SMALLEST_BATCH);
                shared.batch_limit.fetch_min(smaller, Ordering::Relaxed);
                BrokerError::Transient(format!("{doing}: {error}: batches have at most {smaller} bytes from here on"))
            }
            Some(ResponseError::UnknownTopicId | ResponseError::InconsistentTopicId) => recreated(&self.target.name),
            _ => explain(&doing, error),
        }
    }

    /// Whether all of them went to the topic of an id, and to no other one of its name.
    fn go_by_id(&self, transaction: &Transaction) -> bool {
        let mut leaders = self.partitions.iter().filter_map(|partition| self.leader(*partition).ok());
        leaders.all(|leader| transaction.writes_by_id(&self.target, leader))
    }

    /// Fails where the topic may have been recreated while records were sent to its name, as far as Kafka says so in time.
    async fn went_to_the_known_topic(&self, shared: &Shared) -> Result<(), BrokerError> {
        let name = &self.target.name;
        let asked = shared.cluster.topic(name, FRESH, Instant::now() + ANSWERED);
        let now = match timeout(ANSWERED, asked).await {
            Ok(Ok(topic)) => topic.id,
            Ok(Err(_)) | Err(_) => None,
        };
        match is_another(self.target.id.as_ref(), now.as_ref()) {
            true => Err(recreated(name)),
            false => Ok(()),
        }
    }
}

/// Below this no batch of drafts is made: the largest draft must fit in.
const SMALLEST_BATCH: usize = LARGEST_MESSAGE + 1_024;

fn recreated(topic: &str) -> BrokerError {
    BrokerError::Transient(format!("topic {topic} was recreated"))
}

/// Who leads a partition. Fails where nobody does.
pub(super) fn leader_of<'a>(topic: &'a Topic, name: &str, partition: u32) -> Result<&'a str, BrokerError> {
    let leader = topic.leaders.get(partition as usize).and_then(Option::as_deref);
    leader.ok_or_else(|| {
        BrokerError::Transient(format!("{}: partition {partition} has no leader at the moment", writing_to(name)))
    })
}

/// The partitions that drafts of these clients go to, among this number of them. Of a topic without any it is the first, which nobody leads.
fn partitions_of<'a>(clients: impl Iterator<Item = &'a str>, partitions: usize) -> BTreeSet<u32> {
    let count = u32::try_from(partitions).unwrap_or(u32::MAX).max(1);
    let mut found = BTreeSet::new();
    for client in clients {
        found.insert(partition_of(client.as_bytes(), count));
        if found.len() == partitions {
            break;
        }
    }
    found
}

/// The time of a round's messages, in milliseconds.
///
/// No message is older than its draft, by the database's clock. `verify` and `lane resolve` look messages up by that time, and this machine's clock
/// may be hours behind. Nor is it older than this moment. So `message.timestamp.before.max.ms` does not refuse a round that waited for days, and the
/// topic keeps it as long as others.
fn message_time(round: &Publication) -> i64 {
    let formed = round.drafts.iter().map(|batch| batch.template.trigger_datetime_created().get().saturating_mul(1_000));
    formed.fold(machine_time(), i64::max)
}

/// This machine's clock, in milliseconds.
#[expect(clippy::disallowed_methods, reason = "what any client takes for the time of a message")]
pub(super) fn machine_time() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(now).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_topic_that_is_described_without_partitions_nobody_leads_one() {
        let partitions = partitions_of(["anna", "bob"].into_iter(), 0);
        assert_eq!(partitions, BTreeSet::from([0]));
        assert!(leader_of(&Topic { id: None, leaders: Vec::new() }, "out", 0).is_err());
        assert_eq!(partitions_of(["anna", "bob"].into_iter(), 1), BTreeSet::from([0]));
    }
}
