//! Kafka, as far as a lane sees it: the campaigns topic, and one transactional id for each lane.
//!
//! A producer is fenced by the initialisation of its successor, which also ends what the former left open. A transaction that is to be
//! committed is committed a while later, and until then its offset is not stable.

mod input;
mod producer;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::mark::CommittedOffset;
use dinnerbell_core::model::number::{Lane, Offset};
use dinnerbell_core::model::output_topics::{OutputTopicIds, is_another};
use dinnerbell_core::model::record::{Record, RecordFingerprint};
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{Broker, BrokerError};

use super::server::{Caller, Unanswered};
use super::world::{Instance, World, WorldState};
use crate::faults::Server;
use crate::kafka::{Announced, Kafka, Letters, Notification, Partition, Transaction};
use crate::tables::ChangeRow;

pub use input::SimInput;
use producer::OVERRUN;
pub use producer::SimProducer;

/// The time limit of a question.
const ASK: Duration = Duration::from_secs(5);
/// The id of the campaigns topic, which is never another one.
const TOPIC_ID: &str = "the-only-one";
/// How often a call that waits for the end of something checks for it.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long the end of a lane has to be quiet before the gap behind it is read.
const GAP_READ_DELAY: Duration = Duration::from_millis(500);
/// After this long an instance knows that all sending is paused.
const PAUSED: i64 = 3_000_000;
/// An end of a campaign that was moved this recently may not have reached who is publishing.
const NEWS: i64 = 1_000_000;

impl WorldState {
    /// A producer of the lane published this, sent its offset, and never did anything again.
    pub fn leave_open(&mut self, publication: Publication) {
        let (lane, begun) = (publication.lane, self.micros());
        let publications = vec![Announced { publication: Arc::new(publication), records: true }];
        let open = Transaction { publications, begun, offset_sent: true, offset_of_before: None, committing: false };
        self.kafka.lane(lane).transaction = Some(open);
    }

    /// The lane's transaction of this producer.
    fn transaction(&mut self, lane: Lane, producer: u64) -> Result<&mut Option<Transaction>, BrokerError> {
        let (now, fences) = (self.micros(), self.guards.enabled(Guard::ProducerFenced));
        let partition = self.kafka.lane(lane);
        partition.expire(now);
        match partition.producer_epoch == producer || !fences {
            true => Ok(&mut partition.transaction),
            false => Err(BrokerError::Fenced),
        }
    }

    /// A publication begins: nothing is sent while all sending is paused, and each campaign in it must be inside its window. Without a message it
    /// only says how far the lane is.
    fn begins(&mut self, publication: &Publication, producer: u64) {
        let sends =
            !publication.dead_letters.is_empty() || publication.drafts.iter().any(|batch| !batch.clients.is_empty());
        if sends && self.paused_since.is_some_and(|since| self.micros() - since > PAUSED) {
            self.broke("a publication begun though all sending is paused".to_owned());
        }
        let known = self.database.outputs.notifications.as_deref();
        if sends && is_another(known, self.kafka.notifications_id) {
            self.broke("a publication begun to another topic than the ledger knows".to_owned());
        }
        let (now, news) = (self.now(), self.micros() - NEWS);
        for batch in publication.drafts.iter().filter(|batch| !batch.clients.is_empty()) {
            let campaign = batch.template.campaign();
            let id = &campaign.adv_campaign_id;
            let Some(row) = self.database.campaigns.get(id) else { continue };
            let over = now >= row.end() && (row.changed_at < news || now >= campaign.window.end);
            let cancelled =
                row.state == dinnerbell_core::model::campaign::CampaignState::Cancelled && row.changed_at < news;
            // Only the instance that published a version which the database lost knows it, until it notices.
            if self.database.has_lost && row.campaign.as_ref() != Some(campaign) {
                continue;
            }
            let early = now < row.start() && (row.changed_at < news || now < campaign.window.start);
            let (start, end) = (row.start(), row.end());
            let overlooked = self.overlooks_a_cancellation(publication.lane, producer, id);
            let when = match (early, over || cancelled) {
                (true, _) => format!("before its start {start}"),
                (_, true) => format!("after its end {end} or its cancellation"),
                _ if overlooked => "though its cancellation waited before the lane was taken over".to_owned(),
                _ => continue,
            };
            self.broke(format!("publication of campaign {id} begun {when}"));
        }
    }

