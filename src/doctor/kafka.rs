//! Kafka: reachable, the topics as they are needed, and the rights as far as they can be tried without leaving anything behind.
//!
//! Tried are: describing and reading the campaigns topic, the group's offsets, and the transactional ids, by taking over
//! `{group}/{topic}/doctor`, which no lane uses (the brokers remember it for `transactional.id.expiration.ms`). Not tried are writing to the
//! topics and joining the group: readers, or the group's members, would notice.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Findings;
use crate::service::file_limit;
use dinnerbell_config as config;
use dinnerbell_config::Config;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::output_topics::OutputTopicIds;
use dinnerbell_core::ports::broker::BrokerError;
use dinnerbell_kafka::client::{ClientEvents, Isolation, REQUEST_TIMEOUT};
use dinnerbell_kafka::topics::{INTERNAL, Topic};
use dinnerbell_kafka::{client, group, topics};

/// How long a read may show nothing before it counts as allowed.
const READ: Duration = Duration::from_secs(2);
/// How long the check of transactional ids may take.
const TAKE_OVER: Duration = Duration::from_secs(15);
/// A transaction that holds records back for this long is no ordinary one.
const HELD: Duration = Duration::from_secs(2);

/// What the ledger is compared with.
pub(super) struct Answered {
    /// The id of the cluster.
    pub id: String,
    /// The partitions of the campaigns topic.
    pub lanes: i32,
    /// The ids of the topics that are written to.
    pub outputs: OutputTopicIds,
}

/// Looks at Kafka; what the ledger is to be compared with, where it answers.
pub(super) async fn examine(config: &Config, found: Findings) -> (Findings, Option<Answered>) {
    let kafka = config.kafka.clone();
    let connections = config.database_connections();
    let nothing = found.another();
    // librdkafka blocks.
    let asked = tokio::task::spawn_blocking(move || ask(&kafka, connections, found)).await;
    let (mut found, cluster) = asked.unwrap_or_else(|error| {
        let mut found = nothing;
        found.refused("kafka-connection", error);
        (found, None)
    });
    let Some(mut cluster) = cluster else { return (found, None) };
    settings(&config.kafka, &mut cluster, &mut found).await;
    let Cluster { id, lanes, outputs, .. } = cluster;
    (found, Some(Answered { id, lanes, outputs }))
}

fn ask(kafka: &config::Kafka, connections: usize, mut found: Findings) -> (Findings, Option<Cluster>) {
    let asking = match Asking::start(kafka) {
        Ok(asking) => asking,
        Err(error) => {
            found.refused("kafka-connection", error);
            return (found, None);
        }
    };
    let cluster = match asking.cluster_id() {
        Ok(cluster) => cluster,
        Err(error) => {
            found.refused("kafka-connection", error);
            return (found, None);
        }
    };
    let security = match kafka.security_protocol.as_str() {
        "SASL_SSL" | "SSL" => "encrypted",
        _ => "not encrypted",
    };
    found.ok("kafka-connection", format!("cluster {cluster} at {} answers; {security}", kafka.bootstrap_servers));
    topics::encryption(kafka, &mut found);
    let topics = &kafka.topics;
    let named = [Some(&topics.campaigns), Some(&topics.notifications), topics.dead_letters.as_ref()];
    let (mut known, mut lanes) = (Vec::new(), 0);
    for topic in named.into_iter().flatten() {
        match asking.shape(topic) {
            Ok(shape) => {
                let Topic { partitions, replicas, .. } = shape;
                found.ok(
                    "kafka-topics",
                    format!("topic {topic} has {partitions} partitions with {replicas} replicas each"),
                );
                if *topic == topics.campaigns {
                    lanes = partitions;
                }
                known.push(shape);
            }
            Err(error) => found.refused("kafka-topics", error),
        }
    }
    let internal = INTERNAL.iter().filter_map(|name| asking.shape(name).ok()).collect();
    if lanes > 0 {
        held_back(kafka, &asking, lanes, &mut found);
        tell("kafka-read", "the campaigns topic may be read", asking.read(&topics.campaigns), &mut found);
        tell(
            "kafka-group",
            "the offsets of the group may be read; joining it was not tried",
            asking.offsets(&topics.campaigns, lanes),
            &mut found,
        );
        match asking.members(&kafka.group_id) {
            Ok(members) => group::check(&kafka.group_id, &topics.campaigns, &members, &mut found),
            Err(error) => found.refused("kafka-group-members", error),
        }
        files(connections, asking.brokers(), lanes, &mut found);
    }
    tell(
        "kafka-transactions",
        "transactional ids of the group may be taken over; writing to the topics was not tried",
        // This is a thread that may block.
        Handle::current().block_on(dinnerbell_kafka::take_over(kafka, &dinnerbell_kafka::unused_id(kafka), TAKE_OVER)),
        &mut found,
    );
    let outputs = OutputTopicIds {
        notifications: asking.topic_id(&topics.notifications),
        dead_letters: topics.dead_letters.as_ref().and_then(|topic| asking.topic_id(topic)),
    };
    (found, Some(Cluster { id: cluster, lanes, known, internal, outputs }))
}

