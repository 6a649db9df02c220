//! A lane's own producer of Kafka: nothing between a recorded round and the broker but this crate.
//!
//! - [`murmur2`]: which partition a key belongs to, as the Java client decides it.
//! - [`record`]: one record of a batch, in bytes.
//! - [`batch`]: a record batch (format version 2) from its first record to its checksum.
//! - [`compression`]: the codecs of a batch.
//! - [`round`]: the drafts of a round as batches, one sequence of them for each output partition.
//! - [`connection`], [`security`]: one TCP connection to one broker, with TLS and a log-in (`log_in`).
//! - [`dial`]: how a broker is connected to.
//! - [`cluster`]: the brokers, leaders and coordinators, and connections that are lent.
//! - [`producer`]: takes a transactional id over, and makes one transaction at a time.
//! - [`transaction`]: the lane's offset, then records, then the end; and what the group committed before.
//!
//! Formats are those of <https://kafka.apache.org/documentation/#recordbatch>.

pub mod batch;
pub mod cluster;
pub mod compression;
pub mod connection;
pub mod dial;
pub mod error;
mod log_in;
pub mod murmur2;
pub mod producer;
pub mod record;
mod retry_delay;
pub mod round;
pub mod security;
pub mod transaction;
mod varint;
