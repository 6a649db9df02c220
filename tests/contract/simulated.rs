//! The contract, kept by the simulated implementations: each case in a world of its own, in which nothing goes wrong.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dinnerbell_core::guard::{Guard, Guards};
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::mark::{CommittedMark, RoundVersion};
use dinnerbell_core::model::number::{Lane, Micros, Millis, Seconds};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::round::Publication;
use dinnerbell_core::ports::ledger::LedgerError;
use dinnerbell_sim::audience::SimAudience;
use dinnerbell_sim::broker::SimBroker;
use dinnerbell_sim::clock::SimClock;
use dinnerbell_sim::faults::{Harm, Server};
use dinnerbell_sim::kafka::{Letters, Notification};
use dinnerbell_sim::ledger::SimLedger;
use dinnerbell_sim::tables::FeedbackRow;
use dinnerbell_sim::upkeep;
use dinnerbell_sim::world::{Instance, World};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::contract::audience::for_each_audience_case;
use crate::contract::broker::for_each_broker_case;
use crate::contract::clock::for_each_clock_case;
use crate::contract::ledger::environment::{CampaignState, Environment, LaneState, Message, Moved};
use crate::contract::ledger::for_each_ledger_case;
use crate::contract::{audience, broker, clock};

/// A world of a case's own, with two lanes.
struct Simulated {
    world: World,
    held: watch::Sender<BTreeSet<Lane>>,
}

impl Simulated {
    fn begin() -> Self {
        let world = World::new(1, 2);
        world.state().harm = Harm::default();
        // As for lives: `DINNERBELL_WITHOUT=RevisionAtSeal` shows which cases see that guard.
        world.state().guards = Guards::of_process();
        // What a case publishes was recorded by no ledger.
        world.state().database.has_lost = true;
        Self { world, held: watch::Sender::default() }
    }

    fn instance(&self, number: usize) -> Instance {
        Instance { world: self.world.clone(), number, held: self.held.subscribe() }
    }
}

impl Environment for Simulated {
    type Ledger = SimLedger;

    async fn fresh() -> Self {
        Self::begin()
    }

    fn ledger(&self) -> SimLedger {
        SimLedger(self.instance(0))
    }

    async fn another(&self) -> SimLedger {
        SimLedger(self.instance(1))
    }

    async fn now(&self) -> Seconds {
        self.world.state().now()
    }

    async fn campaign(&self, id: &str) -> CampaignState {
        let state = self.world.state();
        let row = &state.database.campaigns[id];
        CampaignState {
            lane: row.lane,
            state: row.state.name().to_owned(),
            revision: row.revision,
            content: row.campaign.as_ref().map(|campaign| campaign.adv_campaign_content.clone()),
            cursor: row.cursor.clone(),
            last_page_seq: row.last_page_seq,
            told: row.told,
            late: row.late,
            skipped: row.skipped,
            kept: row.kept,
            unsent: row.unsent,
            repass_at: row.repass_at,
        }
    }

    async fn lane(&self, lane: Lane) -> LaneState {
        let row = self.world.state().database.lanes[&lane].clone();
        LaneState {
            seq: row.seq,
            published: row.published_seq,
            position: row.position,
            last_record: row.last_record,
            topic_id: row.topic_id,
            halt: row.halt,
            swept_to: row.swept_to,
            round_bytes: row.round_bytes,
            records: row.records,
            tally: row.tally,
        }
    }

    async fn rows(&self, id: &str) -> Vec<String> {
        self.world.state().database.feedback.get(id).into_iter().flatten().map(|(client, _)| client.clone()).collect()
    }

    async fn row(&self, id: &str, client: &str) -> (String, Seconds) {
        let row = self.world.state().database.feedback[id][client].clone();
        (row.campaign.adv_campaign_content.clone(), row.trigger_datetime_created)
    }

    async fn unapplied(&self) -> usize {
        self.world.state().database.changes.iter().filter(|change| change.applied == 0).count()
    }

