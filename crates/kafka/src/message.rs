//! Recorded drafts and dead letters as Kafka messages.

use std::borrow::Cow;

use rdkafka::message::{Header as KafkaHeader, OwnedHeaders, ToBytes};
use sha2::{Digest, Sha256};

use dinnerbell_core::model::record::{DeadLetterMessage, Header};
use dinnerbell_core::text_table::hex;

/// What a message occupies besides key, value and headers, generously: the batch around it and the lengths inside.
const FRAME: usize = 512;
/// What a header occupies besides its name and value.
const HEADER_FRAME: usize = 16;

/// Holds the original key where the message has one of its own.
const ORIGINAL_KEY: &str = "dinnerbell_key";

/// What messages a topic takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicLimits {
    /// Most bytes of one.
    pub most_bytes: usize,
    /// Whether each needs a key of its own.
    pub compacted: bool,
}

/// A dead letter as a message: what is left of the original, then ours, because readers take the last of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// The original key, if it fits; one of its own in a compacted topic.
    pub key: Option<Cow<'a, [u8]>>,
    /// The original value, if it fits.
    pub value: Option<&'a [u8]>,
    /// The original headers, if they fit, and ours.
    pub headers: Vec<Header>,
}

impl<'a> DeadLetter<'a> {
    /// The message for a topic that takes such messages. What does not fit is left out and described: first the value, then, since no
    /// record may stop a lane, the rest as well.
    pub fn fit(letter: &'a DeadLetterMessage, topic: &str, limits: &TopicLimits) -> Self {
        let limit = limits.most_bytes;
        let mut ours = described(letter, topic);
        // A compacted topic takes nothing without a key, and keeps one message of each.
        let own_key = limits.compacted.then(|| format!("{topic}/{}/{}", letter.lane, letter.offset).into_bytes());
        if limits.compacted
            && let Some(key) = &letter.key
        {
            ours.push(Header { name: ORIGINAL_KEY.into(), value: Some(key.clone()) });
        }
        let key = || own_key.clone().map(Cow::Owned).or_else(|| letter.key.as_deref().map(Cow::Borrowed));
        let original = |value: Option<&'a [u8]>, ours: &[Header]| Self {
            key: key(),
            value,
            headers: letter.headers.iter().chain(ours).cloned().collect(),
        };
        let whole = original(letter.value.as_deref(), &ours);
        if whole.size() <= limit {
            return whole;
        }
        if let Some(value) = &letter.value {
            ours.extend(not_here(value.len(), &Sha256::digest(value)));
        }
        let without_value = original(None, &ours);
        if without_value.size() <= limit {
            return without_value;
        }
        ours.retain(|header| header.name != ORIGINAL_KEY);
        Self { key: own_key.map(Cow::Owned), value: None, headers: ours }
    }

    fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len) + HEADER_FRAME).sum();
        self.key.as_deref().map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers + FRAME
    }
}

/// Tells what a value was that is not in the message.
fn not_here(size: impl ToString, sha256: &[u8]) -> [Header; 2] {
    [text("dinnerbell_size", size), text("dinnerbell_sha256", hex(sha256))]
}

fn described(letter: &DeadLetterMessage, topic: &str) -> Vec<Header> {
    let field = letter.field.as_ref().map(|field| text("dinnerbell_field", field));
    let mut ours = vec![text("dinnerbell_reason", &letter.reason)];
    ours.extend(field);
    ours.push(text("dinnerbell_topic", topic));
    ours.push(text("dinnerbell_partition", letter.lane));
    ours.push(text("dinnerbell_offset", letter.offset));
    if let Some(digest) = &letter.digest {
        ours.extend(not_here(digest.size, &digest.sha256));
    }
    ours
}

fn text(name: &str, value: impl ToString) -> Header {
    Header { name: name.into(), value: Some(value.to_string().into_bytes()) }
}

