//! What operators and retention do to the tables beside the lanes: the same as `dinnerbell_postgres::ledger`'s `adopt`, `prune` and `resolve`, and
//! as the order to cancel a campaign.

use std::collections::BTreeSet;

use super::world::WorldState;
use crate::tables::{CampaignRow, ChangeRow, ended};
use dinnerbell_core::model::campaign::CampaignState;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Millis, Offset, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::Record;
use dinnerbell_core::ports::ledger::LedgerError;

/// What an adoption moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Campaigns, those that are over included.
    pub campaigns: i64,
    /// Changes about them that nobody has applied.
    pub changes: i64,
    /// Dead letters that are still to be published.
    pub dead_letters: i64,
    /// Drafts of the last round that are withdrawn, because it was never published.
    pub withdrawn: i64,
    /// Those among them whose row stays, because somebody answered in it.
    pub kept: i64,
}

impl WorldState {
    /// Keeps an operator's cancellation for the campaign's lane to apply: what `campaign cancel` does.
    pub fn order_cancellation(&mut self, id: &str) {
        let record = Record {
            offset: Offset::new(-1),
            timestamp: Millis::NONE,
            key: Some(id.as_bytes().to_vec()),
            value: None,
            headers: Vec::new(),
            omitted: None,
        };
        let at = self.micros();
        let change = ChangeRow { adv_campaign_id: id.to_owned(), from_lane: None, record, at, applied: 0 };
        self.database.changes.push(change);
    }

    /// Lets a halted lane try again: what `lane resolve --retry` does.
    pub fn resolve_by_trying_again(&mut self, lane: Lane) {
        let row = self.database.lane(lane);
        if row.halt.take().is_some() {
            row.epoch = row.epoch.next();
        }
    }

    /// Moves what a lane holds, whose partition is gone, to another one: what `lane adopt` does.
    pub fn adopt(&mut self, own: Ownership, published: bool, into: Lane) -> Result<Moved, LedgerError> {
        if !self.database.lanes.contains_key(&into) {
            return Err(LedgerError::NotMine(format!("there is no lane {into}")));
        }
        let transaction = self.begin(own)?;
        let head = self.last_head(own.lane);
        let mut moved = Moved::default();
        if !published {
            moved.withdrawn = self.database.rounds[&(own.lane, head.seq)].drafts;
            moved.kept = -self.kept_of(own.lane);
            self.withdraw_whole_round(own, head)?;
            moved.kept += self.kept_of(own.lane);
        }
        self.complete(own.lane, head.seq);
        self.hand_over(own.lane, into, &mut moved);
        let from = self.database.lane(own.lane);
        (from.epoch, from.halt) = (from.epoch.next(), None);
        if published {
            from.published_seq = Some(from.seq);
        } else {
            from.mark_overruled = true;
        }
        let into = self.database.lane(into);
        into.epoch = into.epoch.next();
        self.end(transaction).map_err(|_| ended())?;
        self.committed();
        Ok(moved)
    }

    fn last_head(&self, lane: Lane) -> RoundVersion {
        let seq = self.database.lanes[&lane].seq;
        let round = &self.database.rounds[&(lane, seq)];
        RoundVersion { seq, revision: round.revision, checksum: round.checksum }
    }

    fn kept_of(&self, lane: Lane) -> i64 {
        self.database.campaigns.values().filter(|row| row.lane == lane).map(|row| row.kept).sum()
    }

    /// Drafts and letters of the last round are free again; it changes once.
    fn withdraw_whole_round(&mut self, own: Ownership, head: RoundVersion) -> Result<(), LedgerError> {
        let round_bytes = self.database.lane(own.lane).round_bytes;
        let _later = self.withdraw_whole(own, head, round_bytes)?;
        self.set_dead_letters_aside(own, head)?;
        if let Some(round) = self.database.rounds.get_mut(&(own.lane, head.seq)) {
            round.revision -= 1;
        }
        Ok(())
    }

    fn hand_over(&mut self, from: Lane, into: Lane, moved: &mut Moved) {
        let database = &mut self.database;
        let of_lane = |row: &CampaignRow| row.lane == from;
        let owned = |id: &String| database.campaigns.get(id).is_some_and(of_lane);
        let waiting = database.changes.iter().filter(|change| change.applied == 0);
        moved.changes = waiting.filter(|change| owned(&change.adv_campaign_id)).count() as i64;
        for row in database.campaigns.values_mut().filter(|row| of_lane(row)) {
            moved.campaigns += 1;
            row.lane = into;
            // The number of a round means nothing in another lane: a last page was published before any of its rounds.
            row.last_page_seq = row.last_page_seq.map(|_| Seq::new(-1));
        }
        for letter in database.dead_letters.iter_mut().filter(|row| row.lane == from && row.round_seq.is_none()) {
            moved.dead_letters += 1;
            letter.lane = into;
        }
    }

    /// Takes what is over: rounds and applied changes of any age, and campaigns past their end. What retention does, whatever it keeps.
    pub fn prune(&mut self) {
        let now = self.now();
        let database = &mut self.database;
        let lanes = &database.lanes;
        let may_go =
            |(lane, seq): &(Lane, Seq)| *seq < lanes[lane].seq.before() && Some(*seq) <= lanes[lane].published_seq;
        database.rounds.retain(|key, _| !may_go(key));
        database.changes.retain(|change| change.applied == 0);
        let last = |(lane, seq): &(Lane, Seq)| *seq >= lanes[lane].seq.before();
        let rounds = database.rounds.iter().filter(|(key, _)| last(key));
        let held: Vec<&str> = rounds.flat_map(|(_, round)| round.parts.iter().map(|part| part.id.as_str())).collect();
        let changes: Vec<&str> = database.changes.iter().map(|change| change.adv_campaign_id.as_str()).collect();
        let is_over = |row: &CampaignRow| {
            let ended = matches!(row.state, CampaignState::Closed | CampaignState::Expired | CampaignState::Cancelled);
            ended && row.campaign.is_some() && row.end() < now
        };
        let locked: BTreeSet<&String> = database.locked_rows.keys().map(|(id, _)| id).collect();
        let stays = |id: &String| held.contains(&&**id) || changes.contains(&&**id) || locked.contains(id);
        database.campaigns.retain(|id, row| !is_over(row) || stays(id));
    }
}
