//! The instance's membership of the group: which lanes it is assigned, and nothing else.
//!
//! One consumer on a thread of its own. It reads nothing, since what it is assigned is paused at once. It commits nothing and waits for nobody.
//! The lane's task learns from a watch that the lane has gone, and is fenced if it learns too late.

use std::collections::BTreeSet;
use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::client::{ClientEvents, serve_token, settings};
use dinnerbell_config as config;
use dinnerbell_config::kafka_client::Role;
use dinnerbell_core::model::number::Lane;
use dinnerbell_core::ports::broker::BrokerError;

/// What an instance's member of the group calls itself, behind the `client.id` of the configuration.
pub const NAME: &str = "member";

/// One turn of the poll loop takes at most this.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A poll loop that stands still for this many seconds has stalled.
const STALLED_POLLS: u32 = 10;
/// A client that lost its assignment (its session timed out on a machine that stood still) joins again by itself. One that was assigned
/// nothing for this long afterwards was seen never to come back, though it went on polling: it is replaced.
const REJOIN_AFTER: Duration = Duration::from_secs(20);
/// How long the coordinator may take to answer whether it is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// What is reported again and again is said at most so often, and is over when it was not noticed for as long.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Most kinds of reports that are told apart.
const MAX_KINDS: usize = 16;

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
    status: watch::Receiver<GroupStatus>,
    turns: watch::Receiver<u64>,
}

/// How the instance stands with the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStatus {
    /// Nothing was assigned yet.
    Joining,
    /// It has an assignment, though it be empty.
    Member,
    /// The coordinator was not reached in time, or did not learn from this instance: others may have its lanes. It joins again by itself.
    Lost,
}

struct Member {
    topic: String,
    observer: ClientEvents,
    held: watch::Sender<BTreeSet<Lane>>,
    status: watch::Sender<GroupStatus>,
    /// When the assignment was lost, until there is another one.
    lost: Mutex<Option<Instant>>,
    /// Whether an assignment could not be taken: later ones do not bring its lanes.
    untaken: AtomicBool,
}

/// Makes a client that has joined, as often as one is needed.
struct Joining {
    settings: ClientConfig,
    topic: String,
    observer: ClientEvents,
    held: watch::Sender<BTreeSet<Lane>>,
    status: watch::Sender<GroupStatus>,
}

impl Joining {
    fn join(&self) -> Result<BaseConsumer<Member>, BrokerError> {
        let explain = |error: KafkaError| self.observer.explain("joining the group", &error);
        let (topic, observer) = (self.topic.clone(), self.observer.clone());
        let (held, status) = (self.held.clone(), self.status.clone());
        let member = Member { topic, observer, held, status, lost: Mutex::default(), untaken: AtomicBool::new(false) };
        let consumer: BaseConsumer<Member> = self.settings.create_with_context(member).map_err(explain)?;
        consumer.subscribe(&[&self.topic]).map_err(explain)?;
        Ok(consumer)
    }
}

