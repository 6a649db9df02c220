//! A lane as its owner works it, and what arrives in it.

use std::sync::Arc;

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::due::RunningCampaign;
use dinnerbell_core::model::input::{decode, encode};
use dinnerbell_core::model::intake::{IntakeBatch, IntakeOutcome};
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Millis, Offset, Seconds};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::{DeadLetterMessage, Record};
use dinnerbell_core::model::round::{PageRange, RoundContent, RoundPart, Sealed};
use dinnerbell_core::ports::ledger::{Ledger, LedgerError, RoundTransaction};

use super::capabilities::*;
use super::environment::{Environment, GROUP};

/// When every draft of a case is formed.
pub const FORMED: Seconds = Seconds::new(1_700_000_000);

/// A lane and who owns it.
#[derive(Clone)]
pub struct Owner<L> {
    pub ledger: L,
    pub own: Ownership,
    /// Which ledger it is.
    pub id: uuid::Uuid,
    pub position: Offset,
    pub head: RoundVersion,
    pub comparison: String,
}

impl<L: Ledger> Owner<L> {
    /// Enters the lane.
    pub async fn enter(ledger: L, lane: Lane) -> Self {
        let acquired = ledger.acquire(lane, Some(Offset::FIRST)).await.unwrap();
        let (own, comparison) = (acquired.ownership, acquired.comparison);
        Self { ledger, own, id: acquired.ledger, position: acquired.position, head: acquired.head, comparison }
    }

