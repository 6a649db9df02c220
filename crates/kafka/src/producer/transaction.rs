//! A lane's transactional client, and the steps of its transactions.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::context::ProducerContext;
use super::sending::Sending;
use super::watchdog::{Pulse, Unfinished};
use crate::client::{ClientEvents, EVENT_POLL};
use crate::deliveries::{Deliveries, serve_all_events};
use dinnerbell_core::fail_point::fail_point;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::output_topics::is_another;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{BrokerError, MayBegin};

/// The time-out that a transactional call is given.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a producer that committed a transaction may begin another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usable {
    Again,
    /// A request may have been sent twice.
    NoMore,
}

/// A lane's transactional client. Its calls block.
pub(super) struct TransactionalClient {
    sending: Sending,
    observer: ClientEvents,
    group: ConsumerGroupMetadata,
    /// The id of the topic of the drafts when the producer was initialised: to another one it writes nothing.
    drafts_topic: Option<String>,
}

impl TransactionalClient {
    /// Makes it for a lane; nothing is contacted before it is initialised.
    pub(super) fn new(context: Arc<ProducerContext>, lane: Lane, pulse: Arc<Pulse>) -> Result<Self, BrokerError> {
        let observer = ClientEvents::default();
        let mut settings = context.settings.clone();
        settings.set("transactional.id", format!("{}/{}/{lane}", context.group, context.topics.campaigns));
        let deliveries = Deliveries::new(observer.clone());
        let producer =
            settings.create_with_context(deliveries).map_err(|error| observer.explain("making a producer", &error))?;
        let group = context.reader.group_metadata()?;
        Ok(Self { sending: Sending { context, lane, pulse, producer }, observer, group, drafts_topic: None })
    }

    /// Serves librdkafka's log.
    pub(super) fn serve_events(&self) {
        self.sending.producer.poll(EVENT_POLL);
    }

    /// Begins or resumes `init_transactions`.
    pub(super) fn initialise(&mut self) -> Result<(), Unfinished> {
        self.sending.pulse.beat();
        let outcome = self.sending.producer.init_transactions(CALL_TIMEOUT);
        self.sending.producer.poll(EVENT_POLL);
        let Err(error) = outcome else {
            self.sending.pulse.beat();
            let known = self.sending.context.outputs.notifications(&self.sending.context.reader);
            self.drafts_topic = known.map_err(Unfinished::Failed)?;
            return Ok(());
        };
        let explained = self.sending.explain("taking the lane's transactional id over", &error);
        // A refusal that a connection reported is final, though librdkafka goes on trying.
        match (&error, &explained) {
            (KafkaError::Transaction(error), BrokerError::Transient(_)) if error.is_retriable() => {
                Err(Unfinished::Background(explained))
            }
            _ => Err(Unfinished::Failed(explained)),
        }
    }

