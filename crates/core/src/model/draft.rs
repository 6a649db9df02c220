//! A draft: one notification for one (campaign, client), as a message and as a row.
//!
//! A million drafts of a campaign differ in their client alone. So [`DraftTemplate`] encodes everything else once, and a draft is a few copies of
//! bytes.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use sha1::{Digest, Sha1};
use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

use crate::model::campaign::Campaign;
use crate::model::clients::Clients;
use crate::model::limits::{LONGEST_CLIENT_ID, LONGEST_CONTENT, LONGEST_NAME};
use crate::model::number::Seconds;

/// The feedback table's columns that a draft fills: all but `id` and `feedback`.
pub const FEEDBACK_COLUMNS: &str = "restaurant_id, adv_campaign_id, adv_campaign_content, adv_campaign_owner, \
     adv_campaign_owner_contact, adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id, \
     trigger_datetime_created";
/// How many columns [`DraftRows`] writes: those, and `feedback`.
const FEEDBACK_COLUMN_COUNT: i16 = 11;
/// What follows a client in a row: its own moment and the answer, in bytes.
const AFTER_CLIENT: usize = 16;
/// What precedes the value of a column that is null.
const NULL: i32 = -1;

/// The statement that takes what [`DraftRows`] writes. `feedback` is copied as null: a default would look like somebody's answer.
pub fn copy_into(table: &str) -> String {
    format!("copy {table} ({FEEDBACK_COLUMNS}, feedback) from stdin (format binary)")
}

/// The type of the feedback table's `trigger_datetime_created`: COPY in binary format converts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerType {
    /// As the table is made; it ends in January 2038.
    Int4,
    /// As it is widened before then.
    Int8,
}

/// What precedes the rows of a COPY in binary format: its signature, no flags, no extension.
pub const COPY_HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What follows them.
pub const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// A header of a draft: its name and its value.
pub type DraftHeader = (&'static str, Box<[u8]>);

/// The header that holds a draft's own id: [`DraftTemplate::ce_id`].
pub const CE_ID: &str = "ce_id";
/// The header that names a draft's round: `topic/partition/seq`.
pub const ROUND_HEADER: &str = "dinnerbell_round";
/// The header that names the service whose draft it is: see [`source`].
pub const SOURCE_HEADER: &str = "ce_source";
/// How the source of every service begins.
pub const SOURCES: &str = "/dinnerbell/";

/// How the service of this group names itself in [`SOURCE_HEADER`].
pub fn source(group: &str) -> String {
    format!("{SOURCES}{group}")
}

/// Most bytes of a draft as a message, with key and headers: the longest texts that are allowed, every byte of them escaped in JSON.
pub const LARGEST_MESSAGE: usize = 6 * (LONGEST_CONTENT + 4 * LONGEST_NAME + LONGEST_CLIENT_ID) + 4_096;

/// UUIDv5 of "dinnerbell" in the URL namespace: the namespace of every draft's id.
const NAMESPACE: Uuid = Uuid::from_u128(0xe31e_da82_212a_5476_b9bf_6582_aa39_eb44);

/// The drafts of one campaign in one round: what is common to them, and the clients.
#[derive(Debug, Clone)]
pub struct DraftBatch {
    /// Everything of a draft but its client.
    pub template: Arc<DraftTemplate>,
    /// Who is told.
    pub clients: Clients,
}

impl DraftBatch {
    /// What its messages take on their way, in bytes.
    pub fn size_of_messages(&self) -> usize {
        // Each client is in its key and in its value.
        2 * self.clients.size() + self.clients.len() * (self.template.message_size() + MESSAGE_FRAME)
    }

    /// What its drafts take as messages and as rows, in bytes.
    pub fn size(&self) -> usize {
        // Each client is in a message's key and value, and in a row.
        3 * self.clients.size() + self.clients.len() * self.template.size()
    }

    /// The checksum of its drafts, in any order: add batches with `wrapping_add`.
    pub fn checksum(&self) -> u64 {
        self.clients.iter().fold(0, |sum, client| sum.wrapping_add(self.template.checksum(client)))
    }
}

/// What the client library holds of a message beside its key, value and headers, generously.
const MESSAGE_FRAME: usize = 700;

/// What a dead letter adds to the checksum of the round that publishes it.
pub fn dead_letter_checksum(id: i64) -> u64 {
    // A seed of its own, so that it stands apart from drafts.
    xxh3_64_with_seed(&id.to_le_bytes(), xxh3_64(b"dinnerbell dead letter"))
}

/// Why a campaign's drafts cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The feedback table keeps the moment in an int4.
    #[error(
        "trigger_datetime_created {0} does not fit into the feedback table's int4, which ends with {last} (19 January 2038): \
         check the clock of the feedback database, or make the column int8",
        last = i32::MAX
    )]
    TriggerOutOfRange(Seconds),
    /// RFC 3339 knows the years 0 to 9999.
    #[error("{field} {seconds} cannot be written as a time of RFC 3339, which ends with the year 9999")]
    TimeOutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        seconds: Seconds,
    },
}

