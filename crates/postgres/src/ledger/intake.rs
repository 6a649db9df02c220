//! What arrived is recorded: campaigns, changes, dead letters and the position, in one transaction. What each record becomes is decided in
//! memory; the statements that write it are a constant number, sent at once: what arrives costs no round trip of its own.

mod statements;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use self::statements::Writes;
use super::{PostgresLedger, campaign, headers, not_mine};
use crate::connect::{Parameter, Transaction};
use crate::number::{Number, number};
use crate::sql;
use crate::sql::fragments::{WAITING_CHANGES, held};
use dinnerbell_core::model::campaign::{Campaign, CampaignState, Window};
use dinnerbell_core::model::due::RunningCampaign;
use dinnerbell_core::model::input::{DecodedRecord, decode};
use dinnerbell_core::model::intake::{IntakeBatch, IntakeOutcome, Tally};
use dinnerbell_core::model::number::{Lane, Millis, Offset, Seconds};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::Record;
use dinnerbell_core::model::rules::{Known, RecordEffect, apply_rules};
use dinnerbell_core::ports::ledger::{IntakeLedger, LedgerError};

/// Most changes that are applied in one transaction.
const MAX_CHANGES: i64 = 500;
/// Most bytes of them, but for a single larger one.
const CHANGE_BYTES: i64 = 4 << 20;

impl IntakeLedger for PostgresLedger {
    async fn intake(&self, own: Ownership, batch: Arc<IntakeBatch>) -> Result<IntakeOutcome, LedgerError> {
        self.record_intake(own, &batch).await
    }

    async fn apply_changes(&self, own: Ownership) -> Result<IntakeOutcome, LedgerError> {
        self.apply_handed_over(own).await
    }
}

impl PostgresLedger {
    pub(super) async fn record_intake(
        &self,
        own: Ownership,
        batch: &IntakeBatch,
    ) -> Result<IntakeOutcome, LedgerError> {
        let (tx, now) = self.begin_at(own).await?;
        let _exclusive = self.lock_lane(own.lane).await;
        let mut intake = Intake::new(own, now);
        let first = first_of_each(&batch.records);
        // One round trip: the lane's row is locked first, as everywhere.
        let ((), created) = futures_util::try_join!(move_position(&tx, own, batch), intake.create(&tx, &first))?;
        let rest: Vec<_> = batch.records.iter().filter(|(record, _)| !created.contains(&record.offset)).collect();
        intake.know(&tx, rest.iter().filter_map(|(_, decoded)| id(decoded))).await?;
        for (record, decoded) in rest {
            intake.apply(record, decoded)?;
        }
        let Intake { writes, mut outcome, .. } = intake;
        let tally = outcome.tally;
        self.write(&tx, own, writes, Some(tally), &mut outcome).await?;
        tx.commit().await?;
        Ok(outcome)
    }

    /// The owner applies what others received about its campaigns, in the order of `datetime_created`.
    pub(super) async fn apply_handed_over(&self, own: Ownership) -> Result<IntakeOutcome, LedgerError> {
        let lane: Parameter<'_> = own.lane.parameter();
        let peeked = self.ask(&format!("select exists ({WAITING_CHANGES})"), std::slice::from_ref(&lane)).await?;
        if !peeked.first().is_some_and(|row| row.get(0)) {
            return Ok(IntakeOutcome::default());
        }
        let (tx, now) = self.begin_at(own).await?;
        let _exclusive = self.lock_lane(own.lane).await;
        let (changes, more_changes) = waiting_changes(&tx, own).await?;
        let mut intake = Intake::new(own, now);
        intake.know(&tx, changes.iter().filter_map(|change| id(&change.decoded))).await?;
        for change in &changes {
            let effect = intake.apply_own(&change.record, change.from_lane.unwrap_or(own.lane), &change.decoded)?;
            intake.writes.applied(change.id, effect);
        }
        let Intake { writes, mut outcome, .. } = intake;
        // Changes were counted as handed over by the lane that received them.
        self.write(&tx, own, writes, None, &mut outcome).await?;
        tx.commit().await?;
        Ok(IntakeOutcome { tally: Tally::default(), more_changes, ..outcome })
    }

