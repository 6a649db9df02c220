//! Who is in the consumer group: a member that is not an instance of this service keeps the lanes that it is given, and nobody runs them.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::groups::GroupMemberInfo;

use super::client::REQUEST_TIMEOUT;
use super::membership::NAME;
use dinnerbell_core::model::finding::Findings;

/// What the findings are named by.
const CHECK: &str = "kafka-group-members";

/// A member of the group, as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its `client.id`.
    pub client: String,
    /// The address from which it joined.
    pub host: String,
    /// The topics that it subscribes to; none while the group rebalances.
    pub topics: Vec<String>,
    /// The partitions that it is assigned, with their topics.
    pub assigned: Vec<(String, i32)>,
}

impl GroupMember {
    fn of(member: &GroupMemberInfo) -> Self {
        Self {
            client: member.client_id().to_owned(),
            host: member.client_host().trim_start_matches('/').to_owned(),
            topics: member.metadata().and_then(subscribed).unwrap_or_default(),
            assigned: member.assignment().and_then(assigned).unwrap_or_default(),
        }
    }

    /// Whether it is an instance of this service: its client calls itself as ours do, and it wants this topic and no other.
    fn is_ours(&self, campaigns: &str) -> bool {
        self.client.ends_with(&format!("-{NAME}")) && self.topics.iter().all(|topic| topic == campaigns)
    }
}

/// The members of a group; none where nobody knows the group.
pub fn members(
    consumer: &BaseConsumer<impl rdkafka::consumer::ConsumerContext>,
    group: &str,
) -> KafkaResult<Vec<GroupMember>> {
    let groups = consumer.fetch_group_list(Some(group), REQUEST_TIMEOUT)?;
    let found = groups.groups().iter().find(|found| found.name() == group);
    Ok(found.map(|found| found.members().iter().map(GroupMember::of).collect()).unwrap_or_default())
}

/// Names the members that are not instances of this service: an error where they have lanes.
pub fn check(group: &str, campaigns: &str, members: &[GroupMember], found: &mut Findings) {
    let (ours, foreign): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.is_ours(campaigns));
    for GroupMember { client, host, topics, assigned } in foreign {
        let lanes: Vec<String> =
            assigned.iter().filter(|(topic, _)| topic == campaigns).map(|(_, lane)| lane.to_string()).collect();
        let who = format!("client {client} at {host}, which is no instance of this service");
        let remedy = format!("end that client, or give it a group of its own: group {group} is this service's alone");
        match lanes.is_empty() {
            true => {
                let topics = if topics.is_empty() { "no topic".to_owned() } else { topics.join(", ") };
                found.warn(CHECK, format!("a member of group {group} is {who}; it subscribes to {topics}"), remedy);
            }
            false => {
                let lanes = lanes.join(", ");
                let what = format!(
                    "group {group} assigned partitions {lanes} of {campaigns} to {who}: nobody runs these lanes"
                );
                found.fail(CHECK, what, remedy);
            }
        }
    }
    if ours.len() == members.len() {
        found.ok(CHECK, format!("group {group} has {} members, each an instance of this service", ours.len()));
    }
}

/// The topics of a subscription: a version, and what the consumer protocol has after it.
fn subscribed(bytes: &[u8]) -> Option<Vec<String>> {
    let mut bytes = Bytes(bytes);
    bytes.int16()?;
    (0..bytes.int32()?).map(|_| bytes.string()).collect()
}

/// The partitions of an assignment.
fn assigned(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut bytes = Bytes(bytes);
    bytes.int16()?;
    let mut found = Vec::new();
    for _ in 0..bytes.int32()? {
        let topic = bytes.string()?;
        for _ in 0..bytes.int32()? {
            found.push((topic.clone(), bytes.int32()?));
        }
    }
    Some(found)
}

/// What is left of a message. Whatever is cut short gives nothing.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn int16(&mut self) -> Option<i16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i16::from_be_bytes(*first))
    }

    fn int32(&mut self) -> Option<i32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*first))
    }

    fn string(&mut self) -> Option<String> {
        let length = usize::try_from(self.int16()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_core::model::finding::Status;

    fn member(client: &str, topics: &[&str], lanes: &[i32]) -> GroupMember {
        let assigned = lanes.iter().map(|lane| ("campaigns".to_owned(), *lane)).collect();
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        GroupMember { client: client.to_owned(), host: "10.0.0.7".to_owned(), topics, assigned }
    }

    #[test]
    fn what_the_consumer_protocol_says_is_read_and_what_is_cut_short_says_nothing() {
        let subscription = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(subscribed(subscription), Some(vec!["a".to_owned(), "bc".to_owned()]));
        let assignment = b"\0\0\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x03\0\0\0\x07\xff\xff\xff\xff";
        assert_eq!(assigned(assignment), Some(vec![("a".to_owned(), 3), ("a".to_owned(), 7)]));
        assert_eq!((subscribed(&subscription[..9]), assigned(&assignment[..20]), assigned(b"")), (None, None, None));
    }

    #[test]
    fn a_member_with_lanes_that_is_no_instance_is_an_error_and_one_without_is_warned_of() {
        let ours = member("dinnerbell-member", &["campaigns"], &[0]);
        let rebalancing = member("a-host-member", &[], &[]);
        let said = |members: &[GroupMember]| {
            let mut found = Findings::default();
            check("group", "campaigns", members, &mut found);
            found.into_all().into_iter().map(|finding| (finding.status, finding.found)).collect::<Vec<_>>()
        };
        assert_eq!(said(&[ours.clone(), rebalancing.clone()])[0].0, Status::Ok);
        let other_topic = member("dinnerbell-member", &["campaigns", "other"], &[]);
        let console = member("console-consumer", &["campaigns"], &[1, 2]);
        let found = said(&[ours, rebalancing, other_topic, console]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].0, found[1].0), (Status::Warning, Status::Error));
        assert!(
            found[1].1.contains("partitions 1, 2 of campaigns to client console-consumer at 10.0.0.7"),
            "{found:?}"
        );
    }
}
