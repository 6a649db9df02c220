//! Whether topics will do: one judgement for all who look at them. `run` refuses what cannot work and says in its log what can lose something;
//! `doctor` prints all of it.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;

use super::client::{self, ClientEvents, REQUEST_TIMEOUT};
use dinnerbell_config as config;
use dinnerbell_config::Topics;
use dinnerbell_config::address::is_of_this_machine;
use dinnerbell_config::kafka_client::Role;
use dinnerbell_core::model::draft::LARGEST_MESSAGE;
use dinnerbell_core::model::finding::Findings;

/// What a topic takes unless it is configured otherwise.
pub const DEFAULT_LIMIT: usize = 1_048_588;
/// What a batch adds to its messages.
pub const BATCH_FRAME: usize = 1_024;
/// Kafka's own topics: the marks of lanes, and the fates of transactions.
pub const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];
/// A topic that refuses a timestamp as far off as this may refuse the end of a transaction, in milliseconds.
const CLOSE_TIMESTAMPS: i64 = 1_000;
/// Input that is deleted sooner than this may be gone before anybody has mended what stands still, in milliseconds.
const SHORT_RETENTION: i64 = 86_400_000;

/// What is known of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// The replicas of the partition that has fewest.
    pub replicas: usize,
    /// The replicas in sync of the partition that has fewest.
    pub in_sync: usize,
    /// What it is configured with; none where this user may not read it.
    pub settings: Option<BTreeMap<String, String>>,
}

impl Topic {
    /// Its max.message.bytes, where this user may read it.
    pub fn max_message_bytes(&self) -> Option<usize> {
        self.setting("max.message.bytes")?.parse().ok()
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.as_ref()?.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }

    /// Why it would take no message, or take one and refuse the end of its transaction. Returns what is wrong and the remedy, as far as this user may
    /// know. A refused end is sent again until it is taken, and the round waits for that.
    pub fn refuses_transactions(&self) -> Option<(String, String)> {
        let (name, in_sync) = (&self.name, self.in_sync);
        // A broker asks for no more replicas than there are.
        let needed = self.number("min.insync.replicas").map(|needed| needed.min(self.replicas as i64));
        if let Some(needed) = needed.filter(|needed| *needed > in_sync as i64) {
            return Some((
                format!(
                    "topic {name} takes nothing: a partition has {in_sync} replicas in sync, and its min.insync.replicas is {needed}"
                ),
                format!(
                    "start the brokers that are away, or: kafka-configs.sh --alter --topic {name} --add-config min.insync.replicas={in_sync}"
                ),
            ));
        }
        let by_log = self.setting("message.timestamp.type") == Some("LogAppendTime");
        let policy = [
            "message.timestamp.before.max.ms",
            "message.timestamp.after.max.ms",
            "message.timestamp.difference.max.ms",
        ]
        .into_iter()
        .find(|policy| !by_log && self.number(policy).is_some_and(|most| (0..CLOSE_TIMESTAMPS).contains(&most)))?;
        Some((
            format!("topic {name} may refuse the end of a transaction: its {policy} is less than {CLOSE_TIMESTAMPS}"),
            format!("kafka-configs.sh --alter --topic {name} --delete-config {policy}"),
        ))
    }

    /// Whether it is compacted, as far as this user may know.
    pub fn is_compacted(&self) -> bool {
        self.setting("cleanup.policy").is_some_and(is_compaction)
    }

    /// Why a message that is missing from it says nothing of what was told, and the remedy; none where messages go by their age alone.
    pub fn forgets_by_key(&self) -> Option<(String, String)> {
        let name = &self.name;
        match self.setting("cleanup.policy") {
            Some(policy) if is_compaction(policy) => Some((
                format!(
                    "topic {name} is compacted: of all messages of a client only the last stays, and the others were told"
                ),
                add_config(name, "cleanup.policy=delete"),
            )),
            Some(_) => None,
            None => Some((
                format!(
                    "whether topic {name} is compacted may not be read, and of a compacted one only the last message of a client stays"
                ),
                format!(
                    "allow this user DescribeConfigs on topic {name} (`dinnerbell doctor --grants` prints all rights)"
                ),
            )),
        }
    }
}

fn is_compaction(policy: &str) -> bool {
    policy.contains("compact")
}

