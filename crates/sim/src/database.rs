//! The tables of the feedback database, and what the ledger's transactions do to them: statement by statement what
//! `dinnerbell_postgres::ledger` does in SQL. Each function is one transaction's work and either does all of it or nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::world::WorldState;
use crate::tables::{
    CampaignRow, FeedbackRow, LaneRow, PartRow, RoundRow, Transaction, ended, not_mine, texts, waiting,
};
use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::campaign::{CampaignState, Window};
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate, dead_letter_checksum};
use dinnerbell_core::model::due::{ActiveCampaign, Due, MAX_DEAD_LETTERS, Uncounted, WaitingDeadLetter};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::late::{LateCampaign, OpenCampaign};
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Epoch, Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::ownership::{AcquiredLane, Ownership};
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::model::round::{RoundContent, RoundPart, Sealed, StoredRound};
use dinnerbell_core::ports::ledger::LedgerError;

/// The consumer group of every simulated service.
pub const GROUP: &str = "simulation";
/// Most ended campaigns that are loaded to be counted at once.
const MAX_UNCOUNTED: usize = 100;

impl WorldState {
    /// Whether all is held until every lane was compared with Kafka.
    pub(super) fn is_held(&self) -> bool {
        self.database.compared != self.database.comparison() && self.guards.enabled(Guard::HeldUntilCompared)
    }

    /// Whether the lane is to be taken over again, as a poll sees it.
    pub(super) fn is_taken(&self, own: Ownership) -> bool {
        let to_be_compared = || {
            let lane = self.database.lanes.get(&own.lane);
            lane.is_none_or(|lane| lane.compared != self.database.comparison())
        };
        self.guards.enabled(Guard::OwnershipAtPoll) && (!self.is_mine(own) || (self.is_held() && to_be_compared()))
    }

    /// The lane is whole; with the last of them the hold ends.
    pub(super) fn note_compared(&mut self, lane: Lane, comparison: &str, lanes: i32) {
        comparison.clone_into(&mut self.database.lane(lane).compared);
        let compared = |lane: &Lane| self.database.lanes.get(lane).is_some_and(|row| row.compared == comparison);
        if self.database.comparison() == comparison && Lane::all(lanes).all(|lane| compared(&lane)) {
            comparison.clone_into(&mut self.database.compared);
        }
    }

    /// Records that a lane stands still.
    pub(super) fn halt(&mut self, lane: Lane, halt: Halt) {
        if halt.is_loss() && self.database.compared == self.database.comparison() {
            self.database.comparison += 1;
        }
        self.database.lane(lane).halt = Some(halt);
    }

    /// Whether the lane is still owned as it was entered.
    pub(super) fn is_mine(&self, own: Ownership) -> bool {
        let epoch = self.database.lanes.get(&own.lane).map_or(Epoch::default(), |lane| lane.epoch);
        epoch == own.epoch
            && (self.database.postmaster == own.postmaster || !self.guards.enabled(Guard::PostmasterCompared))
    }

    /// Begins a transaction of a lane: the shared lock, then the epoch.
    pub(super) fn begin(&mut self, own: Ownership) -> Result<u64, LedgerError> {
        if !self.is_mine(own) && self.guards.enabled(Guard::EpochAtBegin) {
            let database = &mut self.database;
            let (epoch, postmaster) = (database.lane(own.lane).epoch, database.postmaster);
            return Err(LedgerError::NotMine(format!(
                "lane {} was entered as epoch {} of server {}, and is now {epoch} of {postmaster}",
                own.lane, own.epoch, own.postmaster
            )));
        }
        let database = &mut self.database;
        database.transactions_begun += 1;
        let id = database.transactions_begun;
        database.transactions.insert(id, Transaction { lane: own.lane, rows: Vec::new() });
        Ok(id)
    }

    /// Ends a transaction: an error if somebody else ended it before.
    pub(super) fn end(&mut self, id: u64) -> Result<Transaction, LedgerError> {
        self.database.transactions.remove(&id).ok_or_else(ended)
    }

    /// Something was committed that is no acquisition: a fail-over that loses it would lose more than an acquisition.
    pub(super) fn committed(&mut self) {
        self.database.last_bump = None;
    }

