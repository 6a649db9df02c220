//! A lane's rounds, one after the other: recorded, then published, while the next one is prepared; never deeper.

use std::future::{pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::guard::Guard;
use crate::instance::memory_budget::Reserved;
use crate::instance::round_sizing::RoundSizing;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::Failures;
use crate::lane::round::prepare::{Preparation, Prepared};
use crate::lane::round::publish::publish;
use crate::lane::round::record::SealOutcome;
use crate::lane::takeover::FoundRound;
use crate::model::ownership::Ownership;
use crate::model::recorded::{Delivery, Published, Recorded};
use crate::model::round::RoundContent;
use crate::ports::audience::Audience;
use crate::ports::broker::{Broker, BrokerError};
use crate::ports::clock::Clock;
use crate::ports::ledger::Ledger;
use crate::shutdown::stopped;

/// How long a copied round waits, its transaction open, for the round before it to be published.
const GATE_WAIT: Duration = Duration::from_secs(2);
/// How soon the ledger learns of a published round that finished a campaign.
const NOTE_FINISHED: Duration = Duration::from_millis(250);
/// How soon the ledger learns of any published round.
const NOTE_IDLE: Duration = Duration::from_secs(1);

/// What publishing hands back: with a producer, the right to record the next round.
struct CommitTicket<P> {
    producer: P,
    published: Published,
    /// Whether the ledger knows that the round is published.
    noted: bool,
    /// Whether campaigns become complete by it.
    finished: bool,
    /// What was delivered by it, until the pace has learned of it.
    delivery: Option<Delivery>,
}

/// Without a producer where it is used up.
type Announced<P> = CommitTicket<Option<P>>;
type Announcing<'a, P> = BoxFuture<'a, Result<Announced<P>, LaneError>>;

impl<P> CommitTicket<P> {
    fn announced(self) -> Announced<P> {
        let CommitTicket { producer, published, noted, finished, delivery } = self;
        CommitTicket { producer: Some(producer), published, noted, finished, delivery }
    }
}

/// The rounds of one ownership.
pub(crate) struct Rounds<'a, B, L, A, C> {
    pub(crate) cx: &'a LaneContext<B, L, A, C>,
    pub(crate) own: Ownership,
    pub(crate) ledger: uuid::Uuid,
    pub(crate) work: &'a LaneBacklog,
    pub(crate) failures: &'a mut Failures,
    /// As the lane's owners left it.
    pub(crate) pace: RoundSizing,
}