    async fn everything(&self) -> String {
        let state = self.world.state();
        let database = &state.database;
        format!(
            "{:#?}",
            (
                (&database.paused, &database.compared, &database.comparison),
                (&database.lanes, &database.campaigns, &database.rounds),
                (&database.dead_letters, &database.changes, &database.feedback, &database.locked_rows),
            )
        )
    }

    async fn answer(&self, id: &str, client: &str) {
        let mut state = self.world.state();
        let row = state.database.feedback.get_mut(id).and_then(|rows| rows.get_mut(client)).unwrap();
        row.answered = true;
    }

    async fn lock_row(&self, id: &str, client: &str) {
        self.world.state().database.locks.insert((id.to_owned(), client.to_owned()));
    }

    async fn free_rows(&self) {
        self.world.state().database.locks.clear();
    }

    async fn leave_row(&self, campaign: &Campaign, client: &str) {
        let row = FeedbackRow {
            campaign: Arc::new(campaign.clone()),
            trigger_datetime_created: Seconds::new(1),
            ours: false,
            answered: false,
        };
        let id = campaign.adv_campaign_id.clone();
        self.world.state().database.feedback.entry(id).or_default().insert(client.to_owned(), row);
    }

    async fn remove_row(&self, id: &str, client: &str) {
        self.world.state().database.feedback.get_mut(id).unwrap().remove(client).unwrap();
    }

    async fn move_window(&self, id: &str, window: Window) {
        let mut state = self.world.state();
        let row = state.database.campaigns.get_mut(id).unwrap();
        let campaign = Campaign::clone(row.campaign.as_ref().unwrap());
        row.campaign = Some(Arc::new(Campaign { window, ..campaign }));
    }

    async fn make_repass_due(&self, id: &str, at: Seconds) {
        self.world.state().database.campaigns.get_mut(id).unwrap().repass_at = Some(at);
    }

    async fn let_vanish(&self, id: &str) {
        self.world.state().database.vanishing.insert(id.to_owned());
    }

    async fn cancel(&self, id: &str) {
        self.world.state().order_cancellation(id);
    }

    async fn pause(&self, paused: bool) {
        self.world.state().database.paused = paused;
    }

    async fn retry(&self, lane: Lane) {
        self.world.state().resolve_by_trying_again(lane);
    }

    async fn resolve_from_kafka(&self, lane: Lane, theirs: CommittedMark, messages: &[Message<'_>]) {
        let mut state = self.world.state();
        for message in messages {
            let key = (message.campaign.adv_campaign_id.clone(), message.client.to_owned());
            let notification = Notification {
                campaign: Arc::new(message.campaign.clone()),
                trigger_datetime_created: message.formed,
                lane,
                seq: message.seq,
            };
            state.kafka.notifications.insert(key, notification);
        }
        state.kafka.lanes.get_mut(&lane).unwrap().committed = Some(theirs);
        state.resolve_from_kafka(lane);
    }

    async fn adopt(&self, own: Ownership, _: RoundVersion, published: bool, into: Lane) -> Result<Moved, LedgerError> {
        let moved = self.world.state().adopt(own, published, into)?;
        let upkeep::Moved { campaigns, changes, dead_letters, withdrawn, kept } = moved;
        Ok(Moved { campaigns, changes, dead_letters, withdrawn, kept })
    }

    async fn prune(&self) {
        self.world.state().prune();
    }
}

impl broker::Environment for Simulated {
    type Broker = SimBroker;

    async fn fresh() -> Self {
        Self::begin()
    }

    fn broker(&self) -> SimBroker {
        SimBroker(self.instance(0))
    }

    async fn another(&self) -> SimBroker {
        SimBroker(self.instance(1))
    }

    async fn send(&self, lane: Lane, value: &str) {
        self.world.state().kafka.append(lane, Millis::new(1_000), None, Some(value.as_bytes().to_vec()), 0);
        self.world.wake_readers();
    }

    async fn leave_gap(&self, lane: Lane) {
        self.world.state().kafka.leave_gap(lane, 2);
        self.world.wake_readers();
    }

