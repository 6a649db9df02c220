//! The real ledger: schema `dinnerbell` in the feedback database.
//!
//! Every transaction of a lane begins the same way: the lane's shared advisory lock, and then, as a statement of its own (one
//! statement would read with a snapshot from before the lock), the epoch.

pub mod adopt;
mod due;
mod entry;
pub mod hold;
mod intake;
pub mod outputs;
pub mod probe;
pub mod prune;
mod refused;
pub mod republish;
pub mod resolve;
pub(crate) use resolve::CLEARED;
mod rounds;
pub(crate) mod rows;
pub mod snapshot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use rounds::Withdrawn;

pub use rounds::PostgresRound;

use hold::COMPARISON;

use super::clock::{Asked, CLOCK_MICROS, PostgresClock};
use super::connect::{Connection, Parameter, Pool, Transaction};
use super::errors::PostgresError;
use super::identity;
use super::needs;
use dinnerbell_core::model::campaign::Campaign;
use dinnerbell_core::model::clients::{ClientRange, Clients};
use dinnerbell_core::model::draft::TriggerType;
use dinnerbell_core::model::due::{Due, Waiting};
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::intake::{IntakeBatch, Taken};
use dinnerbell_core::model::late::{LateFor, OpenCampaign, ToldAndRows};
use dinnerbell_core::model::mark::RoundHead;
use dinnerbell_core::model::outputs::OutputIds;
use dinnerbell_core::model::ownership::{Entered, Ownership, Suspension};
use dinnerbell_core::model::record::{Header, Lane};
use dinnerbell_core::model::round::StoredRound;
use dinnerbell_core::model::time::EpochSeconds;
use dinnerbell_core::ports::ledger::{
    CampaignLedger, InstanceLedger, IntakeLedger, LaneLedger, LedgerError, RoundLedger,
};

/// The current second by the feedback database's clock; never `now()`, which stands still in a transaction.
const NOW: &str = "floor(extract(epoch from clock_timestamp()))::int8";
/// The same, read once for a whole statement: so an index can be asked by it.
const NOW_ONCE: &str = "(select floor(extract(epoch from clock_timestamp()))::int8)";
/// Whether a campaign is open: the one rule ([`dinnerbell_core::model::campaign::Window::is_open`]), as the ledger asks it.
const OPEN: &str = "(state <> 'cancelled' and adv_campaign_datetime_start <= floor(extract(epoch from clock_timestamp()))::int8 \
                    and adv_campaign_datetime_end > floor(extract(epoch from clock_timestamp()))::int8)";
/// Campaigns whose rescan is due: those that had a page, while they are open.
const REPASS_IS_DUE: &str = "state in ('active', 'complete') and (cursor is not null or last_page_seq is not null)";
/// Questions of a lane are answered by indexes, whatever the statistics say: they may be none yet, or of a time before much was written.
const BY_INDEX: &str = "set local enable_seqscan = off; set local jit = off";
/// And by those alone that fit all of a question, not by what several have in common.
const BY_ONE_INDEX: &str = "set local enable_bitmapscan = off";
/// And in its order, so that the first of an order is found without the others. What is to be sorted nonetheless is sorted here.
const IN_ORDER: &str = "set local enable_sort = off";
/// Campaigns are locked in the order of their ids, by everyone. Which are locked is for another index to say: so it is no column to the planner.
const LOCKED_BY: &str = "adv_campaign_id || ''";
/// And row by row: a hash or merge join could read all that a campaign ever told to find a few who were late.
const ROW_BY_ROW: &str = "set local enable_hashjoin = off; set local enable_mergejoin = off";
/// When the server was started, in microseconds: tells a fail-over.
const POSTMASTER: &str = "(extract(epoch from pg_postmaster_start_time()) * 1000000)::int8";

/// Connections that rounds leave free, where there are that many.
const KEPT_FROM_ROUNDS: usize = 3;