    /// Takes the lane.
    pub(super) fn acquire(
        &mut self,
        lane: Lane,
        beginning: Option<Offset>,
        owner: usize,
    ) -> Result<AcquiredLane, LedgerError> {
        let now = self.micros();
        let database = &mut self.database;
        if let std::collections::btree_map::Entry::Vacant(vacant) = database.lanes.entry(lane) {
            let Some(beginning) = beginning else {
                return Err(LedgerError::Transient(format!("the ledger does not have lane {lane} yet")));
            };
            vacant.insert(LaneRow { position: beginning, ..LaneRow::default() });
            let round = RoundRow {
                revision: 0,
                checksum: 0,
                drafts: 0,
                position: beginning,
                dead_letters: Vec::new(),
                parts: Vec::new(),
            };
            database.rounds.insert((lane, Seq::FIRST), round);
        }
        database.last_bump = Some(lane);
        let row = database.lane(lane);
        row.epoch = row.epoch.next();
        (row.owner, row.entered_at) = (owner, now);
        let row = row.clone();
        let head = |seq: Seq| {
            let round = database.rounds.get(&(lane, seq))?;
            Some(RoundVersion { seq, revision: round.revision, checksum: round.checksum })
        };
        Ok(AcquiredLane {
            ownership: Ownership {
                lane,
                epoch: row.epoch,
                postmaster: database.postmaster,
                lock_key: lane.get().into(),
            },
            ledger: database.ledger,
            position: row.position,
            last_record: row.last_record,
            head: head(row.seq).expect("the last round is never pruned"),
            previous: head(row.seq.before()),
            published: row.published_seq,
            topic_id: row.topic_id,
            outputs: database.outputs.clone(),
            overrule: row.overrule,
            round_bytes: row.round_bytes,
            locked_rows: database.has_locked_rows(lane),
            halt: row.halt,
            compared: row.compared == database.comparison(),
            comparison: database.comparison(),
        })
    }

    pub(super) fn due(&mut self, own: Ownership, most: usize) -> Due {
        self.turn_states(own.lane);
        let now = self.now();
        let database = &mut self.database;
        let mine: Vec<&CampaignRow> = database.campaigns.values().filter(|row| row.lane == own.lane).collect();
        let mut active: Vec<_> = mine
            .iter()
            .filter(|row| row.state == CampaignState::Active && row.last_page_seq.is_none())
            .filter(|row| row.start() <= now && row.end() > now)
            .collect();
        active.sort_by_key(|row| (row.cursor.is_some(), row.end()));
        let starts = mine.iter().filter(|row| row.state == CampaignState::Scheduled).map(|row| row.start());
        let ends = mine.iter().filter(|row| row.runs() && row.end() > now).map(|row| row.end());
        let uncounted = mine.iter().filter(|row| row.unsent.is_none() && row.is_counted()).filter_map(|row| {
            Some(Uncounted { campaign: row.campaign.clone()?, cancelled: row.state == CampaignState::Cancelled })
        });
        let mut uncounted: Vec<_> = uncounted.collect();
        let more_uncounted = uncounted.len() > MAX_UNCOUNTED;
        uncounted.truncate(MAX_UNCOUNTED);
        let letters = database.dead_letters.iter().filter(|row| row.lane == own.lane && row.round_seq.is_none());
        let mut letters: Vec<WaitingDeadLetter> = letters.map(|row| waiting(&row.letter)).collect();
        let more_dead_letters = letters.len() > MAX_DEAD_LETTERS;
        letters.truncate(MAX_DEAD_LETTERS);
        Due {
            running: active.iter().take(most).filter_map(|row| row.running()).collect(),
            more_running: active.len() > most,
            dead_letters: letters,
            more_dead_letters,
            next_deadline: starts.chain(ends).min(),
            uncounted,
            more_uncounted,
        }
    }

    fn turn_states(&mut self, lane: Lane) {
        let now = self.now();
        let waits = self.guards.enabled(Guard::LastPagePublished);
        let published = self.database.lane(lane).published_seq;
        for row in self.database.of_lane(lane) {
            let starts = row.state == CampaignState::Scheduled && row.start() <= now;
            let waiting = row.waits_for(published) && waits;
            let ends = row.runs() && row.end() <= now && !waiting;
            if !starts && !ends {
                continue;
            }
            let passed = row.last_page_seq.is_some();
            row.state = match (row.end() <= now, passed) {
                (_, true) if waiting => CampaignState::Active,
                (true, true) => CampaignState::Closed,
                (true, false) => CampaignState::Expired,
                (false, true) => CampaignState::Complete,
                (false, false) => CampaignState::Active,
            };
        }
        self.called_complete_is_complete(lane);
    }