    /// Writes what was applied, in one round trip.
    async fn write(
        &self,
        tx: &Transaction,
        own: Ownership,
        writes: Writes<'_>,
        tally: Option<Tally>,
        outcome: &mut IntakeOutcome,
    ) -> Result<(), LedgerError> {
        let letters = writes.send(tx, own, tally).await?;
        if self.shared.publishes_dead_letters {
            outcome.dead_letters = letters;
        }
        Ok(())
    }
}

/// Locks the lane's row, and reads the waiting changes in the order in which they are applied, bounded in number and bytes. Says whether there may be
/// more.
async fn waiting_changes(tx: &Transaction, own: Ownership) -> Result<(Vec<Change>, bool), LedgerError> {
    let lock = "select 1 from dinnerbell.lane where lane = $1 for update";
    let lane: Parameter<'_> = own.lane.parameter();
    let parameters: [Parameter<'_>; 3] = [lane.clone(), (&MAX_CHANGES, Type::INT8), (&CHANGE_BYTES, Type::INT8)];
    let (_, rows) = futures_util::try_join!(
        tx.query_one(lock, std::slice::from_ref(&lane)),
        tx.query(sql::JUDGED_NEXT.text(), &parameters)
    )?;
    let mut changes: Vec<Change> = rows.iter().map(Change::read).collect();
    // A tombstone has no time of its own; the order of their offsets decides between equals.
    changes.sort_by_key(|change| (change.datetime_created(), change.id));
    let found = rows.first().map_or(0, |row| row.get::<_, i64>("changes"));
    let more = found >= MAX_CHANGES || found > changes.len() as i64;
    Ok((changes, more))
}

/// Compare-and-set of the lane's position; the row stays locked until the commit.
async fn move_position(tx: &Transaction, own: Ownership, batch: &IntakeBatch) -> Result<(), LedgerError> {
    let last = batch.last_fingerprint();
    let moved = tx
        .execute(
            sql::MOVE_POSITION.text(),
            &[
                own.lane.parameter(),
                own.epoch.parameter(),
                batch.from.parameter(),
                batch.to.parameter(),
                last.map(|fingerprint| fingerprint.offset).parameter(),
                last.map(|fingerprint| fingerprint.timestamp).parameter(),
                (&last.map(|fingerprint| fingerprint.hash), Type::INT8),
            ],
        )
        .await?;
    if moved == 1 {
        return Ok(());
    }
    let held = tx.query_one(&format!("select {}", held()), &[]).await?;
    Err(if held.get(0) { LedgerError::OnHold } else { not_mine(own, "the position") })
}

fn id(decoded: &DecodedRecord) -> Option<&str> {
    match decoded {
        DecodedRecord::Campaign(campaign) => Some(&campaign.adv_campaign_id),
        DecodedRecord::Cancellation { adv_campaign_id } => Some(adv_campaign_id),
        DecodedRecord::DeadLetter(_) => None,
    }
}

/// The first record about each campaign, in the order of ids.
fn first_of_each(records: &[(Record, DecodedRecord)]) -> BTreeMap<&str, &(Record, DecodedRecord)> {
    let mut first = BTreeMap::new();
    for decoded in records {
        if let Some(id) = id(&decoded.1) {
            first.entry(id).or_insert(decoded);
        }
    }
    first
}

/// A campaign that was there before.
struct KnownCampaign {
    lane: Lane,
    known: Known,
    main_pass: MainPass,
}

impl KnownCampaign {
    fn of(row: &Row) -> Self {
        let cancelled = row.get("cancelled");
        let known = if cancelled { Known::Cancelled } else { Known::Campaign(campaign(row)) };
        let main_pass = match (row.get("has_last_page"), row.get("last_page_unpublished")) {
            (false, _) => MainPass::Unfinished,
            (true, true) => MainPass::Unpublished,
            (true, false) => MainPass::Done,
        };
        Self { lane: number(row, "lane"), known, main_pass }
    }
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
    /// Returns the state of a campaign that an update reaches: that of its new window. While nobody knows whether its last page is published, it is
    /// active rather than complete or closed.
    fn state(self, window: Window, now: Seconds) -> CampaignState {
        match CampaignState::of(window, self != Self::Unfinished, now) {
            // The round is published, or withdrawn: the one or the other ends this.
            CampaignState::Complete | CampaignState::Closed if self == Self::Unpublished => CampaignState::Active,
            state => state,
        }
    }
}

/// One transaction's changes.
struct Intake<'a> {
    own: Ownership,
    now: Seconds,
    stood: BTreeMap<String, KnownCampaign>,
    writes: Writes<'a>,
    outcome: IntakeOutcome,
}

