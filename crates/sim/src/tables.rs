//! The tables of the simulated ledger, and of the feedback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use dinnerbell_core::model::campaign::{Campaign, CampaignState};
use dinnerbell_core::model::clients::Clients;
use dinnerbell_core::model::due::{RunningCampaign, WaitingDeadLetter};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::intake::Tally;
use dinnerbell_core::model::late::OpenCampaign;
use dinnerbell_core::model::number::{Epoch, Lane, Micros, Offset, Seconds, Seq};
use dinnerbell_core::model::output_topics::{OutputTopicIds, is_another};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::{DeadLetterMessage, Record, RecordFingerprint};
use dinnerbell_core::model::round::RoundPart;
use dinnerbell_core::ports::ledger::LedgerError;

/// The feedback database.
#[derive(Debug, Clone)]
pub struct Database {
    /// Which ledger it is.
    pub ledger: Uuid,
    /// When the server was started: a fail-over changes it.
    pub server_started_at: Micros,
    /// Whether an operator paused all sending.
    pub paused: bool,
    /// Grows when a lane finds commits missing.
    pub comparison: i64,
    /// The comparison in which every lane was found whole.
    pub compared: String,
    /// `dinnerbell.lane`.
    pub lanes: BTreeMap<Lane, LaneRow>,
    /// `dinnerbell.campaign`.
    pub campaigns: BTreeMap<String, CampaignRow>,
    /// `dinnerbell.round`, with its parts.
    pub rounds: BTreeMap<(Lane, Seq), RoundRow>,
    /// `dinnerbell.dead_letter`; the id is the place.
    pub dead_letters: Vec<DeadLetterRow>,
    /// `dinnerbell.change`; the id is the place.
    pub changes: Vec<ChangeRow>,
    /// The feedback table: campaign, client, row.
    pub feedback: BTreeMap<String, BTreeMap<String, FeedbackRow>>,
    /// `dinnerbell.locked_row`: campaign and client, and when the row was formed.
    pub locked_rows: BTreeMap<(String, String), Seconds>,
    /// Feedback rows that somebody's open transaction has locked.
    pub locks: BTreeSet<(String, String)>,
    /// Campaigns that go between being found and being read by the intake that meets them: what retention does to those that are long over.
    pub vanishing: BTreeSet<String>,
    /// Open transactions of lanes.
    pub(super) transactions: BTreeMap<u64, Transaction>,
    pub(super) transactions_begun: u64,
    /// The last commit, if it was an acquisition: the lane.
    pub(super) last_bump: Option<Lane>,
    /// A standby that receives nothing any more, as it stands.
    pub(super) standby: Option<Box<Self>>,
    /// The ids of the topics that are written to.
    pub(super) outputs: OutputTopicIds,
    /// Whether commits were lost with a server, besides an acquisition.
    pub has_lost: bool,
}

impl Database {
    /// Whether the topic of dead letters is another one than it was.
    pub(super) fn note_outputs(&mut self, ids: OutputTopicIds) -> bool {
        let known = &mut self.outputs;
        let replaced = is_another(known.dead_letters.as_deref(), ids.dead_letters.as_deref());
        known.notifications = known.notifications.take().or(ids.notifications);
        known.dead_letters = ids.dead_letters.or(known.dead_letters.take());
        replaced
    }

    pub(super) fn new(seed: u64) -> Self {
        Self {
            ledger: Uuid::from_u128(seed.into()),
            server_started_at: Micros::new(1),
            paused: false,
            comparison: 0,
            compared: String::new(),
            lanes: BTreeMap::new(),
            campaigns: BTreeMap::new(),
            rounds: BTreeMap::new(),
            dead_letters: Vec::new(),
            changes: Vec::new(),
            feedback: BTreeMap::new(),
            locked_rows: BTreeMap::new(),
            locks: BTreeSet::new(),
            vanishing: BTreeSet::new(),
            transactions: BTreeMap::new(),
            transactions_begun: 0,
            last_bump: None,
            standby: None,
            outputs: OutputTopicIds::default(),
            has_lost: false,
        }
    }

    /// The comparison with Kafka that stands.
    pub(super) fn comparison(&self) -> String {
        format!("{}/{}", self.server_started_at, self.comparison)
    }

    /// Whether a transaction of the lane is open.
    pub fn is_held(&self, lane: Lane) -> bool {
        self.transactions.values().any(|transaction| transaction.lane == lane)
    }

    pub(super) fn lane(&mut self, lane: Lane) -> &mut LaneRow {
        self.lanes.entry(lane).or_default()
    }

    /// Those who have a feedback row for the campaign among the clients in `(after, upto]`.
    pub(super) fn told(&self, id: &str, after: Option<&str>, upto: &str) -> Clients {
        let within = |client: &&str| after.is_none_or(|after| *client > after) && *client <= upto;
        self.feedback.get(id).into_iter().flatten().map(|(client, _)| client.as_str()).filter(within).collect()
    }