/// The ledger in Postgres.
#[derive(Clone)]
pub struct PostgresLedger {
    pool: Pool,
    clock: PostgresClock,
    /// Rounds wait for their gate with the transaction open: some connections are kept for everything else.
    rounds: Arc<Semaphore>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Names this instance in `lane.owner`.
    owner: String,
    group_id: String,
    publishes_dead_letters: bool,
    /// One for each lane: who holds it may lock the lane's row.
    turns: Mutex<BTreeMap<Lane, Arc<Turn>>>,
    /// How drafts are written, once it was looked at.
    trigger_type: Mutex<Option<TriggerType>>,
}

/// The steps of a lane that lock its row do so one after the other: waiting here, none of them runs into a time-out because of another, and the
/// wait counts for no deadline. Taken with the transaction begun, held until its commit.
type Turn = tokio::sync::Mutex<()>;

/// Whose ledger it is: a service configured otherwise refuses to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belonging {
    /// The id of the Kafka cluster.
    pub cluster_id: String,
    /// The consumer group.
    pub group_id: String,
    /// The topic of the campaigns.
    pub campaigns_topic: String,
    /// The topic of the drafts.
    pub notifications_topic: String,
    /// The feedback table; none where an earlier version claimed the ledger.
    pub feedback_table: Option<String>,
}

impl Belonging {
    /// What a service configured so has to do with this ledger: nothing, for this reason, or none if the ledger is its own.
    pub fn differs(&self, configured: &Self) -> Option<String> {
        let settings = [
            ("kafka.group_id is", &self.group_id, &configured.group_id),
            ("kafka.topics.campaigns is", &self.campaigns_topic, &configured.campaigns_topic),
            ("kafka.topics.notifications is", &self.notifications_topic, &configured.notifications_topic),
            ("kafka.bootstrap_servers lead to the cluster", &self.cluster_id, &configured.cluster_id),
        ];
        let differing = settings.iter().filter(|(_, found, configured)| found != configured);
        let differing: Vec<String> =
            differing.map(|(setting, found, configured)| format!("{setting} {found}, here {configured}")).collect();
        (!differing.is_empty()).then(|| {
            format!(
                "the ledger in feedback.url belongs to another service: its {}; correct the configuration, or give this service a \
                 feedback database of its own",
                differing.join("; its ")
            )
        })
    }
}

