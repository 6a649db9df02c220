//! What a lane needs of its ledger: one trait, with the real ledger in [`crate::postgres`] and a simulated one in
//! [`crate::simulation`].
//!
//! Every method is one transaction of the feedback database. Each begins the same way (the lane's shared advisory lock, then the
//! epoch), and answers [`LedgerError::NotMine`] when the lane is another's by now.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use uuid::Uuid;

use crate::broker::{DeadLetterMessage, Lane, Record, RecordMark};
use crate::campaign::{Campaign, EpochSeconds, Window};
use crate::draft::{Clients, DraftBatch};
use crate::way::decode::Arrival;

/// A round, as both sides name it: equal heads are the same decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RoundHead {
    /// The round's number in its lane.
    pub seq: i64,
    /// How often it was changed by withdrawal.
    pub revision: i32,
    /// Of its drafts and dead letters, in any order.
    pub checksum: i64,
}

impl fmt::Display for RoundHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seq)?;
        if self.revision > 0 {
            write!(f, ", revision {}", self.revision)?;
        }
        write!(f, ", checksum {:016x}", self.checksum)
    }
}

/// The right to write for a lane, as bumped by this instance. Every transaction of the lane compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The lane.
    pub lane: Lane,
    /// The epoch of this ownership.
    pub epoch: i64,
    /// `pg_postmaster_start_time()` at the bump, in microseconds: a fail-over that lost the bump shows here.
    pub postmaster: i64,
    /// The key of the lane's advisory lock.
    pub lock_key: i64,
}

/// What the bump returned: the lane as it stands.
#[derive(Debug, Clone)]
pub struct Entered {
    /// The right to write.
    pub ownership: Ownership,
    /// Which ledger this is.
    pub ledger: Uuid,
    /// The next input offset to record.
    pub position: i64,
    /// The last record taken in, to know the topic again.
    pub last_record: Option<RecordMark>,
    /// The last recorded round.
    pub head: RoundHead,
    /// The one before it, where it is still kept.
    pub previous: Option<RoundHead>,
    /// The last round that the ledger knows to be committed in Kafka.
    pub published: Option<i64>,
    /// The id of the topic that the lane has read, where it is known.
    pub topic_id: Option<String>,
    /// An operator decided against the mark that Kafka holds: the ledger is right, the mark is to be written anew.
    pub overrule: bool,
    /// Most bytes of a round, where its owners met a slow link.
    pub round_bytes: Option<i64>,
    /// Why the lane stands still, if it was halted and not resolved.
    pub halt: Option<Halt>,
    /// Which comparison of the ledger with Kafka stands: another server, or commits that are missing, begins a new one.
    pub comparison: String,
    /// Whether the lane was compared in it.
    pub compared: bool,
}

/// What stops all sending of every instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Brakes {
    /// An operator paused it.
    pub paused: bool,
    /// The ledger is on a server on which not every lane was compared with Kafka yet, or commits are missing in a lane: it may know less than
    /// was told, so nothing is sent and nothing is taken in.
    pub held: bool,
}

/// A lane that stands still until an operator resolves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// The halt's name, for instance `kafka-ahead`.
    pub name: String,
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

/// Names of the halts that say that the ledger lost commits: what they told is known to Kafka alone until the lane is resolved.
pub const LOSSES: [&str; 3] = ["kafka-ahead", "other-content", "other-ledger"];

impl Halt {
    /// Whether it says that the ledger lost commits.
    pub fn is_loss(&self) -> bool {
        LOSSES.contains(&self.name.as_str())
    }
}

/// A campaign that may get drafts now.
#[derive(Debug, Clone)]
pub struct Running {
    /// The campaign as the next draft shall show it.
    pub campaign: Arc<Campaign>,
    /// Which version of it this is.
    pub revision: i32,
    /// The last client of the main pass, none before the first page.
    pub cursor: Option<String>,
}

impl Running {
    /// The campaign's id.
    pub fn id(&self) -> &str {
        &self.campaign.adv_campaign_id
    }
}

/// How many a campaign has told, and the feedback rows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldAndRows {
    /// Drafts that are recorded, and rows that stayed when theirs was withdrawn.
    pub told: i64,
    /// Rows that are there; not counted any further than to what was told.
    pub rows: i64,
}

impl ToldAndRows {
    /// Whether rows are gone in such a number that nobody has taken out single ones: more than a fiftieth of them, and more than five, or half of
    /// them. Who subscribes late is no part of either number.
    pub fn were_removed(self) -> bool {
        let missing = self.told - self.rows;
        missing > 0 && missing.saturating_mul(50) > self.told && (missing > 5 || missing * 2 >= self.told)
    }
}

