//! The clients that read, and their thread's handle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaResult;
use tokio::sync::oneshot;
use tokio::task;
use tokio::time::Instant;

use super::thread::{Command, ReaderThread, Reply};
use crate::client::{
    ClientEvents, Isolation, asking_settings, off_runtime, serve_waiting_events, settings, tell_topic_ids,
};
use dinnerbell_config as config;
use dinnerbell_config::kafka_client::Role;
use dinnerbell_core::ports::broker::BrokerError;

/// A lane that holds this many records unread is not fetched any further, ...
const QUEUED_RECORDS: &str = "1024";
/// ... nor one that holds this many KiB: as much as an intake takes. One larger batch still passes: the broker always sends at least one.
const QUEUED_KIB: &str = "512";
/// Most bytes of one lane in one fetch, as they lie in the broker's log. All of it is unpacked at once, and may be a thousand times as much
/// then.
const FETCH_BYTES: &str = "16384";

/// How many commands may wait for the reader's thread: several for each lane of a large instance.
const COMMANDS: usize = 1024;

/// The consumer that reads. Cheap to clone; the last clone ends its thread.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) shared: Arc<ReaderShared>,
}

pub(super) struct ReaderShared {
    pub(super) topic: String,
    pub(super) observer: ClientEvents,
    /// Held while events are served: when it is free, the observer knows what was reported before.
    pub(super) ear: Arc<Mutex<()>>,
    // Taken before the thread is told to stop: the consumer's end blocks, and belongs on that thread.
    pub(super) consumer: Option<Arc<BaseConsumer<ClientEvents>>>,
    /// Sees what open transactions hold back. It reads nothing, so no question of its waits behind a fetch. Taken as the other one is.
    pub(super) every: Option<Arc<BaseConsumer<ClientEvents>>>,
    pub(super) commands: Sender<Command>,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for ReaderShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Drop for ReaderShared {
    fn drop(&mut self) {
        self.consumer = None;
        self.every = None;
        // Full: the thread is alive and finds the channel closed after the last command.
        let _ = self.commands.try_send(Command::Stop);
    }
}

/// Makes the client that asks for the ends of the log; nothing is contacted before it is asked.
fn every_record(kafka: &config::Kafka, observer: &ClientEvents) -> KafkaResult<BaseConsumer<ClientEvents>> {
    asking_settings(kafka, "ends", Isolation::ReadUncommitted).create_with_context(observer.clone())
}

fn reader_settings(kafka: &config::Kafka) -> ClientConfig {
    let defaults = [
        ("queued.min.messages", QUEUED_RECORDS),
        ("queued.max.messages.kbytes", QUEUED_KIB),
        ("fetch.message.max.bytes", FETCH_BYTES),
        // A question to a broker waits behind the fetch that is under way there.
        ("fetch.wait.max.ms", "100"),
        ("fetch.queue.backoff.ms", "50"),
        ("fetch.error.backoff.ms", "100"),
    ];
    let promises = [
        ("group.id", kafka.group_id.as_str()),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
    ];
    let mut settings = settings(kafka, Role::Consumer, "reader", &defaults, &promises);
    tell_topic_ids(&mut settings);
    settings
}

impl Reader {
    /// Makes the consumer and its thread. Nothing is contacted yet.
    pub fn start(kafka: &config::Kafka) -> Result<Self, BrokerError> {
        let observer = ClientEvents::of(kafka);
        let consumer: BaseConsumer<ClientEvents> = reader_settings(kafka)
            .create_with_context(observer.clone())
            .map_err(|error| observer.explain("making the reading client", &error))?;
        let consumer = Arc::new(consumer);
        let every =
            every_record(kafka, &observer).map_err(|error| observer.explain("making the reading client", &error))?;
        let every = Arc::new(every);
        let (commands, inbox) = crossbeam_channel::bounded(COMMANDS);
        let topic = kafka.topics.campaigns.clone();
        let ear = Arc::default();
        let desk = ReaderThread {
            topic: topic.clone(),
            consumer: Arc::clone(&consumer),
            every: Arc::clone(&every),
            observer: observer.clone(),
            ear: Arc::clone(&ear),
            open: HashMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("kafka-reader".into())
            .spawn(move || desk.run(&inbox))
            .map_err(|error| BrokerError::Transient(format!("starting the reader's thread: {error}")))?;
        let thread = Mutex::new(Some(thread));
        let (consumer, every) = (Some(consumer), Some(every));
        Ok(Self { shared: Arc::new(ReaderShared { topic, observer, ear, consumer, every, commands, thread }) })
    }

    /// What librdkafka said outside of calls.
    pub fn observer(&self) -> &ClientEvents {
        &self.shared.observer
    }

    /// Serves all events that the client has reported up to now. One of them may wait for a token: then it is done off the async workers.
    pub(super) async fn serve_events(&self) -> Result<(), BrokerError> {
        if !self.shared.observer.takes_tokens() {
            self.serve_events_here();
            return Ok(());
        }
        let reader = self.clone();
        off_runtime(move || {
            reader.serve_events_here();
            Ok(())
        })
        .await
    }

    fn serve_events_here(&self) {
        let _ear = self.shared.ear.lock().unwrap_or_else(PoisonError::into_inner);
        serve_waiting_events(self.consumer(), &self.shared.observer);
    }

    pub(super) fn every(&self) -> &Arc<BaseConsumer<ClientEvents>> {
        self.shared.every.as_ref().expect("it is taken only by drop")
    }

    /// Ends the thread and the client, waiting at most this long. Inputs that are still open hold it back.
    pub async fn close(self, most: Duration) {
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(self);
        if let Some(thread) = thread {
            let ended = task::spawn_blocking(move || {
                let until = Instant::now() + most;
                while !thread.is_finished() && Instant::now() < until {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "on a thread that may block: joining a thread knows no time-out"
                    )]
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            let _ = ended.await;
        }
    }

    /// The client that reads.
    pub(super) fn consumer(&self) -> &Arc<BaseConsumer<ClientEvents>> {
        self.shared.consumer.as_ref().expect("it is taken only by drop")
    }

    /// Gives the thread a command, and waits until it is done.
    pub(super) async fn tell(&self, command: impl FnOnce(Reply) -> Command) -> Result<(), BrokerError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        let answer = answer.await.map_err(|_| BrokerError::Transient("the reading client is closing".into()))?;
        answer.map_err(|error| self.shared.observer.explain("reading the campaigns topic", &error))
    }

    /// Gives the thread a command. Fails where it does not keep up, or has ended.
    pub(super) fn send(&self, command: Command) -> Result<(), BrokerError> {
        self.shared.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => BrokerError::Transient("the reading client does not keep up".into()),
            TrySendError::Disconnected(_) => BrokerError::Transient("the reading client has ended".into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use dinnerbell_token::{Endpoint, EndpointSettings, Source, Tokens};

    use super::*;

    /// To serve its events may mean to wait for a token, or for another thread that waits for one.
    #[tokio::test]
    async fn a_token_endpoint_that_says_nothing_blocks_no_async_worker() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", silent.local_addr().unwrap());
        let endpoint = Endpoint::new(&EndpointSettings { url, ..Default::default() }).unwrap();
        let reader = Reader::start(&config::Kafka {
            bootstrap_servers: silent.local_addr().unwrap().to_string(),
            security_protocol: "SASL_PLAINTEXT".into(),
            sasl: Some(config::Sasl::Token(Tokens::new(Source::Endpoint(endpoint)))),
            ca_file: None,
            group_id: "dinnerbell".into(),
            start: config::Start::Earliest,
            topics: config::Topics { campaigns: "in".into(), notifications: "out".into(), dead_letters: None },
            client: Default::default(),
        });
        let reader = reader.unwrap();
        let began = Instant::now();
        let until = began + Duration::from_secs(2);
        let serves = async {
            while Instant::now() < until {
                reader.serve_events().await.unwrap();
                task::yield_now().await;
            }
        };
        let longest = async {
            let (mut last, mut longest) = (began, began.elapsed());
            while last < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            longest
        };
        let ((), longest) = tokio::join!(serves, longest);
        assert!(longest < Duration::from_secs(1), "{longest:?}");
        reader.close(Duration::from_secs(20)).await;
    }
}
