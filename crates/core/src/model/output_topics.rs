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
pub fn is_another<T: PartialEq + ?Sized>(known: Option<&T>, now: Option<&T>) -> bool {
    known.zip(now).is_some_and(|(known, now)| known != now)
}

/// Whether a topic is not the one that was found: another one, or there is one where none was. A topic whose id is not known now is not.
pub fn is_new<T: PartialEq + ?Sized>(found: Option<&T>, now: Option<&T>) -> bool {
    now.is_some() && found != now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_comes_where_none_was_found_is_new_and_a_server_that_knows_no_ids_shows_none() {
        assert!(is_new(None, Some("b")) && is_new(Some("a"), Some("b")));
        assert!(!is_new(Some("a"), Some("a")) && !is_new(Some("a"), None) && !is_new::<str>(None, None));
    }
}