/// A campaign whose late subscribers are told: active or complete, inside its window.
#[derive(Debug, Clone)]
pub struct OpenCampaign {
    /// The campaign as the next draft shall show it.
    pub running: Running,
    /// Whether the main pass has recorded its last page.
    pub main_pass_over: bool,
    /// Drafts that are recorded, and rows that stayed when theirs was withdrawn.
    pub told: i64,
}

/// An open campaign as its late subscribers are judged: without its content, of which there may be much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateFor {
    /// The campaign.
    pub adv_campaign_id: String,
    /// Whose subscribers may be late for it.
    pub restaurant_id: String,
    /// The last client of the main pass, none before the first page.
    pub cursor: Option<String>,
    /// Whether the main pass has recorded its last page.
    pub main_pass_over: bool,
    /// How many drafts of it were recorded.
    pub told: i64,
    /// How many bytes its texts have together.
    pub texts: usize,
}

/// Who of these clients is late for a campaign: the question of a round.
#[derive(Debug, Clone, Copy)]
pub struct LateQuestion<'a> {
    /// The campaign.
    pub adv_campaign_id: &'a str,
    /// The candidates, each once.
    pub clients: &'a Clients,
    /// The cursor as the round plans it.
    pub planned_cursor: Option<&'a str>,
    /// Whether the main pass is over by then.
    pub main_pass_over: bool,
}

/// A campaign that is over, and whose untold audience is not counted yet.
#[derive(Debug, Clone)]
pub struct Uncounted {
    /// The campaign.
    pub campaign: Arc<Campaign>,
    /// Whether it was cancelled; else its end passed.
    pub cancelled: bool,
}

/// A dead letter that no round has published. What it holds stays in the ledger until a round takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingLetter {
    /// Its number in the ledger.
    pub id: i64,
    /// What it takes in a round, in bytes.
    pub bytes: usize,
}

/// What a lane has to do, as the ledger knows it.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// Campaigns inside their window whose main pass is not finished, those without a page first.
    pub running: Vec<Running>,
    /// Whether there are more of them than were asked for.
    pub more_running: bool,
    /// Dead letters that no round has published, oldest first.
    pub dead_letters: Vec<WaitingLetter>,
    /// Whether there are more of them.
    pub more_dead_letters: bool,
    /// When the next campaign starts or ends.
    pub next_change: Option<EpochSeconds>,
    /// Campaigns that are over and whose untold audience is not counted yet.
    pub uncounted: Vec<Uncounted>,
    /// Whether there are more of them.
    pub more_uncounted: bool,
}

/// What waits for lanes of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Lanes with changes to judge.
    pub changes: Vec<Lane>,
    /// Lanes in which a re-pass is due.
    pub repasses: Vec<Lane>,
    /// Lanes that do not stand as they were entered: somebody else took one, if only to give it something, the server is another one, or
    /// the lane is to be compared with Kafka again; all of them where the feedback table is not the ledger's. Whoever runs one enters it anew.
    pub taken: Vec<Lane>,
}

/// What an intake made of its records.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// Campaigns that are new and may get drafts now.
    pub started: Vec<Running>,
    /// Campaigns that exist by now in another version, window or state: what is known of them is to be read again.
    pub changed: Vec<String>,
    /// The windows that they have by now: outside of them, a recorded round of theirs must not be begun. That of a cancelled one is
    /// [`Window::NEVER`].
    pub windows: Vec<(String, Window)>,
    /// Dead letters that a round has to publish.
    pub dead_letters: Vec<WaitingLetter>,
    /// The next start or end among what arrived.
    pub next_change: Option<EpochSeconds>,
    /// How many records ended as what.
    pub tally: Tally,
    /// Whether more changes may wait to be judged: so many did that they did not fit into one transaction.
    pub more_changes: bool,
}

/// How many input records ended as what; they add up to the records taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// New campaigns, those among them that had ended included.
    pub campaigns: i64,
    /// Newer versions.
    pub updates: i64,
    /// Older versions, ignored.
    pub older_updates: i64,
    /// Identical copies.
    pub duplicates: i64,
    /// Handed to the lane that owns the campaign.
    pub handed_over: i64,
    /// Tombstones.
    pub cancellations: i64,
    /// Dead letters.
    pub dead_letters: i64,
}