/// A cluster that answers.
struct Cluster {
    id: String,
    lanes: i32,
    /// The topics of the configuration that are there.
    known: Vec<Topic>,
    /// Kafka's own, those that this user may look at.
    internal: Vec<Topic>,
    /// The ids of the topics that are written to.
    outputs: OutputTopicIds,
}

/// Warns of records that a sender's open transaction holds back: looked for twice, since ordinary ones end meanwhile.
fn held_back(kafka: &config::Kafka, stable: &Asking, lanes: i32, found: &mut Findings) {
    let topic = &kafka.topics.campaigns;
    let look = |every: &Asking| -> Result<Vec<(i64, i64)>, BrokerError> {
        Lane::all(lanes).map(|lane| Ok((every.end(topic, lane)?, stable.end(topic, lane)?))).collect()
    };
    let looked = Asking::with(kafka, Isolation::ReadUncommitted).and_then(|every| {
        let first = look(&every)?;
        if first.iter().all(|(log, stable)| log <= stable) {
            return Ok(Vec::new());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "on a thread that may block: what is held up is looked at twice"
        )]
        std::thread::sleep(HELD);
        Ok(Lane::all(lanes).zip(first).zip(look(&every)?).collect())
    });
    let looked = match looked {
        Ok(looked) => looked,
        Err(error) => return found.refused("kafka-held-back", error),
    };
    let held: Vec<String> = looked
        .into_iter()
        .filter(|((_, (_, before)), (log, stable))| log > stable && before == stable)
        .map(|((lane, _), (log, stable))| format!("{} in partition {lane} from offset {stable} on", log - stable))
        .collect();
    match held.is_empty() {
        true => found.ok("kafka-held-back", format!("no sender's open transaction holds back records of {topic}")),
        false => found.warn(
            "kafka-held-back",
            format!("a sender's open transaction holds back records of topic {topic}: {}; nobody can read them", held.join("; ")),
            "end the sender, or wait for its transaction.timeout.ms; one that never ends: kafka-transactions.sh find-hanging, then abort",
        ),
    }
}

/// Whether one instance may have enough files for all lanes.
fn files(connections: usize, brokers: Result<usize, BrokerError>, lanes: i32, found: &mut Findings) {
    let brokers = match brokers {
        Ok(brokers) => brokers as u64,
        Err(error) => return found.refused("open-files", error),
    };
    let (lanes, connections, limit) = (u64::try_from(lanes).unwrap_or(0), connections as u64, file_limit::highest());
    let needed = file_limit::needed(lanes, brokers, connections);
    match file_limit::check(limit, lanes, brokers, connections) {
        Some((what, remedy)) => found.warn("open-files", format!("{what}, as this command was started"), remedy),
        None => found.ok(
            "open-files",
            format!("one instance with all {lanes} lanes needs about {needed} open files, and may have them"),
        ),
    }
}

fn tell(check: &'static str, well: &str, tried: Result<(), BrokerError>, found: &mut Findings) {
    match tried {
        Ok(()) => found.ok(check, well),
        Err(error) => found.refused(check, error),
    }
}

/// A consumer that belongs to the group by name and never joins it.
struct Asking {
    consumer: BaseConsumer<ClientEvents>,
    observer: ClientEvents,
}

impl Asking {
    fn start(kafka: &config::Kafka) -> Result<Self, BrokerError> {
        Self::with(kafka, Isolation::ReadCommitted)
    }

    fn with(kafka: &config::Kafka, isolation: Isolation) -> Result<Self, BrokerError> {
        let observer = ClientEvents::of(kafka);
        let mut settings = client::asking_settings(kafka, "doctor", isolation);
        client::tell_topic_ids(&mut settings);
        let consumer = settings
            .create_with_context(observer.clone())
            .map_err(|error| observer.explain("connecting to kafka.bootstrap_servers", &error))?;
        client::serve_token(&consumer);
        Ok(Self { consumer, observer })
    }

    fn explain(&self, doing: &str, error: &KafkaError) -> BrokerError {
        self.observer.explain(doing, error)
    }

