//! The rounds of the simulated ledger: copied, sealed, read back, published.

use std::collections::BTreeSet;
use std::sync::Arc;

use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::campaign::{CampaignState, Window};
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::model::round::{RoundContent, RoundPart, Sealed, StoredRound};
use dinnerbell_core::ports::ledger::LedgerError;

use super::GROUP;
use crate::tables::{FeedbackRow, PartRow, RoundRow, ended, not_mine};
use crate::world::WorldState;

impl WorldState {
    pub(crate) fn note_published(&mut self, own: Ownership, seq: Seq) -> Result<bool, LedgerError> {
        let lane = self.database.lane(own.lane);
        if lane.epoch != own.epoch || lane.seq != seq {
            return Err(not_mine(own, "the last round"));
        }
        (lane.published_seq, lane.mark_overruled) = (Some(seq), false);
        Ok(self.complete(own.lane, seq))
    }

    pub(crate) fn complete(&mut self, lane: Lane, seq: Seq) -> bool {
        let (now, mut closed_campaigns) = (self.now(), false);
        for row in self.database.of_lane(lane) {
            if row.state == CampaignState::Active && row.last_page_seq.is_some_and(|last| last <= seq) {
                row.state = if row.end() <= now { CampaignState::Closed } else { CampaignState::Complete };
                closed_campaigns |= row.state == CampaignState::Closed;
            }
        }
        closed_campaigns
    }

    /// Whether another open transaction has one of the rows: the unique index waits for its end.
    pub(crate) fn is_being_copied(&self, id: u64, content: &RoundContent) -> bool {
        let others = self.database.transactions.iter().filter(|(other, _)| **other != id);
        let copied: BTreeSet<(&str, &str)> = others
            .flat_map(|(_, transaction)| &transaction.rows)
            .map(|(campaign, client, _)| (campaign.as_str(), client.as_str()))
            .collect();
        let row = |part: &RoundPart, client| {
            copied.contains(&(part.drafts.template.campaign().adv_campaign_id.as_str(), client))
        };
        !copied.is_empty()
            && content.parts.iter().any(|part| part.drafts.clients.iter().any(|client| row(part, client)))
    }

    /// Copies the rows of a round into its transaction; the unique index refuses some, and the transaction is over then.
    pub(crate) fn copy(&mut self, id: u64, content: &RoundContent) -> Result<(), LedgerError> {
        let rows = self.rows_of(content).inspect_err(|_| drop(self.database.transactions.remove(&id)))?;
        self.database.transactions.get_mut(&id).ok_or_else(ended)?.rows = rows;
        Ok(())
    }

    pub(super) fn rows_of(&self, content: &RoundContent) -> Result<Vec<(String, String, FeedbackRow)>, LedgerError> {
        let (mut rows, mut new) = (Vec::new(), BTreeSet::new());
        for part in &content.parts {
            let campaign = part.drafts.template.campaign();
            for client in part.drafts.clients.iter() {
                let is_new = new.insert((campaign.adv_campaign_id.as_str(), client));
                let is_there = self.database.has_row(&campaign.adv_campaign_id, client);
                if self.guards.enabled(Guard::UniqueIndex) && (is_there || !is_new) {
                    return Err(LedgerError::Duplicate(format!("({}, {client})", campaign.adv_campaign_id)));
                }
                let row = FeedbackRow {
                    campaign: Arc::clone(campaign),
                    trigger_datetime_created: content.trigger_datetime_created,
                    ours: true,
                    answered: false,
                };
                rows.push((campaign.adv_campaign_id.clone(), client.to_owned(), row));
            }
        }
        Ok(rows)
    }

    /// Those of the clients who are late.
    pub(crate) fn late(&self, id: &str, clients: &Clients, cursor: Option<&str>, over: bool) -> Clients {
        let behind = |client: &&str| over || cursor.is_some_and(|cursor| *client <= cursor);
        let less = self.guards.enabled(Guard::LateLessWhoHasARow);
        let late: BTreeSet<&str> =
            clients.iter().filter(behind).filter(|client| !less || !self.database.has_row(id, client)).collect();
        late.into_iter().collect()
    }

    /// Compare-and-set of (epoch, seq), cursors where every campaign still stands as planned, and the round.
    pub(crate) fn seal(
        &mut self,
        own: Ownership,
        transaction: u64,
        head: RoundVersion,
        content: &RoundContent,
    ) -> Result<Sealed, LedgerError> {
        let rows = self.end(transaction)?.rows;
        let before = head.seq.before();
        let (epoch, seq) = (self.guards.enabled(Guard::EpochAtSeal), self.guards.enabled(Guard::SeqAtSeal));
        let lane = self.database.lane(own.lane);
        if (epoch && lane.epoch != own.epoch) || (seq && lane.seq != before) {
            return Err(not_mine(own, "the last round"));
        }
        let position = lane.position;
        let stale = self.not_as_planned(own.lane, content);
        if !stale.is_empty() || !self.has_its_letters(content) {
            return Ok(Sealed::Conflict(stale));
        }
        self.is_of_the_newest_version(content);
        let lane = self.database.lane(own.lane);
        (lane.seq, lane.published_seq, lane.mark_overruled) = (head.seq, Some(before), false);
        lane.round_bytes = content.round_bytes;
        self.move_cursors(head.seq, content);
        for (campaign, client, row) in rows {
            let twice = self.database.feedback.entry(campaign.clone()).or_default().insert(client.clone(), row);
            if twice.is_some() {
                self.broke(format!("two rows for campaign {campaign} and client {client}"));
            }
        }
        let letters: Vec<i64> = content.dead_letters.iter().map(|letter| letter.id).collect();
        for letter in &letters {
            self.database.dead_letters[usize::try_from(*letter).unwrap_or(0)].round_seq = Some(head.seq);
        }
        let round = RoundRow {
            revision: 0,
            checksum: head.checksum,
            drafts: content.drafts() as i64,
            position,
            dead_letters: letters,
            parts: content.parts.iter().map(PartRow::of).collect(),
        };
        self.database.rounds.insert((own.lane, head.seq), round);
        let closed_campaigns = self.complete(own.lane, before);
        self.committed();
        Ok(Sealed::Recorded { position, closed_campaigns })
    }

