//! What nobody reports by itself: how far the lanes are behind, and how far this machine's clock is off.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::model::number::{Lane, Micros};
use crate::periodic::Periodic;
use crate::ports::broker::{Broker, BrokerError};
use crate::ports::clock::Clock;
use crate::shutdown::stopped;
use crate::telemetry::Telemetry;
use crate::telemetry::lag::Ends;

/// How often the lag and the clock are observed.
const PERIOD: Duration = Duration::from_secs(5);
/// How long Kafka may take to answer.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Lanes that are asked for at once.
const LANES_AT_ONCE: usize = 4;

/// Observes the lanes' lag and the clock every five seconds, and returns at the stop. It cannot fail: what Kafka does not answer is not shown. The
/// stop, or dropping it, gives up a question that is under way.
pub async fn watch<B: Broker, C: Clock>(broker: &B, clock: &C, telemetry: &Telemetry, mut stop: watch::Receiver<bool>) {
    let observing = async {
        let mut steps = Periodic::at_once(PERIOD);
        loop {
            steps.due().await;
            observe(broker, clock, telemetry).await;
        }
    };
    tokio::select! {
        biased;
        () = stopped(&mut stop) => {}
        () = observing => {}
    }
}

/// Observes them once. What Kafka does not answer in time is not shown.
pub async fn observe<B: Broker, C: Clock>(broker: &B, clock: &C, telemetry: &Telemetry) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the machine's own clock is meant: it is compared with the database's"
    )]
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let database = clock.now();
    #[expect(clippy::cast_precision_loss, reason = "a difference of clocks needs no more digits than a double has")]
    telemetry.clock_difference((Micros::since_1970(wall) - database) as f64 / 1e6);
    if let Ok(Ok(lanes)) = timeout(TIME_LIMIT, broker.lanes()).await {
        telemetry.partitions(lanes);
    }
    let ends = |lane: Lane| async move {
        // The end of the log first: what is committed in between is not taken for held back.
        let asked = async {
            Ok::<_, BrokerError>(Ends { log: broker.log_end(lane).await?, stable: broker.watermarks(lane).await?.1 })
        };
        (lane, timeout(TIME_LIMIT, asked).await.ok().and_then(Result::ok))
    };
    let mut answers = stream::iter(telemetry.lanes().into_keys()).map(ends).buffer_unordered(LANES_AT_ONCE);
    while let Some((lane, ends)) = answers.next().await {
        telemetry.find_lag(lane, ends, clock.now().millis());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::model::mark::CommittedOffset;
    use crate::model::number::Offset;
    use crate::model::output_topics::OutputTopicIds;
    use crate::model::record::{InputEvent, RecordFingerprint};
    use crate::model::recorded::Recorded;
    use crate::ports::broker::{Input, MayBegin, Producer};
    use crate::ports::clock::tests::TestClock;
    use crate::telemetry::{Format, LaneState};

    /// Kafka that knows watermarks only; a negative one is an error.
    #[derive(Clone)]
    struct Watermarks(Arc<AtomicI64>);

    enum Never {}

    impl Input for Never {
        async fn next(&mut self, _: usize) -> Result<Vec<InputEvent>, BrokerError> {
            match *self {}
        }
    }

    impl Producer for Never {
        async fn publish_if(self, _: &Recorded, _: MayBegin) -> Result<Option<Self>, BrokerError> {
            match self {}
        }

        async fn committed(self) -> Result<(Self, CommittedOffset), BrokerError> {
            match self {}
        }

        async fn publish_mark(self, _: &Recorded) -> Result<Option<Self>, BrokerError> {
            match self {}
        }
    }

    fn away<T>() -> Result<T, BrokerError> {
        Err(BrokerError::Transient("away".to_owned()))
    }

    impl Broker for Watermarks {
        type Producer = Never;
        type Input = Never;

        async fn still_assigned(&self, _: Lane) -> bool {
            true
        }

        async fn producer(&self, _: Lane) -> Result<Never, BrokerError> {
            away()
        }

        async fn committed(&self, _: Lane) -> Result<CommittedOffset, BrokerError> {
            away()
        }

        async fn watermarks(&self, _: Lane) -> Result<(Offset, Offset), BrokerError> {
            match self.0.load(Ordering::Relaxed) {
                high @ 0.. => Ok((Offset::FIRST, Offset::new(high))),
                _ => away(),
            }
        }

        async fn log_end(&self, lane: Lane) -> Result<Offset, BrokerError> {
            Ok(self.watermarks(lane).await?.1)
        }

        async fn lanes(&self) -> Result<i32, BrokerError> {
            Ok(2)
        }

        async fn fingerprint_at(&self, _: Lane, _: Offset) -> Result<Option<RecordFingerprint>, BrokerError> {
            away()
        }

        async fn topic_id(&self) -> Result<Option<String>, BrokerError> {
            away()
        }

        async fn output_ids(&self) -> Result<OutputTopicIds, BrokerError> {
            away()
        }

        async fn open(&self, _: Lane, _: Offset, _: Option<&str>) -> Result<Never, BrokerError> {
            away()
        }

        async fn dead_letter_topic(&self) -> Result<(), BrokerError> {
            away()
        }
    }

    fn shows(telemetry: &Telemetry, line: &str) -> bool {
        telemetry.exposition(Format::OpenMetrics).unwrap().lines().any(|shown| shown == line)
    }

    #[tokio::test]
    async fn lag_is_shown_for_lanes_with_a_position_and_not_shown_when_kafka_is_away() {
        let (high, clock) = (Arc::new(AtomicI64::new(5)), TestClock::at(1_000_000));
        let (broker, telemetry) = (Watermarks(Arc::clone(&high)), Telemetry::default());
        telemetry.set_lane(Lane::new(0), LaneState::Running);
        telemetry.set_lane(Lane::new(1), LaneState::TakingOver);
        telemetry.position(Lane::new(0), Offset::new(3));
        observe(&broker, &clock, &telemetry).await;
        assert!(shows(&telemetry, "dinnerbell_lane_lag_records{lane=\"0\"} 2"));
        assert!(
            !telemetry.exposition(Format::OpenMetrics).unwrap().contains("dinnerbell_lane_lag_records{lane=\"1\"}")
        );
        clock.set(9_000_000);
        observe(&broker, &clock, &telemetry).await;
        assert!(shows(&telemetry, "dinnerbell_lane_lag_seconds{lane=\"0\"} 8.0"));
        high.store(-1, Ordering::Relaxed);
        observe(&broker, &clock, &telemetry).await;
        assert!(!telemetry.exposition(Format::OpenMetrics).unwrap().contains("dinnerbell_lane_lag_records"));
    }

    #[tokio::test(start_paused = true)]
    async fn looking_ends_with_the_stop() {
        let (broker, clock) = (Watermarks(Arc::default()), TestClock::default());
        let (stop, stopped) = watch::channel(false);
        let telemetry = Telemetry::default();
        let watching = watch(&broker, &clock, &telemetry, stopped);
        let stopping = async {
            sleep_until_looked(&telemetry).await;
            stop.send_replace(true);
        };
        timeout(Duration::from_secs(60), async { tokio::join!(watching, stopping) }).await.unwrap();
    }

    /// With a paused clock this takes no time.
    async fn sleep_until_looked(telemetry: &Telemetry) {
        while !telemetry.exposition(Format::OpenMetrics).unwrap().contains("dinnerbell_clock_difference_seconds") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
