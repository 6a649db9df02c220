//! The series that `/metrics` shows: counts and times that grow, and gauges that are read off the telemetry at the moment of asking.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::model::headroom::Resource;
use crate::model::input::{DecodedRecord, field_names};
use crate::model::intake::Tally;
use crate::model::number::Lane;
use crate::model::retention::Prunable;
use crate::model::round::RoundContent;
use crate::telemetry::labels::{Cause, RoundStep};
use crate::telemetry::lanes::LaneState;
use crate::telemetry::{Observed, locked};

/// One label whose values are known beforehand.
type Label = [(&'static str, &'static str); 1];

/// The label of a dead letter that breaks no rule of one single field.
const WHOLE_RECORD: &str = "record";

/// The label of a dead letter that contradicts what is known of its campaign.
const CONFLICT: &str = "conflict";

/// From a round trip on one machine to a call that its watchdog ends.
const BUCKETS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counters and histograms.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) drafts: Counter,
    pub(crate) late: Counter,
    pub(crate) unsent: Family<Label, Counter>,
    pub(crate) already_told: Counter,
    pub(crate) skipped: Counter,
    pub(crate) of_nobody: Counter,
    pub(crate) rounds: Counter,
    pub(crate) steps: Family<Label, Histogram, fn() -> Histogram>,
    pub(crate) records: Family<Label, Counter>,
    pub(crate) changes: Family<Label, Counter>,
    pub(crate) dead_letters: Family<Label, Counter>,
    pub(crate) failures: Family<Label, Counter>,
    pub(crate) retries: Family<Label, Counter>,
    pub(crate) pruned: Family<Label, Counter>,
}

