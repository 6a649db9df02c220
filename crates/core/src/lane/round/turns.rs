//! Whose turn the next round is, where changes overtake rounds: a round that was planned before a change is not recorded after it, so a campaign
//! that is changed more often than a round is made would never be told, and would throw away what was copied for everybody else.
//!
//! So campaigns that a change overtook are left out of the next rounds for as long as they are being changed, and have rounds of their own in
//! between: short ones, for which nothing is taken in from when the campaign is read until the round is recorded. Pure but for the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A campaign that nothing changed for this long is like any other again.
const CALM: Duration = Duration::from_secs(1);
/// After so many rounds in a row that a change overtook, the next one is a quiet one for everybody: then it is not always the same campaigns.
const OVERTAKEN_IN_A_ROW: u32 = 2;

/// Whose turn a round is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundTurn {
    /// Whether nothing is taken in while it is made.
    pub quiet: bool,
    /// Whether it is everybody's.
    everybody: bool,
    /// Campaigns that changes overtake.
    contested: Vec<String>,
}

impl RoundTurn {
    /// Whether a campaign may have drafts in it.
    pub fn is_of(&self, adv_campaign_id: &str) -> bool {
        self.everybody || self.is_contested(adv_campaign_id) == self.quiet
    }

    fn is_contested(&self, adv_campaign_id: &str) -> bool {
        self.contested.binary_search_by(|id| id.as_str().cmp(adv_campaign_id)).is_ok()
    }

    /// The turn of those whose turn this is not.
    pub fn of_the_others(&self) -> Self {
        Self { quiet: !self.quiet, everybody: false, contested: self.contested.clone() }
    }
}

/// Which campaigns are being changed, and whose turn was last.
#[derive(Debug, Default)]
pub struct Turns {
    /// When each was changed last.
    contested: BTreeMap<String, Instant>,
    overtaken: u32,
    quiet_next: bool,
}

impl Turns {
    /// Campaigns were changed.
    pub fn changed<'a>(&mut self, ids: impl Iterator<Item = &'a String>) {
        if self.contested.is_empty() {
            return;
        }
        for id in ids {
            if let Some(at) = self.contested.get_mut(id) {
                *at = Instant::now();
            }
        }
    }

    /// A round was not recorded, since these campaigns do not stand as it was planned.
    pub fn overtaken(&mut self, ids: Vec<String>) {
        self.overtaken += 1;
        self.quiet_next = true;
        self.contested.extend(ids.into_iter().map(|id| (id, Instant::now())));
    }

    /// A round was recorded.
    pub fn recorded(&mut self, quiet: bool) {
        self.quiet_next = !quiet;
        if !quiet || self.overtaken >= OVERTAKEN_IN_A_ROW {
            self.overtaken = 0;
        }
    }

    /// Whose turn the next round is.
    pub fn take_turn(&mut self) -> RoundTurn {
        self.contested.retain(|_, changed| changed.elapsed() < CALM);
        if self.contested.is_empty() {
            return RoundTurn::default();
        }
        RoundTurn {
            quiet: self.quiet_next,
            everybody: self.quiet_next && self.overtaken >= OVERTAKEN_IN_A_ROW,
            contested: self.contested.keys().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overtaken(turns: &mut Turns, id: &str) {
        turns.overtaken(vec![id.to_owned()]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_changed_and_who_is_not_take_turns_until_nothing_was_changed_for_a_while() {
        let mut turns = Turns::default();
        assert!(turns.take_turn().is_of("changing") && turns.take_turn().is_of("other"));
        overtaken(&mut turns, "changing");
        let turn = turns.take_turn();
        assert!(turn.quiet && turn.is_of("changing") && !turn.is_of("other"));
        turns.recorded(true);
        let turn = turns.take_turn();
        assert!(!turn.quiet && !turn.is_of("changing") && turn.is_of("other"));
        assert_eq!(turn.of_the_others().of_the_others(), turn);
        turns.recorded(false);
        tokio::time::advance(CALM * 2 / 3).await;
        turns.changed(["changing".to_owned()].iter());
        tokio::time::advance(CALM * 2 / 3).await;
        assert!(turns.take_turn().quiet && turns.take_turn().is_of("changing"));
        tokio::time::advance(CALM).await;
        assert!(!turns.take_turn().quiet && turns.take_turn().is_of("changing") && turns.take_turn().is_of("other"));
    }

    #[tokio::test(start_paused = true)]
    async fn where_it_is_always_another_campaign_that_is_changed_everybody_has_a_quiet_round_soon() {
        let mut turns = Turns::default();
        overtaken(&mut turns, "one");
        assert!(!turns.take_turn().is_of("other"));
        turns.recorded(true);
        overtaken(&mut turns, "another");
        let turn = turns.take_turn();
        assert!(turn.quiet && turn.is_of("other") && turn.is_of("one"));
        turns.recorded(true);
        assert!(!turns.take_turn().quiet);
    }
}
