//! One Kafka transaction that repeats a recorded round.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::LaneError;
use super::brake::{Brake, GRACE};
use super::record::Recorded;
use crate::broker::Producer;
use crate::campaign::EpochSeconds;
use crate::clock::Clock;
use crate::ledger::RoundHead;

/// Proof that a round is committed in Kafka. Only this module makes one; the next round cannot be recorded without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    head: RoundHead,
    delivery: Option<Delivery>,
}

/// What was delivered, and how long that took: the pace of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The drafts, as messages and rows.
    pub bytes: usize,
    /// From the beginning of the transaction to its end.
    pub took: Duration,
}

impl Published {
    /// The round.
    pub fn head(&self) -> RoundHead {
        self.head
    }

    /// What was delivered by it, where it was published just now.
    pub fn delivery(&self) -> Option<Delivery> {
        self.delivery
    }

    /// Both sides were found to name this round on the way into the lane.
    pub(super) fn found(head: RoundHead) -> Self {
        Self { head, delivery: None }
    }
}

/// Publishes a recorded round, as soon as nothing is paused and if all campaigns in it are open then: by their windows as recorded, and unless
/// `is_shut` knows of another one. A round without messages only reports how far the lane is: no brake and no window is about that.
/// Without a producer in what is returned, this one is used up: the lane is taken over anew before it records another round.
pub async fn publish<P: Producer, C: Clock>(
    producer: P,
    round: &Recorded,
    clock: &C,
    brake: &Brake,
    is_shut: impl Fn(EpochSeconds) -> bool,
) -> Result<(Option<P>, Published), LaneError> {
    let seq = round.head().seq;
    if !round.has_messages() {
        let producer = producer.publish(round).await?;
        return Ok((producer, Published::found(round.head())));
    }
    let now = brake.released(clock).await.ok_or(LaneError::ClockUnread)? / 1_000_000;
    if !round.open().is_open(now) || is_shut(now) {
        return Err(LaneError::NotOpen { seq });
    }
    let braked = async {
        brake.on().await;
        sleep(GRACE).await;
    };
    let began = Instant::now();
    tokio::select! {
        biased;
        published = producer.publish(round) => {
            let delivery = Delivery { bytes: round.bytes(), took: began.elapsed() };
            Ok((published?, Published { head: round.head(), delivery: Some(delivery) }))
        }
        // Whether it was committed is found on the way in.
        () = braked => Err(LaneError::Paused { seq }),
    }
}

/// Commits the mark of a round that is published already: the group's offsets were lost.
pub async fn restore_mark<P: Producer>(producer: P, round: &Recorded) -> Result<(Option<P>, Published), LaneError> {
    let producer = producer.publish_mark(round).await?;
    Ok((producer, Published::found(round.head())))
}
