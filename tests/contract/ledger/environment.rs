//! What a case needs beside the ledger: a fresh one, owners on other instances, and a look at what is stored.

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::intake::Tally;
use dinnerbell_core::model::mark::{CommittedMark, RoundVersion};
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::RecordFingerprint;
use dinnerbell_core::ports::ledger::{Ledger, LedgerError};

/// The consumer group of every case: it stands in each draft.
pub const GROUP: &str = "simulation";

/// A ledger of a case's own, which nobody has used.
pub trait Environment {
    type Ledger: Ledger;

    /// A fresh ledger. Everything is held until lanes are compared with Kafka.
    async fn fresh() -> Self;
    /// The ledger as the first instance has it.
    fn ledger(&self) -> Self::Ledger;
    /// The ledger as another instance has it.
    async fn another(&self) -> Self::Ledger;

    /// The second by the ledger's clock.
    async fn now(&self) -> Seconds;
    /// A campaign's row; panics where there is none.
    async fn campaign(&self, id: &str) -> CampaignState;
    /// A lane's row.
    async fn lane(&self, lane: Lane) -> LaneState;
    /// The clients who have a feedback row for a campaign, in order.
    async fn rows(&self, id: &str) -> Vec<String>;
    /// What a client's feedback row shows: its text, and when it was formed.
    async fn row(&self, id: &str, client: &str) -> (String, Seconds);
    /// How many changes wait to be applied.
    async fn unapplied(&self) -> usize;
    /// Everything that is stored, as text: compared before and after.
    async fn everything(&self) -> String;

    /// Somebody answers in a feedback row.
    async fn answer(&self, id: &str, client: &str);
    /// Somebody's transaction locks a feedback row, and stays open.
    async fn lock_row(&self, id: &str, client: &str);
    /// Those who have rows locked are done.
    async fn free_rows(&self);
    /// An earlier job left a feedback row.
    async fn leave_row(&self, campaign: &Campaign, client: &str);
    /// Somebody takes a feedback row out.
    async fn remove_row(&self, id: &str, client: &str);
    /// A campaign's window is another one, as if time had passed.
    async fn move_window(&self, id: &str, window: Window);
    /// A campaign's pass is due at this second.
    async fn make_repass_due(&self, id: &str, at: Seconds);
    /// A campaign goes between being found and being read by the intake that meets it next.
    async fn let_vanish(&self, id: &str);
    /// An operator cancels a campaign.
    async fn cancel(&self, id: &str);
    /// An operator pauses all sending, or resumes it.
    async fn pause(&self, paused: bool);
    /// An operator lets a halted lane try again.
    async fn retry(&self, lane: Lane);
    /// An operator puts a lane back by what Kafka holds: its mark, and these messages.
    async fn resolve_from_kafka(&self, lane: Lane, theirs: CommittedMark, messages: &[Message<'_>]);
    /// An operator gives what a lane held to another one; its last round was published, or never was.
    async fn adopt(
        &self,
        own: Ownership,
        head: RoundVersion,
        published: bool,
        into: Lane,
    ) -> Result<Moved, LedgerError>;
    /// Retention passes, and keeps nothing that may go.
    async fn prune(&self);
}

/// A draft as a reader of Kafka finds it.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub campaign: &'a Campaign,
    pub client: &'a str,
    pub formed: Seconds,
    /// The round that told it.
    pub seq: Seq,
}

/// What an adoption moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    pub campaigns: i64,
    pub changes: i64,
    pub dead_letters: i64,
    pub withdrawn: i64,
    pub kept: i64,
}

/// A campaign as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignState {
    pub lane: Lane,
    pub state: String,
    pub revision: i32,
    pub content: Option<String>,
    pub cursor: Option<String>,
    pub last_page_seq: Option<Seq>,
    pub told: i64,
    pub late: i64,
    pub skipped: i64,
    pub kept: i64,
    pub unsent: Option<i64>,
    pub repass_at: Option<Seconds>,
}

/// A lane as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    pub seq: Seq,
    pub published: Option<Seq>,
    pub position: Offset,
    pub last_record: Option<RecordFingerprint>,
    pub topic_id: Option<String>,
    pub halt: Option<Halt>,
    pub swept_to: Option<i64>,
    pub round_bytes: Option<i64>,
    pub records: i64,
    pub tally: Tally,
}