impl Tally {
    /// All of them.
    pub fn records(&self) -> i64 {
        let Self { campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters } = self;
        campaigns + updates + older_updates + duplicates + handed_over + cancellations + dead_letters
    }
}

/// Records that arrived one after the other, decoded, and the positions before and after them.
#[derive(Debug, Clone)]
pub struct IntakeBatch {
    /// The lane's position before; compared when the position is set.
    pub from: i64,
    /// The position after.
    pub to: i64,
    /// The records with what each of them is.
    pub arrivals: Vec<(Record, Arrival)>,
}

impl IntakeBatch {
    /// The mark of the last record that could be read.
    pub fn last_mark(&self) -> Option<RecordMark> {
        self.arrivals.iter().rev().find_map(|(record, _)| record.mark())
    }
}

/// How a page of the main pass, and who was late, stand in a round.
#[derive(Debug, Clone)]
pub struct RoundPart {
    /// The drafts of the part: the page's clients first, then the late ones.
    pub drafts: DraftBatch,
    /// The campaign's version.
    pub revision: i32,
    /// The page, where the main pass moves.
    pub page: Option<PageRange>,
    /// How many of the drafts are of late subscribers.
    pub late: usize,
}

impl RoundPart {
    /// Whether the main pass is over with it and nobody favours the restaurant.
    pub fn found_nobody(&self) -> bool {
        let is_whole = |page: &PageRange| page.after.is_none() && page.last && page.already_told.is_empty();
        self.drafts.clients.is_empty() && self.page.as_ref().is_some_and(is_whole)
    }
}

/// The range of clients that a page covers, and who in it had a draft already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRange {
    /// The cursor before: exclusive, none from the beginning.
    pub after: Option<String>,
    /// The cursor afterwards: inclusive. None only for a page on which nobody stands.
    pub upto: Option<String>,
    /// Whether the main pass ends with it.
    pub last: bool,
    /// Clients in the range that had a feedback row before.
    pub already_told: Vec<String>,
    /// Client ids that are empty, too long or no UTF-8.
    pub skipped: u64,
}

/// Everything that a round records.
#[derive(Debug, Clone)]
pub struct RoundContent {
    /// The drafts by campaign.
    pub parts: Vec<RoundPart>,
    /// The dead letters that it publishes.
    pub dead_letters: Vec<DeadLetterMessage>,
    /// The moment at which its drafts were formed.
    pub trigger_datetime_created: EpochSeconds,
    /// What the lane's next owner is to know: most bytes of a round, where the link is slow.
    pub round_bytes: Option<i64>,
}

/// What the compare-and-set at the end of a recording answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// The round is recorded; the lane's position stood here.
    Recorded {
        /// The offset to commit with it.
        position: i64,
        /// Whether campaigns of the round before turned out to be over: who was not told of them is to be counted.
        closed: bool,
    },
    /// These campaigns of the round ended, were updated or cancelled meanwhile (none: its dead letters are another round's): nothing is
    /// recorded, plan again.
    Stale(Vec<String>),
}

/// A recorded round, read back.
#[derive(Debug, Clone)]
pub struct StoredRound {
    /// Its name.
    pub head: RoundHead,
    /// The offset recorded with it.
    pub position: i64,
    /// How many drafts it holds by its own record.
    pub drafts: u64,
    /// The drafts found.
    pub batches: Vec<DraftBatch>,
    /// The dead letters found.
    pub dead_letters: Vec<DeadLetterMessage>,
    /// Ids of the campaigns in it that are not open, as they stand now: ended, cancelled, or moved to a later start. Not to be published.
    pub not_open: Vec<String>,
    /// The time in which all campaigns in it are open, as updates have moved their windows since.
    pub open: Window,
}

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

/// Why the ledger did not do what was asked. One place maps these to what happens: [`crate::way::policy`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The epoch, the postmaster, the position or the seq is not what this owner left.
    #[error("the lane is not ours any more: {0}")]
    NotMine(String),
    /// It may pass: server away, starting, lock or statement time-out, a reply that did not come.
    #[error("{0}")]
    Passing(String),
    /// The server refuses and will refuse again: right, column, constraint, disk.
    #[error("{0}")]
    Refused(Refusal),
    /// The feedback table is not the one that the ledger knows.
    #[error("{0}")]
    AnotherTable(String),
    /// A feedback row for one of the drafts was there already.
    #[error("a feedback row exists already: {0}")]
    Duplicate(String),
    /// Another role holds the lane's lock and cannot be ended by ours.
    #[error(
        "backend {pid} of role {role} holds the lock of lane {lane}; end it as a superuser: select pg_terminate_backend({pid})"
    )]
    Held {
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

/// The clients of a campaign in `(after, upto]`, by `client_id COLLATE "C"`.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// The campaign.
    pub adv_campaign_id: &'a str,
    /// After this client; none from the first on.
    pub after: Option<&'a str>,
    /// Up to this client, inclusive.
    pub upto: &'a str,
}

