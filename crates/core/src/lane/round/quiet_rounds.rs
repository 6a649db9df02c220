//! A campaign that changes during planning makes the round fail; a quiet round retries it with intake blocked.
//!
//! A campaign that changes more often than a round is made would else never be told. It would also throw away what was copied for everybody else. So
//! the next rounds leave out campaigns whose change made a round fail, for as long as they are being changed. In between they have short rounds of
//! their own. For these, intake is blocked from reading the campaign until the round is recorded. Pure but for the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A campaign that did not change for this long is like any other again.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// After this many overtaken rounds in a row the next one is quiet for all campaigns: then it is not always the same campaigns that change.
const OVERTAKEN_IN_A_ROW: u32 = 2;

/// Which campaigns may have drafts in a round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundScope {
    /// Whether intake is blocked while it is made.
    pub quiet: bool,
    /// Whether every campaign may.
    all_campaigns: bool,
    /// Campaigns that change too often for a usual round.
    frequently_changed: Vec<String>,
}

impl RoundScope {
    /// Returns whether a campaign may have drafts in it.
    pub fn includes(&self, adv_campaign_id: &str) -> bool {
        self.all_campaigns || self.is_frequently_changed(adv_campaign_id) == self.quiet
    }

    fn is_frequently_changed(&self, adv_campaign_id: &str) -> bool {
        self.frequently_changed.binary_search_by(|id| id.as_str().cmp(adv_campaign_id)).is_ok()
    }

    /// Returns the scope of all campaigns that this one leaves out.
    pub fn complement(&self) -> Self {
        Self { quiet: !self.quiet, all_campaigns: false, frequently_changed: self.frequently_changed.clone() }
    }
}

/// Which campaigns are being changed, and whether the next round is quiet.
#[derive(Debug, Default)]
pub struct QuietRounds {
    /// When each was changed last.
    frequently_changed: BTreeMap<String, Instant>,
    overtaken: u32,
    quiet_next: bool,
}

impl QuietRounds {
    /// Campaigns were changed.
    pub fn changed<'a>(&mut self, ids: impl Iterator<Item = &'a String>) {
        if self.frequently_changed.is_empty() {
            return;
        }
        for id in ids {
            if let Some(at) = self.frequently_changed.get_mut(id) {
                *at = Instant::now();
            }
        }
    }

    /// A round was not recorded, since these campaigns do not stand as it was planned.
    pub fn overtaken(&mut self, ids: Vec<String>) {
        self.overtaken += 1;
        self.quiet_next = true;
        self.frequently_changed.extend(ids.into_iter().map(|id| (id, Instant::now())));
    }

    /// A round was recorded.
    pub fn recorded(&mut self, quiet: bool) {
        self.quiet_next = !quiet;
        if !quiet || self.overtaken >= OVERTAKEN_IN_A_ROW {
            self.overtaken = 0;
        }
    }

    /// Which campaigns may have drafts in the next round.
    pub fn next_scope(&mut self) -> RoundScope {
        self.frequently_changed.retain(|_, changed| changed.elapsed() < QUIET_AFTER);
        if self.frequently_changed.is_empty() {
            return RoundScope::default();
        }
        RoundScope {
            quiet: self.quiet_next,
            all_campaigns: self.quiet_next && self.overtaken >= OVERTAKEN_IN_A_ROW,
            frequently_changed: self.frequently_changed.keys().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overtaken(quiet_rounds: &mut QuietRounds, id: &str) {
        quiet_rounds.overtaken(vec![id.to_owned()]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_changed_and_who_is_not_take_turns_until_nothing_was_changed_for_a_while() {
        let mut quiet_rounds = QuietRounds::default();
        assert!(quiet_rounds.next_scope().includes("changing") && quiet_rounds.next_scope().includes("other"));
        overtaken(&mut quiet_rounds, "changing");
        let scope = quiet_rounds.next_scope();
        assert!(scope.quiet && scope.includes("changing") && !scope.includes("other"));
        quiet_rounds.recorded(true);
        let scope = quiet_rounds.next_scope();
        assert!(!scope.quiet && !scope.includes("changing") && scope.includes("other"));
        assert_eq!(scope.complement().complement(), scope);
        quiet_rounds.recorded(false);
        tokio::time::advance(QUIET_AFTER * 2 / 3).await;
        quiet_rounds.changed(["changing".to_owned()].iter());
        tokio::time::advance(QUIET_AFTER * 2 / 3).await;
        assert!(quiet_rounds.next_scope().quiet && quiet_rounds.next_scope().includes("changing"));
        tokio::time::advance(QUIET_AFTER).await;
        assert!(
            !quiet_rounds.next_scope().quiet
                && quiet_rounds.next_scope().includes("changing")
                && quiet_rounds.next_scope().includes("other")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn where_it_is_always_another_campaign_that_is_changed_everybody_has_a_quiet_round_soon() {
        let mut quiet_rounds = QuietRounds::default();
        overtaken(&mut quiet_rounds, "one");
        assert!(!quiet_rounds.next_scope().includes("other"));
        quiet_rounds.recorded(true);
        overtaken(&mut quiet_rounds, "another");
        let scope = quiet_rounds.next_scope();
        assert!(scope.quiet && scope.includes("other") && scope.includes("one"));
        quiet_rounds.recorded(true);
        assert!(!quiet_rounds.next_scope().quiet);
    }
}