impl<'a> Intake<'a> {
    fn new(own: Ownership, now: Seconds) -> Self {
        Self { own, now, stood: BTreeMap::new(), writes: Writes::default(), outcome: IntakeOutcome::default() }
    }

    /// Inserts what is the first about its campaign, a tombstone as the cancelled campaign: the primary key decides a race between
    /// lanes. Returns the offsets of those inserted.
    async fn create(
        &mut self,
        tx: &Transaction,
        first: &BTreeMap<&str, &(Record, DecodedRecord)>,
    ) -> Result<BTreeSet<Offset>, LedgerError> {
        let mut created = BTreeSet::new();
        for id in statements::insert_campaigns(tx, self.own.lane, first, self.now).await? {
            let (record, decoded) = first[id.as_str()];
            created.insert(record.offset);
            match decoded {
                DecodedRecord::Campaign(campaign) => self.created(campaign),
                _ => self.outcome.tally.cancellations += 1,
            }
        }
        Ok(created)
    }

    fn created(&mut self, campaign: &Campaign) {
        self.outcome.tally.campaigns += 1;
        match CampaignState::of(campaign.window, false, self.now) {
            CampaignState::Active => {
                let campaign = Arc::new(campaign.clone());
                self.change_at(campaign.window.end);
                self.outcome.started.push(RunningCampaign { campaign, revision: 1, cursor: None });
            }
            CampaignState::Scheduled => self.change_at(campaign.window.start),
            _ => self.outcome.changed.push(campaign.adv_campaign_id.clone()),
        }
    }

    fn change_at(&mut self, at: Seconds) {
        let next = self.outcome.next_deadline.map_or(at, |next| next.min(at));
        self.outcome.next_deadline = Some(next);
    }

