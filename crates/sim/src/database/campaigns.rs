//! The campaigns of the simulated ledger: what is due, and for whom it may be late.

use std::collections::BTreeSet;

use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::campaign::CampaignState;
use dinnerbell_core::model::due::{Due, MAX_DEAD_LETTERS, RunningCampaign, Uncounted, WaitingDeadLetter};
use dinnerbell_core::model::late::{LateCheckCampaign, OpenCampaign};
use dinnerbell_core::model::number::{Lane, Seconds};
use dinnerbell_core::model::ownership::Ownership;

use super::MAX_UNCOUNTED;
use crate::tables::{CampaignRow, RoundRow, texts, waiting};
use crate::world::WorldState;

impl WorldState {
    pub(crate) fn due(&mut self, own: Ownership, most: usize) -> Due {
        self.turn_states(own.lane);
        let now = self.now();
        let database = &mut self.database;
        let mine: Vec<&CampaignRow> = database.campaigns.values().filter(|row| row.lane == own.lane).collect();
        let mut active: Vec<_> = mine
            .iter()
            .filter(|row| row.state == CampaignState::Active && row.last_page_seq.is_none())
            .filter(|row| row.start() <= now && row.end() > now)
            .collect();
        active.sort_by_key(|row| (row.cursor.is_some(), row.end()));
        let starts = mine.iter().filter(|row| row.state == CampaignState::Scheduled).map(|row| row.start());
        let ends = mine.iter().filter(|row| row.runs() && row.end() > now).map(|row| row.end());
        let uncounted = mine.iter().filter(|row| row.unsent.is_none() && row.is_counted()).filter_map(|row| {
            Some(Uncounted { campaign: row.campaign.clone()?, cancelled: row.state == CampaignState::Cancelled })
        });
        let mut uncounted: Vec<_> = uncounted.collect();
        let more_uncounted = uncounted.len() > MAX_UNCOUNTED;
        uncounted.truncate(MAX_UNCOUNTED);
        let letters = database.dead_letters.iter().filter(|row| row.lane == own.lane && row.round_seq.is_none());
        let mut letters: Vec<WaitingDeadLetter> = letters.map(|row| waiting(&row.letter)).collect();
        let more_dead_letters = letters.len() > MAX_DEAD_LETTERS;
        letters.truncate(MAX_DEAD_LETTERS);
        Due {
            running: active.iter().take(most).filter_map(|row| row.running()).collect(),
            more_running: active.len() > most,
            dead_letters: letters,
            more_dead_letters,
            next_deadline: starts.chain(ends).min(),
            uncounted,
            more_uncounted,
        }
    }

    pub(super) fn turn_states(&mut self, lane: Lane) {
        let now = self.now();
        let waits = self.guards.enabled(Guard::LastPagePublished);
        let published = self.database.lane(lane).published_seq;
        for row in self.database.of_lane(lane) {
            let starts = row.state == CampaignState::Scheduled && row.start() <= now;
            let waiting = row.waits_for(published) && waits;
            let ends = row.runs() && row.end() <= now && !waiting;
            if !starts && !ends {
                continue;
            }
            let passed = row.last_page_seq.is_some();
            row.state = match (row.end() <= now, passed) {
                (_, true) if waiting => CampaignState::Active,
                (true, true) => CampaignState::Closed,
                (true, false) => CampaignState::Expired,
                (false, true) => CampaignState::Complete,
                (false, false) => CampaignState::Active,
            };
        }
        self.called_complete_is_complete(lane);
    }

    /// Whatever is called complete has its last page in Kafka.
    pub(super) fn called_complete_is_complete(&mut self, lane: Lane) {
        let Some(mark) = self.kafka.committed(lane) else { return };
        let is_called = |row: &&CampaignRow| {
            row.lane == lane && matches!(row.state, CampaignState::Complete | CampaignState::Closed)
        };
        let is_wrong = |row: &&CampaignRow| row.last_page_seq.is_some_and(|seq| seq > mark.version.seq);
        let wrong = self.database.campaigns.values().filter(is_called).find(is_wrong);
        if let Some(wrong) = wrong.map(|row| format!("called complete before its last page is published: {row:?}")) {
            self.broke(wrong);
        }
    }