    /// Clients who are not told yet when an update is recorded are told of the update.
    pub(super) fn is_of_the_newest_version(&mut self, content: &RoundContent) {
        for part in &content.parts {
            let planned = part.drafts.template.campaign();
            let row = &self.database.campaigns[&planned.adv_campaign_id];
            if row.campaign.as_ref() != Some(planned) {
                self.broke(format!("an older version is recorded after {row:?}: {planned:?}"));
                return;
            }
        }
    }

    /// The campaigns of a round that do not stand as it was planned any more.
    pub(super) fn not_as_planned(&self, lane: Lane, content: &RoundContent) -> Vec<String> {
        let now = self.now();
        let stands = |part: &RoundPart| {
            let id = &part.drafts.template.campaign().adv_campaign_id;
            let Some(row) = self.database.campaigns.get(id) else { return false };
            let version = row.revision == part.revision || !self.guards.enabled(Guard::RevisionAtSeal);
            let open = row.runs() && row.campaign.as_ref().is_some_and(|campaign| campaign.window.is_open(now));
            let window = open || !self.guards.enabled(Guard::WindowAtSeal);
            let cursor = part.page.as_ref().is_none_or(|page| row.cursor == page.after && row.last_page_seq.is_none())
                || !self.guards.enabled(Guard::CursorAtSeal);
            row.lane == lane && version && window && cursor
        };
        let stale = content.parts.iter().filter(|part| !stands(part));
        stale.map(|part| part.drafts.template.campaign().adv_campaign_id.clone()).collect()
    }

    /// Whether every dead letter of a round is still free.
    pub(super) fn has_its_letters(&self, content: &RoundContent) -> bool {
        let free = |letter: &DeadLetterMessage| {
            let row = usize::try_from(letter.id).ok().and_then(|id| self.database.dead_letters.get(id));
            row.is_some_and(|row| row.round_seq.is_none()) || !self.guards.enabled(Guard::DeadLetterOnce)
        };
        content.dead_letters.iter().all(free)
    }

    pub(super) fn move_cursors(&mut self, seq: Seq, content: &RoundContent) {
        let now = self.now();
        for part in &content.parts {
            let id = &part.drafts.template.campaign().adv_campaign_id;
            let Some(row) = self.database.campaigns.get_mut(id) else { continue };
            row.told += part.drafts.clients.len() as i64;
            row.late += part.late as i64;
            let Some(page) = &part.page else { continue };
            row.skipped += page.skipped.cast_signed();
            if page.after.is_none() || (page.last && row.repass_at.is_some_and(|at| at > now)) {
                row.repass_at = row.next_repass(now);
            }
            row.cursor.clone_from(&page.upto);
            if page.last {
                row.last_page_seq = Some(seq);
            }
        }
    }

    /// When drafts of a recorded round may be published, as its campaign stands now.
    pub(super) fn open_in(&self, id: &str) -> Window {
        let row = &self.database.campaigns[id];
        match row.state == CampaignState::Cancelled && self.guards.enabled(Guard::CancelledAreOver) {
            true => Window::NEVER,
            // A campaign that was cancelled before it arrived has no drafts.
            false => row.campaign.as_ref().map_or(Window::NEVER, |campaign| campaign.window),
        }
    }

    /// The last recorded round, from the feedback rows themselves.
    pub(crate) fn stored_round(&self, own: Ownership) -> Result<StoredRound, LedgerError> {
        let database = &self.database;
        let seq = database.lanes[&own.lane].seq;
        let round = &database.rounds[&(own.lane, seq)];
        let mut stored = StoredRound {
            version: RoundVersion { seq, revision: round.revision, checksum: round.checksum },
            position: round.position,
            drafts: round.drafts.cast_unsigned(),
            batches: Vec::new(),
            dead_letters: Vec::new(),
            not_open: Vec::new(),
            open: Window::ALWAYS,
        };
        let letter = |id: &i64| Some(database.dead_letters.get(usize::try_from(*id).ok()?)?.letter.clone());
        stored.dead_letters.extend(round.dead_letters.iter().filter_map(letter));
        let mut parts: Vec<&PartRow> = round.parts.iter().filter(|part| part.drafts > 0).collect();
        parts.sort_by_key(|part| &part.id);
        for part in parts {
            let open = self.open_in(&part.id);
            stored.open = stored.open.and(open);
            if !open.is_open(self.now()) {
                stored.not_open.push(part.id.clone());
            }
            stored.batches.extend(self.batch_of(part)?);
        }
        Ok(stored)
    }

    pub(super) fn batch_of(&self, part: &PartRow) -> Result<Option<DraftBatch>, LedgerError> {
        let clients = match self.guards.enabled(Guard::PublishedByClient) {
            true => self.database.clients_of(part),
            false => self.database.clients_of(&part.as_range()),
        };
        let Some(first) = clients.first() else { return Ok(None) };
        let row = &self.database.feedback[&part.id][first];
        let template = DraftTemplate::new(Arc::clone(&row.campaign), row.trigger_datetime_created, GROUP)
            .map_err(|error| LedgerError::Damaged(error.to_string()))?;
        let clients = clients.iter().map(String::as_str).collect();
        Ok(Some(DraftBatch { template: Arc::new(template), clients }))
    }
}
