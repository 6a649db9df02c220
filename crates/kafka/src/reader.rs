//! Reads the lanes, and answers questions about them. One consumer belongs to the group by name but never subscribes, so that no rebalance touches
//! what it reads. It reads the lanes that are opened.
//!
//! Each lane has its own queue inside librdkafka, bounded in records and bytes. A lane that is not drained is not fetched, while the others go on.
//! [`LaneInput`] takes from that queue without a thread in between.

mod client;
mod input;
mod queries;
mod record;
mod thread;

pub use client::Reader;
pub use input::LaneInput;
