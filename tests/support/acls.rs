//! Rights in Kafka, asked for as its own tool asks, without a JVM for each call.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::kafka_server::KafkaServer;

/// The requests by their keys, in the version that needs no tagged fields.
const CREATE: i16 = 30;
const DELETE: i16 = 31;
const VERSION: i16 = 1;
/// Kafka's numbers for what is meant.
const TOPIC: u8 = 2;
const LITERAL: u8 = 3;
const ANY: u8 = 1;
const ALLOW: u8 = 3;

/// A text as the protocol writes it.
fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// No text at all.
const NONE: [u8; 2] = (-1_i16).to_be_bytes();

/// What the words of a call of `kafka-acls.sh --add` give, each right as it is asked for.
fn given(words: &[&str]) -> Vec<Vec<u8>> {
    let (mut users, mut operations, mut resources, mut pattern) = (Vec::new(), Vec::new(), Vec::new(), LITERAL);
    let mut words = words.iter();
    assert_eq!(words.next(), Some(&"--add"));
    while let (Some(option), Some(value)) = (words.next(), words.next()) {
        match (*option, *value) {
            ("--allow-principal", user) => users.push(user),
            ("--operation", operation) => operations.push(number_of(operation)),
            ("--topic", name) => resources.push((TOPIC, name)),
            ("--group", name) => resources.push((3, name)),
            ("--transactional-id", name) => resources.push((5, name)),
            ("--resource-pattern-type", "prefixed") => pattern = 4,
            other => panic!("{other:?} is not known here"),
        }
    }
    let right = |(kind, name): (u8, &str), user: &str, operation: u8| {
        [&[kind][..], &text(name), &[pattern], &text(user), &text("*"), &[operation, ALLOW]].concat()
    };
    let of = |resource| users.iter().map(move |user| (resource, *user));
    let all = resources.into_iter().flat_map(of);
    all.flat_map(|(resource, user)| operations.iter().map(move |operation| right(resource, user, *operation))).collect()
}

fn number_of(operation: &str) -> u8 {
    match operation {
        "All" => 2,
        "Read" => 3,
        "Write" => 4,
        "Describe" => 8,
        "DescribeConfigs" => 10,
        other => panic!("{other:?} is not known here"),
    }
}

impl KafkaServer {
    /// Gives what these calls of `kafka-acls.sh` would.
    pub fn give_rights(&self, calls: &[&[&str]]) {
        self.ask_for_rights(CREATE, &calls.iter().flat_map(|words| given(words)).collect::<Vec<_>>());
    }

    /// Whether the service's user may write to a topic. The first call is that it may not: from then on rights are given one by one.
    pub fn may_write(&self, topic: &str, allowed: bool) {
        if allowed {
            let any_of_it = [&[TOPIC][..], &text(topic), &[LITERAL], &NONE, &NONE, &[ANY, ANY]].concat();
            self.ask_for_rights(DELETE, &[any_of_it]);
        } else {
            let least = ["--add", "--allow-principal", "User:dinnerbell", "--operation", "Describe", "--topic", topic];
            self.give_rights(&[&least]);
        }
    }

    /// Sends one request, and sees that the broker did each part of it.
    fn ask_for_rights(&self, key: i16, parts: &[Vec<u8>]) {
        let count = i32::try_from(parts.len()).expect("a few");
        let head = [&key.to_be_bytes()[..], &VERSION.to_be_bytes(), &[0; 4], &NONE, &count.to_be_bytes()].concat();
        let request = [head, parts.concat()].concat();
        let mut broker = TcpStream::connect(&self.plaintext).expect("the broker listens");
        let length = i32::try_from(request.len()).expect("it is short").to_be_bytes();
        broker.write_all(&[&length[..], &request].concat()).expect("the broker reads");
        let mut length = [0; 4];
        broker.read_exact(&mut length).expect("the broker answers");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        broker.read_exact(&mut answer).expect("the broker answers");
        // Correlation, throttling, and for each part an error's code with its text; of what was removed more follows.
        let results = &answer[8..];
        assert_eq!(results[..4], count.to_be_bytes(), "{answer:?}");
        let results = if key == CREATE { &results[4..] } else { &results[4..8] };
        assert!(
            results.chunks(4).all(|one| one[..2] == [0, 0] && (one[2..] == [0, 0] || one[2..] == NONE)),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
}
