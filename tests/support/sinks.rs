//! What both sinks hold, compared as exact multisets. Nothing here is shared with what writes them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use uuid::Uuid;

use super::campaign::Campaign;
use super::database::Database;
use super::kafka::Message;

/// The fields of an output message, in their order.
pub const MESSAGE_FIELDS: [&str; 10] = [
    "restaurant_id",
    "adv_campaign_id",
    "adv_campaign_content",
    "adv_campaign_owner",
    "adv_campaign_owner_contact",
    "adv_campaign_datetime_start",
    "adv_campaign_datetime_end",
    "client_id",
    "datetime_created",
    "trigger_datetime_created",
];

/// How many differing drafts a failed comparison shows of each kind.
const SHOWN: usize = 10;

/// A draft without the moment at which it was formed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Draft {
    pub campaign: String,
    pub client: String,
    pub restaurant: String,
    pub content: String,
    pub owner: String,
    pub contact: String,
    pub start: i64,
    pub end: i64,
    pub created: i64,
}

impl Draft {
    /// The draft of a campaign for a client.
    pub fn new(campaign: &Campaign, client: &str) -> Self {
        Self {
            campaign: campaign.adv_campaign_id.clone(),
            client: client.to_owned(),
            restaurant: campaign.restaurant_id.clone(),
            content: campaign.adv_campaign_content.clone(),
            owner: campaign.adv_campaign_owner.clone(),
            contact: campaign.adv_campaign_owner_contact.clone(),
            start: campaign.adv_campaign_datetime_start,
            end: campaign.adv_campaign_datetime_end,
            created: campaign.datetime_created,
        }
    }

    /// From a message's value or a row, both with the columns' names; and when it was formed.
    fn read(object: &Value) -> (Self, i64) {
        let text =
            |name: &str| object[name].as_str().unwrap_or_else(|| panic!("no text {name} in {object}")).to_owned();
        let number = |name: &str| object[name].as_i64().unwrap_or_else(|| panic!("no number {name} in {object}"));
        let draft = Self {
            campaign: text("adv_campaign_id"),
            client: text("client_id"),
            restaurant: text("restaurant_id"),
            content: text("adv_campaign_content"),
            owner: text("adv_campaign_owner"),
            contact: text("adv_campaign_owner_contact"),
            start: number("adv_campaign_datetime_start"),
            end: number("adv_campaign_datetime_end"),
            created: number("datetime_created"),
        };
        (draft, number("trigger_datetime_created"))
    }
}

/// The drafts that both sinks shall hold, each once.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    drafts: Vec<Draft>,
}

impl Expected {
    /// Adds the drafts of a campaign for clients.
    pub fn add<C: AsRef<str>>(&mut self, campaign: &Campaign, clients: impl IntoIterator<Item = C>) -> &mut Self {
        self.drafts.extend(clients.into_iter().map(|client| Draft::new(campaign, client.as_ref())));
        self
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Compares both sinks with this and with each other; none if all is as it shall be, else what differs.
    pub fn difference(&self, rows: &[FoundDraft], messages: &[FoundDraft]) -> Option<String> {
        let mut report = String::new();
        compare("feedback rows", &self.drafts, rows, &mut report);
        compare("messages", &self.drafts, messages, &mut report);
        if report.is_empty() {
            let by_draft: BTreeMap<_, _> = rows.iter().map(|found| (&found.draft, found.formed)).collect();
            let apart = messages.iter().filter(|found| by_draft[&found.draft] != found.formed);
            list("drafts formed at another moment in the row than in the message", apart, &mut report);
        }
        (!report.is_empty()).then_some(report)
    }
}

impl<'a, C: AsRef<str>, I: IntoIterator<Item = C>, const N: usize> From<[(&'a Campaign, I); N]> for Expected {
    fn from(campaigns: [(&'a Campaign, I); N]) -> Self {
        let mut expected = Self::default();
        for (campaign, clients) in campaigns {
            expected.add(campaign, clients);
        }
        expected
    }
}

/// A draft as found in a sink.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundDraft {
    pub draft: Draft,
    /// `trigger_datetime_created`.
    pub formed: i64,
    /// Where it was found.
    pub place: String,
}

impl std::fmt::Debug for FoundDraft {
    /// Short: a report shows many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { draft: Draft { campaign, client, content, .. }, formed, place } = self;
        let content: String = content.chars().take(40).collect();
        write!(f, "{campaign} for {client} ({content:?}), formed {formed}, {place}")
    }
}

/// The feedback table's rows.
#[track_caller]
pub fn rows(feedback: &Database) -> Vec<FoundDraft> {
    let rows = feedback.query("select * from public.subscribers_feedback");
    let found = rows.iter().map(|row| {
        let (draft, formed) = Draft::read(row);
        FoundDraft { draft, formed, place: format!("row {}", row["id"]) }
    });
    found.collect()
}

