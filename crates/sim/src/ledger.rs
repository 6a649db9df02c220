//! The ledger of a simulated world: requests to the database, transactions that hold a lane's lock, and what ends them.

mod round;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use dinnerbell_core::guard::Guard;
use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::due::{Due, Poll};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::intake::{IntakeBatch, IntakeOutcome};
use dinnerbell_core::model::late::{LateCheckCampaign, OpenCampaign, RowCounts};
use dinnerbell_core::model::lock::{LockHolder, LockWait, LockedPart, LockedRows};
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Offset, Seconds, Seq};
use dinnerbell_core::model::output_topics::OutputTopicIds;
use dinnerbell_core::model::ownership::{AcquiredLane, Ownership, Suspension};
use dinnerbell_core::model::round::StoredRound;
use dinnerbell_core::ports::ledger::{
    CampaignLedger, InstanceLedger, IntakeLedger, LaneLedger, LedgerError, RoundLedger,
};

use super::server::{Caller, Unanswered};
use super::world::{Instance, World, WorldState};
use crate::faults::Server;
use crate::tables::{LaneRow, ended};

pub use round::SimRound;
use round::told;

/// Any call past this long is given up, and its connection dropped.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long an acquisition waits for the lane's lock before it ends the holders, and how often it tries.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const MAX_ATTEMPTS: u32 = 4;
/// How often a call that waits tries again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A client that is gone is noticed after this long at the latest.
const KEEPALIVE: Duration = Duration::from_secs(60);

impl From<Unanswered> for LedgerError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Lost => Self::Transient("no answer".to_owned()),
            Unanswered::Refused => Self::Refused("could not extend file: no space left on device".to_owned().into()),
        }
    }
}

/// The simulated [`Ledger`](dinnerbell_core::ports::ledger::Ledger).
#[derive(Clone)]
pub struct SimLedger(pub Instance);

impl SimLedger {
    /// One transaction of a lane: the lock, the epoch, the work, the commit.
    async fn transact<T: Send + 'static>(
        &self,
        request: &'static str,
        own: Ownership,
        work: impl FnOnce(&mut WorldState) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let world = self.0.world.clone();
        let served = |caller: Caller| async move {
            let (transaction, takes) = {
                let mut state = world.state();
                let takes = state.work();
                (state.begin(own)?, takes)
            };
            if !takes.is_zero() {
                sleep(takes).await;
            }
            let mut state = world.state();
            state.end(transaction)?;
            // Whether the commit was sent before the client went is anybody's guess.
            if caller.is_gone() && state.random.chance(500) {
                return Err(ended());
            }
            work(&mut state)
        };
        self.0.ask(request, Server::Feedback, TIME_LIMIT, served).await?
    }

    /// A statement by itself.
    async fn query<T: Send + 'static>(
        &self,
        request: &'static str,
        read: impl FnOnce(&mut WorldState) -> T + Send + 'static,
    ) -> Result<T, LedgerError> {
        let world = self.0.world.clone();
        Ok(self.0.ask(request, Server::Feedback, TIME_LIMIT, |_| async move { read(&mut world.state()) }).await?)
    }
}

/// Waits for the lane's lock, ends those who hold it too long, and takes the lane.
async fn acquire(
    world: World,
    caller: Caller,
    lane: Lane,
    beginning: Option<Offset>,
    owner: usize,
) -> Result<AcquiredLane, LedgerError> {
    for _ in 0..MAX_ATTEMPTS {
        let until = Instant::now() + LOCK_WAIT;
        loop {
            {
                let mut state = world.state();
                let is_free = !state.database.is_held(lane) || !state.guards.enabled(Guard::LockHeld);
                if is_free && caller.is_gone() && state.random.chance(500) {
                    return Err(ended());
                }
                if is_free {
                    let acquired = state.acquire(lane, beginning, owner);
                    let loses = state.harm.lost_bumps;
                    if loses > 0 && state.random.chance(loses) {
                        let soon = state.way();
                        #[expect(clippy::disallowed_methods, reason = "a fail-over outlives who is there")]
                        tokio::spawn(fail_over(world.clone(), soon));
                    }
                    return acquired;
                }
            }
            if Instant::now() >= until {
                break;
            }
            sleep(POLL_INTERVAL).await;
        }
        let mut state = world.state();
        if state.guards.enabled(Guard::HoldersEnded) {
            state.database.transactions.retain(|_, transaction| transaction.lane != lane);
        }
    }
    Err(LedgerError::Transient(format!("lane {lane}: a former owner's transaction could not be ended in time")))
}

