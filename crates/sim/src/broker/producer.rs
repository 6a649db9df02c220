//! The simulated producer: a transaction whose steps may be late, lost, or answered twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::mark::{CommittedMark, CommittedOffset};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::recorded::Recorded;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{BrokerError, MayBegin, Producer};

use super::{POLL_INTERVAL, committed, explain};
use crate::faults::Server;
use crate::kafka::{Announced, TRANSACTION, Transaction};
use crate::server::Caller;
use crate::world::{Instance, World};

/// The time limit of a transactional call, after which it is abandoned.
pub(super) const OVERRUN: Duration = Duration::from_secs(12);

/// Most milliseconds that the second copy of a request is on its way after the first one.
pub(super) const SECOND_COPY: u64 = 2_000;

/// The time limit of a publication where the link is slow.
pub(super) const SLOW_PUBLICATION: Duration = Duration::from_secs(90);

/// The simulated [`Producer`].
pub struct SimProducer {
    pub(super) instance: Instance,
    pub(super) lane: Lane,
    pub(super) epoch: u64,
    /// The topic of the drafts that was there when it was made: it writes to no other one.
    pub(super) topic: Option<&'static str>,
}

impl Producer for SimProducer {
    async fn publish_if(self, round: &Recorded, may_begin: MayBegin) -> Result<Option<Self>, BrokerError> {
        if !may_begin() {
            return Err(BrokerError::NotBegun);
        }
        self.transact(round.share(), true).await
    }

    async fn committed(self) -> Result<(Self, CommittedOffset), BrokerError> {
        let found = committed(&self.instance, self.lane).await?;
        Ok((self, found))
    }

    async fn publish_mark(self, round: &Recorded) -> Result<Option<Self>, BrokerError> {
        self.transact(round.share(), false).await
    }
}

impl SimProducer {
    pub(super) async fn transact(
        self,
        publication: Arc<Publication>,
        records: bool,
    ) -> Result<Option<Self>, BrokerError> {
        let world = self.instance.world.clone();
        if self.topic != world.state().kafka.notifications_id {
            return Err(BrokerError::Transient("the topic of the drafts was recreated".to_owned()));
        }
        if records {
            world.state().begins(&publication, self.epoch);
        }
        let (lane, epoch) = (self.lane, self.epoch);
        let announced = Announced { publication, records };
        let asked = world.clone();
        let served = |caller| announce(asked, caller, lane, epoch, announced);
        // While messages get through, a publication is no call that hangs.
        let time_limit = if world.state().harm.link.is_some() { SLOW_PUBLICATION } else { OVERRUN };
        let broke = self.instance.ask("publish", Server::Kafka, time_limit, served).await.map_err(explain)??;
        let used_up = broke && world.state().guards.enabled(Guard::BrokenConnectionEndsProducer);
        Ok((!used_up).then_some(self))
    }
}

/// What the producer's thread does with one transaction. It stops at the next step when nobody waits for it any more. Returns whether a
/// connection broke, so that a request was sent twice.
pub(super) async fn announce(
    world: World,
    caller: Caller,
    lane: Lane,
    producer: u64,
    announced: Announced,
) -> Result<bool, BrokerError> {
    let mark = announced.publication.mark;
    while world.state().transaction(lane, producer)?.as_ref().is_some_and(|open| open.committing) {
        sleep(POLL_INTERVAL).await;
    }
    {
        let mut state = world.state();
        let begun = state.micros();
        let new = Transaction {
            publications: Vec::new(),
            begun,
            offset_sent: false,
            offset_of_before: None,
            committing: false,
        };
        state.transaction(lane, producer)?.get_or_insert(new).publications.push(announced);
    }
    step(&world, &caller).await?;
    if world.state().refuses_letters(lane) {
        return Err(BrokerError::DeadLetters { reason: "no letter is taken".to_owned(), learned: false });
    }
    get_through(&world, &caller, lane, producer).await?;
    if let Some(open) = world.state().transaction(lane, producer)? {
        open.offset_sent = true;
        open.offset_of_before = None;
    }
    step(&world, &caller).await?;
    end(&world, lane, producer).await?;
    Ok(sent_twice(&world, lane, producer, mark))
}

