//! The statements with which what was applied is written: a constant number, however much arrived, sent together.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tokio_postgres::types::{ToSql, Type};

use crate::connect::{Parameter, Transaction};
use crate::errors::PostgresError;
use crate::number::Number;
use crate::sql;
use dinnerbell_core::model::campaign::{Campaign, CampaignState};
use dinnerbell_core::model::due::WaitingDeadLetter;
use dinnerbell_core::model::input::{DecodedRecord, RecordError};
use dinnerbell_core::model::intake::Tally;
use dinnerbell_core::model::number::{Lane, Seconds};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::Record;
use dinnerbell_core::ports::ledger::LedgerError;

/// Most bytes of records that one statement carries, unless one record is larger: what arrives is bounded elsewhere, and a statement here.
const STATEMENT_BYTES: usize = 8 << 20;

/// What a dead letter takes in a round beside what arrived, in bytes.
const DEAD_LETTER_FRAME: usize = 1_024;

/// What a transaction's changes has to write.
#[derive(Default)]
pub(super) struct Writes<'a> {
    letters: Vec<(Lane, &'a Record, RecordError)>,
    handed_over: Vec<(&'a str, &'a Record)>,
    changed: BTreeMap<&'a str, Changed<'a>>,
    applied: Vec<(i64, &'static str)>,
}

/// The outcome of a campaign: the last version decides, and each counts as one.
#[derive(Default)]
struct Changed<'a> {
    versions: i32,
    newest: Option<&'a Campaign>,
    state: Option<CampaignState>,
}

impl<'a> Writes<'a> {
    /// The campaign gets this version, and this state with it.
    pub(super) fn update(&mut self, new: &'a Campaign, state: CampaignState) {
        let changed = self.changed.entry(&new.adv_campaign_id).or_default();
        changed.versions += 1;
        (changed.newest, changed.state) = (Some(new), Some(state));
    }

    /// The campaign, which was not, is cancelled.
    pub(super) fn cancel(&mut self, id: &'a str) {
        let changed = self.changed.entry(id).or_default();
        changed.versions += 1;
        changed.state = Some(CampaignState::Cancelled);
    }

    /// What arrived is recorded, raw, for the lane that owns the campaign.
    pub(super) fn hand_over(&mut self, id: &'a str, record: &'a Record) {
        self.handed_over.push((id, record));
    }

    /// A record that arrived in this lane became a dead letter.
    pub(super) fn dead_letter(&mut self, arrived: Lane, record: &'a Record, reason: RecordError) {
        self.letters.push((arrived, record, reason));
    }

    /// A change is applied.
    pub(super) fn applied(&mut self, id: i64, outcome: &'static str) {
        self.applied.push((id, outcome));
    }

    /// Writes all of it in one round trip, and what it counts as, where it counts. Returns the dead letters with the ids that they got.
    pub(super) async fn send(
        self,
        tx: &Transaction,
        own: Ownership,
        tally: Option<Tally>,
    ) -> Result<Vec<WaitingDeadLetter>, LedgerError> {
        let letters = portions(&self.letters, |(_, record, _)| record);
        let letters = letters.into_iter().map(|letters| insert_dead_letters(tx, own.lane, letters));
        let handed_over = portions(&self.handed_over, |(_, record)| record);
        let handed_over = handed_over.into_iter().map(|records| insert_changes(tx, own.lane, records));
        let (ids, _, (), (), ()) = futures_util::try_join!(
            try_join_all(letters),
            try_join_all(handed_over),
            change_campaigns(tx, &self.changed),
            mark_applied(tx, &self.applied),
            count(tx, own.lane, tally),
        )?;
        let waiting =
            |(id, (_, record, _)): (i64, &(Lane, &Record, RecordError))| WaitingDeadLetter { id, bytes: bytes(record) };
        Ok(ids.into_iter().flatten().zip(&self.letters).map(waiting).collect())
    }
}

/// What a dead letter takes in a round, in bytes: what arrived, its reason, and where it came from.
fn bytes(record: &Record) -> usize {
    record.size() + DEAD_LETTER_FRAME
}

/// Divides what is to be written into portions for one statement each.
fn portions<T>(all: &[T], record: impl Fn(&T) -> &Record) -> Vec<&[T]> {
    let (mut portions, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (place, one) in all.iter().enumerate() {
        let size = record(one).size();
        if place > from && bytes + size > STATEMENT_BYTES {
            portions.push(&all[from..place]);
            (from, bytes) = (place, 0);
        }
        bytes += size;
    }
    if from < all.len() {
        portions.push(&all[from..]);
    }
    portions
}

/// The columns of raw records, one array each. Headers stand one after the other, each with the place of its record.
#[derive(Default)]
struct Raw<'a> {
    offset: Vec<i64>,
    timestamp: Vec<i64>,
    key: Vec<Option<&'a [u8]>>,
    value: Vec<Option<&'a [u8]>>,
    of: Vec<i64>,
    header_name: Vec<&'a str>,
    header_value: Vec<Option<&'a [u8]>>,
}

