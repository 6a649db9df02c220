//! What a lane needs of its ledger: one trait, with the real ledger in `dinnerbell_postgres` and a simulated one in
//! `dinnerbell_sim`.
//!
//! Every method is one transaction of the feedback database. Each begins the same way (the lane's shared advisory lock, then the
//! epoch), and answers [`LedgerError::NotMine`] when the lane is another's by now.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::model::clients::{ClientRange, Clients};
use crate::model::due::{Due, Poll, RunningCampaign};
use crate::model::halt::Halt;
use crate::model::intake::{IntakeBatch, IntakeOutcome};
use crate::model::late::{LateCheckCampaign, LateQuery, OpenCampaign, RowCounts};
use crate::model::lock::{LockHolder, LockWait, LockedPart, LockedRows};
use crate::model::mark::RoundVersion;
use crate::model::number::{Lane, Offset, Seconds, Seq};
use crate::model::output_topics::OutputTopicIds;
use crate::model::ownership::{AcquiredLane, Ownership, Suspension};
use crate::model::record::DeadLetterMessage;
use crate::model::recorded::DamagedRound;
use crate::model::round::{RoundContent, Sealed, StoredRound};
use crate::ports::failure::{Failure, FailureKind};

/// What the feedback database refuses, and will refuse again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it said, and what is known beside it.
    pub found: String,
    /// What mends it, where it is known: what an operator does before the lane goes on.
    pub remedy: Option<String>,
}

impl From<String> for Refusal {
    fn from(found: String) -> Self {
        Self { found, remedy: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl From<DamagedRound> for LedgerError {
    fn from(DamagedRound(found): DamagedRound) -> Self {
        Self::Damaged(found)
    }
}

/// Why the ledger did not do what was asked. One place maps these to what happens: [`crate::lane::error_policy`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The epoch, the start of the server, the position or the seq is not what this owner left.
    #[error("the lane is not ours any more: {0}")]
    NotMine(String),
    /// It may pass: server away, starting, lock or statement time-out, a reply that did not come.
    #[error("{0}")]
    Transient(String),
    /// The server refuses and will refuse again: right, column, constraint, disk.
    #[error("{0}")]
    Refused(Refusal),
    /// The feedback table is not the one that the ledger knows.
    #[error("{0}")]
    AnotherTable(String),
    /// A feedback row for one of the drafts was there already.
    #[error("a feedback row exists already: {0}")]
    Duplicate(String),
    /// Somebody else's transaction holds a lock that did not come in time: a row, a table.
    #[error("{0}")]
    Locked(Box<LockWait>),
    /// Another role holds the lane's lock and cannot be ended by ours.
    #[error(
        "backend {pid} of role {role} holds the lock of lane {lane}; end it as a superuser: select pg_terminate_backend({pid})"
    )]
    LockHeldByOther {
        /// The lane.
        lane: Lane,
        /// The holder.
        pid: i32,
        /// Its role.
        role: String,
    },
    /// A stored round does not match its own count and checksum.
    #[error("{0}")]
    Damaged(String),
    /// Nothing is taken in until every lane was compared with Kafka.
    #[error("all sending and intake are held until every lane was compared with Kafka")]
    OnHold,
}

impl Failure for LedgerError {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::NotMine(_) => FailureKind::LaneLost,
            Self::Transient(_) | Self::Locked(_) | Self::LockHeldByOther { .. } | Self::OnHold => {
                FailureKind::Transient
            }
            Self::Refused(_) | Self::AnotherTable(_) | Self::Duplicate(_) | Self::Damaged(_) => FailureKind::Refused,
        }
    }
}

/// The ledger: all of its capabilities. What needs one alone asks for that one.
pub trait Ledger: LaneLedger + IntakeLedger + RoundLedger + CampaignLedger + InstanceLedger {}

impl<L: LaneLedger + IntakeLedger + RoundLedger + CampaignLedger + InstanceLedger> Ledger for L {}

