//! What an intake and applying changes do to the tables: the same as `dinnerbell_postgres::ledger`'s, by the same `apply_rules`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::world::WorldState;
use crate::tables::{CampaignRow, ChangeRow, DeadLetterRow, waiting};
use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::campaign::{Campaign, CampaignState, Window};
use dinnerbell_core::model::due::RunningCampaign;
use dinnerbell_core::model::input::{DecodedRecord, RecordError, decode};
use dinnerbell_core::model::intake::{IntakeBatch, IntakeOutcome, Tally};
use dinnerbell_core::model::number::{Lane, Offset, Seconds};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::{DeadLetterMessage, Record};
use dinnerbell_core::model::rules::{Known, RecordEffect, apply_rules};
use dinnerbell_core::ports::ledger::LedgerError;

/// Most changes that are applied in one transaction: so few that more wait than fit into one.
const MAX_CHANGES: usize = 2;

fn id(decoded: &DecodedRecord) -> Option<&str> {
    match decoded {
        DecodedRecord::Campaign(campaign) => Some(&campaign.adv_campaign_id),
        DecodedRecord::Cancellation { adv_campaign_id } => Some(adv_campaign_id),
        DecodedRecord::DeadLetter(_) => None,
    }
}

/// A tombstone has no time of its own.
fn datetime_created(decoded: &DecodedRecord) -> Seconds {
    match decoded {
        DecodedRecord::Campaign(campaign) => campaign.datetime_created,
        _ => Seconds::MAX,
    }
}

struct Intake<'a> {
    state: &'a mut WorldState,
    lane: Lane,
    now: Seconds,
    outcome: IntakeOutcome,
}

impl WorldState {
    /// Records what arrived, and moves the position.
    pub(super) fn intake(&mut self, own: Ownership, batch: &IntakeBatch) -> Result<IntakeOutcome, LedgerError> {
        if self.is_held() {
            return Err(LedgerError::OnHold);
        }
        let compares = self.guards.enabled(Guard::PositionAtIntake);
        let lane = self.database.lane(own.lane);
        if compares && (lane.epoch != own.epoch || lane.position != batch.from) {
            return Err(LedgerError::NotMine(format!("lane {}: the position is not what was left", own.lane)));
        }
        let vanishes = |decoded: &DecodedRecord| id(decoded).is_some_and(|id| self.database.vanishing.contains(id));
        if batch.records.iter().any(|(_, decoded)| vanishes(decoded)) {
            let what = "a campaign that was there a moment ago is not what was left";
            return Err(LedgerError::NotMine(format!("lane {}: {what}", own.lane)));
        }
        let lane = self.database.lane(own.lane);
        lane.position = batch.to;
        if let Some(last) = batch.last_fingerprint() {
            lane.last_record = Some(last);
        }
        let now = self.now();
        let mut intake = Intake { state: self, lane: own.lane, now, outcome: IntakeOutcome::default() };
        let created = intake.create(batch);
        for (record, decoded) in &batch.records {
            if !created.contains(&record.offset) {
                intake.take(record, decoded);
            }
        }
        let outcome = intake.outcome;
        let lane = self.database.lane(own.lane);
        lane.records += outcome.tally.records();
        lane.tally = sum(lane.tally, outcome.tally);
        self.committed();
        Ok(outcome)
    }

    /// Whether there is something for the owner to apply_rules.
    pub(super) fn has_changes(&self, lane: Lane) -> bool {
        self.database.changes.iter().any(|change| self.is_unapplied(lane, change))
    }

    fn is_unapplied(&self, lane: Lane, change: &ChangeRow) -> bool {
        let campaign = self.database.campaigns.get(&change.adv_campaign_id);
        // Where it is not marked together with its effect, the mark may be lost.
        let marked_at = if self.guards.enabled(Guard::AppliedAndMarkedTogether) { 1 } else { 2 };
        change.applied < marked_at && campaign.is_some_and(|row| row.lane == lane)
    }

