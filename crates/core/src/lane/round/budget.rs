//! How much a round may hold: by the configuration, by memory, by the round sizing, and by what others leave it.

use crate::instance::round_sizing::RoundSizing;
use crate::lane::backlog::LaneBacklog;
use crate::lane::context::LaneContext;
use crate::lane::round::late::LateBatch;
use crate::lane::round::plan::Room;
use crate::model::due::ActiveCampaign;

/// What a round may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Of its pages.
    pub(super) pages: Room,
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
    pub(super) async fn budget(&self, running: &[ActiveCampaign], late: &mut LateBatch, quiet: bool) -> Budget {
        let room = self.room(running, quiet);
        late.keep(if running.is_empty() { room } else { room.fraction(2) });
        let newcomers = late.most_drafts();
        let mut pages = room.checked_sub(newcomers.rows, newcomers.bytes).unwrap_or(Room::NOTHING);
        if running.is_empty() {
            pages = Room::NOTHING;
        }
        let tokens = match pages.rows + newcomers.rows {
            0 => 0,
            wanted => self.cx.rate.take(wanted).await,
        };
        if tokens < pages.rows + newcomers.rows {
            // Half of what there is for each, if both want more.
            late.keep(Room { rows: tokens.saturating_sub(pages.rows.min(tokens / 2)), ..room });
            pages.rows = pages.rows.min(tokens.saturating_sub(late.most_drafts().rows));
        }
        Budget { pages, tokens }
    }

    /// Whether other campaigns wait in this lane, or came to the instance a short while ago.
    fn is_shared(&self, running: &[ActiveCampaign]) -> bool {
        self.backlog.others_wait() || running.iter().any(|running| self.cx.recent_campaigns.another_than(running.id()))
    }

    /// What the next round may hold: by the configuration, by memory, by the round sizing, and by what a round may take while others wait.
    fn room(&self, running: &[ActiveCampaign], quiet: bool) -> Room {
        let rows = self.cx.limits.round_rows.min(self.cx.memory.most_clients()).max(1);
        self.sizing.room(rows, quiet || self.is_shared(running))
    }
}