impl Series {
    /// Registers all series, each with every value of its label: a rate needs the zero before the first count.
    pub(crate) fn register(registry: &mut Registry, librdkafka: &str) -> Self {
        let build =
            Info::new([("version", env!("CARGO_PKG_VERSION").to_owned()), ("librdkafka", librdkafka.to_owned())]);
        registry.register("build", "What runs here", build);
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let family = |registry: &mut Registry, name: &str, help: &str, label: &'static str, values: &[&'static str]| {
            let family = Family::<Label, Counter>::default();
            for value in values {
                drop(family.get_or_create(&[(label, *value)]));
            }
            registry.register(name, help, family.clone());
            family
        };
        let steps = Family::<Label, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        for step in RoundStep::ALL {
            drop(steps.get_or_create(&[("step", step.name())]));
        }
        let help = "Time that a step of an intake or a round took";
        registry.register_with_unit("step_duration", help, Unit::Seconds, steps.clone());
        let fields: Vec<_> = field_names().chain([WHOLE_RECORD, CONFLICT]).collect();
        Self {
            drafts: counter(
                registry,
                "drafts_published",
                "Drafts in both sinks by rounds that this instance published",
            ),
            late: counter(
                registry,
                "late_drafts_published",
                "Those among them for who subscribed while the campaign ran",
            ),
            unsent: family(
                registry,
                "drafts_unsent",
                "Who was not told of a campaign before its end, or before it was cancelled",
                "why",
                &["ended", "cancelled"],
            ),
            already_told: counter(registry, "clients_told_already", "Subscribers who had a feedback row already"),
            skipped: counter(registry, "clients_skipped", "Subscribers whose client_id is empty, too long or no UTF-8"),
            of_nobody: counter(registry, "campaigns_of_nobody", "Campaigns whose restaurant nobody favoured"),
            rounds: counter(registry, "rounds_published", "Rounds that this instance published"),
            steps,
            records: family(registry, "records", "Input records by what each ended as", "outcome", &OUTCOMES),
            changes: family(
                registry,
                "changes",
                "Changes from other lanes by what each ended as",
                "outcome",
                &OUTCOMES,
            ),
            dead_letters: family(registry, "dead_letters", "Dead letters by broken field", "reason_field", &fields),
            failures: family(
                registry,
                "lane_failures",
                "Failures after which a lane was taken over again",
                "cause",
                &Cause::ALL.map(Cause::name),
            ),
            pruned: family(
                registry,
                "pruned_rows",
                "Rows of the ledger that were long over and are gone",
                "what",
                &Prunable::ALL.map(Prunable::name),
            ),
            retries: family(
                registry,
                "retries",
                "Failures beside the rounds, tried again",
                "cause",
                &Cause::ALL.map(Cause::name),
            ),
        }
    }

    pub(crate) fn took_in<'a>(&self, tally: &Tally, records: impl Iterator<Item = &'a DecodedRecord>) {
        for (outcome, number) in OUTCOMES.into_iter().zip(outcomes(tally)) {
            self.records.get_or_create(&[("outcome", outcome)]).inc_by(count(number));
        }
        let mut broken = 0;
        for decoded in records {
            if let DecodedRecord::DeadLetter(reason) = decoded {
                broken += 1;
                self.dead_letters.get_or_create(&[("reason_field", reason.field.unwrap_or(WHOLE_RECORD))]).inc();
            }
        }
        self.conflicts(count(tally.dead_letters).saturating_sub(broken));
    }

    pub(crate) fn applied(&self, tally: &Tally) {
        for (outcome, number) in OUTCOMES.into_iter().zip(outcomes(tally)) {
            self.changes.get_or_create(&[("outcome", outcome)]).inc_by(count(number));
        }
        self.conflicts(count(tally.dead_letters));
    }

    /// Dead letters that only what is known of their campaign made such.
    fn conflicts(&self, number: u64) {
        self.dead_letters.get_or_create(&[("reason_field", CONFLICT)]).inc_by(number);
    }

    pub(crate) fn published(&self, content: &RoundContent) {
        self.rounds.inc();
        self.drafts.inc_by(content.drafts() as u64);
        for part in &content.parts {
            self.late.inc_by(part.late as u64);
            self.of_nobody.inc_by(u64::from(part.found_nobody()));
            if let Some(page) = &part.page {
                self.already_told.inc_by(page.already_told.len() as u64);
                self.skipped.inc_by(page.skipped);
            }
        }
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// What an input record can end as; the order of [`outcomes`].
const OUTCOMES: [&str; 7] =
    ["campaign", "update", "older_update", "duplicate", "handed_over", "cancellation", "dead_letter"];

fn outcomes(tally: &Tally) -> [i64; 7] {
    let Tally { campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters } = *tally;
    [campaigns, updates, older_updates, duplicates, handed_over, cancellations, dead_letters]
}

/// Gauges that are read off the telemetry at the moment of asking. A lane that was left leaves no series behind.
#[derive(Debug)]
pub(crate) struct Gauges(pub(crate) Arc<Observed>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let ready = u64::from(self.0.readiness().ready);
        gauge(&mut encoder, "ready", "Whether the instance does its work, as /readyz says it", None, ready)?;
        let suspension = locked(&self.0.suspension).suspension;
        gauge(&mut encoder, "paused", "Whether an operator paused all sending", None, u64::from(suspension.paused))?;
        let help = "Whether all is held until every lane was compared with Kafka";
        gauge(&mut encoder, "held", help, None, u64::from(suspension.held))?;
        let refuses = u64::from(locked(&self.0.dead_letters_wait).is_some());
        let help = "Whether the topic of dead letters takes none";
        gauge(&mut encoder, "dead_letter_topic_refuses", help, None, refuses)?;
        if let Some(memory) = self.0.memory.get() {
            let bytes = Some(&Unit::Bytes);
            gauge(&mut encoder, "memory_limit", "Memory that drafts in flight may take", bytes, memory.limit())?;
            let help = "Memory that drafts in flight were given";
            gauge(&mut encoder, "memory_in_flight", help, bytes, memory.reserved())?;
        }
        if let Some(seconds) = *locked(&self.0.clock_difference) {
            let help = "This machine's clock less the feedback database's";
            gauge(&mut encoder, "clock_difference", help, Some(&Unit::Seconds), seconds)?;
        }
        if let Some(seconds) = *locked(&self.0.replica_lag) {
            let help = "By how much the subscribers that are read may be behind, where they are a replica's";
            gauge(&mut encoder, "subscribers_replica_lag", help, Some(&Unit::Seconds), seconds)?;
        }
        if let Some(partitions) = *locked(&self.0.partitions) {
            let help = "Partitions of the campaigns topic, whichever instance has them";
            gauge(&mut encoder, "lanes", help, None, u64::try_from(partitions).unwrap_or(0))?;
        }
        self.encode_headroom(&mut encoder)?;
        self.encode_lanes(&mut encoder)
    }
}

