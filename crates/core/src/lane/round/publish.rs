//! One Kafka transaction that repeats a recorded round.

use tokio::time::{Instant, sleep};

use crate::guard::{Guard, Guards};
use crate::instance::pause::{IN_FLIGHT_GRACE, PauseWatch};
use crate::lane::backlog::ChangedWindows;
use crate::lane::error::LaneError;
use crate::model::recorded::{Delivery, Published, Recorded};
use crate::ports::broker::Producer;
use crate::ports::clock::Clock;

/// Publishes a recorded round as soon as nothing is paused. All campaigns in it must be open then, by their windows as recorded and by those in
/// `changed`; else it fails. A round without messages only reports how far the lane is: no pause and no window is about that. Without a producer in
/// what is returned, this one is used up: the lane is taken over again before it records another round.
pub async fn publish<P: Producer, C: Clock>(
    producer: P,
    round: &Recorded,
    clock: &C,
    pause: &PauseWatch,
    changed: &ChangedWindows,
    guards: Guards,
) -> Result<(Option<P>, Published), LaneError> {
    let seq = round.head().seq;
    if !round.has_messages() {
        let producer = producer.publish(round).await?;
        return Ok((producer, Published::found(round.head())));
    }
    let released = match guards.enabled(Guard::PauseBeforePublication) {
        true => pause.until_released(clock).await,
        false => clock.fresh().await,
    };
    let now = released.ok_or(LaneError::ClockUnread)?.seconds();
    let over = !round.window().is_open(now) && guards.enabled(Guard::TimeBeforePublication);
    if over || (changed.is_any_closed(round.campaigns(), now) && guards.enabled(Guard::CancelledBeforePublication)) {
        return Err(LaneError::NotOpen { seq });
    }
    let suspended = async {
        pause.until_suspended().await;
        sleep(IN_FLIGHT_GRACE).await;
    };
    let began = Instant::now();
    tokio::select! {
        biased;
        published = producer.publish(round) => {
            let delivery = Delivery { bytes: round.bytes(), took: began.elapsed() };
            Ok((published?, Published::committed(round.head(), delivery)))
        }
        // Whether it was committed is found by the takeover.
        () = suspended => Err(LaneError::Paused { seq }),
    }
}

/// Commits the mark of a round that is published already: the group's offsets were lost.
pub async fn restore_mark<P: Producer>(producer: P, round: &Recorded) -> Result<(Option<P>, Published), LaneError> {
    let producer = producer.publish_mark(round).await?;
    Ok((producer, Published::found(round.head())))
}