/// The drafts in messages of the notifications topic.
#[track_caller]
pub fn drafts(messages: &[Message]) -> Vec<FoundDraft> {
    let found = messages.iter().map(|message| {
        let value = message.value.as_deref().expect("a draft's message has a value");
        let (draft, formed) = Draft::read(&serde_json::from_str(value).expect("a draft's value is JSON"));
        let round = message.header("dinnerbell_round").unwrap_or("none");
        FoundDraft { draft, formed, place: format!("offset {}/{}, round {round}", message.partition, message.offset) }
    });
    found.collect()
}

/// What of a message's form is not as the output contract says; none if all is well.
pub fn malformed(message: &Message, group: &str, partitions: usize) -> Option<String> {
    let value = message.value.as_deref()?;
    let fields: Vec<_> = match serde_json::from_str::<OrderedKeys>(value) {
        Ok(OrderedKeys(fields)) => fields,
        Err(error) => return Some(format!("the value is no JSON object: {error}")),
    };
    if fields != MESSAGE_FIELDS {
        return Some(format!("the fields are {fields:?}"));
    }
    let object: Value = serde_json::from_str(value).expect("it was parsed just now");
    let client = object["client_id"].as_str().unwrap_or_default();
    if message.key.as_deref() != Some(client) {
        return Some(format!("the key is {:?}", message.key));
    }
    let expected_partition = java_partition(client.as_bytes(), partitions);
    if message.partition != expected_partition {
        return Some(format!(
            "it is in partition {}, Java would have put it into {expected_partition}",
            message.partition
        ));
    }
    wrong_header(message, &object, group)
}

fn wrong_header(message: &Message, object: &Value, group: &str) -> Option<String> {
    let campaign = object["adv_campaign_id"].as_str().unwrap_or_default();
    let client = object["client_id"].as_str().unwrap_or_default();
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"dinnerbell");
    let id = Uuid::new_v5(&namespace, format!("{campaign}\0{client}").as_bytes()).to_string();
    let source = format!("/dinnerbell/{group}");
    let exact = [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_type", "dinnerbell.draft.v1"),
        ("ce_source", &source),
        ("content-type", "application/json"),
    ];
    for (name, value) in exact {
        if message.header(name) != Some(value) {
            return Some(format!("header {name} is {:?}, not {value:?}", message.header(name)));
        }
    }
    for (name, field) in [("ce_time", "trigger_datetime_created"), ("ce_expirytime", "adv_campaign_datetime_end")] {
        let time = message.header(name).and_then(|text| text.parse::<jiff::Timestamp>().ok());
        if time.map(jiff::Timestamp::as_second) != object[field].as_i64() {
            return Some(format!("header {name} is {:?}, {field} is {}", message.header(name), object[field]));
        }
    }
    let round: Vec<_> = message.header("dinnerbell_round").unwrap_or_default().split('/').collect();
    let numbers = round.len() == 3 && round[1..].iter().all(|part| part.parse::<u64>().is_ok());
    (!numbers).then(|| format!("header dinnerbell_round is {:?}", message.header("dinnerbell_round")))
}

/// The keys of a JSON object in their order.
struct OrderedKeys(Vec<String>);

impl<'de> serde::Deserialize<'de> for OrderedKeys {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> serde::de::Visitor<'de> for Keys {
            type Value = OrderedKeys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<OrderedKeys, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = map.next_key()? {
                    keys.push(key);
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
                Ok(OrderedKeys(keys))
            }
        }
        from.deserialize_map(Keys)
    }
}

/// Where the Java client puts a key: murmur2 of its bytes, its sign bit taken off, modulo the number of partitions.
fn java_partition(key: &[u8], partitions: usize) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).expect("keys are short");
    let mut hash = 0x9747_b28c ^ length;
    let words = key.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^= hash >> 15;
    let partition = (hash & 0x7fff_ffff) as usize % partitions;
    i32::try_from(partition).expect("a partition is a small number")
}

/// Appends to the report what a sink lacks, holds too often, and holds though it should not.
fn compare(sink: &str, expected: &[Draft], found: &[FoundDraft], report: &mut String) {
    let mut places: BTreeMap<&Draft, Vec<&FoundDraft>> = BTreeMap::new();
    for draft in expected {
        places.entry(draft).or_default();
    }
    assert_eq!(places.len(), expected.len(), "the test expects a draft twice");
    let mut unexpected = Vec::new();
    for one in found {
        match places.get_mut(&one.draft) {
            Some(known) => known.push(one),
            None => unexpected.push(one),
        }
    }
    let missing = places.iter().filter(|(_, known)| known.is_empty()).map(|(draft, _)| draft);
    list(&format!("missing in the {sink}"), missing, report);
    let twice = places.values().filter(|known| known.len() > 1);
    list(&format!("more than once in the {sink}"), twice, report);
    list(&format!("unexpected in the {sink}"), unexpected.iter(), report);
}

fn list<T: std::fmt::Debug>(what: &str, items: impl Iterator<Item = T>, report: &mut String) {
    let items: Vec<_> = items.collect();
    if !items.is_empty() {
        writeln!(report, "{what}: {}", items.len()).expect("a String takes everything");
        for item in items.iter().take(SHOWN) {
            writeln!(report, "    {item:?}").expect("a String takes everything");
        }
    }
}
