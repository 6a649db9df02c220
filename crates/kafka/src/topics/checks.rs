//! Whether the topics will do: a table of checks for each, with what it reads and what it finds.

use dinnerbell_config as config;
use dinnerbell_config::Topics;
use dinnerbell_config::address::is_of_this_machine;
use dinnerbell_core::model::draft::LARGEST_MESSAGE;
use dinnerbell_core::model::finding::Findings;
use dinnerbell_token::Tokens;

use super::{BATCH_FRAME, DEFAULT_LIMIT, Topic};

/// Kafka's own topics: the marks of lanes, and the fates of transactions.
pub const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

/// A topic that refuses a timestamp as far off as this may refuse the end of a transaction, in milliseconds.
pub(super) const CLOSE_TIMESTAMPS: i64 = 1_000;

/// Input that is deleted sooner than this may be gone before anybody has mended what stands still, in milliseconds.
pub(super) const SHORT_RETENTION: i64 = 86_400_000;

/// One check of a topic: the name under which it is told, what it reads, and its verdict on what was read.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) reads: Reads,
    pub(super) verdict: fn(&Topic, &str) -> Option<Verdict>,
}

/// What a check reads.
pub(super) enum Reads {
    /// The topic as it is; nothing stands for the value then.
    Topic,
    /// This setting. Where it may not be read, nothing is said.
    Setting(&'static str),
}

/// What a check says.
pub(super) enum Verdict {
    Well(String),
    /// Something can be lost: what, and the remedy.
    Risk(String, String),
    /// It cannot work: why, and the remedy.
    Unfit(String, String),
}

/// What a broker's loss can take with it.
pub(super) const DURABILITY: [Check; 3] = [
    Check { name: "kafka-durability", reads: Reads::Topic, verdict: one_replica },
    Check { name: "kafka-durability", reads: Reads::Setting("min.insync.replicas"), verdict: one_acknowledges },
    Check { name: "kafka-durability", reads: Reads::Setting("unclean.leader.election.enable"), verdict: unclean },
];

/// What the topic of the drafts needs.
pub(super) const DRAFTS: [Check; 4] = [
    Check { name: "kafka-topics", reads: Reads::Topic, verdict: drafts_refused },
    Check { name: "kafka-message-size", reads: Reads::Setting("max.message.bytes"), verdict: size_of_drafts },
    Check { name: "kafka-retention", reads: Reads::Setting("cleanup.policy"), verdict: compacted_drafts },
    Check { name: "kafka-retention", reads: Reads::Setting("retention.ms"), verdict: kept_drafts },
];

/// What the topic of the campaigns needs.
pub(super) const CAMPAIGNS: [Check; 2] = [
    Check { name: "kafka-retention", reads: Reads::Setting("cleanup.policy"), verdict: compacted_campaigns },
    Check { name: "kafka-retention", reads: Reads::Setting("retention.ms"), verdict: kept_campaigns },
];

/// What the topic of the dead letters needs.
pub(super) const LETTERS: [Check; 2] = [
    Check { name: "kafka-topics", reads: Reads::Topic, verdict: letters_refused },
    Check { name: "kafka-retention", reads: Reads::Setting("cleanup.policy"), verdict: compacted_letters },
];

/// Runs checks on a topic, in their order.
pub(super) fn run(checks: &[Check], topic: &Topic, found: &mut Findings) {
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
pub(super) fn add_config(name: &str, setting: &str) -> String {
    format!("kafka-configs.sh --alter --topic {name} --add-config {setting}")
}

pub(super) fn one_replica(topic: &Topic, _: &str) -> Option<Verdict> {
    let what = format!("topic {} has one replica: what a broker loses is lost", topic.name);
    let remedy = "kafka-reassign-partitions.sh: three replicas, and min.insync.replicas = 2".to_owned();
    (topic.replicas == 1).then_some(Verdict::Risk(what, remedy))
}

pub(super) fn one_acknowledges(topic: &Topic, needed: &str) -> Option<Verdict> {
    let name = &topic.name;
    let what = format!(
        "topic {name} has min.insync.replicas = 1: the loss of one broker can take what was acknowledged with it"
    );
    let is_one = topic.replicas != 1 && needed.parse() == Ok(1_i64);
    is_one.then(|| Verdict::Risk(what, add_config(name, "min.insync.replicas=2")))
}

pub(super) fn unclean(topic: &Topic, enabled: &str) -> Option<Verdict> {
    let name = &topic.name;
    let what = format!(
        "topic {name} lets a replica lead that is behind (unclean.leader.election.enable): acknowledged messages are lost then"
    );
    (enabled == "true").then(|| Verdict::Risk(what, add_config(name, "unclean.leader.election.enable=false")))
}

pub(super) fn drafts_refused(drafts: &Topic, _: &str) -> Option<Verdict> {
    let (what, remedy) = drafts.refuses_transactions()?;
    Some(Verdict::Risk(format!("{what}; no draft is published meanwhile"), remedy))
}

/// A draft that does not fit would halt its lane in the middle of a campaign.
pub(super) fn size_of_drafts(drafts: &Topic, most: &str) -> Option<Verdict> {
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

pub(super) fn compacted_drafts(drafts: &Topic, _: &str) -> Option<Verdict> {
    let name = &drafts.name;
    let what = format!("topic {name} is compacted: of all drafts of a client only the last stays");
    drafts.is_compacted().then(|| Verdict::Risk(what, add_config(name, "cleanup.policy=delete")))
}

pub(super) fn kept_drafts(drafts: &Topic, retention: &str) -> Option<Verdict> {
    let (name, kept) = (&drafts.name, days(retention.parse().ok()?));
    Some(Verdict::Well(format!(
        "topic {name} keeps drafts {kept}: so far back `verify` and `lane resolve --from-kafka` can see"
    )))
}

/// What compaction takes is a gap between offsets like any other, so no lane can notice it.
pub(super) fn compacted_campaigns(campaigns: &Topic, _: &str) -> Option<Verdict> {
    let name = &campaigns.name;
    let what = format!(
        "topic {name} is compacted: of the records of a key only the last stays, and cancellations go after delete.retention.ms; what a lane has not \
         read by then is lost, and nothing says so"
    );
    campaigns.is_compacted().then(|| Verdict::Risk(what, add_config(name, "cleanup.policy=delete")))
}

pub(super) fn kept_campaigns(campaigns: &Topic, retention: &str) -> Option<Verdict> {
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

pub(super) fn letters_refused(letters: &Topic, _: &str) -> Option<Verdict> {
    let (what, remedy) = letters.refuses_transactions()?;
    Some(Verdict::Risk(format!("{what}; dead letters wait beside the rounds"), remedy))
}

pub(super) fn compacted_letters(letters: &Topic, _: &str) -> Option<Verdict> {
    let told = format!(
        "topic {} is compacted: each dead letter has a key of its own there, and its first one in a header",
        letters.name
    );
    letters.is_compacted().then_some(Verdict::Well(told))
}

/// The one check that reads two topics.
pub(super) fn size_of_letters(campaigns: &Topic, letters: &Topic, found: &mut Findings) {
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

pub(super) fn days(millis: i64) -> String {
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
    if let Some(host) = kafka.tokens().and_then(Tokens::in_clear_to).filter(|host| !is_of_this_machine(host)) {
        found.warn(
            "kafka-token",
            format!(
                "the secret that tokens are asked for with goes to {host} without encryption, and leaves this machine"
            ),
            "set kafka.client.sasl.oauthbearer.token.endpoint.url to the endpoint's address with https://",
        );
    }
}

pub(super) fn host_of(server: &str) -> &str {
    let server = server.trim().rsplit_once("://").map_or(server.trim(), |(_, server)| server);
    server.rsplit_once(':').map_or(server, |(host, _)| host)
}