    /// What arrived, as it is at the lane's next offsets.
    pub fn batch(&self, sent: &[Sent<'_>]) -> Arc<IntakeBatch> {
        let mut to = self.position;
        let mut records = Vec::new();
        for sent in sent {
            records.push(arrival(to, sent));
            to = to.next();
        }
        Arc::new(IntakeBatch { from: self.position, to, records })
    }

    /// Takes in what arrives.
    pub async fn try_take(&mut self, sent: &[Sent<'_>]) -> Result<IntakeOutcome, LedgerError> {
        let batch = self.batch(sent);
        let taken = self.ledger.intake(self.own, Arc::clone(&batch)).await?;
        self.position = batch.to;
        Ok(taken)
    }

    /// The same, which must succeed.
    pub async fn take(&mut self, sent: &[Sent<'_>]) -> IntakeOutcome {
        self.try_take(sent).await.unwrap()
    }

    /// Takes in one campaign that is open.
    pub async fn start(&mut self, campaign: &Campaign) -> RunningCampaign {
        self.take(&[Sent::Campaign(campaign)]).await.started.pop().expect("it is open")
    }

    /// The campaign as it stands in the ledger; it must be open.
    pub async fn running(&self, id: &str) -> RunningCampaign {
        let mut open = self.ledger.open_round(self.own).await.unwrap();
        let running = open.campaigns(&[id]).await.unwrap().pop().expect("it is open");
        open.abandon().await.unwrap();
        running
    }

    /// The name of the next round with this content.
    pub fn next(&self, content: &RoundContent) -> RoundVersion {
        RoundVersion { seq: self.head.seq.next(), revision: 0, checksum: content.checksum() }
    }

    /// Opens a round and copies its rows.
    pub async fn copy(&self, content: &Arc<RoundContent>) -> Result<L::Transaction, LedgerError> {
        let mut open = self.ledger.open_round(self.own).await?;
        if content.drafts() > 0 {
            open.copy(Arc::clone(content)).await?;
        }
        Ok(open)
    }

    /// Records a round, if it can be.
    pub async fn try_record(&mut self, content: &Arc<RoundContent>) -> Result<Sealed, LedgerError> {
        let (open, head) = (self.copy(content).await?, self.next(content));
        let sealed = open.seal(head, Arc::clone(content)).await?;
        if matches!(sealed, Sealed::Recorded { .. }) {
            self.head = head;
        }
        Ok(sealed)
    }

    /// Records a round, which must succeed.
    pub async fn record(&mut self, parts: Vec<RoundPart>) -> RoundVersion {
        let sealed = self.try_record(&content(parts)).await.unwrap();
        assert!(matches!(sealed, Sealed::Recorded { .. }), "{sealed:?}");
        self.head
    }

    /// The last round is published; whether a campaign of it was closed by that.
    pub async fn published(&self) -> bool {
        self.ledger.note_published(self.own, self.head.seq).await.unwrap()
    }
}

/// Enters a lane of a ledger in which all lanes, 0 and 1, were compared: nothing is held.
pub async fn open_lane<E: Environment>(env: &E) -> Owner<E::Ledger> {
    open_lanes(env).await.0
}

/// The same for both of its lanes, each on an instance of its own.
pub async fn open_lanes<E: Environment>(env: &E) -> (Owner<E::Ledger>, Owner<E::Ledger>) {
    let one = Owner::enter(env.ledger(), Lane::new(0)).await;
    let other = Owner::enter(env.another().await, Lane::new(1)).await;
    for owner in [&one, &other] {
        owner.ledger.note_compared(owner.own, &owner.comparison, 2).await.unwrap();
    }
    (one, other)
}

/// Whether the lane was lost.
#[track_caller]
pub fn assert_not_mine<T: std::fmt::Debug>(call: &str, answer: Result<T, LedgerError>) {
    assert!(matches!(answer, Err(LedgerError::NotMine(_))), "{call}: {answer:?}");
}

/// What is sent to a lane.
#[derive(Debug, Clone, Copy)]
pub enum Sent<'a> {
    Campaign(&'a Campaign),
    /// A null value under this key.
    Tombstone(&'a str),
    /// What is no campaign.
    Junk(&'a str),
}

fn arrival(offset: Offset, sent: &Sent<'_>) -> (Record, dinnerbell_core::model::input::DecodedRecord) {
    let (key, value) = match sent {
        Sent::Campaign(campaign) => (None, Some(encode(campaign))),
        Sent::Tombstone(id) => (Some(id.as_bytes().to_vec()), None),
        Sent::Junk(text) => (None, Some(text.as_bytes().to_vec())),
    };
    let arrival = decode(key.as_deref(), value.as_deref());
    (
        Record { offset, timestamp: Millis::new(1_000 + offset.get()), key, value, headers: Vec::new(), omitted: None },
        arrival,
    )
}

/// A campaign that began a minute ago and lasts an hour.
pub async fn offer<E: Environment>(env: &E, id: &str) -> Campaign {
    let now = env.now().await;
    Campaign {
        restaurant_id: "pizzeria".to_owned(),
        adv_campaign_id: id.to_owned(),
        adv_campaign_content: format!("{id}, version 1"),
        adv_campaign_owner: "Ivan".to_owned(),
        adv_campaign_owner_contact: "ivan@pizzeria".to_owned(),
        window: Window { start: now - 60, end: now + 3_600 },
        datetime_created: Seconds::new(1),
    }
}

/// A later version of a campaign.
pub fn version(campaign: &Campaign, created: Seconds) -> Campaign {
    let adv_campaign_content = format!("{}, version {created}", campaign.adv_campaign_id);
    Campaign { adv_campaign_content, datetime_created: created, ..campaign.clone() }
}

/// A window that is over.
pub async fn over<E: Environment>(env: &E) -> Window {
    let now = env.now().await;
    Window { start: now - 60, end: now - 1 }
}

fn part(running: &RunningCampaign, page: Option<PageRange>, clients: &[&str], late: usize) -> RoundPart {
    let template = DraftTemplate::new(Arc::clone(&running.campaign), FORMED, GROUP).unwrap();
    let drafts = DraftBatch { template: Arc::new(template), clients: clients.iter().copied().collect() };
    RoundPart { drafts, revision: running.revision, page, late }
}

/// The next page of a campaign: these clients, each of whom is told.
pub fn page(running: &RunningCampaign, clients: &[&str], last: bool) -> RoundPart {
    let upto = clients.last().map(|client| (*client).to_owned());
    let page = PageRange { after: running.cursor.clone(), upto, last, already_told: Vec::new(), skipped: 0 };
    part(running, Some(page), clients, 0)
}

/// The same, on which these had a row before, and this many ids were skipped. `upto` may be one of them.
pub fn page_beside(
    running: &RunningCampaign,
    clients: &[&str],
    upto: &str,
    already_told: &[&str],
    skipped: u64,
) -> RoundPart {
    let already_told = already_told.iter().map(|client| (*client).to_owned()).collect();
    let (after, upto) = (running.cursor.clone(), Some(upto.to_owned()));
    part(running, Some(PageRange { after, upto, last: false, already_told, skipped }), clients, 0)
}

/// Late subscribers of a campaign, without a page.
pub fn late(running: &RunningCampaign, clients: &[&str]) -> RoundPart {
    part(running, None, clients, clients.len())
}

/// What a round holds.
pub fn content(parts: Vec<RoundPart>) -> Arc<RoundContent> {
    content_with(parts, Vec::new(), None)
}

/// The same, with dead letters, and how large a round may be.
pub fn content_with(
    parts: Vec<RoundPart>,
    dead_letters: Vec<DeadLetterMessage>,
    round_bytes: Option<i64>,
) -> Arc<RoundContent> {
    Arc::new(RoundContent { parts, dead_letters, trigger_datetime_created: FORMED, round_bytes })
}
