//! The instance's membership of the group: which lanes it is assigned, and nothing else.
//!
//! One consumer on a thread of its own. It reads nothing (what it is assigned is paused at once), commits nothing and waits for nobody:
//! whoever works on a lane learns from a watch that the lane has gone, and is fenced if it learns too late.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{oneshot, watch};

use super::client::{Observer, settings};
use crate::broker::{BrokerError, Lane};
use crate::config;
use crate::config::kafka_client::Role;

/// One turn of the poll loop takes at most this.
const TURN: Duration = Duration::from_millis(100);
/// A poll loop that stands still for this many seconds has stalled.
const STALLED: u32 = 10;
/// A client that lost its assignment (its session timed out on a machine that stood still) joins again by itself. One that was assigned
/// nothing for this long afterwards was seen never to come back, though it went on polling: it is replaced.
const REJOIN: Duration = Duration::from_secs(20);
/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(3);

/// The instance as a member of the group, until it is dropped or leaves.
#[derive(Debug)]
pub struct Membership {
    view: View,
    stop: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
}

/// What others see of the membership.
#[derive(Debug, Clone)]
pub struct View {
    held: watch::Receiver<BTreeSet<Lane>>,
    turns: watch::Receiver<u64>,
}

struct Member {
    topic: String,
    observer: Observer,
    held: watch::Sender<BTreeSet<Lane>>,
    /// When the assignment was lost, until there is another one.
    lost: Mutex<Option<Instant>>,
}

/// Makes a client that has joined, as often as one is needed.
struct Joining {
    settings: ClientConfig,
    topic: String,
    observer: Observer,
    held: watch::Sender<BTreeSet<Lane>>,
}

impl Joining {
    fn join(&self) -> Result<BaseConsumer<Member>, BrokerError> {
        let explain = |error: KafkaError| self.observer.explain("joining the group", &error);
        let (topic, observer, held) = (self.topic.clone(), self.observer.clone(), self.held.clone());
        let member = Member { topic, observer, held, lost: Mutex::default() };
        let consumer: BaseConsumer<Member> = self.settings.create_with_context(member).map_err(explain)?;
        consumer.subscribe(&[&self.topic]).map_err(explain)?;
        Ok(consumer)
    }
}

