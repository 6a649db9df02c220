//! Sends the originals of dead letters to the campaigns topic once more, each once.
//!
//! A letter is claimed in the ledger, its batch is sent in one Kafka transaction, and then the ledger learns who replayed it and when. A run that
//! ends between the two leaves its batch claimed. The batch is *in doubt*: it is shown so, and left alone until an operator checked and says
//! `--again`. A new run fences those before it, so that what is decided then stays so.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::types::Type;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::operator::dead_letters::Filter;
use crate::operator::find_own_ledger;
use dinnerbell_config::Config;
use dinnerbell_core::fail_point::fail_point;
use dinnerbell_core::model::audit::{Action, Orderer, Subject};
use dinnerbell_core::model::record::Header;
use dinnerbell_core::ports::broker::{Broker as _, BrokerError};
use dinnerbell_kafka::KafkaBroker;
use dinnerbell_kafka::client::off_runtime;
use dinnerbell_kafka::resend::{Original, ResendError, Resender, Sent};
use dinnerbell_postgres::connect::{Parameter, Pool};
use dinnerbell_postgres::errors::PostgresError;
use dinnerbell_postgres::ledger::audit;
use dinnerbell_postgres::number::number;
use dinnerbell_postgres::sql;

/// Most letters of one transaction.
const BATCH: i64 = 100;
/// Most bytes of one transaction, but for a single larger letter.
const BATCH_BYTES: i64 = 4 << 20;
/// After this long a call that does not return is not waited for.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Why a run ends between two batches.
const BROKE: &str = "kafka: a connection broke while a batch was sent, though all of it was: give the command again for those that are left";

/// Which letters.
#[derive(Debug, Clone)]
pub enum Which {
    /// The letters of these ids.
    Ids(Vec<i64>),
    /// All that the filter finds, those that arrive meanwhile excepted.
    All(Filter),
}

/// What is to be replayed.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which letters.
    pub which: Which,
    /// Also those that were replayed before, or are in doubt.
    pub again: bool,
    /// Only look.
    pub dry_run: bool,
    /// Who replays; kept in the ledger.
    pub by: Orderer,
}

/// The outcome.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Replayed {
    /// Whether nothing was sent or written.
    pub dry_run: bool,
    /// Sent, or to be sent where nothing is written.
    pub replayed: Vec<i64>,
    /// Replayed before, and left alone.
    pub already_replayed: Vec<i64>,
    /// Nobody knows whether they were sent: before this run, or by it.
    pub in_doubt: Vec<i64>,
    /// They have a header whose name is not UTF-8, which cannot be sent as it arrived.
    pub unreadable_headers: Vec<i64>,
    /// Their record was too large to be kept whole, or could not be read.
    pub not_kept: Vec<i64>,
    /// There are no such letters.
    pub unknown: Vec<i64>,
    /// Why the run ended early.
    pub error: Option<String>,
}

impl Replayed {
    /// Whether everything that was asked for is done.
    pub fn is_done(&self) -> bool {
        self.error.is_none()
            && self.in_doubt.is_empty()
            && self.unreadable_headers.is_empty()
            && self.not_kept.is_empty()
            && self.unknown.is_empty()
    }
}