impl<'a> Raw<'a> {
    fn of(records: impl Iterator<Item = &'a Record>) -> Self {
        let mut raw = Self::default();
        for (place, record) in (1..).zip(records) {
            raw.offset.push(record.offset.get());
            raw.timestamp.push(record.timestamp.get());
            raw.key.push(record.key.as_deref());
            raw.value.push(record.value.as_deref());
            for header in &record.headers {
                raw.of.push(place);
                raw.header_name.push(&header.name);
                raw.header_value.push(header.value.as_deref());
            }
        }
        raw
    }

    /// The records are `$2` to `$5`, their headers `$6` to `$8`.
    fn parameters(&self) -> [Parameter<'_>; 7] {
        [
            (&self.offset, Type::INT8_ARRAY),
            (&self.timestamp, Type::INT8_ARRAY),
            (&self.key, Type::BYTEA_ARRAY),
            (&self.value, Type::BYTEA_ARRAY),
            (&self.of, Type::INT8_ARRAY),
            (&self.header_name, Type::TEXT_ARRAY),
            (&self.header_value, Type::BYTEA_ARRAY),
        ]
    }
}

/// Returns the ids, in the order of the letters: they are given in the order in which the rows are inserted.
async fn insert_dead_letters(
    tx: &Transaction,
    lane: Lane,
    letters: &[(Lane, &Record, RecordError)],
) -> Result<Vec<i64>, PostgresError> {
    let raw = Raw::of(letters.iter().map(|(_, record, _)| *record));
    let arrived: Vec<i32> = letters.iter().map(|(arrived, ..)| arrived.get()).collect();
    let reasons: Vec<&str> = letters.iter().map(|(.., reason)| reason.reason.as_str()).collect();
    let fields: Vec<Option<&str>> = letters.iter().map(|(.., reason)| reason.field).collect();
    let sizes: Vec<i64> = letters.iter().map(|(_, record, _)| bytes(record) as i64).collect();
    let omitted = letters.iter().map(|(_, record, _)| record.omitted.as_ref());
    let parts: Vec<Option<String>> = omitted.clone().map(|omitted| Some(omitted?.parts.join(","))).collect();
    let digests = omitted.map(|omitted| omitted?.value.as_ref());
    let value_sizes: Vec<Option<i64>> = digests.clone().map(|digest| Some(digest?.size)).collect();
    let sha256: Vec<Option<&[u8]>> = digests.map(|digest| Some(digest?.sha256.as_slice())).collect();
    let mut parameters: Vec<Parameter<'_>> = vec![lane.parameter()];
    parameters.extend(raw.parameters());
    parameters.push((&arrived, Type::INT4_ARRAY));
    parameters.push((&reasons, Type::TEXT_ARRAY));
    parameters.push((&fields, Type::TEXT_ARRAY));
    parameters.push((&sizes, Type::INT8_ARRAY));
    parameters.push((&parts, Type::TEXT_ARRAY));
    parameters.push((&value_sizes, Type::INT8_ARRAY));
    parameters.push((&sha256, Type::BYTEA_ARRAY));
    let mut ids: Vec<i64> =
        tx.query(sql::INSERT_DEAD_LETTERS.text(), &parameters).await?.iter().map(|row| row.get(0)).collect();
    ids.sort_unstable();
    Ok(ids)
}

async fn insert_changes(tx: &Transaction, lane: Lane, records: &[(&str, &Record)]) -> Result<(), PostgresError> {
    let raw = Raw::of(records.iter().map(|(_, record)| *record));
    let ids: Vec<&str> = records.iter().map(|(id, _)| *id).collect();
    let mut parameters: Vec<Parameter<'_>> = vec![lane.parameter()];
    parameters.extend(raw.parameters());
    parameters.push((&ids, Type::TEXT_ARRAY));
    tx.execute(sql::INSERT_CHANGES.text(), &parameters).await.map(drop)
}

/// What is only cancelled keeps what it shows.
async fn change_campaigns(tx: &Transaction, changed: &BTreeMap<&str, Changed<'_>>) -> Result<(), PostgresError> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut columns = CampaignColumns::default();
    let mut versions = Vec::with_capacity(changed.len());
    let mut states = Vec::with_capacity(changed.len());
    for (id, changed) in changed {
        versions.push(changed.versions);
        states.push(changed.state.map(CampaignState::name));
        columns.push(id, changed.newest);
    }
    let mut parameters: Vec<Parameter<'_>> = vec![(&versions, Type::INT4_ARRAY), (&states, Type::TEXT_ARRAY)];
    parameters.extend(columns.parameters());
    tx.execute(sql::CHANGE_CAMPAIGNS.text(), &parameters).await.map(drop)
}

