//! Taking a lane: the epoch moves, and former owners' transactions end.

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::{BY_INDEX, PostgresLedger, hold};
use crate::connect::{Connection, Parameter, Transaction};
use crate::number::{Number, number};
use crate::sql;
use crate::table_identity;
use dinnerbell_core::model::halt::Halt;
use dinnerbell_core::model::mark::RoundVersion;
use dinnerbell_core::model::number::{Lane, Offset, Seq};
use dinnerbell_core::model::output_topics::OutputTopicIds;
use dinnerbell_core::model::ownership::{AcquiredLane, Ownership};
use dinnerbell_core::model::record::RecordFingerprint;
use dinnerbell_core::ports::ledger::LedgerError;

/// How often holders of the lane's lock are ended before the takeover is given up and tried again from its beginning.
const MAX_ATTEMPTS: u32 = 4;

/// Creates a lane with its round 0, if it is not there.
pub(super) async fn create_lane(tx: &Connection, lane: Lane, position: Offset) -> Result<(), LedgerError> {
    let key: i64 = rand::random();
    tx.execute(sql::CREATE_LANE.text(), &[lane.parameter(), (&key, Type::INT8), position.parameter()]).await?;
    Ok(())
}

impl PostgresLedger {
    pub(super) async fn acquire_lane(
        &self,
        lane: Lane,
        beginning: Option<Offset>,
    ) -> Result<AcquiredLane, LedgerError> {
        let key = self.lock_key(lane, beginning).await?;
        let tx = self.lock_out_others(lane, key).await?;
        hold::begin_if_touched(&tx, lane).await?;
        let row = tx.query_one(sql::ACQUIRE_LANE.text(), &[lane.parameter(), (&self.shared.owner, Type::TEXT)]).await?;
        let seq: Seq = number(&row, "seq");
        let sql = "select seq, revision, checksum from dinnerbell.round where lane = $1 and seq between $2 - 1 and $2";
        let rounds = tx.query(sql, &[lane.parameter(), seq.parameter()]).await?;
        let head = |seq: Seq| {
            let row = rounds.iter().find(|row| number::<Seq>(row, "seq") == seq)?;
            Some(RoundVersion { seq, revision: row.get("revision"), checksum: row.get("checksum") })
        };
        let missing = || LedgerError::Damaged(format!("round {lane}/{seq}, the last one, is not in dinnerbell.round"));
        let (comparison, compared): (String, Option<String>) = (row.get("comparison"), row.get("compared"));
        let acquired = AcquiredLane {
            ownership: Ownership {
                lane,
                epoch: number(&row, "epoch"),
                server_started_at: number(&row, "postmaster"),
                lock_key: key,
            },
            ledger: row.get("ledger"),
            position: number(&row, "position"),
            last_record: last_record(&row),
            head: head(seq).ok_or_else(missing)?,
            previous: head(seq.before()),
            published: number(&row, "published_seq"),
            topic_id: row.get("topic_id"),
            outputs: OutputTopicIds {
                notifications: row.get("notifications_id"),
                dead_letters: row.get("dead_letters_id"),
            },
            mark_overruled: row.get("overrule"),
            round_bytes: row.get("round_bytes"),
            locked_rows: row.get("locked_rows"),
            halt: halt(&row),
            compared: compared.as_ref() == Some(&comparison),
            comparison,
        };
        // After a restore: the feedback table came along with the ledger.
        table_identity::note(&tx, self.pool.table()).await?;
        tx.commit().await?;
        Ok(acquired)
    }

    async fn lock_key(&self, lane: Lane, beginning: Option<Offset>) -> Result<i64, LedgerError> {
        let sql = "select lock_key from dinnerbell.lane where lane = $1";
        let key: [Parameter<'_>; 1] = [lane.parameter()];
        // Looked for first: an insert waits for the one who changed the row, though it inserts nothing, and they are ended only afterwards.
        if let Some(row) = self.pool.query(sql, &key).await?.first() {
            return Ok(row.get(0));
        }
        let Some(beginning) = beginning else {
            return Err(LedgerError::Transient(format!("the ledger does not have lane {lane} yet")));
        };
        let tx = self.pool.begin("set local lock_timeout = '2s'").await?;
        create_lane(&tx, lane, beginning).await?;
        let row = tx.query_one(sql, &key).await?;
        tx.commit().await?;
        Ok(row.get(0))
    }

    /// A transaction that holds the lane's lock alone: no transaction of a former owner is open any more.
    async fn lock_out_others(&self, lane: Lane, key: i64) -> Result<Transaction, LedgerError> {
        let locals = format!("set local lock_timeout = '1s'; {BY_INDEX}");
        for _ in 0..MAX_ATTEMPTS {
            let tx = self.pool.begin(&locals).await?;
            match tx.batch(&format!("select pg_advisory_xact_lock({key})")).await {
                Ok(()) => return Ok(tx),
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => drop(tx),
                Err(error) => return Err(error.into()),
            }
            self.end_holders(lane, key).await?;
        }
        Err(LedgerError::Transient(format!("lane {lane}: a former owner's transaction could not be ended in time")))
    }

    /// Ends exactly the backends that hold this lane's lock. A stalled COPY obeys no statement timeout, so nothing less works.
    async fn end_holders(&self, lane: Lane, key: i64) -> Result<(), LedgerError> {
        // A bigint key is in pg_locks as two halves, with objsubid 1.
        let (high, low) = ((key.cast_unsigned() >> 32) as u32, key.cast_unsigned() as u32);
        let holder = sql::HOLDERS.text();
        let keys = [(&high as &(dyn tokio_postgres::types::ToSql + Sync), Type::OID), (&low, Type::OID)];
        let ended = format!("select pg_terminate_backend(h.pid) from ({holder}) h");
        match self.pool.query(&ended, &keys).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let holders = self.pool.query(holder, &keys).await?;
                match holders.first() {
                    Some(row) => Err(LedgerError::LockHeldByOther { lane, pid: row.get("pid"), role: row.get("role") }),
                    None => Ok(()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn halt(row: &Row) -> Option<Halt> {
    let name: String = row.get::<_, Option<String>>("halted")?;
    Some(Halt { kind: name.into(), found: row.get("halted_found"), remedy: row.get("halted_remedy") })
}

fn last_record(row: &Row) -> Option<RecordFingerprint> {
    Some(RecordFingerprint {
        offset: number::<Option<_>>(row, "last_offset")?,
        timestamp: number::<Option<_>>(row, "last_timestamp")?,
        hash: row.get::<_, Option<i64>>("last_hash")?,
    })
}
