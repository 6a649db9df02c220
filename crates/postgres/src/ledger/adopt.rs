//! A lane goes on with what another one owned, whose partition is gone.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{PostgresLedger, not_mine, rounds};
use crate::connect::{Parameter, Pool, Transaction};
use crate::errors::PostgresError;
use crate::number::{Number, number};
use crate::sql;
use crate::sql::fragments::{CLEARED, NEXT_EPOCH, held};
use dinnerbell_core::model::audit::{Action, Subject};
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Epoch, Lane, Seq};
use dinnerbell_core::model::ownership::Ownership;
use dinnerbell_core::ports::ledger::LedgerError;

/// What an adoption moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Campaigns, those that are over included.
    pub campaigns: i64,
    /// Changes about them that nobody has applied.
    pub changes: i64,
    /// Dead letters that are still to be published.
    pub dead_letters: i64,
    /// Drafts of the last round that are withdrawn, because it was never published.
    pub withdrawn: i64,
    /// Those among them whose row stays, because somebody answered in it.
    pub kept: i64,
    /// Those among them whose row somebody's open transaction has locked: it goes when it is free.
    pub locked: i64,
}

/// The outcome of the last round of the lane whose partition is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastRound {
    /// It was published.
    Published,
    /// It never was, and can no longer be: what it holds is withdrawn.
    Unpublished,
}

/// A lane whose partition is gone: taken by `own`, after which its last round was read.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    /// The right to write.
    pub own: Ownership,
    /// Its last recorded round.
    pub head: RoundVersion,
    /// The outcome of that.
    pub last: LastRound,
}

/// The epoch in which an operator overruled Kafka's mark in favour of the ledger, if it is still the lane's. An owner that came since may have
/// published the last round.
pub async fn overruled_in(pool: &Pool, lane: Lane) -> Result<Option<Epoch>, PostgresError> {
    let sql = "select epoch from dinnerbell.lane where lane = $1 and overrule and owner = resolved_by";
    Ok(pool.query(sql, &[lane.parameter()]).await?.first().map(|row| number(row, 0)))
}

