//! What the service needs, and what stops it: servers, the group, a pause or a hold, a topic that takes no dead letters, the end.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::ownership::Suspension;
use crate::ports::broker::BrokerError;
use crate::telemetry::redact::redact;
use crate::telemetry::{Telemetry, locked};

/// How long the poll loop of the group's consumer may hang before the process counts as dead.
const LONGEST_STANDSTILL: Duration = Duration::from_secs(10);

/// What the service needs before it can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The feedback database answers.
    Feedback,
    /// The ledger is there and belongs to this cluster, group and topics.
    Ledger,
    /// The subscribers database answers.
    Subscribers,
    /// The cluster answers.
    Kafka,
    /// The consumer is in its group: it got an assignment, though it be empty, and has not lost it.
    Group,
}

impl Need {
    /// All of them, in the order in which a start looks for them.
    pub const ALL: [Self; 5] = [Self::Feedback, Self::Subscribers, Self::Kafka, Self::Ledger, Self::Group];

    /// Its name in the log and in `/readyz`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::Ledger => "ledger",
            Self::Subscribers => "subscribers",
            Self::Kafka => "kafka",
            Self::Group => "group",
        }
    }

    /// What it is, in a sentence.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Feedback => "the feedback database",
            Self::Ledger => "the ledger",
            Self::Subscribers => "the subscribers database",
            Self::Kafka => "Kafka",
            Self::Group => "the group's assignment",
        }
    }
}

/// Whether a need is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NeedStatus {
    There,
    Missing(String),
}

/// What stops all sending, and since when it is known.
#[derive(Debug)]
pub(super) struct Suspended {
    pub(super) suspension: Suspension,
    pub(super) since: Instant,
}

impl Default for Suspended {
    fn default() -> Self {
        Self { suspension: Suspension::default(), since: Instant::now() }
    }
}

impl Telemetry {
    /// Something that the service needs is not there yet, or not any more. The log says each reason once in a row.
    pub fn waits_for(&self, need: Need, why: impl fmt::Display) {
        let why = why.to_string();
        let missing = NeedStatus::Missing(why.clone());
        let before = locked(&self.observed.needs).insert(need, missing.clone());
        if before != Some(missing) {
            tracing::warn!("waiting for {}: {}", need.shown(), redact(&why));
        }
    }

    /// Something that the service needs is there.
    pub fn has(&self, need: Need) {
        let before = locked(&self.observed.needs).insert(need, NeedStatus::There);
        // What was there at the first try was never waited for.
        if matches!(before, Some(NeedStatus::Missing(_))) {
            tracing::info!("{} is there", need.shown());
        }
    }

    /// The topic of dead letters takes none for this reason, so that they wait beside the rounds; or it takes them. The log says each reason
    /// once in a row.
    pub fn dead_letter_topic(&self, refusal: Option<&BrokerError>) {
        let why = refusal.map(ToString::to_string);
        let before = std::mem::replace(&mut *locked(&self.observed.dead_letters_wait), why.clone());
        match (why, before) {
            (Some(why), before) if before.as_ref() != Some(&why) => {
                tracing::warn!("dead letters wait, drafts do not: {}", redact(&why));
            }
            (None, Some(_)) => tracing::info!("the topic of dead letters takes them again"),
            _ => {}
        }
    }

    /// The subscribers are read from a replica: how many seconds it may be behind, and what is wrong with it. The log says each trouble once in a
    /// row.
    pub fn subscribers_replica(&self, behind: Option<f64>, trouble: Option<String>) {
        *locked(&self.observed.replica_lag) = behind;
        let before = std::mem::replace(&mut *locked(&self.observed.replica_trouble), trouble.clone());
        match (trouble, before) {
            (Some(trouble), before) if before.as_ref() != Some(&trouble) => {
                tracing::warn!("the subscribers database: {}", redact(&trouble));
            }
            (None, Some(_)) => tracing::info!("the subscribers database: its replica is up to date again"),
            _ => {}
        }
    }

    /// The poll loop of the group's consumer went round.
    pub fn polled(&self) {
        *locked(&self.observed.polled) = Some(Instant::now());
    }

    /// What stops all sending now.
    pub fn suspended(&self, suspension: Suspension) {
        let before =
            std::mem::replace(&mut *locked(&self.observed.suspension), Suspended { suspension, since: Instant::now() });
        if before.suspension.paused != suspension.paused {
            match suspension.paused {
                true => tracing::warn!(
                    "an operator paused all sending: nothing is published until `dinnerbell resume`; `dinnerbell lane list` says who and when"
                ),
                false => tracing::warn!("an operator resumed sending"),
            }
        }
        match (before.suspension.held, suspension.held) {
            // Ordinary after a start of the feedback database, and short. A lane in which commits are missing says so by its halt.
            (false, true) => tracing::info!(
                "the feedback database is new or was restarted: nothing is sent or taken in until every lane was compared with Kafka"
            ),
            (true, false) => tracing::info!("every lane was compared with Kafka: sending and intake go on"),
            // Its beginning counts.
            (true, true) => locked(&self.observed.suspension).since = before.since,
            (false, false) => {}
        }
    }

    /// What holds all, and what ends it; none where nothing does, or not for longer than is ordinary.
    pub fn holds(&self, what: Option<String>) {
        let mut known = locked(&self.observed.holds);
        if let Some(what) = what.as_ref().filter(|what| known.as_ref() != Some(what)) {
            tracing::warn!("{what}");
        }
        *known = what;
    }

    /// How long the poll loop has stood still, if that is too long. Before its first turn, and once the service stops, it may.
    pub fn stands_still(&self) -> Option<Duration> {
        if self.observed.stopping.load(Ordering::Relaxed) {
            return None;
        }
        let polled = *locked(&self.observed.polled);
        polled.map(|at| at.elapsed()).filter(|still| *still >= LONGEST_STANDSTILL)
    }

    /// The service stops: it is not ready from here on.
    pub fn stopping(&self) {
        self.observed.stopping.store(true, Ordering::Relaxed);
    }
}
