//! What the operator sees grow, and what is beside it: records, rounds, drafts, times, what is left.

use std::sync::Arc;
use std::time::Duration;

use crate::instance::memory_budget::MemoryBudget;
use crate::model::headroom::Headroom;
use crate::model::intake::{IntakeBatch, IntakeOutcome};
use crate::model::number::Lane;
use crate::model::retention::Prunable;
use crate::model::round::RoundContent;
use crate::telemetry::labels::RoundStep;
use crate::telemetry::{Telemetry, locked};

impl Telemetry {
    /// Records were taken in.
    pub fn took_in(&self, lane: Lane, outcome: &IntakeOutcome, batch: &IntakeBatch, took: Duration) {
        tracing::debug!(lane = lane.get(), position = batch.to.get(), tally = ?outcome.tally, ?took, "intake");
        self.step(RoundStep::Intake, took);
        self.series.took_in(&outcome.tally, batch.records.iter().map(|(_, decoded)| decoded));
        if let Some(view) = self.observed.lanes().get_mut(&lane) {
            let last = batch.records.last().and_then(|(record, _)| record.timestamp.known());
            view.lag.position(batch.to, last);
        }
    }

    /// What other lanes or an operator handed over was applied.
    pub fn applied_changes(&self, lane: Lane, outcome: &IntakeOutcome) {
        if outcome.tally.records() == 0 {
            return;
        }
        tracing::debug!(lane = lane.get(), tally = ?outcome.tally, "changes applied");
        self.series.applied(&outcome.tally);
    }

    /// A step took this long.
    pub fn step(&self, step: RoundStep, took: Duration) {
        tracing::trace!(step = step.name(), ?took, "step");
        self.series.steps.get_or_create(&[("step", step.name())]).observe(took.as_secs_f64());
        locked(&self.observed.steps)[step as usize].took(took);
    }

    /// A round was published.
    pub fn published(&self, lane: Lane, content: &RoundContent) {
        tracing::debug!(
            lane = lane.get(),
            drafts = content.drafts(),
            dead_letters = content.dead_letters.len(),
            "published"
        );
        self.well(lane);
        for part in content.parts.iter().filter(|part| part.found_nobody()) {
            let (campaign, skipped) =
                (part.drafts.template.campaign(), part.page.as_ref().map_or(0, |page| page.skipped));
            let restaurant = &campaign.restaurant_id;
            tracing::warn!(
                lane = lane.get(),
                campaign = campaign.adv_campaign_id,
                restaurant,
                skipped,
                "nobody favours the restaurant: the campaign reaches nobody"
            );
        }
        self.series.published(content);
    }

    /// A round that was recorded before was published at the takeover.
    pub fn published_again(&self, lane: Lane, drafts: usize) {
        self.well(lane);
        // The round with which a lane begins holds nothing: that is no news.
        if drafts > 0 {
            tracing::info!(lane = lane.get(), drafts, "a recorded round was published at the takeover");
        }
        self.series.rounds.inc();
        self.series.drafts.inc_by(drafts as u64);
    }

    /// A campaign ended or was cancelled: how many clients were not told of it.
    pub fn unsent(&self, lane: Lane, unsent: u64, cancelled: bool) {
        let why = if cancelled { "cancelled" } else { "ended" };
        tracing::debug!(lane = lane.get(), unsent, why, "counted who was not told");
        self.series.unsent.get_or_create(&[("why", why)]).inc_by(unsent);
    }

    /// How many partitions the campaigns topic has.
    pub fn partitions(&self, partitions: i32) {
        *locked(&self.observed.partitions) = Some(partitions);
    }

    /// This is the memory for drafts in flight. Only the first counts.
    pub fn watch_memory(&self, memory: Arc<MemoryBudget>) {
        let _ = self.observed.memory.set(memory);
    }

    /// How many seconds this machine's clock is ahead of the feedback database's.
    pub fn clock_difference(&self, seconds: f64) {
        *locked(&self.observed.clock_difference) = Some(seconds);
    }

    /// How many rows retention pruned.
    pub fn pruned(&self, what: Prunable, rows: u64) {
        self.series.pruned.get_or_create(&[("what", what.name())]).inc_by(rows);
    }

    /// How much is left of ids and times. The log warns of what is low.
    pub fn headroom(&self, found: &[Headroom]) {
        for headroom in found.iter().filter(|headroom| headroom.is_low()) {
            tracing::warn!(remedy = headroom.remedy(), "{headroom}");
        }
        *locked(&self.observed.headroom) = found.to_vec();
    }
}