/// Whether a recorded round has nothing to publish. One that is not there is not known to be empty.
pub async fn is_empty(pool: &Pool, lane: Lane, seq: Seq) -> Result<bool, PostgresError> {
    let sql = "select drafts = 0 and dead_letters = '{}' from dinnerbell.round where lane = $1 and seq = $2";
    let rows = pool.query(sql, &[lane.parameter(), seq.parameter()]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// What an adoption would move. Which rows stay is known only when the others go.
pub async fn would_move(pool: &Pool, lane: Lane, head: RoundVersion, last: LastRound) -> Result<Moved, PostgresError> {
    let mut moved = Moved::default();
    for row in pool.query(sql::WHAT_A_LANE_HOLDS.text(), &[lane.parameter()]).await? {
        moved.hold(&row);
    }
    if last == LastRound::Unpublished {
        let sql = "select drafts, cardinality(dead_letters)::int8 as letters from dinnerbell.round where lane = $1 and seq = $2";
        for row in pool.query(sql, &[lane.parameter(), head.seq.parameter()]).await? {
            moved.withdrawn = row.get("drafts");
            moved.dead_letters += row.get::<_, i64>("letters");
        }
    }
    Ok(moved)
}

impl Moved {
    fn hold(&mut self, row: &Row) {
        self.campaigns = row.get("campaigns");
        self.changes = row.get("changes");
        self.dead_letters = row.get("dead_letters");
    }
}

impl PostgresLedger {
    /// Moves everything that a lane holds to lane `into`, in one transaction. The epoch of `into` moves too, so that its owner takes it over again
    /// and finds what is new. That owner is not locked out: it stays the only one who publishes there. Nothing is moved while all is held.
    pub async fn adopt(&self, leaving: &Leaving, into: Lane, by: &str) -> Result<Moved, LedgerError> {
        let own = leaving.own;
        let tx = self.begin(own).await?;
        lock_lanes(&tx, own, into).await?;
        if tx.query_one(&format!("select {}", held()), &[]).await?.get(0) {
            return Err(LedgerError::OnHold);
        }
        lock_campaigns(&tx, own.lane).await?;
        let mut moved = Moved::default();
        if leaving.last == LastRound::Unpublished {
            self.take_back(&tx, leaving, &mut moved).await?;
        }
        // What is left of its rounds is published: campaigns whose last page was among it are complete.
        rounds::complete(&tx, own, leaving.head.seq).await?;
        moved.hold(&tx.query_one(sql::WHAT_A_LANE_HOLDS.text(), &[own.lane.parameter()]).await?);
        hand_over(&tx, own.lane, into).await?;
        note(&tx, leaving, into, by).await?;
        let details = format!("--into {into}: {} campaigns", moved.campaigns);
        self.note_order(&tx, Action::Adopted, Subject::Lane(own.lane), &details).await?;
        tx.commit().await?;
        Ok(moved)
    }

    /// What the last round holds is withdrawn: rows go, counts and cursors go back, its dead letters are free again.
    async fn take_back(&self, tx: &Transaction, leaving: &Leaving, moved: &mut Moved) -> Result<(), LedgerError> {
        let (own, seq) = (leaving.own, leaving.head.seq);
        let mut parts = rounds::parts(tx, own.lane, seq).await?;
        parts.retain(|part| part.drafts > 0);
        let stay = self.withdraw_parts(tx, own, seq, &parts).await?;
        moved.kept += stay.kept;
        moved.locked += stay.locked;
        moved.withdrawn += parts.iter().map(|part| part.drafts).sum::<i64>();
        let key: [Parameter<'_>; 2] = [own.lane.parameter(), seq.parameter()];
        let freed = "update dinnerbell.dead_letter set round_seq = null where id = any(array(select unnest(dead_letters) \
                     from dinnerbell.round where lane = $1 and seq = $2))";
        tx.execute(freed, &key).await?;
        tx.execute("update dinnerbell.round set dead_letters = '{}' where lane = $1 and seq = $2", &key).await?;
        self.rewrite_round(tx, own, leaving.head).await
    }
}

/// The lanes' rows first, as everywhere; both in the order of their numbers.
async fn lock_lanes(tx: &Transaction, own: Ownership, into: Lane) -> Result<(), LedgerError> {
    let sql = "select 1 from dinnerbell.lane where (lane = $1 and epoch = $2) or lane = $3 order by lane for update";
    let lanes: [Parameter<'_>; 3] = [own.lane.parameter(), own.epoch.parameter(), into.parameter()];
    if tx.query(sql, &lanes).await?.len() == 2 { Ok(()) } else { Err(not_mine(own, "the last round")) }
}

/// Then the campaigns, in the order of their ids: a third lane that received something about them may hold some. There may be many, those that
/// are over included.
async fn lock_campaigns(tx: &Transaction, lane: Lane) -> Result<(), LedgerError> {
    let sql = format!(
        "with held as (select 1 from dinnerbell.campaign where lane = {lane} order by adv_campaign_id for update) select count(*) from held"
    );
    Ok(tx.batch_without_deadline(&sql).await?)
}

async fn hand_over(tx: &Transaction, lane: Lane, into: Lane) -> Result<(), LedgerError> {
    // The number of a round means nothing in another lane: a last page was published before any of its rounds. Changes go with their campaigns.
    let campaigns = format!(
        "update dinnerbell.campaign set lane = {into}, last_page_seq = case when last_page_seq is not null then -1 end where lane = {lane}"
    );
    tx.batch_without_deadline(&campaigns).await?;
    let letters = "update dinnerbell.dead_letter set lane = $2 where lane = $1 and round_seq is null";
    tx.execute(letters, &[lane.parameter(), into.parameter()]).await?;
    Ok(())
}

/// Both lanes were taken by an operator, and the one that leaves is not halted any more. Should its partition come back, its last round is
/// published as it stands by now, with nothing in it, whatever mark Kafka holds.
async fn note(tx: &Transaction, leaving: &Leaving, into: Lane, by: &str) -> Result<(), LedgerError> {
    let (lane, published) = (leaving.own.lane, leaving.last == LastRound::Published);
    let taken = "owner = $2, entered_at = clock_timestamp()";
    let left = format!(
        "update dinnerbell.lane set {CLEARED}, {taken}, resolved_by = $2, \
         published_seq = case when $3 then seq else published_seq end, overrule = overrule or not $3 where lane = $1"
    );
    tx.execute(&left, &[lane.parameter(), (&by, Type::TEXT), (&published, Type::BOOL)]).await?;
    let goes_on = format!("update dinnerbell.lane set {NEXT_EPOCH}, {taken} where lane = $1");
    tx.execute(&goes_on, &[into.parameter(), (&by, Type::TEXT)]).await?;
    Ok(())
}
