//! Publishes the rounds of a lane: a transactional producer of our own for each lane, on connections that all lanes share.
//!
//! `dinnerbell_wire` speaks the protocol. Nothing here blocks, and nothing runs beside the lane's future: dropping that ends the transaction and the
//! producer. A producer that met any error is gone, and so is its connection; the lane is taken over again.

mod explain;
mod letters;
mod publishing;
mod settings;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use tokio::time::Instant;

use crate::output_topics::OutputTopics;
use dinnerbell_config as config;
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::recorded::Recorded;
use dinnerbell_core::ports::broker::{BrokerError, MayBegin, Producer, transaction_time};
use dinnerbell_wire::cluster::Cluster;
use dinnerbell_wire::compression::Compression;
use dinnerbell_wire::producer::{Identity, Producer as WireProducer};
use dinnerbell_wire::transaction::{OffsetCommit, Transaction};
pub use explain::explain;
use publishing::Part;
use uuid::Uuid;

/// How drafts are compressed unless the operator chooses otherwise.
pub const COMPRESSION: &str = "lz4";

/// How long making a producer may take.
const MAKE: Duration = Duration::from_secs(10);

/// Who a producer of this transactional id is.
pub(crate) fn identity(group: &str, transactional_id: String) -> Identity {
    Identity { transactional_id, group: group.to_owned(), transaction_time: transaction_time() }
}

/// Most bytes that a message may hold in each topic that is written to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In the notifications topic.
    pub notifications: usize,
    /// In the dead letters topic.
    pub dead_letters: usize,
    /// Whether the dead letters topic is compacted, as far as it may be known.
    pub dead_letters_compacted: bool,
}

/// The producers of all lanes.
#[derive(Debug, Clone)]
pub struct Producers {
    shared: Arc<Shared>,
}

/// What the producers of all lanes have in common.
#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    outputs: Arc<OutputTopics>,
    group: String,
    campaigns: String,
    notifications: String,
    dead_letters: Option<String>,
    compression: Compression,
    /// Most bytes of a batch of drafts. A refusal teaches a lower limit.
    batch_limit: AtomicUsize,
    /// Most bytes of a dead letter, and whether each needs a key of its own. A refusal teaches both.
    dead_letter_limit: AtomicUsize,
    dead_letters_compacted: AtomicBool,
    /// Whether each dead letter is a batch by itself. A refusal of a batch of several teaches it.
    dead_letters_one_by_one: AtomicBool,
}

impl Producers {
    /// Producers for the lanes of a group; none is made before a lane asks for it. Fails where the configuration names a codec that is not there.
    pub fn new(
        kafka: &config::Kafka,
        limits: Limits,
        cluster: Cluster,
        outputs: Arc<OutputTopics>,
    ) -> Result<Self, BrokerError> {
        let config::Topics { campaigns, notifications, dead_letters } = kafka.topics.clone();
        let compression = settings::compression(kafka)?;
        let batch = settings::batch_bytes(kafka).min(limits.notifications);
        let shared = Shared {
            cluster,
            outputs,
            group: kafka.group_id.clone(),
            campaigns,
            notifications,
            dead_letters,
            compression,
            batch_limit: AtomicUsize::new(batch),
            dead_letter_limit: AtomicUsize::new(limits.dead_letters),
            dead_letters_compacted: AtomicBool::new(limits.dead_letters_compacted),
            dead_letters_one_by_one: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A new producer for the lane. What a former one left open is aborted, and that producer fenced, when this returns.
    pub async fn make(&self, lane: Lane) -> Result<LaneProducer, BrokerError> {
        let shared = Arc::clone(&self.shared);
        let identity = identity(&shared.group, format!("{}/{}/{lane}", shared.group, shared.campaigns));
        let until = Instant::now() + MAKE;
        let producer = WireProducer::initialise(shared.cluster.clone(), identity, until)
            .await
            .map_err(|error| explain("taking the lane's transactional id over", &error))?;
        let drafts_topic = shared.outputs.notifications_now(until).await?;
        Ok(LaneProducer { shared, lane, producer, drafts_topic })
    }
}

/// A lane's transactional producer.
#[derive(Debug)]
pub struct LaneProducer {
    shared: Arc<Shared>,
    lane: Lane,
    producer: WireProducer,
    /// The id of the topic of the drafts when the producer was made: to another one it writes nothing.
    drafts_topic: Option<Uuid>,
}

impl LaneProducer {
    async fn publish(self, round: &Recorded, part: Part, may_begin: &MayBegin) -> Result<Self, BrokerError> {
        let publication = round.share();
        let (began, told) = (Instant::now(), self.told());
        let published = self.transact(&publication, part, may_begin).await;
        published
            .map_err(|error| explain::undelivered(error, &publication, began.elapsed()))
            .inspect_err(|error| told.doubt(error))
    }

    fn told(&self) -> Told {
        let Shared { cluster, notifications, .. } = &*self.shared;
        let coordinators = self.producer.told_by().iter().cloned();
        Told { cluster: cluster.clone(), by: coordinators.chain(cluster.described_by(notifications)).collect() }
    }
}

/// The brokers that said where a lane's coordinators and leaders are.
struct Told {
    cluster: Cluster,
    by: BTreeSet<String>,
}

impl Told {
    /// Asks others first from here on, where an error may come from what these brokers said: one that is cut off from its cluster goes on answering.
    fn doubt(&self, error: &BrokerError) {
        if matches!(error, BrokerError::Transient(_) | BrokerError::Undelivered { .. }) {
            self.cluster.distrust(self.by.iter().map(String::as_str));
        }
    }
}

impl Producer for LaneProducer {
    async fn publish_if(self, round: &Recorded, may_begin: MayBegin) -> Result<Option<Self>, BrokerError> {
        self.publish(round, Part::Everything, &may_begin).await.map(Some)
    }

    async fn publish_mark(self, round: &Recorded) -> Result<Option<Self>, BrokerError> {
        let always: MayBegin = Arc::new(|| true);
        self.publish(round, Part::Mark, &always).await.map(Some)
    }

    async fn committed(self) -> Result<(Self, CommittedOffset), BrokerError> {
        let told = self.told();
        let Self { shared, lane, producer, drafts_topic } = self;
        // Should a broker ever show it, no mark would be mistaken for a round's.
        let probe = OffsetCommit {
            topic: shared.campaigns.clone(),
            partition: lane.get(),
            offset: 0,
            metadata: "dinnerbell takes the lane over".to_owned(),
        };
        let transaction = Transaction::new(producer, Instant::now() + MAKE);
        let read = transaction.abort_for_group_offset(&probe).await;
        let doing = format!("reading the group's committed offset of lane {lane}");
        let (producer, found) = read.map_err(|error| explain(&doing, &error)).inspect_err(|error| told.doubt(error))?;
        let committed = found.map_or(CommittedOffset::None, |found| committed_offset(found.offset, &found.metadata));
        Ok((Self { shared, lane, producer, drafts_topic }, committed))
    }
}

/// The group's committed offset as the takeover compares it.
fn committed_offset(offset: i64, metadata: &str) -> CommittedOffset {
    match metadata.parse() {
        Ok(mark) => CommittedOffset::Mark(mark),
        Err(_) => CommittedOffset::Foreign(format!("offset {offset} with metadata {metadata:?}")),
    }
}
