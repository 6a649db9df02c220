//! What is taken back from the last round of the simulated ledger.

use std::collections::BTreeSet;

use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::campaign::CampaignState;
use dinnerbell_core::model::draft::dead_letter_checksum;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::DeadLetterMessage;
use dinnerbell_core::ports::ledger::LedgerError;

use crate::tables::{PartRow, not_mine};
use crate::world::WorldState;

impl WorldState {
    /// Takes back what is not open: rows, counts and cursors, and changes the round's revision and checksum.
    pub(crate) fn withdraw(&mut self, own: Ownership, head: RoundVersion) -> Result<u64, LedgerError> {
        self.withdraw_those(own, head, |state, id| !state.open_in(id).is_open(state.now()))
    }

    /// Takes back everything; the lane remembers how large a round may be.
    pub(crate) fn withdraw_whole(
        &mut self,
        own: Ownership,
        head: RoundVersion,
        round_bytes: Option<i64>,
    ) -> Result<u64, LedgerError> {
        let locked = self.withdraw_those(own, head, |_, _| true)?;
        self.database.lane(own.lane).round_bytes = round_bytes;
        Ok(locked)
    }

    pub(super) fn withdraw_those(
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
    pub(crate) fn set_dead_letters_aside(&mut self, own: Ownership, head: RoundVersion) -> Result<(), LedgerError> {
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
    pub(crate) fn letters(&self, ids: &[i64]) -> Vec<DeadLetterMessage> {
        let ids: BTreeSet<&i64> = ids.iter().collect();
        let of = |id: &i64| self.database.dead_letters.get(usize::try_from(*id).ok()?);
        let free = ids
            .into_iter()
            .filter_map(of)
            .filter(|row| row.round_seq.is_none() || !self.guards.enabled(Guard::DeadLetterOnce));
        free.map(|row| row.letter.clone()).collect()
    }

    /// How many of its rows are locked, and stay until they are free.
    pub(super) fn withdraw_part(&mut self, part: &mut PartRow) -> u64 {
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
}