    pub(super) fn has_row(&self, id: &str, client: &str) -> bool {
        self.feedback.get(id).is_some_and(|rows| rows.contains_key(client))
    }

    pub(super) fn clients_of(&self, part: &PartRow) -> Vec<String> {
        let rows = self.feedback.get(&part.id).into_iter().flatten();
        rows.filter(|(client, _)| part.holds(client)).map(|(client, _)| client.clone()).collect()
    }

    pub(super) fn of_lane(&mut self, lane: Lane) -> impl Iterator<Item = &mut CampaignRow> {
        self.campaigns.values_mut().filter(move |row| row.lane == lane)
    }

    /// The server fails over, or is restarted: what was not committed is gone. If the very last commit was an acquisition, that can be gone too.
    pub fn fail_over(&mut self, loses_bump: bool) {
        self.transactions.clear();
        self.server_started_at = self.server_started_at + 1;
        if loses_bump && let Some(lane) = self.last_bump.take() {
            let row = self.lane(lane);
            row.epoch = Epoch::new(row.epoch.get() - 1);
        }
    }

    /// From here on the standby receives nothing.
    pub fn standby_falls_behind(&mut self) {
        self.standby = None;
        self.standby = Some(Box::new(self.clone()));
    }

    /// The server fails over to its standby: whatever was committed since that fell behind is gone.
    pub fn promote(&mut self) {
        let Some(standby) = self.standby.take() else { return };
        let (server_started_at, transactions_begun) = (self.server_started_at, self.transactions_begun);
        *self = Self { server_started_at, transactions_begun, has_lost: true, last_bump: None, ..*standby };
        self.fail_over(false);
    }
}

/// A lane's row.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the columns of migrations/")]
pub struct LaneRow {
    pub epoch: Epoch,
    /// The number of the instance that took it last.
    pub owner: usize,
    pub seq: Seq,
    pub published_seq: Option<Seq>,
    pub position: Offset,
    pub last_record: Option<RecordFingerprint>,
    pub topic_id: Option<String>,
    pub halt: Option<Halt>,
    /// When it was taken last, in microseconds.
    pub taken_over_at: Micros,
    pub swept_to: Option<i64>,
    pub mark_overruled: bool,
    pub compared: String,
    pub records: i64,
    pub tally: Tally,
    pub round_bytes: Option<i64>,
}

/// A campaign's row.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the columns of migrations/")]
pub struct CampaignRow {
    pub lane: Lane,
    pub state: CampaignState,
    pub revision: i32,
    /// None for one that was cancelled before it arrived.
    pub campaign: Option<Arc<Campaign>>,
    pub cursor: Option<String>,
    pub last_page_seq: Option<Seq>,
    pub told: i64,
    pub late: i64,
    pub skipped: i64,
    pub kept: i64,
    pub unsent: Option<i64>,
    pub repass_at: Option<Seconds>,
    /// When this version was committed, in microseconds.
    pub changed_at: Micros,
}

impl CampaignRow {
    /// The first version of a campaign: nobody is told of it yet.
    pub(super) fn first(lane: Lane, state: CampaignState, campaign: Option<Arc<Campaign>>, changed_at: Micros) -> Self {
        Self {
            lane,
            state,
            revision: 1,
            campaign,
            cursor: None,
            last_page_seq: None,
            told: 0,
            late: 0,
            skipped: 0,
            kept: 0,
            unsent: None,
            repass_at: None,
            changed_at,
        }
    }

    /// The end as updates have moved it.
    pub fn end(&self) -> Seconds {
        self.campaign.as_ref().map_or(Seconds::new(0), |campaign| campaign.window.end)
    }

    /// The start as updates have moved it.
    pub fn start(&self) -> Seconds {
        self.campaign.as_ref().map_or(Seconds::new(0), |campaign| campaign.window.start)
    }

    /// Whether it is over, and there is an audience to count.
    pub(super) fn is_counted(&self) -> bool {
        matches!(self.state, CampaignState::Expired | CampaignState::Closed | CampaignState::Cancelled)
            && self.campaign.is_some()
    }

    pub(super) fn runs(&self) -> bool {
        matches!(self.state, CampaignState::Active | CampaignState::Complete)
    }

    pub(super) fn running(&self) -> Option<RunningCampaign> {
        Some(RunningCampaign { campaign: self.campaign.clone()?, revision: self.revision, cursor: self.cursor.clone() })
    }

    pub(super) fn open(&self) -> Option<OpenCampaign> {
        let main_pass_over = self.last_page_seq.is_some();
        Some(OpenCampaign { running: self.running()?, main_pass_over, told: self.told + self.kept })
    }

    /// Whether there is somebody to pass again, or nobody was there.
    pub(super) fn was_paged(&self, or_nobody: bool) -> bool {
        self.cursor.is_some() || (or_nobody && self.last_page_seq.is_some())
    }