    /// Whatever is called complete has its last page in Kafka.
    fn called_complete_is_complete(&mut self, lane: Lane) {
        let Some(mark) = self.kafka.committed(lane) else { return };
        let is_called = |row: &&CampaignRow| {
            row.lane == lane && matches!(row.state, CampaignState::Complete | CampaignState::Closed)
        };
        let is_wrong = |row: &&CampaignRow| row.last_page_seq.is_some_and(|seq| seq > mark.head.seq);
        let wrong = self.database.campaigns.values().filter(is_called).find(is_wrong);
        if let Some(wrong) = wrong.map(|row| format!("called complete before its last page is published: {row:?}")) {
            self.broke(wrong);
        }
    }

    pub(super) fn note_published(&mut self, own: Ownership, seq: Seq) -> Result<bool, LedgerError> {
        let lane = self.database.lane(own.lane);
        if lane.epoch != own.epoch || lane.seq != seq {
            return Err(not_mine(own, "the last round"));
        }
        (lane.published_seq, lane.overrule) = (Some(seq), false);
        Ok(self.complete(own.lane, seq))
    }

    pub(super) fn complete(&mut self, lane: Lane, seq: Seq) -> bool {
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
    pub(super) fn is_being_copied(&self, id: u64, content: &RoundContent) -> bool {
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
    pub(super) fn copy(&mut self, id: u64, content: &RoundContent) -> Result<(), LedgerError> {
        let rows = self.rows_of(content).inspect_err(|_| drop(self.database.transactions.remove(&id)))?;
        self.database.transactions.get_mut(&id).ok_or_else(ended)?.rows = rows;
        Ok(())
    }

    fn rows_of(&self, content: &RoundContent) -> Result<Vec<(String, String, FeedbackRow)>, LedgerError> {
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
    pub(super) fn late(&self, id: &str, clients: &Clients, cursor: Option<&str>, over: bool) -> Clients {
        let behind = |client: &&str| over || cursor.is_some_and(|cursor| *client <= cursor);
        let less = self.guards.enabled(Guard::LateLessWhoHasARow);
        let late: BTreeSet<&str> =
            clients.iter().filter(behind).filter(|client| !less || !self.database.has_row(id, client)).collect();
        late.into_iter().collect()
    }

    /// Compare-and-set of (epoch, seq), cursors where every campaign still stands as planned, and the round.
    pub(super) fn seal(
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
            return Ok(Sealed::Overtaken(stale));
        }
        self.is_of_the_newest_version(content);
        let lane = self.database.lane(own.lane);
        (lane.seq, lane.published_seq, lane.overrule) = (head.seq, Some(before), false);
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
    fn is_of_the_newest_version(&mut self, content: &RoundContent) {
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
    fn not_as_planned(&self, lane: Lane, content: &RoundContent) -> Vec<String> {
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
    fn has_its_letters(&self, content: &RoundContent) -> bool {
        let free = |letter: &DeadLetterMessage| {
            let row = usize::try_from(letter.id).ok().and_then(|id| self.database.dead_letters.get(id));
            row.is_some_and(|row| row.round_seq.is_none()) || !self.guards.enabled(Guard::DeadLetterOnce)
        };
        content.dead_letters.iter().all(free)
    }

    fn move_cursors(&mut self, seq: Seq, content: &RoundContent) {
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
    fn open_in(&self, id: &str) -> Window {
        let row = &self.database.campaigns[id];
        match row.state == CampaignState::Cancelled && self.guards.enabled(Guard::CancelledAreOver) {
            true => Window::NEVER,
            // A campaign that was cancelled before it arrived has no drafts.
            false => row.campaign.as_ref().map_or(Window::NEVER, |campaign| campaign.window),
        }
    }

    /// The last recorded round, from the feedback rows themselves.
    pub(super) fn stored_round(&self, own: Ownership) -> Result<StoredRound, LedgerError> {
        let database = &self.database;
        let seq = database.lanes[&own.lane].seq;
        let round = &database.rounds[&(own.lane, seq)];
        let mut stored = StoredRound {
            head: RoundVersion { seq, revision: round.revision, checksum: round.checksum },
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

    fn batch_of(&self, part: &PartRow) -> Result<Option<DraftBatch>, LedgerError> {
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

    /// Takes back what is not open: rows, counts and cursors, and changes the round's revision and checksum.
    pub(super) fn withdraw(&mut self, own: Ownership, head: RoundVersion) -> Result<u64, LedgerError> {
        self.withdraw_those(own, head, |state, id| !state.open_in(id).is_open(state.now()))
    }

    /// Takes back everything; the lane remembers how large a round may be.
    pub(super) fn withdraw_whole(
        &mut self,
        own: Ownership,
        head: RoundVersion,
        round_bytes: Option<i64>,
    ) -> Result<u64, LedgerError> {
        let locked = self.withdraw_those(own, head, |_, _| true)?;
        self.database.lane(own.lane).round_bytes = round_bytes;
        Ok(locked)
    }

    fn withdraw_those(
        &mut self,
        own: Ownership,
        head: RoundVersion,
        is_withdrawn: impl Fn(&Self, &str) -> bool,
    ) -> Result<u64, LedgerError> {
        let lane = self.database.lane(own.lane).clone();
        let mine = lane.epoch == own.epoch || !self.guards.enabled(Guard::EpochAtWithdrawal);
        if !mine || lane.seq != head.seq {
            return Err(not_mine(own, "the last round"));
        }
        let mut round = self.database.rounds[&(own.lane, head.seq)].clone();
        let mut locked = 0;
        for place in 0..round.parts.len() {
            if round.parts[place].drafts > 0 && is_withdrawn(self, &round.parts[place].id) {
                locked += self.withdraw_part(&mut round.parts[place]);
            }
        }
        round.revision += 1;
        round.drafts = round.parts.iter().map(|part| part.drafts).sum();
        let drafts = round.parts.iter().fold(0u64, |sum, part| sum.wrapping_add(part.checksum.cast_unsigned()));
        let all = round.dead_letters.iter().fold(drafts, |sum, id| sum.wrapping_add(dead_letter_checksum(*id)));
        round.checksum = all.cast_signed();
        self.database.rounds.insert((own.lane, head.seq), round);
        Ok(locked)
    }

    /// Takes the dead letters out of the last round: its revision and checksum change, and they wait for a later one.
    pub(super) fn set_dead_letters_aside(&mut self, own: Ownership, head: RoundVersion) -> Result<(), LedgerError> {
        let lane = self.database.lane(own.lane);
        if lane.epoch != own.epoch || lane.seq != head.seq {
            return Err(not_mine(own, "the last round"));
        }
        let Some(round) = self.database.rounds.get_mut(&(own.lane, head.seq)) else {
            return Err(not_mine(own, "the last round"));
        };
        let letters = std::mem::take(&mut round.dead_letters);
        round.revision += 1;
        let checksum = round.parts.iter().fold(0u64, |sum, part| sum.wrapping_add(part.checksum.cast_unsigned()));
        round.checksum = checksum.cast_signed();
        for letter in letters {
            self.database.dead_letters[usize::try_from(letter).unwrap_or(0)].round_seq = None;
        }
        Ok(())
    }

    /// The dead letters with these ids that no round has published.
    pub(super) fn letters(&self, ids: &[i64]) -> Vec<DeadLetterMessage> {
        let ids: BTreeSet<&i64> = ids.iter().collect();
        let of = |id: &i64| self.database.dead_letters.get(usize::try_from(*id).ok()?);
        let free = ids
            .into_iter()
            .filter_map(of)
            .filter(|row| row.round_seq.is_none() || !self.guards.enabled(Guard::DeadLetterOnce));
        free.map(|row| row.letter.clone()).collect()
    }

    /// How many of its rows are locked, and stay until they are free.
    fn withdraw_part(&mut self, part: &mut PartRow) -> u64 {
        let now = self.now();
        let (stay, back) = (self.guards.enabled(Guard::AnsweredRowsStay), self.guards.enabled(Guard::CursorPutBack));
        let mut clients = self.database.clients_of(part);
        if !self.guards.enabled(Guard::WithdrawnByRange) {
            clients = self.database.clients_of(&part.as_range());
        }
        let (mut gone, mut locked) = (0_i64, 0_i64);
        for client in clients {
            let rows = self.database.feedback.entry(part.id.clone()).or_default();
            if stay && rows[&client].answered {
                continue;
            }
            if self.database.keep_locked_row(&part.id, &client) {
                locked += 1;
            } else {
                self.database.feedback.entry(part.id.clone()).or_default().remove(&client);
                gone += 1;
            }
        }
        let row = self.database.campaigns.get_mut(&part.id).expect("the part of a round has a campaign");
        row.told -= part.drafts;
        row.late -= part.late.len() as i64;
        row.skipped -= part.skipped;
        row.kept += part.drafts - gone - locked;
        row.unsent = None;
        if part.has_page && back {
            row.cursor.clone_from(&part.after);
            row.last_page_seq = None;
        }
        if let (true, Some(campaign)) = (row.state != CampaignState::Cancelled, &row.campaign) {
            row.state = CampaignState::of(campaign.window, row.last_page_seq.is_some(), now);
        }
        (part.drafts, part.checksum, part.has_page) = (0, 0, false);
        part.late.clear();
        locked.unsigned_abs()
    }

    /// The lane's open campaigns that are picked, by their ids.
    pub(super) fn open(&self, lane: Lane, picked: impl Fn(&CampaignRow) -> bool) -> Vec<OpenCampaign> {
        let now = self.now();
        let is_open = |row: &CampaignRow| row.campaign.as_ref().is_some_and(|campaign| campaign.window.is_open(now));
        let open = self.database.campaigns.values().filter(|row| row.lane == lane && row.runs() && is_open(row));
        open.filter(|row| picked(row)).filter_map(CampaignRow::open).collect()
    }

    /// The lane's open campaigns of these restaurants behind an id, without their content.
    pub(super) fn late_for(
        &self,
        lane: Lane,
        restaurants: &[String],
        after: Option<&str>,
        most: usize,
    ) -> Vec<LateCampaign> {
        let open = self.open(lane, |row| {
            let campaign = row.campaign.as_ref();
            campaign.is_some_and(|campaign| restaurants.contains(&campaign.restaurant_id))
        });
        let late_for = |open: OpenCampaign| LateCampaign {
            adv_campaign_id: open.running.campaign.adv_campaign_id.clone(),
            restaurant_id: open.running.campaign.restaurant_id.clone(),
            cursor: open.running.cursor.clone(),
            main_pass_over: open.main_pass_over,
            told: self.database.campaigns[open.running.id()].told,
            texts: texts(&open.running.campaign),
        };
        let mut open: Vec<LateCampaign> = open.into_iter().map(late_for).collect();
        open.retain(|open| after.is_none_or(|after| open.adv_campaign_id.as_str() > after));
        open.sort_by(|one, other| {
            (&one.restaurant_id, &one.adv_campaign_id).cmp(&(&other.restaurant_id, &other.adv_campaign_id))
        });
        open.truncate(most);
        open
    }

    /// Those of these campaigns of the lane that are open.
    pub(super) fn open_of(&self, lane: Lane, ids: &[String]) -> Vec<ActiveCampaign> {
        let open = self.open(lane, |row| {
            let campaign = row.campaign.as_ref();
            campaign.is_some_and(|campaign| ids.contains(&campaign.adv_campaign_id))
        });
        open.into_iter().map(|open| open.running).collect()
    }

    pub(super) fn open_after(&self, lane: Lane, after: Option<&(Seconds, String)>, most: usize) -> Vec<OpenCampaign> {
        let nobody = self.guards.enabled(Guard::RescanOfNobody);
        let place = |open: &OpenCampaign| (open.running.campaign.window.end, open.running.id().to_owned());
        let mut open = self.open(lane, |row| row.was_paged(nobody));
        open.retain(|open| after.is_none_or(|after| place(open) > *after));
        open.sort_by_key(place);
        open.truncate(most);
        open
    }

    pub(super) fn due_rescan(&self, lane: Lane, beside: &BTreeSet<String>, most: usize) -> Vec<OpenCampaign> {
        let now = self.now();
        let nobody = self.guards.enabled(Guard::RescanOfNobody);
        let mut due = self.open(lane, |row| row.was_paged(nobody) && row.repass_at.is_some_and(|at| at <= now));
        due.retain(|open| !beside.contains(open.running.id()));
        due.sort_by_key(|open| self.database.campaigns[open.running.id()].repass_at);
        due.truncate(most);
        due
    }

    pub(super) fn note_rescanned(&mut self, id: &str, revision: i32) {
        let now = self.now();
        let compares = self.guards.enabled(Guard::RescanOfSameRevision);
        if let Some(row) = self.database.campaigns.get_mut(id)
            && (row.revision == revision || !compares)
        {
            row.repass_at = row.next_repass(now);
        }
    }

    pub(super) fn note_unsent(&mut self, lane: Lane, id: &str, unsent: u64) -> bool {
        let (seq, published) = (self.database.lane(lane).seq, self.database.lane(lane).published_seq);
        let holds = |round: &RoundRow| round.parts.iter().any(|part| part.id == id && part.drafts > 0);
        if Some(seq) > published && self.database.rounds.get(&(lane, seq)).is_some_and(holds) {
            return false;
        }
        if let Some(row) = self.database.campaigns.get_mut(id)
            && row.is_counted()
        {
            row.unsent = Some(unsent.cast_signed());
        }
        true
    }
}