impl PostgresLedger {
    /// The ledger in the pool's database. `owner` names this instance for operators.
    pub fn new(
        pool: Pool,
        clock: PostgresClock,
        owner: String,
        group_id: String,
        publishes_dead_letters: bool,
    ) -> Self {
        let rounds = Arc::new(Semaphore::new(pool.most().saturating_sub(KEPT_FROM_ROUNDS).max(1)));
        let (turns, trigger_type) = (Mutex::default(), Mutex::default());
        let shared = Shared { owner, group_id, publishes_dead_letters, turns, trigger_type };
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

    /// Whose ledger this is, if it was claimed.
    pub async fn belonging(&self) -> Result<Option<(Uuid, Belonging)>, LedgerError> {
        let sql = "select ledger, cluster_id, group_id, campaigns_topic, notifications_topic, feedback_table from dinnerbell.service";
        let rows = self.pool.query(sql, &[]).await?;
        Ok(rows.first().map(|row| {
            let belonging = Belonging {
                cluster_id: row.get(1),
                group_id: row.get(2),
                campaigns_topic: row.get(3),
                notifications_topic: row.get(4),
                feedback_table: row.get(5),
            };
            (row.get(0), belonging)
        }))
    }

    /// Claims an unclaimed ledger, with the positions at which its lanes begin, in one transaction. Whoever comes second finds the
    /// first one's claim.
    pub async fn claim(&self, to: &Belonging, beginnings: &[(Lane, i64)]) -> Result<(), LedgerError> {
        let tx = self.pool.begin("set local lock_timeout = '2s'").await?;
        // Held from its beginning: whatever lanes there were in an earlier ledger are compared first.
        let sql = "insert into dinnerbell.service (ledger, cluster_id, group_id, campaigns_topic, notifications_topic, feedback_table, \
                   compared) values ($1, $2, $3, $4, $5, $6, '') on conflict do nothing";
        let inserted = tx
            .execute(
                sql,
                &[
                    (&Uuid::new_v4(), Type::UUID),
                    (&to.cluster_id, Type::TEXT),
                    (&to.group_id, Type::TEXT),
                    (&to.campaigns_topic, Type::TEXT),
                    (&to.notifications_topic, Type::TEXT),
                    (&to.feedback_table, Type::TEXT),
                ],
            )
            .await?;
        if inserted == 1 {
            for (lane, position) in beginnings {
                entry::create_lane(&tx, *lane, *position).await?;
            }
            identity::note(&tx, self.pool.table()).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Waits until no other step of ours has the lane's row.
    async fn turn(&self, lane: Lane) -> OwnedMutexGuard<()> {
        self.turn_of(lane).lock_owned().await
    }

    fn turn_of(&self, lane: Lane) -> Arc<Turn> {
        let mut turns = self.shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(lane).or_default())
    }

    /// Whether the feedback table is the ledger's. An earlier version noted none: then it is noted now.
    pub async fn knows_its_table(&self) -> Result<Result<(), identity::Another>, LedgerError> {
        let connection = self.pool.get().await?;
        identity::note(&connection, self.pool.table()).await?;
        connection.release();
        Ok(identity::look(&self.pool).await?)
    }

    /// Begins a transaction of a lane, if the lane is still ours, and the feedback table too.
    async fn begin(&self, own: Ownership) -> Result<Transaction, LedgerError> {
        self.begin_at(own).await.map(|(tx, _)| tx)
    }

    /// The same, with the database's time at its beginning.
    async fn begin_at(&self, own: Ownership) -> Result<(Transaction, EpochSeconds), LedgerError> {
        let (tx, now, known) = self.begin_anywhere(own).await?;
        if !known {
            tx.rollback().await?;
            return Err(self.another_table().await);
        }
        Ok((tx, now))
    }

    /// What is wrong with the feedback table.
    async fn another_table(&self) -> LedgerError {
        match identity::look(&self.pool).await {
            Ok(Err(another)) => LedgerError::AnotherTable(another.to_string()),
            Ok(Ok(())) => LedgerError::Passing("the feedback table was another one for a moment".to_owned()),
            Err(error) => error.into(),
        }
    }

    /// Asks in a transaction that has read or written feedback rows whether they were the ledger's. It holds a lock on the table that it touched by
    /// then, so no other table can have come in between.
    async fn touched_its_own(&self, tx: &Transaction) -> Result<(), LedgerError> {
        let sql = format!("select {}", identity::is_known("$1"));
        match tx.query_one(&sql, &[(&self.feedback(), Type::TEXT)]).await?.get(0) {
            true => Ok(()),
            false => Err(self.another_table().await),
        }
    }

    /// Begins a transaction of a lane, if the lane is still ours: with the database's time, and whether the feedback table is the ledger's. Only what
    /// touches no feedback row may go on where it is not.
    async fn begin_anywhere(&self, own: Ownership) -> Result<(Transaction, EpochSeconds, bool), LedgerError> {
        let locals = format!(
            "set local lock_timeout = '2s'; set local synchronous_commit = on; {BY_INDEX}; {ROW_BY_ROW}; \
             select pg_advisory_xact_lock_shared({})",
            own.lock_key
        );
        let sql = format!(
            "select epoch, {POSTMASTER}, {CLOCK_MICROS}, {} from dinnerbell.lane where lane = $1",
            identity::is_known("$2")
        );
        let asked = Asked::now();
        let parameters: [Parameter<'_>; 2] = [(&own.lane, Type::INT4), (&self.feedback(), Type::TEXT)];
        let (tx, row) = self.pool.begin_asking(&locals, &sql, &parameters).await?;
        let known = row.as_ref().is_some_and(|row| row.get(3));
        let now = row.as_ref().map_or(0, |row| row.get(2));
        if row.is_some() {
            self.clock.observe(asked, now);
        }
        match row.map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1))) {
            Some(found) if found == (own.epoch, own.postmaster) => Ok((tx, now / 1_000_000, known)),
            found => {
                tx.rollback().await?;
                Err(LedgerError::NotMine(format!(
                    "lane {} was entered as epoch {} of the server started at {}, and is now {found:?}",
                    own.lane, own.epoch, own.postmaster
                )))
            }
        }
    }