/// A topic as it is now, without its settings.
pub fn shape(consumer: &BaseConsumer<ClientEvents>, name: &str) -> KafkaResult<Topic> {
    let metadata = consumer.fetch_metadata(Some(name), REQUEST_TIMEOUT)?;
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let topic = metadata.topics().iter().find(|topic| topic.name() == name).ok_or(unknown)?;
    if let Some(error) = topic.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    let partitions = i32::try_from(topic.partitions().len()).expect("the protocol counts partitions in 32 bits");
    let fewest = |of: fn(&MetadataPartition) -> usize| topic.partitions().iter().map(of).min().unwrap_or(0);
    let (replicas, in_sync) = (fewest(|one| one.replicas().len()), fewest(|one| one.isr().len()));
    Ok(Topic { name: name.to_owned(), partitions, replicas, in_sync, settings: None })
}

/// What topics are configured with, those whose configuration this user may read.
pub async fn settings(kafka: &config::Kafka, topics: &[&str]) -> BTreeMap<String, BTreeMap<String, String>> {
    let settings = client::settings(kafka, Role::Producer, "admin", &[], &[]);
    let Ok(admin) = settings.create_with_context::<_, AdminClient<ClientEvents>>(ClientEvents::default()) else {
        return BTreeMap::new();
    };
    let asked: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    let answered = admin.describe_configs(&asked, &options).await;
    let values = |topic: ConfigResource| {
        let OwnedResourceSpecifier::Topic(name) = topic.specifier else { return None };
        let entries = topic.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
        Some((name, entries.collect()))
    };
    let read = answered.into_iter().flatten().flatten().filter_map(values).collect();
    // Its end waits for a thread.
    let _ = tokio::task::spawn_blocking(move || drop(admin)).await;
    read
}

/// One check of a topic: the name under which it is told, what it reads, and its verdict on what was read.
struct Check {
    name: &'static str,
    reads: Reads,
    verdict: fn(&Topic, &str) -> Option<Verdict>,
}