    /// Publishes a round with all that it holds, if it may begin. Returns whether another transaction may follow; `given_up` tells that nobody waits
    /// for it any more.
    pub(super) fn publish(
        &self,
        round: &Publication,
        may_begin: &MayBegin,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Usable, BrokerError> {
        self.unless_broken(|| self.transact_round(round, may_begin, &|| check_cancelled(given_up)))
    }

    /// Publishes a round's mark and the lane's offset, and nothing else. Returns what `publish` does.
    pub(super) fn publish_mark(&self, round: &Publication, given_up: &dyn Fn() -> bool) -> Result<Usable, BrokerError> {
        self.unless_broken(|| self.transact_mark(round, &|| check_cancelled(given_up)))
    }

    /// One transaction, and whether another one may follow.
    fn unless_broken(&self, transact: impl FnOnce() -> Result<(), BrokerError>) -> Result<Usable, BrokerError> {
        // What broke while nothing was under way can have no second copy.
        let before = self.breaks();
        transact()?;
        Ok(if self.breaks() == before { Usable::Again } else { Usable::NoMore })
    }

    fn breaks(&self) -> u64 {
        serve_all_events(&self.sending.producer);
        self.sending.producer.context().breaks()
    }

    fn transact_round(
        &self,
        round: &Publication,
        may_begin: &MayBegin,
        check_cancelled: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let outputs = &self.sending.context.outputs;
        let drafts = !round.drafts.is_empty();
        if drafts {
            self.is_the_known_topic(outputs.last_known())?;
        }
        // Nothing that may take time stands between this and the beginning.
        if !may_begin() {
            return Err(BrokerError::NotBegun);
        }
        self.begin()?;
        for batch in &round.drafts {
            self.sending.produce_drafts(batch, round.mark.head.seq, check_cancelled)?;
        }
        self.send_offset(round, check_cancelled)?;
        if !round.dead_letters.is_empty() {
            self.sending.publish_dead_letters(&round.dead_letters, check_cancelled)?;
        }
        if drafts {
            // It may have been recreated while messages waited for it, or before: the question was asked when the round was handed over.
            self.sending.pulse.beat();
            self.is_the_known_topic(outputs.known_behind_the_look())?;
        }
        self.commit(check_cancelled)
    }

    fn transact_mark(
        &self,
        round: &Publication,
        check_cancelled: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        self.begin()?;
        self.send_offset(round, check_cancelled)?;
        self.commit(check_cancelled)
    }

    fn begin(&self) -> Result<(), BrokerError> {
        let Sending { producer, pulse, .. } = &self.sending;
        pulse.beat();
        producer.begin_transaction().map_err(|error| self.sending.explain("beginning a transaction", &error))?;
        fail_point("publish.begun");
        Ok(())
    }

    /// Adds the lane's offset with the round's mark, then waits until the drafts are delivered, which were on their way meanwhile.
    fn send_offset(
        &self,
        round: &Publication,
        check_cancelled: &dyn Fn() -> Result<(), BrokerError>,
    ) -> Result<(), BrokerError> {
        let Sending { producer, pulse, .. } = &self.sending;
        fail_point("publish.produced");
        check_cancelled()?;
        pulse.beat();
        let offsets = self.offsets(round).map_err(|error| self.sending.explain("naming the lane's offset", &error))?;
        producer
            .send_offsets_to_transaction(&offsets, &self.group, CALL_TIMEOUT)
            .map_err(|error| self.sending.cause("sending the lane's offset", &error))?;
        fail_point("publish.offsets_sent");
        self.sending.deliver(check_cancelled)
    }

    fn commit(&self, check_cancelled: &dyn Fn() -> Result<(), BrokerError>) -> Result<(), BrokerError> {
        let Sending { producer, pulse, .. } = &self.sending;
        check_cancelled()?;
        pulse.beat();
        producer
            .commit_transaction(CALL_TIMEOUT)
            .map_err(|error| self.sending.explain("committing a transaction", &error))?;
        fail_point("publish.committed");
        self.observer.mark_healthy();
        Ok(())
    }

    /// Fails when the topic of the drafts is another one than when the producer was made, as far as Kafka said so in time. A message names the topic
    /// by its name alone. The takeover compares it with the ledger's.
    fn is_the_known_topic(&self, now: Option<String>) -> Result<(), BrokerError> {
        match is_another(self.drafts_topic.as_deref(), now.as_deref()) {
            true => {
                let topic = &self.sending.context.topics.notifications;
                Err(BrokerError::Transient(format!("topic {topic} was recreated")))
            }
            false => Ok(()),
        }
    }

    fn offsets(&self, round: &Publication) -> Result<TopicPartitionList, KafkaError> {
        let mut offsets = TopicPartitionList::with_capacity(1);
        let mut entry = offsets.add_partition(&self.sending.context.topics.campaigns, self.sending.lane.get());
        entry.set_offset(Offset::Offset(round.offset.get()))?;
        entry.set_metadata(round.mark.to_string());
        Ok(offsets)
    }
}

fn check_cancelled(given_up: &dyn Fn() -> bool) -> Result<(), BrokerError> {
    match given_up() {
        true => Err(BrokerError::Transient("the lane was given up while a round was being published".into())),
        false => Ok(()),
    }
}
