//! What arrived is recorded: campaigns, changes, dead letters and the position, in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::due::LAST_PAGE_UNPUBLISHED;
use super::{CAMPAIGN, PostgresLedger, campaign, headers, lost};
use crate::broker::{DeadLetterMessage, Header, Lane, Record};
use crate::campaign::{Campaign, EpochSeconds, Window};
use crate::ledger::{CANCELLED, IntakeBatch, LedgerError, Ownership, Running, Taken, Tally};
use crate::postgres::connect::{Parameter, Transaction};
use crate::way::decode::{Arrival, Reason, decode};
use crate::way::intake::{Known, State, Verdict, judge};

/// Most changes that are judged in one transaction.
const MOST_CHANGES: i64 = 500;

impl PostgresLedger {
    pub(super) async fn record_intake(&self, own: Ownership, batch: &IntakeBatch) -> Result<Taken, LedgerError> {
        let (tx, now) = self.begin_at(own).await?;
        let mut intake = Intake::new(&tx, own, now, self.shared.publishes_dead_letters);
        let first = first_of_each(&batch.arrivals);
        // One round trip: the lane's row is locked first, as everywhere.
        let ((), created) = futures_util::try_join!(move_position(&tx, own, batch), intake.create(&first))?;
        let rest: Vec<_> = batch.arrivals.iter().filter(|(record, _)| !created.contains(&record.offset)).collect();
        intake.know(rest.iter().filter_map(|(_, arrival)| id(arrival))).await?;
        for (record, arrival) in rest {
            intake.judge(record, arrival).await?;
        }
        let taken = intake.end().await?;
        tx.commit().await?;
        Ok(taken)
    }

    /// The owner judges what others received about its campaigns, in the order of `datetime_created`.
    pub(super) async fn judge_handed_over(&self, own: Ownership) -> Result<Taken, LedgerError> {
        let sql = "select ch.id, ch.from_lane, ch.record_offset, ch.record_timestamp, ch.key, ch.value, ch.header_names, ch.header_values \
                   from dinnerbell.change ch join dinnerbell.campaign c using (adv_campaign_id) \
                   where ch.judged_as is null and c.lane = $1 order by ch.id limit $2";
        let parameters: [Parameter<'_>; 2] = [(&own.lane, Type::INT4), (&MOST_CHANGES, Type::INT8)];
        let peeked = self.ask(&format!("select exists ({sql})"), &parameters).await?;
        if !peeked.first().is_some_and(|row| row.get(0)) {
            return Ok(Taken::default());
        }
        let (tx, now) = self.begin_at(own).await?;
        let lock = "select 1 from dinnerbell.lane where lane = $1 for update";
        tx.query_one(lock, &[(&own.lane, Type::INT4)]).await?;
        let rows = tx.query(sql, &parameters).await?;
        let mut changes: Vec<Change> = rows.iter().map(Change::read).collect();
        // A tombstone has no time of its own; the order of arrival decides between equals.
        changes.sort_by_key(|change| (change.datetime_created(), change.id));
        let mut intake = Intake::new(&tx, own, now, self.shared.publishes_dead_letters);
        intake.know(changes.iter().filter_map(|change| id(&change.arrival))).await?;
        for change in &changes {
            let verdict =
                intake.judge_own(&change.record, change.from_lane.unwrap_or(own.lane), &change.arrival).await?;
            let sql = "update dinnerbell.change set judged_as = $2, judged_at = clock_timestamp() where id = $1";
            tx.execute(sql, &[(&change.id, Type::INT8), (&verdict, Type::TEXT)]).await?;
        }
        let taken = intake.end_uncounted().await?;
        tx.commit().await?;
        Ok(taken)
    }
}

/// Compare-and-set of the lane's position; the row stays locked until the commit.
async fn move_position(tx: &Transaction, own: Ownership, batch: &IntakeBatch) -> Result<(), LedgerError> {
    let sql = "update dinnerbell.lane set position = $4, last_offset = coalesce($5, last_offset), \
               last_timestamp = coalesce($6, last_timestamp), last_hash = coalesce($7, last_hash) \
               where lane = $1 and epoch = $2 and position = $3";
    let last = batch.arrivals.last().map(|(record, _)| record.mark());
    let moved = tx
        .execute(
            sql,
            &[
                (&own.lane, Type::INT4),
                (&own.epoch, Type::INT8),
                (&batch.from, Type::INT8),
                (&batch.to, Type::INT8),
                (&last.map(|mark| mark.offset), Type::INT8),
                (&last.map(|mark| mark.timestamp), Type::INT8),
                (&last.map(|mark| mark.hash), Type::INT8),
            ],
        )
        .await?;
    if moved == 1 { Ok(()) } else { Err(lost(own, "the position")) }
}

fn id(arrival: &Arrival) -> Option<&str> {
    match arrival {
        Arrival::Campaign(campaign) => Some(&campaign.adv_campaign_id),
        Arrival::Cancellation { adv_campaign_id } => Some(adv_campaign_id),
        Arrival::DeadLetter(_) => None,
    }
}

/// The first arrival about each campaign, in the order of ids.
fn first_of_each(arrivals: &[(Record, Arrival)]) -> BTreeMap<&str, &(Record, Arrival)> {
    let mut first = BTreeMap::new();
    for arrival in arrivals {
        if let Some(id) = id(&arrival.1) {
            first.entry(id).or_insert(arrival);
        }
    }
    first
}

/// A campaign that was there before.
struct Stood {
    lane: Lane,
    known: Known,
    main_pass: MainPass,
}

/// How far a campaign's main pass is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MainPass {
    Unfinished,
    /// Its last page is recorded, and not known to be published: nobody knows yet whether it is complete.
    Unpublished,
    Done,
}

