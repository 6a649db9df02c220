//! The real ledger: schema `dinnerbell` in the feedback database.
//!
//! Every transaction of a lane begins the same way: it takes the lane's shared advisory lock, and then reads the epoch. These are two statements,
//! since one would read with a snapshot from before the lock.

mod acquire;
pub mod adopt;
pub mod audit;
mod campaigns;
mod due;
pub mod hold;
mod instance;
mod intake;
mod lanes;
mod ledger_identity;
pub mod output_topics;
pub mod probe;
pub mod prune;
mod refused;
pub mod republish;
pub mod resolve;
mod rounds;
pub(crate) mod rows;
pub mod snapshot;
pub mod told;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

pub use ledger_identity::LedgerIdentity;
pub use rounds::PostgresRound;

use super::clock::{Asked, CLOCK_MICROS, PostgresClock};
use super::connect::{Connection, Parameter, Pool, Transaction, begin_sql};
use super::errors::PostgresError;
use super::needs;
use super::table_identity;
use crate::number::{Number, number};
use crate::sql::fragments;
use dinnerbell_core::model::audit::Orderer;
use dinnerbell_core::model::campaign::{Campaign, Window};
use dinnerbell_core::model::draft::TriggerType;
use dinnerbell_core::model::number::{Epoch, Lane, Micros, Seconds};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::model::record::Header;
use dinnerbell_core::ports::ledger::LedgerError;

/// Questions of a lane are answered by indexes, whatever the statistics say: they may be none yet, or of a time before much was written.
const BY_INDEX: &str = "set local enable_seqscan = off; set local jit = off";
/// And by those alone that fit all of a question, not by what several have in common.
const BY_ONE_INDEX: &str = "set local enable_bitmapscan = off";
/// And in its order, so that the first of an order is found without the others. What is to be sorted nonetheless is sorted here.
const IN_ORDER: &str = "set local enable_sort = off";
/// And row by row: a hash or merge join could read all that a campaign ever told to find a few who were late.
const ROW_BY_ROW: &str = "set local enable_hashjoin = off; set local enable_mergejoin = off";

/// Begins the question of a list: its order is that of an index, whatever the statistics say.
pub fn begin_of_list() -> String {
    begin_sql(", read only", &format!("{BY_INDEX}; {ROW_BY_ROW}; {IN_ORDER}"))
}

/// Connections that rounds leave free, where there are that many.
const KEPT_FROM_ROUNDS: usize = 3;

/// The ledger in Postgres.
#[derive(Clone)]
pub struct PostgresLedger {
    pool: Pool,
    clock: PostgresClock,
    /// Rounds wait for their commit ticket with the transaction open: some connections are kept for everything else.
    rounds: Arc<Semaphore>,
    shared: Arc<LedgerShared>,
}

#[derive(Default)]
struct LedgerShared {
    /// Names this instance in `lane.owner`.
    owner: String,
    group_id: String,
    publishes_dead_letters: bool,
    /// One for each lane: who holds it may lock the lane's row.
    lane_mutexes: Mutex<BTreeMap<Lane, Arc<LaneMutex>>>,
    /// How drafts are written, once it was looked at.
    trigger_type: Mutex<Option<TriggerType>>,
    /// Whose orders it carries out; none of an instance's ledger.
    orderer: Option<Orderer>,
}

/// The steps of a lane that lock its row do so one after the other. Waiting here, no step times out because of another, and the wait counts for no
/// deadline. Taken with the transaction begun, held until its commit.
type LaneMutex = tokio::sync::Mutex<()>;

impl PostgresLedger {
    /// The ledger in the pool's database. `owner` names this instance for operators.
    pub fn new(
        pool: Pool,
        clock: PostgresClock,
        owner: String,
        group_id: String,
        publishes_dead_letters: bool,
    ) -> Self {
        Self::of(pool, clock, LedgerShared { owner, group_id, publishes_dead_letters, ..LedgerShared::default() })
    }

    /// The ledger of somebody who gives orders: each is kept in the transaction that carries it out.
    pub fn of_operator(pool: Pool, clock: PostgresClock, by: Orderer, group_id: String) -> Self {
        let shared = LedgerShared { owner: by.to_string(), group_id, orderer: Some(by), ..LedgerShared::default() };
        Self::of(pool, clock, shared)
    }

    fn of(pool: Pool, clock: PostgresClock, shared: LedgerShared) -> Self {
        let rounds = Arc::new(Semaphore::new(pool.most().saturating_sub(KEPT_FROM_ROUNDS).max(1)));
        Self { pool, clock, rounds, shared: Arc::new(shared) }
    }

    /// How drafts are written into the feedback table: looked at once, and again after a copy failed.
    async fn trigger_type(&self, connection: &Connection) -> Result<TriggerType, PostgresError> {
        let known = *self.shared.trigger_type.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known {
            return Ok(known);
        }
        let found = needs::trigger_type(connection, &self.feedback()).await?;
        *self.shared.trigger_type.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(found)
    }

    fn forget_trigger_type(&self) {
        *self.shared.trigger_type.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The pool of the feedback database.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Waits until no other step of ours has the lane's row.
    async fn lock_lane(&self, lane: Lane) -> OwnedMutexGuard<()> {
        self.lane_mutex(lane).lock_owned().await
    }

    fn lane_mutex(&self, lane: Lane) -> Arc<LaneMutex> {
        let mut lane_mutexes = self.shared.lane_mutexes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lane_mutexes.entry(lane).or_default())
    }

