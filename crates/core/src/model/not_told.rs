//! Why somebody was not told of a campaign: one rule for lists, commands and the page.

use std::fmt;

use serde::Serialize;

use crate::model::campaign::CampaignState;
use crate::model::limits::LONGEST_CLIENT_ID;

/// Why somebody was not told, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotToldReason {
    /// The campaign has not begun.
    NotStarted,
    /// It runs, and their turn has not come.
    Waiting,
    /// It runs, and an operator paused all sending.
    Paused,
    /// It runs, and all is held until every lane was compared with Kafka.
    Held,
    /// It runs, and its lane is halted.
    Halted,
    /// The end passed before.
    Ended,
    /// It was cancelled before.
    Cancelled,
    /// Their draft was recorded, and withdrawn before it was published: the campaign was over by then.
    Withdrawn,
    /// They favour the restaurant since their place in the audience was passed, and were not told before the campaign was over.
    SubscribedLater,
    /// Their id is empty, too long or no UTF-8.
    UnusableId,
    /// They do not favour the restaurant, as the subscribers' table is now.
    NotSubscribed,
    /// It was cancelled before it arrived, so nobody knows its restaurant.
    NeverArrived,
}

impl NotToldReason {
    /// As it is written in JSON, CSV and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Halted => "halted",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
            Self::Withdrawn => "withdrawn",
            Self::SubscribedLater => "subscribed_later",
            Self::UnusableId => "unusable_id",
            Self::NotSubscribed => "not_subscribed",
            Self::NeverArrived => "never_arrived",
        }
    }

    /// A sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NotStarted => "the campaign has not begun",
            Self::Waiting => "the campaign runs, and their turn has not come yet",
            Self::Paused => "the campaign runs, and all sending is paused",
            Self::Held => "the campaign runs, and all is held until every lane was compared with Kafka",
            Self::Halted => "the campaign runs, and its lane is halted",
            Self::Ended => "the campaign ended before their turn came",
            Self::Cancelled => "the campaign was cancelled before their turn came",
            Self::Withdrawn => {
                "their draft was withdrawn before it was published, because the campaign was over by then"
            }
            Self::SubscribedLater => {
                "they favour the restaurant since their place in the audience was passed, and were not told before the campaign was over"
            }
            Self::UnusableId => "their client id is empty, longer than 256 bytes or no UTF-8",
            Self::NotSubscribed => "they do not favour the restaurant, as the subscribers' table is now",
            Self::NeverArrived => "the campaign was cancelled before it arrived: nobody knows its restaurant",
        }
    }
}

impl fmt::Display for NotToldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What keeps a campaign that runs from being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// An operator's pause.
    Paused,
    /// The hold.
    Held,
    /// The halt of its lane.
    Halted,
}

/// The state of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its state by its window and the database's clock, whether or not its lane has noticed.
    pub state: CampaignState,
    /// Whether it arrived; one that was cancelled before it did has no restaurant.
    pub has_arrived: bool,
    /// The last client of its main pass.
    pub cursor: Option<String>,
    /// Whether the main pass has recorded its last page.
    pub main_pass_over: bool,
    /// What keeps it from being told.
    pub stop: Option<Stop>,
}

impl Standing {
    /// Whether the main pass has gone past this client's place.
    pub fn has_passed(&self, client_id: &str) -> bool {
        self.main_pass_over || self.cursor.as_deref().is_some_and(|cursor| client_id <= cursor)
    }
}

/// What is known of somebody who has no draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientWithoutDraft<'a> {
    /// The client that has no draft.
    pub client_id: &'a str,
    /// Whether they favour the restaurant now.
    pub favours: bool,
    /// Whether a draft of theirs was recorded and withdrawn.
    pub was_withdrawn: bool,
}