    /// A question that changes nothing and needs no ownership, answered by indexes; one round trip.
    async fn ask(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, LedgerError> {
        let begin = format!(
            "begin isolation level read committed, read only; {BY_INDEX}; {BY_ONE_INDEX}; {ROW_BY_ROW}; {IN_ORDER}"
        );
        Ok(self.pool.ask(&begin, sql, parameters).await?)
    }

    /// The feedback table, quoted for SQL.
    fn feedback(&self) -> String {
        self.pool.table().sql()
    }
}

/// The open campaigns of some restaurants: the order that is asked for, though they are all of one restaurant, is in their index alone.
fn of_restaurants(parameter: &str) -> String {
    format!(
        "unnest({parameter}::text[]) as r (id) cross join lateral (select * from dinnerbell.campaign \
         where restaurant_id between r.id and r.id and state in ('active', 'complete') order by restaurant_id) as campaign"
    )
}

/// A compare-and-set that found something else than this owner left.
fn lost(own: Ownership, what: &str) -> LedgerError {
    LedgerError::NotMine(format!("lane {}: {what} is not what epoch {} left", own.lane, own.epoch))
}

impl LaneLedger for PostgresLedger {
    async fn bump(&self, lane: Lane, beginning: Option<i64>) -> Result<Entered, LedgerError> {
        self.take_lane(lane, beginning).await
    }

