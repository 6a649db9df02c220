//! What a statement of ours waits for: who holds a lock, or a standby. It is asked over another connection meanwhile, since nobody can tell
//! afterwards.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{Parameter, Pool};
use crate::errors::PostgresError;
use dinnerbell_core::model::lock::LockHolder;

/// How long a statement may take before it is asked whether it waits for a lock, and how often then: twice within the shortest time-out of a lock
/// of a lane.
const ASK: Duration = Duration::from_millis(400);

/// Who is behind the wait of backend `$1`, over those who wait themselves.
const BEHIND: &str = "with recursive behind (pid, steps) as ( \
       select b.pid, 1 from unnest(pg_blocking_pids($1)) as b (pid) \
       union select n.pid, steps + 1 from behind, unnest(pg_blocking_pids(behind.pid)) as n (pid) where steps < 5) \
     select distinct behind.pid from behind where cardinality(pg_blocking_pids(behind.pid)) = 0";
/// Who has one of these transactions open: the numbers of transactions as rows have them.
const OF_TRANSACTIONS: &str = "select distinct coalesce(l.pid, 0) as pid from pg_locks l \
     where l.locktype = 'transactionid' and l.granted and l.transactionid::text = any($1)";

/// Names the sessions of a question for their pids, those whose transaction is open for longest first: never what they do. What this role may not
/// see of them is null.
fn named(of: &str) -> String {
    format!(
        "select h.pid, a.usename::text as role, coalesce(a.application_name, '') as application, host(a.client_addr) as address, \
           to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as since, \
           coalesce(t.virtualtransaction, '') as transaction \
         from ({of}) as h (pid) left join pg_stat_activity a on a.pid = h.pid \
         left join lateral (select l.virtualtransaction from pg_locks l \
           where l.pid = h.pid and l.locktype = 'virtualxid' and l.granted limit 1) t on true \
         order by a.xact_start nulls last, h.pid limit 1"
    )
}

/// What a synchronous standby is to be, if backend `$1` waits for one.
const STANDBY: &str = "select current_setting('synchronous_standby_names') from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'";

/// What a statement waits for.
enum Cause {
    /// A lock.
    Holder(LockHolder),
    /// A standby that is to have the commit too: by this setting.
    Standby(String),
}

/// Runs a call of backend `pid`. An error for a lock that did not come in time names who held it; one for a commit that did not come back names
/// the standby.
pub async fn naming<T>(
    pool: &Pool,
    pid: i32,
    call: impl Future<Output = Result<T, PostgresError>>,
) -> Result<T, PostgresError> {
    let mut call = pin!(call);
    let mut cause = None;
    loop {
        match timeout(ASK, &mut call).await {
            Ok(answer) => return answer.map_err(|error| caused_by(error, cause)),
            Err(_) => {
                let mut asking = behind(pool, pid);
                tokio::select! {
                    biased;
                    answer = &mut call => return answer.map_err(|error| caused_by(error, cause)),
                    found = &mut asking => cause = found.or(cause),
                }
            }
        }
    }
}

/// The error, with what the call waited for.
fn caused_by(error: PostgresError, cause: Option<Cause>) -> PostgresError {
    match cause {
        Some(Cause::Holder(holder)) => error.held_by(Some(holder)),
        Some(Cause::Standby(names)) if error.code().is_none() => {
            error.adding(&format!("its commit waits for a standby (synchronous_standby_names = '{names}')")).mended_by(
                "bring the standby back, or: alter system reset synchronous_standby_names; select pg_reload_conf()",
            )
        }
        Some(Cause::Standby(_)) | None => error,
    }
}

/// What a backend of ours waits for; none where it does not wait, or where all our connections are in use.
fn behind(pool: &Pool, pid: i32) -> BoxFuture<'_, Option<Cause>> {
    // Boxed, as it asks over a connection itself.
    Box::pin(async move {
        let rows = pool.query_if_free(&named(BEHIND), &[(&pid, Type::INT4)]).await?.ok()?;
        if let Some(row) = rows.first() {
            return Some(Cause::Holder(holder(row)));
        }
        let rows = pool.query_if_free(STANDBY, &[(&pid, Type::INT4)]).await?.ok()?;
        rows.first().map(|row| Cause::Standby(row.get(0)))
    })
}

/// Who has one of these transactions open, as far as it can be known: rows may also be locked by several at once.
pub async fn of_transactions(pool: &Pool, transactions: &[String]) -> Option<LockHolder> {
    if transactions.is_empty() {
        return None;
    }
    let sql = named(OF_TRANSACTIONS);
    let rows = pool.query_if_free(&sql, &[(&transactions, Type::TEXT_ARRAY)]).await?.ok()?;
    rows.first().map(holder)
}

/// Whether the transaction of somebody who held a lock is still open.
pub async fn is_transaction_active(pool: &Pool, holder: &LockHolder) -> Result<bool, PostgresError> {
    let sql = "select case when $1 = 0 then exists (select from pg_prepared_xacts where database = current_database()) \
               else exists (select from pg_locks where pid = $1 and virtualtransaction = $2) end";
    let parameters: [Parameter<'_>; 2] = [(&holder.pid, Type::INT4), (&holder.transaction, Type::TEXT)];
    Ok(pool.query(sql, &parameters).await?.first().is_some_and(|row| row.get(0)))
}

fn holder(row: &Row) -> LockHolder {
    LockHolder {
        pid: row.get("pid"),
        role: row.get("role"),
        application: row.get("application"),
        address: row.get("address"),
        since: row.get("since"),
        transaction: row.get("transaction"),
    }
}