/// Everything of a draft but its client, encoded once for each campaign version and round.
pub struct DraftTemplate {
    campaign: Arc<Campaign>,
    trigger_datetime_created: Seconds,
    /// The message up to the client id, and from there on.
    message: (Vec<u8>, Vec<u8>),
    /// The row up to the client id's length.
    row: Vec<u8>,
    headers: [DraftHeader; 6],
    /// Fed with everything of the id's name that precedes the client.
    id_hash: Sha1,
    checksum_seed: u64,
}

impl fmt::Debug for DraftTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DraftTemplate")
            .field("campaign", &self.campaign)
            .field("trigger_datetime_created", &self.trigger_datetime_created)
            .finish_non_exhaustive()
    }
}

impl DraftTemplate {
    /// Encodes what the drafts of a campaign version have in common. `group` is the Kafka group, which the drafts name as
    /// their source.
    ///
    /// # Errors
    ///
    /// Where one of the times fits into no header.
    pub fn new(campaign: Arc<Campaign>, trigger_datetime_created: Seconds, group: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            message: message_around_client(&campaign, trigger_datetime_created),
            row: row_before_client(&campaign),
            headers: headers(&campaign, trigger_datetime_created, group)?,
            id_hash: Sha1::new_with_prefix(NAMESPACE).chain_update(&campaign.adv_campaign_id).chain_update([0]),
            checksum_seed: checksum_seed(&campaign, trigger_datetime_created),
            campaign,
            trigger_datetime_created,
        })
    }

    /// The campaign version.
    pub fn campaign(&self) -> &Arc<Campaign> {
        &self.campaign
    }

    /// The moment at which the drafts were formed.
    pub fn trigger_datetime_created(&self) -> Seconds {
        self.trigger_datetime_created
    }

    /// Appends the value of a client's message: compact JSON. (Its key is the client id.)
    pub fn message_value(&self, client_id: &str, out: &mut Vec<u8>) {
        let (before, after) = &self.message;
        out.reserve(before.len() + client_id.len() + 2 + after.len());
        out.extend_from_slice(before);
        serde_json::to_writer(&mut *out, client_id).expect("a string can be written to memory");
        out.extend_from_slice(after);
    }

    /// The message up to the client id, which stands there as a JSON string, and from there on.
    pub fn value_around_client(&self) -> (&[u8], &[u8]) {
        (&self.message.0, &self.message.1)
    }

    /// What every message holds beside its client, headers included, in bytes.
    fn message_size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.message.0.len() + self.message.1.len() + headers
    }

    /// What a draft takes beside its client, as a message and as a row, in bytes.
    pub fn size(&self) -> usize {
        self.message_size() + self.row.len() + AFTER_CLIENT
    }

    /// The drafts' feedback rows, for a table with such a column.
    ///
    /// # Errors
    ///
    /// Where the column ends before the moment at which the drafts were formed.
    pub fn rows(&self, column: TriggerType) -> Result<DraftRows<'_>, TemplateError> {
        let trigger = self.trigger_datetime_created;
        let mut after = Vec::with_capacity(AFTER_CLIENT);
        match column {
            TriggerType::Int4 => {
                let trigger = i32::try_from(trigger.get()).map_err(|_| TemplateError::TriggerOutOfRange(trigger))?;
                after.put_i32(4);
                after.put_i32(trigger);
            }
            TriggerType::Int8 => {
                after.put_i32(8);
                after.put_i64(trigger.get());
            }
        }
        after.put_i32(NULL);
        Ok(DraftRows { before: &self.row, after })
    }

    /// The headers that all drafts of the template share. [`CE_ID`] and [`ROUND_HEADER`] come on top.
    pub fn headers(&self) -> &[DraftHeader] {
        &self.headers
    }

    /// The value of [`CE_ID`], a draft's idempotency key: UUIDv5 of campaign, NUL and client, as text. It depends on nothing
    /// else, so that an update or another round cannot tell a client twice.
    pub fn ce_id(&self, client_id: &str) -> [u8; 36] {
        let digest = self.id_hash.clone().chain_update(client_id).finalize();
        let bytes = digest[..16].try_into().expect("SHA-1 has 20 bytes");
        let id = uuid::Builder::from_sha1_bytes(bytes).into_uuid();
        let mut text = [0; 36];
        id.hyphenated().encode_lower(&mut text);
        text
    }

    /// What a draft adds to the checksum of its round: all fields of the campaign, the moment and the client.
    pub fn checksum(&self, client_id: &str) -> u64 {
        xxh3_64_with_seed(client_id.as_bytes(), self.checksum_seed)
    }
}

impl Campaign {
    /// About what a draft of it takes as a message and as a row, in bytes; before anything is encoded.
    pub fn draft_size(&self) -> usize {
        let size = |text: &str| text.bytes().map(size_in_json).sum::<usize>() + text.len();
        SIZE_WITHOUT_TEXTS + texts(self).into_iter().map(size).sum::<usize>()
    }
}