    /// Whether a cancellation of the campaign waits that was there when the lane was taken over by the owner who made the producer. A former owner's
    /// producer is fenced: what it begins is refused.
    fn overlooks_a_cancellation(&mut self, lane: Lane, producer: u64, id: &str) -> bool {
        let partition = self.kafka.lane(lane);
        if partition.producer_epoch != producer {
            return false;
        }
        let initialised = partition.initialised;
        let taken_over = self.database.lane(lane).taken_over_at;
        let cancels = |change: &ChangeRow| {
            change.adv_campaign_id == id
                && change.applied == 0
                && change.record.value.is_none()
                && change.at < taken_over
        };
        let is_ours = self.database.campaigns.get(id).is_some_and(|row| row.lane == lane);
        taken_over < initialised && is_ours && self.database.changes.iter().any(cancels)
    }

    /// Whether the open transaction of the lane holds letters that their topic does not take.
    fn refuses_letters(&mut self, lane: Lane) -> bool {
        let refuses = self.kafka.letters != Letters::Accepted;
        let open = self.kafka.lane(lane).transaction.as_ref();
        let holds = |open: &Transaction| open.publications.iter().any(|one| !one.publication.dead_letters.is_empty());
        refuses && open.is_some_and(holds)
    }

    /// The transaction is committed: its records are there, and its offset.
    pub(super) fn commits(&mut self, lane: Lane) {
        let Some(transaction) = self.kafka.lane(lane).transaction.take() else { return };
        for Announced { publication, records } in &transaction.publications {
            if transaction.offset_sent {
                self.kafka.lane(lane).committed = transaction.offset_of_before.or(Some(publication.mark));
            }
            if *records {
                self.shows(publication);
            }
        }
    }

    /// Readers see what was published.
    fn shows(&mut self, publication: &Publication) {
        let Publication { drafts, dead_letters, .. } = publication;
        for letter in dead_letters {
            *self.kafka.dead_letters.entry(letter.id).or_default() += 1;
        }
        for batch in drafts {
            let campaign = batch.template.campaign();
            let trigger_datetime_created = batch.template.trigger_datetime_created();
            for client in batch.clients.iter() {
                let id = campaign.adv_campaign_id.clone();
                // What a database lost was published, or is being published: its rows come back.
                if !self.database.has_row(&id, client) && !self.database.has_lost {
                    self.broke(format!("a message without a row: campaign {id}, client {client}"));
                }
                let (lane, seq) = (publication.lane, publication.mark.version.seq);
                let notification = Notification { campaign: Arc::clone(campaign), trigger_datetime_created, lane, seq };
                if self.kafka.notifications.insert((id.clone(), client.to_owned()), notification).is_some() {
                    self.broke(format!("client {client} was told twice of campaign {id}"));
                }
            }
        }
    }
}

/// The simulated [`Broker`].
#[derive(Clone)]
pub struct SimBroker(pub Instance);

fn explain(unanswered: Unanswered) -> BrokerError {
    match unanswered {
        Unanswered::Lost => BrokerError::Transient("no answer".to_owned()),
        Unanswered::Refused => BrokerError::Refused("topic authorization failed".to_owned()),
    }
}

impl SimBroker {
    async fn question<T: Send + 'static>(
        &self,
        request: &'static str,
        answer: impl FnOnce(&mut Kafka) -> T + Send + 'static,
    ) -> Result<T, BrokerError> {
        let world = self.0.world.clone();
        let served = |_| async move { answer(&mut world.state().kafka) };
        self.0.ask(request, Server::Kafka, ASK, served).await.map_err(explain)
    }

    /// A question about a partition of the campaigns topic, which its leader answers.
    async fn question_of<T: Send + 'static>(
        &self,
        request: &'static str,
        lane: Lane,
        answer: impl FnOnce(&mut Partition) -> T + Send + 'static,
    ) -> Result<T, BrokerError> {
        let answered = self.question(request, move |kafka| answer(kafka.lane(lane))).await?;
        match self.0.world.state().harm.leaderless.contains(&lane) {
            true => Err(BrokerError::Transient(format!("partition {lane} has no leader"))),
            false => Ok(answered),
        }
    }
}

