//! One Kafka transaction that repeats a recorded round.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use crate::guard::{Guard, Guards};
use crate::instance::pause::{IN_FLIGHT_GRACE, PauseWatch};
use crate::lane::backlog::ChangedWindows;
use crate::lane::error::LaneError;
use crate::model::number::{Micros, Seconds};
use crate::model::recorded::{Delivery, Published, Recorded};
use crate::ports::broker::{BrokerError, Producer};
use crate::ports::clock::Clock;

/// Publishes a recorded round as soon as nothing is paused. All campaigns in it must be open then, by their windows as recorded and by those in
/// `changed`; else it fails. A round without messages only reports how far the lane is: no pause and no window is about that. Without a producer in
/// what is returned, this one is used up: the lane is taken over again before it records another round.
///
/// The windows are checked twice: here, and by the producer directly before its transaction begins. Whatever takes time in between, no round is begun
/// after the end of one of its campaigns.
pub async fn publish<P: Producer, C: Clock>(
    producer: P,
    round: &Recorded,
    clock: &C,
    pause: &PauseWatch,
    changed: &Arc<ChangedWindows>,
    guards: Guards,
) -> Result<(Option<P>, Published), LaneError> {
    let seq = round.version().seq;
    if !round.has_messages() {
        let producer = producer.publish(round).await?;
        return Ok((producer, Published::found(round.version())));
    }
    let released = match guards.enabled(Guard::PauseBeforePublication) {
        true => pause.until_publication_allowed(clock).await,
        false => clock.fresh().await,
    };
    let released = released.ok_or(LaneError::ClockUnread)?;
    let is_open = {
        let (round, changed) = (round.clone(), Arc::clone(changed));
        move |now: Micros| is_open(&round, &changed, guards, now.seconds())
    };
    if !is_open(released) {
        return Err(LaneError::NotOpen { seq });
    }
    let may_begin = {
        let clock = clock.clone();
        Arc::new(move || is_open(clock.now()))
    };
    let suspended = async {
        pause.until_suspended().await;
        sleep(IN_FLIGHT_GRACE).await;
    };
    let began = Instant::now();
    tokio::select! {
        biased;
        published = producer.publish_if(round, may_begin) => match published {
            Ok(producer) => {
                let delivery = Delivery { bytes: round.draft_bytes(), took: began.elapsed() };
                Ok((producer, Published::committed(round.version(), delivery)))
            }
            Err(BrokerError::NotBegun) => Err(LaneError::NotOpen { seq }),
            Err(error) => Err(error.into()),
        },
        // Whether it was committed is found by the takeover.
        () = suspended => Err(LaneError::Paused { seq }),
    }
}

/// Whether all campaigns of the round are open, by their windows as recorded and by those that changed since.
fn is_open(round: &Recorded, changed: &ChangedWindows, guards: Guards, now: Seconds) -> bool {
    let over = !round.window().is_open(now) && guards.enabled(Guard::TimeBeforePublication);
    let shut = changed.is_any_closed(round.campaigns(), now) && guards.enabled(Guard::CancelledBeforePublication);
    !over && !shut
}

/// Commits the mark of a round that is published already: the group's offsets were lost.
pub async fn restore_mark<P: Producer>(producer: P, round: &Recorded) -> Result<(Option<P>, Published), LaneError> {
    let producer = producer.publish_mark(round).await?;
    Ok((producer, Published::found(round.version())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::campaign::{Campaign, Window};
    use crate::model::clients::Clients;
    use crate::model::draft::{DraftBatch, DraftTemplate};
    use crate::model::mark::{CommittedMark, CommittedOffset, RoundVersion};
    use crate::model::number::{Lane, Offset};
    use crate::model::round::{RoundContent, RoundPart};
    use crate::ports::broker::MayBegin;
    use crate::ports::clock::tests::TestClock;

    /// Between the check of the windows and the transaction this many microseconds pass.
    struct Slow(TestClock, i64);

    impl Producer for Slow {
        async fn publish_if(self, _: &Recorded, may_begin: MayBegin) -> Result<Option<Self>, BrokerError> {
            self.0.pass(self.1);
            if may_begin() { Ok(Some(self)) } else { Err(BrokerError::NotBegun) }
        }

        async fn committed(self) -> Result<(Self, CommittedOffset), BrokerError> {
            Ok((self, CommittedOffset::None))
        }

        async fn publish_mark(self, _: &Recorded) -> Result<Option<Self>, BrokerError> {
            Ok(Some(self))
        }
    }

    const END: i64 = 100;

    fn round() -> Recorded {
        let campaign = Campaign {
            restaurant_id: "r".into(),
            adv_campaign_id: "a".into(),
            adv_campaign_content: "two for one".into(),
            adv_campaign_owner: "Ivan".into(),
            adv_campaign_owner_contact: "ivan@pizzeria".into(),
            window: Window { start: Seconds::new(0), end: Seconds::new(END) },
            datetime_created: Seconds::new(0),
        };
        let template = DraftTemplate::new(Arc::new(campaign), Seconds::new(1), "group").unwrap();
        let clients: Clients = ["anna"].into_iter().collect();
        let drafts = DraftBatch { template: Arc::new(template), clients };
        let part = RoundPart { drafts, revision: 0, page: None, late: 0 };
        let trigger_datetime_created = Seconds::new(1);
        let content =
            RoundContent { parts: vec![part], dead_letters: Vec::new(), trigger_datetime_created, round_bytes: None };
        let mark = CommittedMark { ledger: uuid::Uuid::from_u128(1), version: RoundVersion::default() };
        Recorded::committed(mark, Lane::new(0), Offset::new(0), &content, false)
    }

    async fn published_after(takes: i64, changed: &Arc<ChangedWindows>) -> Result<(), LaneError> {
        let clock = TestClock::at((END - 1) * 1_000_000);
        let producer = Slow(clock.clone(), takes);
        publish(producer, &round(), &clock, &PauseWatch::never(), changed, Guards::default()).await.map(drop)
    }

    #[tokio::test]
    async fn a_round_whose_campaign_ends_between_the_look_and_the_transaction_is_not_begun() {
        let changed = Arc::default();
        assert!(published_after(999_999, &changed).await.is_ok());
        let late = published_after(1_000_000, &changed).await;
        assert!(matches!(late, Err(LaneError::NotOpen { .. })), "{late:?}");
    }

    #[tokio::test]
    async fn an_end_that_was_moved_counts_too() {
        let changed: Arc<ChangedWindows> = Arc::default();
        let window = Window { start: Seconds::new(0), end: Seconds::new(END - 1) };
        changed.add(std::iter::once(("a".to_owned(), window)));
        let late = published_after(0, &changed).await;
        assert!(matches!(late, Err(LaneError::NotOpen { .. })), "{late:?}");
    }
}