    /// In short steps, so that a refusal that is reported meanwhile is told at once.
    fn cluster_id(&self) -> Result<String, BrokerError> {
        const STEP: Duration = Duration::from_millis(500);
        let doing = "connecting to kafka.bootstrap_servers";
        let until = Instant::now() + REQUEST_TIMEOUT;
        loop {
            client::serve_events(&self.consumer);
            let asked = self.consumer.fetch_metadata(Some("__consumer_offsets"), STEP);
            match (asked, self.consumer.client().fetch_cluster_id(STEP), self.observer.refused(doing)) {
                (Ok(_), Some(id), _) => return Ok(id),
                (_, _, Some(refused)) => return Err(refused),
                _ if Instant::now() < until => {}
                (Err(error), _, None) => return Err(self.explain(doing, &error)),
                (Ok(_), None, None) => return Err(BrokerError::Transient(format!("{doing}: no id of a cluster"))),
            }
        }
    }

    /// Behind the last record that may be read.
    fn end(&self, topic: &str, lane: Lane) -> Result<i64, BrokerError> {
        let watermarks = self.consumer.fetch_watermarks(topic, lane.get(), REQUEST_TIMEOUT);
        Ok(watermarks
            .map_err(|error| self.explain(&format!("reading the end of partition {lane} of {topic}"), &error))?
            .1)
    }

    /// How many brokers the cluster has.
    fn brokers(&self) -> Result<usize, BrokerError> {
        let metadata = self.consumer.fetch_metadata(Some("__consumer_offsets"), REQUEST_TIMEOUT);
        Ok(metadata.map_err(|error| self.explain("counting the brokers", &error))?.brokers().len())
    }

    fn shape(&self, name: &str) -> Result<Topic, BrokerError> {
        topics::shape(&self.consumer, name).map_err(|error| self.explain(&format!("looking at topic {name}"), &error))
    }

    /// The id of a topic that was looked at before; none where the brokers know no ids.
    fn topic_id(&self, name: &str) -> Option<String> {
        client::serve_waiting_events(&self.consumer, &self.observer);
        self.observer.topic_id(name)
    }

    /// Reads from the end of the first partition: a refusal comes as an event, and nothing else has to come.
    fn read(&self, topic: &str) -> Result<(), BrokerError> {
        let doing = format!("reading topic {topic}");
        let mut list = TopicPartitionList::new();
        let assigned = list.add_partition_offset(topic, 0, Offset::End).and_then(|()| self.consumer.assign(&list));
        assigned.map_err(|error| self.explain(&doing, &error))?;
        let until = Instant::now() + READ;
        let mut outcome = Ok(());
        while Instant::now() < until && outcome.is_ok() {
            if let Some(Err(error)) = self.consumer.poll(Duration::from_millis(100))
                && let refused @ BrokerError::Refused(_) = self.explain(&doing, &error)
            {
                outcome = Err(refused);
            }
        }
        self.consumer.unassign().map_err(|error| self.explain(&doing, &error))?;
        outcome
    }

    fn members(&self, name: &str) -> Result<Vec<group::GroupMember>, BrokerError> {
        group::members(&self.consumer, name).map_err(|error| self.explain("looking at the group's members", &error))
    }

    fn offsets(&self, topic: &str, partitions: i32) -> Result<(), BrokerError> {
        let doing = "reading the group's committed offsets";
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let offsets =
            self.consumer.committed_offsets(list, REQUEST_TIMEOUT).map_err(|error| self.explain(doing, &error))?;
        offsets.elements().iter().try_for_each(|one| one.error()).map_err(|error| self.explain(doing, &error))
    }
}

/// What the topics are configured with, where this user may read it. Where Kafka does not say, nothing is made of it.
async fn settings(kafka: &config::Kafka, cluster: &mut Cluster, found: &mut Findings) {
    let named: Vec<&str> = cluster.known.iter().chain(&cluster.internal).map(|topic| topic.name.as_str()).collect();
    let read = match dinnerbell_kafka::cluster::cluster(kafka) {
        Ok(asked) => topics::settings(&asked, &named).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(mut read) => {
            for topic in cluster.known.iter_mut().chain(&mut cluster.internal) {
                topic.settings = read.remove(&topic.name);
            }
            judge(kafka, cluster, found);
        }
        Err(error) => found.refused("kafka-settings", error),
    }
    found.ok(
        "kafka-isolation",
        format!(
            "readers of {} must use isolation.level=read_committed (Java's default does not)",
            kafka.topics.notifications
        ),
    );
}

fn judge(kafka: &config::Kafka, cluster: &Cluster, found: &mut Findings) {
    topics::check(&kafka.topics, &cluster.known, found);
    for topic in &cluster.internal {
        topics::durability(topic, found);
    }
    for name in INTERNAL.iter().filter(|name| !cluster.internal.iter().any(|topic| topic.name == **name)) {
        found.ok("kafka-durability", format!("topic {name} may not be looked at, so its replicas were not checked"));
    }
}
