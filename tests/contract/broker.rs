//! The broker: `dinnerbell_core::ports::broker::Broker`, its producers and its inputs.

use std::sync::Arc;
use std::time::Duration;

use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::draft::{DraftBatch, DraftTemplate};
use dinnerbell_core::model::mark::{CommittedMark, CommittedOffset, RoundVersion};
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::record::{DeadLetterMessage, InputEvent};
use dinnerbell_core::model::recorded::Recorded;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::broker::{Broker, BrokerError, Input, Producer};
use tokio::time::timeout;

/// Gives each case of the broker to a macro, which makes a test of it.
macro_rules! for_each_broker_case {
    ($test:ident) => {
        $test! { broker:
            a_published_round_is_seen_and_its_mark_is_read_back,
            a_mark_is_published_without_any_message,
            a_producer_reads_the_mark_behind_all_that_was_committed_and_leaves_nothing,
            each_lane_has_a_mark_of_its_own,
            a_second_producer_fences_the_first,
            a_round_that_may_not_be_begun_any_more_leaves_nothing,
            what_a_former_owner_left_open_is_never_seen,
            an_offset_that_may_yet_be_aborted_is_no_answer,
            offsets_that_are_gone_are_no_mark,
            a_lane_is_read_in_order_from_where_it_is_opened,
            the_end_of_a_lane_lies_behind_its_gap,
            records_are_known_again_by_their_marks,
            a_topic_has_one_id_and_nothing_of_another_is_read,
            letters_are_published_with_the_round_that_carries_them,
            a_missing_topic_of_dead_letters_is_told_and_no_draft_goes_out_with_a_letter,
            a_lane_is_assigned_by_the_group_alone,
        }
    };
}
pub(crate) use for_each_broker_case;

/// Longer than any answer takes.
const SOON: Duration = Duration::from_secs(20);
/// Long enough for whatever would arrive.
const QUIET: Duration = Duration::from_secs(1);

/// A cluster, as far as a case needs it, with topics of its own and two lanes.
pub trait Environment {
    type Broker: Broker;

    async fn fresh() -> Self;
    /// The broker as the first instance reaches it.
    fn broker(&self) -> Self::Broker;
    /// The broker as another instance reaches it.
    async fn another(&self) -> Self::Broker;

    /// Appends a record to a lane.
    async fn send(&self, lane: Lane, value: &str);
    /// Leaves a gap behind the records of a lane, as an aborted transaction does.
    async fn leave_gap(&self, lane: Lane);
    /// A former owner began a transaction with this round, sent its offset, and never did anything again.
    async fn leave_open(&self, publication: Publication);
    /// The clients who were told, as a `read_committed` reader sees it, in order.
    async fn told(&self) -> Vec<String>;
    /// How many dead letters can be read.
    async fn letters(&self) -> usize;
    /// The group's offsets expire.
    async fn forget_offsets(&self);
    /// The topic of dead letters is not there any more.
    async fn lose_letters_topic(&self);
    /// The group assigns this lane to the first instance, or it is known that it assigns none.
    async fn assign(&mut self, lane: Lane);
}

fn mark(seq: i64) -> CommittedMark {
    CommittedMark {
        ledger: uuid::Uuid::from_u128(7),
        version: RoundVersion { seq: Seq::new(seq), revision: 0, checksum: seq * 31 },
    }
}

fn drafts(clients: &[&str]) -> DraftBatch {
    let campaign = Campaign {
        restaurant_id: "pizzeria".into(),
        adv_campaign_id: "a".into(),
        adv_campaign_content: "two for one".into(),
        adv_campaign_owner: "Ivan".into(),
        adv_campaign_owner_contact: "ivan@pizzeria".into(),
        window: Window { start: Seconds::new(1_600_000_000), end: Seconds::new(2_600_000_000) },
        datetime_created: Seconds::new(1),
    };
    let template =
        DraftTemplate::new(Arc::new(campaign), Seconds::new(1_700_000_000), super::ledger::environment::GROUP).unwrap();
    DraftBatch { template: Arc::new(template), clients: clients.iter().copied().collect() }
}

fn letter(id: i64) -> DeadLetterMessage {
    DeadLetterMessage {
        id,
        lane: Lane::new(0),
        offset: Offset::new(id),
        key: None,
        value: Some(b"no campaign".to_vec()),
        digest: None,
        headers: Vec::new(),
        reason: "it is no campaign".into(),
        field: None,
    }
}