/// The right to write for a lane: taking it, keeping it, giving it up to an operator.
pub trait LaneLedger: Clone + Send + Sync + 'static {
    /// Takes the lane: epoch + 1, former owners' transactions ended. Creates the lane's row where there is none, with round 0
    /// and `beginning` as its position; without a beginning it is [`LedgerError::Transient`] then.
    fn acquire(
        &self,
        lane: Lane,
        beginning: Option<Offset>,
    ) -> impl Future<Output = Result<AcquiredLane, LedgerError>> + Send;
    /// Returns whether the lane is still ours, and the server the same.
    fn still_mine(&self, own: Ownership) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Notes that the lane reads the topic of this id from now on.
    fn note_topic(&self, own: Ownership, topic_id: &str) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Notes the ids of the topics that are written to: that of the drafts where none is known, that of the dead letters whatever was known. Returns
    /// whether the latter is another one than it was.
    fn note_outputs(
        &self,
        own: Ownership,
        ids: &OutputTopicIds,
    ) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Notes that the lane was compared with Kafka after all former owners were fenced, and that no commit of it is missing. With the last of
    /// `lanes` the hold ends.
    fn note_compared(
        &self,
        own: Ownership,
        comparison: &str,
        lanes: i32,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Records that the lane is halted. Where commits are missing, every lane is to be compared again, and all is held until then.
    fn halt(&self, own: Ownership, halt: Halt) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Returns whether a halted lane is to be taken over again: an operator resolved its halt, it is lost, or a new comparison with Kafka began since it was
    /// acquired.
    fn resolved(&self, own: Ownership, comparison: &str) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Stores the lock that a part of the lane's work waits for, so that operators see it; none where it waits no more. It needs no ownership, since
    /// nothing follows from it.
    fn note_lock_wait(
        &self,
        lane: Lane,
        part: LockedPart,
        wait: Option<&LockWait>,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Returns whether the transaction of somebody who held a lock is still open.
    fn is_transaction_active(&self, holder: &LockHolder) -> impl Future<Output = Result<bool, LedgerError>> + Send;
}

/// What arrives in a lane, or is handed over to it.
pub trait IntakeLedger: Clone + Send + Sync + 'static {
    /// Records what arrived, and moves the position. [`LedgerError::OnHold`] while all is held: nothing is recorded.
    fn intake(
        &self,
        own: Ownership,
        batch: Arc<IntakeBatch>,
    ) -> impl Future<Output = Result<IntakeOutcome, LedgerError>> + Send;
    /// Applies what arrived in other lanes, or from an operator, about campaigns of this lane.
    fn apply_changes(&self, own: Ownership) -> impl Future<Output = Result<IntakeOutcome, LedgerError>> + Send;
}

