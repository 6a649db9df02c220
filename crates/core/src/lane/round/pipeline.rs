//! A lane's rounds, one after the other: recorded, then published, while the next one is prepared; never deeper.

mod publishing;

use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::guard::Guard;
use crate::instance::round_sizing::RoundSizing;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::error::LaneError;
use crate::lane::error_policy::Failures;
use crate::lane::locks;
use crate::lane::round::prepare::{Preparation, StagedRound};
use crate::lane::round::read_ahead::{NextPage, ReadAheadPace};
use crate::lane::round::stage_and_seal::SealOutcome;
use crate::lane::takeover::LastRoundState;
use crate::model::ownership::Ownership;
use crate::model::recorded::{Delivery, Published};
use crate::ports::audience::Audience;
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::ports::ledger::{Ledger, LedgerError};
use crate::shutdown::stopped;
use crate::telemetry;

use publishing::{publish_round, publish_round_again, publish_when_free};

/// How long a staged round waits, its transaction open, for the round before it to be published.
const TICKET_WAIT: Duration = Duration::from_secs(2);
/// How soon the ledger learns of a published round that finished a campaign.
const NOTE_FINISHED: Duration = Duration::from_millis(250);
/// How soon the ledger learns of any published round.
const NOTE_IDLE: Duration = Duration::from_secs(1);

/// What publishing hands back: with a producer, the right to record the next round.
struct CommitTicket<P> {
    producer: P,
    published: Published,
    /// Whether the ledger knows that the round is published.
    ledger_knows: bool,
    /// Whether campaigns become complete by it.
    finished: bool,
    /// What was delivered by it, until the round sizing has learned of it.
    delivery: Option<Delivery>,
}

/// Without a producer where it is used up.
type PublishOutcome<P> = CommitTicket<Option<P>>;
type Publishing<'a, P> = BoxFuture<'a, Result<PublishOutcome<P>, LaneError>>;
type Preparing<'p, O> = BoxFuture<'p, Result<StagedRound<O>, LaneError>>;

impl<P> CommitTicket<P> {
    fn into_outcome(self) -> PublishOutcome<P> {
        let CommitTicket { producer, published, ledger_knows, finished, delivery } = self;
        CommitTicket { producer: Some(producer), published, ledger_knows, finished, delivery }
    }

    /// How soon the ledger is to learn that the round is published; none where it knows.
    fn note_in(&self) -> Option<Duration> {
        match (self.ledger_knows, self.finished) {
            (true, _) => None,
            (false, true) => Some(NOTE_FINISHED),
            (false, false) => Some(NOTE_IDLE),
        }
    }
}

/// The rounds of one ownership.
pub(crate) struct Rounds<'a, B, L, A, C> {
    pub(crate) cx: &'a LaneContext<B, L, A, C>,
    pub(crate) own: Ownership,
    pub(crate) ledger: uuid::Uuid,
    pub(crate) backlog: &'a LaneBacklog,
    pub(crate) failures: &'a mut Failures,
    /// As the lane's owners left it.
    pub(crate) sizing: RoundSizing,
    /// What was read while the last round was copied.
    pub(crate) next_page: NextPage,
    pub(crate) pace: ReadAheadPace,
}