    async fn leave_open(&self, publication: Publication) {
        self.world.state().leave_open(publication);
    }

    async fn told(&self) -> Vec<String> {
        self.world.state().kafka.notifications.keys().map(|(_, client)| client.clone()).collect()
    }

    async fn letters(&self) -> usize {
        self.world.state().kafka.dead_letters.values().map(|times| *times as usize).sum()
    }

    async fn forget_offsets(&self) {
        (0..2).for_each(|lane| self.world.state().kafka.expire(Lane::new(lane)));
    }

    async fn lose_letters_topic(&self) {
        self.world.state().kafka.letters = Letters::Missing;
    }

    async fn assign(&mut self, lane: Lane) {
        self.held.send_replace([lane].into());
    }
}

impl audience::Environment for Simulated {
    type Audience = SimAudience;

    async fn fresh() -> Self {
        Self::begin()
    }

    fn audience(&self) -> SimAudience {
        SimAudience(self.instance(0))
    }

    async fn add(&self, client: &str, restaurant: &str) -> i64 {
        let mut state = self.world.state();
        let now = state.micros();
        state.subscribers.insert(client, restaurant, now, 1);
        state.subscribers.rows.last().unwrap().id
    }

    async fn remove(&self, client: &str, restaurant: &str) {
        let mut state = self.world.state();
        let now = state.micros();
        state.subscribers.delete(client, restaurant, now);
    }
}

impl clock::Environment for Simulated {
    type Clock = SimClock;

    async fn fresh() -> Self {
        Self::begin()
    }

    async fn alone() -> Self {
        Self::begin()
    }

    async fn clock(&self) -> SimClock {
        SimClock::new(self.instance(0))
    }

    async fn time(&self) -> Micros {
        self.world.state().micros()
    }

    async fn take_away(&self, away: bool) {
        let away = if away { [Server::Feedback].into() } else { BTreeSet::new() };
        self.world.state().harm.away = away;
    }

    async fn pass(&self, micros: u64) {
        sleep(Duration::from_micros(micros)).await;
    }
}

macro_rules! ledger {
    ($module:ident: $($case:ident,)+) => {
        mod $module {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    let env = <super::Simulated as crate::contract::ledger::environment::Environment>::fresh().await;
                    crate::contract::ledger::$module::$case(&env).await;
                }
            )+
        }
    };
}
for_each_ledger_case!(ledger);

macro_rules! port {
    ($port:ident: $($case:ident,)+) => {
        mod $port {
            $(
                #[tokio::test(start_paused = true)]
                async fn $case() {
                    let mut env = <super::Simulated as crate::contract::$port::Environment>::fresh().await;
                    crate::contract::$port::$case(&mut env).await;
                }
            )+
        }
    };
}
mod ports {
    use super::*;
    for_each_broker_case!(port);
    for_each_audience_case!(port);
    for_each_clock_case!(port);
}

/// Guards that no case sees: the first two stand behind the epoch that is compared when a transaction begins, the third behind the seal, and in a
/// case no connection breaks.
pub const NOT_SEEN: [Guard; 4] =
    [Guard::EpochAtSeal, Guard::EpochAtWithdrawal, Guard::LockHeld, Guard::BrokenConnectionEndsProducer];

/// Whether a case is red without the guard: the cases run once more, in a process that takes it out.
fn is_seen(guard: Guard) -> bool {
    let mut cases = Command::new(std::env::current_exe().unwrap());
    cases.args(["contract_simulated", "--skip", "each_guard"]).env(Guards::VARIABLE, format!("{guard:?}"));
    let output = cases.env("RUST_BACKTRACE", "0").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("test result:"), "the cases run: {text}");
    !output.status.success()
}

#[test]
fn each_guard_of_the_simulated_servers_is_seen_by_a_case() {
    let unseen: Vec<Guard> =
        Guard::ALL.iter().copied().filter(|guard| *guard >= Guard::EpochAtBegin && !is_seen(*guard)).collect();
    let mut expected = NOT_SEEN.to_vec();
    expected.sort_unstable();
    assert_eq!(unseen, expected);
}