async fn fail_over(world: World, soon: Duration) {
    sleep(soon).await;
    world.state().database.fail_over(true);
}

impl LaneLedger for SimLedger {
    async fn acquire(&self, lane: Lane, beginning: Option<Offset>) -> Result<AcquiredLane, LedgerError> {
        let (world, owner) = (self.0.world.clone(), self.0.number);
        let served = |caller| acquire(world, caller, lane, beginning, owner);
        self.0.ask("acquire", Server::Feedback, 2 * TIME_LIMIT, served).await?
    }

    async fn still_mine(&self, own: Ownership) -> Result<bool, LedgerError> {
        match self.transact("still_mine", own, move |state| Ok(state.is_mine(own))).await {
            Ok(mine) => Ok(mine),
            Err(LedgerError::NotMine(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn note_topic(&self, own: Ownership, topic_id: &str) -> Result<(), LedgerError> {
        let topic_id = topic_id.to_owned();
        self.transact("note_topic", own, move |state| {
            state.database.lane(own.lane).topic_id = Some(topic_id);
            state.committed();
            Ok(())
        })
        .await
    }

    async fn note_outputs(&self, own: Ownership, ids: &OutputTopicIds) -> Result<bool, LedgerError> {
        let ids = ids.clone();
        self.transact("note_outputs", own, move |state| {
            let replaced = state.database.note_outputs(ids);
            state.committed();
            Ok(replaced)
        })
        .await
    }

    async fn note_compared(&self, own: Ownership, comparison: &str, lanes: i32) -> Result<(), LedgerError> {
        let comparison = comparison.to_owned();
        self.transact("note_compared", own, move |state| {
            state.note_compared(own.lane, &comparison, lanes);
            state.committed();
            Ok(())
        })
        .await
    }

    async fn halt(&self, own: Ownership, halt: Halt) -> Result<(), LedgerError> {
        self.transact("halt", own, move |state| {
            state.halt(own.lane, halt);
            state.committed();
            Ok(())
        })
        .await
    }

    async fn note_lock_wait(&self, _: Lane, _: LockedPart, _: Option<&LockWait>) -> Result<(), LedgerError> {
        // Only operators see it, and this world has none.
        Ok(())
    }

    async fn is_transaction_active(&self, _: &LockHolder) -> Result<bool, LedgerError> {
        // Nobody here holds a lock that a step waits for.
        Ok(false)
    }

    async fn resolved(&self, own: Ownership, comparison: &str) -> Result<bool, LedgerError> {
        let comparison = comparison.to_owned();
        let is_gone = move |state: &mut WorldState| !state.is_mine(own) && state.guards.enabled(Guard::OwnershipAtPoll);
        let is_old = move |state: &WorldState| state.database.comparison() != comparison;
        let resolved = move |state: &mut WorldState| {
            state.database.lane(own.lane).halt.is_none() || is_gone(state) || is_old(state)
        };
        self.query("resolved", resolved).await
    }
}

impl IntakeLedger for SimLedger {
    async fn intake(&self, own: Ownership, batch: Arc<IntakeBatch>) -> Result<IntakeOutcome, LedgerError> {
        self.transact("intake", own, move |state| state.intake(own, &batch)).await
    }

    async fn apply_changes(&self, own: Ownership) -> Result<IntakeOutcome, LedgerError> {
        if !self.query("has_changes", move |state| state.has_changes(own.lane)).await? {
            return Ok(IntakeOutcome::default());
        }
        self.transact("apply_changes", own, move |state| Ok(state.apply_changes(own))).await
    }
}

impl RoundLedger for SimLedger {
    type Transaction = SimRound;

    async fn stored_round(&self, own: Ownership) -> Result<StoredRound, LedgerError> {
        self.transact("stored_round", own, move |state| state.stored_round(own)).await
    }

    async fn withdraw(&self, own: Ownership, head: RoundVersion) -> Result<u64, LedgerError> {
        self.transact("withdraw", own, move |state| {
            let locked = state.withdraw(own, head)?;
            state.committed();
            Ok(locked)
        })
        .await
    }

    async fn withdraw_locked(
        &self,
        own: Ownership,
        behind: Option<&(String, String)>,
        most: usize,
    ) -> Result<LockedRows, LedgerError> {
        let behind = behind.cloned();
        self.transact("withdraw_locked", own, move |state| {
            let rows = state.withdraw_locked(own.lane, behind.as_ref(), most);
            state.committed();
            Ok(rows)
        })
        .await
    }

    async fn set_dead_letters_aside(&self, own: Ownership, head: RoundVersion) -> Result<(), LedgerError> {
        self.transact("set_dead_letters_aside", own, move |state| {
            state.set_dead_letters_aside(own, head)?;
            state.committed();
            Ok(())
        })
        .await
    }

    async fn withdraw_whole(
        &self,
        own: Ownership,
        head: RoundVersion,
        round_bytes: Option<i64>,
    ) -> Result<u64, LedgerError> {
        self.transact("withdraw_whole", own, move |state| {
            let locked = state.withdraw_whole(own, head, round_bytes)?;
            state.committed();
            Ok(locked)
        })
        .await
    }

    async fn open_round(&self, own: Ownership) -> Result<SimRound, LedgerError> {
        let world = self.0.world.clone();
        let served = |caller: Caller| async move {
            let transaction = world.state().begin(own)?;
            if caller.is_gone() {
                world.state().database.transactions.remove(&transaction);
            }
            Ok::<_, LedgerError>(transaction)
        };
        let transaction = self.0.ask("open_round", Server::Feedback, TIME_LIMIT, served).await??;
        Ok(SimRound { instance: self.0.clone(), own, transaction: Some(transaction) })
    }

    async fn note_published(&self, own: Ownership, seq: Seq) -> Result<bool, LedgerError> {
        self.transact("note_published", own, move |state| {
            let closed = state.note_published(own, seq)?;
            state.committed();
            Ok(closed)
        })
        .await
    }

    async fn already_told(&self, ranges: &[ClientRange<'_>]) -> Result<Vec<Clients>, LedgerError> {
        let told = told(ranges);
        self.query("already_told", move |state| told(state)).await
    }
}

impl CampaignLedger for SimLedger {
    async fn due(&self, own: Ownership, most: usize) -> Result<Due, LedgerError> {
        self.transact("due", own, move |state| {
            let due = state.due(own, most);
            state.committed();
            Ok(due)
        })
        .await
    }

    async fn open_campaigns_of(
        &self,
        own: Ownership,
        restaurants: &[String],
    ) -> Result<Vec<OpenCampaign>, LedgerError> {
        let restaurants = restaurants.to_vec();
        self.query("open_campaigns_of", move |state| {
            state.open(own.lane, |row| {
                row.campaign.as_ref().is_some_and(|campaign| restaurants.contains(&campaign.restaurant_id))
            })
        })
        .await
    }

    async fn late_campaigns(
        &self,
        own: Ownership,
        restaurants: &[String],
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<LateCheckCampaign>, LedgerError> {
        let (restaurants, after) = (restaurants.to_vec(), after.map(str::to_owned));
        self.query("late_campaigns", move |state| state.late_for(own.lane, &restaurants, after.as_deref(), most)).await
    }

    async fn open_campaigns_after(
        &self,
        own: Ownership,
        after: Option<&(Seconds, String)>,
        most: usize,
    ) -> Result<Vec<OpenCampaign>, LedgerError> {
        let after = after.cloned();
        self.query("open_campaigns_after", move |state| state.open_after(own.lane, after.as_ref(), most)).await
    }

    async fn due_rescan(&self, own: Ownership, beside: &[&str], most: usize) -> Result<Vec<OpenCampaign>, LedgerError> {
        let beside: BTreeSet<String> = beside.iter().map(|id| (*id).to_owned()).collect();
        self.query("due_rescan", move |state| state.due_rescan(own.lane, &beside, most)).await
    }

    async fn count_rows(&self, own: Ownership, id: &str) -> Result<RowCounts, LedgerError> {
        let id = id.to_owned();
        let counted = self.query("count_rows", move |state| {
            if !state.is_mine(own) {
                return Err(LedgerError::NotMine(format!("lane {} was taken", own.lane)));
            }
            let told = state.database.campaigns.get(&id).map_or(0, |row| row.told + row.kept);
            let rows = state.database.feedback.get(&id).map_or(0, |rows| rows.len() as i64);
            // A campaign that told nobody has no row to count.
            Ok(RowCounts { told, rows: if told == 0 { 0 } else { rows } })
        });
        counted.await?
    }

    async fn note_rescanned(&self, own: Ownership, passed: &[(String, i32)]) -> Result<(), LedgerError> {
        let passed = passed.to_vec();
        self.transact("note_rescanned", own, move |state| {
            passed.iter().for_each(|(id, revision)| state.note_rescanned(id, *revision));
            state.committed();
            Ok(())
        })
        .await
    }

    async fn note_unsent(&self, own: Ownership, id: &str, unsent: u64) -> Result<bool, LedgerError> {
        let id = id.to_owned();
        self.transact("note_unsent", own, move |state| {
            let settled = state.note_unsent(own.lane, &id, unsent);
            state.committed();
            Ok(settled)
        })
        .await
    }
}

impl InstanceLedger for SimLedger {
    async fn poll(&self, owned: &[Ownership]) -> Result<Poll, LedgerError> {
        let owned = owned.to_vec();
        self.query("poll", move |state| {
            let which = |is: &dyn Fn(Ownership) -> bool| {
                owned.iter().filter(|own| is(**own)).map(|own| own.lane).collect::<Vec<Lane>>()
            };
            Poll {
                changes: which(&|own| state.has_changes(own.lane)),
                rescans: which(&|own| !state.due_rescan(own.lane, &BTreeSet::new(), 1).is_empty()),
                lost_lanes: which(&|own| state.is_taken(own)),
            }
        })
        .await
    }

    async fn open_restaurants(
        &self,
        lanes: &[Lane],
        restaurants: &[String],
    ) -> Result<Vec<(Lane, String)>, LedgerError> {
        let (lanes, restaurants) = (lanes.to_vec(), restaurants.to_vec());
        self.query("open_restaurants", move |state| {
            let open = lanes.iter().flat_map(|lane| {
                let open = state.open(*lane, |_| true);
                open.into_iter().map(|open| (*lane, open.running.campaign.restaurant_id.clone()))
            });
            let distinct: BTreeSet<_> = open.filter(|(_, restaurant)| restaurants.contains(restaurant)).collect();
            distinct.into_iter().collect()
        })
        .await
    }

    async fn tail_scanned(&self, lanes: &[Lane]) -> Result<Option<i64>, LedgerError> {
        let lanes = lanes.to_vec();
        self.query("tail_scanned", move |state| {
            let marks = lanes.iter().filter_map(|lane| state.database.lanes.get(lane)?.swept_to);
            marks.min()
        })
        .await
    }

    async fn note_tail_scanned(&self, lanes: &[Lane], upto: i64) -> Result<bool, LedgerError> {
        let (lanes, owner) = (lanes.to_vec(), self.0.number);
        self.query("note_tail_scanned", move |state| {
            let mine = |(lane, row): &(&Lane, &mut LaneRow)| lanes.contains(lane) && row.owner == owner;
            state.database.lanes.iter_mut().filter(mine).for_each(|(_, row)| row.swept_to = Some(upto));
            true
        })
        .await
    }

    async fn suspension(&self) -> Result<Suspension, LedgerError> {
        self.query("suspension", |state| Suspension { paused: state.database.paused, held: state.is_held() }).await
    }
}