/// The ledger, as far as a lane needs it.
pub trait Ledger: Clone + Send + Sync + 'static {
    /// A round that is being recorded: an open transaction.
    type Open: OpenRound;

    /// Takes the lane: epoch + 1, former owners' transactions ended. Creates the lane's row where there is none, with round 0
    /// and `beginning` as its position.
    fn bump(&self, lane: Lane, beginning: i64) -> impl Future<Output = Result<Entered, LedgerError>> + Send;
    /// Whether the lane is still ours, and the server the same.
    fn still_mine(&self, own: Ownership) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// The lane reads the topic of this id from now on.
    fn note_topic(&self, own: Ownership, topic_id: &str) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// The last recorded round as it stands, to be published again.
    fn stored_round(&self, own: Ownership) -> impl Future<Output = Result<StoredRound, LedgerError>> + Send;
    /// Withdraws from the last recorded round the drafts of campaigns that are not open.
    fn withdraw(&self, own: Ownership, head: RoundHead) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Takes the dead letters out of the last recorded round, as their topic does not take them: they wait for a later one.
    fn set_letters_aside(
        &self,
        own: Ownership,
        head: RoundHead,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Withdraws all drafts from the last recorded round, which did not get through; their campaigns go on where they stood before it. The lane
    /// remembers how many bytes a round may have.
    fn withdraw_whole(
        &self,
        own: Ownership,
        head: RoundHead,
        round_bytes: Option<i64>,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// What there is to do, at most `most` campaigns. Scheduled campaigns whose start has come become active here, and ended ones expire or close.
    fn due(&self, own: Ownership, most: usize) -> impl Future<Output = Result<Due, LedgerError>> + Send;
    /// Records what arrived, and moves the position. [`LedgerError::OnHold`] while all is held: nothing is recorded.
    fn intake(
        &self,
        own: Ownership,
        batch: Arc<IntakeBatch>,
    ) -> impl Future<Output = Result<Taken, LedgerError>> + Send;
    /// Judges what arrived in other lanes, or from an operator, about campaigns of this lane.
    fn judge_changes(&self, own: Ownership) -> impl Future<Output = Result<Taken, LedgerError>> + Send;
    /// Begins to record a round.
    fn open_round(&self, own: Ownership) -> impl Future<Output = Result<Self::Open, LedgerError>> + Send;
    /// The ledger learns that this round is committed in Kafka; campaigns whose last page it held become complete. Whether some turned out to
    /// be over: who was not told of them is to be counted.
    fn note_published(&self, own: Ownership, seq: i64) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Those who have a feedback row for the campaign, among the clients of each stretch; outside of any round.
    fn already_told(&self, stretches: &[Stretch<'_>])
    -> impl Future<Output = Result<Vec<Clients>, LedgerError>> + Send;
    /// The lane's open campaigns of these restaurants, to be passed again.
    fn open_of(
        &self,
        own: Ownership,
        restaurants: &[String],
    ) -> impl Future<Output = Result<Vec<OpenCampaign>, LedgerError>> + Send;
    /// The lane's open campaigns of these restaurants whose ids are behind this one, ordered by restaurant and id; at most so many.
    fn open_campaigns(
        &self,
        own: Ownership,
        restaurants: &[String],
        after: Option<&str>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<LateFor>, LedgerError>> + Send;
    /// The lane's open campaigns that had a page, in the order of their ends and ids, behind this one, at most `most`: a new owner passes all of
    /// them again.
    fn open_after(
        &self,
        own: Ownership,
        after: Option<&(EpochSeconds, String)>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<OpenCampaign>, LedgerError>> + Send;
    /// The open campaigns whose re-pass is due, those that are due first before, at most `most` beside these.
    fn due_repass(
        &self,
        own: Ownership,
        beside: &[&str],
        most: usize,
    ) -> impl Future<Output = Result<Vec<OpenCampaign>, LedgerError>> + Send;
    /// What waits for these lanes.
    fn waiting(&self, lanes: &[Ownership]) -> impl Future<Output = Result<Waiting, LedgerError>> + Send;
    /// Which of the restaurants have an open campaign, and in which of the lanes.
    fn open_restaurants(
        &self,
        lanes: &[Lane],
        restaurants: &[String],
    ) -> impl Future<Output = Result<Vec<(Lane, String)>, LedgerError>> + Send;
    /// How many the campaign has told, and how many rows there are of it. Rows that go while they are counted may be counted.
    fn told_and_rows(
        &self,
        own: Ownership,
        adv_campaign_id: &str,
    ) -> impl Future<Output = Result<ToldAndRows, LedgerError>> + Send;
    /// These versions of campaigns were passed again. One that an update overtook is not done: its end may have been put off.
    fn note_repassed(
        &self,
        own: Ownership,
        passed: &[(String, i32)],
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Up to which id the sweep of one of these lanes' former owners had surely handed on everybody: of the one that was least far.
    fn swept(&self, lanes: &[Lane]) -> impl Future<Output = Result<Option<i64>, LedgerError>> + Send;
    /// The sweep has handed on everybody up to this id to these lanes, as far as they are ours.
    fn note_swept(&self, lanes: &[Lane], upto: i64) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Whether all sending stands still, and why.
    fn brakes(&self) -> impl Future<Output = Result<Brakes, LedgerError>> + Send;
    /// The lane was compared with Kafka behind all former owners, and no commit of it is missing. With the last of so many lanes the hold ends.
    fn note_compared(
        &self,
        own: Ownership,
        comparison: &str,
        lanes: Lane,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// How many were not told of a campaign whose end passed, or that was cancelled. False, and nothing is noted, while drafts of it stand in
    /// a round that is not known to be published: they may be withdrawn yet, and are to be counted then.
    fn note_unsent(
        &self,
        own: Ownership,
        adv_campaign_id: &str,
        unsent: u64,
    ) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Records that the lane stands still. Where commits are missing, every lane is to be compared again, and all is held until then.
    fn halt(&self, own: Ownership, halt: Halt) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Whether a halted lane is to be entered again: an operator resolved its halt, it does not stand as it was entered, or another comparison
    /// with Kafka stands than the one in which it was entered.
    fn resolved(&self, own: Ownership, comparison: &str) -> impl Future<Output = Result<bool, LedgerError>> + Send;
}

/// A round that is being recorded: one open transaction, rolled back when dropped.
pub trait OpenRound: Send + 'static {
    /// Those who have a feedback row for the campaign, among the clients of each stretch, in the order of the stretches.
    fn already_told(
        &mut self,
        stretches: &[Stretch<'_>],
    ) -> impl Future<Output = Result<Vec<Clients>, LedgerError>> + Send;
    /// For each question, those of the clients who are behind the cursor, or anyone once the main pass is over, and have no feedback row; in
    /// order. Behind is decided in SQL, by `COLLATE "C"`.
    fn late(
        &mut self,
        questions: &[LateQuestion<'_>],
    ) -> impl Future<Output = Result<Vec<Clients>, LedgerError>> + Send;
    /// These campaigns as the round's drafts shall show them, those that are open.
    fn campaigns(&mut self, ids: &[&str]) -> impl Future<Output = Result<Vec<Running>, LedgerError>> + Send;
    /// The dead letters with these ids, of those that no round has published, in the order of ids.
    fn letters(&mut self, ids: &[i64]) -> impl Future<Output = Result<Vec<DeadLetterMessage>, LedgerError>> + Send;
    /// Gives the round up and the transaction back.
    fn abandon(self) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Copies the feedback rows.
    fn copy(&mut self, content: Arc<RoundContent>) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Compare-and-set of (epoch, seq), the windows once more, cursors and the round; commits.
    fn seal(
        self,
        head: RoundHead,
        content: Arc<RoundContent>,
    ) -> impl Future<Output = Result<Sealed, LedgerError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::ToldAndRows;

    #[test]
    fn rows_that_are_gone_are_told_from_single_ones_that_were_taken_out() {
        let removed = |told, rows| ToldAndRows { told, rows }.were_removed();
        assert!(removed(1, 0) && removed(2, 1) && removed(10, 4) && removed(300, 200) && removed(10_000, 9_799));
        assert!(!removed(0, 0) && !removed(3, 2) && !removed(10, 6) && !removed(300, 295) && !removed(10_000, 9_800));
        assert!(!removed(10, 300), "an earlier job left rows");
    }
}