impl Gauges {
    fn encode_headroom(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let headroom = locked(&self.0.headroom);
        let (times, ids): (Vec<_>, Vec<_>) = headroom.iter().partition(|found| found.of == Resource::DraftTimes);
        for time in times {
            let help = "Time until trigger_datetime_created of the feedback table ends";
            gauge(encoder, "draft_time_left", help, Some(&Unit::Seconds), time.left())?;
        }
        if ids.is_empty() {
            return Ok(());
        }
        let help = "Ids that are left before the column, or its sequence, ends.";
        let mut metric = encoder.encode_descriptor("ids_left", help, None, MetricType::Gauge)?;
        for found in ids {
            ConstGauge::new(found.left()).encode(metric.encode_family(&[("of", found.of.name())])?)?;
        }
        Ok(())
    }

    fn encode_lanes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let lanes = self.0.lanes();
        let halted = lanes.values().filter(|view| matches!(view.state, LaneState::Halted(_))).count();
        gauge(encoder, "halted_lanes", "Lanes that stand still until an operator resolves them", None, halted as u64)?;
        let states = lanes.iter().flat_map(|(lane, view)| {
            LaneState::NAMES.into_iter().map(move |state| (*lane, Some(state), u64::from(state == view.state.name())))
        });
        lane_gauge(encoder, "lane_state", "1 for the state that the lane is in", None, states)?;
        let running = lanes.iter().map(|(lane, view)| (*lane, None, view.running_campaigns as u64));
        let help = "Campaigns of the lane that get drafts now, as far as they are in memory";
        lane_gauge(encoder, "running_campaigns", help, None, running)?;
        let letters = lanes.iter().map(|(lane, view)| (*lane, None, view.waiting_dead_letters as u64));
        let help = "Dead letters of the lane that wait to be published, as far as they are in memory";
        lane_gauge(encoder, "waiting_dead_letters", help, None, letters)?;
        let lags = || lanes.iter().filter_map(|(lane, view)| Some((*lane, view.lag.shown?)));
        let records = lags().map(|(lane, lag)| (lane, None, lag.records));
        lane_gauge(
            encoder,
            "lane_lag_records",
            "Offsets from the position to the end of the partition",
            None,
            records,
        )?;
        let held = lanes.iter().filter(|(_, view)| view.lag.shown.is_some());
        let held = held.map(|(lane, view)| (*lane, None, view.lag.held_back.map_or(0, |held| held.records)));
        let help = "Offsets that a sender's open transaction holds back";
        lane_gauge(encoder, "lane_held_back_records", help, None, held)?;
        let seconds = lags().map(|(lane, lag)| (lane, None, lag.seconds));
        lane_gauge(encoder, "lane_lag", "Age of the oldest record not taken in", Some(&Unit::Seconds), seconds)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: impl EncodeGaugeValue,
) -> Result<(), Error> {
    let help = format!("{help}.");
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, &help, unit, MetricType::Gauge)?)
}

/// A gauge with one series for each lane, or for each lane and state.
fn lane_gauge<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    series: impl Iterator<Item = (Lane, Option<&'static str>, V)>,
) -> Result<(), Error> {
    let mut series = series.peekable();
    if series.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, &format!("{help}."), unit, MetricType::Gauge)?;
    for (lane, state, value) in series {
        let mut labels = vec![("lane", lane.to_string())];
        labels.extend(state.map(|state| ("state", state.to_owned())));
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