    /// Whether its last page is recorded and not known to be published.
    pub(super) fn waits_for(&self, published: Option<Seq>) -> bool {
        // The last page of a campaign that was adopted has a number below all: it was published.
        self.last_page_seq.is_some_and(|seq| seq > published.unwrap_or(Seq::new(-1)))
    }

    pub(super) fn next_repass(&self, now: Seconds) -> Option<Seconds> {
        let last = self.end() - 30 - self.told / 5_000;
        (last > now).then(|| (now + 300).min(last))
    }
}

/// A round's row, with its parts.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the columns of migrations/")]
pub struct RoundRow {
    pub revision: i32,
    pub checksum: i64,
    pub drafts: i64,
    pub position: Offset,
    pub dead_letters: Vec<i64>,
    pub parts: Vec<PartRow>,
}

/// A part of a round.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the columns of migrations/")]
pub struct PartRow {
    pub id: String,
    pub has_page: bool,
    pub after: Option<String>,
    pub upto: Option<String>,
    pub already_told: BTreeSet<String>,
    pub skipped: i64,
    pub late: BTreeSet<String>,
    pub drafts: i64,
    pub checksum: i64,
}

impl PartRow {
    pub(super) fn of(part: &RoundPart) -> Self {
        let clients = &part.drafts.clients;
        let page = part.page.as_ref();
        Self {
            id: part.drafts.template.campaign().adv_campaign_id.clone(),
            has_page: page.is_some(),
            after: page.and_then(|page| page.after.clone()),
            upto: page.and_then(|page| page.upto.clone()),
            already_told: page.map(|page| page.already_told.iter().cloned().collect()).unwrap_or_default(),
            skipped: page.map_or(0, |page| page.skipped.cast_signed()),
            late: clients.iter().skip(clients.len() - part.late).map(str::to_owned).collect(),
            drafts: clients.len() as i64,
            checksum: part.drafts.checksum().cast_signed(),
        }
    }

    /// By a plain range: an earlier job's rows lie inside it, late drafts outside.
    pub(super) fn as_range(&self) -> Self {
        Self { already_told: BTreeSet::new(), late: BTreeSet::new(), ..self.clone() }
    }

    /// Whether a client's row is of this part.
    pub(super) fn holds(&self, client: &str) -> bool {
        let above = self.after.as_deref().is_none_or(|after| client > after);
        let within = self.upto.as_deref().is_some_and(|upto| client <= upto);
        (self.has_page && above && within && !self.already_told.contains(client)) || self.late.contains(client)
    }
}

/// A dead letter.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the columns of migrations/")]
pub struct DeadLetterRow {
    pub lane: Lane,
    pub letter: DeadLetterMessage,
    pub round_seq: Option<Seq>,
}

/// What arrived in one lane, or from an operator, about a campaign of another.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the columns of migrations/")]
pub struct ChangeRow {
    pub adv_campaign_id: String,
    pub from_lane: Option<Lane>,
    pub record: Record,
    /// When it was committed, in microseconds.
    pub at: Micros,
    /// How often it was applied: more than once is a broken promise.
    pub applied: u32,
}

/// A feedback row.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the columns of the feedback table")]
pub struct FeedbackRow {
    pub campaign: Arc<Campaign>,
    pub trigger_datetime_created: Seconds,
    /// Whether this service wrote it.
    pub ours: bool,
    /// Whether somebody answered in it.
    pub answered: bool,
}

/// An open transaction of a lane: it holds the lane's lock.
#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) lane: Lane,
    pub(super) rows: Vec<(String, String, FeedbackRow)>,
}

pub(super) fn not_mine(own: Ownership, what: &str) -> LedgerError {
    LedgerError::NotMine(format!("lane {}: {what} is not what epoch {} left", own.lane, own.epoch))
}

/// A dead letter as a lane remembers it: what arrived, and what goes with it.
pub(super) fn waiting(letter: &DeadLetterMessage) -> WaitingDeadLetter {
    const FRAME: usize = 64 + 1_024;
    let headers = letter.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len)).sum::<usize>();
    let arrived = letter.key.as_ref().map_or(0, Vec::len) + letter.value.as_ref().map_or(0, Vec::len) + headers;
    WaitingDeadLetter { id: letter.id, bytes: arrived + FRAME }
}

/// A transaction that was ended meanwhile.
pub(super) fn ended() -> LedgerError {
    LedgerError::Transient("terminating connection due to administrator command".to_owned())
}

/// What the texts of a campaign take together, in bytes.
pub(super) fn texts(campaign: &Campaign) -> usize {
    let Campaign { restaurant_id, adv_campaign_id, adv_campaign_content, .. } = campaign;
    let sender = campaign.adv_campaign_owner.len() + campaign.adv_campaign_owner_contact.len();
    restaurant_id.len() + adv_campaign_id.len() + adv_campaign_content.len() + sender
}