impl MainPass {
    fn state(self, window: Window, now: EpochSeconds) -> State {
        match State::of(window, self != Self::Unfinished, now) {
            // The round is published, or withdrawn: the one or the other ends this.
            State::Complete | State::Closed if self == Self::Unpublished => State::Active,
            state => state,
        }
    }
}

/// One transaction's judging.
struct Intake<'a> {
    tx: &'a Transaction,
    own: Ownership,
    now: EpochSeconds,
    publishes_dead_letters: bool,
    stood: BTreeMap<String, Stood>,
    taken: Taken,
}

impl<'a> Intake<'a> {
    fn new(tx: &'a Transaction, own: Ownership, now: EpochSeconds, publishes_dead_letters: bool) -> Self {
        Self { tx, own, now, publishes_dead_letters, stood: BTreeMap::new(), taken: Taken::default() }
    }

    /// Inserts what is the first about its campaign, a tombstone as the cancelled campaign: the primary key decides a race between
    /// lanes. Returns the offsets of those inserted.
    async fn create(&mut self, first: &BTreeMap<&str, &(Record, Arrival)>) -> Result<BTreeSet<i64>, LedgerError> {
        if first.is_empty() {
            return Ok(BTreeSet::new());
        }
        let columns = Columns::of(first, self.now);
        let sql = format!(
            "insert into dinnerbell.campaign (lane, state, received_offset, cancelled_at, {CAMPAIGN}) \
             select $1, state, received_offset, case when state = 'cancelled' then clock_timestamp() end, {CAMPAIGN} \
             from unnest($2::text[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int8[], $10::int8[], \
             $11::int8[]) as t (state, received_offset, {CAMPAIGN}) order by adv_campaign_id \
             on conflict do nothing returning adv_campaign_id"
        );
        let rows = self.tx.query(&sql, &columns.parameters(&self.own.lane)).await?;
        let mut created = BTreeSet::new();
        for row in rows {
            let (record, arrival) = first[row.get::<_, &str>(0)];
            created.insert(record.offset);
            match arrival {
                Arrival::Campaign(campaign) => self.created(campaign),
                _ => self.taken.tally.cancellations += 1,
            }
        }
        Ok(created)
    }