/// Fences the former producer, and ends what it left open.
async fn initialise(world: World, caller: Caller, lane: Lane) -> Result<u64, BrokerError> {
    loop {
        {
            let mut state = world.state();
            let now = state.micros();
            let (aborts, fresh) = (state.guards.enabled(Guard::InitAborts), state.guards.enabled(Guard::FreshProducer));
            if caller.is_gone() && state.random.chance(500) {
                return Err(BrokerError::Transient("given up".to_owned()));
            }
            let partition = state.kafka.lane(lane);
            if !fresh && partition.producer_epoch > 0 {
                return Ok(partition.producer_epoch);
            }
            if partition.transaction.as_ref().is_none_or(|open| !open.committing) {
                if aborts {
                    partition.transaction = None;
                }
                partition.producer_epoch += 1;
                partition.initialised = now;
                return Ok(partition.producer_epoch);
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}

impl Broker for SimBroker {
    type Producer = SimProducer;
    type Input = SimInput;

    async fn still_assigned(&self, lane: Lane) -> bool {
        let turn = self.0.world.state().way();
        sleep(turn * 20).await;
        self.0.held.borrow().contains(&lane)
    }

    async fn producer(&self, lane: Lane) -> Result<SimProducer, BrokerError> {
        let world = self.0.world.clone();
        let asked = self.0.ask("producer", Server::Kafka, OVERRUN, |caller| initialise(world, caller, lane)).await;
        let epoch = asked.map_err(explain)??;
        let topic = self.0.world.state().kafka.notifications_id;
        Ok(SimProducer { instance: self.0.clone(), lane, epoch, topic })
    }

    async fn committed(&self, lane: Lane) -> Result<CommittedOffset, BrokerError> {
        committed(&self.0, lane).await
    }

    async fn log_end(&self, lane: Lane) -> Result<Offset, BrokerError> {
        self.question_of("log_end", lane, |partition| partition.end).await
    }

    async fn lanes(&self) -> Result<i32, BrokerError> {
        self.question("lanes", |kafka| i32::try_from(kafka.lanes.len()).unwrap_or(i32::MAX)).await
    }

    async fn watermarks(&self, lane: Lane) -> Result<(Offset, Offset), BrokerError> {
        self.question_of("watermarks", lane, |partition| (Offset::FIRST, partition.end)).await
    }

    async fn fingerprint_at(&self, lane: Lane, offset: Offset) -> Result<Option<RecordFingerprint>, BrokerError> {
        self.question_of("fingerprint_at", lane, move |partition| {
            partition.records.iter().find(|record| record.offset == offset).and_then(Record::fingerprint)
        })
        .await
    }

    async fn dead_letter_topic(&self) -> Result<(), BrokerError> {
        match self.question("dead_letter_topic", |kafka| kafka.letters).await? {
            Letters::Missing => Err(BrokerError::Refused("the topic of dead letters is missing".to_owned())),
            Letters::Accepted | Letters::Refused => Ok(()),
        }
    }

    async fn topic_id(&self) -> Result<Option<String>, BrokerError> {
        self.question("topic_id", |_| Some(TOPIC_ID.to_owned())).await
    }

    /// Brokers that know no ids are not asked.
    async fn output_ids(&self) -> Result<OutputTopicIds, BrokerError> {
        if self.0.world.state().kafka.notifications_id.is_none() {
            return Ok(OutputTopicIds::default());
        }
        let notifications = self.question("output_ids", |kafka| kafka.notifications_id.map(str::to_owned)).await?;
        Ok(OutputTopicIds { notifications, dead_letters: None })
    }

    async fn open(&self, lane: Lane, position: Offset, topic_id: Option<&str>) -> Result<SimInput, BrokerError> {
        let is_replaced = topic_id.is_some_and(|id| id != TOPIC_ID);
        self.question_of("open", lane, |_| ()).await?;
        Ok(SimInput { instance: self.0.clone(), lane, position, is_replaced })
    }
}

/// The group's committed offset of a lane, stable offsets only.
async fn committed(instance: &Instance, lane: Lane) -> Result<CommittedOffset, BrokerError> {
    let world = instance.world.clone();
    let served = |_| async move {
        loop {
            {
                let mut state = world.state();
                let (now, stable) = (state.micros(), state.guards.enabled(Guard::StableOffsets));
                let partition = state.kafka.lane(lane);
                partition.expire(now);
                if !stable || !partition.transaction.as_ref().is_some_and(|open| open.offset_sent) {
                    return partition.committed.map_or(CommittedOffset::None, CommittedOffset::Mark);
                }
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    instance.ask("committed", Server::Kafka, ASK, served).await.map_err(explain)
}
