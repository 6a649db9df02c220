//! What was measured, as JSON and as text. Each scenario has its own part.

use serde::Serialize;

use super::catch_up::CatchUp;
use super::fanout::FanOuts;
use super::figures::gibibytes;
use super::lanes::Lanes;
use super::latency::Latency;
use super::machine::Machine;
use super::mixed::Mixed;
use super::peer::Peer;
use super::take_over::TakeOver;
use crate::environment::Servers;
use dinnerbell_config::Fanout;

/// The settings that bound throughput, as the user gave them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Configured {
    /// `fanout.round_rows`
    pub round_rows: usize,
    /// `fanout.rate_limit`: off while measured.
    pub rate_limit: u64,
    /// `fanout.memory_limit`, in bytes.
    pub memory_limit: usize,
}

impl From<&Fanout> for Configured {
    fn from(fanout: &Fanout) -> Self {
        Self { round_rows: fanout.round_rows, rate_limit: fanout.rate_limit, memory_limit: fanout.memory_limit }
    }
}

/// Everything. A scenario that was not measured is not there.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of the service.
    pub version: &'static str,
    /// When it began, RFC 3339.
    pub at: String,
    /// Where the bench and the service ran.
    pub machine: Machine,
    /// What they spoke with.
    pub servers: Servers,
    /// Partitions of the topic of drafts.
    pub notification_partitions: i32,
    /// The settings that bound throughput.
    pub configured: Configured,
    /// How often each scenario was run.
    pub repeat: u32,
    /// One campaign with a large audience, for each size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fanout: Option<FanOuts>,
    /// Small campaigns at a steady rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Small campaigns while a giant one runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixed: Option<Mixed>,
    /// The same work over more and more lanes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Lanes>,
    /// A backlog after an outage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// Lanes that change hands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take_over: Option<TakeOver>,
    /// The same work as most people would write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
    /// What to change first.
    pub advice: Vec<String>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(servers: Servers, configured: Configured, notification_partitions: i32, repeat: u32) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            at: jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string(),
            machine: Machine::here(),
            servers,
            notification_partitions,
            configured,
            repeat,
            fanout: None,
            latency: None,
            mixed: None,
            lanes: None,
            catch_up: None,
            take_over: None,
            peer: None,
            advice: Vec::new(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let parts = [
            Some(self.head()),
            self.fanout.as_ref().map(FanOuts::text),
            self.latency.as_ref().map(Latency::text),
            self.mixed.as_ref().map(Mixed::text),
            self.lanes.as_ref().map(Lanes::text),
            self.catch_up.as_ref().map(CatchUp::text),
            self.take_over.as_ref().map(TakeOver::text),
            self.peer.as_ref().map(Peer::text),
            Some(self.advice_text()),
        ];
        parts.into_iter().flatten().collect()
    }

    fn advice_text(&self) -> String {
        if self.advice.is_empty() {
            return String::new();
        }
        let lines: Vec<String> = self.advice.iter().map(|advice| format!("- {advice}\n")).collect();
        format!("\nwhat to change first\n\n{}", lines.concat())
    }

    fn head(&self) -> String {
        let Machine { cores, processor, memory_bytes, load_before } = &self.machine;
        let processor = processor.as_deref().unwrap_or("processor unknown");
        let memory = memory_bytes.map_or_else(String::new, |bytes| format!(", {}", gibibytes(bytes as f64)));
        let load = load_before.map_or_else(String::new, |load| format!(", load {load:.1} before"));
        let Servers { postgres, kafka_brokers } = &self.servers;
        format!(
            "dinnerbell {} at {}\n{cores} cores ({processor}){memory}{load}; PostgreSQL {postgres}; Kafka with {kafka_brokers} broker(s), \
             {} partitions of drafts\n",
            self.version, self.at, self.notification_partitions
        )
    }
}
