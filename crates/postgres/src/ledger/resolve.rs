//! What an operator's resolution reads and writes: one transaction for each lane, with the lane's epoch moved, so that whoever owns the
//! lane enters it again.

use std::collections::BTreeMap;
use std::future::Future;

use futures_util::{StreamExt, TryStreamExt, stream, try_join};
use tokio_postgres::types::{ToSql, Type};

use super::rounds::StoredPart;
use super::{NOW, PostgresLedger, hold, lost, rounds, rows};
use crate::connect::{Parameter, Pool, Transaction, place};
use crate::errors::PostgresError;
use crate::identity;
use crate::predicate::of_campaign;
use dinnerbell_core::model::campaign::{CampaignState, Window};
use dinnerbell_core::model::draft::FEEDBACK_COLUMNS;
use dinnerbell_core::model::halt::{HaltKind, WayOut};
use dinnerbell_core::model::late::ToldAndRows;
use dinnerbell_core::model::mark::RoundHead;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::Lane;
use dinnerbell_core::model::time::EpochSeconds;
use dinnerbell_core::ports::ledger::LedgerError;
use dinnerbell_core::recovery::decide::{Decision, LastRound};
use dinnerbell_core::recovery::found::FoundDraft;

/// A lane as a resolution finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRow {
    /// The next input offset to record.
    pub position: i64,
    /// The last recorded round.
    pub head: RoundHead,
    /// The one before it, where it is still kept.
    pub previous: Option<RoundHead>,
    /// The last round known to be committed in Kafka.
    pub published: Option<i64>,
    /// Its halt.
    pub halted: Option<HaltKind>,
    /// When the last round's drafts were formed.
    pub trigger_datetime_created: EpochSeconds,
}

impl LaneRow {
    /// Whether it is halted, and this ends it.
    pub fn ends_by(&self, way: WayOut) -> bool {
        self.halted.as_ref().is_some_and(|halt| halt.ends_by(way))
    }
}

/// What a campaign gets back: the drafts whose rows were missing.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The campaign as its newest draft shows it.
    pub newest: FoundDraft<'static>,
    /// When the first of them was formed.
    pub first: EpochSeconds,
    /// When the last of them was formed.
    pub last: EpochSeconds,
}

/// A mending that is to be written.
pub struct Repair<'a> {
    /// The lane as it was found; it must still stand so.
    pub standing: &'a LaneRow,
    /// What was decided.
    pub decision: &'a Decision,
    /// The campaigns of rows that are missing.
    pub campaigns: &'a BTreeMap<String, Restored>,
    /// Clients of the last round whose drafts are taken back, by campaign.
    pub untold: &'a BTreeMap<String, Vec<String>>,
    /// Who resolves.
    pub by: &'a str,
    /// The comparison in which the lane was taken, and how many lanes there are: mended by what Kafka holds, it is compared.
    pub compared: (&'a str, Lane),
}

impl Repair<'_> {
    /// Whether the ledger's last round is published in another form, so that nobody knows whether its dead letters are: they are published again.
    fn hides_letters(&self) -> bool {
        let Repair { standing, decision, .. } = self;
        let known = standing.published == Some(standing.head.seq);
        !known && decision.last != LastRound::Unpublished && decision.head != standing.head
    }
}

/// What a mending wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Mended {
    /// Rows inserted because their messages are in the topic.
    pub rows_restored: u64,
    /// Rows that said something else than their messages in the topic.
    pub rows_corrected: u64,
    /// Campaigns that the ledger did not know.
    pub campaigns_restored: u64,
    /// Rows removed because their messages are not in the topic.
    pub rows_removed: u64,
    /// Rows that would have been removed, had nobody answered in them.
    pub rows_kept: u64,
}

/// How a lane is cleared of its halt; the epoch moves, so that whoever runs it enters it again.
pub(crate) const CLEARED: &str = "epoch = epoch + 1, halted = null, halted_found = null, halted_remedy = null, halted_at = null, \
                       resolved_at = clock_timestamp()";

