//! A lane's transactional producer: one transaction at a time, and after any doubt none.
//!
//! Any error, a broken connection and a time-out end the producer: the lane is taken over again, which fences whatever is still on its way.
//!
//! With `transaction.version` 2 (KIP-890) the epoch rises with each transaction, so that a late request of an earlier one is refused. Brokers without
//! it get AddPartitionsToTxn and AddOffsetsToTxn first.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::end_txn_request::EndTxnRequest;
use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequest;
use kafka_protocol::messages::produce_request::ProduceRequest;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequest;
use kafka_protocol::messages::{ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::cluster::{Cluster, Coordinator, Found};
use crate::connection::Connection;
use crate::error::{WireError, check};
use crate::retry_delay::RetryDelay;

/// How long a coordinator that loads is waited for between two questions: at first, and at most.
const LOADING_FIRST: Duration = Duration::from_millis(5);
const LOADING_MOST: Duration = Duration::from_millis(500);

/// How a cluster does transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionVersion {
    /// Partitions are added by requests of their own.
    One,
    /// Partitions are added by the first record that comes, and the epoch rises with each transaction (KIP-890).
    Two,
}

/// Who a producer is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its transactional id: of a lane.
    pub transactional_id: String,
    /// The group whose offsets it commits.
    pub group: String,
    /// How long a transaction may be open before the broker aborts it.
    pub transaction_time: Duration,
}

/// A producer that may begin a transaction.
#[derive(Debug)]
pub struct Producer {
    pub(crate) cluster: Cluster,
    pub(crate) identity: Identity,
    pub(crate) coordinator: String,
    pub(crate) group_coordinator: String,
    /// The brokers that named them.
    pub(crate) told_by: [String; 2],
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) version: TransactionVersion,
    /// The number of the next record of each partition, since the epoch began.
    pub(crate) sequences: HashMap<(String, i32), i32>,
}

impl Producer {
    /// Takes the transactional id over: what a former producer left open is aborted, and that producer fenced, when this returns. A coordinator
    /// that loads or moves is asked again until the deadline.
    pub async fn initialise(cluster: Cluster, identity: Identity, deadline: Instant) -> Result<Self, WireError> {
        let mut retry_delay = RetryDelay::new(LOADING_FIRST, LOADING_MOST);
        loop {
            let transaction = cluster.coordinator(Coordinator::Transaction, &identity.transactional_id, deadline);
            let group = cluster.coordinator(Coordinator::Group, &identity.group, deadline);
            let initialised = match tokio::try_join!(transaction, group) {
                Ok((transaction, group)) => {
                    let told_by = transaction.told_by.clone();
                    let initialised = Self::initialise_at(&cluster, &identity, transaction, group, deadline).await;
                    initialised.inspect_err(|error| {
                        if may_be_elsewhere(error) {
                            cluster.distrust([told_by.as_str()]);
                        }
                    })
                }
                Err(error) => Err(error),
            };
            match initialised {
                Err(error) if passes_soon(&error) && retry_delay.wait(deadline).await => {}
                other => return other,
            }
        }
    }

    async fn initialise_at(
        cluster: &Cluster,
        identity: &Identity,
        transaction: Found,
        group: Found,
        deadline: Instant,
    ) -> Result<Self, WireError> {
        const DOING: &str = "taking the lane's transactional id over";
        let coordinator = transaction.address;
        let mut connection = cluster.connection(&coordinator, deadline).await?;
        speaks_what_is_needed(&connection)?;
        let millis = i32::try_from(identity.transaction_time.as_millis()).unwrap_or(i32::MAX);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(identity)))
            .with_transaction_timeout_ms(millis)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = connection.ask(DOING, &request, 5, deadline).await?;
        connection.throttle(answer.throttle_time_ms);
        let version = match connection.feature("transaction.version") {
            2.. => TransactionVersion::Two,
            _ => TransactionVersion::One,
        };
        cluster.give_back(connection);
        check(DOING, &coordinator, answer.error_code, None)?;
        Ok(Self {
            cluster: cluster.clone(),
            identity: identity.clone(),
            coordinator,
            group_coordinator: group.address,
            told_by: [transaction.told_by, group.told_by],
            producer_id: answer.producer_id.0,
            epoch: answer.producer_epoch,
            version,
            sequences: HashMap::new(),
        })
    }

    /// The brokers that said where the coordinators are.
    pub fn told_by(&self) -> &[String] {
        &self.told_by
    }

    /// How the cluster does transactions.
    pub fn version(&self) -> TransactionVersion {
        self.version
    }
}

/// Fails where the broker lacks what a transaction will need: before one is begun.
fn speaks_what_is_needed(connection: &Connection) -> Result<(), WireError> {
    connection.version::<ProduceRequest>("Produce", 3, 13)?;
    connection.version::<InitProducerIdRequest>("InitProducerId", 0, 5)?;
    connection.version::<TxnOffsetCommitRequest>("TxnOffsetCommit", 3, 5)?;
    connection.version::<OffsetFetchRequest>("OffsetFetch", 1, 7)?;
    connection.version::<EndTxnRequest>("EndTxn", 0, 5).map(drop)
}

pub(crate) fn transactional_id(identity: &Identity) -> TransactionalId {
    TransactionalId(StrBytes::from_string(identity.transactional_id.clone()))
}

/// Whether a coordinator is only not there yet: nothing was changed by the question.
fn passes_soon(error: &WireError) -> bool {
    use ResponseError::{ConcurrentTransactions, CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    error.code().is_some_and(|code| {
        matches!(code, ConcurrentTransactions | CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
    })
}

/// Whether the coordinator may be another one than we were told: it denies it, or there is no answer.
fn may_be_elsewhere(error: &WireError) -> bool {
    use ResponseError::{CoordinatorNotAvailable, NotCoordinator};
    match error.code() {
        Some(code) => matches!(code, CoordinatorNotAvailable | NotCoordinator),
        None => !error.is_refusal(),
    }
}
