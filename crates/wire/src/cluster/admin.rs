//! What is asked and ordered of a cluster beside the rounds: how topics are configured; topics and groups that are made and dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResponse;
use kafka_protocol::messages::metadata_request::MetadataRequest;
use kafka_protocol::messages::metadata_response::MetadataResponse;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::{Cluster, Coordinator, address_of, topic_name};
use crate::error::{WireError, check};

/// What the protocol calls a topic, where kinds of things are told apart.
const TOPIC: i8 = 2;
/// As many replicas as the brokers usually make.
const USUAL_REPLICAS: i16 = -1;
/// From the version that knows the usual number of replicas.
const CREATE_TOPICS: (i16, i16) = (4, 7);
const DELETE_TOPICS: (i16, i16) = (1, 6);
const DELETE_GROUPS: (i16, i16) = (0, 2);

const READING_SETTINGS: &str = "reading the settings of topics";

impl Cluster {
    /// What topics are configured with, by their names; those alone whose configuration this user may read. Fails where it is not known for one of
    /// them whether that is so: silence is no right that is missing.
    pub async fn settings_of(
        &self,
        topics: &[&str],
        deadline: Instant,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, WireError> {
        let request = |_| {
            let topic = |name: &&str| {
                let name = StrBytes::from_string((*name).to_owned());
                DescribeConfigsResource::default()
                    .with_resource_type(TOPIC)
                    .with_resource_name(name)
                    .with_configuration_keys(None)
            };
            DescribeConfigsRequest::default().with_resources(topics.iter().map(topic).collect())
        };
        let (answer, at) = self.ask_any(READING_SETTINGS, (1, 4), request, deadline).await?;
        read_settings(&answer, topics, &at)
    }

    /// Makes a topic with the brokers' usual number of replicas. Where it is only to be tried, none is made.
    pub async fn make_topic(
        &self,
        name: &str,
        partitions: i32,
        only_tried: bool,
        deadline: Instant,
    ) -> Result<(), WireError> {
        const DOING: &str = "making a topic";
        let request = |_| {
            let topic = CreatableTopic::default()
                .with_name(topic_name(name))
                .with_num_partitions(partitions)
                .with_replication_factor(USUAL_REPLICAS);
            let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_validate_only(only_tried);
            request.with_timeout_ms(millis_until(deadline))
        };
        let at = self.controller(deadline).await?;
        let answer = self.ask_one(DOING, CREATE_TOPICS, &request, &at, deadline).await?;
        let done = answer.topics.iter().map(|topic| (topic.error_code, topic.error_message.as_deref()));
        check_one(DOING, &at, done)
    }

    /// Drops a topic.
    pub async fn drop_topic(&self, name: &str, deadline: Instant) -> Result<(), WireError> {
        const DOING: &str = "dropping a topic";
        let request = |version| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(millis_until(deadline));
            match version >= 6 {
                true => request.with_topics(vec![DeleteTopicState::default().with_name(Some(topic_name(name)))]),
                false => request.with_topic_names(vec![topic_name(name)]),
            }
        };
        let at = self.controller(deadline).await?;
        let answer = self.ask_one(DOING, DELETE_TOPICS, &request, &at, deadline).await?;
        let done = answer.responses.iter().map(|topic| (topic.error_code, topic.error_message.as_deref()));
        check_one(DOING, &at, done)
    }

    /// Drops a group that has no member.
    pub async fn drop_group(&self, name: &str, deadline: Instant) -> Result<(), WireError> {
        const DOING: &str = "dropping a group";
        let request = |_| {
            let name = StrBytes::from_string(name.to_owned());
            DeleteGroupsRequest::default().with_groups_names(vec![name.into()])
        };
        let at = self.coordinator(Coordinator::Group, name, deadline).await?.address;
        let answer = self.ask_one(DOING, DELETE_GROUPS, &request, &at, deadline).await?;
        check_one(DOING, &at, answer.results.iter().map(|group| (group.error_code, None)))
    }

    /// How many brokers there are.
    pub async fn broker_count(&self, deadline: Instant) -> Result<usize, WireError> {
        Ok(self.described("counting the brokers", deadline).await?.0.brokers.len())
    }

    /// The broker that takes orders about topics.
    async fn controller(&self, deadline: Instant) -> Result<String, WireError> {
        let (answer, at) = self.described("finding the controller", deadline).await?;
        let controller = answer.brokers.iter().find(|broker| broker.node_id == answer.controller_id);
        Ok(controller.map_or(at, |broker| address_of(&broker.host, broker.port)))
    }

    /// The brokers and their controller, without any topic; and who said it.
    async fn described(&self, doing: &'static str, deadline: Instant) -> Result<(MetadataResponse, String), WireError> {
        let request = |_| MetadataRequest::default().with_topics(Some(Vec::new()));
        self.ask_any(doing, (4, 12), request, deadline).await
    }
}

fn millis_until(deadline: Instant) -> i32 {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
}

fn read_settings(
    answer: &DescribeConfigsResponse,
    topics: &[&str],
    at: &str,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, WireError> {
    let mut read = BTreeMap::new();
    for name in topics {
        let unsaid = || WireError::Unreadable {
            doing: READING_SETTINGS,
            address: at.to_owned(),
            reason: format!("it says nothing of topic {name}"),
        };
        let topic = answer.results.iter().find(|topic| topic.resource_name.as_str() == *name).ok_or_else(unsaid)?;
        match check(READING_SETTINGS, at, topic.error_code, topic.error_message.as_deref()) {
            Ok(()) => {}
            Err(error) if error.is_missing_right() => continue,
            Err(error) => return Err(error),
        }
        let values =
            topic.configs.iter().filter_map(|one| Some((one.name.to_string(), one.value.as_ref()?.to_string())));
        read.insert((*name).to_owned(), values.collect());
    }
    Ok(read)
}

/// Fails with the refusal of the one that an order was about, and where nothing is said of it: silence is no consent.
fn check_one<'a>(
    doing: &'static str,
    address: &str,
    mut answers: impl Iterator<Item = (i16, Option<&'a str>)>,
) -> Result<(), WireError> {
    let unsaid = || WireError::Unreadable { doing, address: address.to_owned(), reason: "it says nothing".into() };
    let (code, message) = answers.next().ok_or_else(unsaid)?;
    check(doing, address, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_nothing_is_said_of_is_not_carried_out() {
        let told = |codes: &[i16]| check_one("ordering", "b:9092", codes.iter().map(|code| (*code, None)));
        assert!(told(&[0]).is_ok());
        assert!(matches!(told(&[]), Err(WireError::Unreadable { .. })));
        assert!(matches!(told(&[3]), Err(WireError::Answered { .. })));
    }
}