    async fn still_mine(&self, own: Ownership) -> Result<bool, LedgerError> {
        match self.begin_anywhere(own).await {
            Ok((tx, ..)) => {
                tx.commit().await?;
                Ok(true)
            }
            Err(LedgerError::NotMine(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn note_topic(&self, own: Ownership, topic_id: &str) -> Result<(), LedgerError> {
        let tx = self.begin(own).await?;
        let sql = "update dinnerbell.lane set topic_id = $2 where lane = $1";
        tx.execute(sql, &[(&own.lane, Type::INT4), (&topic_id, Type::TEXT)]).await?;
        Ok(tx.commit().await?)
    }

    async fn note_outputs(&self, own: Ownership, ids: &OutputIds) -> Result<bool, LedgerError> {
        self.note_output_ids(own, ids).await
    }

    async fn note_compared(&self, own: Ownership, comparison: &str, lanes: Lane) -> Result<(), LedgerError> {
        self.end_hold(own, comparison, lanes).await
    }

    async fn halt(&self, own: Ownership, halt: Halt) -> Result<(), LedgerError> {
        let (tx, ..) = self.begin_anywhere(own).await?;
        let sql = "update dinnerbell.lane set halted = $2, halted_found = $3, halted_remedy = $4, halted_at = clock_timestamp() \
                   where lane = $1";
        let text = Type::TEXT;
        let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] = [
            (&own.lane, Type::INT4),
            (&halt.kind.name(), text.clone()),
            (&halt.found, text.clone()),
            (&halt.remedy, text),
        ];
        tx.execute(sql, &values).await?;
        hold::begin(&tx, &halt).await?;
        Ok(tx.commit().await?)
    }

    async fn resolved(&self, own: Ownership, comparison: &str) -> Result<bool, LedgerError> {
        let sql = format!(
            "select halted is null or epoch <> $2 or $3 <> {POSTMASTER} or coalesce($4 <> {}, false) \
             from dinnerbell.lane left join dinnerbell.service on true where lane = $1",
            hold::COMPARISON
        );
        let parameters: [Parameter<'_>; 4] = [
            (&own.lane, Type::INT4),
            (&own.epoch, Type::INT8),
            (&own.postmaster, Type::INT8),
            (&comparison, Type::TEXT),
        ];
        let rows = self.pool.query(&sql, &parameters).await?;
        Ok(rows.first().is_none_or(|row| row.get(0)))
    }
}

impl IntakeLedger for PostgresLedger {
    async fn intake(&self, own: Ownership, batch: Arc<IntakeBatch>) -> Result<Taken, LedgerError> {
        self.record_intake(own, &batch).await
    }

    async fn judge_changes(&self, own: Ownership) -> Result<Taken, LedgerError> {
        self.judge_handed_over(own).await
    }
}

impl RoundLedger for PostgresLedger {
    type Open = PostgresRound;

    async fn stored_round(&self, own: Ownership) -> Result<StoredRound, LedgerError> {
        self.read_stored_round(own).await
    }

    async fn withdraw(&self, own: Ownership, head: RoundHead) -> Result<(), LedgerError> {
        self.withdraw_round(own, head, Withdrawn::WhatIsNotOpen).await
    }

    async fn withdraw_whole(
        &self,
        own: Ownership,
        head: RoundHead,
        round_bytes: Option<i64>,
    ) -> Result<(), LedgerError> {
        self.withdraw_round(own, head, Withdrawn::Everything { round_bytes }).await
    }

    async fn set_letters_aside(&self, own: Ownership, head: RoundHead) -> Result<(), LedgerError> {
        self.set_aside(own, head).await
    }

    async fn open_round(&self, own: Ownership) -> Result<PostgresRound, LedgerError> {
        // The semaphore is never closed; a wait that takes longer than a round is a round's own deadline.
        let turn = Arc::clone(&self.rounds).acquire_owned().await.ok();
        Ok(PostgresRound::new(self.begin(own).await?, own, self.clone(), turn))
    }

    async fn note_published(&self, own: Ownership, seq: i64) -> Result<bool, LedgerError> {
        let tx = self.begin(own).await?;
        let _turn = self.turn(own.lane).await;
        let closed = rounds::note_published(&tx, own, seq).await?;
        tx.commit().await?;
        Ok(closed)
    }

    async fn already_told(&self, ranges: &[ClientRange<'_>]) -> Result<Vec<Clients>, LedgerError> {
        let tx = self.pool.begin(&format!("set local lock_timeout = '2s'; {BY_INDEX}")).await?;
        let told = rows::already_told(&tx, &self.feedback(), ranges).await?;
        tx.commit().await?;
        Ok(told)
    }
}

impl CampaignLedger for PostgresLedger {
    async fn due(&self, own: Ownership, most: usize) -> Result<Due, LedgerError> {
        self.read_due(own, most).await
    }

    async fn open_of(&self, own: Ownership, restaurants: &[String]) -> Result<Vec<OpenCampaign>, LedgerError> {
        let mut open = self.read_open(own, &of_restaurants("$2"), "true", &[(&restaurants, Type::TEXT_ARRAY)]).await?;
        open.sort_by(|one, other| one.running.id().cmp(other.running.id()));
        Ok(open)
    }

    async fn open_campaigns(
        &self,
        own: Ownership,
        restaurants: &[String],
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<LateFor>, LedgerError> {
        self.read_late_for(own, restaurants, after, most).await
    }

    async fn open_after(
        &self,
        own: Ownership,
        after: Option<&(EpochSeconds, String)>,
        most: usize,
    ) -> Result<Vec<OpenCampaign>, LedgerError> {
        let (end, id) = after.map_or((None, None), |(end, id)| (Some(*end), Some(id.as_str())));
        let which = "(cursor is not null or last_page_seq is not null) and adv_campaign_datetime_end >= coalesce($2::int8, 0) \
                     and ($2::int8 is null or (adv_campaign_datetime_end, adv_campaign_id) > ($2, $3)) \
                     order by adv_campaign_datetime_end, adv_campaign_id limit $4";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 3] = [(&end, Type::INT8), (&id, Type::TEXT), (&most, Type::INT8)];
        self.read_open(own, "dinnerbell.campaign", which, &parameters).await
    }

    async fn due_rescan(&self, own: Ownership, beside: &[&str], most: usize) -> Result<Vec<OpenCampaign>, LedgerError> {
        let which = format!(
            "repass_at <= {NOW_ONCE} and {REPASS_IS_DUE} and adv_campaign_id <> all ($2) order by repass_at limit $3"
        );
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 2] = [(&beside, Type::TEXT_ARRAY), (&most, Type::INT8)];
        self.read_open(own, "dinnerbell.campaign", &which, &parameters).await
    }

    async fn told_and_rows(&self, own: Ownership, id: &str) -> Result<ToldAndRows, LedgerError> {
        let tx = self.begin(own).await?;
        let sql = "select told + kept from dinnerbell.campaign where adv_campaign_id = $1";
        let row = tx.query_opt(sql, &[(&id, Type::TEXT)]).await?;
        tx.commit().await?;
        let told = row.map_or(0, |row| row.get(0));
        let connection = self.pool.get().await?;
        let rows = rows::count(&connection, &self.feedback(), id, told).await?;
        connection.release();
        Ok(ToldAndRows { told, rows })
    }

    async fn note_rescanned(&self, own: Ownership, passed: &[(String, i32)]) -> Result<(), LedgerError> {
        let (ids, revisions): (Vec<&str>, Vec<i32>) =
            passed.iter().map(|(id, revision)| (id.as_str(), *revision)).unzip();
        let tx = self.begin(own).await?;
        // A round's seal locks campaigns in two statements.
        let _turn = self.turn(own.lane).await;
        let sql = format!(
            "update dinnerbell.campaign c set repass_at = {} from (select c.adv_campaign_id as id, c.revision from unnest($1::text[], $2::int4[]) as p (id, revision) \
             join dinnerbell.campaign c on c.adv_campaign_id = p.id and c.revision = p.revision order by c.{LOCKED_BY} for no key update of c) as l \
             where c.adv_campaign_id = l.id and c.revision = l.revision",
            repass_at("told")
        );
        tx.execute(&sql, &[(&ids, Type::TEXT_ARRAY), (&revisions, Type::INT4_ARRAY)]).await?;
        Ok(tx.commit().await?)
    }

    async fn note_unsent(&self, own: Ownership, id: &str, unsent: u64) -> Result<bool, LedgerError> {
        let tx = self.begin(own).await?;
        let unpublished = "select exists (select from dinnerbell.lane l join dinnerbell.round_part p using (lane, seq) where lane = $1 \
                           and seq > coalesce(published_seq, -1) and adv_campaign_id = $2 and p.drafts > 0)";
        let row = tx.query_one(unpublished, &[(&own.lane, Type::INT4), (&id, Type::TEXT)]).await?;
        let settled = !row.get::<_, bool>(0);
        if settled {
            let sql =
                format!("update dinnerbell.campaign set unsent = $2 where adv_campaign_id = $1 and {}", due::COUNTED);
            let unsent = i64::try_from(unsent).unwrap_or(i64::MAX);
            tx.execute(&sql, &[(&id, Type::TEXT), (&unsent, Type::INT8)]).await?;
        }
        tx.commit().await?;
        Ok(settled)
    }
}

impl InstanceLedger for PostgresLedger {
    async fn waiting(&self, owned: &[Ownership]) -> Result<Waiting, LedgerError> {
        // Each change asks for its campaign by the primary key: a join could read all campaigns that there ever were. A rescan is asked for
        // in the order in which they are due: any of the lane's indexes could be taken else, and all that is open be gone through.
        let sql = format!(
            "select array(select distinct lane from (select (select c.lane from dinnerbell.campaign c \
               where c.adv_campaign_id = ch.adv_campaign_id) as lane from dinnerbell.change ch where ch.judged_as is null) owner \
               where lane = any($1)), \
             array(select lane from unnest($1) as l (lane) where (select true from dinnerbell.campaign c where c.lane = l.lane \
               and repass_at <= {NOW_ONCE} and {OPEN} and {REPASS_IS_DUE} order by repass_at limit 1)), \
             array(select mine.lane from unnest($1, $2::int8[], $3::int8[]) as mine (lane, epoch, postmaster) \
               left join dinnerbell.lane l on l.lane = mine.lane where l.epoch is distinct from mine.epoch \
               or mine.postmaster <> {POSTMASTER} or not {} \
               or exists (select from dinnerbell.service where compared <> {COMPARISON} and l.compared is distinct from {COMPARISON}))",
            identity::is_known("$4")
        );
        let lanes: Vec<Lane> = owned.iter().map(|own| own.lane).collect();
        let epochs: Vec<i64> = owned.iter().map(|own| own.epoch).collect();
        let postmasters: Vec<i64> = owned.iter().map(|own| own.postmaster).collect();
        let parameters: [Parameter<'_>; 4] = [
            (&lanes, Type::INT4_ARRAY),
            (&epochs, Type::INT8_ARRAY),
            (&postmasters, Type::INT8_ARRAY),
            (&self.feedback(), Type::TEXT),
        ];
        let rows = self.ask(&sql, &parameters).await?;
        let waiting = |row: &Row| Waiting { changes: row.get(0), rescans: row.get(1), taken: row.get(2) };
        Ok(rows.first().map(waiting).unwrap_or_default())
    }

    async fn open_restaurants(
        &self,
        lanes: &[Lane],
        restaurants: &[String],
    ) -> Result<Vec<(Lane, String)>, LedgerError> {
        let sql = format!(
            "select distinct lane, restaurant_id from {} where lane = any($2) and {OPEN}",
            of_restaurants("$1")
        );
        let parameters: [Parameter<'_>; 2] = [(&restaurants, Type::TEXT_ARRAY), (&lanes, Type::INT4_ARRAY)];
        let rows = self.ask(&sql, &parameters).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn swept(&self, lanes: &[Lane]) -> Result<Option<i64>, LedgerError> {
        let sql = "select min(swept_to) from dinnerbell.lane where lane = any($1)";
        let rows = self.pool.query(sql, &[(&lanes, Type::INT4_ARRAY)]).await?;
        Ok(rows.first().and_then(|row| row.get(0)))
    }

    async fn note_tail_scanned(&self, lanes: &[Lane], upto: i64) -> Result<bool, LedgerError> {
        // A lane whose row is locked just now is noted the next time: nobody waits for this, and it for nobody.
        let sql = "with free as (select lane from dinnerbell.lane where lane = any($1) and owner = $3 and swept_to is distinct from $2 \
                     for update skip locked), \
                   noted as (update dinnerbell.lane l set swept_to = $2 from free where l.lane = free.lane returning l.lane) \
                   select not exists (select from dinnerbell.lane where lane = any($1) and owner = $3 and swept_to is distinct from $2 \
                     and lane not in (select lane from noted))";
        let owner = &self.shared.owner;
        let parameters: [Parameter<'_>; 3] = [(&lanes, Type::INT4_ARRAY), (&upto, Type::INT8), (&owner, Type::TEXT)];
        let rows = self.pool.query(sql, &parameters).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    async fn suspension(&self) -> Result<Suspension, LedgerError> {
        self.read_suspension().await
    }
}

/// When a campaign that was just passed, and has told so many, is to be passed again: in five minutes, and once more so early before its end
/// that it finishes. A pass rests far more than it works, and still gets through twice as many a second as it is given here.
fn repass_at(told: &str) -> String {
    let last = format!("(adv_campaign_datetime_end - 30 - ({told}) / 5000)");
    format!("case when {last} > {NOW} then least({NOW} + 300, {last}) end")
}

/// A campaign as a row of the ledger has it, beginning at a column; the columns are [`CAMPAIGN`].
fn campaign(row: &Row, first: usize) -> Campaign {
    Campaign {
        adv_campaign_id: row.get(first),
        restaurant_id: row.get(first + 1),
        adv_campaign_content: row.get(first + 2),
        adv_campaign_owner: row.get(first + 3),
        adv_campaign_owner_contact: row.get(first + 4),
        window: dinnerbell_core::model::campaign::Window { start: row.get(first + 5), end: row.get(first + 6) },
        datetime_created: row.get(first + 7),
    }
}

/// The columns that [`campaign`] reads.
const CAMPAIGN: &str = "adv_campaign_id, restaurant_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, \
                        adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created";

/// Headers as the ledger keeps them: names and values side by side.
fn headers(names: Vec<String>, values: Vec<Option<Vec<u8>>>) -> Vec<Header> {
    names.into_iter().zip(values).map(|(name, value)| Header { name, value }).collect()
}
