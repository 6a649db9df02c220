//! `dinnerbell campaign send`: what is refused before anything is contacted, and what arrives.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};

/// Runs `campaign send` in the folder of the package, with a configuration from the environment alone.
fn send(servers: &str, arguments: &[&str]) -> Output {
    command(servers, arguments).output().unwrap()
}

fn command(servers: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dinnerbell"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DINNERBELL_")) {
        command.env_remove(name);
    }
    command
        .args(["campaign", "send"])
        .args(arguments)
        .env("DINNERBELL_KAFKA__BOOTSTRAP_SERVERS", servers)
        .env("DINNERBELL_KAFKA__TOPICS__CAMPAIGNS", "promo.in")
        .env("DINNERBELL_KAFKA__TOPICS__NOTIFICATIONS", "promo.out")
        .env("DINNERBELL_SUBSCRIBERS__URL", "postgres://h/d")
        .env("DINNERBELL_FEEDBACK__URL", "postgres://h/d");
    command
}

/// The records of `promo.in`, as many as are asked for.
fn received(servers: &str, count: usize) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", servers).set("group.id", "reader").create().unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..3 {
        partitions.add_partition_offset("promo.in", partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut messages = Vec::new();
    while messages.len() < count && Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            messages.push(message.detach());
        }
    }
    messages
}

#[test]
fn a_campaign_from_flags_and_one_from_a_file_arrive_with_their_keys() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("promo.in", 3, 1).unwrap();
    let servers = cluster.bootstrap_servers();

    let flags = [
        "--restaurant",
        "r-1",
        "--content",
        "Fig tart, 70% off",
        "--owner",
        "Ivanov",
        "--contact",
        "i@r.ru",
        "--id",
        "c-1",
        "--start",
        "2026-03-01T12:00:00Z",
        "--end",
        "+2h",
        "--json",
    ];
    let output = send(&servers, &flags);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&printed["adv_campaign_id"], &printed["topic"]), (&"c-1".into(), &"promo.in".into()));
    assert_eq!(printed["offset"], 0);

    let output = send(&servers, &["--file", "samples/campaign.json", "--key", "first_message"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("campaign 123e4567-e89b-12d3-a456-426614174003 is in promo.in, partition"), "{printed}");

    let messages = received(&servers, 2);
    let of_key = |key: &str| messages.iter().find(|message| message.key() == Some(key.as_bytes())).unwrap();
    assert_eq!(of_key("first_message").payload(), Some(std::fs::read("samples/campaign.json").unwrap().as_slice()));
    let campaign: serde_json::Value = serde_json::from_slice(of_key("c-1").payload().unwrap()).unwrap();
    assert_eq!(campaign["adv_campaign_content"], "Fig tart, 70% off");
    assert_eq!(campaign["adv_campaign_datetime_start"], 1_772_366_400);
    assert_eq!(campaign["adv_campaign_datetime_end"], 1_772_366_400 + 7200);
}

#[test]
fn a_campaign_from_standard_input_arrives_as_it_is() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("promo.in", 3, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let mut command = command(&servers, &["--file", "-", "--json"]);
    let output = command.stdin(std::fs::File::open("samples/campaign.json").unwrap()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["adv_campaign_id"], "123e4567-e89b-12d3-a456-426614174003");
    let messages = received(&servers, 1);
    assert_eq!(messages[0].payload(), Some(std::fs::read("samples/campaign.json").unwrap().as_slice()));
    assert_eq!(messages[0].key(), Some(b"123e4567-e89b-12d3-a456-426614174003".as_slice()));
}

#[test]
fn what_would_be_a_dead_letter_is_refused_before_anything_is_contacted() {
    let nobody = "127.0.0.1:1";
    let valid = ["--restaurant", "r", "--content", "c", "--owner", "o", "--contact", "x"];
    for (arguments, words) in [
        (&["--end", "-1h"][..], "adv_campaign_datetime_end"),
        (&["--start", "soon"], "--start must be"),
        (&["--start", "1678615562000"], "millisecond"),
        (&["--id", " "], "adv_campaign_id"),
    ] {
        let output = send(nobody, &[&valid, arguments].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    for arguments in [&["--file", "Cargo.toml"][..], &["--file", "nowhere.json"], &["--restaurant", "r"], &[]] {
        assert_eq!(send(nobody, arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_campaign_may_start_now_as_the_readme_says() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("promo.in", 3, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let flags =
        ["--restaurant", "r-1", "--content", "Fig tart", "--owner", "Ivanov", "--contact", "i@r.ru", "--start", "now"];
    let output = send(&servers, &[&flags[..], &["--end", "+2h"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = received(&servers, 1);
    let value: serde_json::Value = serde_json::from_slice(messages[0].payload().unwrap()).unwrap();
    let time = |name: &str| value[name].as_i64().unwrap();
    assert_eq!(time("adv_campaign_datetime_start"), time("datetime_created"));
    assert_eq!(time("adv_campaign_datetime_end"), time("datetime_created") + 7_200);
}
