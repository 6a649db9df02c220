//! What must be true at rest, whatever happened before: the promises of the design, 1 to 5, looked at from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dinnerbell_core::model::campaign::CampaignState;
use dinnerbell_core::model::number::Micros;
use dinnerbell_sim::tables::{CampaignRow, FeedbackRow};
use dinnerbell_sim::world::{FIRST_SECOND, WorldState};

use crate::plan::Plan;

/// A window's edge this near may be on either side of what was looked at.
const EDGE: i64 = 5;

/// Everything that is broken.
pub fn broken(state: &WorldState, plan: &Plan, cancelled: &BTreeSet<String>, heals: Duration) -> Vec<String> {
    let healed = FIRST_SECOND.micros() + heals.as_micros() as i64;
    let mut model = Model { state, plan, cancelled, healed, broken: Vec::new() };
    model.both_sinks_hold_the_same();
    model.every_record_is_accounted_for();
    for (id, row) in &state.database.campaigns {
        model.campaign_is_what_was_sent(id, row);
        model.counts_add_up(id, row);
        model.everyone_was_told_or_counted(id, row);
    }
    model.broken
}

/// Rows in which somebody answered, and which are gone.
pub fn lost_answers(state: &WorldState, answered: &BTreeSet<(String, String)>) -> Vec<String> {
    let is_lost = |(id, client): &&(String, String)| !rows(state, id).get(client).is_some_and(|row| row.answered);
    answered.iter().filter(is_lost).map(|row| format!("row {row:?} is gone though somebody answered in it")).collect()
}

struct Model<'a> {
    state: &'a WorldState,
    plan: &'a Plan,
    cancelled: &'a BTreeSet<String>,
    healed: Micros,
    broken: Vec<String>,
}

fn rows<'a>(state: &'a WorldState, id: &str) -> &'a BTreeMap<String, FeedbackRow> {
    static NONE: BTreeMap<String, FeedbackRow> = BTreeMap::new();
    state.database.feedback.get(id).unwrap_or(&NONE)
}