/// Whether a connection broke, so that the end of the transaction, or its offset, was sent twice: the second one is still on its way.
#[expect(clippy::disallowed_methods, reason = "a request that is on its way outlives whoever sent it")]
pub(super) fn sent_twice(world: &World, lane: Lane, producer: u64, mark: CommittedMark) -> bool {
    let (ends, offsets, takes) = {
        let mut state = world.state();
        let broken = state.harm.sent_twice;
        let broke = &mut state.broke_connections;
        (broke.chance(broken), broke.chance(broken), Duration::from_millis(broke.below(SECOND_COPY)))
    };
    let late = world.clone();
    if ends {
        tokio::spawn(async move {
            sleep(takes).await;
            match late.state().transaction(lane, producer) {
                Ok(Some(open)) => open.committing = true,
                _ => return,
            }
            late.state().commits(lane);
        });
    } else if offsets {
        tokio::spawn(async move {
            sleep(takes).await;
            // Of a producer that has no transaction open, Kafka refuses it.
            if let Ok(Some(open)) = late.state().transaction(lane, producer)
                && open.offset_sent
            {
                open.offset_of_before = Some(mark);
            }
        });
    }
    ends || offsets
}

/// What the link does not carry in the time of a transaction is still on its way when the broker ends it.
pub(super) async fn get_through(world: &World, caller: &Caller, lane: Lane, producer: u64) -> Result<(), BrokerError> {
    let size = |announced: &Announced| (announced.publication.draft_bytes(), announced.publication.mark.version.seq);
    let (most, open) = {
        let mut state = world.state();
        let most = state.harm.link;
        (most, state.transaction(lane, producer)?.as_ref().and_then(|open| open.publications.last().map(size)))
    };
    let (Some(most), Some((bytes, seq))) = (most, open) else { return Ok(()) };
    let seconds = TRANSACTION.cast_unsigned() / 1_000_000;
    let takes = Duration::from_secs_f64(seconds as f64 * bytes as f64 / most as f64);
    let until = Instant::now() + takes.min(Duration::from_secs(seconds));
    while Instant::now() < until {
        if caller.is_gone() {
            return Err(BrokerError::Transient("given up".to_owned()));
        }
        sleep(POLL_INTERVAL).await;
    }
    match bytes > most {
        true => Err(BrokerError::Undelivered { seq, bytes, seconds, reason: "messages are on their way".to_owned() }),
        false => Ok(()),
    }
}

/// Time passes; things fail.
pub(super) async fn step(world: &World, caller: &Caller) -> Result<(), BrokerError> {
    let (takes, fails) = {
        let mut state = world.state();
        let fails = state.harm.unsent / 2;
        (state.way() + state.work(), state.random.chance(fails))
    };
    sleep(takes).await;
    match caller.is_gone() || fails {
        true => Err(BrokerError::Transient("a step of the transaction failed".to_owned())),
        false => Ok(()),
    }
}

/// The request to commit, which may arrive long after its sender gave up, and the writing of the markers.
#[expect(clippy::disallowed_methods, reason = "a request that is on its way outlives whoever sent it")]
pub(super) async fn end(world: &World, lane: Lane, producer: u64) -> Result<(), BrokerError> {
    let (fails, takes, markers) = {
        let mut state = world.state();
        let lost = state.harm.unsent;
        (state.random.chance(lost), state.way() + state.work(), state.way() * 4)
    };
    let commit = |world: World| async move {
        sleep(takes).await;
        match world.state().transaction(lane, producer)? {
            Some(open) => open.committing = true,
            None => return Err(BrokerError::Transient("no transaction is open".to_owned())),
        }
        sleep(markers).await;
        world.state().commits(lane);
        Ok(())
    };
    if fails {
        // Its sender does not know its outcome.
        tokio::spawn(commit(world.clone()));
        sleep(takes / 2).await;
        return Err(BrokerError::Transient("the end of the transaction timed out".to_owned()));
    }
    let committed = tokio::spawn(commit(world.clone()));
    match committed.await {
        Ok(outcome) => outcome,
        Err(ended) => Err(BrokerError::Transient(format!("the broker ended: {ended}"))),
    }
}
