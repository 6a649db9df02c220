//! Recording a round, reading it back, withdrawing from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::Row;
use tokio_postgres::types::{Json, Type};

use super::due::{DEAD_LETTER, dead_letter};
use super::{CAMPAIGN, LOCKED_BY, NOW, OPEN, PostgresLedger, Turn, campaign, lost, refused, rows};
use crate::connect::{Connection, Parameter, Transaction};
use crate::errors::{PATIENCE, PostgresError};
use crate::identity;
use crate::predicate::of_campaign;
use dinnerbell_core::model::campaign::Window;
use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::due::ActiveCampaign;
use dinnerbell_core::model::late::LateQuestion;
use dinnerbell_core::model::mark::RoundHead;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::{DeadLetterMessage, Lane};
use dinnerbell_core::model::round::{RoundContent, RoundPart, Sealed, StoredRound};
use dinnerbell_core::ports::ledger::{LedgerError, OpenRound};

/// The part of a round as it stands in `dinnerbell.round_part`.
#[derive(Debug, Serialize)]
struct PartRow {
    part: i32,
    id: String,
    revision: i32,
    has_page: bool,
    after: Option<String>,
    upto: Option<String>,
    last: bool,
    already_told: Vec<String>,
    skipped: i64,
    late: Vec<String>,
    drafts: i64,
    checksum: i64,
}

impl PartRow {
    fn of(number: usize, part: &RoundPart) -> Self {
        let clients = &part.drafts.clients;
        let page = part.page.as_ref();
        Self {
            part: i32::try_from(number).unwrap_or(i32::MAX),
            id: part.drafts.template.campaign().adv_campaign_id.clone(),
            revision: part.revision,
            has_page: page.is_some(),
            after: page.and_then(|page| page.after.clone()),
            upto: page.and_then(|page| page.upto.clone()),
            last: page.is_some_and(|page| page.last),
            already_told: page.map(|page| page.already_told.clone()).unwrap_or_default(),
            skipped: page.map_or(0, |page| page.skipped.cast_signed()),
            late: clients.iter().skip(clients.len() - part.late).map(str::to_owned).collect(),
            drafts: clients.len() as i64,
            checksum: part.drafts.checksum().cast_signed(),
        }
    }
}

/// How `PartRow`s are read in SQL.
const PARTS: &str = "json_to_recordset($1) as p (part int4, id text, revision int4, has_page bool, after text, upto text, last bool, \
                     already_told json, skipped int8, late json, drafts int8, checksum int8)";

impl PostgresLedger {
    pub(super) async fn read_stored_round(&self, own: Ownership) -> Result<StoredRound, LedgerError> {
        let tx = self.begin(own).await?;
        let sql = "select r.seq, r.revision, r.checksum, r.drafts, r.position, r.trigger_datetime_created, r.dead_letters \
                   from dinnerbell.round r join dinnerbell.lane l using (lane, seq) where lane = $1";
        let row = tx.query_one(sql, &[(&own.lane, Type::INT4)]).await?;
        let head = RoundHead { seq: row.get(0), revision: row.get(1), checksum: row.get(2) };
        let letters: Vec<i64> = row.get(6);
        let sql = format!("{DEAD_LETTER} where id = any($1) order by id");
        let dead_letters = tx.query(&sql, &[(&letters, Type::INT8_ARRAY)]).await?.iter().map(dead_letter).collect();
        let (parts, mut batches) = futures_util::try_join!(
            async { Ok(parts(&tx, own.lane, head.seq).await?) },
            self.batches(&tx, own.lane, head.seq)
        )?;
        let mut stored = StoredRound {
            head,
            position: row.get(4),
            drafts: row.get::<_, i64>(3).cast_unsigned(),
            batches: Vec::new(),
            dead_letters,
            not_open: Vec::new(),
            open: Window::ALWAYS,
        };
        for part in parts.into_iter().filter(|part| part.drafts > 0) {
            stored.open = stored.open.and(part.window);
            stored.batches.extend(batches.remove(&part.part));
            if !part.open {
                stored.not_open.push(part.id);
            }
        }
        self.touched_its_own(&tx).await?;
        tx.commit().await?;
        Ok(stored)
    }