impl<'a, B: Broker, L: Ledger, A: Audience, C: Clock> Rounds<'a, B, L, A, C> {
    /// Goes on from how the last round was found, until something fails or the lane is to stop.
    pub(crate) async fn run(
        mut self,
        producer: B::Producer,
        last: LastRoundState,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), LaneError> {
        let mut publishing = self.publish_found(producer, last);
        let mut sizing = self.sizing;
        loop {
            let may_stage = watch::Sender::new(false);
            let preparation = Preparation {
                cx: self.cx,
                own: self.own,
                backlog: self.backlog,
                sizing,
                may_stage: may_stage.subscribe(),
                next_page: std::mem::take(&mut self.next_page),
                pace: self.pace,
            };
            let (staged, mut ticket) = match self.next(preparation, publishing, &may_stage, stop).await? {
                NextRound::Round(staged, ticket) => (staged, ticket),
                NextRound::Stop(None | Some(CommitTicket { ledger_knows: true, .. })) => return Ok(()),
                NextRound::Stop(Some(ticket)) => return self.note(ticket.published).await,
            };
            self.pace = staged.pace;
            if let Some(Delivery { bytes, took }) = ticket.delivery.take() {
                sizing = sizing.after_published(bytes, took);
            }
            if self.cx.pause.is_suspended() && self.cx.guards.enabled(Guard::PauseBeforeARound) {
                // It was staged before the pause: what is not recorded yet is planned again afterwards.
                drop(staged);
                publishing = Box::pin(ready(Ok(ticket.into_outcome())));
                continue;
            }
            (publishing, sizing) = self.seal(staged, ticket, sizing).await?;
        }
    }

