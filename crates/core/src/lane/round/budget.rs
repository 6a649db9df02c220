//! How much a round may hold: by the configuration, by memory, by the round sizing, and by what others leave it.

use crate::instance::round_sizing::RoundSizing;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::round::late_selection::LateBatch;
use crate::model::due::RunningCampaign;
use crate::model::round_capacity::RoundCapacity;

/// What a round may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Of its pages.
    pub(super) pages: RoundCapacity,
    /// The tokens of the rate limit for it, newcomers included.
    pub(super) tokens: usize,
}

/// What decides how much the next round of a lane may hold.
pub(super) struct Budgeting<'a, B, L, A, C> {
    pub(super) cx: &'a LaneContext<B, L, A, C>,
    pub(super) backlog: &'a LaneBacklog,
    pub(super) sizing: RoundSizing,
}

impl<B, L, A, C> Budgeting<'_, B, L, A, C> {
    /// How many drafts the next round may have. Where there are pages to read, newcomers have at most half of it. The rate limit is asked for both
    /// alike; newcomers for whom it does not reach wait for a later round.
    pub(super) async fn budget(&self, running: &[RunningCampaign], late: &mut LateBatch, quiet: bool) -> Budget {
        let capacity = self.capacity(running, quiet);
        late.truncate_to(if running.is_empty() { capacity } else { capacity.fraction(2) });
        let newcomers = late.max_cost();
        let mut pages = capacity.checked_sub(newcomers.rows, newcomers.bytes).unwrap_or(RoundCapacity::NOTHING);
        if running.is_empty() {
            pages = RoundCapacity::NOTHING;
        }
        let tokens = match pages.rows + newcomers.rows {
            0 => 0,
            wanted => self.cx.rate.take(wanted).await,
        };
        if tokens < pages.rows + newcomers.rows {
            // Half of what there is for each, if both want more.
            late.truncate_to(RoundCapacity { rows: tokens.saturating_sub(pages.rows.min(tokens / 2)), ..capacity });
            pages.rows = pages.rows.min(tokens.saturating_sub(late.max_cost().rows));
        }
        Budget { pages, tokens }
    }

    /// Whether other campaigns wait in this lane, or came to the instance a short while ago.
    fn is_shared(&self, running: &[RunningCampaign]) -> bool {
        self.backlog.others_wait() || running.iter().any(|running| self.cx.recent_campaigns.another_than(running.id()))
    }

    /// What the next round may hold: by the configuration, by memory, by the round sizing, and by what a round may take while others wait.
    fn capacity(&self, running: &[RunningCampaign], quiet: bool) -> RoundCapacity {
        let rows = self.cx.limits.round_rows.min(self.cx.memory.most_clients()).max(1);
        self.sizing.capacity(rows, quiet || self.is_shared(running))
    }
}