    /// The drafts of a round by the number of their part, from the feedback rows themselves: what was recorded is what is published.
    pub(super) async fn batches(
        &self,
        tx: &Transaction,
        lane: Lane,
        seq: i64,
    ) -> Result<BTreeMap<i32, DraftBatch>, LedgerError> {
        let round: [Parameter<'_>; 2] = [(&lane, Type::INT4), (&seq, Type::INT8)];
        let feedback = self.feedback();
        let one = format!("{CAMPAIGN}, trigger_datetime_created::int8 as formed");
        let templates = of_parts("p.part", &one, &feedback, " limit 1");
        let clients = of_parts("p.part", "client_id", &feedback, "");
        let mut batches = BTreeMap::new();
        for row in tx.query(&templates, &round).await? {
            let template = DraftTemplate::new(Arc::new(campaign(&row, 1)), row.get(9), &self.shared.group_id)
                .map_err(|error| LedgerError::Damaged(error.to_string()))?;
            batches.insert(row.get(0), DraftBatch { template: Arc::new(template), clients: Clients::new() });
        }
        let take = |row: &Row| {
            if let Some(batch) = batches.get_mut(&row.get::<_, i32>(0)) {
                batch.clients.push(row.get(1));
            }
            Ok(())
        };
        tx.for_each(&clients, round.to_vec(), PATIENCE, take).await?;
        Ok(batches)
    }

    /// Takes back the drafts of campaigns that are not open, or all: rows, counts and cursors, and changes the round's revision and checksum.
    pub(super) async fn withdraw_round(
        &self,
        own: Ownership,
        head: RoundHead,
        what: Withdrawn,
    ) -> Result<(), LedgerError> {
        let tx = self.begin(own).await?;
        let _turn = self.turn(own.lane).await;
        hold_last_round(&tx, own, head).await?;
        let mut parts = parts(&tx, own.lane, head.seq).await?;
        parts.retain(|part| what.is_of(part));
        self.withdraw_parts(&tx, own, head.seq, &parts).await?;
        self.rewrite_round(&tx, own, head).await?;
        if let Withdrawn::Everything { round_bytes } = what {
            let sql = "update dinnerbell.lane set round_bytes = $2 where lane = $1";
            tx.execute(sql, &[(&own.lane, Type::INT4), (&round_bytes, Type::INT8)]).await?;
        }
        self.touched_its_own(&tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes the dead letters out of a round: its revision and checksum change, and they wait for a later one.
    pub(super) async fn set_aside(&self, own: Ownership, head: RoundHead) -> Result<(), LedgerError> {
        let tx = self.begin(own).await?;
        let _turn = self.turn(own.lane).await;
        hold_last_round(&tx, own, head).await?;
        let key: [Parameter<'_>; 2] = [(&own.lane, Type::INT4), (&head.seq, Type::INT8)];
        let free = "update dinnerbell.dead_letter d set round_seq = null from dinnerbell.round r \
                    where r.lane = $1 and r.seq = $2 and d.id = any(r.dead_letters)";
        tx.execute(free, &key).await?;
        let [lane, seq] = key;
        tx.execute("update dinnerbell.round set dead_letters = '{}' where lane = $1 and seq = $2", &[lane, seq])
            .await?;
        self.rewrite_round(&tx, own, head).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The rows of some parts go, but for those in which somebody answered; how many stay. Counts and cursors go back.
    pub(super) async fn withdraw_parts(
        &self,
        tx: &Transaction,
        own: Ownership,
        seq: i64,
        parts: &[StoredPart],
    ) -> Result<i64, LedgerError> {
        let mut kept: BTreeMap<i32, i64> = parts.iter().map(|part| (part.part, part.drafts)).collect();
        let numbers: Vec<i32> = kept.keys().copied().collect();
        for (part, gone) in delete_rows(tx, &self.feedback(), own.lane, seq, &numbers).await? {
            *kept.entry(part).or_default() -= gone;
        }
        set_parts_back(tx, own.lane, seq, &kept).await?;
        Ok(kept.values().sum())
    }

    /// The round becomes the sum of the parts that are left.
    pub(super) async fn rewrite_round(
        &self,
        tx: &Transaction,
        own: Ownership,
        head: RoundHead,
    ) -> Result<(), LedgerError> {
        let sql = "select dead_letters from dinnerbell.round where lane = $1 and seq = $2";
        let key: [Parameter<'_>; 2] = [(&own.lane, Type::INT4), (&head.seq, Type::INT8)];
        let letters: Vec<i64> = tx.query_one(sql, &key).await?.get(0);
        let left = parts(tx, own.lane, head.seq).await?;
        let drafts: i64 = left.iter().map(|part| part.drafts).sum();
        let checksum = left.iter().fold(0u64, |sum, part| sum.wrapping_add(part.checksum.cast_unsigned()));
        let checksum = letters
            .iter()
            .fold(checksum, |sum, id| sum.wrapping_add(dinnerbell_core::model::draft::dead_letter_checksum(*id)));
        let sql = "update dinnerbell.round set revision = revision + 1, drafts = $3, checksum = $4 where lane = $1 and seq = $2";
        let [lane, seq] = key;
        let changed =
            tx.execute(sql, &[lane, seq, (&drafts, Type::INT8), (&checksum.cast_signed(), Type::INT8)]).await?;
        if changed == 1 { Ok(()) } else { Err(lost(own, "the round")) }
    }
}

/// Locks the lane's row, if this is still its last round.
async fn hold_last_round(tx: &Transaction, own: Ownership, head: RoundHead) -> Result<(), LedgerError> {
    let sql = "select 1 from dinnerbell.lane where lane = $1 and epoch = $2 and seq = $3 for update";
    let key: [Parameter<'_>; 3] = [(&own.lane, Type::INT4), (&own.epoch, Type::INT8), (&head.seq, Type::INT8)];
    if tx.query_opt(sql, &key).await?.is_some() { Ok(()) } else { Err(lost(own, "the last round")) }
}

/// What of a round is withdrawn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Withdrawn {
    /// What must not be published any more.
    WhatIsNotOpen,
    /// All of it, since it does not get through. The lane remembers how large a round may be.
    Everything { round_bytes: Option<i64> },
}

impl Withdrawn {
    fn is_of(self, part: &StoredPart) -> bool {
        part.drafts > 0 && (!part.open || matches!(self, Self::Everything { .. }))
    }
}

/// Deletes the rows of some parts, but for those in which somebody answered: how many, with their part.
pub(super) async fn delete_rows(
    tx: &Connection,
    feedback: &str,
    lane: Lane,
    seq: i64,
    parts: &[i32],
) -> Result<Vec<(i32, i64)>, PostgresError> {
    let delete = |of: &str, condition: String| {
        format!(
            "with gone as (delete from {feedback} using {of} where p.part = any($3) and {condition} and feedback is null \
             returning p.part) select part, count(*) from gone group by part"
        )
    };
    let round: [Parameter<'_>; 3] = [(&lane, Type::INT4), (&seq, Type::INT8), (&parts, Type::INT4_ARRAY)];
    let (pages, late) = (delete(PARTS_WITH_DRAFTS, on_the_page()), delete(&late_ones(), named("p.client")));
    let (pages, late) = futures_util::try_join!(tx.query(&pages, &round), tx.query(&late, &round))?;
    Ok(pages.iter().chain(&late).map(|row| (row.get(0), row.get(1))).collect())
}

/// Puts the counts and cursors of some parts' campaigns back to where they stood before the round. Of each part so many rows are kept.
async fn set_parts_back(
    tx: &Transaction,
    lane: Lane,
    seq: i64,
    kept: &BTreeMap<i32, i64>,
) -> Result<(), PostgresError> {
    let numbers: Vec<i32> = kept.keys().copied().collect();
    let kept: Vec<i64> = kept.values().copied().collect();
    let back = format!(
        "update dinnerbell.campaign c set told = told - p.drafts, late = c.late - cardinality(p.late), skipped = c.skipped - p.skipped, \
         kept = c.kept + k.kept, cursor = case when p.has_page then p.after_client else cursor end, \
         last_page_seq = case when p.has_page then null else last_page_seq end, unsent = null, state = {} \
         from dinnerbell.round_part p join unnest($3::int4[], $4::int8[]) as k (part, kept) using (part) \
         where p.lane = $1 and p.seq = $2 and c.adv_campaign_id = p.adv_campaign_id",
        state_after("p.has_page")
    );
    let emptied = "update dinnerbell.round_part set drafts = 0, checksum = 0, has_page = false, late = '{}' \
                   where lane = $1 and seq = $2 and part = any($3)";
    let round: [Parameter<'_>; 4] =
        [(&lane, Type::INT4), (&seq, Type::INT8), (&numbers, Type::INT4_ARRAY), (&kept, Type::INT8_ARRAY)];
    futures_util::try_join!(tx.execute(&back, &round), tx.execute(emptied, &round[..3]))?;
    Ok(())
}

/// The state of a campaign whose drafts were taken back, with the cursor where `page` says so: as its window has it by now.
pub(super) fn state_after(page: &str) -> String {
    format!(
        "case when state = 'cancelled' then state \
         when adv_campaign_datetime_end <= {NOW} then case when {page} or last_page_seq is null then 'expired' else 'closed' end \
         when adv_campaign_datetime_start > {NOW} then 'scheduled' \
         when {page} or last_page_seq is null then 'active' else 'complete' end"
    )
}

/// The parts of round `$2` of lane `$1` that hold drafts, beside feedback rows: no column is called as one of those. The id has no collation of its
/// own: that of the column to which it is compared counts.
const PARTS_WITH_DRAFTS: &str = "(select part, adv_campaign_id collate \"default\" as id, has_page, coalesce(after_client, '') as behind, upto_client as upto, \
     already_told, late as late_ones from dinnerbell.round_part where lane = $1 and seq = $2 and drafts > 0) as p";

// A part's feedback rows: those of its page, then those who were late. Two questions, each with the unique index's own collation and predicate:
// joined by an `or`, all that the campaign ever told would be read where the statistics are old. They need nothing that a partitioned table
// refuses.

/// The range less those who had a row before it was read, and less those who came into it since and were late. No client has the empty id:
/// behind it is from the first on.
fn on_the_page() -> String {
    format!(
        "{} and {} and p.has_page and client_id collate \"C\" > p.behind and client_id collate \"C\" <= p.upto \
         and client_id <> all(p.already_told) and client_id <> all(p.late_ones)",
        of_campaign("adv_campaign_id", "p.id"),
        rows::INDEXED
    )
}

/// The late ones by name, one at a time: of a whole list, the planner may look for each row of the campaign in the list.
fn named(client: &str) -> String {
    let of_campaign = of_campaign("adv_campaign_id", "p.id");
    format!("{of_campaign} and {} and client_id collate \"C\" = {client}", rows::INDEXED)
}

/// The late ones of those parts, and their parts. The offset keeps the planner from asking for the campaign's rows first.
fn late_ones() -> String {
    format!(
        "(select p.part, p.id, late.client from {PARTS_WITH_DRAFTS}, unnest(p.late_ones) as late (client) offset 0) as p"
    )
}

/// Asks for feedback rows of round `$2` of lane `$1`, so many of each part: columns of the part, `p`, and of the rows.
pub(super) fn of_parts(part: &str, columns: &str, feedback: &str, limit: &str) -> String {
    format!(
        "select {part}, draft.* from {PARTS_WITH_DRAFTS} cross join lateral (select {columns} from {feedback} where {} \
         union all select told.* from unnest(p.late_ones) as late (client) cross join lateral \
           (select {columns} from {feedback} where {} offset 0) as told{limit}) as draft",
        on_the_page(),
        named("late.client")
    )
}

/// A part of a stored round, with what became of its campaign.
pub(super) struct StoredPart {
    pub(super) part: i32,
    pub(super) id: String,
    pub(super) has_page: bool,
    pub(super) after: Option<String>,
    pub(super) skipped: i64,
    pub(super) late: Vec<String>,
    pub(super) drafts: i64,
    pub(super) checksum: i64,
    open: bool,
    window: Window,
}

/// The parts of a recorded round.
pub(super) async fn parts(tx: &Connection, lane: Lane, seq: i64) -> Result<Vec<StoredPart>, PostgresError> {
    let sql = format!(
        "select p.part, p.adv_campaign_id, p.has_page, p.after_client, p.skipped, p.late, p.drafts, p.checksum, coalesce({OPEN}, false), \
         state = 'cancelled', adv_campaign_datetime_start, adv_campaign_datetime_end \
         from dinnerbell.round_part p join dinnerbell.campaign c using (adv_campaign_id) where p.lane = $1 and p.seq = $2 order by p.adv_campaign_id"
    );
    let rows = tx.query(&sql, &[(&lane, Type::INT4), (&seq, Type::INT8)]).await?;
    let window = |row: &Row| match (row.get(9), row.get(10), row.get(11)) {
        (false, Some(start), Some(end)) => Window { start, end },
        _ => Window::NEVER,
    };
    let part = |row: &Row| StoredPart {
        part: row.get(0),
        id: row.get(1),
        has_page: row.get(2),
        after: row.get(3),
        skipped: row.get(4),
        late: row.get(5),
        drafts: row.get(6),
        checksum: row.get(7),
        open: row.get(8),
        window: window(row),
    };
    Ok(rows.iter().map(part).collect())
}

/// The ledger learns that a round is committed in Kafka: campaigns whose last page it held are complete.
pub(super) async fn note_published(tx: &Transaction, own: Ownership, seq: i64) -> Result<bool, LedgerError> {
    let sql =
        "update dinnerbell.lane set published_seq = $3, overrule = false where lane = $1 and epoch = $2 and seq = $3";
    let noted = tx.execute(sql, &[(&own.lane, Type::INT4), (&own.epoch, Type::INT8), (&seq, Type::INT8)]).await?;
    if noted != 1 {
        return Err(lost(own, "the last round"));
    }
    complete(tx, own, seq).await
}

/// Campaigns whose last page is in a round up to this one are complete, or closed where their end has come: whether any is. They are locked in
/// the order of their ids: other lanes' intakes lock what they know of so too.
pub(super) async fn complete(tx: &Transaction, own: Ownership, seq: i64) -> Result<bool, LedgerError> {
    let sql = format!(
        "update dinnerbell.campaign c set state = case when adv_campaign_datetime_end <= {NOW} then 'closed' else 'complete' end \
         from (select adv_campaign_id as id from dinnerbell.campaign where lane = $1 and state = 'active' and last_page_seq <= $2 \
               order by {LOCKED_BY} for no key update) as published \
         where c.adv_campaign_id = published.id returning state = 'closed'"
    );
    let rows = tx.query(&sql, &[(&own.lane, Type::INT4), (&seq, Type::INT8)]).await?;
    Ok(rows.iter().any(|row| row.get(0)))
}

/// A round that is being recorded.
pub struct PostgresRound {
    tx: Transaction,
    own: Ownership,
    ledger: PostgresLedger,
    feedback: String,
    turn: Arc<Turn>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl PostgresRound {
    pub(super) fn new(
        tx: Transaction,
        own: Ownership,
        ledger: PostgresLedger,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (feedback, turn) = (ledger.feedback(), ledger.turn_of(own.lane));
        Self { tx, own, ledger, feedback, turn, _permit: permit }
    }

    /// How many rows the server took.
    async fn copy_rows(&self, content: &RoundContent) -> Result<u64, PostgresError> {
        let column = self.ledger.trigger_type(&self.tx).await?;
        rows::copy(&self.tx, &self.feedback, column, content.parts.iter().map(|part| &part.drafts)).await
    }

    /// Compare-and-set of epoch and seq; the position as it stands under the lock.
    async fn advance_lane(&self, before: i64, round_bytes: Option<i64>) -> Result<i64, LedgerError> {
        // The feedback table too: until the first row of this transaction was read or copied, another could come into its place.
        let sql = format!(
            "update dinnerbell.lane set seq = seq + 1, published_seq = $3, overrule = false, round_bytes = $5 \
             where lane = $1 and epoch = $2 and seq = $3 and {} returning position",
            identity::is_known("$4")
        );
        let values: [Parameter<'_>; 5] = [
            (&self.own.lane, Type::INT4),
            (&self.own.epoch, Type::INT8),
            (&before, Type::INT8),
            (&self.feedback, Type::TEXT),
            (&round_bytes, Type::INT8),
        ];
        let row = self.tx.query_opt(&sql, &values).await?.ok_or_else(|| lost(self.own, "the last round"))?;
        Ok(row.get(0))
    }

    /// The cursors move where every campaign of the round still stands as it was planned; returns which did. The planner sees nothing of what
    /// is asked beside the id: without statistics it would go through all that is open for each part.
    async fn move_cursors(&self, parts: &Json<&[PartRow]>, seq: i64) -> Result<BTreeSet<String>, LedgerError> {
        let sql = format!(
            "update dinnerbell.campaign c set cursor = case when p.has_page then p.upto else c.cursor end, \
               last_page_seq = case when p.last then $2 else c.last_page_seq end, \
               told = told + p.drafts, late = c.late + json_array_length(p.late), skipped = c.skipped + p.skipped, \
               audience_as_of = case when p.has_page then clock_timestamp() else audience_as_of end, \
               repass_at = case when p.has_page and (p.after is null or (p.last and repass_at > {NOW})) then {} else repass_at end, \
               first_draft_at = coalesce(first_draft_at, case when p.drafts > 0 then clock_timestamp() end), \
               last_draft_at = case when p.drafts > 0 then clock_timestamp() else last_draft_at end \
             from (select * from {PARTS} order by id) as p where c.adv_campaign_id = p.id and coalesce(c.lane = $3 and c.revision = p.revision \
               and c.state in ('active', 'complete') and {OPEN} \
               and (not p.has_page or (c.cursor is not distinct from p.after and c.last_page_seq is null)), false) returning c.adv_campaign_id",
            super::repass_at("told + p.drafts")
        );
        let parameters: [Parameter<'_>; 3] = [(parts, Type::JSON), (&seq, Type::INT8), (&self.own.lane, Type::INT4)];
        Ok(self.tx.query(&sql, &parameters).await?.iter().map(|row| row.get(0)).collect())
    }

    async fn write_round(&self, head: RoundHead, content: &RoundContent, letters: &[i64]) -> Result<(), LedgerError> {
        let sql = "insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created, dead_letters) \
                   select lane, $2, $3, $4, position, $5, $6 from dinnerbell.lane where lane = $1";
        let drafts = content.drafts() as i64;
        let values: [Parameter<'_>; 6] = [
            (&self.own.lane, Type::INT4),
            (&head.seq, Type::INT8),
            (&head.checksum, Type::INT8),
            (&drafts, Type::INT8),
            (&content.trigger_datetime_created, Type::INT8),
            (&letters, Type::INT8_ARRAY),
        ];
        self.tx.execute(sql, &values).await?;
        Ok(())
    }

    async fn write_parts(&self, parts: &Json<&[PartRow]>, seq: i64) -> Result<(), LedgerError> {
        let sql = format!(
            "insert into dinnerbell.round_part (lane, seq, part, adv_campaign_id, campaign_revision, has_page, after_client, upto_client, \
             last_page, already_told, skipped, late, drafts, checksum) \
             select $2, $3, part, id, revision, has_page, after, upto, last, array(select json_array_elements_text(already_told)), skipped, \
             array(select json_array_elements_text(late)), drafts, checksum from {PARTS}"
        );
        let parameters: [Parameter<'_>; 3] = [(parts, Type::JSON), (&self.own.lane, Type::INT4), (&seq, Type::INT8)];
        self.tx.execute(&sql, &parameters).await?;
        Ok(())
    }

    /// Marks the dead letters as published by this round; how many were free.
    async fn take_dead_letters(&self, letters: &[i64], seq: i64) -> Result<u64, LedgerError> {
        if letters.is_empty() {
            return Ok(0);
        }
        let sql = "update dinnerbell.dead_letter set round_seq = $2 where id = any($1) and round_seq is null";
        Ok(self.tx.execute(sql, &[(&letters, Type::INT8_ARRAY), (&seq, Type::INT8)]).await?)
    }
}

impl OpenRound for PostgresRound {
    async fn already_told(&mut self, ranges: &[ClientRange<'_>]) -> Result<Vec<Clients>, LedgerError> {
        Ok(rows::already_told(&self.tx, &self.feedback, ranges).await?)
    }

    async fn late(&mut self, questions: &[LateQuestion<'_>]) -> Result<Vec<Clients>, LedgerError> {
        Ok(rows::late(&self.tx, &self.feedback, questions).await?)
    }

    async fn campaigns(&mut self, ids: &[&str]) -> Result<Vec<ActiveCampaign>, LedgerError> {
        let sql = format!(
            "select revision, cursor, {CAMPAIGN} from dinnerbell.campaign where adv_campaign_id = any($1) and lane = $2 \
             and state in ('active', 'complete') and {OPEN}"
        );
        let rows = self.tx.query(&sql, &[(&ids, Type::TEXT_ARRAY), (&self.own.lane, Type::INT4)]).await?;
        let running = |row: &tokio_postgres::Row| ActiveCampaign {
            campaign: Arc::new(campaign(row, 2)),
            revision: row.get(0),
            cursor: row.get(1),
        };
        Ok(rows.iter().map(running).collect())
    }

    async fn letters(&mut self, ids: &[i64]) -> Result<Vec<DeadLetterMessage>, LedgerError> {
        let sql = format!("{DEAD_LETTER} where id = any($1) and round_seq is null order by id");
        Ok(self.tx.query(&sql, &[(&ids, Type::INT8_ARRAY)]).await?.iter().map(dead_letter).collect())
    }

    async fn abandon(self) -> Result<(), LedgerError> {
        Ok(self.tx.rollback().await?)
    }

    async fn copy(&mut self, content: Arc<RoundContent>) -> Result<(), LedgerError> {
        let copied = match self.copy_rows(&content).await {
            Ok(copied) => copied,
            Err(error) => {
                // The table may have been altered.
                self.ledger.forget_trigger_type();
                return Err(refused::explain(&self.ledger.pool, error, &content).await.into());
            }
        };
        let drafts = content.drafts() as u64;
        if copied != drafts {
            let refused = refused::left_out(&self.tx, &self.ledger.pool, drafts, copied).await?;
            return Err(refused::of_campaigns(refused, &content).into());
        }
        Ok(())
    }

    async fn seal(self, head: RoundHead, content: Arc<RoundContent>) -> Result<Sealed, LedgerError> {
        let before = head.seq - 1;
        let parts: Vec<PartRow> = content.parts.iter().enumerate().map(|(n, part)| PartRow::of(n, part)).collect();
        let json = Json(parts.as_slice());
        let letters: Vec<i64> = content.dead_letters.iter().map(|letter| letter.id).collect();
        let _turn = self.turn.lock().await;
        // One round trip: the statements are sent together, in this order, so the lane's row is locked first. Where the compare-and-set finds
        // something else, the others are undone with it.
        let (position, moved, (), (), taken, closed) = futures_util::try_join!(
            self.advance_lane(before, content.round_bytes),
            self.move_cursors(&json, head.seq),
            self.write_round(head, &content, &letters),
            self.write_parts(&json, head.seq),
            self.take_dead_letters(&letters, head.seq),
            complete(&self.tx, self.own, before),
        )?;
        if moved.len() != parts.len() || taken != letters.len() as u64 {
            self.tx.rollback().await?;
            let stale = parts.into_iter().map(|part| part.id).filter(|id| !moved.contains(id));
            return Ok(Sealed::Stale(stale.collect()));
        }
        self.tx.commit().await?;
        Ok(Sealed::Recorded { position, closed })
    }
}