    /// Publishes the last round as the takeover found it: at once, when its locks are free, or not at all where it is published.
    fn publish_found(&self, producer: B::Producer, last: LastRoundState) -> Publishing<'a, B::Producer> {
        match last {
            LastRoundState::Published { published, ledger_knows } => {
                let (producer, finished) = (Some(producer), !ledger_knows);
                Box::pin(ready(Ok(CommitTicket { producer, published, ledger_knows, finished, delivery: None })))
            }
            LastRoundState::Recorded(recorded) => {
                Box::pin(publish_round_again(self.cx, self.backlog, producer, recorded))
            }
            LastRoundState::Locked(acquired) => Box::pin(publish_when_free(self.cx, self.backlog, producer, *acquired)),
        }
    }

    /// Records a staged round and begins to publish it. Where it was overtaken, or others have locked what it would write, it is planned again: then
    /// the ticket is handed on.
    async fn seal(
        &mut self,
        staged: StagedRound<L::Transaction>,
        ticket: CommitTicket<B::Producer>,
        sizing: RoundSizing,
    ) -> Result<(Publishing<'a, B::Producer>, RoundSizing), LaneError> {
        let content = Arc::clone(staged.content());
        let (began, quiet) = (staged.began, staged.is_quiet());
        let sealing = Instant::now();
        self.backlog.changed_windows().forget();
        let sealed = staged.round.seal(self.own.lane, self.ledger, &ticket.published).await;
        drop(staged.quiet);
        let sealed = match sealed {
            // The server undid it: what others have locked is left out, and the rest is planned again.
            Err(LedgerError::Locked(wait)) => {
                locks::left_out(self.cx, self.own.lane, self.backlog, &wait).await;
                self.backlog.reload();
                return Ok((Box::pin(ready(Ok(ticket.into_outcome()))), sizing));
            }
            sealed => sealed?,
        };
        match sealed {
            SealOutcome::Recorded(recorded) => {
                let sizing = sizing.after_recorded(content.draft_bytes(), content.parts.len(), began.elapsed());
                self.cx.telemetry.step(telemetry::RoundStep::Record, sealing.elapsed());
                self.backlog.advance(&content, quiet);
                self.backlog.checked_late(&staged.checked, staged.last_campaign.as_deref());
                self.cx.telemetry.running_campaigns(self.own.lane, self.backlog.running_count());
                self.failures.clear();
                self.next_page = staged.next_page;
                self.backlog.notify_noted();
                if recorded.has_closed_campaigns() {
                    self.backlog.reload();
                }
                let publishing = Box::pin(publish_round(
                    self.cx,
                    self.backlog,
                    ticket.producer,
                    recorded,
                    content,
                    staged.reservation,
                ));
                Ok((publishing, sizing))
            }
            SealOutcome::Conflict(campaigns) => {
                self.backlog.overtaken(campaigns);
                Ok((Box::pin(ready(Ok(ticket.into_outcome()))), sizing))
            }
        }
    }

    /// Prepares a round while the one before it is published, and waits for both.
    async fn next(
        &self,
        preparation: Preparation<'a, B, L, A, C>,
        publishing: Publishing<'a, B::Producer>,
        may_stage: &watch::Sender<bool>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<NextRound<L::Transaction, B::Producer>, LaneError> {
        let prepare = || -> Preparing<'_, L::Transaction> { Box::pin(preparation.prepare()) };
        let mut progress = Progress::Publishing(publishing, prepare());
        loop {
            let next = self.step(progress, stop).await?;
            progress = match next {
                Transition::Over(step) => return Ok(step),
                Transition::Progress(progress) => progress,
                Transition::Published(ticket, preparing) => {
                    may_stage.send_replace(true);
                    Progress::Idle(ticket, preparing.unwrap_or_else(&prepare))
                }
            };
        }
    }

    /// Waits for what happens next, and returns what follows from it.
    async fn step<'p>(
        &self,
        progress: Progress<'a, 'p, L::Transaction, B::Producer>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Transition<'a, 'p, L::Transaction, B::Producer>, LaneError> {
        match progress {
            Progress::Publishing(mut publishing, mut preparing) => {
                let event = tokio::select! {
                    biased;
                    () = stopped(stop) => Event::Stopped,
                    outcome = &mut publishing => Event::Published(outcome),
                    staged = &mut preparing => Event::Staged(staged),
                };
                match event {
                    Event::Stopped => Ok(Transition::Over(NextRound::Stop(self.ended(publishing).await?))),
                    Event::Published(outcome) => {
                        let (ticket, preparing) = self.usable(outcome?, preparing).await?;
                        Ok(Transition::Published(ticket, Some(preparing)))
                    }
                    Event::Staged(Ok(staged)) => Ok(Transition::Progress(Progress::Staged(publishing, staged))),
                    // What is under way in Kafka is not to blame: let it end well before the lane is taken over again.
                    Event::Staged(Err(error)) => {
                        if let Some(ticket) = self.ended(publishing).await? {
                            self.note(ticket.published).await?;
                        }
                        Err(error)
                    }
                }
            }
            Progress::Staged(mut publishing, staged) => match timeout(TICKET_WAIT, &mut publishing).await {
                Ok(outcome) => {
                    let (ticket, staged) = self.usable(outcome?, staged).await?;
                    Ok(Transition::Over(NextRound::Round(staged, ticket)))
                }
                // The open transaction would hold locks for too long: roll back, and copy again when the ticket is there.
                Err(_) => {
                    drop(staged);
                    Ok(Transition::Progress(Progress::RolledBack(publishing)))
                }
            },
            Progress::RolledBack(mut publishing) => {
                let outcome = tokio::select! {
                    biased;
                    outcome = &mut publishing => Some(outcome),
                    () = stopped(stop) => None,
                };
                match outcome {
                    Some(outcome) => Ok(Transition::Published(self.usable(outcome?, ()).await?.0, None)),
                    None => Ok(Transition::Over(NextRound::Stop(self.ended(publishing).await?))),
                }
            }
            Progress::Idle(ticket, preparing) => self.idle(ticket, preparing, stop).await,
        }
    }

    /// Waits for the next round while none is being published. The ledger learns meanwhile that the last one is.
    async fn idle<'p>(
        &self,
        mut ticket: CommitTicket<B::Producer>,
        mut preparing: Preparing<'p, L::Transaction>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Transition<'a, 'p, L::Transaction, B::Producer>, LaneError> {
        let wait = ticket.note_in();
        let note_due = async {
            match wait {
                Some(wait) => sleep(wait).await,
                None => pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            () = stopped(stop) => IdleEvent::Stopped,
            staged = &mut preparing => IdleEvent::Staged(staged),
            () = note_due => IdleEvent::NoteDue,
        };
        match event {
            IdleEvent::Stopped => Ok(Transition::Over(NextRound::Stop(Some(ticket.into_outcome())))),
            IdleEvent::Staged(staged) => Ok(Transition::Over(NextRound::Round(staged?, ticket))),
            // The note waits for a connection, and the round that is prepared may hold the last one: both go on.
            IdleEvent::NoteDue => tokio::select! {
                biased;
                staged = &mut preparing => {
                    // It records that the last one is published. What the note may have changed is read again.
                    self.backlog.reload();
                    Ok(Transition::Over(NextRound::Round(staged?, ticket)))
                }
                noted = self.note(ticket.published) => {
                    noted?;
                    ticket.ledger_knows = true;
                    Ok(Transition::Progress(Progress::Idle(ticket, preparing)))
                }
            },
        }
    }

    /// Waits for the round that is being published. None while all sending is paused: it is recorded, and the next owner publishes it.
    async fn ended(
        &self,
        publishing: Publishing<'a, B::Producer>,
    ) -> Result<Option<PublishOutcome<B::Producer>>, LaneError> {
        tokio::select! {
            biased;
            ticket = publishing => Ok(Some(ticket?)),
            () = self.cx.pause.until_suspended() => Ok(None),
        }
    }

    /// The right to record the next round, and what was prepared of it. Where the producer is used up, the ledger learns that the round is published, and
    /// the error says that the lane is to be taken over again. What was prepared is dropped then, before the ledger is asked: it holds a connection.
    async fn usable<T>(
        &self,
        outcome: PublishOutcome<B::Producer>,
        prepared: T,
    ) -> Result<(CommitTicket<B::Producer>, T), LaneError> {
        let CommitTicket { producer, published, ledger_knows, finished, delivery } = outcome;
        if let Some(producer) = producer {
            return Ok((CommitTicket { producer, published, ledger_knows, finished, delivery }, prepared));
        }
        drop(prepared);
        if !ledger_knows {
            self.note(published).await?;
        }
        Err(LaneError::NewProducerNeeded)
    }

    /// The ledger learns that the last round is published.
    async fn note(&self, published: Published) -> Result<(), LaneError> {
        if !self.cx.guards.enabled(Guard::PublishedIsNoted) {
            return Ok(());
        }
        if self.cx.ledger.note_published(self.own, published.version().seq).await? {
            self.backlog.reload();
        }
        self.backlog.notify_noted();
        Ok(())
    }
}