async fn mark_applied(tx: &Transaction, applied: &[(i64, &'static str)]) -> Result<(), PostgresError> {
    if applied.is_empty() {
        return Ok(());
    }
    let sql = "update dinnerbell.change ch set judged_as = j.verdict, judged_at = clock_timestamp() \
               from unnest($1::int8[], $2::text[]) as j (id, verdict) where ch.id = j.id";
    let (ids, outcomes): (Vec<i64>, Vec<&str>) = applied.iter().copied().unzip();
    tx.execute(sql, &[(&ids, Type::INT8_ARRAY), (&outcomes, Type::TEXT_ARRAY)]).await.map(drop)
}

/// Counts as what the records ended.
async fn count(tx: &Transaction, lane: Lane, tally: Option<Tally>) -> Result<(), PostgresError> {
    let Some(tally) = tally else { return Ok(()) };
    let Tally { campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters } = tally;
    let counts =
        [campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters, tally.records()];
    let mut parameters: Vec<Parameter<'_>> = vec![lane.parameter()];
    parameters.extend(counts.iter().map(|count| (count as &(dyn ToSql + Sync), Type::INT8)));
    tx.execute(sql::COUNT_ARRIVALS.text(), &parameters).await.map(drop)
}

/// Inserts those of these campaigns that nobody has inserted, in the order of their ids; a tombstone as the cancelled campaign. Returns their
/// ids.
pub(super) async fn insert_campaigns(
    tx: &Transaction,
    lane: Lane,
    first: &BTreeMap<&str, &(Record, DecodedRecord)>,
    now: Seconds,
) -> Result<Vec<String>, PostgresError> {
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let mut columns = CampaignColumns::default();
    let mut states = Vec::with_capacity(first.len());
    let mut offsets = Vec::with_capacity(first.len());
    for (id, (record, decoded)) in first {
        let campaign = match decoded {
            DecodedRecord::Campaign(campaign) => Some(campaign),
            _ => None,
        };
        states.push(
            campaign.map_or(CampaignState::Cancelled, |campaign| CampaignState::of(campaign.window, false, now)).name(),
        );
        offsets.push(record.offset.get());
        columns.push(id, campaign);
    }
    let mut parameters: Vec<Parameter<'_>> =
        vec![lane.parameter(), (&states, Type::TEXT_ARRAY), (&offsets, Type::INT8_ARRAY)];
    parameters.extend(columns.parameters());
    Ok(tx.query(sql::INSERT_CAMPAIGNS.text(), &parameters).await?.iter().map(|row| row.get(0)).collect())
}

/// The columns of campaigns, one array each, in the order in which `insert_campaigns.sql` takes them; all but the id may be null.
#[derive(Default)]
struct CampaignColumns<'a> {
    id: Vec<&'a str>,
    restaurant: Vec<Option<&'a str>>,
    content: Vec<Option<&'a str>>,
    owner: Vec<Option<&'a str>>,
    contact: Vec<Option<&'a str>>,
    start: Vec<Option<i64>>,
    end: Vec<Option<i64>>,
    created: Vec<Option<i64>>,
}

impl<'a> CampaignColumns<'a> {
    fn push(&mut self, id: &'a str, campaign: Option<&'a Campaign>) {
        self.id.push(id);
        self.restaurant.push(campaign.map(|campaign| campaign.restaurant_id.as_str()));
        self.content.push(campaign.map(|campaign| campaign.adv_campaign_content.as_str()));
        self.owner.push(campaign.map(|campaign| campaign.adv_campaign_owner.as_str()));
        self.contact.push(campaign.map(|campaign| campaign.adv_campaign_owner_contact.as_str()));
        self.start.push(campaign.map(|campaign| campaign.window.start.get()));
        self.end.push(campaign.map(|campaign| campaign.window.end.get()));
        self.created.push(campaign.map(|campaign| campaign.datetime_created.get()));
    }

    fn parameters(&self) -> [Parameter<'_>; 8] {
        let (text, int) = (Type::TEXT_ARRAY, Type::INT8_ARRAY);
        [
            (&self.id, text.clone()),
            (&self.restaurant, text.clone()),
            (&self.content, text.clone()),
            (&self.owner, text.clone()),
            (&self.contact, text),
            (&self.start, int.clone()),
            (&self.end, int.clone()),
            (&self.created, int),
        ]
    }
}
