//! What a lane has to do, as the ledger knows it.

use std::sync::Arc;

use crate::model::campaign::Campaign;
use crate::model::number::{Lane, Seconds};

/// Most dead letters of a lane that are remembered at once, by number and size; further ones wait in the ledger.
pub const MAX_DEAD_LETTERS: usize = 1_000;

/// A campaign that may get drafts now.
#[derive(Debug, Clone)]
pub struct RunningCampaign {
    /// The campaign as the next draft shall show it.
    pub campaign: Arc<Campaign>,
    /// Which version of it this is.
    pub revision: i32,
    /// The last client of the main pass, none before the first page.
    pub cursor: Option<String>,
}

impl RunningCampaign {
    /// The campaign's id.
    pub fn id(&self) -> &str {
        &self.campaign.adv_campaign_id
    }
}

/// What a lane has to do, as the ledger knows it.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// Campaigns inside their window whose main pass is not finished, those without a page first.
    pub running: Vec<RunningCampaign>,
    /// Whether there are more of them than were asked for.
    pub more_running: bool,
    /// Dead letters that no round has published, oldest first.
    pub dead_letters: Vec<WaitingDeadLetter>,
    /// Whether there are more of them.
    pub more_dead_letters: bool,
    /// When the next campaign starts or ends.
    pub next_deadline: Option<Seconds>,
    /// Campaigns that are over and whose untold audience is not counted yet.
    pub uncounted: Vec<Uncounted>,
    /// Whether there are more of them.
    pub more_uncounted: bool,
}

/// A dead letter that no round has published. What it holds stays in the ledger until a round takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingDeadLetter {
    /// Its number in the ledger.
    pub id: i64,
    /// What it takes in a round, in bytes.
    pub bytes: usize,
}

/// A campaign that is over, and whose untold audience is not counted yet.
#[derive(Debug, Clone)]
pub struct Uncounted {
    /// The campaign.
    pub campaign: Arc<Campaign>,
    /// Whether it was cancelled; else its end passed.
    pub cancelled: bool,
}

/// What waits for lanes of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Poll {
    /// Lanes with changes to apply.
    pub changes: Vec<Lane>,
    /// Lanes in which a rescan is due.
    pub rescans: Vec<Lane>,
    /// Lanes that are lost. Somebody else took one, if only to give it something; or the server is another one; or the lane is to be compared with
    /// Kafka again. All of them, where the feedback table is not the ledger's. Its task takes it over again.
    pub lost_lanes: Vec<Lane>,
}