/// How far the next round is, and the one before it.
enum Progress<'a, 'p, O, P> {
    /// The one before is being published, the next one is being prepared.
    Publishing(Publishing<'a, P>, Preparing<'p, O>),
    /// The next one is staged, and waits for the one before, its transaction open.
    Staged(Publishing<'a, P>, StagedRound<O>),
    /// It waited for too long and is rolled back: it is prepared again after the one before.
    RolledBack(Publishing<'a, P>),
    /// The one before is published, the next one is being prepared.
    Idle(CommitTicket<P>, Preparing<'p, O>),
}

/// What happens while a round is published and the next one prepared.
enum Event<O, P> {
    Stopped,
    Published(Result<PublishOutcome<P>, LaneError>),
    Staged(Result<StagedRound<O>, LaneError>),
}

/// What happens while no round is published.
enum IdleEvent<O> {
    Stopped,
    Staged(Result<StagedRound<O>, LaneError>),
    NoteDue,
}

/// What follows from an event.
enum Transition<'a, 'p, O, P> {
    Progress(Progress<'a, 'p, O, P>),
    /// The round before is published. The next one goes on, or is prepared again.
    Published(CommitTicket<P>, Option<Preparing<'p, O>>),
    Over(NextRound<O, P>),
}

/// What the loop goes on with.
enum NextRound<O, P> {
    Round(StagedRound<O>, CommitTicket<P>),
    /// With what the last round left, if it is published.
    Stop(Option<PublishOutcome<P>>),
}