/// A lane as it stands; none where it was never entered.
pub async fn standing(pool: &Pool, lane: Lane) -> Result<Option<LaneRow>, PostgresError> {
    let sql = "select l.position, l.seq, l.published_seq, l.halted, r.revision, r.checksum, r.trigger_datetime_created, p.revision, \
               p.checksum from dinnerbell.lane l left join dinnerbell.round r on r.lane = l.lane and r.seq = l.seq \
               left join dinnerbell.round p on p.lane = l.lane and p.seq = l.seq - 1 where l.lane = $1";
    let rows = pool.query(sql, &[(&lane, Type::INT4)]).await?;
    Ok(rows.first().map(|row| {
        let seq: i64 = row.get(1);
        let head = |seq: i64, at: usize| {
            Some(RoundHead { seq, revision: row.get::<_, Option<i32>>(at)?, checksum: row.get(at + 1) })
        };
        LaneRow {
            position: row.get(0),
            head: head(seq, 4).unwrap_or(RoundHead { seq, ..RoundHead::default() }),
            previous: head(seq - 1, 7),
            published: row.get(2),
            halted: row.get::<_, Option<String>>(3).map(HaltKind::from),
            trigger_datetime_created: row.get::<_, Option<_>>(6).unwrap_or_default(),
        }
    }))
}

/// Clears a halt. False where there was none.
pub async fn retry(pool: &Pool, lane: Lane, by: &str) -> Result<bool, PostgresError> {
    let sql = format!(
        "update dinnerbell.lane set {CLEARED}, resolved_by = $2 where lane = $1 and halted is not null returning lane"
    );
    Ok(!pool.query(&sql, &[(&lane, Type::INT4), (&by, Type::TEXT)]).await?.is_empty())
}

/// Clears this halt alone: one that stands by another name stays.
pub async fn release(pool: &Pool, lane: Lane, halt: &HaltKind, by: &str) -> Result<(), PostgresError> {
    let sql = format!("update dinnerbell.lane set {CLEARED}, resolved_by = $2 where lane = $1 and halted = $3");
    pool.query(&sql, &[(&lane, Type::INT4), (&by, Type::TEXT), (&halt.name(), Type::TEXT)]).await?;
    Ok(())
}

