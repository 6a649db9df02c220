use super::checks::host_of;
use super::*;
use dinnerbell_config::Topics;
use dinnerbell_config::address::is_of_this_machine;
use dinnerbell_core::model::draft::LARGEST_MESSAGE;
use dinnerbell_core::model::finding::Findings;
use dinnerbell_core::model::finding::Status;

fn topic(name: &str, replicas: usize, settings: &[(&str, &str)]) -> Topic {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Topic { name: name.to_owned(), partitions: 1, replicas, in_sync: replicas, settings: Some(settings) }
}

fn checked(drafts: Topic, letters: Topic) -> Vec<(Status, String)> {
    let topics =
        Topics { campaigns: "in".to_owned(), notifications: "out".to_owned(), dead_letters: Some("dead".to_owned()) };
    let mut found = Findings::default();
    let campaigns = topic("in", 3, &[("min.insync.replicas", "2"), ("retention.ms", "3600000")]);
    check(&topics, &[campaigns, drafts, letters], &mut found);
    found.into_all().into_iter().map(|finding| (finding.status, finding.found)).collect()
}

#[test]
fn each_topic_that_can_lose_something_is_warned_of_and_one_that_cannot_take_a_draft_is_an_error() {
    let drafts = topic("out", 3, &[("min.insync.replicas", "1"), ("max.message.bytes", "1000")]);
    let letters = topic("dead", 1, &[("cleanup.policy", "compact,delete"), ("unclean.leader.election.enable", "true")]);
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
    says(refuses(3, &[("message.timestamp.before.max.ms", "0")]), "message.timestamp.before.max.ms is less than 1000");
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