/// Headers for librdkafka.
pub fn headers<'a, V: ToBytes + ?Sized + 'a>(
    headers: impl IntoIterator<Item = (&'a str, Option<&'a V>)>,
) -> OwnedHeaders {
    headers
        .into_iter()
        .fold(OwnedHeaders::new_with_capacity(16), |made, (key, value)| made.insert(KafkaHeader { key, value }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_core::model::number::{Lane, Offset};

    fn letter(value: usize, header: usize) -> DeadLetterMessage {
        DeadLetterMessage {
            id: 1,
            lane: Lane::new(2),
            offset: Offset::new(77),
            key: Some(b"first_message".to_vec()),
            value: Some(vec![b'x'; value]),
            digest: None,
            headers: vec![Header { name: "dinnerbell_reason".into(), value: Some(vec![b'h'; header]) }],
            reason: "field restaurant_id is missing".into(),
            field: Some("restaurant_id".into()),
        }
    }

    const LIMITS: TopicLimits = TopicLimits { most_bytes: 1_000_000, compacted: false };

    fn names(message: &DeadLetter<'_>) -> Vec<String> {
        message.headers.iter().map(|header| header.name.clone()).collect()
    }

    #[test]
    fn a_dead_letter_keeps_everything_and_ours_come_last() {
        let letter = letter(100, 10);
        let message = DeadLetter::fit(&letter, "promo.in", &LIMITS);
        assert_eq!(message.key.as_deref(), letter.key.as_deref());
        assert_eq!(message.value, letter.value.as_deref());
        assert_eq!(
            names(&message),
            [
                "dinnerbell_reason",
                "dinnerbell_reason",
                "dinnerbell_field",
                "dinnerbell_topic",
                "dinnerbell_partition",
                "dinnerbell_offset"
            ]
        );
        assert_eq!(message.headers[1].value.as_deref(), Some(&b"field restaurant_id is missing"[..]));
        assert_eq!(message.headers[5].value.as_deref(), Some(&b"77"[..]));
    }

    #[test]
    fn in_a_compacted_topic_each_letter_has_a_key_of_its_own_and_the_original_one_in_a_header() {
        let limits = TopicLimits { compacted: true, ..LIMITS };
        for (value, header) in [(100, 10), (1_000_000, 10), (10, 1_000_000)] {
            let letter = letter(value, header);
            let message = DeadLetter::fit(&letter, "promo.in", &limits);
            assert_eq!(message.key.as_deref(), Some(&b"promo.in/2/77"[..]));
            let original = message.headers.iter().find(|header| header.name == ORIGINAL_KEY);
            assert_eq!(original.and_then(|header| header.value.clone()).is_some(), header < 1_000_000);
        }
        let letter = DeadLetterMessage { key: None, ..letter(100, 10) };
        let message = DeadLetter::fit(&letter, "promo.in", &limits);
        assert_eq!(message.key.as_deref(), Some(&b"promo.in/2/77"[..]));
        assert!(message.headers.iter().all(|header| header.name != ORIGINAL_KEY));
    }

    #[test]
    fn a_value_that_does_not_fit_is_described_by_size_and_hash() {
        let letter = letter(1_000_000, 10);
        let message = DeadLetter::fit(&letter, "promo.in", &LIMITS);
        assert_eq!((message.key.is_some(), message.value), (true, None));
        let described = &message.headers[message.headers.len() - 2..];
        assert_eq!(described[0], text("dinnerbell_size", 1_000_000));
        assert_eq!(described[1], text("dinnerbell_sha256", hex(&Sha256::digest(vec![b'x'; 1_000_000]))));
    }

    #[test]
    fn headers_that_do_not_fit_either_are_left_out_too() {
        let letter = letter(10, 1_000_000);
        let message = DeadLetter::fit(&letter, "promo.in", &LIMITS);
        assert_eq!((message.key.as_deref(), message.value), (None, None));
        assert_eq!(message.headers.len(), 7);
        assert!(message.size() < 2_000);
    }
}