    /// The lane's open campaigns that are picked, by their ids.
    pub(crate) fn open(&self, lane: Lane, picked: impl Fn(&CampaignRow) -> bool) -> Vec<OpenCampaign> {
        let now = self.now();
        let is_open = |row: &CampaignRow| row.campaign.as_ref().is_some_and(|campaign| campaign.window.is_open(now));
        let open = self.database.campaigns.values().filter(|row| row.lane == lane && row.runs() && is_open(row));
        open.filter(|row| picked(row)).filter_map(CampaignRow::open).collect()
    }

    /// The lane's open campaigns of these restaurants behind an id, without their content.
    pub(crate) fn late_for(
        &self,
        lane: Lane,
        restaurants: &[String],
        after: Option<&str>,
        most: usize,
    ) -> Vec<LateCheckCampaign> {
        let open = self.open(lane, |row| {
            let campaign = row.campaign.as_ref();
            campaign.is_some_and(|campaign| restaurants.contains(&campaign.restaurant_id))
        });
        let late_for = |open: OpenCampaign| LateCheckCampaign {
            adv_campaign_id: open.running.campaign.adv_campaign_id.clone(),
            restaurant_id: open.running.campaign.restaurant_id.clone(),
            cursor: open.running.cursor.clone(),
            main_pass_over: open.main_pass_over,
            told: self.database.campaigns[open.running.id()].told,
            texts: texts(&open.running.campaign),
        };
        let mut open: Vec<LateCheckCampaign> = open.into_iter().map(late_for).collect();
        open.retain(|open| after.is_none_or(|after| open.adv_campaign_id.as_str() > after));
        open.sort_by(|one, other| {
            (&one.restaurant_id, &one.adv_campaign_id).cmp(&(&other.restaurant_id, &other.adv_campaign_id))
        });
        open.truncate(most);
        open
    }

    /// Those of these campaigns of the lane that are open.
    pub(crate) fn open_of(&self, lane: Lane, ids: &[String]) -> Vec<RunningCampaign> {
        let open = self.open(lane, |row| {
            let campaign = row.campaign.as_ref();
            campaign.is_some_and(|campaign| ids.contains(&campaign.adv_campaign_id))
        });
        open.into_iter().map(|open| open.running).collect()
    }

    pub(crate) fn open_after(&self, lane: Lane, after: Option<&(Seconds, String)>, most: usize) -> Vec<OpenCampaign> {
        let nobody = self.guards.enabled(Guard::RescanOfNobody);
        let place = |open: &OpenCampaign| (open.running.campaign.window.end, open.running.id().to_owned());
        let mut open = self.open(lane, |row| row.was_paged(nobody));
        open.retain(|open| after.is_none_or(|after| place(open) > *after));
        open.sort_by_key(place);
        open.truncate(most);
        open
    }

    pub(crate) fn due_rescan(&self, lane: Lane, beside: &BTreeSet<String>, most: usize) -> Vec<OpenCampaign> {
        let now = self.now();
        let nobody = self.guards.enabled(Guard::RescanOfNobody);
        let mut due = self.open(lane, |row| row.was_paged(nobody) && row.repass_at.is_some_and(|at| at <= now));
        due.retain(|open| !beside.contains(open.running.id()));
        due.sort_by_key(|open| self.database.campaigns[open.running.id()].repass_at);
        due.truncate(most);
        due
    }

    pub(crate) fn note_rescanned(&mut self, id: &str, revision: i32) {
        let now = self.now();
        let compares = self.guards.enabled(Guard::RescanOfSameRevision);
        if let Some(row) = self.database.campaigns.get_mut(id)
            && (row.revision == revision || !compares)
        {
            row.repass_at = row.next_repass(now);
        }
    }

    pub(crate) fn note_unsent(&mut self, lane: Lane, id: &str, unsent: u64) -> bool {
        let (seq, published) = (self.database.lane(lane).seq, self.database.lane(lane).published_seq);
        let holds = |round: &RoundRow| round.parts.iter().any(|part| part.id == id && part.drafts > 0);
        if Some(seq) > published && self.database.rounds.get(&(lane, seq)).is_some_and(holds) {
            return false;
        }
        if let Some(row) = self.database.campaigns.get_mut(id)
            && row.is_counted()
        {
            row.unsent = Some(unsent.cast_signed());
        }
        true
    }
}