    /// Applies what arrived in other lanes about campaigns of this one.
    pub(super) fn apply_changes(&mut self, own: Ownership) -> IntakeOutcome {
        let unapplied = |&place: &usize| self.is_unapplied(own.lane, &self.database.changes[place]);
        let mut places: Vec<usize> = (0..self.database.changes.len()).filter(unapplied).collect();
        // Cancellations first.
        places.sort_by_key(|place| self.database.changes[*place].record.value.is_some());
        places.truncate(MAX_CHANGES);
        let now = self.now();
        let change = |&place: &usize| {
            let record = self.database.changes[place].record.clone();
            let decoded = decode(record.key.as_deref(), record.value.as_deref());
            (datetime_created(&decoded), place, record, decoded)
        };
        let mut changes: Vec<_> = places.iter().map(change).collect();
        changes.sort_by_key(|(created, place, ..)| (*created, *place));
        let mut intake = Intake { state: self, lane: own.lane, now, outcome: IntakeOutcome::default() };
        for (_, place, record, decoded) in changes {
            let from = intake.state.database.changes[place].from_lane.unwrap_or(own.lane);
            intake.apply(&record, from, &decoded);
            intake.state.database.changes[place].applied += 1;
        }
        let more_changes = places.len() >= MAX_CHANGES;
        let outcome = IntakeOutcome { tally: Tally::default(), more_changes, ..intake.outcome };
        self.committed();
        outcome
    }
}

