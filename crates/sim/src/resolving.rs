//! What an operator's `lane resolve --from-kafka` does to the tables: the same as `dinnerbell_postgres::ledger::resolve`'s, by the same `decide`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::world::WorldState;
use crate::kafka::Notification;
use crate::tables::{CampaignRow, Database, FeedbackRow, PartRow, RoundRow};
use dinnerbell_core::model::campaign::CampaignState;
use dinnerbell_core::model::halt::{CommitLoss, Halt, HaltKind};
use dinnerbell_core::model::mark::{CommittedOffset, RoundVersion};
use dinnerbell_core::model::number::{Lane, Seq};
use dinnerbell_core::model::reconcile::LedgerSide;
use dinnerbell_core::recovery::decide::{Decision, Evidence, LastRound, decide};

impl WorldState {
    /// The feedback database is put back as its standby holds it, and the group's offsets are gone. A copy from before a lane was first compared
    /// looks like a new ledger: it is left alone.
    pub fn promote_without_marks(&mut self) {
        let is_entered =
            |lane: &Lane, copy: &Database| copy.lanes.get(lane).is_some_and(|row| row.published_seq.is_some());
        let whole = |copy: &Database| self.kafka.lanes.keys().all(|lane| is_entered(lane, copy));
        if !self.database.standby.as_deref().is_some_and(whole) {
            return;
        }
        self.database.promote();
        let lanes: Vec<Lane> = self.kafka.lanes.keys().copied().collect();
        lanes.into_iter().for_each(|lane| self.kafka.expire(lane));
    }

    /// Lanes that halted because the topic of the drafts is another one go on with it: what `lane resolve --accept-topic` does.
    pub fn accept_topic(&mut self) {
        self.database.outputs.notifications = self.kafka.notifications_id.map(str::to_owned);
        for row in self.database.lanes.values_mut() {
            if row.halt.take_if(|halt| halt.kind == HaltKind::NotificationsReplaced).is_some() {
                row.epoch = row.epoch.next();
            }
        }
    }

    /// Lanes that stand still because commits are missing, or may be.
    pub fn lanes_that_lost(&self) -> Vec<Lane> {
        let is_lost = |halt: &Halt| halt.kind.commit_loss() != CommitLoss::Nothing;
        let lost = self.database.lanes.iter().filter(|(_, row)| row.halt.as_ref().is_some_and(is_lost));
        lost.map(|(lane, _)| *lane).collect()
    }

    /// Mends a lane by what the notifications topic holds, and lets it be taken over again.
    pub fn resolve_from_kafka(&mut self, lane: Lane) {
        if self.kafka.fence(lane) {
            self.commits(lane);
        }
        let row = self.database.lane(lane).clone();
        let round = |seq: Seq| {
            let round = self.database.rounds.get(&(lane, seq))?;
            Some(RoundVersion { seq, revision: round.revision, checksum: round.checksum })
        };
        let head = round(row.seq).expect("the last round is never pruned");
        let (told, untold) = self.last_round(lane, row.seq);
        let topic = || self.kafka.notifications.values().filter(|found| found.lane == lane);
        let evidence = Evidence {
            ours: LedgerSide {
                ledger: self.database.ledger,
                head,
                previous: round(row.seq.before()),
                published: row.published_seq,
                compared: true,
            },
            theirs: self.kafka.committed(lane).map_or(CommittedOffset::None, CommittedOffset::Mark),
            newest_in_topic: topic().map(|found| found.seq).max().unwrap_or_default(),
            told,
            untold: untold.len() as u64,
            covered: true,
            assumed: None,
        };
        let decision = decide(&evidence).expect("the topic holds everything");
        if decision.last == LastRound::PublishedInPart {
            self.take_back(lane, row.seq, &untold);
        }
        self.restore(lane);
        let known = row.published_seq == Some(row.seq);
        if !known && decision.last != LastRound::Unpublished && decision.head != head {
            self.free_dead_letters(lane, row.seq);
        }
        self.apply_decision(lane, &decision);
        // It knows all that Kafka holds now: nobody waits for its takeover.
        let (comparison, lanes) = (self.database.comparison(), self.kafka.lanes.len());
        self.note_compared(lane, &comparison, i32::try_from(lanes).unwrap_or(i32::MAX));
        if let Some(published) = decision.published {
            self.complete(lane, published);
        }
        self.committed();
    }

    /// Dead letters of the last round wait for a later one: what Kafka holds in its place may be without them.
    fn free_dead_letters(&mut self, lane: Lane, seq: Seq) {
        let letters = self.database.rounds.get_mut(&(lane, seq)).map(|round| std::mem::take(&mut round.dead_letters));
        for letter in letters.unwrap_or_default() {
            self.database.dead_letters[usize::try_from(letter).unwrap_or(0)].round_seq = None;
        }
    }