    fn created(&mut self, campaign: &Campaign) {
        self.taken.tally.campaigns += 1;
        match State::of(campaign.window, false, self.now) {
            State::Active => {
                let campaign = Arc::new(campaign.clone());
                self.change_at(campaign.window.end);
                self.taken.started.push(Running { campaign, revision: 1, cursor: None });
            }
            State::Scheduled => self.change_at(campaign.window.start),
            _ => self.taken.changed.push(campaign.adv_campaign_id.clone()),
        }
    }

    fn change_at(&mut self, at: EpochSeconds) {
        let next = self.taken.next_change.map_or(at, |next| next.min(at));
        self.taken.next_change = Some(next);
    }

    /// Reads and locks the campaigns that these ids name.
    async fn know(&mut self, ids: impl Iterator<Item = &str>) -> Result<(), LedgerError> {
        let ids: Vec<&str> = ids.collect::<BTreeSet<_>>().into_iter().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "select lane, state = 'cancelled', last_page_seq is not null, {LAST_PAGE_UNPUBLISHED}, {CAMPAIGN} \
             from dinnerbell.campaign left join dinnerbell.lane l using (lane) \
             where adv_campaign_id = any($1) order by adv_campaign_id for update of campaign"
        );
        for row in self.tx.query(&sql, &[(&ids, Type::TEXT_ARRAY)]).await? {
            let known = if row.get(1) { Known::Cancelled } else { Known::Campaign(campaign(&row, 4)) };
            let main_pass = match (row.get(2), row.get(3)) {
                (false, _) => MainPass::Unfinished,
                (true, true) => MainPass::Unpublished,
                (true, false) => MainPass::Done,
            };
            self.stood.insert(row.get(4), Stood { lane: row.get(0), known, main_pass });
        }
        Ok(())
    }

    /// Judges a record of this lane.
    async fn judge(&mut self, record: &Record, arrival: &Arrival) -> Result<(), LedgerError> {
        let owner = id(arrival).and_then(|id| self.stood.get(id)).map(|stood| stood.lane);
        match owner {
            Some(owner) if owner != self.own.lane => self.hand_over(record, arrival).await,
            _ => self.judge_own(record, self.own.lane, arrival).await.map(drop),
        }
    }

    /// Judges what arrived about a campaign of this lane; says as what it ended.
    async fn judge_own(&mut self, record: &Record, from: Lane, arrival: &Arrival) -> Result<&'static str, LedgerError> {
        let stood = id(arrival).and_then(|id| self.stood.get(id));
        let verdict = match (stood, arrival) {
            (_, Arrival::DeadLetter(reason)) => Verdict::Conflict(reason.clone()),
            (Some(stood), arrival) => judge(&stood.known, arrival),
            // `create` inserted it or found it. Pruned since, long after its end: the lane is entered again, and it is new then.
            (None, _) => return Err(lost(self.own, "a campaign that was there a moment ago")),
        };
        let tally = &mut self.taken.tally;
        match (verdict, arrival) {
            (Verdict::Duplicate, _) => tally.duplicates += 1,
            (Verdict::Older, _) => tally.older_updates += 1,
            (Verdict::Update, Arrival::Campaign(campaign)) => {
                tally.updates += 1;
                self.update(campaign).await?;
                return Ok("update");
            }
            (Verdict::Cancel | Verdict::Update, arrival) => {
                tally.cancellations += 1;
                self.cancel(id(arrival).unwrap_or_default()).await?;
                return Ok("cancellation");
            }
            (Verdict::Conflict(reason), _) => {
                tally.dead_letters += 1;
                self.dead_letter(record, from, &reason).await?;
                return Ok("dead letter");
            }
        }
        Ok("ignored")
    }

    /// Those not yet told get the new content; the window may move in both directions.
    async fn update(&mut self, new: &Campaign) -> Result<(), LedgerError> {
        let id = &new.adv_campaign_id;
        let stood = self.stood.get_mut(id.as_str()).ok_or_else(|| lost(self.own, "the campaign"))?;
        stood.known = Known::Campaign(new.clone());
        let state = stood.main_pass.state(new.window, self.now).name();
        let sql = "update dinnerbell.campaign set revision = revision + 1, state = $2, adv_campaign_content = $3, adv_campaign_owner = $4, \
                   adv_campaign_owner_contact = $5, adv_campaign_datetime_start = $6, adv_campaign_datetime_end = $7, \
                   datetime_created = $8, unsent = null, repass_at = 0 where adv_campaign_id = $1";
        let text = || Type::TEXT;
        let values: [Parameter<'_>; 8] = [
            (id, text()),
            (&state, text()),
            (&new.adv_campaign_content, text()),
            (&new.adv_campaign_owner, text()),
            (&new.adv_campaign_owner_contact, text()),
            (&new.window.start, Type::INT8),
            (&new.window.end, Type::INT8),
            (&new.datetime_created, Type::INT8),
        ];
        self.tx.execute(sql, &values).await?;
        self.taken.changed.push(id.clone());
        self.taken.ends.push((id.clone(), new.window.end));
        Ok(())
    }

    async fn cancel(&mut self, id: &str) -> Result<(), LedgerError> {
        if let Some(stood) = self.stood.get_mut(id) {
            stood.known = Known::Cancelled;
        }
        let sql = "update dinnerbell.campaign set state = 'cancelled', revision = revision + 1, cancelled_at = clock_timestamp() \
                   where adv_campaign_id = $1 and state <> 'cancelled'";
        self.tx.execute(sql, &[(&id, Type::TEXT)]).await?;
        self.taken.changed.push(id.to_owned());
        self.taken.ends.push((id.to_owned(), CANCELLED));
        Ok(())
    }

    /// The campaign is another lane's: what arrived is recorded, raw, for its owner.
    async fn hand_over(&mut self, record: &Record, arrival: &Arrival) -> Result<(), LedgerError> {
        self.taken.tally.handed_over += 1;
        let sql = "insert into dinnerbell.change (adv_campaign_id, from_lane, record_offset, record_timestamp, key, value, header_names, \
                   header_values) values ($1, $2, $3, $4, $5, $6, $7, $8)";
        let (names, values) = split(&record.headers);
        let parameters: [Parameter<'_>; 8] = [
            (&id(arrival), Type::TEXT),
            (&self.own.lane, Type::INT4),
            (&record.offset, Type::INT8),
            (&record.timestamp, Type::INT8),
            (&record.key, Type::BYTEA),
            (&record.value, Type::BYTEA),
            (&names, Type::TEXT_ARRAY),
            (&values, Type::BYTEA_ARRAY),
        ];
        self.tx.execute(sql, &parameters).await?;
        Ok(())
    }

    async fn dead_letter(&mut self, record: &Record, from: Lane, reason: &Reason) -> Result<(), LedgerError> {
        // The letter is published by the lane that judged it, so that lane's rounds find it.
        let sql = "insert into dinnerbell.dead_letter (lane, arrived_lane, record_offset, record_timestamp, key, value, header_names, \
                   header_values, reason, field) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning id";
        let (names, values) = split(&record.headers);
        let parameters: [Parameter<'_>; 10] = [
            (&self.own.lane, Type::INT4),
            (&from, Type::INT4),
            (&record.offset, Type::INT8),
            (&record.timestamp, Type::INT8),
            (&record.key, Type::BYTEA),
            (&record.value, Type::BYTEA),
            (&names, Type::TEXT_ARRAY),
            (&values, Type::BYTEA_ARRAY),
            (&reason.reason, Type::TEXT),
            (&reason.field, Type::TEXT),
        ];
        let id = self.tx.query_one(sql, &parameters).await?.get(0);
        if self.publishes_dead_letters {
            self.taken.dead_letters.push(DeadLetterMessage {
                id,
                lane: from,
                offset: record.offset,
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.clone(),
                reason: reason.reason.clone(),
                field: reason.field.map(str::to_owned),
            });
        }
        Ok(())
    }

    /// Counts as what the records ended.
    async fn end(self) -> Result<Taken, LedgerError> {
        let Tally { campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters } =
            self.taken.tally;
        let counts = [
            campaigns,
            updates,
            older_updates,
            duplicates,
            handed_over,
            cancellations,
            dead_letters,
            self.taken.tally.records(),
        ];
        let sql = "update dinnerbell.lane set campaigns = campaigns + $2, updates = updates + $3, older_updates = older_updates + $4, \
                   duplicates = duplicates + $5, handed_over = handed_over + $6, cancellations = cancellations + $7, \
                   dead_letters = dead_letters + $8, records = records + $9 where lane = $1";
        let mut parameters: Vec<Parameter<'_>> = vec![(&self.own.lane, Type::INT4)];
        parameters.extend(counts.iter().map(|count| (count as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT8)));
        self.tx.execute(sql, &parameters).await?;
        Ok(self.taken)
    }

    /// Changes were counted as handed over by the lane that received them.
    async fn end_uncounted(mut self) -> Result<Taken, LedgerError> {
        self.taken.tally = Tally::default();
        Ok(self.taken)
    }
}