/// Why nothing was replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Kafka.
    #[error("kafka: {0}")]
    Kafka(#[from] BrokerError),
    /// The feedback database.
    #[error("{0}")]
    Database(#[from] PostgresError),
    /// It makes no sense as the ledger stands.
    #[error("{0}")]
    Refused(String),
}

/// Replays dead letters.
pub async fn replay(config: &Config, request: Request) -> Result<Replayed, ReplayError> {
    let pool = Pool::open(&config.feedback, "feedback")?;
    let own_ledger = find_own_ledger(&pool, &config.kafka).await?.map_err(ReplayError::Refused)?;
    let Some(own_ledger) = own_ledger else {
        return Err(ReplayError::Refused("no service has used this ledger yet: it holds no dead letters".to_owned()));
    };
    let mut outcome = Replayed { dry_run: request.dry_run, ..Replayed::default() };
    let free = sort(&pool, &request, &mut outcome).await?;
    if request.dry_run || free.is_empty() {
        outcome.replayed = free.into_iter().map(|(id, _)| id).collect();
        return Ok(outcome);
    }
    let broker = KafkaBroker::connect(&config.kafka).await?;
    own_ledger.check_cluster(broker.cluster_id()).map_err(ReplayError::Refused)?;
    let (kafka, partitions) = (config.kafka.clone(), broker.lanes().await?);
    broker.close(Duration::from_secs(1)).await;
    let resender = Arc::new(in_time(off_runtime(move || Resender::open(&kafka, partitions))).await?);
    let run = Run { pool, resender, request, id: Uuid::new_v4() };
    run.all(free, &mut outcome).await?;
    Ok(outcome)
}

/// The letters that may be sent, with their size, in their order; the others are sorted into the outcome.
async fn sort(pool: &Pool, request: &Request, outcome: &mut Replayed) -> Result<Vec<(i64, i64)>, PostgresError> {
    let columns = "id, coalesce(octet_length(key), 0)::int8 + coalesce(octet_length(value), 0), replayed_at is not null, \
                   replay_claimed_at is not null, $5 = any(header_names), left_out is not null";
    let unreadable = Header::UNREADABLE;
    let found = match &request.which {
        Which::Ids(ids) => {
            let sql = format!(
                "select {} from dinnerbell.dead_letter where id = any($1) order by id",
                columns.replace("$5", "$2")
            );
            pool.query(&sql, &[(ids, Type::INT8_ARRAY), (&unreadable, Type::TEXT)]).await?
        }
        Which::All(filter) => {
            let sql = format!("select {columns} from dinnerbell.dead_letter where {} order by id", Filter::CONDITION);
            let [lane, field, since, not_replayed] = filter.parameters();
            pool.query(&sql, &[lane, field, since, not_replayed, (&unreadable, Type::TEXT)]).await?
        }
    };
    let mut free = Vec::new();
    for row in &found {
        let (id, size): (i64, i64) = (row.get(0), row.get(1));
        let (already, in_doubt, unreadable): (bool, bool, bool) = (row.get(2), row.get(3), row.get(4));
        match (unreadable, request.again, in_doubt, already) {
            _ if row.get(5) => outcome.not_kept.push(id),
            (true, ..) => outcome.unreadable_headers.push(id),
            (false, true, ..) | (false, false, false, false) => free.push((id, size)),
            (false, false, true, _) => outcome.in_doubt.push(id),
            (false, false, false, true) => outcome.already_replayed.push(id),
        }
    }
    if let Which::Ids(ids) = &request.which {
        let known = |id: &&i64| !found.iter().any(|row| row.get::<_, i64>(0) == **id);
        outcome.unknown = ids.iter().filter(known).copied().collect();
    }
    Ok(free)
}

/// A call of librdkafka can hang past its own time-out.
async fn in_time<T>(call: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    let late = || BrokerError::Transient(format!("a call did not return within {} s", TIME_LIMIT.as_secs()));
    tokio::time::timeout(TIME_LIMIT, call).await.unwrap_or_else(|_| Err(late()))
}

struct Run {
    pool: Pool,
    resender: Arc<Resender>,
    request: Request,
    id: Uuid,
}

impl Run {
    async fn all(&self, free: Vec<(i64, i64)>, outcome: &mut Replayed) -> Result<(), PostgresError> {
        let mut batches = batches(&free).into_iter().peekable();
        while let Some(batch) = batches.next() {
            let claimed = self.claim(&batch).await?;
            let (ids, originals): (Vec<i64>, Vec<Original>) = claimed.into_iter().unzip();
            fail_point("replay.claimed");
            match self.send(originals).await {
                Ok(sent) => {
                    fail_point("replay.sent");
                    if let Err(error) = self.mark(&ids).await {
                        outcome.in_doubt.extend(ids);
                        outcome.error = Some(format!("the batch was sent, but the ledger could not be told: {error}"));
                        break;
                    }
                    outcome.replayed.extend(ids);
                    if sent == Sent::MustBeLast && batches.peek().is_some() {
                        outcome.error = Some(BROKE.to_owned());
                        break;
                    }
                }
                Err(ResendError::Unsent(error)) => {
                    self.release(&ids).await?;
                    outcome.error = Some(format!("kafka: {error}; nothing of the batch was sent"));
                    break;
                }
                Err(ResendError::InDoubt(error)) => {
                    outcome.in_doubt.extend(ids);
                    outcome.error = Some(format!("kafka: {error}; nobody knows whether the batch was sent"));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Claims those that nobody else has claimed or replayed meanwhile.
    async fn claim(&self, ids: &[i64]) -> Result<Vec<(i64, Original)>, PostgresError> {
        let values: [Parameter<'_>; 4] = [
            (&ids, Type::INT8_ARRAY),
            (&self.request.by.to_string(), Type::TEXT),
            (&self.id, Type::UUID),
            (&self.request.again, Type::BOOL),
        ];
        let tx = self.pool.begin("set local lock_timeout = '2s'").await?;
        let rows = tx.query(sql::CLAIM_REPLAY.text(), &values).await?;
        let mut letters: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        letters.sort_unstable();
        if !letters.is_empty() {
            let details = if self.request.again { "--again" } else { "" };
            audit::note(&tx, &self.request.by, Action::Replayed, Subject::DeadLetters(&letters), details).await?;
        }
        tx.commit().await?;
        let mut claimed: Vec<_> = rows
            .iter()
            .map(|row| {
                let names: Vec<String> = row.get(4);
                let values: Vec<Option<Vec<u8>>> = row.get(5);
                let headers = names.into_iter().zip(values).map(|(name, value)| Header { name, value }).collect();
                (row.get(0), Original { lane: number(row, 1), key: row.get(2), value: row.get(3), headers })
            })
            .collect();
        claimed.sort_by_key(|(id, _)| *id);
        Ok(claimed)
    }

    async fn send(&self, originals: Vec<Original>) -> Result<Sent, ResendError> {
        if originals.is_empty() {
            return Ok(Sent::MoreMayFollow);
        }
        let resender = Arc::clone(&self.resender);
        let sending = tokio::task::spawn_blocking(move || resender.send(&originals));
        match tokio::time::timeout(TIME_LIMIT, sending).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(failed)) => Err(ResendError::InDoubt(BrokerError::Transient(failed.to_string()))),
            Err(_) => {
                let late = format!("a call did not return within {} s", TIME_LIMIT.as_secs());
                Err(ResendError::InDoubt(BrokerError::Transient(late)))
            }
        }
    }

    /// They are sent: who did it, and when. Only what this run claimed: a later run may have claimed it again.
    async fn mark(&self, ids: &[i64]) -> Result<(), PostgresError> {
        let sql = "update dinnerbell.dead_letter set replayed_at = clock_timestamp(), replayed_by = replay_claimed_by, \
                   replay_claimed_at = null where id = any($1) and replay_run = $2";
        self.pool.query(sql, &[(&ids, Type::INT8_ARRAY), (&self.id, Type::UUID)]).await.map(drop)
    }

    /// They are not sent, for certain.
    async fn release(&self, ids: &[i64]) -> Result<(), PostgresError> {
        let sql = "update dinnerbell.dead_letter set replay_claimed_at = null where id = any($1) and replay_run = $2";
        let tx = self.pool.begin("set local lock_timeout = '2s'").await?;
        tx.execute(sql, &[(&ids, Type::INT8_ARRAY), (&self.id, Type::UUID)]).await?;
        let details = "kafka took nothing of the batch: it was not replayed";
        audit::note(&tx, &self.request.by, Action::Refused, Subject::DeadLetters(ids), details).await?;
        tx.commit().await
    }
}

/// Ids in batches, bounded in number and bytes.
fn batches(letters: &[(i64, i64)]) -> Vec<Vec<i64>> {
    let mut batches: Vec<Vec<i64>> = Vec::new();
    let mut bytes = 0;
    for (id, size) in letters {
        match batches.last_mut().filter(|batch| (batch.len() as i64) < BATCH && bytes + size <= BATCH_BYTES) {
            Some(batch) => {
                batch.push(*id);
                bytes += size;
            }
            None => {
                batches.push(vec![*id]);
                bytes = *size;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_a_large_letter_goes_alone() {
        let large = BATCH_BYTES + 1;
        assert_eq!(batches(&[(1, 10), (2, large), (3, 10), (4, 10)]), [vec![1], vec![2], vec![3, 4]]);
        let many: Vec<(i64, i64)> = (0..=BATCH).map(|id| (id, 1)).collect();
        assert_eq!(batches(&many).iter().map(Vec::len).collect::<Vec<_>>(), [BATCH as usize, 1]);
    }
}