impl Model<'_> {
    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(what());
        }
    }

    /// Promises 1 and 4: each message has its row, each row its message, with the same content; but for rows kept because somebody answered in
    /// them, and those of an earlier job, whose clients are not told again.
    fn both_sinks_hold_the_same(&mut self) {
        let state = self.state;
        for ((id, client), message) in &state.kafka.notifications {
            let row = rows(state, id).get(client);
            let same = row.is_some_and(|row| {
                row.ours
                    && row.campaign == message.campaign
                    && row.trigger_datetime_created == message.trigger_datetime_created
            });
            self.must(same, || format!("message ({id}, {client}) {message:?} has the row {row:?}"));
        }
        for (id, rows) in &state.database.feedback {
            for (client, row) in rows.iter().filter(|(_, row)| row.ours && !row.answered) {
                let told = state.kafka.notifications.contains_key(&(id.clone(), client.clone()));
                self.must(told, || format!("row ({id}, {client}) {row:?} has no message"));
            }
        }
    }

    /// Promise 3: each record ended as exactly one thing, each change was applied once, each dead letter published once.
    fn every_record_is_accounted_for(&mut self) {
        let state = self.state;
        for (lane, partition) in &state.kafka.lanes {
            let row = state.database.lanes.get(lane).cloned().unwrap_or_default();
            let arrived = partition.records.len() as i64;
            let (records, tally) = (row.records, row.tally.records());
            self.must(records == arrived && tally == arrived, || {
                format!("lane {lane}: {arrived} records arrived, {records} were taken in: {:?}", row.tally)
            });
            self.must(row.position == partition.end, || {
                format!("lane {lane} stands at {} of {}", row.position, partition.end)
            });
            let mark = partition.committed.map(|mark| mark.version.seq);
            // An offset that expired is written again with the next round, or by the next owner.
            let rests =
                row.published_seq == Some(row.seq) && mark.is_none_or(|seq| seq == row.seq) && !partition.is_busy();
            self.must(rests, || {
                format!("lane {lane} is not at rest: round {} of {:?}, Kafka {mark:?}", row.seq, row.published_seq)
            });
            self.must(row.halt.is_none(), || format!("lane {lane} halted: {:?}", row.halt));
            let handed_over = state.database.changes.iter().filter(|change| change.from_lane == Some(*lane)).count();
            self.must(row.tally.handed_over == handed_over as i64, || {
                format!("lane {lane} counts {} records handed over, there are {handed_over}", row.tally.handed_over)
            });
        }
        for change in &state.database.changes {
            self.must(change.applied == 1, || format!("applied {} times: {change:?}", change.applied));
        }
        for row in &state.database.dead_letters {
            let times = state.kafka.dead_letters.get(&row.letter.id).copied().unwrap_or(0);
            // Those of rounds that the database lost are published again.
            self.must(times == 1 || (times > 1 && state.database.has_lost), || {
                format!("published {times} times: {row:?}")
            });
        }
    }

    /// Promise 3 again: a campaign stands as its newest version says, or is cancelled; nothing else became one.
    fn campaign_is_what_was_sent(&mut self, id: &str, row: &CampaignRow) {
        let is_cancelled = row.state == CampaignState::Cancelled;
        self.must(is_cancelled == self.cancelled.contains(id), || format!("campaign {id} is {:?}", row.state));
        let Some(campaign) = row.campaign.as_ref().filter(|_| !is_cancelled) else { return };
        let versions = self.plan.versions.iter().filter(|version| version.adv_campaign_id == id);
        let same: Vec<_> = versions.filter(|version| version.restaurant_id == campaign.restaurant_id).collect();
        let newest = same.iter().map(|version| version.datetime_created).max();
        let is_newest = newest == Some(campaign.datetime_created) && same.contains(&campaign.as_ref());
        self.must(is_newest, || format!("campaign {id} is {campaign:?}, not the newest of {same:?}"));
        let now = self.state.now();
        let near = [campaign.window.start, campaign.window.end].into_iter().any(|edge| (now - edge).abs() <= EDGE);
        let expected = CampaignState::of(campaign.window, row.last_page_seq.is_some(), now);
        self.must(near || row.state == expected, || format!("campaign {id} is {:?}, not {expected:?}", row.state));
    }

    /// What is counted is what there is.
    fn counts_add_up(&mut self, id: &str, row: &CampaignRow) {
        let messages = self.state.kafka.notifications.keys().filter(|(campaign, _)| campaign == id).count() as i64;
        let ours = rows(self.state, id).values().filter(|row| row.ours).count() as i64;
        let fits = row.told == messages && row.told + row.kept == ours && (0..=row.told).contains(&row.late);
        self.must(fits, || format!("campaign {id}: {messages} messages, {ours} rows: {row:?}"));
    }

    /// Promises 2 and 5: who favours the restaurant of an open campaign was told; of one that ended or was cancelled, was told or counted.
    fn everyone_was_told_or_counted(&mut self, id: &str, row: &CampaignRow) {
        let Some(campaign) = &row.campaign else { return };
        let now = self.state.now();
        if [campaign.window.start, campaign.window.end].into_iter().any(|edge| (now - edge).abs() <= EDGE) {
            return;
        }
        let favour = |from: Micros| -> BTreeSet<&str> {
            let rows = self.state.subscribers.rows.iter().filter(|row| row.restaurant_id == campaign.restaurant_id);
            let stood = rows.filter(|row| row.is_usable() && row.from <= from && row.until > self.state.micros());
            stood.map(|row| row.client_id.as_str()).collect()
        };
        let told = rows(self.state, id);
        let untold = |clients: BTreeSet<&str>| clients.iter().filter(|client| !told.contains_key(**client)).count();
        let from_the_beginning = untold(favour(Micros::default()));
        let since_the_healing = untold(favour(self.healed));
        match row.state {
            CampaignState::Scheduled => self
                .must(row.told == 0 || row.last_page_seq.is_some() || row.cursor.is_some(), || {
                    format!("campaign {id} told: {row:?}")
                }),
            CampaignState::Active => self.broken.push(format!("campaign {id} is not complete: {row:?}")),
            CampaignState::Complete => {
                self.must(since_the_healing == 0, || {
                    format!(
                        "campaign {id}: {since_the_healing} favour {} and were not told: {row:?}",
                        campaign.restaurant_id
                    )
                });
            }
            CampaignState::Expired | CampaignState::Closed | CampaignState::Cancelled => {
                let counted = row.unsent.unwrap_or(-1);
                // Who was there before the life began is on a page of the main pass.
                let is_passed = row.last_page_seq.is_none() || from_the_beginning == 0;
                self.must(is_passed, || {
                    format!(
                        "campaign {id} is {:?} after its last page, {from_the_beginning} were not told: {row:?}",
                        row.state
                    )
                });
                self.must(counted >= from_the_beginning as i64, || {
                    format!("campaign {id}: {from_the_beginning} were not told, {counted} were counted: {row:?}")
                });
            }
        }
    }
}