impl Intake<'_> {
    /// Inserts what is the first about its campaign; returns the offsets of those inserted.
    fn create(&mut self, batch: &IntakeBatch) -> BTreeSet<Offset> {
        let mut created = BTreeSet::new();
        for (record, decoded) in &batch.records {
            let Some(id) = id(decoded) else { continue };
            let stands = self
                .state
                .database
                .campaigns
                .get(id)
                .is_some_and(|row| row.lane == self.lane || self.state.guards.enabled(Guard::PrimaryKeyDecides));
            let unknown = matches!(decoded, DecodedRecord::Cancellation { .. })
                && !self.state.guards.enabled(Guard::TombstoneOfUnknownKept);
            if stands || unknown {
                continue;
            }
            created.insert(record.offset);
            let campaign = match decoded {
                DecodedRecord::Campaign(campaign) => Some(Arc::new(campaign.clone())),
                _ => None,
            };
            self.insert(id, campaign);
        }
        created
    }

    fn insert(&mut self, id: &str, campaign: Option<Arc<Campaign>>) {
        let stage = campaign
            .as_ref()
            .map_or(CampaignState::Cancelled, |campaign| CampaignState::of(campaign.window, false, self.now));
        let row = CampaignRow::first(self.lane, stage, campaign.clone(), self.state.micros());
        self.state.database.campaigns.insert(id.to_owned(), row);
        let Some(campaign) = campaign else {
            self.outcome.tally.cancellations += 1;
            return;
        };
        self.outcome.tally.campaigns += 1;
        match stage {
            CampaignState::Active => {
                self.change_at(campaign.window.end);
                self.outcome.started.push(RunningCampaign { campaign, revision: 1, cursor: None });
            }
            CampaignState::Scheduled => self.change_at(campaign.window.start),
            _ => self.outcome.changed.push(id.to_owned()),
        }
    }

    fn change_at(&mut self, at: Seconds) {
        self.outcome.next_deadline = Some(self.outcome.next_deadline.map_or(at, |next| next.min(at)));
    }

    /// Takes a record of this lane in that did not make a campaign.
    fn take(&mut self, record: &Record, decoded: &DecodedRecord) {
        let owner = id(decoded).and_then(|id| self.state.database.campaigns.get(id)).map(|row| row.lane);
        match owner {
            Some(owner) if owner != self.lane && self.state.guards.enabled(Guard::OnlyOwnerApplies) => {
                self.outcome.tally.handed_over += 1;
                let forgets = match decoded {
                    DecodedRecord::Cancellation { .. } => !self.state.guards.enabled(Guard::TombstoneHandedOver),
                    _ => false,
                };
                let kept = self.state.guards.enabled(Guard::ChangeWithPosition) || !self.state.random.chance(300);
                if kept && !forgets {
                    let adv_campaign_id = id(decoded).unwrap_or_default().to_owned();
                    let (from_lane, record, at) = (Some(self.lane), record.clone(), self.state.micros());
                    self.state.database.changes.push(ChangeRow { adv_campaign_id, from_lane, record, at, applied: 0 });
                }
            }
            // Only a lane that keeps no tombstone of what it does not know forgets it.
            None if id(decoded).is_some() && !self.state.guards.enabled(Guard::TombstoneOfUnknownKept) => {
                self.outcome.tally.cancellations += 1;
            }
            _ => self.apply(record, self.lane, decoded),
        }
    }

    fn apply(&mut self, record: &Record, from: Lane, decoded: &DecodedRecord) {
        let known = id(decoded).and_then(|id| self.state.database.campaigns.get(id)).map(known);
        let effect = match (known, decoded) {
            (_, DecodedRecord::DeadLetter(reason)) => RecordEffect::Conflict(reason.clone()),
            (Some(known), decoded) => apply_rules(&known, decoded),
            (None, _) => unreachable!("every campaign that arrived is there, and every change is of one"),
        };
        match (effect, decoded) {
            (RecordEffect::Duplicate, _) => self.outcome.tally.duplicates += 1,
            (RecordEffect::Older, _) => self.outcome.tally.older_updates += 1,
            (RecordEffect::Update, DecodedRecord::Campaign(campaign)) => self.update(campaign),
            (RecordEffect::Cancel | RecordEffect::Update, decoded) => self.cancel(id(decoded).unwrap_or_default()),
            (RecordEffect::Conflict(reason), _) => self.dead_letter(record, from, &reason),
        }
    }

    fn update(&mut self, new: &Campaign) {
        self.outcome.tally.updates += 1;
        let (at, rescan) = (self.state.micros(), self.state.guards.enabled(Guard::RescanAfterUpdate));
        let database = &mut self.state.database;
        let row = database.campaigns.get_mut(&new.adv_campaign_id).expect("it was applied");
        let published = database.lanes.get(&row.lane).and_then(|lane| lane.published_seq);
        row.revision += 1;
        row.state = match CampaignState::of(new.window, row.last_page_seq.is_some(), self.now) {
            // Nobody knows yet whether it is complete: the round is published, or withdrawn.
            CampaignState::Complete | CampaignState::Closed if row.waits_for(published) => CampaignState::Active,
            stage => stage,
        };
        row.campaign = Some(Arc::new(new.clone()));
        row.unsent = None;
        row.changed_at = at;
        if rescan {
            row.repass_at = Some(Seconds::new(0));
        }
        self.outcome.changed.push(new.adv_campaign_id.clone());
        self.outcome.windows.push((new.adv_campaign_id.clone(), new.window));
    }

    fn cancel(&mut self, id: &str) {
        self.outcome.tally.cancellations += 1;
        let at = self.state.micros();
        if let Some(row) = self.state.database.campaigns.get_mut(id)
            && row.state != CampaignState::Cancelled
        {
            row.state = CampaignState::Cancelled;
            row.revision += 1;
            row.changed_at = at;
        }
        self.outcome.changed.push(id.to_owned());
        self.outcome.windows.push((id.to_owned(), Window::NEVER));
    }

    fn dead_letter(&mut self, record: &Record, from: Lane, reason: &RecordError) {
        self.outcome.tally.dead_letters += 1;
        let letter = DeadLetterMessage {
            id: self.state.database.dead_letters.len() as i64,
            lane: from,
            offset: record.offset,
            key: record.key.clone(),
            value: record.value.clone(),
            digest: record.omitted.as_ref().and_then(|omitted| omitted.value.clone()),
            headers: record.headers.clone(),
            reason: reason.reason.clone(),
            field: reason.field.map(str::to_owned),
        };
        self.outcome.dead_letters.push(waiting(&letter));
        self.state.database.dead_letters.push(DeadLetterRow { lane: self.lane, letter, round_seq: None });
    }
}

fn known(row: &CampaignRow) -> Known {
    match &row.campaign {
        Some(campaign) if row.state != CampaignState::Cancelled => Known::Campaign(Campaign::clone(campaign)),
        _ => Known::Cancelled,
    }
}

fn sum(one: Tally, other: Tally) -> Tally {
    Tally {
        campaigns: one.campaigns + other.campaigns,
        updates: one.updates + other.updates,
        older_updates: one.older_updates + other.older_updates,
        duplicates: one.duplicates + other.duplicates,
        handed_over: one.handed_over + other.handed_over,
        cancellations: one.cancellations + other.cancellations,
        dead_letters: one.dead_letters + other.dead_letters,
    }
}
