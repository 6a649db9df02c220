//! Whether the servers still answer, once the service runs: an instance that reaches one of them no more is not ready, and says since when.
//!
//! A lane says itself what fails for it. But an instance may have none, and loses those that it has when the group hears no more from it;
//! it looked like one that has nothing to do then.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use tokio::time::Instant;

use dinnerbell_core::periodic::Periodic;
use dinnerbell_core::telemetry::{Need, Telemetry};
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_postgres::connect::Pool;
use dinnerbell_postgres::replica::Replica;

/// How often each server is asked.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// How often a replica is checked.
const REPLICA_INTERVAL: Duration = Duration::from_secs(15);
/// How long a server may be silent before the instance is not ready: as long as the group waits for a member.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
/// How long a reason stands: which of its attempts a client names changes with each.
const REASON: Duration = Duration::from_secs(60);

/// Asks each server every three seconds until it is dropped; the telemetry learns who does not answer. It cannot fail.
pub async fn watch(telemetry: &Telemetry, broker: &KafkaBroker, feedback: &Pool, subscribers: &Pool) -> Infallible {
    let kafka = watch_server(telemetry, Need::Kafka, || async { Some(broker.coordinator_answers().await) });
    let feedback = watch_server(telemetry, Need::Feedback, || feedback.answers());
    let subscribers_answer = watch_server(telemetry, Need::Subscribers, || subscribers.answers());
    tokio::join!(kafka, feedback, subscribers_answer, watch_replica(telemetry, subscribers)).0
}

/// Checks the replica from which subscribers are read, if they are. Trouble is reported when two checks in a row find some: a receiver may reconnect
/// at any moment.
async fn watch_replica(telemetry: &Telemetry, subscribers: &Pool) -> Infallible {
    let (mut looks, mut found) = (Periodic::at_once(REPLICA_INTERVAL), false);
    loop {
        looks.due().await;
        // Whether it answers is watched beside.
        let Ok(replica) = Replica::look(subscribers).await else { continue };
        let trouble = replica.as_ref().and_then(Replica::trouble);
        let again = std::mem::replace(&mut found, trouble.is_some());
        telemetry.subscribers_replica(replica.and_then(|replica| replica.behind()), trouble.filter(|_| again));
    }
}

/// A server that does not answer.
struct Outage {
    from: Instant,
    since: Timestamp,
    /// Why, and when that was found.
    why: Option<(Instant, String)>,
}

impl Outage {
    /// What is said of it, once it has lasted too long.
    fn missing(&mut self, why: &impl Display) -> Option<String> {
        if self.from.elapsed() < LONGEST_SILENCE {
            return None;
        }
        let stands = self.why.take().filter(|(found, _)| found.elapsed() < REASON);
        let (_, why) = self.why.insert(stands.unwrap_or_else(|| (Instant::now(), why.to_string())));
        let since = self.since.round(Unit::Second).unwrap_or(self.since);
        Some(format!("cannot be reached since {since}: {why}"))
    }
}

/// Asks one server again and again. No answer at all (`None`) changes nothing: others talk to it at that moment.
async fn watch_server<E: Display, F: Future<Output = Option<Result<(), E>>>>(
    telemetry: &Telemetry,
    need: Need,
    mut ask: impl FnMut() -> F,
) -> Infallible {
    let mut silent: Option<Outage> = None;
    let mut checks = Periodic::at_once(CHECK_INTERVAL);
    loop {
        checks.due().await;
        let asked = Outage { from: Instant::now(), since: Timestamp::now(), why: None };
        match ask().await {
            None => {}
            Some(Ok(())) => {
                silent = None;
                telemetry.has(need);
            }
            Some(Err(why)) => {
                if let Some(missing) = silent.get_or_insert(asked).missing(&why) {
                    telemetry.waits_for(need, missing);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;

    /// What the telemetry says of Kafka after a server that is asked has behaved so for this number of seconds.
    async fn said_after(
        telemetry: &Telemetry,
        answer: &Cell<Option<Result<(), &'static str>>>,
        seconds: u64,
    ) -> String {
        let watching = watch_server(telemetry, Need::Kafka, || async { answer.get() });
        assert!(timeout(Duration::from_secs(seconds), watching).await.is_err());
        telemetry.readiness().missing.into_iter().find(|missing| missing.starts_with("kafka: ")).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_stands_for_a_minute() {
        let mut silence = Outage { from: Instant::now(), since: Timestamp::UNIX_EPOCH, why: None };
        assert_eq!(silence.missing(&"one"), None);
        tokio::time::advance(LONGEST_SILENCE).await;
        for (why, said) in [("one", "one"), ("two", "one")] {
            let missing = silence.missing(&why);
            assert_eq!(missing, Some(format!("cannot be reached since 1970-01-01T00:00:00Z: {said}")));
        }
        tokio::time::advance(REASON).await;
        assert!(silence.missing(&"two").is_some_and(|missing| missing.ends_with(": two")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_for_ten_seconds_is_missing_until_it_answers_again() {
        let (telemetry, answer) = (Telemetry::default(), Cell::new(Some(Ok(()))));
        assert_eq!(said_after(&telemetry, &answer, 5).await, "");
        answer.set(Some(Err("connection refused")));
        assert_eq!(said_after(&telemetry, &answer, 8).await, "", "a short fail-over is no reason to call somebody");
        let said = said_after(&telemetry, &answer, 14).await;
        assert!(said.starts_with("kafka: cannot be reached since "), "{said}");
        assert!(said.ends_with("Z: connection refused"), "{said}");
        answer.set(None);
        assert_eq!(said_after(&telemetry, &answer, 60).await, said, "nobody asked, nothing is known");
        answer.set(Some(Ok(())));
        assert_eq!(said_after(&telemetry, &answer, 1).await, "");
    }
}