/// What a draft takes beside the texts of its campaign, as a message and as a row, in bytes.
const SIZE_WITHOUT_TEXTS: usize = 700;

/// What a byte of a text takes in JSON.
pub fn size_in_json(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

/// What a draft takes at most, of a campaign whose texts were not read and have this many bytes together.
pub fn largest_draft(texts: usize) -> usize {
    // Once in the row, and at most sixfold in the message.
    SIZE_WITHOUT_TEXTS + 7 * texts
}

/// A template's feedback rows in COPY's binary format.
#[derive(Debug)]
pub struct DraftRows<'a> {
    before: &'a [u8],
    after: Vec<u8>,
}

impl DraftRows<'_> {
    /// Appends a client's row: the columns of [`FEEDBACK_COLUMNS`], and `feedback` as null.
    pub fn append(&self, client_id: &str, out: &mut BytesMut) {
        out.reserve(self.before.len() + 4 + client_id.len() + self.after.len());
        out.extend_from_slice(self.before);
        put_text(out, client_id);
        out.extend_from_slice(&self.after);
    }
}

/// The fields of a message that precede its client, in their order.
#[derive(Serialize)]
struct BeforeClient<'a> {
    restaurant_id: &'a str,
    adv_campaign_id: &'a str,
    adv_campaign_content: &'a str,
    adv_campaign_owner: &'a str,
    adv_campaign_owner_contact: &'a str,
    adv_campaign_datetime_start: Seconds,
    adv_campaign_datetime_end: Seconds,
}

fn message_around_client(campaign: &Campaign, trigger: Seconds) -> (Vec<u8>, Vec<u8>) {
    let fields = BeforeClient {
        restaurant_id: &campaign.restaurant_id,
        adv_campaign_id: &campaign.adv_campaign_id,
        adv_campaign_content: &campaign.adv_campaign_content,
        adv_campaign_owner: &campaign.adv_campaign_owner,
        adv_campaign_owner_contact: &campaign.adv_campaign_owner_contact,
        adv_campaign_datetime_start: campaign.window.start,
        adv_campaign_datetime_end: campaign.window.end,
    };
    let mut before = serde_json::to_vec(&fields).expect("strings and integers can be written to memory");
    before.pop(); // the object goes on
    before.extend_from_slice(br#","client_id":"#);
    let created = campaign.datetime_created;
    let after = format!(r#","datetime_created":{created},"trigger_datetime_created":{trigger}}}"#);
    (before, after.into_bytes())
}

fn row_before_client(campaign: &Campaign) -> Vec<u8> {
    let mut before = Vec::new();
    before.put_i16(FEEDBACK_COLUMN_COUNT);
    for text in texts(campaign) {
        put_text(&mut before, text);
    }
    for time in times(campaign) {
        before.put_i32(8);
        before.put_i64(time.get());
    }
    before
}

fn put_text(out: &mut impl BufMut, text: &str) {
    out.put_i32(i32::try_from(text.len()).expect("texts of campaigns and clients hold at most 16 KiB"));
    out.put_slice(text.as_bytes());
}

fn headers(campaign: &Campaign, trigger: Seconds, group: &str) -> Result<[DraftHeader; 6], TemplateError> {
    let time = |field, seconds: Seconds| {
        let time = jiff::Timestamp::from_second(seconds.get()).ok().map(|time| time.to_string());
        // Years before 0 have a sign, which RFC 3339 does not know.
        time.filter(|time| !time.starts_with('-')).ok_or(TemplateError::TimeOutOfRange { field, seconds })
    };
    let texts = [
        ("ce_specversion", "1.0".to_owned()),
        ("ce_type", "dinnerbell.draft.v1".to_owned()),
        (SOURCE_HEADER, source(group)),
        ("ce_time", time("trigger_datetime_created", trigger)?),
        ("ce_expirytime", time("adv_campaign_datetime_end", campaign.window.end)?),
        ("content-type", "application/json".to_owned()),
    ];
    Ok(texts.map(|(name, value)| (name, value.into_bytes().into_boxed_slice())))
}

fn checksum_seed(campaign: &Campaign, trigger: Seconds) -> u64 {
    let mut hash = Xxh3::new();
    for text in texts(campaign) {
        // The length keeps neighbours apart.
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    for time in times(campaign).into_iter().chain([trigger]) {
        hash.update(&time.get().to_le_bytes());
    }
    hash.digest()
}

/// The texts of a campaign in the order of the feedback table.
fn texts(campaign: &Campaign) -> [&str; 5] {
    [
        &campaign.restaurant_id,
        &campaign.adv_campaign_id,
        &campaign.adv_campaign_content,
        &campaign.adv_campaign_owner,
        &campaign.adv_campaign_owner_contact,
    ]
}

/// The times of a campaign in the order of the feedback table.
fn times(campaign: &Campaign) -> [Seconds; 3] {
    [campaign.window.start, campaign.window.end, campaign.datetime_created]
}

#[cfg(test)]
mod tests;
