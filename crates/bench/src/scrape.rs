//! What an instance's `/metrics` say.

use dinnerbell_core::model::number::Lane;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The histogram of the steps.
const STEPS: &str = "dinnerbell_step_duration_seconds";

/// One step of the service, all of its times together.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Its name in the metrics.
    pub step: String,
    /// How often.
    pub times: u64,
    /// How long in all.
    pub seconds: f64,
}

/// Every series at one moment.
#[derive(Debug, Clone, Default)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Asks an instance. None while it does not answer.
    pub async fn of(address: SocketAddr) -> Option<Self> {
        let answer = timeout(ANSWER, ask(address)).await.ok()?.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.split(' ').nth(1).filter(|status| *status == "200")?;
        Some(Self::parse(body))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    fn value(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or(0.0)
    }

    /// Drafts in both sinks.
    pub fn drafts(&self) -> usize {
        // A count of drafts is far below what an f64 counts exactly.
        self.value("dinnerbell_drafts_published_total") as usize
    }

    /// Rounds published.
    pub fn rounds(&self) -> u64 {
        self.value("dinnerbell_rounds_published_total") as u64
    }

    /// How often a lane failed and was taken over again, whatever the cause.
    pub fn failures(&self) -> u64 {
        let all = self.0.iter().filter(|(name, _)| name.starts_with("dinnerbell_lane_failures_total"));
        all.map(|(_, value)| *value as u64).sum()
    }

    /// The lanes that are the instance's own, whatever their state.
    pub fn lanes(&self) -> BTreeSet<Lane> {
        let names =
            self.0.keys().filter_map(|name| name.strip_prefix("dinnerbell_lane_state{lane=\"")?.split('"').next());
        names.filter_map(|lane| lane.parse().ok()).collect()
    }

    /// How many lanes run.
    pub fn running_lanes(&self) -> usize {
        let states = self.0.iter().filter(|(name, value)| {
            name.starts_with("dinnerbell_lane_state{") && name.contains(r#"state="running""#) && **value > 0.0
        });
        states.count()
    }

    /// The share of `fanout.memory_limit` in use.
    pub fn in_flight_share(&self) -> Option<f64> {
        let limit = self.value("dinnerbell_memory_limit_bytes");
        (limit > 0.0).then(|| self.value("dinnerbell_memory_in_flight_bytes") / limit)
    }

    /// Processor time used, in seconds.
    pub fn cpu(&self) -> f64 {
        self.value("process_cpu_seconds_total")
    }

    /// What the steps took since an earlier moment.
    pub fn steps_since(&self, before: &Self) -> Vec<Step> {
        let of = |step: &str, what: &str| {
            let series = format!("{STEPS}_{what}{{step=\"{step}\"}}");
            self.value(&series) - before.value(&series)
        };
        let names = ["intake", "audience", "copy", "record", "publish"];
        let steps = names.iter().map(|step| Step {
            step: (*step).to_owned(),
            times: of(step, "count") as u64,
            seconds: of(step, "sum"),
        });
        steps.collect()
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dinnerbell_core::telemetry::{LaneState, Telemetry};

    #[test]
    fn what_the_service_shows_is_understood() {
        let telemetry = Telemetry::default();
        let before = Scrape::parse(&telemetry.exposition(dinnerbell_core::telemetry::Format::OpenMetrics).unwrap());
        telemetry.set_lane(Lane::new(0), LaneState::Running);
        telemetry.set_lane(Lane::new(1), LaneState::TakingOver);
        telemetry.published_again(Lane::new(0), 1_200);
        telemetry.step(dinnerbell_core::telemetry::RoundStep::Copy, Duration::from_millis(250));
        telemetry.step(dinnerbell_core::telemetry::RoundStep::Copy, Duration::from_millis(250));
        let after = Scrape::parse(&telemetry.exposition(dinnerbell_core::telemetry::Format::OpenMetrics).unwrap());
        assert_eq!((after.drafts(), after.rounds(), after.running_lanes(), after.failures()), (1_200, 1, 1, 0));
        assert_eq!(after.lanes(), BTreeSet::from([0, 1].map(Lane::new)));
        let copy = after.steps_since(&before).into_iter().find(|step| step.step == "copy").unwrap();
        assert_eq!((copy.times, copy.seconds), (2, 0.5));
    }
}