/// The rounds of a lane.
pub trait RoundLedger: Clone + Send + Sync + 'static {
    /// A round that is being recorded: an open transaction.
    type Transaction: RoundTransaction;
    /// Returns the last recorded round as its rows are now, to be published again.
    fn stored_round(&self, own: Ownership) -> impl Future<Output = Result<StoredRound, LedgerError>> + Send;
    /// Withdraws from the last recorded round the drafts of campaigns that are not open. It waits for nobody: rows that somebody's open transaction
    /// has locked are noted, and how many they are is returned. [`RoundLedger::withdraw_locked`] withdraws them.
    fn withdraw(&self, own: Ownership, head: RoundVersion) -> impl Future<Output = Result<u64, LedgerError>> + Send;
    /// Withdraws rows of withdrawn drafts that were locked: at most `most`, after this campaign and client. Rows that are free go. Rows in which
    /// somebody answered stay, and are counted as kept. Rows that are gone are forgotten.
    fn withdraw_locked(
        &self,
        own: Ownership,
        after: Option<&(String, String)>,
        most: usize,
    ) -> impl Future<Output = Result<LockedRows, LedgerError>> + Send;
    /// Takes the dead letters out of the last recorded round, as their topic does not take them: they wait for a later one.
    fn set_dead_letters_aside(
        &self,
        own: Ownership,
        head: RoundVersion,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Withdraws all drafts from the last recorded round, which did not get through; their campaigns go on where they stood before it. The lane
    /// remembers how many bytes a round may have. Returns how many rows were locked, as in [`RoundLedger::withdraw`].
    fn withdraw_whole(
        &self,
        own: Ownership,
        head: RoundVersion,
        round_bytes: Option<i64>,
    ) -> impl Future<Output = Result<u64, LedgerError>> + Send;
    /// Begins to record a round.
    fn open_round(&self, own: Ownership) -> impl Future<Output = Result<Self::Transaction, LedgerError>> + Send;
    /// Notes that this round is committed in Kafka. Campaigns whose last page it held become complete. Returns whether some turned out to be over:
    /// who was not told of them is to be counted.
    fn note_published(&self, own: Ownership, seq: Seq) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Returns those who have a feedback row for the campaign, among the clients of each range; outside of any round.
    fn already_told(
        &self,
        ranges: &[ClientRange<'_>],
    ) -> impl Future<Output = Result<Vec<Clients>, LedgerError>> + Send;
}

/// The campaigns of a lane: what is due, who may be late, who was not told.
pub trait CampaignLedger: Clone + Send + Sync + 'static {
    /// Returns what there is to do, at most `most` campaigns. Scheduled campaigns whose start has come become active here, and ended ones expire or close.
    fn due(&self, own: Ownership, most: usize) -> impl Future<Output = Result<Due, LedgerError>> + Send;
    /// Returns the lane's open campaigns of these restaurants, to be rescanned.
    fn open_campaigns_of(
        &self,
        own: Ownership,
        restaurants: &[String],
    ) -> impl Future<Output = Result<Vec<OpenCampaign>, LedgerError>> + Send;
    /// Returns the lane's open campaigns of these restaurants whose ids come after this one, ordered by restaurant and id; at most `most`.
    fn late_campaigns(
        &self,
        own: Ownership,
        restaurants: &[String],
        after: Option<&str>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<LateCheckCampaign>, LedgerError>> + Send;
    /// Returns the lane's open campaigns that had a page, after this one in the order of ends and ids, at most `most`. A new owner rescans all of them.
    fn open_campaigns_after(
        &self,
        own: Ownership,
        after: Option<&(Seconds, String)>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<OpenCampaign>, LedgerError>> + Send;
    /// Returns the open campaigns whose rescan is due, except these; those that are due first come first; at most `most`.
    fn due_rescan(
        &self,
        own: Ownership,
        beside: &[&str],
        most: usize,
    ) -> impl Future<Output = Result<Vec<OpenCampaign>, LedgerError>> + Send;
    /// Returns how many the campaign has told, and how many rows there are of it. Rows that go while they are counted may be counted.
    fn count_rows(
        &self,
        own: Ownership,
        adv_campaign_id: &str,
    ) -> impl Future<Output = Result<RowCounts, LedgerError>> + Send;
    /// Notes that these versions of campaigns were rescanned. One that an update overtook is not done: its end may have been put off.
    fn note_rescanned(
        &self,
        own: Ownership,
        rescanned: &[(String, i32)],
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Notes how many were not told of a campaign whose end passed, or that was cancelled. Returns false, and notes nothing, while drafts of it are in a
    /// round that is not known to be published. They may be withdrawn yet, and must be counted then.
    fn note_unsent(
        &self,
        own: Ownership,
        adv_campaign_id: &str,
        unsent: u64,
    ) -> impl Future<Output = Result<bool, LedgerError>> + Send;
}

/// What is asked on behalf of all lanes of an instance.
pub trait InstanceLedger: Clone + Send + Sync + 'static {
    /// Returns what waits for these lanes.
    fn poll(&self, lanes: &[Ownership]) -> impl Future<Output = Result<Poll, LedgerError>> + Send;
    /// Returns which of the restaurants have an open campaign, and in which of the lanes.
    fn open_restaurants(
        &self,
        lanes: &[Lane],
        restaurants: &[String],
    ) -> impl Future<Output = Result<Vec<(Lane, String)>, LedgerError>> + Send;
    /// Returns the id up to which the tail scans of all these lanes' former owners had surely handed on everybody; none where nobody noted one.
    fn tail_scanned(&self, lanes: &[Lane]) -> impl Future<Output = Result<Option<i64>, LedgerError>> + Send;
    /// Notes that the tail scan has handed on everybody up to this id to these lanes, as far as they are ours. Returns whether it is noted for all of
    /// those: it waits for no lane that is locked.
    fn note_tail_scanned(&self, lanes: &[Lane], upto: i64) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Returns whether all sending is paused or held.
    fn suspension(&self) -> impl Future<Output = Result<Suspension, LedgerError>> + Send;
}

/// A round that is being recorded: one open transaction, rolled back when dropped.
pub trait RoundTransaction: Send + 'static {
    /// Returns those who have a feedback row for the campaign, among the clients of each range, in the order of the ranges.
    fn already_told(
        &mut self,
        ranges: &[ClientRange<'_>],
    ) -> impl Future<Output = Result<Vec<Clients>, LedgerError>> + Send;
    /// For each question, returns those of the clients who are late and have no feedback row, in order. Late is who is at or before the cursor, or
    /// anyone once the main pass is over. SQL decides that, by `COLLATE "C"`.
    fn late(&mut self, questions: &[LateQuery<'_>]) -> impl Future<Output = Result<Vec<Clients>, LedgerError>> + Send;
    /// Returns these campaigns as the round's drafts shall show them, those that are open.
    fn campaigns(&mut self, ids: &[&str]) -> impl Future<Output = Result<Vec<RunningCampaign>, LedgerError>> + Send;
    /// Returns the dead letters with these ids, of those that no round has published, in the order of ids.
    fn dead_letters(&mut self, ids: &[i64])
    -> impl Future<Output = Result<Vec<DeadLetterMessage>, LedgerError>> + Send;
    /// Gives the round up, and rolls its transaction back.
    fn abandon(self) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Copies the feedback rows.
    fn copy(&mut self, content: Arc<RoundContent>) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Compares and sets (epoch, seq), checks the windows once more, writes cursors and the round, and commits.
    fn seal(
        self,
        head: RoundVersion,
        content: Arc<RoundContent>,
    ) -> impl Future<Output = Result<Sealed, LedgerError>> + Send;
}