fn member_settings(kafka: &config::Kafka) -> ClientConfig {
    let defaults = [
        ("session.timeout.ms", "10000"),
        ("heartbeat.interval.ms", "3000"),
        // It reads nothing; what slips in before the pause is thrown away.
        ("queued.min.messages", "1"),
        ("queued.max.messages.kbytes", "64"),
    ];
    let promises = [
        ("group.id", kafka.group_id.as_str()),
        ("group.protocol", "classic"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
    ];
    settings(kafka, Role::Consumer, "member", &defaults, &promises)
}

impl Membership {
    /// Joins the group. The lanes come later, through [`Membership::assignments`].
    pub fn start(kafka: &config::Kafka) -> Result<Self, BrokerError> {
        let topic = kafka.topics.campaigns.clone();
        let observer = Observer::default();
        let (held, lanes) = watch::channel(BTreeSet::new());
        let (turn, turns) = watch::channel(0);
        let joining = Joining { settings: member_settings(kafka), topic, observer, held };
        let consumer = joining.join()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        let stopping = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("kafka-member".into())
            .spawn(move || {
                keep_polling(&joining, consumer, &stopping, &turn);
                // Nobody is left to tell if this fails.
                let _ = end.send(());
            })
            .map_err(|error| BrokerError::Passing(format!("starting the membership's thread: {error}")))?;
        Ok(Self { view: View { held: lanes, turns }, stop, ended })
    }

    /// The lanes that are held, as they change.
    pub fn assignments(&self) -> watch::Receiver<BTreeSet<Lane>> {
        self.view.held.clone()
    }

    /// What others see of the membership.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The turns of the poll loop, counted.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.view.turns.clone()
    }

    /// Completes when the poll loop stood still for ten seconds: the group thinks we live while nothing is heard from it, so the process
    /// must end. A process that was frozen as a whole has not stalled: seconds are counted in which this ran and the loop did not.
    pub fn stalled(&self) -> impl Future<Output = ()> + Send + 'static {
        let turns = self.view.turns.clone();
        async move {
            let (mut seen, mut still) = (*turns.borrow(), 0);
            while still < STALLED {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now = *turns.borrow();
                still = if now == seen { still + 1 } else { 0 };
                seen = now;
            }
        }
    }

    /// Leaves the group, so that others take the lanes at once; waits a bounded time for that.
    pub async fn leave(mut self) {
        self.stop.store(true, Ordering::Release);
        if tokio::time::timeout(LEAVE, &mut self.ended).await.is_err() {
            tracing::warn!(
                "leaving the group was not confirmed within {} s; it will notice by itself",
                LEAVE.as_secs()
            );
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl View {
    /// Whether the lane is still held after the poll loop went round once more from here.
    pub async fn still_holds(&self, lane: Lane) -> bool {
        let mut turns = self.turns.clone();
        // The turn that is under way began before we asked.
        let wanted = *turns.borrow() + 2;
        let went_round = turns.wait_for(|turns| *turns >= wanted).await.is_ok();
        went_round && self.held.borrow().contains(&lane)
    }
}

fn keep_polling(joining: &Joining, mut consumer: BaseConsumer<Member>, stop: &AtomicBool, turn: &watch::Sender<u64>) {
    while !stop.load(Ordering::Acquire) {
        if consumer.context().is_stranded() {
            tracing::warn!(
                "the group assigned nothing since the assignment was lost {} s ago: joining anew",
                REJOIN.as_secs()
            );
            match joining.join() {
                Ok(joined) => consumer = joined,
                Err(error) => tracing::warn!(%error, "joining anew failed; it is tried again"),
            }
        }
        match consumer.poll(TURN) {
            None => {}
            Some(Ok(message)) => drop(message),
            Some(Err(error)) => tracing::warn!(%error, "the group's consumer reports"),
        }
        turn.send_modify(|turns| *turns += 1);
    }
    // Revokes what is held, which tells the lanes, and leaves the group.
    drop(consumer);
}

impl Member {
    fn lost(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the assignment was lost so long ago that this client will not get another one. Asked again after as long.
    fn is_stranded(&self) -> bool {
        let stranded = self.lost().take_if(|since| since.elapsed() > REJOIN).is_some();
        if stranded {
            *self.lost() = Some(Instant::now());
        }
        stranded
    }

    fn lanes(&self, list: &TopicPartitionList) -> Vec<Lane> {
        list.elements_for_topic(&self.topic).iter().map(|entry| entry.partition()).collect()
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        // From the end, and paused before that is known: nothing is ever fetched.
        list.set_all_offsets(Offset::End)?;
        consumer.incremental_assign(list)?;
        if let Err(error) = consumer.pause(list) {
            tracing::warn!(%error, "pausing the group's consumer failed; what it fetches is thrown away");
        }
        Ok(())
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let lanes = self.lanes(list);
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = self.assign(consumer, list) {
                tracing::error!(?lanes, %error, "taking an assignment failed");
                return;
            }
            tracing::info!(?lanes, "assigned");
            *self.lost() = None;
            self.held.send_modify(|held| held.extend(lanes));
        } else {
            let lost = consumer.assignment_lost();
            tracing::info!(?lanes, lost, "revoked");
            if lost {
                *self.lost() = Some(Instant::now());
            }
            self.held.send_modify(|held| held.retain(|lane| !lanes.contains(lane)));
            if let Err(error) = consumer.incremental_unassign(list) {
                tracing::error!(?lanes, %error, "giving an assignment back failed");
            }
        }
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        self.observer.log(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.observer.error(error, reason);
    }
}