/// The columns of new campaigns, one array each.
#[derive(Default)]
struct Columns<'a> {
    state: Vec<&'static str>,
    offset: Vec<i64>,
    id: Vec<&'a str>,
    restaurant: Vec<Option<&'a str>>,
    content: Vec<Option<&'a str>>,
    owner: Vec<Option<&'a str>>,
    contact: Vec<Option<&'a str>>,
    start: Vec<Option<i64>>,
    end: Vec<Option<i64>>,
    created: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    fn of(first: &BTreeMap<&'a str, &'a (Record, Arrival)>, now: EpochSeconds) -> Self {
        let mut columns = Self::default();
        for (id, (record, arrival)) in first {
            let campaign = match arrival {
                Arrival::Campaign(campaign) => Some(campaign),
                _ => None,
            };
            let state = campaign.map_or(State::Cancelled, |campaign| State::of(campaign.window, false, now));
            columns.state.push(state.name());
            columns.offset.push(record.offset);
            columns.id.push(id);
            columns.restaurant.push(campaign.map(|campaign| campaign.restaurant_id.as_str()));
            columns.content.push(campaign.map(|campaign| campaign.adv_campaign_content.as_str()));
            columns.owner.push(campaign.map(|campaign| campaign.adv_campaign_owner.as_str()));
            columns.contact.push(campaign.map(|campaign| campaign.adv_campaign_owner_contact.as_str()));
            columns.start.push(campaign.map(|campaign| campaign.window.start));
            columns.end.push(campaign.map(|campaign| campaign.window.end));
            columns.created.push(campaign.map(|campaign| campaign.datetime_created));
        }
        columns
    }

    fn parameters<'b>(&'b self, lane: &'b Lane) -> [Parameter<'b>; 11] {
        let (text, int) = (Type::TEXT_ARRAY, Type::INT8_ARRAY);
        [
            (lane, Type::INT4),
            (&self.state, text.clone()),
            (&self.offset, int.clone()),
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

/// What another lane, or an operator, recorded for the owner.
struct Change {
    id: i64,
    from_lane: Option<Lane>,
    record: Record,
    arrival: Arrival,
}

impl Change {
    fn read(row: &tokio_postgres::Row) -> Self {
        let record = Record {
            offset: row.get::<_, Option<i64>>(2).unwrap_or(-1),
            timestamp: row.get::<_, Option<i64>>(3).unwrap_or(-1),
            key: row.get(4),
            value: row.get(5),
            headers: headers(row.get(6), row.get(7)),
        };
        let arrival = decode(record.key.as_deref(), record.value.as_deref());
        Self { id: row.get(0), from_lane: row.get(1), record, arrival }
    }

    fn datetime_created(&self) -> EpochSeconds {
        match &self.arrival {
            Arrival::Campaign(campaign) => campaign.datetime_created,
            _ => EpochSeconds::MAX,
        }
    }
}

fn split(headers: &[Header]) -> (Vec<&str>, Vec<Option<&[u8]>>) {
    headers.iter().map(|header| (header.name.as_str(), header.value.as_deref())).unzip()
}
