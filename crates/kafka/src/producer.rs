//! Publishes the rounds of a lane: one transactional producer for each lane, on a thread of its own.
//!
//! librdkafka's transactional calls block, and some can hang past their own time-out while the coordinator is away. So they run on that
//! thread under a watchdog; a call that overruns is left there with its producer, and the lane makes no new one before the group's
//! coordinator answers again. A call that hangs on long after that is a defect of the process: [`Producers::hung`] completes.
//!
//! A transaction that was committed while a connection of its producer broke uses that producer up: see [`crate::deliveries`].

mod context;
mod pool;
mod sending;
mod transaction;
mod watchdog;
mod worker;

pub(crate) use context::transaction_millis;
pub use context::{COMPRESSION, Limits};
pub use pool::{LaneProducer, Producers};