fn member_settings(kafka: &config::Kafka) -> ClientConfig {
    let defaults = [
        ("session.timeout.ms", "10000"),
        // When a coordinator dies, Kafka has another one after 9 s (broker.session.timeout.ms). A member whose last heartbeat was answered seconds
        // before would have lost its session by then. It would join as a new one, and the group would wait until the old session ends.
        ("heartbeat.interval.ms", "1000"),
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
    settings(kafka, Role::Consumer, NAME, &defaults, &promises)
}

impl Membership {
    /// Joins the group. The lanes come later, through [`Membership::assignments`].
    pub fn start(kafka: &config::Kafka) -> Result<Self, BrokerError> {
        let topic = kafka.topics.campaigns.clone();
        let observer = ClientEvents::of(kafka);
        let (held, lanes) = watch::channel(BTreeSet::new());
        let (status, shown) = watch::channel(GroupStatus::Joining);
        let (turn, turns) = watch::channel(0);
        let joining = Joining { settings: member_settings(kafka), topic, observer, held, status };
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
            .map_err(|error| BrokerError::Transient(format!("starting the membership's thread: {error}")))?;
        Ok(Self { view: View { held: lanes, status: shown, turns }, stop, ended })
    }

    /// The lanes that are held, as they change.
    pub fn assignments(&self) -> watch::Receiver<BTreeSet<Lane>> {
        self.view.held.clone()
    }

    /// How the instance stands with the group, as it changes.
    pub fn status(&self) -> watch::Receiver<GroupStatus> {
        self.view.status.clone()
    }

    /// What others see of the membership.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The turns of the poll loop, counted.
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.view.turns.clone()
    }

    /// Completes when the poll loop stood still for ten seconds. The group takes us for alive while this loop notices nothing, so the process must
    /// end. A process that was frozen as a whole has not stalled: seconds are counted in which this ran and the loop did not.
    pub fn stalled(&self) -> impl Future<Output = ()> + Send + use<> {
        let turns = self.view.turns.clone();
        async move {
            let (mut seen, mut still) = (*turns.borrow(), 0);
            while still < STALLED_POLLS {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now = *turns.borrow();
                still = if now == seen { still + 1 } else { 0 };
                seen = now;
            }
        }
    }

    /// Leaves the group, so that others take the lanes at once; waits for that, at most until then. Once it was waited for, again is nothing.
    pub async fn leave(&mut self, by: tokio::time::Instant) {
        if self.stop.swap(true, Ordering::AcqRel) {
            return;
        }
        if tokio::time::timeout_at(by, &mut self.ended).await.is_err() {
            tracing::warn!("leaving the group was not confirmed in time; it will notice by itself");
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

/// Whether the group's coordinator answers. A client of its own asks: while the group rebalances, the broker answers nothing else on the
/// connection through which a member joins.
fn coordinator_answers(joining: &Joining) -> bool {
    let asking = joining.settings.create_with_context::<_, BaseConsumer<ClientEvents>>(joining.observer.clone());
    let Ok(asking) = asking else { return false };
    serve_token(&asking);
    let mut nobodys = TopicPartitionList::with_capacity(1);
    nobodys.add_partition(&joining.topic, i32::MAX);
    asking.committed_offsets(nobodys, ANSWER_TIMEOUT).is_ok()
}

/// Revokes what is held, which tells the lanes, and leaves the group. Where the coordinator cannot be told, the client is left as it is until the
/// process ends. Its end would wait in vain, and librdkafka before 2.14.2 can crash in it (its issue 5347).
fn part(joining: &Joining, consumer: BaseConsumer<Member>) {
    match coordinator_answers(joining) {
        true => drop(consumer),
        false => std::mem::forget(consumer),
    }
}

fn keep_polling(joining: &Joining, mut consumer: BaseConsumer<Member>, stop: &AtomicBool, turn: &watch::Sender<u64>) {
    let mut reports = Reports::default();
    while !stop.load(Ordering::Acquire) {
        // Without an answer a new client would do no better.
        if consumer.context().is_stranded() && coordinator_answers(joining) {
            let lost = REJOIN_AFTER.as_secs();
            reports.report(&format!(
                "the group assigned nothing since the assignment was lost {lost} s ago: joining again"
            ));
            match joining.join() {
                Ok(joined) => consumer = joined,
                Err(error) => reports.report(&format!("joining again failed; it is tried again: {error}")),
            }
        }
        match consumer.poll(POLL_INTERVAL) {
            None => reports.quiet(),
            Some(Ok(message)) => drop(message),
            Some(Err(error)) => reports.report(&error.to_string()),
        }
        turn.send_modify(|turns| *turns += 1);
    }
    part(joining, consumer);
}

/// What the client reports outside of any call: while no broker answers, a dozen times a second. The log says when it begins, once a
/// minute that it lasts, and when it is over.
#[derive(Debug, Default)]
struct Reports {
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    began: Instant,
    heard: Instant,
    said: Instant,
    /// Reports since one was said.
    unsaid: u32,
    kinds: BTreeSet<String>,
}

impl Reports {
    fn report(&mut self, what: &str) {
        if let Some(unsaid) = self.note(Instant::now(), what) {
            tracing::warn!(unsaid, "the group's consumer reports: {what}");
        }
    }

    fn quiet(&mut self) {
        if let Some(lasted) = self.over(Instant::now()) {
            tracing::info!(lasted_s = lasted.as_secs(), "the group's consumer reports no trouble any more");
        }
    }

    /// Whether a report is to be said, and how many were not since the one before.
    fn note(&mut self, now: Instant, what: &str) -> Option<u32> {
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            began: now,
            heard: now,
            said: now,
            unsaid: 0,
            kinds: BTreeSet::new(),
        });
        trouble.heard = now;
        let new = trouble.kinds.len() < MAX_KINDS && trouble.kinds.insert(what.to_owned());
        if new || now.duration_since(trouble.said) >= REPORT_INTERVAL {
            trouble.said = now;
            return Some(std::mem::take(&mut trouble.unsaid));
        }
        trouble.unsaid += 1;
        None
    }

    /// How long the trouble lasted, once nothing was noticed of it for long enough.
    fn over(&mut self, now: Instant) -> Option<Duration> {
        let trouble = self.trouble.take_if(|trouble| now.duration_since(trouble.heard) >= REPORT_INTERVAL)?;
        Some(trouble.heard.duration_since(trouble.began))
    }
}

impl Member {
    fn lost(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the assignment was lost so long ago that this client will not get another one. Asked again after as long.
    fn is_stranded(&self) -> bool {
        let stranded = self.lost().take_if(|since| since.elapsed() > REJOIN_AFTER).is_some();
        if stranded {
            *self.lost() = Some(Instant::now());
        }
        stranded
    }

    fn lanes(&self, list: &TopicPartitionList) -> Vec<Lane> {
        list.elements_for_topic(&self.topic).iter().map(|entry| Lane::new(entry.partition())).collect()
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
                tracing::error!(?lanes, %error, "taking an assignment failed; this member is replaced shortly");
                self.untaken.store(true, Ordering::Release);
                self.lost().get_or_insert_with(Instant::now);
                return;
            }
            tracing::info!(?lanes, "assigned");
            if !self.untaken.load(Ordering::Acquire) {
                *self.lost() = None;
            }
            self.status.send_replace(GroupStatus::Member);
            self.held.send_modify(|held| held.extend(lanes));
        } else {
            let lost = consumer.assignment_lost();
            tracing::info!(?lanes, lost, "revoked");
            if lost {
                *self.lost() = Some(Instant::now());
                self.status.send_replace(GroupStatus::Lost);
            }
            self.held.send_modify(|held| held.retain(|lane| !lanes.contains(lane)));
            if let Err(error) = consumer.incremental_unassign(list) {
                tracing::error!(?lanes, %error, "giving an assignment back failed");
            }
        }
    }
}

impl ClientContext for Member {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, configured: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.observer.generate_oauth_token(configured)
    }

    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        self.observer.log(level, fac, log_message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.observer.error(error, reason);
    }
}

#[cfg(test)]
mod tests;