fn publication(lane: Lane, seq: i64, clients: &[&str], letters: &[i64]) -> Publication {
    let drafts = if clients.is_empty() { Vec::new() } else { vec![drafts(clients)] };
    let dead_letters = letters.iter().copied().map(letter).collect();
    Publication { lane, offset: Offset::new(100 + seq), mark: mark(seq), drafts, dead_letters }
}

fn round(lane: Lane, seq: i64, clients: &[&str]) -> Recorded {
    Recorded::for_test(publication(lane, seq, clients, &[]))
}

pub async fn a_published_round_is_seen_and_its_mark_is_read_back<E: Environment>(env: &mut E) {
    let broker = env.broker();
    assert_eq!(broker.lanes().await.unwrap(), 2);
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::None);
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let producer = producer.publish(&round(Lane::new(0), 0, &[])).await.unwrap().expect("no connection broke");
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(mark(0)));
    producer.publish(&round(Lane::new(0), 1, &["bob", "anna"])).await.unwrap();
    assert_eq!(env.another().await.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(mark(1)));
    assert_eq!(env.told().await, ["anna", "bob"]);
}

pub async fn a_mark_is_published_without_any_message<E: Environment>(env: &mut E) {
    let broker = env.broker();
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let round = Recorded::for_test(publication(Lane::new(0), 4, &["anna"], &[1]));
    producer.publish_mark(&round).await.unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(mark(4)));
    assert_eq!((env.told().await.len(), env.letters().await), (0, 0));
}

pub async fn a_producer_reads_the_mark_behind_all_that_was_committed_and_leaves_nothing<E: Environment>(env: &mut E) {
    let (broker, lane) = (env.broker(), Lane::new(0));
    let (producer, found) = broker.producer(lane).await.unwrap().committed().await.unwrap();
    assert_eq!(found, CommittedOffset::None);
    assert_eq!(broker.committed(lane).await.unwrap(), CommittedOffset::None, "nothing of the proof is seen");
    let producer = producer.publish(&round(lane, 0, &["anna"])).await.unwrap().unwrap();
    let (_, found) = producer.committed().await.unwrap();
    assert_eq!(found, CommittedOffset::Mark(mark(0)));
    assert_eq!(broker.committed(lane).await.unwrap(), CommittedOffset::Mark(mark(0)));
    env.leave_open(publication(lane, 1, &["never"], &[])).await;
    let (producer, found) = broker.producer(lane).await.unwrap().committed().await.unwrap();
    assert_eq!(found, CommittedOffset::Mark(mark(0)));
    producer.publish(&round(lane, 1, &["bob"])).await.unwrap();
    assert_eq!(env.told().await, ["anna", "bob"]);
}

pub async fn each_lane_has_a_mark_of_its_own<E: Environment>(env: &mut E) {
    let broker = env.broker();
    for (lane, seq) in [(0, 3), (1, 5)] {
        broker.producer(Lane::new(lane)).await.unwrap().publish(&round(Lane::new(lane), seq, &[])).await.unwrap();
    }
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(mark(3)));
    assert_eq!(broker.committed(Lane::new(1)).await.unwrap(), CommittedOffset::Mark(mark(5)));
}

pub async fn a_second_producer_fences_the_first<E: Environment>(env: &mut E) {
    let broker = env.broker();
    let first = broker.producer(Lane::new(0)).await.unwrap();
    let first = first.publish(&round(Lane::new(0), 0, &[])).await.unwrap().unwrap();
    let lane_1 = broker.producer(Lane::new(1)).await.unwrap();
    let second = env.another().await.producer(Lane::new(0)).await.unwrap();
    let fenced = first.publish(&round(Lane::new(0), 1, &["twice"])).await.map(drop);
    assert!(matches!(fenced, Err(BrokerError::Fenced)), "{fenced:?}");
    assert_eq!(
        broker.committed(Lane::new(0)).await.unwrap(),
        CommittedOffset::Mark(mark(0)),
        "its offset is not committed"
    );
    second.publish(&round(Lane::new(0), 1, &["once"])).await.unwrap();
    lane_1.publish(&round(Lane::new(1), 0, &["another lane"])).await.unwrap();
    assert_eq!(env.told().await, ["another lane", "once"]);

    let (third, _fourth) = (broker.producer(Lane::new(0)).await.unwrap(), broker.producer(Lane::new(0)).await.unwrap());
    let fenced = third.publish_mark(&round(Lane::new(0), 9, &[])).await.map(drop);
    assert!(matches!(fenced, Err(BrokerError::Fenced)), "also within one instance: {fenced:?}");
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(mark(1)));
}