    /// Reads the campaigns that these ids name. Those of this lane are locked until the commit; those of others only against being removed, so
    /// that no lane waits for what another one receives.
    async fn know(&mut self, tx: &Transaction, ids: impl Iterator<Item = &str>) -> Result<(), LedgerError> {
        let ids: Vec<&str> = ids.collect::<BTreeSet<_>>().into_iter().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let own = sql::KNOWN_CAMPAIGNS.with([("which", "lane = $2 order by adv_campaign_id for no key update")]);
        let others = sql::KNOWN_CAMPAIGNS.with([("which", "lane <> $2 order by adv_campaign_id for key share")]);
        let parameters: [Parameter<'_>; 2] = [(&ids, Type::TEXT_ARRAY), self.own.lane.parameter()];
        let (own, others) = futures_util::try_join!(tx.query(&own, &parameters), tx.query(&others, &parameters))?;
        for row in own.iter().chain(&others) {
            let stood = KnownCampaign::of(row);
            self.stood.insert(row.get("adv_campaign_id"), stood);
        }
        Ok(())
    }

    /// Applies a record of this lane.
    fn apply(&mut self, record: &'a Record, decoded: &'a DecodedRecord) -> Result<(), LedgerError> {
        let known = id(decoded).and_then(|id| Some((id, self.stood.get(id)?.lane)));
        match known {
            // The campaign is another lane's: what arrived is recorded, raw, for its owner.
            Some((id, owner)) if owner != self.own.lane => {
                self.outcome.tally.handed_over += 1;
                self.writes.hand_over(id, record);
                Ok(())
            }
            _ => self.apply_own(record, self.own.lane, decoded).map(drop),
        }
    }

    /// Applies what arrived about a campaign of this lane; says as what it ended.
    fn apply_own(
        &mut self,
        record: &'a Record,
        from: Lane,
        decoded: &'a DecodedRecord,
    ) -> Result<&'static str, LedgerError> {
        let stood = id(decoded).and_then(|id| self.stood.get(id));
        let effect = match (stood, decoded) {
            (_, DecodedRecord::DeadLetter(reason)) => RecordEffect::Conflict(reason.clone()),
            (Some(stood), decoded) => apply_rules(&stood.known, decoded),
            // `create` inserted it or found it. Pruned since, long after its end: the lane is taken over again, and it is new then.
            (None, _) => return Err(not_mine(self.own, "a campaign that was there a moment ago")),
        };
        let tally = &mut self.outcome.tally;
        match (effect, decoded) {
            (RecordEffect::Duplicate, _) => tally.duplicates += 1,
            (RecordEffect::Older, _) => tally.older_updates += 1,
            (RecordEffect::Update, DecodedRecord::Campaign(campaign)) => {
                tally.updates += 1;
                self.update(campaign);
                return Ok("update");
            }
            (RecordEffect::Cancel | RecordEffect::Update, decoded) => {
                tally.cancellations += 1;
                self.cancel(id(decoded).unwrap_or_default());
                return Ok("cancellation");
            }
            (RecordEffect::Conflict(reason), _) => {
                tally.dead_letters += 1;
                // The letter is published by the lane that applied it, so that lane's rounds find it.
                self.writes.dead_letter(from, record, reason);
                return Ok("dead letter");
            }
        }
        Ok("ignored")
    }

    /// Those not yet told get the new content; the window may move in both directions.
    fn update(&mut self, new: &'a Campaign) {
        let id = new.adv_campaign_id.as_str();
        if let Some(stood) = self.stood.get_mut(id) {
            stood.known = Known::Campaign(new.clone());
            self.writes.update(new, stood.main_pass.state(new.window, self.now));
        }
        self.outcome.changed.push(id.to_owned());
        self.outcome.windows.push((id.to_owned(), new.window));
    }

    fn cancel(&mut self, id: &'a str) {
        match self.stood.get_mut(id) {
            Some(stood) if stood.known != Known::Cancelled => {
                stood.known = Known::Cancelled;
                self.writes.cancel(id);
            }
            _ => {}
        }
        self.outcome.changed.push(id.to_owned());
        self.outcome.windows.push((id.to_owned(), Window::NEVER));
    }
}

/// What another lane, or an operator, recorded for the owner.
struct Change {
    id: i64,
    from_lane: Option<Lane>,
    record: Record,
    decoded: DecodedRecord,
}

impl Change {
    fn read(row: &Row) -> Self {
        let record = Record {
            offset: number::<Option<_>>(row, "record_offset").unwrap_or(Offset::new(-1)),
            timestamp: number::<Option<_>>(row, "record_timestamp").unwrap_or(Millis::NONE),
            key: row.get("key"),
            value: row.get("value"),
            headers: headers(row.get("header_names"), row.get("header_values")),
            omitted: None,
        };
        let decoded = decode(record.key.as_deref(), record.value.as_deref());
        Self { id: row.get("id"), from_lane: number(row, "from_lane"), record, decoded }
    }

    fn datetime_created(&self) -> Seconds {
        match &self.decoded {
            DecodedRecord::Campaign(campaign) => campaign.datetime_created,
            _ => Seconds::MAX,
        }
    }
}
