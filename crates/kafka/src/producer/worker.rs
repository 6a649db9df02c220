//! The thread of a lane's producer: takes commands, and disposes of the producer where it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::context::ProducerContext;
use super::transaction::TransactionalClient;
pub(super) use super::transaction::Usable;
use super::watchdog::{Pulse, Unfinished, ended};
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{BrokerError, MayBegin, transaction_time};

/// What timers are late by.
const LATE: Duration = Duration::from_millis(500);

/// A producer that nobody claims is disposed of after this long.
const UNCLAIMED: Duration = Duration::from_secs(60);

/// Where the outcome of a transaction goes.
pub(super) type Reply = oneshot::Sender<Result<Usable, Unfinished>>;

/// What a lane asks of its thread.
pub(super) enum Command {
    /// Begin or resume `init_transactions`.
    Initialise { reply: oneshot::Sender<Result<(), Unfinished>> },
    /// Publish a round with all that it holds, if it may begin.
    Publish { publication: Arc<Publication>, may_begin: MayBegin, reply: Reply },
    /// Publish a round's mark alone: nothing of it is left.
    PublishMark { publication: Arc<Publication>, reply: Reply },
}

/// The way to a producer's thread. Dropping it ends the thread, which disposes of the producer there.
#[derive(Debug)]
pub(super) struct LaneThread {
    pub(super) commands: Sender<Command>,
    pub(super) pulse: Arc<Pulse>,
}

impl LaneThread {
    /// Starts it. Fails where the machine has no room for a thread.
    pub(super) fn start(
        context: Arc<ProducerContext>,
        lane: Lane,
        room: OwnedSemaphorePermit,
    ) -> Result<Self, BrokerError> {
        let (commands, inbox) = crossbeam_channel::bounded(1);
        let pulse = Arc::new(Pulse::new());
        let beating = Arc::clone(&pulse);
        std::thread::Builder::new()
            .name(format!("kafka-lane-{lane}"))
            .spawn(move || {
                match Worker::new(context, lane, beating) {
                    Ok(mut worker) => worker.run(&inbox),
                    Err(error) => refuse(&inbox, error),
                }
                drop(room);
            })
            .map_err(|error| BrokerError::Transient(format!("starting a producer's thread: {error}")))?;
        Ok(Self { commands, pulse })
    }

    /// Gives it a command. Fails where the thread has ended.
    pub(super) fn send(&self, command: Command) -> Result<(), Unfinished> {
        self.pulse.beat();
        self.commands.try_send(command).map_err(|_| Unfinished::Failed(ended()))
    }
}

/// Answers the one command that waits for a producer that could not be made.
fn refuse(inbox: &Receiver<Command>, error: BrokerError) {
    if let Ok(Command::Initialise { reply }) = inbox.recv_timeout(UNCLAIMED) {
        let _ = reply.send(Err(Unfinished::Failed(error)));
    }
}

/// The producer's thread.
struct Worker {
    client: TransactionalClient,
    pulse: Arc<Pulse>,
}

impl Worker {
    fn new(context: Arc<ProducerContext>, lane: Lane, pulse: Arc<Pulse>) -> Result<Self, BrokerError> {
        Ok(Self { client: TransactionalClient::new(context, lane, Arc::clone(&pulse))?, pulse })
    }

    fn run(&mut self, inbox: &Receiver<Command>) {
        loop {
            let goes_on = match inbox.recv_timeout(UNCLAIMED) {
                Ok(Command::Initialise { reply }) => {
                    let outcome = self.client.initialise();
                    self.pulse.beat();
                    // A caller that was cancelled finds the producer, or its successor, again.
                    let _ = reply.send(outcome);
                    true
                }
                Ok(Command::Publish { publication, may_begin, reply }) => {
                    self.transact(&publication, reply, |given_up| {
                        self.client.publish(&publication, &may_begin, given_up)
                    })
                }
                Ok(Command::PublishMark { publication, reply }) => {
                    self.transact(&publication, reply, |given_up| self.client.publish_mark(&publication, given_up))
                }
                Err(RecvTimeoutError::Timeout) if self.pulse.claimed.load(Ordering::Acquire) => {
                    self.client.serve_events();
                    true
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// One transaction, whose outcome is sent. `publish` is told how to learn that nobody waits for it any more. Returns whether another one may follow.
    fn transact(
        &self,
        publication: &Publication,
        reply: Reply,
        publish: impl FnOnce(&dyn Fn() -> bool) -> Result<Usable, BrokerError>,
    ) -> bool {
        let began = Instant::now();
        let outcome = publish(&|| reply.is_closed());
        let outcome = outcome.map_err(|error| undelivered(error, publication, began.elapsed()));
        self.pulse.beat();
        let goes_on = matches!(outcome, Ok(Usable::Again));
        let _ = reply.send(outcome.map_err(Unfinished::Failed));
        goes_on
    }
}

/// What failed when the time of its transaction was over is a round that did not get through. The broker ends such a transaction by itself, and
/// what it says then is that somebody else has taken it over.
fn undelivered(error: BrokerError, round: &Publication, took: Duration) -> BrokerError {
    let reason = match &error {
        BrokerError::Transient(reason) => reason.clone(),
        BrokerError::Fenced => "the broker ended its transaction".to_owned(),
        _ => return error,
    };
    if took + LATE < transaction_time() {
        return error;
    }
    BrokerError::Undelivered { seq: round.mark.head.seq, bytes: round.bytes(), seconds: took.as_secs(), reason }
}
