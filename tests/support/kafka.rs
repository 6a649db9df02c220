//! Topics, records and offsets: made through librdkafka, read through kcat.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::kafka_server::KafkaServer;
use super::servers::{ROOT, output};
use super::wait::block_on;

/// How long one request may take, restarts of the broker included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Through which listener a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    Plaintext,
    /// SASL_SSL with SCRAM-SHA-512 and the private CA.
    SaslSsl,
}

/// A record as a `read_committed` reader sees it.
#[derive(Debug, Clone)]
pub struct Message {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, Option<String>)>,
}

impl Message {
    /// The last header of this name, as readers take it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().rev().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }
}

/// What a group committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
}

impl KafkaServer {
    /// The service's configuration for this server, without security: a group, and topics that are there.
    pub fn config(&self, group_id: String, topics: dinnerbell_config::Topics) -> dinnerbell_config::Kafka {
        dinnerbell_config::Kafka {
            bootstrap_servers: self.plaintext.clone(),
            security_protocol: "PLAINTEXT".into(),
            sasl: None,
            ca_file: None,
            group_id,
            start: dinnerbell_config::Start::Earliest,
            topics,
            client: std::collections::BTreeMap::new(),
        }
    }

    /// librdkafka's settings for a client of a test, without security.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.plaintext).set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    /// Creates a topic with a replica on each broker.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(self.replicas()));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let results = block_on(self.admin().create_topics([&topic], &Self::admin_options()));
        self.all_done("create", results.map(|all| all.into_iter().collect()));
    }

    /// Deletes topics and waits until the broker knows them no more.
    #[track_caller]
    pub fn delete_topics(&self, names: &[&str]) {
        let results = block_on(self.admin().delete_topics(names, &Self::admin_options()));
        self.all_done("delete", results.map(|all| all.into_iter().collect()));
    }

    /// Raises the number of a topic's partitions.
    #[track_caller]
    pub fn grow_topic(&self, name: &str, partitions: usize) {
        let grown = rdkafka::admin::NewPartitions::new(name, partitions);
        let results = block_on(self.admin().create_partitions([&grown], &Self::admin_options()));
        self.all_done("grow", results.map(|all| all.into_iter().collect()));
    }

    /// Deletes a partition's records below an offset.
    #[track_caller]
    pub fn delete_records(&self, topic: &str, partition: i32, below: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(below)).expect("an offset is a number");
        block_on(self.admin().delete_records(&offsets, &Self::admin_options())).expect("records can be deleted");
    }

    /// Deletes a group with its offsets; it must have no members.
    #[track_caller]
    pub fn delete_group(&self, group: &str) {
        let results = block_on(self.admin().delete_groups(&[group], &Self::admin_options()));
        self.all_done("delete group", results.map(|all| all.into_iter().collect()));
    }

    /// Gives a topic this one setting; all others are the broker's then.
    #[track_caller]
    pub fn set_topic(&self, topic: &str, name: &str, value: &str) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let results = block_on(self.admin().alter_configs([&config], &Self::admin_options()));
        let result = results.expect("settings can be changed").remove(0);
        assert!(result.is_ok(), "{result:?}");
    }

    /// A topic's setting as it is in force.
    pub fn topic_setting(&self, topic: &str, name: &str) -> Option<String> {
        let specifier = ResourceSpecifier::Topic(topic);
        let resources = block_on(self.admin().describe_configs([&specifier], &Self::admin_options()));
        let resource = resources.expect("settings can be read").remove(0).expect("the topic exists");
        resource.get(name).and_then(|entry| entry.value.clone())
    }

    /// Appends a record and returns its partition and offset.
    #[track_caller]
    pub fn produce(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> (i32, i64) {
        let mut owned = OwnedHeaders::new();
        for (key, value) in headers {
            owned = owned.insert(Header { key, value: Some(*value) });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(owned);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        let producer: FutureProducer = self.client().set("linger.ms", "0").create().expect("the settings are right");
        let delivered = block_on(producer.send(record, TIMEOUT)).expect("the record is delivered");
        (delivered.partition, delivered.offset)
    }

    /// Appends lines as records without keys, in one go.
    #[track_caller]
    pub fn produce_lines(&self, topic: &str, partition: i32, lines: &str) {
        let mut kcat = self.kcat(Security::Plaintext);
        kcat.args(["-P", "-t", topic, "-p", &partition.to_string()]).stdin(Stdio::piped());
        let mut kcat = kcat.spawn().expect("scripts/setup installs kcat");
        let mut input = kcat.stdin.take().expect("stdin is piped");
        input.write_all(lines.as_bytes()).expect("kcat reads its input");
        drop(input);
        assert!(kcat.wait().expect("kcat was started").success());
    }

    /// kcat, with everything it needs to reach this broker. The librdkafka that Debian links it with cannot do SCRAM with today's brokers.
    pub fn kcat(&self, security: Security) -> Command {
        let mut kcat = Command::new("kcat");
        kcat.env("LD_LIBRARY_PATH", format!("{ROOT}/.cache/librdkafka"));
        // Nobody's own kcat.conf is read.
        kcat.env_remove("KCAT_CONFIG").env("HOME", "/nonexistent");
        match security {
            Security::Plaintext => kcat.args(["-b", &self.plaintext]),
            Security::SaslSsl => {
                kcat.args([
                    "-b",
                    &self.sasl_ssl,
                    "-X",
                    "security.protocol=SASL_SSL",
                    "-X",
                    "sasl.mechanisms=SCRAM-SHA-512",
                ]);
                kcat.arg("-X").arg(format!("sasl.username={}", self.username));
                kcat.arg("-X").arg(format!("sasl.password={}", self.password));
                kcat.arg("-X").arg(format!("ssl.ca.location={}", self.ca.display()))
            }
        };
        kcat.stdin(Stdio::null());
        kcat
    }

    /// Everything in a topic, as a `read_committed` reader sees it now.
    ///
    /// kcat is at the end when a fetch comes back empty: the broker must not hold one until the next of many small transactions.
    #[track_caller]
    pub fn read_topic(&self, topic: &str) -> Vec<Message> {
        let mut kcat = self.kcat(Security::Plaintext);
        kcat.args(["-X", "fetch.wait.max.ms=1"]);
        kcat.args(["-C", "-q", "-J", "-e", "-o", "beginning", "-X", "isolation.level=read_committed", "-t", topic]);
        output(&mut kcat).lines().map(parse_message).collect()
    }

    /// A partition's low and high watermarks; the high one is where `read_committed` readers are held back if so asked.
    #[track_caller]
    pub fn watermarks(&self, topic: &str, partition: i32, isolation: &str) -> (i64, i64) {
        let consumer: BaseConsumer =
            self.client().set("isolation.level", isolation).create().expect("the settings are right");
        consumer.fetch_watermarks(topic, partition, TIMEOUT).expect("the partition exists")
    }

    /// The numbers of a topic's partitions; none when there is no such topic.
    #[track_caller]
    pub fn partitions(&self, topic: &str) -> Vec<i32> {
        let consumer: BaseConsumer = self.client().create().expect("the settings are right");
        let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).expect("the broker answers");
        metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect()
    }

    /// Partitions in which a transaction is open, so that `read_committed` readers are held back.
    #[track_caller]
    pub fn held_back(&self, topic: &str) -> Vec<i32> {
        let end = |partition, isolation| self.watermarks(topic, partition, isolation).1;
        let held = |partition: &i32| end(*partition, "read_committed") < end(*partition, "read_uncommitted");
        self.partitions(topic).into_iter().filter(held).collect()
    }

    /// What a group committed for a topic, stable offsets only; partitions without an offset are left out.
    #[track_caller]
    pub fn committed(&self, group: &str, topic: &str) -> Vec<CommittedOffset> {
        let mut asked = TopicPartitionList::new();
        for partition in self.partitions(topic) {
            asked.add_partition(topic, partition);
        }
        let consumer = self.group_consumer(group);
        let answer = consumer.committed_offsets(asked, TIMEOUT).expect("the coordinator answers");
        let elements = answer.elements();
        let committed = elements.iter().filter_map(|element| {
            let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
            Some(CommittedOffset { partition: element.partition(), offset, metadata: element.metadata().to_owned() })
        });
        committed.collect()
    }

    /// Commits an offset with metadata in a group's name, as an operator with another tool could; the group must have no members.
    #[track_caller]
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(offset)).expect("an offset is a number");
        element.set_metadata(metadata);
        self.group_consumer(group).commit(&list, CommitMode::Sync).expect("the coordinator takes it");
    }

    /// kcat as a member of a group besides the service: it says what it reads, commits nothing, and is missed only after ten minutes.
    pub fn member(&self, group: &str, topic: &str) -> Command {
        let mut kcat = self.kcat(Security::Plaintext);
        for setting in [
            "partition.assignment.strategy=cooperative-sticky",
            "enable.auto.commit=false",
            "enable.auto.offset.store=false",
            "session.timeout.ms=600000",
            "max.poll.interval.ms=600000",
            "heartbeat.interval.ms=500",
        ] {
            kcat.args(["-X", setting]);
        }
        kcat.args(["-u", "-G", group, topic]);
        kcat
    }

    fn group_consumer(&self, group: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", group).set("isolation.level", "read_committed").set("enable.auto.commit", "false");
        config.create().expect("the settings are right")
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("the settings are right")
    }

    fn admin_options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
    }

    #[track_caller]
    fn all_done(&self, what: &str, results: Result<Vec<rdkafka::admin::TopicResult>, rdkafka::error::KafkaError>) {
        for result in results.unwrap_or_else(|error| panic!("could not {what}: {error}")) {
            result.unwrap_or_else(|(name, error)| panic!("could not {what} {name}: {error}"));
        }
    }
}

/// One line of `kcat -J`.
fn parse_message(line: &str) -> Message {
    let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("kcat -J gave {line:?}: {error}"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let headers = record["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
    Message {
        partition: i32::try_from(record["partition"].as_i64().unwrap_or(-1)).expect("a partition is a small number"),
        offset: record["offset"].as_i64().unwrap_or(-1),
        key: text(&record["key"]),
        value: text(&record["payload"]),
        headers: headers.chunks(2).map(|pair| (text(&pair[0]).unwrap_or_default(), text(&pair[1]))).collect(),
    }
}