pub async fn a_round_that_may_not_be_begun_any_more_leaves_nothing<E: Environment>(env: &mut E) {
    let broker = env.broker();
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let late = producer.publish_if(&round(Lane::new(0), 0, &["never"]), Arc::new(|| false)).await.map(drop);
    assert!(matches!(late, Err(BrokerError::NotBegun)), "{late:?}");
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::None);
    producer.publish_if(&round(Lane::new(0), 0, &["heard"]), Arc::new(|| true)).await.unwrap();
    assert_eq!(env.told().await, ["heard"]);
}

pub async fn what_a_former_owner_left_open_is_never_seen<E: Environment>(env: &mut E) {
    env.leave_open(publication(Lane::new(0), 7, &["never"], &[])).await;
    let broker = env.broker();
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    assert_eq!(
        broker.committed(Lane::new(0)).await.unwrap(),
        CommittedOffset::None,
        "it was ended when the producer was made"
    );
    producer.publish(&round(Lane::new(0), 0, &["heard"])).await.unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(mark(0)));
    assert_eq!(env.told().await, ["heard"]);
}

pub async fn an_offset_that_may_yet_be_aborted_is_no_answer<E: Environment>(env: &mut E) {
    let broker = env.broker();
    broker.producer(Lane::new(0)).await.unwrap().publish(&round(Lane::new(0), 0, &[])).await.unwrap();
    env.leave_open(publication(Lane::new(0), 1, &["never"], &[])).await;
    let answer = broker.committed(Lane::new(0)).await;
    assert!(matches!(answer, Err(BrokerError::Transient(_))), "{answer:?}");
    broker.producer(Lane::new(0)).await.unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(mark(0)));
}

pub async fn offsets_that_are_gone_are_no_mark<E: Environment>(env: &mut E) {
    let broker = env.broker();
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let producer = producer.publish(&round(Lane::new(0), 3, &["anna"])).await.unwrap().unwrap();
    env.forget_offsets().await;
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::None);
    producer.publish_mark(&round(Lane::new(0), 3, &["anna"])).await.unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::Mark(mark(3)));
    assert_eq!(env.told().await, ["anna"]);
}

/// Takes this many events, written out.
async fn take<I: Input>(input: &mut I, count: usize) -> Vec<String> {
    let mut arrived = Vec::new();
    while arrived.len() < count {
        let more = timeout(SOON, input.next(count)).await.expect("something arrives").unwrap();
        assert!(!more.is_empty() && more.len() <= count, "{more:?}");
        arrived.extend(more.into_iter().map(|arrived| match arrived {
            InputEvent::Record(record) => String::from_utf8(record.value.unwrap()).unwrap(),
            InputEvent::End(offset) => format!("end {offset}"),
        }));
    }
    arrived
}

pub async fn a_lane_is_read_in_order_from_where_it_is_opened<E: Environment>(env: &mut E) {
    for value in ["zero", "one", "two"] {
        env.send(Lane::new(0), value).await;
    }
    env.send(Lane::new(1), "elsewhere").await;
    let broker = env.broker();
    let mut input = broker.open(Lane::new(0), Offset::new(1), None).await.unwrap();
    assert_eq!(take(&mut input, 2).await, ["one", "two"]);
    assert!(timeout(QUIET, input.next(1)).await.is_err(), "there is no gap behind the last record");
    env.send(Lane::new(0), "three").await;
    assert_eq!(take(&mut input, 1).await, ["three"]);
    assert_eq!(take(&mut broker.open(Lane::new(1), Offset::new(0), None).await.unwrap(), 1).await, ["elsewhere"]);
    assert_eq!(
        take(&mut broker.open(Lane::new(0), Offset::new(0), None).await.unwrap(), 4).await,
        ["zero", "one", "two", "three"]
    );
}

pub async fn the_end_of_a_lane_lies_behind_its_gap<E: Environment>(env: &mut E) {
    let broker = env.broker();
    assert_eq!(broker.watermarks(Lane::new(0)).await.unwrap(), (Offset::FIRST, Offset::FIRST));
    env.send(Lane::new(0), "zero").await;
    env.leave_gap(Lane::new(0)).await;
    let (_, end) = broker.watermarks(Lane::new(0)).await.unwrap();
    assert!(end > Offset::new(1), "{end}");
    assert_eq!(broker.log_end(Lane::new(0)).await.unwrap(), end);
    let mut input = broker.open(Lane::new(0), Offset::new(0), None).await.unwrap();
    assert_eq!(take(&mut input, 2).await, ["zero".to_owned(), format!("end {end}")]);
    assert!(timeout(QUIET, input.next(1)).await.is_err(), "it is told once");
    env.send(Lane::new(0), "behind").await;
    assert_eq!(take(&mut input, 1).await, ["behind"]);
    assert_eq!(broker.watermarks(Lane::new(0)).await.unwrap(), (Offset::FIRST, end.next()));
}