/// What a check reads.
enum Reads {
    /// The topic as it is; nothing stands for the value then.
    Topic,
    /// This setting. Where it may not be read, nothing is said.
    Setting(&'static str),
}

/// What a check says.
enum Verdict {
    Well(String),
    /// Something can be lost: what, and the remedy.
    Risk(String, String),
    /// It cannot work: why, and the remedy.
    Unfit(String, String),
}

/// What a broker's loss can take with it.
const DURABILITY: [Check; 3] = [
    Check { name: "kafka-durability", reads: Reads::Topic, verdict: one_replica },
    Check { name: "kafka-durability", reads: Reads::Setting("min.insync.replicas"), verdict: one_acknowledges },
    Check { name: "kafka-durability", reads: Reads::Setting("unclean.leader.election.enable"), verdict: unclean },
];

/// What the topic of the drafts needs.
const DRAFTS: [Check; 4] = [
    Check { name: "kafka-topics", reads: Reads::Topic, verdict: drafts_refused },
    Check { name: "kafka-message-size", reads: Reads::Setting("max.message.bytes"), verdict: size_of_drafts },
    Check { name: "kafka-retention", reads: Reads::Setting("cleanup.policy"), verdict: compacted_drafts },
    Check { name: "kafka-retention", reads: Reads::Setting("retention.ms"), verdict: kept_drafts },
];

/// What the topic of the campaigns needs.
const CAMPAIGNS: [Check; 2] = [
    Check { name: "kafka-retention", reads: Reads::Setting("cleanup.policy"), verdict: compacted_campaigns },
    Check { name: "kafka-retention", reads: Reads::Setting("retention.ms"), verdict: kept_campaigns },
];

/// What the topic of the dead letters needs.
const LETTERS: [Check; 2] = [
    Check { name: "kafka-topics", reads: Reads::Topic, verdict: letters_refused },
    Check { name: "kafka-retention", reads: Reads::Setting("cleanup.policy"), verdict: compacted_letters },
];

/// Runs checks on a topic, in their order.
fn run(checks: &[Check], topic: &Topic, found: &mut Findings) {
    for Check { name, reads, verdict } in checks {
        let read = match reads {
            Reads::Topic => Some(""),
            Reads::Setting(setting) => topic.setting(setting),
        };
        match read.and_then(|read| verdict(topic, read)) {
            None => {}
            Some(Verdict::Well(what)) => found.ok(name, what),
            Some(Verdict::Risk(what, remedy)) => found.warn(name, what, remedy),
            Some(Verdict::Unfit(what, remedy)) => found.fail(name, what, remedy),
        }
    }
}

/// Judges the topics of the configuration, as far as they are known.
pub fn check(topics: &Topics, known: &[Topic], found: &mut Findings) {
    let of = |name: &str| known.iter().find(|topic| topic.name == name);
    for topic in known {
        durability(topic, found);
        if topic.settings.is_none() {
            found.ok(
                "kafka-settings",
                format!(
                    "the settings of topic {} may not be read (DescribeConfigs), so they were not checked",
                    topic.name
                ),
            );
        }
    }
    let (campaigns, letters) = (of(&topics.campaigns), topics.dead_letters.as_deref().and_then(of));
    if let Some(drafts) = of(&topics.notifications) {
        run(&DRAFTS, drafts, found);
    }
    if let Some(campaigns) = campaigns {
        run(&CAMPAIGNS, campaigns, found);
    }
    if let (Some(campaigns), Some(letters)) = (campaigns, letters) {
        run(&LETTERS, letters, found);
        size_of_letters(campaigns, letters, found);
    }
}

/// What a broker's loss can take with it: of our topics, and of Kafka's own.
pub fn durability(topic: &Topic, found: &mut Findings) {
    run(&DURABILITY, topic, found);
}

/// The command that gives a topic a setting.
fn add_config(name: &str, setting: &str) -> String {
    format!("kafka-configs.sh --alter --topic {name} --add-config {setting}")
}

fn one_replica(topic: &Topic, _: &str) -> Option<Verdict> {
    let what = format!("topic {} has one replica: what a broker loses is lost", topic.name);
    let remedy = "kafka-reassign-partitions.sh: three replicas, and min.insync.replicas = 2".to_owned();
    (topic.replicas == 1).then_some(Verdict::Risk(what, remedy))
}

fn one_acknowledges(topic: &Topic, needed: &str) -> Option<Verdict> {
    let name = &topic.name;
    let what = format!(
        "topic {name} has min.insync.replicas = 1: the loss of one broker can take what was acknowledged with it"
    );
    let is_one = topic.replicas != 1 && needed.parse() == Ok(1_i64);
    is_one.then(|| Verdict::Risk(what, add_config(name, "min.insync.replicas=2")))
}

fn unclean(topic: &Topic, enabled: &str) -> Option<Verdict> {
    let name = &topic.name;
    let what = format!(
        "topic {name} lets a replica lead that is behind (unclean.leader.election.enable): acknowledged messages are lost then"
    );
    (enabled == "true").then(|| Verdict::Risk(what, add_config(name, "unclean.leader.election.enable=false")))
}

fn drafts_refused(drafts: &Topic, _: &str) -> Option<Verdict> {
    let (what, remedy) = drafts.refuses_transactions()?;
    Some(Verdict::Risk(format!("{what}; no draft is published meanwhile"), remedy))
}

/// A draft that does not fit would halt its lane in the middle of a campaign.
fn size_of_drafts(drafts: &Topic, most: &str) -> Option<Verdict> {
    let (name, needed, most) = (&drafts.name, LARGEST_MESSAGE + BATCH_FRAME, most.parse::<usize>().ok()?);
    Some(match most >= needed {
        true => Verdict::Well(format!("topic {name} takes messages of {most} bytes; the largest draft has {needed}")),
        false => Verdict::Unfit(
            format!(
                "topic {name} (kafka.topics.notifications) cannot take every draft: its max.message.bytes is {most}, and the largest draft has {needed}"
            ),
            add_config(name, &format!("max.message.bytes={DEFAULT_LIMIT}")),
        ),
    })
}

fn compacted_drafts(drafts: &Topic, _: &str) -> Option<Verdict> {
    let name = &drafts.name;
    let what = format!("topic {name} is compacted: of all drafts of a client only the last stays");
    drafts.is_compacted().then(|| Verdict::Risk(what, add_config(name, "cleanup.policy=delete")))
}

fn kept_drafts(drafts: &Topic, retention: &str) -> Option<Verdict> {
    let (name, kept) = (&drafts.name, days(retention.parse().ok()?));
    Some(Verdict::Well(format!(
        "topic {name} keeps drafts {kept}: so far back `verify` and `lane resolve --from-kafka` can see"
    )))
}

/// What compaction takes is a gap between offsets like any other, so no lane can notice it.
fn compacted_campaigns(campaigns: &Topic, _: &str) -> Option<Verdict> {
    let name = &campaigns.name;
    let what = format!(
        "topic {name} is compacted: of the records of a key only the last stays, and cancellations go after delete.retention.ms; what a lane has not \
         read by then is lost, and nothing says so"
    );
    campaigns.is_compacted().then(|| Verdict::Risk(what, add_config(name, "cleanup.policy=delete")))
}

fn kept_campaigns(campaigns: &Topic, retention: &str) -> Option<Verdict> {
    let (name, retention) = (&campaigns.name, retention.parse().ok()?);
    let told = format!(
        "topic {name} keeps campaigns {}: a lane that stands still for longer loses what it has not read",
        days(retention)
    );
    Some(match (0..SHORT_RETENTION).contains(&retention) {
        true => Verdict::Risk(told, add_config(name, "retention.ms=604800000")),
        false => Verdict::Well(told),
    })
}

fn letters_refused(letters: &Topic, _: &str) -> Option<Verdict> {
    let (what, remedy) = letters.refuses_transactions()?;
    Some(Verdict::Risk(format!("{what}; dead letters wait beside the rounds"), remedy))
}

fn compacted_letters(letters: &Topic, _: &str) -> Option<Verdict> {
    let told = format!(
        "topic {} is compacted: each dead letter has a key of its own there, and its first one in a header",
        letters.name
    );
    letters.is_compacted().then_some(Verdict::Well(told))
}

/// The one check that reads two topics.
fn size_of_letters(campaigns: &Topic, letters: &Topic, found: &mut Findings) {
    let name = &letters.name;
    if let (Some(arrives), Some(leaves)) = (campaigns.max_message_bytes(), letters.max_message_bytes())
        && leaves < arrives
    {
        found.warn(
            "kafka-message-size",
            format!("topic {name} takes {leaves} bytes, less than the {arrives} of {}: a larger dead letter is sent without its value", campaigns.name),
            add_config(name, &format!("max.message.bytes={}", arrives + 4_096)),
        );
    }
}

fn days(millis: i64) -> String {
    match millis {
        ..0 => "for ever".to_owned(),
        millis => format!("for {:.1} days", millis as f64 / 86_400_000.0),
    }
}

/// Whether what goes to the brokers can be read on its way.
pub fn encryption(kafka: &config::Kafka, found: &mut Findings) {
    let encrypted = kafka.security_protocol.ends_with("SSL");
    let leaves = kafka.bootstrap_servers.split(',').any(|server| !is_of_this_machine(host_of(server)));
    if !encrypted && leaves {
        found.warn(
            "kafka-tls",
            format!("the connection to {} is not encrypted, and leaves this machine", kafka.bootstrap_servers),
            "set kafka.security_protocol to SASL_SSL or SSL, with kafka.ca_file where the CA is a private one",
        );
    }
}

fn host_of(server: &str) -> &str {
    let server = server.trim().rsplit_once("://").map_or(server.trim(), |(_, server)| server);
    server.rsplit_once(':').map_or(server, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_core::model::finding::Status;

    fn topic(name: &str, replicas: usize, settings: &[(&str, &str)]) -> Topic {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Topic { name: name.to_owned(), partitions: 1, replicas, in_sync: replicas, settings: Some(settings) }
    }

    fn checked(drafts: Topic, letters: Topic) -> Vec<(Status, String)> {
        let topics = Topics {
            campaigns: "in".to_owned(),
            notifications: "out".to_owned(),
            dead_letters: Some("dead".to_owned()),
        };
        let mut found = Findings::default();
        let campaigns = topic("in", 3, &[("min.insync.replicas", "2"), ("retention.ms", "3600000")]);
        check(&topics, &[campaigns, drafts, letters], &mut found);
        found.into_all().into_iter().map(|finding| (finding.status, finding.found)).collect()
    }

    #[test]
    fn each_topic_that_can_lose_something_is_warned_of_and_one_that_cannot_take_a_draft_is_an_error() {
        let drafts = topic("out", 3, &[("min.insync.replicas", "1"), ("max.message.bytes", "1000")]);
        let letters =
            topic("dead", 1, &[("cleanup.policy", "compact,delete"), ("unclean.leader.election.enable", "true")]);
        let found = checked(drafts, letters);
        for (status, words) in [
            (Status::Warning, "topic in keeps campaigns for 0.0 days"),
            (Status::Warning, "topic out has min.insync.replicas = 1"),
            (Status::Error, "topic out (kafka.topics.notifications) cannot take every draft"),
            (Status::Warning, "topic dead has one replica"),
            (Status::Ok, "topic dead is compacted: each dead letter has a key of its own"),
            (Status::Warning, "topic dead lets a replica lead that is behind"),
        ] {
            assert!(found.iter().any(|(of, told)| *of == status && told.contains(words)), "{words}: {found:#?}");
        }
        const { assert!(LARGEST_MESSAGE + BATCH_FRAME < DEFAULT_LIMIT, "what a topic takes by default is enough") }
    }

    #[test]
    fn a_compacted_topic_of_campaigns_is_warned_of() {
        let topics = Topics { campaigns: "in".to_owned(), notifications: "out".to_owned(), dead_letters: None };
        let warned = |policy| {
            let mut found = Findings::default();
            check(&topics, &[topic("in", 3, &[("cleanup.policy", policy)])], &mut found);
            let told = found.into_all().into_iter();
            told.filter(|finding| finding.status == Status::Warning)
                .any(|told| told.found.contains("topic in is compacted"))
        };
        assert_eq!(["compact", "compact,delete", "delete"].map(warned), [true, true, false]);
    }

    #[test]
    fn a_message_that_is_missing_says_something_only_where_messages_are_known_to_go_by_age_alone() {
        let says = |settings: Option<&[(&str, &str)]>| {
            let topic = Topic { settings: None, ..topic("out", 3, settings.unwrap_or_default()) };
            let settings = settings.map(|all| all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
            Topic { settings, ..topic }.forgets_by_key().map(|(_, remedy)| remedy)
        };
        assert_eq!(says(Some(&[("cleanup.policy", "delete")])), None);
        assert!(says(Some(&[("cleanup.policy", "compact,delete")])).is_some_and(|remedy| remedy.contains("=delete")));
        assert!(says(None).is_some_and(|remedy| remedy.contains("DescribeConfigs")));
    }

    #[test]
    fn a_topic_that_would_refuse_the_end_of_a_transaction_is_known_by_its_replicas_in_sync_and_its_timestamps() {
        let refuses = |in_sync: usize, settings: &[(&str, &str)]| {
            Topic { in_sync, ..topic("dead", 3, settings) }.refuses_transactions().map(|(what, _)| what)
        };
        let says = |found: Option<String>, words: &str| {
            assert!(found.as_ref().is_some_and(|what| what.contains(words)), "{found:?}")
        };
        says(refuses(1, &[("min.insync.replicas", "2")]), "1 replicas in sync, and its min.insync.replicas is 2");
        says(
            refuses(3, &[("message.timestamp.before.max.ms", "0")]),
            "message.timestamp.before.max.ms is less than 1000",
        );
        says(refuses(3, &[("message.timestamp.difference.max.ms", "5")]), "message.timestamp.difference.max.ms");
        let usual = [("min.insync.replicas", "2"), ("message.timestamp.before.max.ms", "9223372036854775807")];
        assert_eq!(refuses(2, &usual), None);
        let by_log = [("message.timestamp.before.max.ms", "0"), ("message.timestamp.type", "LogAppendTime")];
        assert_eq!(refuses(3, &by_log), None);
        assert_eq!(refuses(3, &[("min.insync.replicas", "4")]), None, "more than there are");
        let unread = Topic { settings: None, in_sync: 0, ..topic("dead", 3, &[]) };
        assert_eq!(unread.refuses_transactions(), None, "what may not be read is not judged");
    }

    #[test]
    fn a_connection_leaves_this_machine_unless_every_broker_is_on_it() {
        for (servers, local) in [
            ("localhost:9092", true),
            ("127.0.0.1:9092,[::1]:9092", true),
            ("PLAINTEXT://localhost:9092", true),
            ("localhost:9092, kafka.example.com:9092", false),
            ("10.0.0.1:9092", false),
        ] {
            assert_eq!(servers.split(',').all(|server| is_of_this_machine(host_of(server))), local, "{servers}");
        }
    }
}