    /// Begins a transaction of a lane, if the lane is still ours, and the feedback table too.
    async fn begin(&self, own: Ownership) -> Result<Transaction, LedgerError> {
        self.begin_at(own).await.map(|(tx, _)| tx)
    }

    /// The same, with the database's time at its beginning.
    async fn begin_at(&self, own: Ownership) -> Result<(Transaction, Seconds), LedgerError> {
        let (tx, now, known) = self.begin_anywhere(own).await?;
        if !known {
            tx.rollback().await?;
            return Err(self.another_table().await);
        }
        Ok((tx, now))
    }

    /// What is wrong with the feedback table.
    async fn another_table(&self) -> LedgerError {
        match table_identity::check(&self.pool).await {
            Ok(Err(another)) => LedgerError::AnotherTable(another.to_string()),
            Ok(Ok(())) => LedgerError::Transient("the feedback table was another one for a moment".to_owned()),
            Err(error) => error.into(),
        }
    }

    /// Asks in a transaction that has read or written feedback rows whether they were the ledger's. It holds a lock on the table that it touched by
    /// then, so no other table can have come in between.
    async fn touched_its_own(&self, tx: &Transaction) -> Result<(), LedgerError> {
        let sql = format!("select {}", table_identity::is_known("$1"));
        match tx.query_one(&sql, &[(&self.feedback(), Type::TEXT)]).await?.get(0) {
            true => Ok(()),
            false => Err(self.another_table().await),
        }
    }

    /// Begins a transaction of a lane, if the lane is still ours: with the database's time, and whether the feedback table is the ledger's. Only what
    /// touches no feedback row may go on where it is not.
    async fn begin_anywhere(&self, own: Ownership) -> Result<(Transaction, Seconds, bool), LedgerError> {
        let locals = format!(
            "set local lock_timeout = '2s'; {BY_INDEX}; {ROW_BY_ROW}; \
             select pg_advisory_xact_lock_shared({})",
            own.lock_key
        );
        let sql = format!(
            "select epoch, {} as postmaster, {CLOCK_MICROS} as now, {} as known, {} as untouched \
             from dinnerbell.lane l where lane = $1",
            fragments::POSTMASTER,
            table_identity::is_known("$2"),
            fragments::untouched("l")
        );
        let asked = Asked::now();
        let parameters: [Parameter<'_>; 2] = [own.lane.parameter(), (&self.feedback(), Type::TEXT)];
        let (tx, row) = self.pool.begin_asking(&locals, &sql, &parameters).await?;
        let known = row.as_ref().is_some_and(|row| row.get("known"));
        let now = row.as_ref().map_or(Micros::default(), |row| number(row, "now"));
        if row.is_some() {
            self.clock.observe(asked, now);
        }
        if row.as_ref().is_some_and(|row| !row.get::<_, bool>("untouched")) {
            tx.rollback().await?;
            return Err(LedgerError::NotMine(format!(
                "somebody else wrote the row of lane {} in dinnerbell.lane",
                own.lane
            )));
        }
        match row.map(|row| (number::<Epoch>(&row, "epoch"), number::<Micros>(&row, "postmaster"))) {
            Some(found) if found == (own.epoch, own.server_started_at) => Ok((tx, now.seconds(), known)),
            found => {
                tx.rollback().await?;
                Err(LedgerError::NotMine(format!(
                    "lane {} was taken over as epoch {} of the server started at {}, and is now {found:?}",
                    own.lane, own.epoch, own.server_started_at
                )))
            }
        }
    }

    /// A question that changes nothing and needs no ownership, answered by indexes; one round trip.
    async fn ask(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, LedgerError> {
        let by_index = format!("{BY_INDEX}; {BY_ONE_INDEX}; {ROW_BY_ROW}; {IN_ORDER}");
        Ok(self.pool.ask(&begin_sql(", read only", &by_index), sql, parameters).await?)
    }

    /// The feedback table, quoted for SQL.
    fn feedback(&self) -> String {
        self.pool.table().sql()
    }
}

/// A compare-and-set that found something else than this owner left.
fn not_mine(own: Ownership, what: &str) -> LedgerError {
    LedgerError::NotMine(format!("lane {}: {what} is not what epoch {} left", own.lane, own.epoch))
}

/// A campaign as a row of the ledger has it, or a row with the same columns: [`fragments::CAMPAIGN`].
fn campaign(row: &Row) -> Campaign {
    Campaign {
        adv_campaign_id: row.get("adv_campaign_id"),
        restaurant_id: row.get("restaurant_id"),
        adv_campaign_content: row.get("adv_campaign_content"),
        adv_campaign_owner: row.get("adv_campaign_owner"),
        adv_campaign_owner_contact: row.get("adv_campaign_owner_contact"),
        window: Window {
            start: number(row, "adv_campaign_datetime_start"),
            end: number(row, "adv_campaign_datetime_end"),
        },
        datetime_created: number(row, "datetime_created"),
    }
}

/// Headers as the ledger keeps them: names and values side by side.
fn headers(names: Vec<String>, values: Vec<Option<Vec<u8>>>) -> Vec<Header> {
    names.into_iter().zip(values).map(|(name, value)| Header { name, value }).collect()
}