pub async fn records_are_known_again_by_their_marks<E: Environment>(env: &mut E) {
    for value in ["zero", "zero", "two"] {
        env.send(Lane::new(0), value).await;
    }
    env.leave_gap(Lane::new(0)).await;
    env.send(Lane::new(0), "behind").await;
    let broker = env.broker();
    let last = broker.log_end(Lane::new(0)).await.unwrap().get() - 1;
    let places = [0, 1, 2, last].map(Offset::new);
    let mut fingerprints = Vec::new();
    for offset in places {
        fingerprints.push(broker.fingerprint_at(Lane::new(0), offset).await.unwrap());
    }
    let hashes: Vec<i64> = fingerprints.iter().map(|fingerprint| fingerprint.unwrap().hash).collect();
    assert!(hashes[0] == hashes[1] && hashes[1] != hashes[2], "what they hold: {hashes:?}");
    let offsets: Vec<Offset> = fingerprints.iter().map(|fingerprint| fingerprint.unwrap().offset).collect();
    assert_eq!(offsets, places);
    assert_eq!(broker.fingerprint_at(Lane::new(0), Offset::new(3)).await.unwrap(), None, "no record stands in a gap");
    let mut input = broker.open(Lane::new(0), Offset::new(2), None).await.unwrap();
    let arrived = timeout(SOON, input.next(1)).await.unwrap().unwrap().remove(0);
    let InputEvent::Record(record) = arrived else { panic!("{arrived:?}") };
    assert_eq!(record.fingerprint(), fingerprints[2]);
}

pub async fn a_topic_has_one_id_and_nothing_of_another_is_read<E: Environment>(env: &mut E) {
    env.send(Lane::new(0), "zero").await;
    let broker = env.broker();
    let id = broker.topic_id().await.unwrap().expect("this broker knows ids");
    assert_eq!(env.another().await.topic_id().await.unwrap().as_ref(), Some(&id));
    assert_eq!(take(&mut broker.open(Lane::new(0), Offset::new(0), Some(&id)).await.unwrap(), 1).await, ["zero"]);
    let mut input = broker.open(Lane::new(0), Offset::new(0), Some("of another topic")).await.unwrap();
    let refused = timeout(SOON, input.next(1)).await.expect("it is answered");
    assert!(matches!(refused, Err(BrokerError::Transient(_))), "{refused:?}");
}

pub async fn letters_are_published_with_the_round_that_carries_them<E: Environment>(env: &mut E) {
    let broker = env.broker();
    broker.dead_letter_topic().await.unwrap();
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let round = Recorded::for_test(publication(Lane::new(0), 0, &["anna"], &[1, 2]));
    producer.publish(&round).await.unwrap();
    assert_eq!((env.told().await.len(), env.letters().await), (1, 2));
}

pub async fn a_missing_topic_of_dead_letters_is_told_and_no_draft_goes_out_with_a_letter<E: Environment>(env: &mut E) {
    let broker = env.broker();
    env.lose_letters_topic().await;
    let missing = broker.dead_letter_topic().await;
    assert!(matches!(missing, Err(BrokerError::Refused(_))), "{missing:?}");
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    let refused = producer.publish(&Recorded::for_test(publication(Lane::new(0), 0, &["never"], &[1]))).await.map(drop);
    assert!(matches!(refused, Err(BrokerError::DeadLetters { .. })), "{refused:?}");
    let producer = broker.producer(Lane::new(0)).await.unwrap();
    assert_eq!(broker.committed(Lane::new(0)).await.unwrap(), CommittedOffset::None);
    producer.publish(&round(Lane::new(0), 0, &["anna"])).await.unwrap();
    assert_eq!(env.told().await, ["anna"], "without a letter it goes out");
}

pub async fn a_lane_is_assigned_by_the_group_alone<E: Environment>(env: &mut E) {
    let broker = env.broker();
    assert!(!broker.still_assigned(Lane::new(0)).await, "it is no member");
    env.assign(Lane::new(0)).await;
    assert!(broker.still_assigned(Lane::new(0)).await);
    assert!(!broker.still_assigned(Lane::new(9)).await, "there is no such lane");
}
