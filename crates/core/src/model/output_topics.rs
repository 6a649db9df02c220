//! The topics that are written to, known by their ids (KIP-516): one that was recreated under its name has another one.

/// The ids of the topics that are written to, as Kafka's own tools show them; none where the brokers know no ids, or no such topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputTopicIds {
    /// Of the topic of the drafts.
    pub notifications: Option<String>,
    /// Of the topic of dead letters.
    pub dead_letters: Option<String>,
}

/// Whether a topic is another one than it was; where one of the ids is not known, it is not.
pub fn is_another(known: Option<&str>, now: Option<&str>) -> bool {
    known.zip(now).is_some_and(|(known, now)| known != now)
}