impl<'a, B: Broker, L: Ledger, A: Audience, C: Clock> Rounds<'a, B, L, A, C> {
    /// Goes on from how the last round was found, until something fails or the lane is to stop.
    pub(crate) async fn run(
        self,
        producer: B::Producer,
        last: FoundRound,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), LaneError> {
        let mut announcing: Announcing<'a, B::Producer> = match last {
            FoundRound::Published { published, noted } => {
                let (producer, finished) = (Some(producer), !noted);
                Box::pin(ready(Ok(CommitTicket { producer, published, noted, finished, delivery: None })))
            }
            FoundRound::Recorded(recorded) => Box::pin(publish_round_again(self.cx, self.work, producer, recorded)),
        };
        let mut pace = self.pace;
        loop {
            let gate = watch::Sender::new(false);
            let preparation = Preparation { cx: self.cx, own: self.own, work: self.work, pace, gate: gate.subscribe() };
            let (copied, mut gate) = match self.next(preparation, announcing, &gate, stop).await? {
                Step::Round(copied, gate) => (copied, gate),
                Step::Stop(None | Some(CommitTicket { noted: true, .. })) => return Ok(()),
                Step::Stop(Some(gate)) => return self.note(gate.published).await,
            };
            if let Some(Delivery { bytes, took }) = gate.delivery.take() {
                pace = pace.after_published(bytes, took);
            }
            if self.cx.pause.is_on() && self.cx.guards.hold(Guard::PauseBeforeARound) {
                // It was copied before the pause: what is not recorded yet is planned anew afterwards.
                drop(copied);
                announcing = Box::pin(ready(Ok(gate.announced())));
                continue;
            }
            let content = Arc::clone(copied.content());
            let (began, quiet) = (copied.began, copied.is_quiet());
            let sealing = Instant::now();
            self.work.changed_ends().forget();
            let sealed = copied.round.seal(self.own.lane, self.ledger, &gate.published).await?;
            drop(copied.quiet);
            match sealed {
                SealOutcome::Recorded(recorded) => {
                    pace = pace.after_recorded(content.bytes(), content.parts.len(), began.elapsed());
                    self.cx.telemetry.step("record", sealing.elapsed());
                    self.work.advance(&content, quiet);
                    self.work.judged_late(&copied.judged, copied.upto.as_deref());
                    self.cx.telemetry.running_campaigns(self.own.lane, self.work.running_count());
                    self.failures.clear();
                    self.work.settle();
                    if recorded.closed_others() {
                        self.work.reload();
                    }
                    announcing =
                        Box::pin(publish_round(self.cx, self.work, gate.producer, recorded, content, copied.held));
                }
                SealOutcome::Overtaken(campaigns) => {
                    self.work.overtaken(campaigns);
                    announcing = Box::pin(ready(Ok(gate.announced())));
                }
            }
        }
    }

    /// Prepares a round while the one before it is announced, and waits for both.
    async fn next(
        &self,
        preparation: Preparation<'a, B, L, A, C>,
        mut announcing: Announcing<'a, B::Producer>,
        open: &watch::Sender<bool>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Step<L::Open, B::Producer>, LaneError> {
        let mut preparing = pin!(preparation.prepare());
        let mut gate = tokio::select! {
            biased;
            () = stopped(stop) => return Ok(Step::Stop(self.ended(announcing).await?)),
            gate = &mut announcing => self.usable(gate?).await?,
            copied = &mut preparing => {
                let copied = match copied {
                    Ok(copied) => copied,
                    // What is under way in Kafka is not to blame: let it end well before the lane is entered again.
                    Err(error) => {
                        if let Some(gate) = self.ended(announcing).await? {
                            self.note(gate.published).await?;
                        }
                        return Err(error);
                    }
                };
                match timeout(GATE_WAIT, &mut announcing).await {
                    Ok(gate) => return Ok(Step::Round(copied, self.usable(gate?).await?)),
                    // The open transaction would hold locks for too long: roll back, and copy again after the gate.
                    Err(_) => drop(copied),
                }
                let gate = tokio::select! {
                    biased;
                    gate = &mut announcing => self.usable(gate?).await?,
                    () = stopped(stop) => return Ok(Step::Stop(self.ended(announcing).await?)),
                };
                preparing.set(preparation.prepare());
                gate
            }
        };
        open.send_replace(true);
        loop {
            let wait = if gate.noted {
                None
            } else if gate.finished {
                Some(NOTE_FINISHED)
            } else {
                Some(NOTE_IDLE)
            };
            let note = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopped(stop) => return Ok(Step::Stop(Some(gate.announced()))),
                copied = &mut preparing => return Ok(Step::Round(copied?, gate)),
                () = note => {
                    self.note(gate.published).await?;
                    gate.noted = true;
                }
            }
        }
    }

    /// Waits for the round that is being announced. None while all sending is paused: it is recorded, and the next owner announces it.
    async fn ended(
        &self,
        announcing: Announcing<'a, B::Producer>,
    ) -> Result<Option<Announced<B::Producer>>, LaneError> {
        tokio::select! {
            biased;
            gate = announcing => Ok(Some(gate?)),
            () = self.cx.pause.on() => Ok(None),
        }
    }

    /// The right to record the next round. Where the producer is used up, the ledger learns that the round is published, and the lane is to be
    /// taken over anew: what was prepared meanwhile is planned again.
    async fn usable(&self, announced: Announced<B::Producer>) -> Result<CommitTicket<B::Producer>, LaneError> {
        let CommitTicket { producer, published, noted, finished, delivery } = announced;
        if let Some(producer) = producer {
            return Ok(CommitTicket { producer, published, noted, finished, delivery });
        }
        if !noted {
            self.note(published).await?;
        }
        Err(LaneError::ProducerUsedUp)
    }

    /// The ledger learns that the last round is published.
    async fn note(&self, published: Published) -> Result<(), LaneError> {
        if !self.cx.guards.hold(Guard::PublishedIsNoted) {
            return Ok(());
        }
        if self.cx.ledger.note_published(self.own, published.head().seq).await? {
            self.work.reload();
        }
        self.work.settle();
        Ok(())
    }
}

enum Step<O, P> {
    Round(Prepared<O>, CommitTicket<P>),
    /// With what the last round left, if it is published.
    Stop(Option<Announced<P>>),
}

/// Publishes a recorded round; the memory of its drafts is free afterwards.
async fn publish_round<B: Broker, L, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    work: &LaneBacklog,
    producer: B::Producer,
    recorded: Recorded,
    content: Arc<RoundContent>,
    held: Reserved,
) -> Result<Announced<B::Producer>, LaneError> {
    let began = Instant::now();
    let (producer, published) = send(cx, work, producer, &recorded).await?;
    drop(held);
    cx.telemetry.step("publish", began.elapsed());
    cx.telemetry.published(recorded.publication().lane, &content);
    let finished = content.parts.iter().any(|part| part.page.as_ref().is_some_and(|page| page.last));
    Ok(CommitTicket { producer, delivery: published.delivery(), published, noted: false, finished })
}

/// Publishes a round that was found recorded on the way in.
async fn publish_round_again<B: Broker, L, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    work: &LaneBacklog,
    producer: B::Producer,
    recorded: Recorded,
) -> Result<Announced<B::Producer>, LaneError> {
    let (producer, published) = send(cx, work, producer, &recorded).await?;
    cx.telemetry.published_again(recorded.publication().lane, recorded.drafts());
    // What the round finished is not known here: the ledger learns of it soon.
    Ok(CommitTicket { producer, delivery: published.delivery(), published, noted: false, finished: true })
}

/// Publishes a recorded round within the memory that its messages may take, unless one of its campaigns is not open by then.
async fn send<B: Broker, L, A, C: Clock>(
    cx: &LaneContext<B, L, A, C>,
    work: &LaneBacklog,
    producer: B::Producer,
    recorded: &Recorded,
) -> Result<(Option<B::Producer>, Published), LaneError> {
    let _on_their_way = cx.memory.for_publication(recorded.publication().size()).await;
    let published = publish(producer, recorded, &cx.clock, &cx.pause, work.changed_ends(), cx.guards).await;
    match &published {
        Ok(_) if !recorded.publication().dead_letters.is_empty() => cx.dead_letter_topic.took(),
        // On the way in they are taken out of the round.
        Err(LaneError::Broker(error @ BrokerError::DeadLetters { .. })) => cx.dead_letter_topic.refused(error),
        _ => {}
    }
    published
}