    /// How many of the last round's drafts have a message, and which have none.
    fn last_round(&self, lane: Lane, seq: Seq) -> (u64, BTreeSet<(String, String)>) {
        let drafts = self.database.rounds[&(lane, seq)].parts.iter().filter(|part| part.drafts > 0).flat_map(|part| {
            self.database.clients_of(part).into_iter().map(|client| (part.id.clone(), client)).collect::<Vec<_>>()
        });
        let (told, untold): (Vec<_>, BTreeSet<_>) = {
            let (told, untold): (Vec<_>, Vec<_>) =
                drafts.partition(|draft| self.kafka.notifications.contains_key(draft));
            (told, untold.into_iter().collect())
        };
        (told.len() as u64, untold)
    }

    /// Drafts of the last round without a message: a later round tells those clients.
    fn take_back(&mut self, lane: Lane, seq: Seq, untold: &BTreeSet<(String, String)>) {
        let parts: Vec<PartRow> = self.database.rounds[&(lane, seq)].parts.clone();
        let now = self.now();
        for part in parts {
            let of_part = |(id, client): &&(String, String)| *id == part.id && part.holds(client);
            let clients: Vec<&String> = untold.iter().filter(of_part).map(|(_, client)| client).collect();
            if clients.is_empty() {
                continue;
            }
            let rows = self.database.feedback.entry(part.id.clone()).or_default();
            let before = rows.len();
            rows.retain(|client, row| row.answered || !clients.contains(&client));
            let kept = (clients.len() - (before - rows.len())) as i64;
            let late = clients.iter().filter(|client| part.late.contains(**client)).count() as i64;
            let row = self.database.campaigns.get_mut(&part.id).expect("the part of a round has a campaign");
            row.told -= clients.len() as i64;
            row.late -= late;
            row.kept += kept;
            row.unsent = None;
            if part.has_page {
                row.skipped -= part.skipped;
                row.cursor.clone_from(&part.after);
                row.last_page_seq = None;
            }
            if row.state != CampaignState::Cancelled
                && let Some(campaign) = &row.campaign
            {
                row.state = CampaignState::of(campaign.window, row.last_page_seq.is_some(), now);
            }
        }
    }

    /// Messages of the lane without a row get it back; a campaign that is unknown is made of its newest one.
    fn restore(&mut self, lane: Lane) {
        let is_missing = |((id, client), found): &(&(String, String), &Notification)| {
            let row = self.database.feedback.get(id).and_then(|rows| rows.get(client));
            let same = |row: &FeedbackRow| {
                row.campaign == found.campaign && row.trigger_datetime_created == found.trigger_datetime_created
            };
            found.lane == lane && !row.is_some_and(same)
        };
        let found = self.kafka.notifications.iter().filter(is_missing);
        let missing: Vec<_> = found.map(|(key, found)| (key.clone(), found.clone())).collect();
        for ((id, client), found) in missing {
            let before = self.database.feedback.get(&id).and_then(|rows| rows.get(&client));
            let (answered, counted) = (before.is_some_and(|row| row.answered), before.is_some());
            let row = FeedbackRow {
                campaign: Arc::clone(&found.campaign),
                trigger_datetime_created: found.trigger_datetime_created,
                ours: true,
                answered,
            };
            self.database.feedback.entry(id.clone()).or_default().insert(client, row);
            let (now, changed_at) = (self.now(), self.micros());
            let state = CampaignState::of(found.campaign.window, false, now);
            let made = || CampaignRow::first(lane, state, Some(Arc::clone(&found.campaign)), changed_at);
            let rows = self.database.feedback[&id].len() as i64;
            let row = self.database.campaigns.entry(id).or_insert_with(made);
            if !counted {
                // A row that was only removed is of a draft that is counted already.
                row.told = (row.told + 1).min(row.told.max(rows - row.kept));
                row.unsent = None;
            }
        }
    }

    /// The round with which the lane goes on, and the lane.
    fn apply_decision(&mut self, lane: Lane, decision: &Decision) {
        let Decision { head, published, mark_overruled, .. } = *decision;
        let position = self.database.lane(lane).position;
        let made = RoundRow {
            revision: head.revision,
            checksum: head.checksum,
            drafts: 0,
            position,
            dead_letters: Vec::new(),
            parts: Vec::new(),
        };
        let round = self.database.rounds.entry((lane, head.seq)).or_insert(made);
        (round.revision, round.checksum) = (head.revision, head.checksum);
        let row = self.database.lane(lane);
        row.epoch = row.epoch.next();
        (row.seq, row.published_seq, row.mark_overruled, row.halt) = (head.seq, published, mark_overruled, None);
    }
}
