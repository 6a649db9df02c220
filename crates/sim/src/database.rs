//! The tables of the feedback database, and what the ledger's transactions do to them: statement by statement what
//! `dinnerbell_postgres::ledger` does in SQL. Each function is one transaction's work and either does all of it or nothing.

mod campaigns;
mod rounds;
mod withdrawal;

use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Epoch, Lane, Offset, Seq};
use dinnerbell_core::model::ownership::{AcquiredLane, Ownership};
use dinnerbell_core::ports::ledger::LedgerError;

use super::world::WorldState;
use crate::tables::{LaneRow, RoundRow, Transaction, ended};

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

    /// Whether the lane is still owned as it was taken over.
    pub(super) fn is_mine(&self, own: Ownership) -> bool {
        let epoch = self.database.lanes.get(&own.lane).map_or(Epoch::default(), |lane| lane.epoch);
        epoch == own.epoch
            && (self.database.server_started_at == own.server_started_at
                || !self.guards.enabled(Guard::ServerStartCompared))
    }

    /// Begins a transaction of a lane: the shared lock, then the epoch.
    pub(super) fn begin(&mut self, own: Ownership) -> Result<u64, LedgerError> {
        if !self.is_mine(own) && self.guards.enabled(Guard::EpochAtBegin) {
            let database = &mut self.database;
            let (epoch, server_started_at) = (database.lane(own.lane).epoch, database.server_started_at);
            return Err(LedgerError::NotMine(format!(
                "lane {} was taken over as epoch {} of server {}, and is now {epoch} of {server_started_at}",
                own.lane, own.epoch, own.server_started_at
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
        (row.owner, row.taken_over_at) = (owner, now);
        let row = row.clone();
        let head = |seq: Seq| {
            let round = database.rounds.get(&(lane, seq))?;
            Some(RoundVersion { seq, revision: round.revision, checksum: round.checksum })
        };
        Ok(AcquiredLane {
            ownership: Ownership {
                lane,
                epoch: row.epoch,
                server_started_at: database.server_started_at,
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
            mark_overruled: row.mark_overruled,
            round_bytes: row.round_bytes,
            locked_rows: database.has_locked_rows(lane),
            halt: row.halt,
            compared: row.compared == database.comparison(),
            comparison: database.comparison(),
        })
    }
}