/// Why somebody who has no draft has none. `tells_late`: whether those are told who come while a campaign runs.
pub fn reason(campaign: &Standing, tells_late: bool, client: ClientWithoutDraft<'_>) -> NotToldReason {
    let is_usable = !client.client_id.is_empty() && client.client_id.len() <= LONGEST_CLIENT_ID;
    if !campaign.has_arrived {
        return NotToldReason::NeverArrived;
    }
    if !is_usable {
        return NotToldReason::UnusableId;
    }
    if !client.favours {
        return NotToldReason::NotSubscribed;
    }
    let has_passed = campaign.has_passed(client.client_id);
    match campaign.state {
        CampaignState::Scheduled => NotToldReason::NotStarted,
        CampaignState::Active | CampaignState::Complete => match campaign.stop {
            _ if has_passed && !tells_late => NotToldReason::SubscribedLater,
            Some(Stop::Paused) => NotToldReason::Paused,
            Some(Stop::Held) => NotToldReason::Held,
            Some(Stop::Halted) => NotToldReason::Halted,
            None => NotToldReason::Waiting,
        },
        _ if client.was_withdrawn => NotToldReason::Withdrawn,
        _ if has_passed => NotToldReason::SubscribedLater,
        CampaignState::Closed | CampaignState::Expired => NotToldReason::Ended,
        CampaignState::Cancelled => NotToldReason::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CampaignState::{Active, Cancelled, Closed, Complete, Expired, Scheduled};

    const STATES: [CampaignState; 6] = [Scheduled, Active, Complete, Closed, Expired, Cancelled];

    /// A campaign whose main pass is at `m`, or is over.
    fn campaign(state: CampaignState) -> Standing {
        let main_pass_over = matches!(state, Complete | Closed);
        Standing { state, has_arrived: true, cursor: Some("m".to_owned()), main_pass_over, stop: None }
    }

    fn client(client_id: &str) -> ClientWithoutDraft<'_> {
        ClientWithoutDraft { client_id, favours: true, was_withdrawn: false }
    }

    #[test]
    fn who_stands_behind_the_cursor_waits_until_the_campaign_is_over() {
        let reasons = [Scheduled, Active, Expired, Cancelled].map(|state| reason(&campaign(state), true, client("n")));
        assert_eq!(
            reasons,
            [NotToldReason::NotStarted, NotToldReason::Waiting, NotToldReason::Ended, NotToldReason::Cancelled]
        );
        let none = Standing { cursor: None, ..campaign(Expired) };
        assert_eq!(reason(&none, true, client("a")), NotToldReason::Ended, "it ended before its first page");
    }

    #[test]
    fn who_came_behind_the_main_pass_is_told_late_while_it_runs_and_subscribed_later_when_it_is_over() {
        for late in ["a", "m"] {
            let reasons = STATES.map(|state| reason(&campaign(state), true, client(late)));
            let later = NotToldReason::SubscribedLater;
            assert_eq!(
                reasons,
                [NotToldReason::NotStarted, NotToldReason::Waiting, NotToldReason::Waiting, later, later, later],
                "{late}"
            );
        }
        for state in [Active, Complete] {
            assert_eq!(
                reason(&campaign(state), false, client("a")),
                NotToldReason::SubscribedLater,
                "nobody is told late"
            );
        }
        assert_eq!(
            reason(&campaign(Closed), true, client("z")),
            NotToldReason::SubscribedLater,
            "the main pass is over"
        );
    }

    #[test]
    fn what_stops_a_campaign_is_the_reason_only_while_it_runs() {
        let stops = [
            (Stop::Paused, NotToldReason::Paused),
            (Stop::Held, NotToldReason::Held),
            (Stop::Halted, NotToldReason::Halted),
        ];
        for (stop, named) in stops {
            let stopped = |state| Standing { stop: Some(stop), ..campaign(state) };
            assert_eq!(reason(&stopped(Active), true, client("z")), named);
            assert_eq!(reason(&stopped(Complete), true, client("a")), named);
            assert_eq!(reason(&stopped(Scheduled), true, client("z")), NotToldReason::NotStarted);
            assert_eq!(reason(&stopped(Expired), true, client("z")), NotToldReason::Ended);
        }
    }

    #[test]
    fn a_draft_that_was_withdrawn_counts_when_it_is_not_told_again() {
        let withdrawn = ClientWithoutDraft { was_withdrawn: true, ..client("n") };
        let reasons = [Active, Expired, Cancelled].map(|state| reason(&campaign(state), true, withdrawn));
        assert_eq!(reasons, [NotToldReason::Waiting, NotToldReason::Withdrawn, NotToldReason::Withdrawn]);
    }

    #[test]
    fn who_cannot_be_told_or_favours_something_else_has_that_reason_in_every_state() {
        let long = "x".repeat(LONGEST_CLIENT_ID + 1);
        for state in STATES {
            assert_eq!(reason(&campaign(state), true, client("")), NotToldReason::UnusableId);
            assert_eq!(reason(&campaign(state), true, client(&long)), NotToldReason::UnusableId);
            let other = ClientWithoutDraft { favours: false, ..client("n") };
            assert_eq!(reason(&campaign(state), true, other), NotToldReason::NotSubscribed);
        }
        let never = Standing { has_arrived: false, ..campaign(Cancelled) };
        assert_eq!(reason(&never, true, client("n")), NotToldReason::NeverArrived);
    }

    #[test]
    fn a_reason_is_called_the_same_in_json_and_in_tables() {
        for one in
            [NotToldReason::NotStarted, NotToldReason::SubscribedLater, NotToldReason::UnusableId, NotToldReason::Ended]
        {
            assert_eq!(serde_json::to_value(one).unwrap(), one.name());
        }
    }
}