/// Lets a lane go on at another position, whatever records the topic held before. False where its halt is not about the topic any more.
pub async fn restart_at(pool: &Pool, lane: Lane, position: i64, by: &str) -> Result<bool, PostgresError> {
    // The last round's offset is what Kafka is told when its mark was lost with the topic.
    let sql = format!(
        "with moved as (update dinnerbell.lane set {CLEARED}, resolved_by = $3, position = $2, last_offset = null, last_timestamp = null, \
           last_hash = null, topic_id = null where lane = $1 \
           and halted = any($4) returning lane, seq), \
         told as (update dinnerbell.round r set position = $2 from moved m where r.lane = m.lane and r.seq = m.seq) \
         select lane from moved"
    );
    let restarts: Vec<&str> =
        HaltKind::those(|kind| kind.ends_by(WayOut::RestartAt)).into_iter().map(HaltKind::name).collect();
    let parameters: [Parameter<'_>; 4] =
        [(&lane, Type::INT4), (&position, Type::INT8), (&by, Type::TEXT), (&restarts, Type::TEXT_ARRAY)];
    Ok(!pool.query(&sql, &parameters).await?.is_empty())
}

/// Which of these drafts have no feedback row, or another one than their message says, by their place in the list. A client is told of one version
/// of a campaign at one time: by both the row is known.
pub async fn without_row(pool: &Pool, drafts: &[FoundDraft<'_>]) -> Result<Vec<usize>, PostgresError> {
    let sql = format!(
        "select t.place from unnest($1::text[], $2::text[], $3::int8[], $4::int8[]) with ordinality \
           as t (campaign, client, created, formed, place) where not exists \
         (select 1 from {} where {} and client_id collate \"C\" = t.client and {} \
          and datetime_created = t.created and trigger_datetime_created = t.formed)",
        pool.table().sql(),
        of_campaign("adv_campaign_id", "t.campaign"),
        rows::INDEXED
    );
    let campaigns: Vec<&str> = drafts.iter().map(|draft| &*draft.adv_campaign_id).collect();
    let clients: Vec<&str> = drafts.iter().map(|draft| &*draft.client_id).collect();
    let created: Vec<i64> = drafts.iter().map(|draft| draft.datetime_created).collect();
    let formed: Vec<i64> = drafts.iter().map(|draft| draft.trigger_datetime_created).collect();
    let parameters: [Parameter<'_>; 4] = [
        (&campaigns, Type::TEXT_ARRAY),
        (&clients, Type::TEXT_ARRAY),
        (&created, Type::INT8_ARRAY),
        (&formed, Type::INT8_ARRAY),
    ];
    let found = pool.query(&sql, &parameters).await?;
    Ok(found.iter().map(place).collect())
}

impl PostgresLedger {
    /// Begins a mending: one transaction, if the lane still stands as it was found.
    pub async fn begin_mending(&self, own: Ownership, standing: &LaneRow) -> Result<OpenMending, LedgerError> {
        let tx = self.begin(own).await?;
        let sql = "select 1 from dinnerbell.lane where lane = $1 and epoch = $2 and seq = $3 and published_seq is not distinct from $4 \
                   for update";
        let key: [Parameter<'_>; 4] = [
            (&own.lane, Type::INT4),
            (&own.epoch, Type::INT8),
            (&standing.head.seq, Type::INT8),
            (&standing.published, Type::INT8),
        ];
        if tx.query_opt(sql, &key).await?.is_none() {
            tx.rollback().await?;
            return Err(lost(own, "the last round"));
        }
        let now = tx.query_one(&format!("select {NOW}"), &[]).await?.get(0);
        Ok(OpenMending {
            tx,
            own,
            feedback: self.feedback(),
            now,
            restored: BTreeMap::new(),
            mended: Mended::default(),
        })
    }
}

/// Statements that are on their way at once: what is done for each part of a round, or each campaign, takes a round trip for so many of them.
const AT_ONCE: usize = 50;

/// Sends statements together, and waits for them: their answers in their order.
async fn together<T>(
    statements: impl Iterator<Item = impl Future<Output = Result<T, PostgresError>>>,
) -> Result<Vec<T>, PostgresError> {
    stream::iter(statements).buffered(AT_ONCE).try_collect().await
}

/// Counts and cursor go back by the drafts of a part that are no drafts any more. Where the main pass moved, it moves once more from
/// where it stood: whoever has a row is passed over.
async fn set_back(
    tx: &Transaction,
    part: &StoredPart,
    drafts: usize,
    late: usize,
    kept: u64,
) -> Result<(), PostgresError> {
    let sql = format!(
        "update dinnerbell.campaign set told = told - $2, late = late - $3, skipped = skipped - $4, kept = kept + $5, unsent = null, \
         cursor = case when $6 then $7 else cursor end, last_page_seq = case when $6 then null else last_page_seq end, \
         state = {} where adv_campaign_id = $1",
        rounds::state_after("$6")
    );
    let skipped = if part.has_page { part.skipped } else { 0 };
    let values: [Parameter<'_>; 7] = [
        (&part.id, Type::TEXT),
        (&(drafts as i64), Type::INT8),
        (&(late as i64), Type::INT8),
        (&skipped, Type::INT8),
        (&kept.cast_signed(), Type::INT8),
        (&part.has_page, Type::BOOL),
        (&part.after, Type::TEXT),
    ];
    tx.execute(&sql, &values).await?;
    Ok(())
}

/// A part of a round becomes what its rows are: so many drafts, with this checksum, and so many who were told late less.
async fn accept_part(
    tx: &Transaction,
    lane: Lane,
    seq: i64,
    part: &StoredPart,
    (drafts, checksum, late): (i64, i64, usize),
) -> Result<(), PostgresError> {
    let sql = "update dinnerbell.round_part set drafts = $4, checksum = $5 where lane = $1 and seq = $2 and part = $3";
    let values: [Parameter<'_>; 5] = [
        (&lane, Type::INT4),
        (&seq, Type::INT8),
        (&part.part, Type::INT4),
        (&drafts, Type::INT8),
        (&checksum, Type::INT8),
    ];
    let removed = usize::try_from(part.drafts - drafts).unwrap_or(0);
    try_join!(tx.execute(sql, &values), set_back(tx, part, removed, late, 0)).map(drop)
}

impl PostgresLedger {
    /// The last round becomes what its rows and dead letters are by now. How many drafts it held, and holds.
    pub async fn accept_rows(&self, own: Ownership, standing: &LaneRow, by: &str) -> Result<(i64, i64), LedgerError> {
        let OpenMending { tx, .. } = self.begin_mending(own, standing).await?;
        let seq = standing.head.seq;
        let (mut held, mut holds) = (0, 0);
        let mut batches = self.batches(&tx, own.lane, seq).await?;
        let parts = rounds::parts(&tx, own.lane, seq).await?;
        let mut changed = Vec::new();
        for part in parts.iter().filter(|part| part.drafts > 0) {
            let batch = batches.remove(&part.part);
            let drafts = batch.as_ref().map_or(0, |batch| batch.clients.len() as i64);
            let checksum = batch.as_ref().map_or(0, |batch| batch.checksum().cast_signed());
            held += part.drafts;
            holds += drafts;
            if (drafts, checksum) != (part.drafts, part.checksum) {
                let there =
                    |late: &&String| batch.iter().any(|batch| batch.clients.iter().any(|client| client == *late));
                let late = part.late.iter().filter(|late| !there(late)).count();
                changed.push((part, drafts, checksum, late));
            }
        }
        let accept = |(part, drafts, checksum, late)| accept_part(&tx, own.lane, seq, part, (drafts, checksum, late));
        together(changed.into_iter().map(accept)).await?;
        let sql = "update dinnerbell.round set dead_letters = array(select id from dinnerbell.dead_letter where id = any(dead_letters)) \
                   where lane = $1 and seq = $2";
        tx.execute(sql, &[(&own.lane, Type::INT4), (&seq, Type::INT8)]).await?;
        self.rewrite_round(&tx, own, standing.head).await?;
        let sql = format!("update dinnerbell.lane set {CLEARED}, resolved_by = $2 where lane = $1");
        tx.execute(&sql, &[(&own.lane, Type::INT4), (&by, Type::TEXT)]).await?;
        self.touched_its_own(&tx).await?;
        tx.commit().await?;
        Ok((held, holds))
    }

    /// The campaigns of a lane that are not over, and of which rows were removed: by their ids.
    pub async fn removed(&self, lane: Lane) -> Result<Vec<(String, ToldAndRows)>, LedgerError> {
        let sql = "select adv_campaign_id, told + kept from dinnerbell.campaign where lane = $1 \
                   and state in ('active', 'complete') and told > 0 order by adv_campaign_id";
        let connection = self.pool.get().await?;
        let found = connection.query(sql, &[(&lane, Type::INT4)]).await?;
        let found: Vec<(String, i64)> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
        let feedback = self.feedback();
        let rows = together(found.iter().map(|(id, told)| rows::count(&connection, &feedback, id, *told))).await?;
        let counted = found.into_iter().zip(rows).map(|((id, told), rows)| (id, ToldAndRows { told, rows }));
        let removed = counted.filter(|(_, counted)| counted.were_removed()).collect();
        connection.release();
        Ok(removed)
    }

    /// Forgets that these campaigns told those whose rows were removed, and clears the lane's halt: the next rescan tells them again. Who was
    /// told late cannot be told from the others any more.
    pub async fn tell_again(
        &self,
        own: Ownership,
        removed: &[(String, ToldAndRows)],
        by: &str,
    ) -> Result<(), LedgerError> {
        let tx = self.begin(own).await?;
        let sql = format!(
            "update dinnerbell.lane set {CLEARED}, resolved_by = $3 where lane = $1 and epoch = $2 and halted = $4"
        );
        let halt = HaltKind::RowsRemoved;
        let key: [Parameter<'_>; 4] =
            [(&own.lane, Type::INT4), (&own.epoch, Type::INT8), (&by, Type::TEXT), (&halt.name(), Type::TEXT)];
        if tx.execute(&sql, &key).await? != 1 {
            return Err(lost(own, "the halt"));
        }
        let sql = "update dinnerbell.campaign set told = greatest($2 - kept, 0), late = least(late, greatest($2 - kept, 0)), repass_at = 0 \
                   where adv_campaign_id = $1";
        let tx_of = &tx;
        let forget = |(id, counted): &(String, ToldAndRows)| {
            let (id, rows) = (id.clone(), counted.rows);
            async move { tx_of.execute(sql, &[(&id, Type::TEXT), (&rows, Type::INT8)]).await }
        };
        together(removed.iter().map(forget)).await?;
        Ok(tx.commit().await?)
    }
}

/// A mending that is being written: an open transaction.
pub struct OpenMending {
    tx: Transaction,
    own: Ownership,
    feedback: String,
    now: EpochSeconds,
    /// Rows inserted, by campaign.
    restored: BTreeMap<String, i64>,
    mended: Mended,
}

impl OpenMending {
    /// Inserts the rows of these drafts, those that have none; a row that says something else becomes what its message says (its draft was
    /// withdrawn, and the client told anew, in what the database lost).
    pub async fn restore(&mut self, drafts: &[FoundDraft<'_>]) -> Result<(), LedgerError> {
        let told = format!(
            "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int8[], $7::int8[], $8::int8[], $9::text[], $10::int8[]) \
             as t ({FEEDBACK_COLUMNS})"
        );
        let sql = format!(
            "insert into {} ({FEEDBACK_COLUMNS}, feedback) select distinct on (adv_campaign_id, client_id) {FEEDBACK_COLUMNS}, null \
             from {told} where not exists (select 1 from {} f where {} \
             and f.client_id collate \"C\" = t.client_id and octet_length(f.adv_campaign_id) <= 256 and octet_length(f.client_id) <= 256) \
             order by adv_campaign_id, client_id returning adv_campaign_id",
            self.feedback,
            self.feedback,
            of_campaign("f.adv_campaign_id", "t.adv_campaign_id")
        );
        let text = |of: fn(&'_ FoundDraft<'_>) -> String| drafts.iter().map(of).collect::<Vec<String>>();
        let time = |of: fn(&FoundDraft<'_>) -> i64| drafts.iter().map(of).collect::<Vec<i64>>();
        let texts = [
            text(|d| d.restaurant_id.to_string()),
            text(|d| d.adv_campaign_id.to_string()),
            text(|d| d.adv_campaign_content.to_string()),
            text(|d| d.adv_campaign_owner.to_string()),
            text(|d| d.adv_campaign_owner_contact.to_string()),
        ];
        let times = [
            time(|d| d.adv_campaign_datetime_start),
            time(|d| d.adv_campaign_datetime_end),
            time(|d| d.datetime_created),
        ];
        let clients = text(|d| d.client_id.to_string());
        let formed = time(|d| d.trigger_datetime_created);
        let mut parameters: Vec<Parameter<'_>> = Vec::with_capacity(10);
        parameters.extend(texts.iter().map(|column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY)));
        parameters.extend(times.iter().map(|column| (column as &(dyn ToSql + Sync), Type::INT8_ARRAY)));
        parameters.push((&clients, Type::TEXT_ARRAY));
        parameters.push((&formed, Type::INT8_ARRAY));
        let corrected = format!(
            "update {} f set restaurant_id = t.restaurant_id, adv_campaign_content = t.adv_campaign_content, \
             adv_campaign_owner = t.adv_campaign_owner, adv_campaign_owner_contact = t.adv_campaign_owner_contact, \
             adv_campaign_datetime_start = t.adv_campaign_datetime_start, adv_campaign_datetime_end = t.adv_campaign_datetime_end, \
             datetime_created = t.datetime_created, trigger_datetime_created = t.trigger_datetime_created from {told} \
             where {} and f.client_id collate \"C\" = t.client_id \
             and octet_length(f.adv_campaign_id) <= 256 and octet_length(f.client_id) <= 256 \
             and (f.datetime_created, f.trigger_datetime_created) <> (t.datetime_created, t.trigger_datetime_created)",
            self.feedback,
            of_campaign("f.adv_campaign_id", "t.adv_campaign_id")
        );
        self.mended.rows_corrected += self.tx.execute(&corrected, &parameters).await?;
        for row in self.tx.query(&sql, &parameters).await? {
            *self.restored.entry(row.get(0)).or_default() += 1;
            self.mended.rows_restored += 1;
        }
        Ok(())
    }

    /// The rows that were read and written are in the ledger's own table.
    async fn must_be_known(&self) -> Result<(), LedgerError> {
        let sql = format!("select {}", identity::is_known("$1"));
        match self.tx.query_one(&sql, &[(&self.feedback, Type::TEXT)]).await?.get(0) {
            true => Ok(()),
            false => Err(LedgerError::AnotherTable("the feedback table was replaced meanwhile".to_owned())),
        }
    }

    /// Writes everything else, and commits.
    pub async fn commit(mut self, mending: &Repair<'_>) -> Result<Mended, LedgerError> {
        if mending.decision.last == LastRound::PublishedInPart {
            self.take_back(mending).await?;
        }
        self.count_all(mending.campaigns).await?;
        if mending.hides_letters() {
            self.free_letters(mending.standing.head.seq).await?;
        }
        self.settle(mending).await?;
        self.must_be_known().await?;
        if let Some(published) = mending.decision.published {
            rounds::complete(&self.tx, self.own, published).await?;
        }
        let (comparison, lanes) = mending.compared;
        hold::note(&self.tx, self.own.lane, comparison, lanes).await?;
        self.tx.commit().await?;
        Ok(self.mended)
    }

    /// Drafts of the last round that have no message: their rows go, and the cursors go back, so that a later round tells those clients.
    async fn take_back(&mut self, mending: &Repair<'_>) -> Result<(), LedgerError> {
        let parts = rounds::parts(&self.tx, self.own.lane, mending.standing.head.seq).await?;
        let untold = |part| {
            let part: &StoredPart = part;
            Some((part, mending.untold.get(&part.id)?))
        };
        let parts: Vec<(&StoredPart, &Vec<String>)> = parts.iter().filter_map(untold).collect();
        let sql = format!(
            "delete from {} where {} and client_id collate \"C\" = any($2) and feedback is null and {}",
            self.feedback,
            of_campaign("adv_campaign_id", "$1"),
            rows::INDEXED
        );
        let gone = together(parts.iter().map(|&(part, clients)| self.delete(&sql, part, clients))).await?;
        let back = parts.iter().zip(&gone).map(|(&(part, clients), gone)| {
            let kept = (clients.len() as u64).saturating_sub(*gone);
            let late = part.late.iter().filter(|client| clients.contains(client)).count();
            set_back(&self.tx, part, clients.len(), late, kept)
        });
        together(back).await?;
        let removed: u64 = gone.iter().sum();
        self.mended.rows_removed += removed;
        self.mended.rows_kept +=
            parts.iter().map(|(_, clients)| clients.len() as u64).sum::<u64>().saturating_sub(removed);
        Ok(())
    }

    /// Deletes the rows of these drafts of a part, unless somebody answered in them.
    async fn delete(&self, sql: &str, part: &StoredPart, clients: &Vec<String>) -> Result<u64, PostgresError> {
        self.tx.execute(sql, &[(&part.id, Type::TEXT), (clients, Type::TEXT_ARRAY)]).await
    }

    /// Campaigns that got rows back: what each told grows by them, unless they are of drafts that it counts already: their rows were removed. One that
    /// the ledger does not know is made from its newest draft; its own record, read once more, is then a duplicate or an update. The cursors stay:
    /// the rows themselves keep anybody from being told twice.
    async fn count_all(&mut self, campaigns: &BTreeMap<String, Restored>) -> Result<(), LedgerError> {
        let made = together(campaigns.values().map(|restored| self.make(restored))).await?;
        let there = campaigns.keys().map(|id| rows::count(&self.tx, &self.feedback, id, i64::MAX));
        let there = together(there).await?;
        let counts = campaigns.iter().zip(there).map(|((id, restored), rows)| self.count(id, restored, rows));
        together(counts).await?;
        self.mended.campaigns_restored += made.iter().sum::<u64>();
        Ok(())
    }

    /// Makes a campaign that the ledger does not know. How many that were.
    async fn make(&self, restored: &Restored) -> Result<u64, PostgresError> {
        let newest = &restored.newest;
        let window = Window { start: newest.adv_campaign_datetime_start, end: newest.adv_campaign_datetime_end };
        let state = CampaignState::of(window, false, self.now).name();
        let sql = format!(
            "insert into dinnerbell.campaign (lane, state, received_at, {}) values ($1, $2, to_timestamp($3), $4, $5, $6, $7, $8, $9, $10, $11) \
             on conflict do nothing",
            super::CAMPAIGN
        );
        let first = restored.first as f64;
        let values: [Parameter<'_>; 11] = [
            (&self.own.lane, Type::INT4),
            (&state, Type::TEXT),
            (&first, Type::FLOAT8),
            (&newest.adv_campaign_id, Type::TEXT),
            (&newest.restaurant_id, Type::TEXT),
            (&newest.adv_campaign_content, Type::TEXT),
            (&newest.adv_campaign_owner, Type::TEXT),
            (&newest.adv_campaign_owner_contact, Type::TEXT),
            (&window.start, Type::INT8),
            (&window.end, Type::INT8),
            (&newest.datetime_created, Type::INT8),
        ];
        self.tx.execute(&sql, &values).await
    }

    /// Counts what a campaign got back; it has so many rows now.
    async fn count(&self, id: &str, restored: &Restored, rows: i64) -> Result<(), PostgresError> {
        let told = self.restored.get(id).copied().unwrap_or(0);
        let sql = "update dinnerbell.campaign set told = least(told + $2, greatest(told, $5 - kept)), unsent = null, \
                   first_draft_at = least(first_draft_at, to_timestamp($3)), last_draft_at = greatest(last_draft_at, to_timestamp($4)) \
                   where adv_campaign_id = $1 and $2 > 0";
        let (first, last) = (restored.first as f64, restored.last as f64);
        let values: [Parameter<'_>; 5] = [
            (&id, Type::TEXT),
            (&told, Type::INT8),
            (&first, Type::FLOAT8),
            (&last, Type::FLOAT8),
            (&rows, Type::INT8),
        ];
        self.tx.execute(sql, &values).await?;
        Ok(())
    }

    /// Dead letters of the last round wait for a later one: what Kafka holds in its place may be without them.
    async fn free_letters(&mut self, seq: i64) -> Result<(), LedgerError> {
        let key: [Parameter<'_>; 2] = [(&self.own.lane, Type::INT4), (&seq, Type::INT8)];
        let free = "update dinnerbell.dead_letter d set round_seq = null from dinnerbell.round r \
                    where r.lane = $1 and r.seq = $2 and d.id = any(r.dead_letters)";
        self.tx.execute(free, &key).await?;
        self.tx.execute("update dinnerbell.round set dead_letters = '{}' where lane = $1 and seq = $2", &key).await?;
        Ok(())
    }

    /// The round with which the lane goes on, and the lane.
    async fn settle(&mut self, mending: &Repair<'_>) -> Result<(), LedgerError> {
        let Decision { head, published, overrule, .. } = mending.decision;
        let sql = "insert into dinnerbell.round (lane, seq, revision, checksum, drafts, position, trigger_datetime_created) \
                   select lane, $2, $3, $4, 0, position, $5 from dinnerbell.lane where lane = $1 \
                   on conflict (lane, seq) do update set revision = excluded.revision, checksum = excluded.checksum";
        let values: [Parameter<'_>; 5] = [
            (&self.own.lane, Type::INT4),
            (&head.seq, Type::INT8),
            (&head.revision, Type::INT4),
            (&head.checksum, Type::INT8),
            (&self.now, Type::INT8),
        ];
        self.tx.execute(sql, &values).await?;
        let sql = format!(
            "update dinnerbell.lane set {CLEARED}, seq = $2, published_seq = $3, overrule = $4, resolved_by = $5 where lane = $1"
        );
        let values: [Parameter<'_>; 5] = [
            (&self.own.lane, Type::INT4),
            (&head.seq, Type::INT8),
            (published, Type::INT8),
            (overrule, Type::BOOL),
            (&mending.by, Type::TEXT),
        ];
        self.tx.execute(&sql, &values).await?;
        Ok(())
    }
}
